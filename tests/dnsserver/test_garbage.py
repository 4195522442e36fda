"""The collector's policy: nothing that is garbage stays for good, and nothing long is done while somebody asks."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator

import pytest

from dnsserver import io_garbage
from dnsserver.io_garbage import ALL_S, FEW, GROWN, QUIET_S, Garbage

LOG = logging.getLogger("pilotfish.test")
MB = 1024 * 1024


class Cyclic:
    """Only the collector frees it."""

    def __init__(self) -> None:
        self.itself: Cyclic | None = self


class Process:
    """A clock, a size and a number of questions, as a test sets them, and the collector that reads them."""

    def __init__(self) -> None:
        self.now_s, self.size, self.asked = 1000.0, 100 * MB, 0
        self.garbage = Garbage(lambda: self.asked, LOG, now=lambda: self.now_s, memory=lambda: self.size)
        self.garbage.begin()

    def later(self, seconds: float, asked: int) -> None:
        self.now_s += seconds
        self.asked += asked
        self.garbage.look()


@pytest.fixture
def process() -> Iterator[Process]:
    before = gc.get_threshold()
    yield Process()
    gc.unfreeze()
    gc.set_threshold(*before)


def set_aside() -> tuple[Cyclic, weakref.ref[Cyclic]]:
    """Something alive in a cycle, and whether it still is."""
    one = Cyclic()
    gc.freeze()
    return one, weakref.ref(one)


# How many objects come with it.
@pytest.mark.parametrize("living", [0, 10 * FEW], ids=["little is new", "much is new"])
def test_new_garbage_never_stays(process, living):
    """Garbage in cycles that is there at a look is freed, also when everything is set aside at the same look."""
    alive = [[] for _ in range(living)]
    left = weakref.ref(Cyclic())
    process.later(0.5, asked=100)
    assert left() is None
    assert len(gc.get_objects()) < FEW
    assert len(alive) == living


def test_little_that_is_new_is_looked_at_again(process):
    """What lives at a look and dies after it is freed by the next one: few objects are not set aside."""
    one = Cyclic()
    left = weakref.ref(one)
    process.later(0.5, asked=100)
    del one
    process.later(0.5, asked=100)
    assert left() is None


def test_little_at_a_time_is_set_aside_too(process):
    """What comes bit by bit is not looked at for ever: a look stays short."""
    alive = []
    for _ in range(40):
        alive += [[] for _ in range(FEW // 2)]
        process.later(0.5, asked=100)
    assert len(gc.get_objects()) < len(alive) // 2


@pytest.mark.parametrize("living", [0, 10 * FEW], ids=["little is new", "much is new"])
def test_what_is_held_is_not_looked_at(process, monkeypatch, living):
    """However much is set aside, and however much is new, no look goes through all of it while somebody asks."""
    monkeypatch.setattr(io_garbage.gc, "unfreeze", lambda: pytest.fail("all is looked at"))
    held = [[] for _ in range(100_000)]
    process.garbage.keep()
    alive = [[] for _ in range(living)]
    seen: list[int] = []
    watch = lambda phase, info: seen.append(info["generation"]) if phase == "start" else None  # noqa: E731
    gc.callbacks.append(watch)
    try:
        process.later(ALL_S, asked=100)
    finally:
        gc.callbacks.remove(watch)
    assert seen == [1 if living else 2]
    assert (len(held), len(alive)) == (100_000, living)


# Title -> seconds since the last question, questions that come now, size in MB, whether all is looked at.
TIMES = {
    "while somebody asks": (2 * ALL_S, 1, 100, False),
    "it is quiet": (2 * ALL_S, 0, 100, True),
    "quiet for a moment only": (QUIET_S / 2, 0, 100, False),
    "quiet, but all was looked at lately": (ALL_S / 2, 0, 100, False),
    "twice the size": (0.5, 1, 201 + GROWN // MB, True),
    "a little less": (0.5, 1, 199 + GROWN // MB, False),
}


@pytest.mark.parametrize(("seconds", "asked", "megabytes", "freed"), TIMES.values(), ids=TIMES)
def test_when_all_is_looked_at(process, seconds, asked, megabytes, freed):
    """What became garbage after it was set aside is freed when it is quiet, or when it may be much."""
    one, left = set_aside()
    del one
    process.size = megabytes * MB
    process.later(seconds, asked)
    assert (left() is None) is freed


def test_once_grown_is_looked_at_once(process, caplog):
    """A process that is large for good reasons is looked at whole when it has grown, not from then on at each look."""
    caplog.set_level(logging.INFO)
    process.size = 200 * MB + GROWN + 1
    for _ in range(3):
        process.later(0.5, asked=1)
    assert caplog.text.count("has grown") == 1


def test_the_size_of_this_process():
    """It is read from the kernel: some megabytes, and more after more was taken."""
    before = io_garbage.resident()
    taken = bytearray(b"x") * (32 * MB)
    assert 8 * MB < before < io_garbage.resident() - len(taken) // 2
