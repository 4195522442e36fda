"""The standards of resolvers, line by line: a whole server that forwards to one which does as it is told."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import dns.edns
import dns.message
import pytest

from tests.dnsserver.conftest import Running, until
from tests.dnsserver.kit import container, endpoint, lan
from tests.dnsserver.rows import edns, query, reply_to
from tests.parts import fake_upstream as fake
from tests.parts.fake_upstream import FakeUpstream, Manner, good

RD, CD = 0x0100, 0x0010
WWW = "www.example.com"
ANSWER = [f"{WWW}. 300 A 192.0.2.1"]


@dataclasses.dataclass
class Both:
    """A server and the name server that it forwards to."""

    server: Running
    upstream: FakeUpstream

    async def asks(self, name: str = WWW, rtype: str = "A", *, bits: int = RD, **fields: Any) -> dict[str, Any]:
        return await reply_to(self.server.at, "udp", edns(text=name, rtype=rtype, bits=bits, **fields))


Forwarding = Callable[..., Awaitable[Both]]
GOOD = good()


@pytest.fixture
async def forwarding(run):
    """Makes a server that forwards to one which answers in a manner."""
    upstreams = []

    async def make(manner: Manner = GOOD, **options: Any) -> Both:
        upstream = FakeUpstream(manner)
        await upstream.start()
        upstreams.append(upstream)
        running = await run(forward=(upstream.server,), **options)
        await running.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
        return Both(running, upstream)

    yield make
    for upstream in upstreams:
        await upstream.stop()


# Title -> question, what the reply shows.
BITS = {
    "RFC 1035 4.1.1: RA in an answer of others, no AA": (edns(text=WWW, bits=RD),
        {"rcode": "NOERROR", "flags": "QR RD RA", "answer": ANSWER, "edns": 0}),
    "RFC 1035 4.1.1: no RA in an answer of ours": (edns(bits=RD), {"rcode": "NOERROR", "flags": "QR AA RD"}),
    "RFC 1035 4.1.1: no RA in an answer of ours, RD or not": (edns(), {"rcode": "NOERROR", "flags": "QR AA"}),
    "RFC 1035 4.1.1: no RA in a denial of ours": (edns(text="nope.svc.internal"),
        {"rcode": "NXDOMAIN", "flags": "QR AA"}),
    "RFC 1034 4.3.1: without RD nobody else is asked": (edns(text=WWW),
        {"rcode": "REFUSED", "flags": "QR", "answer": [], "ede": 20}),
    "RFC 5358 4: a refusal offers no recursion": (edns(klass=255, bits=RD), {"rcode": "REFUSED", "flags": "QR RD"}),
    "RFC 4035 3.2.2: CD comes back from a resolver": (edns(text=WWW, bits=RD | CD), {"flags": "QR RD RA CD"}),
    "RFC 3225 3: DO comes back from a resolver": (edns(text=WWW, bits=RD, flags=0x8000), {"ednsflags": 0x8000}),
    "RFC 1035 2.3.3: spelled as asked": (edns(text="wWw.Example.COM", bits=RD),
        {"question": "wWw.Example.COM. IN A", "answer": ["wWw.Example.COM. 300 A 192.0.2.1"]}),
    "RFC 1035 4.2.1: no OPT without one": (query(WWW, flags=RD), {"edns": None, "answer": ANSWER}),
}  # fmt: skip


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("message", "says"), BITS.values(), ids=BITS)
async def test_bits(forwarding, message, says, transport):
    """The reply of a server that forwards shows what the standard demands."""
    both = await forwarding()
    found = await reply_to(both.server.at, transport, message)
    assert {field: found.get(field) for field in says} == says


ALIAS = fake.said(
    f"{WWW}. 60 CNAME a.example.net.", "a.example.net. 7 A 192.0.2.7", "evil.example.org. 99 A 203.0.113.66"
)

# Title -> what the name server does, what the client is told, how often the name server was asked.
MANNERS = {
    "RFC 5452 9.1: a reply with another id does not end the wait": (
        lambda seen: [*fake.changed_id(good("203.0.113.66"))(seen), *good()(seen)], {"answer": ANSWER}, 1),
    "RFC 5452 9.1: a reply to another question does not end the wait": (
        fake.first(fake.other_question("evil.example.org"), then=good()), {"answer": ANSWER}, 1),
    "RFC 5452 6: records off the chain are dropped": (
        ALIAS, {"answer": ["a.example.net. 7 A 192.0.2.7", f"{WWW}. 60 CNAME a.example.net."]}, 1),
    "RFC 1034 3.6.2: an alias comes before what it stands for": (ALIAS, {
        "order": [f"{WWW}. 60 CNAME a.example.net.", "a.example.net. 7 A 192.0.2.7"]}, 1),
    "RFC 7766 5: what is cut is asked for over TCP": (
        fake.over_udp(fake.truncated, good()), {"answer": ANSWER, "flags": "QR RD RA"}, 2),
    "RFC 2308 5: a denial is passed on with its SOA": (
        lambda seen: [fake.reply(seen.message, rcode=3, authority=[fake.soa("example.com", 60, 30)])],
        {"rcode": "NXDOMAIN", "flags": "QR RD RA", "authority": ["example.com. 30 SOA"]}, 1),
    "RFC 2308 2.2: no such data is passed on with its SOA": (
        lambda seen: [fake.reply(seen.message, authority=[fake.soa("example.com", 20, 30)])],
        {"rcode": "NOERROR", "answer": [], "authority": ["example.com. 20 SOA"]}, 1),
    "RFC 6891 7: a server that does not know EDNS is asked without": (
        lambda seen: (good() if seen.parsed.edns < 0 else fake.failing(1, opt=False))(seen), {"answer": ANSWER}, None),
    "RFC 8914 4.22: a server that is not there": (
        fake.silent, {"rcode": "SERVFAIL", "flags": "QR RD RA", "answer": [], "ede": 22}, None),
    "RFC 2181 8: a TTL above a day is a day": (good(ttl=2**31 - 1), {"ttls": [86400]}, 1),
    "RFC 2181 8: a TTL with its top bit is none": (good(ttl=2**31), {"ttls": [0]}, 1),
}  # fmt: skip


@pytest.mark.parametrize(("manner", "says", "times"), MANNERS.values(), ids=MANNERS)
async def test_manners(forwarding, manner, says, times):
    """Whatever a name server does, the client is told what the standard demands."""
    both = await forwarding(manner, forward_timeout_s=0.2)
    found = await both.asks()
    assert {field: found.get(field) for field in says} == says
    assert times in (None, len(both.upstream.names()))


STAYS = ["localhost", "www.localhost", "x.test", "x.invalid", "x.onion", "printer.local", "1.0.0.10.in-addr.arpa",
         "9.9.168.192.in-addr.arpa", "1.0.0.127.in-addr.arpa", "nope.svc.internal", "svc.internal"]  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
async def test_names_that_never_leave(forwarding, name):
    """RFC 6761 6, RFC 6303 4, RFC 7686 2: nobody else learns of them."""
    both = await forwarding()
    for rtype in ("A", "PTR", "TXT"):
        assert (await both.asks(name, rtype))["rcode"] in {"NOERROR", "NXDOMAIN"}
    assert both.upstream.names() == []


async def test_no_subnet_is_sent_on(forwarding):
    """RFC 7871 11: neither the client's subnet, nor its cookie or any other option, reaches another server."""
    both = await forwarding()
    options = [
        dns.edns.ECSOption("192.0.2.0", 24),
        dns.edns.CookieOption(b"\1" * 8, b""),
        dns.edns.GenericOption(65001, b""),
    ]
    message = dns.message.make_query(f"{WWW}.", "A", use_edns=0, options=options).to_wire()
    assert (await reply_to(both.server.at, "udp", message))["answer"] == ANSWER
    assert [one.parsed.options for one in both.upstream.seen] == [()] * len(both.upstream.seen)
    assert both.upstream.names() == [f"{WWW}."]


async def test_one_question_at_a_time(forwarding):
    """RFC 5452 5: however many ask the same, the name server is asked once."""
    both = await forwarding(fake.slow(0.2, good()))
    found = await asyncio.gather(*(both.asks() for _ in range(50)))
    assert [one["answer"] for one in found] == [ANSWER] * 50
    assert len(both.upstream.names()) == 1


async def test_entries_are_apart(forwarding):
    """RFC 4035 4.7: type, DO and CD are part of what an answer is kept by."""
    both = await forwarding(lambda seen: [fake.reply(seen.message, authority=[fake.soa("example.com")])])
    for _ in range(2):
        for how in ({}, {"rtype": "AAAA"}, {"flags": 0x8000}, {"bits": RD | CD}):
            await both.asks(**how)
    assert len(both.upstream.names()) == 4


async def test_ttl_counts_down(forwarding):
    """RFC 1035 3.2.1: what is repeated later has less time left; the name server is not asked again."""
    both = await forwarding(good(ttl=300))
    assert (await both.asks())["ttls"] == [300]

    async def less() -> bool:
        return (await both.asks())["ttls"][0] < 300

    await until(less, "a second has passed")
    assert (await both.asks())["ttls"][0] >= 280
    assert len(both.upstream.names()) == 1


async def test_ttl_0_is_not_used_again(forwarding):
    """RFC 1123 6.1.2.1: an answer without time is given to who asked, and asked for again."""
    both = await forwarding(good(ttl=0))
    for _ in range(3):
        assert (await both.asks())["ttls"] == [0]
    assert len(both.upstream.names()) == 3


async def test_a_failure_is_remembered(forwarding):
    """RFC 9520 3.2: for a second at least a failure is repeated, not tried again."""
    both = await forwarding(fake.failing(2))
    for _ in range(10):
        assert (await both.asks())["rcode"] == "SERVFAIL"
    assert len(both.upstream.names()) <= 2


async def test_old_answers_when_nobody_answers(forwarding):
    """RFC 8767 4 and 5: past its end, with 30 s and EDE 3."""
    both = await forwarding(good(ttl=1), forward_timeout_s=0.1)
    assert (await both.asks())["answer"] == [f"{WWW}. 1 A 192.0.2.1"]
    both.upstream.manner = fake.silent

    async def stale() -> bool:
        found = await both.asks()
        return (found["answer"], found["ede"]) == ([f"{WWW}. 30 A 192.0.2.1"], 3)

    await until(stale, "the old answer, marked")


async def test_who_may_not_is_refused_whatever_is_known(forwarding):
    """RFC 5358 4: recursion for listed networks only, looked at before any cache; our own names are everybody's."""
    both = await forwarding(recursion=("127.0.0.1/32",))
    message = edns(text=WWW, bits=RD)
    for _ in range(3):  # it is known now, and finished
        assert (await reply_to(both.server.at, "udp", message, source="127.0.0.1"))["answer"] == ANSWER
        refused = await reply_to(both.server.at, "udp", message, source="127.0.0.2")
        assert [refused[field] for field in ("rcode", "flags", "answer", "ede")] == ["REFUSED", "QR RD", [], 18]
    assert (await reply_to(both.server.at, "udp", edns(), source="127.0.0.2"))["rcode"] == "NOERROR"


async def test_nobody_may(forwarding):
    """`--recursion none` is no recursion, though there are forwarders."""
    both = await forwarding(recursion=("none",))
    assert (await both.asks())["rcode"] == "REFUSED"
    assert both.upstream.names() == []


async def test_our_names_when_others_are_silent(forwarding):
    """A dead forwarder holds up nobody who asks for a name of ours."""
    both = await forwarding(fake.silent, forward_timeout_s=0.5)
    waiting = asyncio.create_task(both.asks())
    for _ in range(20):
        assert (await both.asks("web.svc.internal"))["rcode"] == "NOERROR"
    assert not waiting.done()
    assert (await waiting)["rcode"] == "SERVFAIL"
