"""Who may hold a connection and for how long: shares, time under pressure, room, and files that ran out."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from dnsserver.transport.io_slots import Slots
from tests.dnsserver.edge_kit import Edge, query, stream


class Held:
    """A connection without a socket."""

    def __init__(self, slots: Slots, client: str = "192.0.2.1", *, waits: bool = False) -> None:
        self.slots, self.client, self.waits = slots, ipaddress.ip_address(client).packed, waits
        self.owes = self.gone = False

    def abort(self) -> None:
        self.gone = True
        self.slots.leave(self)

    def finish(self) -> None:
        raise AssertionError("not asked for")

    transfer = finish


async def test_the_idle_time_under_pressure():
    """All of it up to half of the slots, then less, a tenth when all are taken; clients are told the truth."""
    slots, told = Slots(10, 20.0), {}
    for count in range(11):
        told[count] = slots.idle_ms
        slots.enter(Held(slots, f"192.0.2.{count}"))

    assert told == {
        **dict.fromkeys(range(6), 20_000), 6: 16_000, 7: 12_000, 8: 8_000, 9: 4_000, 10: 2_000,
    }  # fmt: skip


async def test_under_pressure_the_silent_go_sooner():
    """With all slots taken the same silence ends a connection that would stay otherwise."""
    async with Edge(most=2, idle_s=3.0) as edge:
        first = await edge.client()
        await edge.until(lambda: len(edge.slots) == 1, "one slot of two is taken")
        started = asyncio.get_running_loop().time()
        await edge.client("127.0.0.2")
        assert await first.ended()
        assert asyncio.get_running_loop().time() - started < 3.0


SHARES = {
    "one IPv4 address": (["192.0.2.1"] * 3, [True, True, False]),
    "two IPv4 addresses": (["192.0.2.1", "192.0.2.1", "192.0.2.2"], [True, True, True]),
    "one IPv6 network": (["2001:db8::1", "2001:db8::2", "2001:db8::3"], [True, True, False]),
    "two IPv6 networks": (["2001:db8::1", "2001:db8::2", "2001:db8:0:1::3"], [True, True, True]),
}


@pytest.mark.parametrize(("clients", "expected"), SHARES.values(), ids=SHARES)
async def test_shares(clients, expected):
    """A client, an IPv4 address or an IPv6 /64, has a tenth of all slots; giving one back makes room for one."""
    slots = Slots(20, 10.0)
    held = [Held(slots, client) for client in clients]

    assert [slots.enter(one) for one in held] == expected
    assert slots.refused == expected.count(False)
    slots.leave(held[0])
    assert slots.enter(Held(slots, clients[0])) is True


async def test_who_makes_room():
    """The one that was silent longest, but none that waits for us, unless all do."""
    slots = Slots(3, 10.0)
    waiting, silent, useful = (Held(slots, f"192.0.2.{at}", waits=at == 1) for at in (1, 2, 3))
    for one in (waiting, silent, useful):
        slots.enter(one)
    slots.enter(Held(slots, "192.0.2.4", waits=True))
    assert (waiting.gone, silent.gone, useful.gone) == (False, True, False)
    useful.waits = True
    slots.enter(Held(slots, "192.0.2.5"))
    assert (waiting.gone, useful.gone, slots.evicted, len(slots)) == (True, False, 2, 3)


async def test_what_leaves_twice_leaves_once():
    """A slot is given back once, however often its connection says so."""
    slots = Slots(10, 10.0)
    one = Held(slots)
    slots.enter(one)
    slots.leave(one)
    slots.leave(one)
    slots.earned(one)

    assert (len(slots), slots._by_client) == (0, {})


async def test_files_that_ran_out():
    """Fewer connections for a while, so that others of the process have files; then more again, one by one."""
    slots = Slots(100, 10.0)
    for at in range(50):
        slots.enter(Held(slots, f"192.0.2.{at}"))
    slots.squeeze()
    assert (slots.most, len(slots)) == (42, 42)
    sweeping = asyncio.create_task(slots.sweep())
    async with asyncio.timeout(10):
        while slots.most < 44:
            await asyncio.sleep(0.05)
    sweeping.cancel()


async def test_files_that_ran_out_without_any_connection():
    """Others of the process have them all: there is nothing to give, and one connection stays allowed."""
    slots = Slots(100, 10.0)
    slots.squeeze()

    assert slots.most == 1


PEERS = {
    "IPv4": ("127.0.0.1", "127.0.0.1", bytes((127, 0, 0, 1))),
    "IPv6": ("::1", "::1", bytes(15) + b"\x01"),
    "IPv4 at a socket for both": ("::", "127.0.0.1", bytes((127, 0, 0, 1))),
}


@pytest.mark.parametrize(("host", "to", "client"), PEERS.values(), ids=PEERS)
async def test_clients_are_known_by_packed_addresses(host, to, client):
    """What is answered learns who asks: 4 octets or 16, IPv4 in IPv6 as IPv4."""
    async with Edge(host=host) as edge:
        reader, writer = await asyncio.open_connection(to, edge.port)
        writer.write(stream(1))
        assert await reader.readexactly(2 + len(query(1))) == stream(1)
        writer.close()
        assert edge.clients == [client]


async def test_what_is_dropped_earns_no_time():
    """Messages that get no reply are no reason to keep a connection."""
    async with Edge(idle_s=0.5) as edge:
        edge.silent = range(1, 100)
        client = await edge.client()
        ended = asyncio.create_task(client.ended())
        while not ended.done():
            try:
                await client.ask(1)
            except ConnectionError:
                break
            await asyncio.wait([ended], timeout=0.05)
        assert await ended
        assert edge.slots.evicted == 1


async def test_what_came_before_nonsense_is_answered(edge_of_one):
    """A length that no query has ends the connection; what was asked before it is answered first."""
    client = await edge_of_one.client()
    await client.send(stream(1, 2) + b"\xff\xff" + bytes(100) + stream(3))
    assert await client.numbers(2) == [1, 2]
    assert await client.ended()
    assert edge_of_one.asked == [1, 2]


@pytest.fixture
async def edge_of_one():
    async with Edge() as made:
        yield made
