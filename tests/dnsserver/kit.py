"""Builders and a second opinion for the tests of the DNS server.

`World` is the server without sockets: records go in as they stand in the store, questions as octets, and every answer
is read by dnspython before a test sees it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnsserver import answer
from dnsserver import zone as zones
from dnsserver.access import Clients
from dnsserver.answer import Answered, Authority
from dnsserver.case import Outside
from dnsserver.forwarding.recursion import Recursion
from dnsserver.guests import Guests, Policy
from dnsserver.message import dname, rr, wire, writer
from dnsserver.message.wire import Rcode, Reply
from dnsserver.own.index import OwnNames
from dnsserver.responder import Data, Responder
from dnsserver.skydns.foreign import Foreign
from dnsserver.zone import Zone
from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Address, Claim, Container, Endpoint, Node, Proxy, Record, encode
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.store import Entry

DOMAIN = "svc.internal"


def lan(ip: str, port: int = 80) -> Address:
    return Address(ip, port, "lan")


def endpoint(
    service: str, port: int, *addresses: Address, host: str = "h1", name: str = "c", **fields: Any
) -> Endpoint:
    """A passing endpoint; its id and label are those that a registrator would give."""
    protocol = fields.get("protocol", "tcp")
    endpoint_id = fields.pop("id", f"{host}:{name}:{port}" + (":udp" if protocol == "udp" else ""))
    label = fields.pop("label", endpoint_id.lower().replace(":", "-"))
    fields.setdefault("state", "passing")
    return Endpoint(service=service, id=endpoint_id, label=label, port=port, addresses=addresses, **fields)


def container(number: int, *endpoints: Endpoint, host: str = "h1", observed: float = 1.0) -> Container:
    return Container(
        node=host,
        id=f"{number:012x}",
        name=f"c{number}",
        image="x",
        started=1.0,
        observed=observed,
        endpoints=endpoints,
    )


def node(name: str, *addresses: str) -> Node:
    return Node(node=name, addresses=addresses, boot="b", engine="e", instance="i", version="1")


def proxy(name: str, *addresses: str, http: int = 80, https: int = 443, **fields: Any) -> Proxy:
    return Proxy(node=name, addresses=addresses, http_port=http, https_port=https, **fields)


def http(*hosts: str, **fields: Any) -> Route:
    return Route(scheme="http", hosts=hosts, **fields)


def key_of(record: Record, place: Place | None = None) -> str:
    match record:
        case Container():
            return keys.container_key(record.node, record.id)
        case Node():
            return keys.node_key(record.node)
        case Proxy():
            return keys.proxy_key(record.node)
        case Claim():
            assert place is not None
            return keys.claim_key(place)


@dataclass(frozen=True)
class Said:
    """An answer in words that tests compare: names and data as dnspython prints them."""

    rcode: str
    flags: frozenset[str]
    answer: list[str]
    authority: list[str]
    additional: list[str]
    ede: int | None
    edns: bool
    size: int

    @property
    def sorted(self) -> list[str]:
        return sorted(self.answer)


def said(wire: bytes) -> Said:
    """Read a reply with dnspython; raises what it raises."""
    message = dns.message.from_wire(wire)
    codes = [option.code for option in message.options if hasattr(option, "code")]
    return Said(
        dns.rcode.to_text(message.rcode()),
        frozenset(dns.flags.to_text(message.flags).split()),
        rows(message.answer),
        rows(message.authority),
        rows(message.additional),
        int(codes[0]) if codes else None,
        message.edns >= 0,
        len(wire),
    )


def rows(rrsets: Iterable[Any]) -> list[str]:
    return [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}"
        for rrset in rrsets
        for rdata in rrset
    ]


def question(name: str, rtype: str = "A", **options: Any) -> bytes:
    """A query as octets; `options` as dns.message.make_query takes them."""
    return dns.message.make_query(dns.name.from_text(name), rtype, **options).to_wire()


class Others:
    """What others say: rows as `said` gives them, by name and type; or a code; not known: they must be asked."""

    def __init__(self, says: Mapping[tuple[str, str], list[str] | Rcode]) -> None:
        self.says = {(dns.name.from_text(name).to_wire(), dns.rdatatype.from_text(rtype)): found
                     for (name, rtype), found in says.items()}  # fmt: skip
        self.asked: list[tuple[str, str]] = []

    def find(self, name: bytes, rtype: int) -> Reply | None:
        self.asked.append((dname.to_text(name), dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype))))
        found = self.says.get((name, rtype))
        if found is None:
            return None
        if isinstance(found, Rcode):
            return Reply(found)
        rows = [record_of(row) for row in found]
        soas = [row for row in rows if row.type == dns.rdatatype.SOA]
        rcode = Rcode.NXDOMAIN if soas and soas[0].ttl == NO_SUCH_NAME else Rcode.NOERROR
        return Reply(rcode, answer=[row for row in rows if row not in soas], authority=soas)


NO_SUCH_NAME = 77  # TTL of a SOA that makes a reply of `Others` NXDOMAIN


def record_of(row: str) -> rr.Record:
    """A record from `owner ttl type data`."""
    owner, ttl, rtype, data = row.split(" ", 3)
    rdata = dns.rdata.from_text("IN", rtype, data)
    kind = dns.rdatatype.from_text(rtype)
    if kind == dns.rdatatype.CNAME:
        return rr.Record(dname.from_text(owner), kind, int(ttl), rr.pointing(rdata.target.to_wire()))
    return rr.Record(dname.from_text(owner), kind, int(ttl), rr.Data(rdata.to_wire()))


class World:
    """A responder and the store that feeds it."""

    def __init__(
        self,
        domains: tuple[str, ...] = (DOMAIN,),
        *,
        ttl: int = 3600,
        negative_ttl: int = 2,
        node: str = "",
        guests: Guests | None = None,
        recursion: Recursion | None = None,
        exact: bool = False,
        local: str = "",
        transfers: bool = False,
    ) -> None:
        listed = [zones.domain(text) for text in domains]
        own = OwnNames(listed, "proxy", node=node)
        zone = Zone(listed, own, Foreign("/skydns", ttl, exact=exact), dname.from_text(local) if local else b"")
        if transfers:
            guests = Guests(Policy(transfers=Clients(("127.0.0.1/32",))))
        self.responder = Responder(zone, negative_ttl, guests, recursion)
        self.responder.set_data(Data.FRESH)
        self.revision = 0
        self._ids = itertools.count(1)

    def put(self, *records: Record, place: Place | None = None) -> int:
        """Put records in one transaction; returns how many finished answers went."""
        return self._apply({key_of(record, place): encode(record) for record in records})

    def claim(self, service: str, host: str, path: str = "/") -> int:
        return self.put(Claim(service=service, since=1.0), place=Place(host, path))

    def remove(self, *records: Record, place: Place | None = None) -> int:
        return self._apply({}, [key_of(record, place) for record in records])

    def skydns(self, records: Mapping[str, object], *, lease: int = 0) -> int:
        """Put foreign records: key below /skydns/ -> value, as JSON unless it is text."""
        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in records.items()}
        puts = {f"/skydns/{key}": value.encode() for key, value in values.items()}
        return self._apply(puts, foreign=True, lease=lease)

    def skydns_gone(self, *below: str) -> int:
        return self._apply({}, [f"/skydns/{key}" for key in below], foreign=True)

    def raw(self, key: str, value: bytes) -> int:
        return self._apply({key: value})

    def raw_gone(self, *gone: str) -> int:
        return self._apply({}, gone)

    def _apply(
        self, puts: Mapping[str, bytes], deletes: Iterable[str] = (), *, foreign: bool = False, lease: int = 0
    ) -> int:
        self.revision += 1
        entries = tuple(Entry(key, puts[key], 1, self.revision, lease) for key in sorted(puts))
        difference = Difference(self.revision, entries, tuple(sorted(deletes)))
        return (self.responder.apply_foreign if foreign else self.responder.apply_own)(difference)

    def ask(self, name: str, rtype: str = "A", *, tcp: bool = False, **options: Any) -> Said:
        wire = question(name if name.endswith(".") else f"{name}.", rtype, **options)
        reply = (self.responder.tcp if tcp else self.responder.udp)(wire)
        assert reply is not None
        assert reply[:2] == wire[:2]
        return said(reply)

    def with_forwarder(self, name: str, rtype: str = "A", others: Outside | None = None) -> Said:
        """What is answered over TCP when there is a forwarder, and others say this."""
        query = wire.read(question(name if name.endswith(".") else f"{name}.", rtype))
        told = self.answered(name, rtype, others or Others({}))
        assert told.lookups == ()
        return said(b"\0\0" + writer.write(query, told.reply, wire.MAX_TCP).body)

    def answered(self, name: str, rtype: str = "A", others: Outside | None = None) -> Answered:
        """The answer as a value, with what it depends on."""
        authority = Authority(self.revision, 2)
        wanted = dns.name.from_text(name).to_wire()
        return answer.answer(self.responder.zone, wanted, dns.rdatatype.from_text(rtype), authority, others)

    def send(self, message: bytes, *, tcp: bool = False) -> bytes | None:
        return (self.responder.tcp if tcp else self.responder.udp)(message)
