"""What is fuzzed: for each target some good inputs to begin with, and a function that must stand any octets.

A function returns for every input, or raises: then the input is a finding. What the code promises about its inputs and
outputs is asserted here, with dnspython as the second opinion on every message that leaves.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.rrset

from dnsserver import dname, upstream, wire
from dnsserver.frames import BadFrame, Frames, framed
from dnsserver.outside import Asked
from dnsserver.rr import Type
from pilotfish.catalog import keys, record, snapshot
from pilotfish.catalog.record import BadRecord, Claim, Container, Node, Proxy
from pilotfish.catalog.route import Place
from pilotfish.catalog.snapshot import BadSnapshot, Snapshot
from pilotfish.catalog.store import Entry
from tests.dnsserver import hostile
from tests.dnsserver.hostile import HEADER, ODD, filled
from tests.dnsserver.kit import World, key_of
from tests.dnsserver.rows import DOMAIN, FOREIGN, RECORDS, asks, head, opt, option, query

Run = Callable[[bytes], None]


class Target(NamedTuple):
    """One thing to fuzz.

    Attributes:
        seeds: good inputs to begin with.
        make: gives the function that takes inputs; what it builds once is kept in it.
    """

    seeds: Callable[[], Iterator[bytes]]
    make: Callable[[], Run]


# --- messages of clients


def _messages() -> Iterator[bytes]:
    yield from ODD.values()


def _responder(*, tcp: bool) -> Run:
    world = filled()

    def run(data: bytes) -> None:
        first, again = hostile.check(world, data, tcp=tcp), hostile.check(world, data, tcp=tcp)
        assert (first is None) == (again is None)
        assert first is None or (len(first), first[:HEADER]) == (len(again or b""), (again or b"")[:HEADER])

    return run


def _options() -> Iterator[bytes]:
    for message in ODD.values():
        at = message.find(b"\x00\x00\x29")
        if at > 0:
            yield message[at + 11 :]
    yield b"".join(option(code, bytes(code)) for code in range(20))


def _edns() -> Run:
    world = filled()

    def run(data: bytes) -> None:
        for tcp in (False, True):
            reply = hostile.check(world, head(ar=1) + asks() + opt(data[:65535]), tcp=tcp)
            if reply is not None:
                rcode = dns.message.from_wire(reply).rcode().name
                assert rcode in {"NOERROR", "FORMERR"}, rcode

    return run


def _streams() -> Iterator[bytes]:
    messages = list(ODD.values())
    for at in range(0, len(messages) - 4, 4):
        yield bytes((at % 256,)) + b"".join(framed(message) for message in messages[at : at + 4])


def _frames() -> Run:
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


# --- what stands in the store

TYPES = ("A", "AAAA", "SRV", "TXT", "MX", "CNAME", "NS", "PTR", "CAA", "NAPTR", "HTTPS", "SVCB", "ANY")


def _asked(world: World, *names: str) -> None:
    for text in names:
        for rtype in TYPES:
            reply = hostile.check(world, query(text, rtype), tcp=True)
            assert dns.message.from_wire(reply).rcode().name in {"NOERROR", "NXDOMAIN", "SERVFAIL"}


def _skydns_values() -> Iterator[bytes]:
    yield from (value.encode() for value in FOREIGN.values() if len(value) < 200)
    said = [
        {"host": "10.0.0.1", "port": 80, "priority": 1, "weight": 5, "text": "t", "ttl": 5, "group": "g"},
        {"host": "mail.example.com", "mail": True, "priority": 10},
        {"host": "fe80::1%eth0", "targetstrip": 1},
        {"HOST": "::ffff:10.0.0.1", "Port": 65535, "Weight": 2147483647},
        {"pilotfish": "h1", "host": "10.0.0.1"},
        {"host": ""},
        {"host": None, "text": 'a\\b"c\u2028'},
        {"type": "CAA", "flags": 0, "tag": "issue", "value": "ca.example"},
        {"caa": [{"flag": 0, "tag": "issue", "value": "ca.example"}]},
        {
            "naptr": [
                {"order": 1, "preference": 1, "flags": "S", "service": "SIP+D2U", "regexp": "", "replacement": "x."}
            ]
        },
        [],
        0,
    ]
    yield from (json.dumps(one).encode() for one in said)


def _small() -> World:
    """Little enough for a wildcard to be asked with each input."""
    world = World()
    world.put(*(one for one, place in RECORDS[:1] if place is None))
    world.skydns({"internal/svc/alias": FOREIGN["alias"], "internal/svc/dear/1": FOREIGN["dear/1"]})
    return world


def _foreign() -> Run:
    world = _small()
    key = "/skydns/internal/svc/fuzzed/one"
    names = (f"fuzzed.{DOMAIN}", f"one.fuzzed.{DOMAIN}", f"*.{DOMAIN}")

    def run(data: bytes) -> None:
        world._apply({key: data}, foreign=True)
        _asked(world, *names)
        world.skydns_gone(key.removeprefix("/skydns/"))
        assert key not in world.responder.zone.foreign.refused
        assert dns.message.from_wire(world.send(query(names[1])) or b"").rcode().name == "NXDOMAIN"

    return run


def _keys() -> Iterator[bytes]:
    yield from (key_of(one, place).encode() for one, place in RECORDS)
    yield from (f"/skydns/internal/svc/{key}".encode() for key in FOREIGN if "big" not in key)
    yield from (b"/skydns/config", b"/skydns/internal/svc/dns/ns/1", b"/skydns/internal/svc/*/x", b"/skydns//x/", b"/")
    yield f"/skydns/internal/svc/{'a' * 63}/{'b' * 64}".encode()
    yield "/skydns/internal/svc/bücher/\0/x.y".encode()


def _key() -> Run:
    world = _small()

    def run(data: bytes) -> None:
        key = data.decode(errors="replace")
        parsed = keys.parse(key)
        assert parsed is None or key.startswith(keys.ROOT)
        below = f"/skydns/internal/svc/{key}"
        for one in (key, below) if key.startswith("/skydns/") else (below,):
            world._apply({one: b'{"host": "10.9.9.9", "port": 9}'}, foreign=True)
            _asked(world, f"*.{DOMAIN}", DOMAIN)
            world._apply({}, [one], foreign=True)
        world._apply({key: b"{}"})
        world._apply({}, [key])

    return run


KINDS = (Container, Node, Proxy, Claim)


def _records() -> Iterator[bytes]:
    for one, _ in RECORDS:
        yield bytes((KINDS.index(type(one)),)) + record.encode(one)
    yield b"\3" + record.encode(Claim(service="site", since=1.0))


def _record() -> Run:
    world = filled()

    def run(data: bytes) -> None:
        kind, value = KINDS[data[0] % len(KINDS)] if data else Container, data[1:]
        try:
            found: Any = record.decode(kind, value)
        except BadRecord:
            return
        assert record.decode(kind, record.encode(found)) == found
        assert record.decode(kind, record.encode(found, keeping=value)) == found
        key = key_of(found, Place(f"fuzzed.{DOMAIN}", "/"))
        world.raw(key, value)
        _asked(world, *_names_of(found), DOMAIN)
        world._apply({}, [key])

    return run


def _names_of(found: Container | Node | Proxy | Claim) -> list[str]:
    if isinstance(found, Container):
        behind = [text for one in found.endpoints[:3] for text in (one.service, f"{one.label}.{one.service}")]
        return [f"{text}.{DOMAIN}" for text in behind if _is_name(f"{text}.{DOMAIN}")]
    return [f"{found.node}.node.{DOMAIN}"] if isinstance(found, Node | Proxy) else [f"fuzzed.{DOMAIN}"]


def _is_name(text: str) -> bool:
    try:
        dname.from_text(text)
    except dname.BadName:
        return False
    return True


def _snapshots() -> Iterator[bytes]:
    entries = tuple(Entry(f"/a/{at}", b"x" * at, 1, 2, 0) for at in range(5))
    for held in (entries, entries[:1], ()):
        whole = snapshot.encode(Snapshot("c", 5, 1.0, ("/a/",), held))
        yield b"\0" + whole
        yield b"\1" + whole[snapshot.HEADER_SIZE :]


def _snapshot() -> Run:
    def run(data: bytes) -> None:
        whole = data[1:]
        if data[:1] == b"\1":  # with a head and checksum that are right, so that the body is looked at
            start = snapshot._HEAD.pack(snapshot.MAGIC, snapshot.FORMAT, len(whole))
            whole = start + snapshot._digest(start, whole) + whole
        try:
            found = snapshot.decode(whole)
        except BadSnapshot:
            return
        assert snapshot.decode(snapshot.encode(found)) == found

    return run


# --- messages of name servers that we ask

ASKED = Asked(dname.from_text("www.example.com"), Type.A)
SECTION = upstream.question(ASKED.name, ASKED.type)


def _replies() -> Iterator[bytes]:
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


def _upstream() -> Run:
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
        written = wire.write(asked, reply, wire.MAX_TCP)
        read = dns.message.from_wire(b"\0\0" + written.body, one_rr_per_rrset=True)
        assert len(read.answer) == len(reply.answer) or read.flags & dns.flags.TC
        at = ASKED.name
        for one in reply.answer[: reply.fence]:
            assert dname.is_under(at, one.owner), "an alias off the chain"
            at = one.data.names[0].lower() if one.type == Type.CNAME else at
        assert all(dname.is_under(at, one.owner) or one.owner == at for one in reply.answer[reply.fence :])

    return run


TARGETS: dict[str, Target] = {
    "udp": Target(_messages, lambda: _responder(tcp=False)),
    "tcp": Target(_messages, lambda: _responder(tcp=True)),
    "edns": Target(_options, _edns),
    "frames": Target(_streams, _frames),
    "foreign": Target(_skydns_values, _foreign),
    "key": Target(_keys, _key),
    "record": Target(_records, _record),
    "snapshot": Target(_snapshots, _snapshot),
    "upstream": Target(_replies, _upstream),
}
