"""Docker hosts: `<node>.node.<domain>`, and what PTR of their addresses says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnsserver.message import dname
from dnsserver.own import names
from dnsserver.own.domain import Domain
from dnsserver.own.existing import Existing
from pilotfish.catalog.registry import Registry


class Nodes:
    """All hosts whose registrator or proxy lives.

    Args:
        registry: the catalog; changed before each call of `touch`.
        domains: ours that have hosts; pointers lead to the names under the first.
        existing: where the names of hosts are put.
    """

    def __init__(self, registry: Registry, domains: Sequence[Domain], existing: Existing) -> None:
        self._registry, self._domains, self._existing = registry, tuple(domains), existing
        self._addresses: dict[str, tuple[str, ...]] = {}  # node in lower case -> addresses
        self._spelled: dict[str, dict[str, tuple[str, ...]]] = {}  # the same, apart by how the node is spelled
        self._pointers: dict[bytes, tuple[bytes, ...]] = {}  # reverse name -> hosts
        self.pointed = Existing()  # reverse names

    def touch(self, node: str) -> set[bytes]:
        """A host's record, or its proxy's, came, changed or went; returns the names whose answers change."""
        here, there = self._registry.nodes.get(node), self._registry.proxies.get(node)
        ips = tuple(dict.fromkeys([*(here.addresses if here else ()), *(there.addresses if there else ())]))
        ips = self._of_all_spellings(node, ips)
        before = self._addresses.pop(node.lower(), ())
        if ips:
            self._addresses[node.lower()] = ips
        if ips == before:
            return set()
        changed = self._point(node, before, ips)
        for domain in self._domains:
            full = names.host_name(node, domain.name)
            if full is not None:
                changed.add(full)
                (self._existing.put if ips else self._existing.drop)(full)
        return changed

    # In DNS `H1` and `h1` are one name (RFC 4343): it has the addresses of both.
    def _of_all_spellings(self, node: str, ips: tuple[str, ...]) -> tuple[str, ...]:
        spelled = self._spelled.setdefault(node.lower(), {})
        spelled.pop(node, None)
        if ips:
            spelled[node] = ips
        elif not spelled:
            del self._spelled[node.lower()]
        return tuple(dict.fromkeys(ip for one in sorted(spelled) for ip in spelled[one]))

    # One address may be written in several ways, and has one reverse name.
    def _point(self, node: str, before: Sequence[str], after: Sequence[str]) -> set[bytes]:
        target = names.host_name(node, self._domains[0].name) if self._domains else None
        changed: set[bytes] = set()
        now = _reversed(after)
        for reverse in _reversed(before) | now if target else ():
            hosts = {host for host in self._pointers.pop(reverse, ()) if host != target}
            hosts |= {target} if target and reverse in now else set()
            if hosts:
                self._pointers[reverse] = tuple(sorted(hosts))
            (self.pointed.put if hosts else self.pointed.drop)(reverse)
            changed.add(reverse)
        return changed

    def addresses(self, node: str) -> tuple[str, ...]:
        """Where a host is reached; empty for one that is not known. The name is in lower case."""
        return self._addresses.get(node, ())

    def all_addresses(self) -> tuple[str, ...]:
        """Addresses of all hosts, each once, hosts sorted by name."""
        return tuple(dict.fromkeys(ip for node in sorted(self._addresses) for ip in self._addresses[node]))

    def pointers(self, reverse: bytes) -> tuple[bytes, ...]:
        """The hosts whose address a reverse name stands for."""
        return self._pointers.get(reverse, ())


def _reversed(ips: Iterable[str]) -> set[bytes]:
    return {reverse for ip in ips for reverse in dname.reversed_as(ip)}
