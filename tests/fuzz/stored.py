"""Targets that stand in the store or on disk: records of others, keys, our own records, snapshots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rrset

from dnsserver import assembly
from dnsserver.aging import Clock
from dnsserver.assembly import Here
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.message import dname
from dnsserver.responder import Data
from dnsserver.settings import DnsSettings
from dnsserver.skydns import config as skydns_config
from pilotfish.catalog import keys, record, snapshot
from pilotfish.catalog.record import BadRecord, Claim, Container, Node, Proxy
from pilotfish.catalog.route import Place
from pilotfish.catalog.snapshot import BadSnapshot, Snapshot
from pilotfish.catalog.store import Entry
from tests.dnsserver import hostile
from tests.dnsserver.hostile import filled
from tests.dnsserver.kit import World, key_of
from tests.dnsserver.rows import DOMAIN, FOREIGN, RECORDS, query

TYPES = ("A", "AAAA", "SRV", "TXT", "MX", "CNAME", "NS", "PTR", "CAA", "NAPTR", "HTTPS", "SVCB", "ANY")


def _asked(world: World, *names: str) -> None:
    for text in names:
        for rtype in TYPES[:3] if "*" in text else TYPES:
            reply = hostile.check(world, query(text, rtype), tcp=True)
            assert dns.message.from_wire(reply).rcode().name in {"NOERROR", "NXDOMAIN", "SERVFAIL"}


def skydns_values() -> Iterator[bytes]:
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


def foreign() -> Callable[[bytes], None]:
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


def store_keys() -> Iterator[bytes]:
    yield from (key_of(one, place).encode() for one, place in RECORDS)
    yield from (f"/skydns/internal/svc/{key}".encode() for key in FOREIGN if "big" not in key)
    yield from (b"/skydns/config", b"/skydns/internal/svc/dns/ns/1", b"/skydns/internal/svc/*/x", b"/skydns//x/", b"/")
    yield f"/skydns/internal/svc/{'a' * 63}/{'b' * 64}".encode()
    yield "/skydns/internal/svc/bücher/\0/x.y".encode()


def key() -> Callable[[bytes], None]:
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


def records() -> Iterator[bytes]:
    for one, _ in RECORDS:
        yield bytes((KINDS.index(type(one)),)) + record.encode(one)
    yield b"\3" + record.encode(Claim(service="site", since=1.0))


def stored_record() -> Callable[[bytes], None]:
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


def configs() -> Iterator[bytes]:
    said = [
        {"domain": "example.test.", "ttl": 60, "min_ttl": 5, "priority": 20, "round_robin": False, "ndots": 2},
        {"nameservers": ["192.0.2.1:53", "[2001:db8::1]:53"], "no_rec": True, "hostmaster": "me@example.test"},
        {"local": "h1.example.test", "dns_addr": "127.0.0.1:53", "no-rec": True, "Domain": "", "ttl": -1},
        {"hostmaster": "a.b@" + "c" * 70, "ndot": "1", "nameservers": "192.0.2.1", "domain": ["a"]},
        [],
        None,
    ]
    yield from (json.dumps(one).encode() for one in said)


def config() -> Callable[[bytes], None]:
    here = Here(Clock(1.0, 1_700_000_000.0), bytes(16))
    former, _ = skydns_config.read(b'{"domain": "former.test", "ttl": 7, "hostmaster": "x@former.test"}')
    made = assembly.responder(DnsSettings(), here, ForwardCache(10, 1.0), LoopProbes("0" * 32))
    made.set_data(Data.FRESH)

    def run(data: bytes) -> None:
        found, notices = skydns_config.read(data, former)
        assert all(len(line) < 1000 for line in notices)
        settings, _ = skydns_config.merged(DnsSettings(), found)
        made.set_zone(assembly.names(settings, here))
        assembly.retune(made, settings, here, found.priority)
        for rtype in ("SOA", "A"):
            message = query(settings.domain[0], rtype)
            hostile.check_reply(message, made.tcp(message), tcp=True, recursive=True)

    return run


def snapshots() -> Iterator[bytes]:
    entries = tuple(Entry(f"/a/{at}", b"x" * at, 1, 2, 0) for at in range(5))
    for held in (entries, entries[:1], ()):
        whole = snapshot.encode(Snapshot("c", 5, 1.0, ("/a/",), held))
        yield b"\0" + whole
        yield b"\1" + whole[snapshot.HEADER_SIZE :]


def stored_snapshot() -> Callable[[bytes], None]:
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
