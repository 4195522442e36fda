"""Turns: a bounded number of connections between two looks at everything else, and each of them in its turn."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from dnsserver.transport.io_turns import READ, WRITE, Turns

MOST = 16  # connections that have a turn between two looks
COUNT = 100
NOW_S = 1000.0


class Busy:
    """A connection that is always ready, or always unfinished, and counts its turns."""

    def __init__(self, turns: Turns, number: int, log: list[int]) -> None:
        self.turns, self.number, self.log, self.untils = turns, number, log, []

    def ready(self, events: int, until: float) -> None:
        self.log.append(self.number)
        self.untils.append(until)

    def work(self, until: float) -> None:
        self.ready(0, until)
        self.turns.soon(self)


@pytest.fixture
async def turns():
    made = Turns(lambda: NOW_S)
    yield made
    made.close()


@contextmanager
def readable(count: int) -> Iterator[list[socket.socket]]:
    """Sockets with an octet to be read, which nobody reads."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one, other = (stack.enter_context(end) for end in socket.socketpair())
            other.send(b"x")
            found.append(one)
        yield found


async def looks(count: int, log: list[int]) -> list[list[int]]:
    """Who had a turn between each two looks of the loop at everything else."""
    found = []
    for _ in range(count):
        log.clear()
        await asyncio.sleep(0)
        found.append(list(log))
    return found


async def test_all_that_are_ready_have_their_turn(turns):
    """A hundred that are always ready: sixteen at a time, and none has a second turn before all had one."""
    log: list[int] = []
    with readable(COUNT) as sockets:
        for number, one in enumerate(sockets):
            turns.watch(one.fileno(), Busy(turns, number, log), READ)
        found = await looks(1 + 10 * math.ceil(COUNT / MOST), log)
        for one in sockets:
            turns.forget(one.fileno())
    had = [number for each in found for number in each]
    assert max(map(len, found)) == MOST
    assert sorted(had[:COUNT]) == list(range(COUNT))
    assert max(map(had.count, range(COUNT))) - min(map(had.count, range(COUNT))) <= 1


async def test_all_that_are_unfinished_have_their_turn(turns):
    """A hundred that always ask for another turn: sixteen at a time, in a line."""
    log: list[int] = []
    for number in range(COUNT):
        turns.soon(Busy(turns, number, log))
    found = await looks(1 + math.ceil(COUNT / MOST) * 3, log)
    had = [number for each in found for number in each]
    assert max(map(len, found)) == MOST
    assert had[: 2 * COUNT] == list(range(COUNT)) * 2


@pytest.mark.parametrize("count", [1, 2, MOST])
async def test_the_time_of_a_turn_is_shared(turns, count):
    """Together they have the time that one alone would have, whether they are ready or unfinished."""
    log: list[int] = []
    with readable(count) as sockets:
        ready = [Busy(turns, number, log) for number in range(count)]
        for taker, one in zip(ready, sockets, strict=True):
            turns.watch(one.fileno(), taker, READ)
        await looks(2, log)
        for one in sockets:
            turns.forget(one.fileno())
    unfinished = [Busy(turns, number, log) for number in range(count)]
    for taker in unfinished:
        turns.soon(taker)
    await looks(2, log)
    assert {taker.untils[0] for taker in ready + unfinished} == {NOW_S + 0.0002 / count}


async def test_who_fails_takes_no_turn_from_others(turns):
    """An error in one turn is told to the loop; those behind it go on."""
    told, log = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    class Failing(Busy):
        def work(self, until: float) -> None:
            raise RuntimeError("no")

    turns.soon(Failing(turns, 0, log))
    turns.soon(Busy(turns, 1, log))
    found = await looks(4, log)
    assert [str(error) for error in told] == ["no"]
    assert found[-1] == [1]


async def test_what_is_watched_for_may_change(turns):
    """Read, then write, then nothing, then not at all."""
    log: list[int] = []
    with readable(1) as (one,):
        taker = Busy(turns, 7, log)
        for events, expected in ((READ, True), (READ, True), (0, False), (WRITE, True), (0, False), (READ, True)):
            turns.watch(one.fileno(), taker, events)
            await looks(3, log)
            assert (await looks(1, log) == [[7]]) is expected
        turns.forget(one.fileno())
        turns.forget(one.fileno())
        await looks(3, log)
        assert await looks(1, log) == [[]]


async def test_after_the_end_nobody_has_a_turn(turns):
    """Closing twice is once; what asks for a turn later has none."""
    log: list[int] = []
    turns.soon(Busy(turns, 1, log))
    turns.close()
    turns.close()
    turns.soon(Busy(turns, 2, log))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == []
