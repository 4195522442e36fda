"""Stub zones: zones whose name servers are written under stub.dns of a domain of ours.

Pure. The record of `a.example.org.stub.dns.<domain>` is one name server for example.org: its first label only tells it
from others. Only addresses count. As in SkyDNS they go before what we know ourselves; of two zones the longer counts,
and a domain of ours counts like a zone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from dnsserver.message import dname
from dnsserver.own.domain import Domain
from dnsserver.skydns.foreign import Foreign
from dnsserver.skydns.record import Found

DNS_PORT = 53
STUB = b"\x04stub\x03dns"

Servers = tuple[tuple[str, int], ...]


class Stubs:
    """Name servers by zone. Tell it which names changed."""

    def __init__(self, domains: Sequence[Domain], foreign: Foreign) -> None:
        self.ignored: dict[bytes, str] = {}  # name -> why its record is no name server of a stub zone
        self._domains = frozenset(domain.name for domain in domains)
        self._tops = tuple(STUB + domain.name for domain in domains)
        self._foreign = foreign
        self._servers: dict[bytes, Servers] = {}
        self._above: set[bytes] = set()  # the zones, and all names above them

    def __len__(self) -> int:
        return len(self._servers)

    def of(self, lower: bytes) -> Servers:
        """Name servers, address and port, for a name in lower case; (): it is in no stub zone."""
        if self._servers:
            for ancestor in dname.suffixes(lower):
                if ancestor in self._servers:
                    return self._servers[ancestor]
                if ancestor in self._domains:
                    break
        return ()

    def lead_through(self, lower: bytes) -> bool:
        """True when there is a stub zone at or below a name in lower case."""
        return lower in self._above

    def update(self, changed: Iterable[bytes]) -> frozenset[bytes]:
        """Look at names in lower case whose records changed; returns the zones that have other servers now."""
        zones = set()
        for name in changed:
            self.ignored.pop(name, None)
            for top in self._tops:
                if name != top and dname.is_under(name, top):
                    zones.add(_zone_of(name, top))
                    self._judge(name, _zone_of(name, top))
        renewed = frozenset(zone for zone in zones if self._renew(zone))
        if renewed:
            self._above = {ancestor for zone in self._servers for ancestor in dname.suffixes(zone)}
        return renewed

    def _judge(self, name: bytes, zone: bytes) -> None:
        if not self._foreign.at(name):
            return
        if zone == dname.ROOT:
            self.ignored[name] = "names no zone"
        elif zone in self._domains:
            self.ignored[name] = f"{dname.to_text(zone)} is our own domain"
        elif any(one.address is None for one in self._foreign.at(name)):
            self.ignored[name] = "the host of a stub zone's name server must be an address"

    def _renew(self, zone: bytes) -> bool:
        before = self._servers.pop(zone, ())
        found = self._found(zone) if zone != dname.ROOT and zone not in self._domains else ()
        if found:
            self._servers[zone] = found
        return found != before

    def _found(self, zone: bytes) -> Servers:
        records = [one for top in self._tops for one in self._foreign.right_below(zone[:-1] + top)]
        return tuple(dict.fromkeys(_server(one) for one in records if one.address is not None))


def _server(found: Found) -> tuple[str, int]:
    if found.address is None:
        raise TypeError(f"{found.key} has no address")
    return str(ipaddress.ip_address(found.address[1].head)), found.said.port or DNS_PORT


def _zone_of(name: bytes, top: bytes) -> bytes:
    return dname.parent(name)[: -len(top)] + dname.ROOT
