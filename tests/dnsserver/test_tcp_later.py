"""Answers that come later, transfers between them, and the end of a server that still owes some."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver.message.frames import BadFrame, Frames
from dnsserver.transport import io_slots
from dnsserver.transport.io_connection import MOST_UNSENT, MOST_WAITING, WRITE_HIGH, Connection
from dnsserver.transport.io_slots import MOST_TRANSFERS
from dnsserver.transport.later import Transfer
from tests.dnsserver.edge_kit import Client, Edge, query, stream


@pytest.fixture
async def edge():
    async with Edge() as made:
        yield made


# --- answers that come later


async def test_answers_overtake_those_that_wait(edge):
    """What is known is answered at once; the others follow in the order in which they become known (RFC 7766 §7)."""
    edge.waits = {1, 3}
    client = await edge.client()
    await client.ask(1, 2, 3, 4)
    assert await client.numbers(2) == [2, 4]
    edge.give(3)
    assert await client.numbers(1) == [3]
    edge.give(1)
    assert await client.numbers(1) == [1]


async def test_an_answer_may_be_there_at_once(edge):
    """A callable that is called before `defer` returns is as good as a later one."""
    edge.waits = {1, 2}
    edge.waiting = AtOnce()
    client = await edge.client()
    await client.ask(1, 2, 3)
    assert sorted(await client.numbers(3)) == [1, 2, 3]


class AtOnce(dict):
    def __setitem__(self, number, send):
        send(query(number))


async def test_a_second_answer_is_not_sent(edge):
    """One reply a query, whatever the other side calls."""
    edge.waits = {1}
    client = await edge.client()
    await client.ask(1)
    await edge.until(lambda: 1 in edge.waiting, "it waits")
    send = edge.waiting[1]
    send(query(1))
    send(query(1))
    await client.ask(2)
    assert await client.numbers(2) == [1, 2]


async def test_an_answer_for_a_client_that_went_away(edge):
    """It is not sent to anybody, and hurts nobody."""
    edge.waits = {1}
    client = await edge.client()
    await client.ask(1)
    await edge.until(lambda: 1 in edge.waiting, "it waits")
    client.close()
    edge.give(1)
    await edge.until(lambda: not len(edge.slots), "its slot is free")
    other = await edge.client()
    await other.ask(2)
    assert await other.numbers(1) == [2]


async def test_half_close_waits_for_what_is_owed(edge):
    """A client that sends no more gets the answers that come later too, and then the end."""
    edge.waits = {1, 2}
    client = await edge.client()
    await client.ask(1, 2, 3)
    client.end()
    assert await client.numbers(1) == [3]
    edge.give(2)
    assert await client.numbers(1) == [2]
    assert len(edge.slots) == 1
    edge.give(1)
    assert await client.numbers(1) == [1]
    assert await client.ended()
    await edge.until(lambda: not len(edge.slots), "its slot is free")


async def test_a_bounded_number_waits(edge):
    """With so many unanswered the connection is not read from; each answer lets another query in."""
    edge.waits = range(1, 200)
    client = await edge.client()
    await client.ask(*range(1, 151))
    await edge.until(lambda: len(edge.waiting) == MOST_WAITING, "the bound is reached")
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(edge.asked) == MOST_WAITING
    edge.give(5)
    await edge.until(lambda: len(edge.asked) == MOST_WAITING + 1, "one more is read")
    got = await client.numbers(1)
    while len(got) < 150:
        await edge.until(lambda: bool(edge.waiting), "more are read")
        given = list(edge.waiting)
        edge.give(*given)
        got += await client.numbers(len(given))
    assert got[0] == 5
    assert sorted(got) == list(range(1, 151))


async def test_who_waits_is_not_idle(monkeypatch):
    """The idle time does not run while others are asked, up to a bound; then it ends."""
    monkeypatch.setattr(io_slots, "_PATIENCE_S", 1.2)
    async with Edge(idle_s=0.2) as edge:
        edge.waits = {1, 2}
        patient, idle = await edge.client(), await edge.client("127.0.0.2")
        await patient.ask(1)
        assert await idle.ended()
        await edge.until(lambda: 1 in edge.waiting, "it waits")
        assert (len(edge.slots), edge.slots.evicted) == (1, 1)
        edge.give(1)
        assert await patient.numbers(1) == [1]
        await patient.ask(2)
        assert await patient.ended()
        assert edge.slots.evicted == 2


async def test_answers_that_are_not_taken_are_bounded(edge):
    """A client that asks, waits and does not read: what came for it is held up to a bound, then it is gone."""
    edge.waits = range(1, 65)
    client = await edge.client(receive_buffer=4096)
    await client.ask(*range(1, 65))
    await edge.until(lambda: len(edge.waiting) == MOST_WAITING, "all wait")
    connection = next(iter(edge.slots._held))
    held = 0
    for number, send in edge.waiting.items():
        send(query(number) + bytes(65_000))
        held = max(held, len(connection._out))
    await edge.until(lambda: not len(edge.slots), "it is closed")
    assert 0 < held <= MOST_UNSENT


async def test_replies_are_bounded_in_octets(edge):
    """Small queries for large answers: no more is held at once than one reply above the bound; all arrive."""
    edge.padding, most = bytes(60_000), 0
    client = await edge.client(receive_buffer=4096)
    asking = asyncio.create_task(client.ask(*range(1, 201)))
    await edge.until(lambda: any(one._out for one in connections(edge)), "the client is slow")
    got = 0
    while got < 200:
        most = max([most, *(len(one._out) for one in connections(edge))])
        got += len(await client.numbers(1))
    await asking
    assert 0 < most <= WRITE_HIGH + 60_100


def connections(edge: Edge) -> list[Connection]:
    return [one for one in edge.slots._held if isinstance(one, Connection)]


# --- transfers


class Zone:
    """A transfer of numbered messages that counts how many were taken."""

    def __init__(self, number: int, count: int, size: int = 100) -> None:
        self.number, self.count, self.size, self.taken = number, count, size, 0

    def __call__(self) -> Transfer:
        return Transfer(self._messages())

    def _messages(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.taken += 1
            yield query(self.number) + bytes(self.size)


async def test_a_transfer_between_other_answers(edge):
    """Queries that come during a transfer are answered between its messages; all of it arrives, in order."""
    zone = edge.transfers[7] = Zone(7, 5000, size=20_000)
    client = await edge.client()
    await client.ask(7, 8)
    got = await client.numbers(50)
    assert 8 in got
    await client.ask(9)
    while got.count(7) < 5000 or 9 not in got:
        got += await client.numbers(1)
    assert (len(got), zone.taken) == (5002, 5000)
    assert got.index(9) < len(got) - 1


async def test_a_transfer_is_made_as_it_is_taken(edge):
    """A client that does not read gets no further than the sockets hold, and a message more."""
    zone = edge.transfers[7] = Zone(7, 100_000, size=60_000)
    client = await edge.client(receive_buffer=4096)
    await client.ask(7)
    await edge.until(lambda: any(one._out for one in connections(edge)), "the sockets are full")
    taken = zone.taken
    for _ in range(50):
        await asyncio.sleep(0)
    assert zone.taken == taken < 1000
    assert len(connections(edge)[0]._out) <= 60_100


async def test_one_transfer_at_a_time_on_a_connection(edge):
    """A second one follows the first; what is asked behind it waits for its turn."""
    first, second = edge.transfers[1], edge.transfers[2] = Zone(1, 50), Zone(2, 50)
    client = await edge.client()
    await client.ask(1, 2, 3)
    got = await client.numbers(101)
    assert [number for number in got if number != 3] == [1] * 50 + [2] * 50
    assert got.index(3) > 49
    assert (first.taken, second.taken) == (50, 50)


async def test_a_bounded_number_of_transfers_at_once(edge):
    """The others stand in line, and begin when one ends or its client goes away."""
    zones = [Zone(number, 100_000, size=60_000) for number in range(MOST_TRANSFERS + 2)]
    edge.transfers = dict(enumerate(zones))
    clients = []
    for number in range(len(zones)):
        clients.append(await edge.client(f"127.0.0.{number + 1}", receive_buffer=4096))
        await clients[-1].ask(number)
        await edge.until(lambda number=number: number in edge.asked, "it is asked for")
        if number < MOST_TRANSFERS:
            await edge.until(lambda number=number: zones[number].taken > 0, "it began")
    for _ in range(20):
        await asyncio.sleep(0)
    assert [bool(zone.taken) for zone in zones] == [True] * MOST_TRANSFERS + [False] * 2
    clients.pop(4).close()  # one of those in line: it goes
    clients.pop(0).close()
    await edge.until(lambda: zones[5].taken > 0, "the next in line began")
    assert len(edge.slots._transferring) == MOST_TRANSFERS


async def test_a_secondary_that_does_not_read_holds_no_place():
    """A transfer that is not taken ends with the idle time, and the next one begins."""
    async with Edge(idle_s=0.3) as edge:
        zones = [Zone(number, 100_000, size=60_000) for number in range(MOST_TRANSFERS)] + [Zone(9, 3)]
        edge.transfers = dict(zip([*range(MOST_TRANSFERS), 9], zones, strict=True))
        stuck = []
        for number in range(MOST_TRANSFERS):
            stuck.append(await edge.client(f"127.0.0.{number + 1}", receive_buffer=4096))
            await stuck[-1].ask(number)
            await edge.until(lambda number=number: zones[number].taken > 0, "it began")
        good = await edge.client("127.0.0.9")
        await good.ask(9)
        assert await good.numbers(3) == [9] * 3
        assert edge.slots.evicted >= 1


async def test_a_slow_secondary_gets_all_of_it():
    """Whoever takes some of it in the idle time keeps its place, however long the whole takes."""
    async with Edge(idle_s=0.5) as edge:
        zone = edge.transfers[7] = Zone(7, 150, size=60_000)
        client = await edge.client(receive_buffer=4096)
        await client.ask(7)
        got, started = 0, asyncio.get_running_loop().time()
        while got < 150:
            assert await client.message()
            got += 1
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - started > 1.0
        assert zone.taken == 150


async def test_a_transfer_that_fails_ends_its_connection(edge):
    """An error while it is made cannot be told in the middle: the connection ends, others go on."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    def failing() -> Iterator[bytes]:
        yield query(1)
        raise RuntimeError("the zone is gone")

    edge.transfers[1] = lambda: Transfer(failing())
    client, other = await edge.client(), await edge.client("127.0.0.2")
    await client.ask(1)
    assert await client.numbers(1) == [1]
    assert await client.ended()
    await other.ask(2)
    assert await other.numbers(1) == [2]
    assert [str(error) for error in told] == ["the zone is gone"]
    assert not edge.slots._transferring


async def test_half_close_gets_the_whole_transfer(edge):
    """A client that asks for a zone and sends no more gets all of it, and then the end."""
    edge.transfers[7] = Zone(7, 30, size=60_000)
    client = await edge.client()
    await client.ask(7)
    client.end()
    assert await client.numbers(30) == [7] * 30
    assert await client.ended()


# --- the end of the server


async def drained(edge: Edge, within_s: float) -> int:
    edge.edge.close()
    return await edge.slots.drain(within_s)


async def test_draining_answers_what_was_asked(edge):
    """What came is answered, what waits too; then each connection ends; nobody new comes in."""
    edge.waits = {1}
    waiting, idle = await edge.client(), await edge.client("127.0.0.2")
    await waiting.ask(1)
    await edge.until(lambda: 1 in edge.waiting, "it waits")
    await idle.ask(*range(2, 102))
    draining = asyncio.create_task(drained(edge, 10.0))
    assert await idle.numbers(100) == list(range(2, 102))
    assert await idle.ended()
    idle.close()
    with pytest.raises(ConnectionError):
        await edge.client()
    edge.give(1)
    assert await waiting.numbers(1) == [1]
    assert await waiting.ended()
    waiting.close()
    assert await draining == 0
    assert len(edge.slots) == 0


async def test_draining_serves_who_was_connected_and_not_accepted(edge):
    """A client that the kernel has connected already is served like the others."""
    opened = socket.create_connection(("127.0.0.1", edge.port))  # without a turn for the edge, which would accept it
    opened.sendall(stream(1))
    opened.setblocking(False)
    client = Client(opened)
    assert not len(edge.slots)
    draining = asyncio.create_task(drained(edge, 10.0))
    assert await client.numbers(1) == [1]
    assert await client.ended()
    client.close()
    assert await draining == 0
    assert edge.asked == [1]


async def test_draining_does_not_wait_for_ever(edge):
    """Who is not answered in time is counted; a client that does not close is not waited for."""
    edge.waits = {1}
    waiting, stubborn = await edge.client(), await edge.client("127.0.0.2")
    await waiting.ask(1)
    await edge.until(lambda: 1 in edge.waiting and len(edge.slots) == 2, "one waits, one is idle")
    assert await drained(edge, 0.1) == 1
    assert len(edge.slots) == 0
    assert await waiting.ended()
    assert await stubborn.ended()


async def test_after_the_last_reply_nothing_is_answered(edge):
    """A query that crosses our end is read and not answered: its client asks somebody else."""
    client = await edge.client()
    await client.ask(1)
    assert await client.numbers(1) == [1]
    draining = asyncio.create_task(drained(edge, 10.0))
    assert await client.ended()
    await client.ask(2)
    client.close()
    assert await draining == 0
    assert edge.asked == [1]


# --- whatever comes


PIECES = st.one_of(
    st.binary(max_size=40),
    st.integers(1, 60).map(stream),
    st.integers(0, 65_535).map(lambda length: length.to_bytes(2)),
    st.integers(1, 60).flatmap(lambda number: st.integers(0, 30).map(lambda end: stream(number)[:end])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=8), st.booleans())
def test_any_octets_on_a_connection(pieces, half_close):
    """Whatever is sent: whole queries in front of nonsense have their answers, no error, and no slot that stays."""
    told: list[object] = []

    async def converse() -> list[int]:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        async with Edge(idle_s=0.1) as edge:
            edge.waiting, edge.waits = AtOnce(), range(0, 60, 7)
            edge.transfers = {number: Zone(number, 3) for number in range(3, 60, 7)}
            client, got = await edge.client(), []
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    await client.send(piece)
                if half_close:
                    client.end()
            while message := await client.message():
                got.append(int.from_bytes(message[:2]))
            await edge.until(lambda: not len(edge.slots), "its slot is free")
            return got

    expected = []
    frames = Frames()
    frames.feed(b"".join(pieces))
    with contextlib.suppress(BadFrame):
        while message := frames.take():
            number = int.from_bytes(message[:2])
            expected += [number] * (3 if number in range(3, 60, 7) else 1)
    with asyncio.Runner() as runner:
        got = runner.run(converse())
    assert not told
    assert sorted(got) == sorted(expected)
