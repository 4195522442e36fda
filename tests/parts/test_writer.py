"""What the numbered records say of a DNS server: how far behind it was, when it was back, that it went on forward."""

from __future__ import annotations

import msgspec
import pytest

from tests.parts.late_store import LateStore
from tests.parts.prober import Asked
from tests.parts.writer import (
    BEAT,
    FOLDER,
    Fenced,
    Written,
    acknowledged,
    address,
    lags_s,
    number_of,
    seen_again,
)

WRITES = [
    Written(1, at=1.0, took_s=0.1),
    Written(2, at=2.0, took_s=0.1),
    Written(3, at=3.0, took_s=2.0, error="no answer"),
    Written(4, at=6.0, took_s=0.1),
]


def shown(at: float, number: int, server: str = "a") -> Asked:
    return Asked(round(at * 100), at, 0.01, server, BEAT, "A", "NOERROR", (address(number),))


@pytest.mark.parametrize("number", [1, 255, 256, 50_999, 65_535])
def test_an_address_stands_for_its_number(number):
    """There and back."""
    assert number_of(address(number)) == number


def test_what_was_not_acknowledged_is_not_counted():
    """It may be there or not."""
    assert [row.number for row in acknowledged(WRITES)] == [1, 2, 4]


LAGS = {
    "in step": ([shown(1.5, 1), shown(2.2, 2), shown(6.2, 4)], {"a": 0.1}),
    "behind": ([shown(1.5, 1), shown(4.0, 1), shown(4.5, 2)], {"a": 1.9}),
    "each server for itself": ([shown(5.0, 2), shown(5.0, 1, "b")], {"a": 0.0, "b": 2.9}),
    "the write that nobody acknowledged": ([shown(4.0, 3), shown(6.5, 3)], {"a": 0.4}),
}


@pytest.mark.parametrize(("rows", "expected"), LAGS.values(), ids=LAGS)
def test_lags(rows, expected):
    """How long a write was hidden that was acknowledged."""
    found = lags_s(rows, WRITES)

    assert found.keys() == expected.keys()
    assert all(found[server] <= lag + 1e-9 for server, lag in expected.items())
    assert found["a"] >= expected["a"] - 0.2


LIES = {
    "a write that nobody made": [shown(1.5, 7)],
    "an older one after a newer one": [shown(2.5, 2), shown(3.0, 1)],
}


@pytest.mark.parametrize("rows", LIES.values(), ids=LIES)
def test_lies(rows):
    """A server that invents or goes back is an error."""
    with pytest.raises(ValueError, match="showed write"):
        lags_s(rows, WRITES)


def test_an_answer_that_was_overtaken_is_no_step_back():
    """Asked before the newer one was seen, though it came after it."""
    slow = Asked(9, 2.4, 0.5, "a", BEAT, "A", "NOERROR", (address(1),))

    assert lags_s([shown(2.5, 2), slow], WRITES)


def test_seen_again():
    """The first answer of each server that shows something written after a moment."""
    rows = [shown(5.0, 2), shown(6.5, 4), shown(7.0, 4), shown(6.9, 4, "b"), shown(5.5, 1, "c")]

    assert seen_again(rows, WRITES, since=4.0) == {"a": 6.51, "b": 6.91}


async def test_a_write_that_comes_late_changes_nothing():
    """It was not acknowledged, newer ones were, and it arrives: the newest number stays."""
    store = LateStore()
    fenced = Fenced(store)
    first = await fenced.write(1)
    store.losing = True
    lost = await fenced.write(2)
    store.losing = False
    newer = await fenced.write(3)

    assert [row.error is None for row in (first, lost, newer)] == [True, False, True]
    assert await store.deliver() == [False]
    assert await beat(store) == address(3)
    await store.close()


async def test_a_write_that_comes_before_the_next_one_stands_and_the_next_one_follows():
    """What is not acknowledged may be there."""
    store = LateStore()
    fenced = Fenced(store)
    store.losing = True
    await fenced.write(1)
    store.losing = False
    assert await store.deliver() == [True]
    assert await beat(store) == address(1)

    assert (await fenced.write(2)).error is None
    assert await beat(store) == address(2)
    await store.close()


async def beat(store):
    [entry] = (await store.read(f"{FOLDER}/beat")).entries
    return msgspec.json.decode(entry.value)["host"]
