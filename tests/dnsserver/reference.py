"""A small authoritative lookup over zones that dnspython read: RFC 1034 §4.3.2 with RFC 4592, made for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import dns.name
import dns.node
import dns.rdataset
import dns.rdatatype
import dns.zone

Row = tuple[str, str, str]  # owner, type, data
ADDRESSES = ("A", "AAAA")
MAX_CHAIN = 8


class Says(NamedTuple):
    """What a name server must say.

    Attributes:
        rcode: in words.
        answer: what must be in the answer section, nothing else may be.
        ttl: the lowest TTL among it.
        glue: addresses of the names that the answer points at.
        leads_nowhere: the answer is aliases that end without the data that was asked for.
    """

    rcode: str
    answer: frozenset[Row] = frozenset()
    ttl: int = 0
    glue: frozenset[Row] = frozenset()
    leads_nowhere: bool = False


class Reference:
    """Answers questions about some zones.

    Args:
        texts: name of a zone -> its file.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._zones = {
            dns.name.from_text(origin): dns.zone.from_text(text, origin, relativize=False, check_origin=False)
            for origin, text in texts.items()
        }
        self._existing = {
            ancestor
            for origin, zone in self._zones.items()
            for name in zone.nodes
            for ancestor in _ancestors(name)
            if ancestor.is_subdomain(origin)
        }

    @property
    def names(self) -> list[str]:
        """Every name that exists; wildcards as they stand in the zone."""
        return sorted(name.to_text() for name in self._existing)

    @property
    def held(self) -> list[tuple[str, str]]:
        """Every name with each type that it has."""
        return sorted(
            (name.to_text(), dns.rdatatype.to_text(rdataset.rdtype))
            for zone in self._zones.values()
            for name, node in zone.nodes.items()
            for rdataset in node.rdatasets
        )

    def rows(self, origin: str) -> list[tuple[str, str, int, str]]:
        """All records of a zone: owner, type, TTL, data."""
        return [
            (owner, rtype, rdataset.ttl, data)
            for name, node in self._zones[dns.name.from_text(origin)].nodes.items()
            for rdataset in node.rdatasets
            for owner, rtype, data in _rows(name, rdataset)
        ]

    def exists(self, text: str) -> bool:
        """True for a name with data or with names below it, or one that a wildcard makes."""
        return self._node(dns.name.from_text(text.lower())) is not None

    def owner(self, text: str) -> str:
        """The name whose records answer for a name: itself, or the wildcard that makes it."""
        name = dns.name.from_text(text.lower())
        if name in self._existing:
            return text
        encloser = next((ancestor for ancestor in _ancestors(name) if ancestor in self._existing), None)
        star = dns.name.Name((b"*", *encloser.labels)) if encloser else None
        return star.to_text(omit_final_dot=True) if star in self._existing else text

    def holds(self, owner: str, rtype: str, data: str) -> bool:
        """True when a record is in a zone, or made by a wildcard."""
        node = self._node(dns.name.from_text(owner))
        rdataset = node.get_rdataset(1, dns.rdatatype.from_text(rtype)) if node else None
        return rdataset is not None and any(rdata.to_text().lower() == data for rdata in rdataset)

    def says(self, text: str, rtype: str) -> Says:
        """The answer to a question about a name in one of the zones."""
        name, kind, answer = dns.name.from_text(text.lower()), dns.rdatatype.from_text(rtype), []
        for _ in range(MAX_CHAIN + 1):
            node = self._node(name)
            if node is None:
                return self._said("NXDOMAIN", answer, nowhere=True)  # RFC 6604 §3
            alias, found = node.get_rdataset(1, dns.rdatatype.CNAME), node.get_rdataset(1, kind)
            if found is not None:
                return self._said("NOERROR", [*answer, (name, found)])
            if alias is None:
                break
            answer.append((name, alias))
            name = dns.name.from_text(alias[0].target.to_text().lower())
        return self._said("NOERROR", answer, nowhere=True)

    def _said(
        self, rcode: str, answer: list[tuple[dns.name.Name, dns.rdataset.Rdataset]], *, nowhere: bool = False
    ) -> Says:
        rows = [row for name, rdataset in answer for row in _rows(name, rdataset)]
        ttl = min((rdataset.ttl for _, rdataset in answer), default=0)
        targets = {
            getattr(rdata, _POINTING[rdataset.rdtype])
            for _, rdataset in answer
            for rdata in rdataset
            if rdataset.rdtype in _POINTING
        }
        glue = frozenset(row for target in targets for row in self._glue(target))
        return Says(rcode, frozenset(rows), ttl, glue, nowhere and bool(answer))

    def _glue(self, target: dns.name.Name) -> list[Row]:
        node = self._node(target)
        found = [node.get_rdataset(1, dns.rdatatype.from_text(rtype)) for rtype in ADDRESSES] if node else []
        return [row for rdataset in found if rdataset is not None for row in _rows(target, rdataset)]

    # RFC 4592 §3.3.1: the closest name that exists, and right below it a `*`.
    def _node(self, name: dns.name.Name) -> dns.node.Node | None:
        zone = next((self._zones[one] for one in _ancestors(name) if one in self._zones), None)
        if zone is None:
            return None
        if name in self._existing:
            return zone.nodes.get(name, dns.node.Node())
        encloser = next(ancestor for ancestor in _ancestors(name) if ancestor in self._existing)
        return zone.nodes.get(dns.name.Name((b"*", *encloser.labels)))


_POINTING = {dns.rdatatype.SRV: "target", dns.rdatatype.NS: "target", dns.rdatatype.MX: "exchange"}


def _ancestors(name: dns.name.Name) -> list[dns.name.Name]:
    return [dns.name.Name(name.labels[at:]) for at in range(len(name.labels))]


def _rows(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> list[Row]:
    kind = dns.rdatatype.to_text(rdataset.rdtype)
    return [(name.to_text().lower(), kind, rdata.to_text().lower()) for rdata in rdataset]
