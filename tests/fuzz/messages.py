"""Targets that come over the network: from clients, and from name servers that we ask."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.rrset

from dnsserver.aging import Clock
from dnsserver.cookies import Cookies
from dnsserver.forwarding import upstream
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.recursion import Recursion
from dnsserver.guests import Guests
from dnsserver.message import dname, wire, writer
from dnsserver.message.frames import BadFrame, Frames, framed
from dnsserver.message.rr import Data, Record, Type
from dnsserver.message.wire import Ede, Rcode, Reply
from dnsserver.outside import Asked, Outcome
from dnsserver.transport.later import Wanted
from tests.dnsserver import hostile
from tests.dnsserver.hostile import HEADER, ODD, filled
from tests.dnsserver.rows import DOMAIN, asks, edns, head, opt, option, query

# --- messages of clients


def odd() -> Iterator[bytes]:
    yield from ODD.values()


def responder(*, tcp: bool) -> Callable[[bytes], None]:
    world = filled()
    told = hostile.told_others(world, 6)

    def run(data: bytes) -> None:
        first, again = hostile.check(world, data, tcp=tcp), hostile.check(world, data, tcp=tcp)
        assert (first is None) == (again is None)
        assert first is None or (len(first), first[:HEADER]) == (len(again or b""), (again or b"")[:HEADER])
        assert hostile.told_others(world, 6) == told, "others are told something else now"

    return run


def options() -> Iterator[bytes]:
    for message in ODD.values():
        at = message.find(b"\x00\x00\x29")
        if at > 0:
            yield message[at + 11 :]
    yield b"".join(option(code, bytes(code)) for code in range(20))


def edns_options() -> Callable[[bytes], None]:
    world = filled()

    def run(data: bytes) -> None:
        for tcp in (False, True):
            reply = hostile.check(world, head(ar=1) + asks() + opt(data[:65535]), tcp=tcp)
            if reply is not None:
                rcode = dns.message.from_wire(reply).rcode().name
                assert rcode in {"NOERROR", "FORMERR"}, rcode

    return run


def streams() -> Iterator[bytes]:
    messages = list(ODD.values())
    for at in range(0, len(messages) - 4, 4):
        yield bytes((at % 256,)) + b"".join(framed(message) for message in messages[at : at + 4])


def frames() -> Callable[[bytes], None]:
    def taken(pieces: list[bytes]) -> tuple[list[bytes], bool]:
        frames, got = Frames(), []
        try:
            for piece in pieces:
                frames.feed(piece)
                while (message := frames.take()) is not None:
                    got.append(message)
        except BadFrame:
            return got, True
        return got, False

    def run(data: bytes) -> None:
        size, stream = 1 + (data[0] if data else 0), data[1:]
        whole = taken([stream])
        assert whole == taken([stream[at : at + size] for at in range(0, len(stream), size)])
        assert b"".join(framed(message) for message in whole[0]) == stream[: sum(2 + len(one) for one in whole[0])]

    return run


# --- messages of name servers that we ask

ASKED = Asked(dname.from_text("www.example.com"), Type.A)
SECTION = upstream.question(ASKED.name, ASKED.type)


def replies() -> Iterator[bytes]:
    rows = [
        ["www.example.com. 60 IN A 192.0.2.1", "www.example.com. 60 IN A 192.0.2.2"],
        ["www.example.com. 60 IN CNAME a.example.com.", "a.example.com. 5 IN CNAME b.example.net.",
         "b.example.net. 7 IN A 192.0.2.3"],
        ["b.example.net. 7 IN A 192.0.2.3", "www.example.com. 60 IN CNAME b.example.net."],
        ["www.example.com. 60 IN CNAME www.example.com."],
        ["example.com. 60 IN DNAME example.net.", "www.example.com. 60 IN CNAME www.example.net."],
        ["www.example.com. 60 IN TXT \"a\" \"b\"", "www.example.com. 60 IN MX 1 m.example.com.",
         "www.example.com. 60 IN SRV 1 2 3 s.example.com.", "www.example.com. 60 IN NS n.example.com.",
         "www.example.com. 60 IN PTR p.example.com.", "www.example.com. 60 IN RP a.b. c.d.",
         "www.example.com. 60 IN NAPTR 1 2 \"S\" \"SIP+D2U\" \"\" x.example.com.",
         "www.example.com. 60 IN CAA 0 issue \"ca\"", "www.example.com. 60 IN HTTPS 1 . alpn=h2",
         "www.example.com. 60 IN AAAA 2001:db8::1", "www.example.com. 60 IN HINFO \"a\" \"b\""],
        [],
    ]  # fmt: skip
    for rcode in (0, 3, 2):
        for answer in rows:
            message = dns.message.make_response(dns.message.make_query("www.example.com.", "A", use_edns=0, id=0))
            message.set_rcode(rcode)
            message.flags |= dns.flags.RA
            message.answer = [dns.rrset.from_text(*_row(row)) for row in answer]
            if not answer:
                soa = "example.com. 60 IN SOA ns.example.com. hm.example.com. 1 2 3 4 5"
                message.authority = [dns.rrset.from_text(*_row(soa))]
            yield b"\0" + message.to_wire()
            yield b"\1" + message.to_wire()[HEADER + len(SECTION) :]


def _row(text: str) -> tuple[str, int, str, str, str]:
    owner, ttl, klass, rtype, data = text.split(" ", 4)
    return owner, int(ttl), klass, rtype, data


def upstream_reader() -> Callable[[bytes], None]:
    asked = wire.read(struct.pack("!6H", 0, 0x0100, 1, 0, 0, 0) + SECTION)

    def run(data: bytes) -> None:
        message, how = data[1:], data[0] if data else 0
        if how & 1:  # behind a head and question that are right; the counts come from the octets too
            counts = message[:3].ljust(3, b"\0")
            message = struct.pack("!6H", 0, 0x8180, 1, *counts) + SECTION + message[3:]
        try:
            said = upstream.read(message, 0, SECTION, ASKED, exact=bool(how & 2), tcp=bool(how & 4))
        except upstream.BadReply:
            return
        reply = said.reply
        written = writer.write(asked, reply, wire.MAX_TCP)
        read = dns.message.from_wire(b"\0\0" + written.body, one_rr_per_rrset=True)
        assert len(read.answer) == len(reply.answer) or read.flags & dns.flags.TC
        at = ASKED.name
        for one in reply.answer[: reply.fence]:
            assert dname.is_under(at, one.owner), "an alias off the chain"
            at = one.data.names[0].lower() if one.type == Type.CNAME else at
        assert all(dname.is_under(at, one.owner) or one.owner == at for one in reply.answer[reply.fence :])

    return run


# --- messages that others must be asked about

CLIENT = b"\x7f\0\0\1"
MAX_ROUNDS = 40  # of questions to others, for one message


def abroad() -> Iterator[bytes]:
    for message in ODD.values():
        yield b"\0" + message
    for at, name in enumerate(("www.example.com", "x.test", "1.0.0.10.in-addr.arpa", f"away.{DOMAIN}")):
        yield bytes((at,)) + query(name, flags=wire.RD)
        yield bytes((at + 4,)) + edns(text=name, bits=wire.RD, flags=0x8000)


def elsewhere() -> Callable[[bytes], None]:
    clock = Clock(1000.0, 1_700_000_000.0)
    cache = ForwardCache(100, 60.0)
    recursion = Recursion(cache, LoopProbes("0" * 32), clock, ndots=0, servers=True)
    guests = hostile.guests()
    world = filled(recursion, Guests(guests.policy, Cookies(bytes(16)), clock=clock))
    world.skydns(
        {"internal/svc/away": {"host": "www.example.com"}, "internal/svc/chained": {"host": "away.svc.internal"}}
    )
    responder = world.responder

    def run(data: bytes) -> None:
        how, message = data[0] if data else 0, data[1:]
        for tcp in (False, True):
            told = responder.tcp(message, CLIENT) if tcp else responder.udp(message, CLIENT)
            known: dict[Asked, Outcome] = {}
            for _ in range(MAX_ROUNDS):
                if not isinstance(told, Wanted):
                    break
                known |= {asked: _outcome(asked, how, clock.now) for asked in told.lookups}
                told = responder.resume(told, known)
            if isinstance(told, Wanted):
                told = responder.give_up(told)
            assert told is None or isinstance(told, bytes)
            hostile.check_reply(message, told, tcp=tcp, recursive=True)
        clock.now += how % 4

    return run


def _outcome(asked: Asked, how: int, now: float) -> Outcome:
    """What others said: addresses, aliases, nothing, too much, or that they failed."""
    owner, other = asked.name, dname.from_text("other.example.net")
    addresses = [Record(owner, Type.A, 5, Data(bytes((192, 0, 2, at)))) for at in range(3 if how & 8 else 200)]
    replies = (
        Reply(Rcode.NOERROR, answer=addresses, recursion=True),
        Reply(Rcode.NXDOMAIN, recursion=True),
        Reply(Rcode.SERVFAIL, ede=Ede.NO_REACHABLE_AUTHORITY, recursion=True),
        Reply(
            Rcode.NOERROR,
            answer=(Record(owner, Type.CNAME, 9, Data(b"", (other,))), Record(other, Type.A, 5, Data(bytes(4)))),
            fence=1,
            recursion=True,
            authentic=True,
        ),
    )
    return Outcome(replies[how % len(replies)], now, now + how % 3)
