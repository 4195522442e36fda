"""Connections: any split of the stream, pipelining, half-close, caps, idle and slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest

from dnsserver.message.frames import BadFrame, Frames, framed
from tests.dnsserver.conftest import until
from tests.dnsserver.kit import container, endpoint, lan, question

WEB = container(1, endpoint("web", 80, lan("192.168.0.1", 32768)))
NAME = "web.svc.internal."


def queries(count: int) -> list[bytes]:
    return [dns.message.make_query(NAME, "A", id=number).to_wire() for number in range(1, count + 1)]


@given(
    st.lists(st.binary(min_size=12, max_size=60), max_size=8),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_in_any_pieces(messages, cuts):
    """However a stream is cut, the same messages come out, in order, and nothing else is held."""
    stream, frames, got = b"".join(map(framed, messages)), Frames(), []
    step = 0
    while stream:
        size = cuts[step % len(cuts)]
        frames.feed(stream[:size])
        stream, step = stream[size:], step + 1
        while message := frames.take():
            got.append(message)
    assert (got, frames.pending) == (messages, 0)


@pytest.mark.parametrize("length", [0, 1, 11, 4097, 65535])
def test_lengths_that_no_query_has(length):
    """A length below a header or above any query ends the connection."""
    frames = Frames()
    frames.feed(struct.pack("!H", length))
    with pytest.raises(BadFrame):
        frames.take()


@pytest.fixture
async def server(run):
    running = await run(tcp_connections=20, tcp_idle_s=1.0)
    await running.put(WEB)
    return running


async def reply(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(15):
        length = int.from_bytes(await reader.readexactly(2))
        return dns.message.from_wire(await reader.readexactly(length))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection ends."""
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


SPLITS = {"whole": 10_000, "octet by octet": 1, "in the length": 1, "threes": 3}


@pytest.mark.parametrize("size", SPLITS.values(), ids=SPLITS.keys())
async def test_pipelined_queries_in_pieces(server, size):
    """Several queries on one connection, however they are cut, each get their answer with their id."""
    reader, writer = await asyncio.open_connection(*server.at)
    stream = b"".join(map(framed, queries(5)))
    for at in range(0, len(stream), size):
        writer.write(stream[at : at + size])
        await writer.drain()
    assert [(await reply(reader)).id for _ in range(5)] == [1, 2, 3, 4, 5]
    writer.close()


async def test_many_pipelined_queries_keep_their_order(server):
    """More than one burst of queries in one write: every one is answered."""
    reader, writer = await asyncio.open_connection(*server.at)
    writer.write(b"".join(map(framed, queries(1000))))
    assert [(await reply(reader)).id for _ in range(1000)] == list(range(1, 1001))
    writer.close()


async def test_half_close_still_gets_the_answers(server):
    """A client that sends no more gets what it asked for, and then the end."""
    reader, writer = await asyncio.open_connection(*server.at)
    writer.write(b"".join(map(framed, queries(200))))
    writer.write_eof()
    assert [(await reply(reader)).id for _ in range(200)] == list(range(1, 201))
    assert await closed(reader) == b""
    writer.close()


async def test_nonsense_closes_that_connection_only(server):
    """A length that no query has ends the connection; others go on."""
    good_reader, good = await asyncio.open_connection(*server.at)
    reader, writer = await asyncio.open_connection(*server.at)
    writer.write(framed(queries(1)[0]) + b"\xff\xff" + b"x" * 100)
    await closed(reader)
    good.write(framed(queries(1)[0]))
    assert (await reply(good_reader)).id == 1
    good.close()
    writer.close()


async def test_an_idle_connection_is_closed(server):
    """Silence for the idle time ends it; until then it answers."""
    reader, writer = await asyncio.open_connection(*server.at)
    writer.write(framed(queries(1)[0]))
    assert (await reply(reader)).id == 1
    assert await closed(reader) == b""
    await until(lambda: len(server.service._edges._slots) == 0, "its slot is free")
    assert 'pilotfish_dns_tcp_closed_total{why="silent"} 1.0' in generate_latest(server.telemetry.registry).decode()
    writer.close()


async def test_trickling_octets_earn_no_time(server):
    """A query that never ends is not waited for longer than silence."""
    reader, writer = await asyncio.open_connection(*server.at)
    ended = asyncio.create_task(closed(reader))
    with contextlib.suppress(ConnectionError):
        for octet in framed(question(NAME))[:-1] * 20:
            writer.write(bytes((octet,)))
            await writer.drain()
            done, _ = await asyncio.wait([ended], timeout=0.1)
            if done:
                break
    assert ended.done()
    assert await ended == b""
    writer.close()


async def test_one_client_has_no_more_than_its_share(server):
    """A tenth of all connections for one client: two of twenty; the third is closed at once."""
    held = [await asyncio.open_connection(*server.at) for _ in range(2)]
    await until(lambda: len(server.service._edges._slots) == 2, "two slots are taken")
    reader, writer = await asyncio.open_connection(*server.at)
    assert await closed(reader) == b""
    shown = generate_latest(server.telemetry.registry).decode()
    assert 'pilotfish_dns_tcp_closed_total{why="share"} 1.0' in shown
    for _, other in [*held, (reader, writer)]:
        other.close()


async def test_when_all_slots_are_taken_the_idlest_makes_room(run):
    """Twenty clients hold twenty slots; the next one gets the slot of the one that was silent longest."""
    server = await run(tcp_connections=3, tcp_idle_s=60.0)
    await server.put(WEB)
    held = []
    for number in range(2, 5):
        held.append(await asyncio.open_connection(*server.at, local_addr=(f"127.0.0.{number}", 0)))
        await until(lambda: len(server.service._edges._slots) == len(held), "its slot is taken")
    held[0][1].write(framed(queries(1)[0]))
    assert (await reply(held[0][0])).id == 1
    reader, writer = await asyncio.open_connection(*server.at, local_addr=("127.0.0.9", 0))
    assert await closed(held[1][0]) == b""
    writer.write(framed(queries(1)[0]))
    assert (await reply(reader)).id == 1
    for _, other in [*held, (reader, writer)]:
        other.close()


async def test_a_client_that_does_not_read_is_not_read_from(server):
    """Replies that nobody takes fill a bounded buffer, then the connection ends; UDP answers all the while."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, server.at)
    reader, writer = await asyncio.open_connection(sock=client, limit=1)
    stream = b"".join(map(framed, queries(2000)))
    pushing = asyncio.create_task(push(writer, stream))
    assert (await server.ask(NAME)).rcode == "NOERROR"
    await until(pushing.done, "the connection is ended")
    assert (await server.ask(NAME)).rcode == "NOERROR"
    writer.transport.abort()
    del reader


async def push(writer: asyncio.StreamWriter, stream: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(stream)
            await writer.drain()


async def test_closing_the_server_closes_its_connections(server):
    """When the service ends, nothing of it stays open."""
    reader, writer = await asyncio.open_connection(*server.at)
    writer.write(framed(queries(1)[0]))
    await reply(reader)
    await server.stop()
    assert await closed(reader) == b""
    assert server.service.listening == ()
    writer.close()


async def test_what_is_not_answered_yet_is_not_read(server, monkeypatch):
    """A client that asks faster than we answer waits; its queries do not pile up here, and each has its reply."""
    most = 0
    fed = Frames.feed

    def feed(self, octets):
        nonlocal most
        fed(self, octets)
        most = max(most, self.pending)

    monkeypatch.setattr(Frames, "feed", feed)
    reader, writer = await asyncio.open_connection(*server.at)
    count = 60_000
    stream = b"".join(map(framed, queries(1))) * count
    writer.write(stream)
    writer.write_eof()
    got = await closed(reader)
    size = 2 + int.from_bytes(got[:2])
    assert len(got) == count * size
    assert most < 600_000 < len(stream)
    writer.close()
