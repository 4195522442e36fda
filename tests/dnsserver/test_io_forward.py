"""Forwarding over real sockets to a name server that answers, is silent, is slow, or lies."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import random
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from dnsserver.forwarding import health as forward_health
from dnsserver.forwarding import io_forward, io_upstream
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.figures import ForwardFigures
from dnsserver.forwarding.health import DEAD_AFTER, Server
from dnsserver.forwarding.io_forward import Forwarder
from dnsserver.forwarding.lookup import PATIENCE_S, Try
from dnsserver.forwarding.upstream import STUB_OPTION, Said, Wrong
from dnsserver.io_garbage import Garbage
from dnsserver.message.dname import from_text
from dnsserver.message.frames import framed
from dnsserver.message.rr import Type
from dnsserver.message.wire import Ede, Rcode
from dnsserver.outside import Asked, Outcome
from tests.dnsserver.conftest import until
from tests.parts import fake_upstream as fake
from tests.parts.fake_upstream import FakeUpstream, Manner, Seen, good, upstreams

WWW = Asked(from_text("www.example.com"), Type.A)
LOG = logging.getLogger("pilotfish.test")
SHORT_S = 0.1  # a try's time where nothing comes
MOST_S = 3.5  # within which everybody is answered, on a busy machine


def numbered(number: int) -> Asked:
    return Asked(from_text(f"n{number}.example.com"), Type.A)


class Client:
    """Whoever asks; keeps what it was told, and how often."""

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        self.told: list[Outcome] = []

    def ask(self, asked: Asked = WWW, servers: tuple[Server, ...] = ()) -> None:
        self.forwarder.ask(asked, self.told.append, servers)

    async def answer(self, asked: Asked = WWW, servers: tuple[Server, ...] = ()) -> Outcome:
        """Ask, and wait for the answer."""
        count = len(self.told)
        began = time.monotonic()
        self.ask(asked, servers)
        await until(lambda: len(self.told) > count, "an answer")
        assert time.monotonic() - began < MOST_S
        return self.told[-1]

    async def address(self, asked: Asked = WWW) -> str:
        outcome = await self.answer(asked)
        return shown(outcome)


def shown(outcome: Outcome) -> str:
    """The first address, or what else was said: `SERVFAIL NETWORK_ERROR`."""
    reply = outcome.reply
    if reply.answer:
        return socket.inet_ntoa(reply.answer[0].data.head)
    return reply.rcode.name + (f" {reply.ede.name}" if reply.ede else "")


Made = Callable[..., Client]


@pytest.fixture
async def forward() -> AsyncIterator[Made]:
    """Makes clients of forwarders; all of them are closed at the end, with nothing left."""
    made: list[Forwarder] = []

    def make(*servers: FakeUpstream | Server, cache: ForwardCache | None = None, **how: object) -> Client:
        addresses = [one.server if isinstance(one, FakeUpstream) else one for one in servers]
        how.setdefault("timeout_s", 2.0)
        held = cache if cache is not None else ForwardCache(1000, 3600.0)
        made.append(Forwarder(addresses, held, log=LOG, **how))
        return Client(made[-1])

    yield make
    for forwarder in made:
        forwarder.close()
        assert (forwarder.in_flight, forwarder.waiting) == (0, 0)


@contextlib.asynccontextmanager
async def running(client: Client) -> AsyncIterator[None]:
    """The forwarder looks after its servers."""
    task = asyncio.create_task(client.forwarder.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Expiring(ForwardCache):
    """Every answer is over when it is asked for again."""

    def get(self, asked: Asked, now: float) -> Outcome | None:
        found = super().get(asked, now)
        return None if found is None or found.reply.rcode != Rcode.SERVFAIL else found


# --- what a name server does, and what a client gets


def refused_port() -> Server:
    """An address where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()


HUGE = [fake.Raw(16, 300, b"\xff" + b"t" * 255) for _ in range(240)]
LYING_NAME = fake.other_question("www.example.org")
JUNK: Callable[[Seen], bytes] = lambda seen: seen.message[:2] + b"\x81\x80" + b"\xff" * 30  # noqa: E731
TORN: Callable[[Seen], bytes] = lambda seen: fake.reply(seen.message, fake.a())[:-13]  # noqa: E731

# Title -> manner, what the client gets, over which transports it was asked.
MANNERS: dict[str, tuple[Manner, str, list[str]]] = {
    "good": (good(), "192.0.2.1", ["udp"]),
    "no such name": (
        lambda seen: [fake.reply(seen.message, authority=[fake.soa("example.com")], rcode=3)], "NXDOMAIN", ["udp"],
    ),
    "slower than one try": (fake.slow(0.25, good()), "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "udp"]),
    "silent": (fake.silent, "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "udp"]),
    "wrong id": (fake.changed_id(good()), "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "udp"]),
    "wrong id, then right": (
        lambda seen: [*fake.changed_id(good("203.0.113.66"))(seen), 0.05, *good()(seen)], "192.0.2.1", ["udp"],
    ),
    "wrong name": (fake.first(LYING_NAME, then=fake.silent), "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "udp"]),
    "wrong name, then right": (fake.first(LYING_NAME, LYING_NAME, then=good()), "192.0.2.1", ["udp"]),
    "wrong class, then right": (
        fake.first(fake.other_question("www.example.com", 1, 3), then=good()), "192.0.2.1", ["udp"],
    ),
    "wrong type, then right": (
        fake.first(fake.other_question("www.example.com", 28), then=good()), "192.0.2.1", ["udp"],
    ),
    "malformed, then right": (fake.first(JUNK, TORN, lambda _: b"", lambda _: b"x", then=good()), "192.0.2.1", ["udp"]),
    "its own question, then right": (fake.first(lambda seen: seen.message, then=good()), "192.0.2.1", ["udp"]),
    "64 KiB over UDP, then right": (
        fake.first(lambda seen: fake.reply(seen.message, *HUGE)[:65000], then=good()), "192.0.2.1", ["udp"],
    ),
    "cut": (fake.over_udp(fake.truncated, good("192.0.2.7")), "192.0.2.7", ["udp", "tcp"]),
    "cut for ever": (fake.truncated, "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "tcp"]),
    "cut, and silent over TCP": (
        fake.over_udp(fake.truncated, fake.silent), "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "tcp"],
    ),
    "cut, and nonsense over TCP": (
        fake.over_udp(fake.truncated, lambda seen: [JUNK(seen)] * 9), "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp", "tcp"],
    ),
    "cut, and another name first over TCP": (
        fake.over_udp(fake.truncated, fake.first(LYING_NAME, then=good())), "192.0.2.1", ["udp", "tcp"],
    ),
    "letters lost": (
        fake.over_udp(fake.small_letters(good("203.0.113.66")), good()), "192.0.2.1", ["udp", "tcp"],
    ),
    "letters lost, over TCP too": (fake.small_letters(good()), "192.0.2.1", ["udp", "tcp"]),
    "many forged": (
        fake.over_udp(lambda seen: fake.changed_id(good("203.0.113.66"))(seen) * 100, good()),
        "192.0.2.1", ["udp", "tcp"],
    ),
    "SERVFAIL": (fake.failing(2), "SERVFAIL", ["udp"]),
    "REFUSED": (fake.failing(5), "REFUSED", ["udp"]),
    "NOTIMP": (fake.failing(4), "SERVFAIL NO_REACHABLE_AUTHORITY", ["udp"]),
    "knows no EDNS": (
        lambda seen: fake.failing(1, opt=False)(seen) if b"\x00\x00\x29" in seen.message else good()(seen),
        "192.0.2.1", ["udp", "udp"],
    ),
    "somebody else's records": (
        lambda seen: [fake.reply(seen.message, fake.a("203.0.113.66", owner=fake.wire("evil.test")), fake.a())],
        "192.0.2.1", ["udp"],
    ),
}  # fmt: skip


NOTHING_COMES = {"slower than one try", "silent", "wrong id", "wrong name", "cut, and silent over TCP"}


def time_for(title: str) -> float:
    return SHORT_S if title in NOTHING_COMES else 2.0


@pytest.mark.parametrize("title", MANNERS)
async def test_whatever_a_server_does_there_is_an_answer(forward, title):
    """One server alone: what its client gets, within three seconds, and how often it was asked for that."""
    manner, expected, transports = MANNERS[title]
    async with FakeUpstream(manner) as server:
        client = forward(server, timeout_s=time_for(title))
        outcome = await client.answer()

        assert shown(outcome) == expected
        assert ["tcp" if seen.tcp else "udp" for seen in server.seen] == transports
        assert len(client.told) == 1


BAD = [title for title, (_, gets, _) in MANNERS.items() if gets.startswith(("SERVFAIL", "REFUSED"))]


@pytest.mark.parametrize("title", BAD)
async def test_with_a_second_server_there_is_a_good_answer(forward, title):
    """Whatever is wrong with the first one, the next one answers."""
    async with upstreams(MANNERS[title][0], good("192.0.2.2")) as (bad, other):
        client = forward(bad, other, timeout_s=time_for(title))

        assert await client.address() == "192.0.2.2"
        assert bad.seen


async def test_64_kib_over_tcp_are_read(forward):
    """What TCP can carry is an answer."""
    async with FakeUpstream(
        fake.over_udp(fake.truncated, lambda seen: [fake.reply(seen.message, *HUGE[:1])])
    ) as server:
        client = forward(server)
        outcome = await client.answer(WWW._replace(type=int(Type.TXT)))
        assert len(outcome.reply.answer) == 1

        rows = [fake.Raw(16, 300, b"\xff" + number.to_bytes(255)) for number in range(240)]
        server.manner = fake.over_udp(fake.truncated, lambda seen: [fake.reply(seen.message, *rows)])
        outcome = await client.answer(numbered(1)._replace(type=int(Type.TXT)))
        assert len(outcome.reply.answer) == 240


async def test_nobody_listens(forward):
    """A refused datagram ends the try at once, and a network error is what the client is told."""
    async with FakeUpstream(good()) as there:
        client = forward(refused_port(), timeout_s=60.0)
        assert await client.address() == "SERVFAIL NETWORK_ERROR"

        client = forward(refused_port(), there, timeout_s=60.0)
        assert await client.address() == "192.0.2.1"


async def test_a_server_over_ipv6(forward):
    """An IPv6 address is asked the same way."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        server = FakeUpstream(fake.over_udp(fake.truncated, good()), host="::1")
        await server.start()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    client = forward(server)

    assert await client.address() == "192.0.2.1"
    await server.stop()


@pytest.mark.parametrize("fault", ["no socket", "no network"])
async def test_nothing_can_be_sent(forward, monkeypatch, fault):
    """Out of files, or without a network: SERVFAIL at once; only the server's absence is held against it."""
    number = {"no socket": 24, "no network": 101}[fault]  # EMFILE, ENETUNREACH

    def fails(*_: object) -> None:
        raise OSError(number, "as the kernel says")

    async with FakeUpstream(good()) as server:
        client = forward(server)
        monkeypatch.setattr(io_upstream, "_connected", fails)
        assert await client.address() == "SERVFAIL NETWORK_ERROR"
        assert client.forwarder.healths[server.server].failures == (fault == "no network")

        monkeypatch.undo()
        assert await client.address(numbered(1)) == "192.0.2.1"


# --- single flight, bounds


async def test_a_thousand_ask_one_question(forward):
    """However many want to know, the name server is asked once, and each is told once."""
    async with FakeUpstream(fake.slow(0.1, good())) as server:
        client = forward(server)
        for _ in range(1000):
            client.ask()
        assert client.forwarder.waiting == 1000
        await until(lambda: len(client.told) == 1000, "all are told")

        assert len(server.seen) == 1
        assert {shown(outcome) for outcome in client.told} == {"192.0.2.1"}
        assert (client.forwarder.joined, client.forwarder.in_flight) == (999, 0)


async def test_questions_that_differ_are_asked_apart(forward):
    """Type, DO, CD and the servers asked make another question."""
    async with upstreams(fake.slow(0.05, good()), good("192.0.2.2")) as (server, stub):
        client = forward(server)
        for asked in (WWW, WWW._replace(type=28), WWW._replace(do=True), WWW._replace(cd=True)):
            client.ask(asked)
        client.ask(WWW, (stub.server,))
        await until(lambda: len(client.told) == 5, "all are told")

        assert (len(server.seen), len(stub.seen)) == (4, 1)


async def test_too_many_questions_are_not_kept_waiting(forward):
    """Beyond the bound the answer is SERVFAIL at once, or an older one; the others are not touched."""
    async with FakeUpstream(fake.slow(0.2, good())) as server:
        client = forward(server, most=10, cache=(held := ForwardCache(100, 3600.0)))
        now = asyncio.get_running_loop().time()
        held.put(numbered(20), fake_reply(ttl=1), now - 50)
        for number in range(10):
            client.ask(numbered(number))
        client.ask(numbered(10))
        client.ask(numbered(20))

        assert [shown(outcome) for outcome in client.told] == ["SERVFAIL NETWORK_ERROR", "192.0.2.9"]
        assert client.told[1].reply.ede is Ede.STALE
        assert all(outcome.expires <= outcome.since for outcome in client.told)
        await until(lambda: len(client.told) == 12, "the others are told")
        assert Counter(shown(outcome) for outcome in client.told)["192.0.2.1"] == 10
        assert client.forwarder.shed == 2


def fake_reply(ttl: int = 300, ip: str = "192.0.2.9"):
    from dnsserver.message import rr
    from dnsserver.message.wire import Reply

    return Reply(Rcode.NOERROR, answer=(rr.Record(WWW.name, *_typed(ip, ttl)),), recursion=True)


def _typed(ip: str, ttl: int):
    from dnsserver.message import rr

    rtype, data = rr.address(ip)
    return rtype, ttl, data


async def test_those_who_wait_are_bounded(forward, monkeypatch):
    """A crowd beyond the bound is answered at once."""
    monkeypatch.setattr(io_forward, "MAX_WAITING", 50)
    async with FakeUpstream(fake.slow(0.1, good())) as server:
        client = forward(server)
        for _ in range(60):
            client.ask()

        assert len(client.told) == 10
        await until(lambda: len(client.told) == 60, "the others are told")


async def test_connections_are_bounded(forward, monkeypatch):
    """When all want TCP at once, some are told that it failed; none waits."""
    monkeypatch.setattr(io_forward, "MAX_TCP", 3)
    async with FakeUpstream(fake.over_udp(fake.truncated, fake.slow(0.1, good()))) as server:
        client = forward(server)
        for number in range(10):
            client.ask(numbered(number))
        await until(lambda: len(client.told) == 10, "all are told")

        assert Counter(map(shown, client.told)) == {"192.0.2.1": 3, "SERVFAIL NO_REACHABLE_AUTHORITY": 7}


async def test_one_who_fails_to_listen_harms_nobody(forward, caplog):
    """An exception in what was to be told is written down; the others are told."""
    async with FakeUpstream(good()) as server:
        client = forward(server)
        client.forwarder.ask(WWW, lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
        client.ask()
        await until(lambda: bool(client.told), "the other is told")

        assert "could not be passed on" in caplog.text


async def test_the_loop_is_not_held_up_by_a_crowd(forward):
    """Between those who wait for one answer other work has its turn."""
    async with FakeUpstream(fake.slow(0.05, good())) as server:
        client = forward(server)
        turns: list[int] = []
        for _ in range(2000):
            client.ask()

        def turn() -> None:
            turns.append(len(client.told))
            if len(client.told) < 2000:
                asyncio.get_running_loop().call_soon(turn)

        turn()
        await until(lambda: len(client.told) == 2000, "all are told")
        assert len({count for count in turns if 0 < count < 2000}) >= 5


# --- the cache, and old answers


async def test_an_answer_is_asked_for_once(forward):
    """What is known is said at once."""
    async with FakeUpstream(good()) as server:
        client = forward(server)
        await client.answer()
        client.ask()

        assert (len(client.told), len(server.seen)) == (2, 1)


@pytest.mark.parametrize("ttl", [0, 300])
async def test_what_may_not_be_kept_is_asked_for_again(forward, ttl):
    """TTL 0 is for those who waited."""
    async with FakeUpstream(good(ttl=ttl)) as server:
        client = forward(server)
        await client.answer()
        await client.answer()

        assert len(server.seen) == (2 if ttl == 0 else 1)


async def test_a_failure_is_not_asked_for_at_once(forward):
    """For a second the failure is the answer (RFC 9520)."""
    async with FakeUpstream(fake.failing(2)) as server:
        client = forward(server)
        for _ in range(20):
            await client.answer()

        assert len(server.seen) == 1


async def test_an_older_answer_when_nobody_answers(forward):
    """The server is gone: what it said before is said again, marked as old."""
    held = ForwardCache(100, 3600.0)
    held.put(WWW, fake_reply(ttl=1), asyncio.get_running_loop().time() - 100)
    client = forward(refused_port(), cache=held)
    outcome = await client.answer()

    assert (shown(outcome), outcome.reply.ede, outcome.reply.answer[0].ttl) == ("192.0.2.9", Ede.STALE, 30)
    assert outcome.expires > outcome.since


async def test_an_older_answer_when_the_new_one_is_late(forward, monkeypatch):
    """After the client's patience the old answer is given once; the new one is there for the next who asks."""
    monkeypatch.setattr(io_forward, "STALE_AFTER_S", 0.1)
    held = ForwardCache(100, 3600.0)
    held.put(WWW, fake_reply(ttl=1), asyncio.get_running_loop().time() - 100)
    async with FakeUpstream(fake.slow(0.4, good())) as server:
        client = forward(server, cache=held, timeout_s=2.0)
        first = await client.answer()
        client.ask()  # while the server is still being waited for

        assert (shown(first), first.reply.ede, first.expires) == ("192.0.2.9", Ede.STALE, first.since)
        assert [shown(outcome) for outcome in client.told] == ["192.0.2.9", "192.0.2.9"]
        await until(lambda: client.forwarder.in_flight == 0, "the new answer is there")
        assert await client.address() == "192.0.2.1"
        assert len(server.seen) == 1


async def test_an_older_answer_at_once_when_all_are_dead(forward):
    """While every server is known to be dead, nobody has to wait for that."""
    held = ForwardCache(100, 3600.0)
    async with FakeUpstream(fake.silent) as server:
        client = forward(server, cache=held, timeout_s=SHORT_S)
        for number in range(DEAD_AFTER):
            await client.answer(numbered(number))
        assert client.forwarder.healths[server.server].dead
        held.put(WWW, fake_reply(ttl=1), asyncio.get_running_loop().time() - 100)
        client.ask()

        assert shown(client.told[-1]) == "192.0.2.9"
        await until(lambda: server.names()[-1] == "www.example.com.", "the server is asked all the same")


async def test_what_is_in_use_is_renewed_before_its_end(forward):
    """A popular answer in its last tenth is asked for once more; nobody waits for that."""
    held = ForwardCache(100, 3600.0)
    async with FakeUpstream(good(ttl=100)) as server:
        client = forward(server, cache=held)
        held.put(WWW, fake_reply(ttl=100), asyncio.get_running_loop().time() - 95)
        for _ in range(5):
            client.ask()

        assert [shown(outcome) for outcome in client.told] == ["192.0.2.9"] * 5
        assert [outcome.due for outcome in client.told] == [False, False, True, False, False]
        await until(lambda: client.forwarder.in_flight == 0, "it was renewed")
        assert await client.address() == "192.0.2.1"
        assert (len(server.seen), client.forwarder.prefetched) == (1, 1)


async def test_renewals_make_room_for_questions(forward):
    """When half of all questions that may be out are out, nothing is asked before its time."""
    async with FakeUpstream(fake.slow(0.1, good())) as server:
        client = forward(server, most=4)
        for number in range(2):
            client.ask(numbered(number))
        client.forwarder.refresh(WWW)

        assert (client.forwarder.in_flight, client.forwarder.prefetched) == (2, 0)


# --- health


async def test_a_dead_server_is_left_alone_until_it_is_back(forward, caplog):
    """After two tries for nothing it is not asked; probes find it when it answers again; both are written down."""
    caplog.set_level(logging.INFO)
    async with upstreams(fake.silent, good("192.0.2.2")) as (first, second):
        client = forward(first, second, timeout_s=SHORT_S)
        async with running(client):
            assert await client.address() == "192.0.2.2"
            await until(lambda: client.forwarder.healths[first.server].dead, "the first is dead")
            count = len(first.names())
            for number in range(20):
                assert await client.address(numbered(number)) == "192.0.2.2"
            assert len(first.names()) == count

            first.manner = good()
            await until(lambda: not client.forwarder.healths[first.server].dead, "the first is back")
            assert await client.address(numbered(20)) == "192.0.2.1"
    assert "does not answer" in caplog.text
    assert "answers again" in caplog.text


async def test_a_server_that_comes_back_at_its_port_is_found(forward):
    """Gone with its host saying so, and back: found by a probe."""
    async with FakeUpstream(good()) as server:
        client = forward(server)
        async with running(client):
            assert await client.address() == "192.0.2.1"
            await server.stop()
            for number in range(DEAD_AFTER):
                assert await client.address(numbered(number)) == "SERVFAIL NETWORK_ERROR"
            assert client.forwarder.healths[server.server].dead
            await server.start()
            await until(lambda: not client.forwarder.healths[server.server].dead, "it is back")
            assert await client.address(numbered(DEAD_AFTER)) == "192.0.2.1"


async def test_a_stub_server_is_not_probed(forward):
    """Servers of stub zones are asked when somebody wants to know, and not between."""
    async with upstreams(good(), fake.silent) as (server, stub):
        client = forward(server, timeout_s=SHORT_S)
        async with running(client):
            for _ in range(2):
                assert (await client.answer(WWW, (stub.server,))).reply.rcode == Rcode.SERVFAIL
                client.forwarder.cache = ForwardCache(10, 0.0)
            health = client.forwarder.healths[stub.server]
            await until(lambda: not health.dead, "it may be asked again")
            assert set(stub.names()) == {"www.example.com."}
            assert not any("probe" in seen.name.lower() for seen in stub.seen)


# --- loops


class Ourselves:
    """A resolver that asks us what it is asked, as one would that was told to forward to us."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, seen: Seen) -> list[bytes | float]:
        name = seen.message[12 : fake.question_end(seen.message) - 4]
        if self.client.forwarder.probes.answer(name) is not None:
            return [fake.reply(seen.message)]
        asked = Asked(name.lower(), 1)
        self.client.ask(asked)
        return []


async def test_a_loop_is_seen_and_cut(forward, caplog):
    """A server that asks us is found out by its probe, within a second, and not asked."""
    async with upstreams(fake.silent, good("192.0.2.2")) as (loop, other):
        client = forward(loop, other)
        loop.manner = Ourselves(client)
        async with asyncio.timeout(1), running(client):
            await until(lambda: client.forwarder.healths[loop.server].looping, "the loop is seen")
            assert await client.address() == "192.0.2.2"
    assert loop.names() == []
    assert "comes back here" in caplog.text


async def test_servers_that_come_later_are_met_as_well(forward, caplog):
    """Named while it runs, as `/skydns/config` can: one that asks us is found out, one that is us is written down."""
    async with upstreams(fake.silent, good("192.0.2.2"), good()) as (loop, other, own):
        client = forward(own=lambda: [own.server])
        loop.manner = Ourselves(client)
        async with asyncio.timeout(5), running(client):
            assert await client.address() == "SERVFAIL NETWORK_ERROR"
            client.forwarder.set_servers([loop.server, own.server, other.server])
            await until(lambda: client.forwarder.healths[loop.server].looping, "the loop is seen")
            assert await client.address() == "192.0.2.2"
    assert (loop.names(), own.seen) == ([], [])
    assert "comes back here" in caplog.text
    assert "is this server itself" in caplog.text


async def test_a_loop_alone_costs_one_question(forward):
    """Before it is found out, the question that comes back is joined to the one that is out."""
    async with FakeUpstream(fake.silent) as loop:
        client = forward(loop, timeout_s=SHORT_S)
        loop.manner = Ourselves(client)
        await client.answer()

        assert len(loop.seen) == 2  # two tries
        await until(lambda: len(client.told) == 3, "all are told")
        assert {shown(outcome) for outcome in client.told} == {"SERVFAIL NO_REACHABLE_AUTHORITY"}


async def test_we_never_ask_ourselves(forward, caplog):
    """Not as a configured server, which is written down, not as a stub zone's."""
    async with upstreams(good(), good("192.0.2.2")) as (own, other):
        client = forward(own, other, own=lambda: [own.server])
        assert await client.address() == "192.0.2.2"
        assert shown(await client.answer(numbered(1), (own.server,))) == "SERVFAIL NETWORK_ERROR"
        async with running(client):
            await until(lambda: any("probe" in seen.name.lower() for seen in other.seen), "the other is probed")
        assert own.seen == []
    assert "is this server itself" in caplog.text


async def test_an_address_that_becomes_ours_is_no_longer_asked(forward):
    """What we listen at may change while we run."""
    async with FakeUpstream(good()) as server:
        own: list[Server] = []
        client = forward(server, own=lambda: own, cache=ForwardCache(0, 0.0))
        async with running(client):
            assert await client.address() == "192.0.2.1"
            own.append(server.server)

            async def refused() -> bool:
                return await client.address() == "SERVFAIL NETWORK_ERROR"

            await until(refused, "it is not asked")


async def test_a_loop_that_was_undone_is_noticed(forward, monkeypatch):
    """A server that no longer asks us is found by a later probe, and asked again."""
    monkeypatch.setattr(forward_health, "MAX_PROBE_S", 0.1)
    async with FakeUpstream(fake.silent) as server:
        client = forward(server)
        server.manner = Ourselves(client)
        async with running(client):
            health = client.forwarder.healths[server.server]
            await until(lambda: health.looping, "the loop is seen")
            server.manner = good()
            await until(lambda: not health.looping, "it is gone")
            assert await client.address() == "192.0.2.1"


async def test_stub_zones_say_so(forward):
    """Their servers are asked with SkyDNS's guard against loops; configured ones without."""
    async with upstreams(good(), good("192.0.2.2")) as (server, stub):
        client = forward(server)
        await client.answer(numbered(1))
        await client.answer(numbered(2), (stub.server,))

        assert [STUB_OPTION in seen.message for seen in (*server.seen, *stub.seen)] == [False, True]


# --- chance


def too_even_or_uneven(values: list[int], buckets: int, size: int) -> float:
    """How many standard deviations the chi-square of values over equal buckets is away from what chance gives."""
    counts = Counter(value * buckets // size for value in values)
    expected = len(values) / buckets
    chi = sum((counts[bucket] - expected) ** 2 / expected for bucket in range(buckets))
    return abs(chi - (buckets - 1)) / math.sqrt(2 * (buckets - 1))


async def test_ids_ports_and_letters_are_left_to_chance(forward):
    """Of 10,000 queries: ids and ports are spread evenly, ports seldom return, no pair of both is out twice at once."""
    count = 10_000
    out: set[tuple[int, int]] = set()
    twice: list[tuple[int, int]] = []

    def recorded(seen: Seen) -> list[bytes | float]:
        pair = (seen.id, seen.client[1])
        twice.extend([pair] if pair in out else [])
        out.add(pair)
        asyncio.get_running_loop().call_soon(out.discard, pair)
        return [fake.reply(seen.message, fake.a())]

    async with FakeUpstream(recorded) as server:
        client = forward(server, cache=ForwardCache(0, 0.0), timeout_s=2.0)
        for start in range(0, count, 200):
            for number in range(start, start + 200):
                client.ask(numbered(number))
            await until(lambda: len(client.told) >= start + 200, "a batch")  # noqa: B023
        ids, ports = [seen.id for seen in server.seen], [seen.client[1] for seen in server.seen]
        first, last = io_upstream.local_ports()

    assert len(server.seen) == count
    assert too_even_or_uneven(ids, 16, 65536) < 6
    assert too_even_or_uneven([port - first for port in ports], 16, last - first + 1) < 6
    assert len(set(ports)) >= 0.6 * count
    assert len(set(ids)) >= 0.8 * count
    assert twice == []
    assert sum(after - before == 1 for before, after in itertools.pairwise(ids)) < 10
    assert sum(after - before == 1 for before, after in itertools.pairwise(ports)) < 20
    large = sum(65 <= octet <= 90 for seen in server.seen for octet in seen.message[12:-15])
    letters = sum(chr(octet).isalpha() for seen in server.seen for octet in seen.message[12:-15])
    assert 0.48 < large / letters < 0.52


async def test_forged_replies_do_not_enter(forward):
    """Somebody floods the port with guesses, from the server's address and from another: none is believed."""
    forged = 0

    def flooded(seen: Seen) -> list[bytes | float]:
        nonlocal forged
        lie = fake.reply(seen.message, fake.a("203.0.113.66"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(200):
                forged += stranger.sendto(lie, seen.client) > 0  # all of it right but whom it comes from
        lies = [(seen.id ^ guess).to_bytes(2) + lie[2:] for guess in range(1, 300)]
        forged += len(lies)
        return [*lies, *good()(seen)]

    async with FakeUpstream(fake.over_udp(flooded, good())) as server:
        client = forward(server, timeout_s=2.0)
        for number in range(20):
            assert await client.address(numbered(number)) == "192.0.2.1"

    assert forged == 20 * 499
    assert client.forwarder.wrong["foreign"] > 0


async def test_what_came_before_the_connection_is_not_believed(monkeypatch):
    """A datagram from anywhere may wait in a socket that is not connected yet; right in all else, it is left out."""
    bind, told, wrong = io_upstream._bind, [], []
    async with FakeUpstream(good()) as server:
        step = Try(server.server, tcp=False, exact=True, edns=True, timeout_s=2.0)
        question = io_upstream.made(WWW, step, io_upstream.local_ports(), stub=False)

        def bound(opened: socket.socket, port: int) -> None:
            bind(opened, port)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(
                    fake.reply(question.message, fake.a("203.0.113.66")), ("127.0.0.1", opened.getsockname()[1])
                )

        monkeypatch.setattr(io_upstream, "_bind", bound)
        watch = io_upstream.Watch()
        exchange = io_upstream.Exchange(watch, question, told.append, wrong.append)
        assert exchange.start() is None
        await until(lambda: bool(told), "a reply")
        watch.close()

    assert [said.sections.answer[0].data.head for said in told] == [bytes((192, 0, 2, 1))]
    assert wrong == [Wrong.FOREIGN]


async def test_no_two_sockets_have_one_port(forward):
    """A port that is taken is left to whoever has it."""
    async with FakeUpstream(good()) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("", 0))
            port = taken.getsockname()[1]
            opened = io_upstream._connected(server.server, port)
            with opened:
                assert opened.getsockname()[1] != port


# --- everything at once


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_whatever_happens_each_is_told_once(forward):
    """Three servers that do anything, questions of any kind: each is answered once, never by a lie; nothing is left."""
    chance = random.Random(20_261_127)
    # Who loses the letters of every question is believed without them in the end, and so might be what he says.
    left_out = {"many forged", "letters lost"}
    manners = [manner for title, (manner, _, _) in MANNERS.items() if title not in left_out]

    def any_manner(seen: Seen) -> list[bytes | float]:
        return list(chance.choice(manners)(seen))

    files = open_files()
    async with upstreams(any_manner, any_manner, any_manner) as servers:
        client = forward(*servers, cache=ForwardCache(50, 0.5), timeout_s=0.05)
        told: Counter[int] = Counter()
        async with running(client):
            for number in range(600):
                asked = numbered(chance.randrange(200))._replace(do=chance.random() < 0.2)
                stub = (servers[chance.randrange(3)].server,) if chance.random() < 0.2 else ()
                client.forwarder.ask(
                    asked, lambda outcome, number=number: (told.update([number]), client.told.append(outcome)), stub
                )
                if chance.random() < 0.1:
                    await asyncio.sleep(0)
            await until(lambda: len(told) == 600, "all are told")
            await until(lambda: client.forwarder.in_flight == 0, "nothing is out")

        assert set(told.values()) == {1}
        words = {shown(outcome).split()[0] for outcome in client.told}
        assert words <= {"192.0.2.1", "192.0.2.7", "SERVFAIL", "REFUSED", "NXDOMAIN", "NOERROR"}
        assert "192.0.2.1" in words
        assert len(client.forwarder.cache) <= 50
    await until(lambda: open_files() <= files, "no file is left open")


# --- the end


async def test_all_are_told_at_the_end(forward):
    """Cancelled while questions are out, over UDP and TCP: everybody is told once, and nothing is left open."""
    some = lambda seen: fake.truncated(seen) if b"n1" in seen.message.lower() else []  # noqa: E731
    async with FakeUpstream(fake.over_udp(some, fake.silent)) as server:
        client = forward(server, timeout_s=2.0)
        watched = client.forwarder._watch._epoll.fileno()
        async with running(client):
            for number in range(20):
                client.ask(numbered(number))
            await until(lambda: len(client.forwarder._connections) == 11, "some are out over TCP")
        assert len(client.told) == 20
        assert {shown(outcome) for outcome in client.told} == {"SERVFAIL NETWORK_ERROR"}
        client.ask(WWW)
        assert shown(client.told[-1]) == "SERVFAIL NETWORK_ERROR"
        assert not client.forwarder._connections
        assert not asyncio.get_running_loop().remove_reader(watched)


async def test_a_crowd_is_told_at_the_end(forward):
    """However many wait for one name, each is told before the forwarder's task ends, and counted until then."""
    crowd = 5 * io_forward.BURST + 1
    async with FakeUpstream(fake.silent) as server:
        client = forward(server)
        async with running(client):
            for _ in range(crowd):
                client.ask()
            await until(lambda: len(server.seen) == 2, "a probe and the question are out")
            assert client.forwarder.waiting == crowd
        assert (len(client.told), client.forwarder.waiting) == (crowd, 0)


async def test_who_is_not_told_yet_still_waits(forward):
    """Between the turns in which a crowd is told, those whose turn comes are counted: the end waits for them."""
    crowd = 3 * io_forward.BURST
    async with FakeUpstream(good()) as server:
        client = forward(server)
        for _ in range(crowd):
            client.ask()
        sums: set[int] = set()
        while client.forwarder.waiting:
            sums.add(len(client.told) + client.forwarder.waiting)
            await asyncio.sleep(0)
        assert (sums, len(client.told)) == ({crowd}, crowd)


async def test_a_forgotten_question_is_ended(forward, monkeypatch, caplog):
    """Should a question ever hang, those who wait are told all the same, and it is written down."""
    monkeypatch.setattr(io_forward, "OVERDUE_S", 0.1)
    async with FakeUpstream(fake.silent) as server:
        client = forward(server, timeout_s=2.0)
        async with running(client):
            assert await client.address() == "SERVFAIL NETWORK_ERROR"
    assert "forgotten" in caplog.text


async def test_patience_is_below_that_of_clients():
    """Three seconds in all."""
    assert PATIENCE_S < 3


# --- what it shows


async def test_it_shows_what_it_did(forward):
    """Messages by server and outcome, what was no reply, and the state of cache and servers, in words of Prometheus."""
    async with upstreams(fake.first(TORN, then=good()), fake.silent) as (server, stub):
        client = forward(server, timeout_s=SHORT_S)
        await client.answer()
        await client.answer()
        await client.answer(numbered(1), (stub.server,))
        registry = CollectorRegistry()
        registry.register(ForwardFigures(client.forwarder))
        lines = generate_latest(registry).decode().splitlines()

    at = f"127.0.0.1:{server.server[1]}"
    assert {
        f'pilotfish_dns_forward_queries_total{{outcome="noerror",server="{at}"}} 1.0',
        'pilotfish_dns_forward_queries_total{outcome="timeout",server="stub"} 2.0',
        'pilotfish_dns_forward_mismatched_total{reason="malformed"} 1.0',
        f'pilotfish_dns_forward_healthy{{server="{at}"}} 1.0',
        "pilotfish_dns_forward_in_flight 0.0",
        "pilotfish_dns_forward_cache_entries 1.0",
        "pilotfish_dns_forward_cache_hits_total 1.0",
        "pilotfish_dns_forward_joined_total 0.0",
    } <= set(lines)


# --- what is left


class Watched(io_forward._Flight):
    """A question that can be counted."""

    __slots__ = ("__weakref__",)


ENDS: dict[str, Manner] = {
    "answered": good(),
    "never answered": fake.silent,
    "answered over TCP": fake.over_udp(fake.truncated, good()),
}


@pytest.mark.parametrize("manner", ENDS.values(), ids=ENDS)
async def test_nothing_is_left_for_the_collector(forward, monkeypatch, manner):
    """A question that has ended, or a probe, is freed at once: the collector may have set it aside for good."""
    flights: list[weakref.ref[Watched]] = []
    monkeypatch.setattr(io_forward, "_Flight", lambda *how: _remembered(flights, Watched(*how)))
    async with FakeUpstream(manner) as server:
        gc.collect()
        gc.disable()
        try:
            client = forward(server, timeout_s=SHORT_S)
            async with running(client):
                for number in range(20):
                    client.ask(numbered(number))
                await until(lambda: len(client.told) == 20 and not client.forwarder._probing, "all have ended")
            await until(lambda: not client.forwarder._connections, "connections are closed")
            assert len(flights) >= 21
            assert [one() for one in flights if one() is not None] == []
        finally:
            gc.enable()


def _serve_once(listening: socket.socket, times: int) -> None:
    """Answer so many questions over TCP, each on a connection of its own, in a thread."""
    for _ in range(times):
        opened, _ = listening.accept()
        with opened:
            message = opened.recv(4096)[2:]
            opened.sendall(framed(fake.reply(message, fake.a())))
            opened.recv(1)


async def test_a_connection_leaves_nothing_for_the_collector():
    """Over TCP too, all that a question needed is freed when it has its answer."""
    times = 20
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        step = Try(listening.getsockname(), tcp=True, exact=False, edns=True, timeout_s=5.0)
        thread = threading.Thread(target=_serve_once, args=(listening, times), daemon=True)
        thread.start()
        gc.collect()
        gc.disable()
        try:
            for number in range(times):
                question = io_upstream.made(numbered(number), step, (40000, 50000), stub=False)
                said = await io_upstream.over_tcp(question, lambda _: None)
                assert isinstance(said, Said)
            assert gc.collect() < times
        finally:
            gc.enable()
        thread.join(10)


def _remembered(flights: list[weakref.ref[Watched]], one: Watched) -> Watched:
    flights.append(weakref.ref(one))
    return one


async def test_nothing_is_left_while_it_sets_aside(forward, monkeypatch):
    """With the collector's own policy beside it, no question outlives its answer."""
    flights: list[weakref.ref[Watched]] = []
    monkeypatch.setattr(io_forward, "_Flight", lambda *how: _remembered(flights, Watched(*how)))
    garbage = Garbage(lambda: len(flights), LOG)
    thresholds = gc.get_threshold()
    garbage.begin()
    try:
        async with FakeUpstream(fake.slow(0.02, good())) as server:
            client = forward(server)
            for number in range(300):
                client.ask(numbered(number))
                if number % 30 == 29:
                    garbage.keep()  # with questions under way
                    await until(lambda: not client.forwarder.in_flight, "all are answered")
        assert len(flights) == 300
        assert [one() for one in flights if one() is not None] == []
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
