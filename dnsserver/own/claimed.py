"""Hosts that services claimed for their routes, and whether they ask for them now. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dnsserver.message import dname
from dnsserver.own.existing import Existing
from dnsserver.own.names import Wanted, wanted_of
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.verdict import Placed, judge_route


class Claimed:
    """All hosts that are claimed.

    Args:
        registry: the catalog; changed before each call of `touch`.
        domains: ours, as text.
        existing: what the names of hosts are counted together with.
    """

    def __init__(self, registry: Registry, domains: Sequence[str], existing: Existing) -> None:
        self._registry, self._domains = registry, tuple(domains)
        self._services: dict[str, dict[str, str]] = {}  # host -> path -> service
        self._hosts: dict[str, set[str]] = {}  # service -> hosts that it claims
        self._wanted: dict[str, Wanted | None] = {}  # host -> what the services behind it ask the proxies for
        self.existing = Existing(existing)

    def __contains__(self, host: str) -> bool:
        return host in self._services

    def touch(self, place: Place) -> set[bytes]:
        """A claim came, changed or went; returns the names whose answers change."""
        host, path = place.name, f"{place.port}{place.path}"
        claim = self._registry.claims.get(place)
        paths = self._services.setdefault(host, {})
        former = paths.pop(path, None)
        if claim is not None:
            paths[path] = claim.service.lower()
            self._hosts.setdefault(paths[path], set()).add(host)
        if former is not None and former not in paths.values():
            self._hosts[former].discard(host)
            if not self._hosts[former]:
                del self._hosts[former]
        if not paths:
            del self._services[host]
        self._wanted.pop(host, None)
        names = set(dname.asked_as(host))
        for name in names:
            (self.existing.put if paths else self.existing.drop)(name)
        return names

    def touch_service(self, service: str) -> set[bytes]:
        """Endpoints of a service, in lower case, changed; returns the names whose answers change."""
        hosts = self._hosts.get(service, set())
        for host in hosts:
            self._wanted.pop(host, None)
        return {name for host in hosts for name in dname.asked_as(host)}

    def wanted(self, host: str) -> Wanted | None:
        """As what the proxies serve a host; None when it is not claimed, or its services do not ask for it."""
        if host not in self._services:
            return None
        if host not in self._wanted:
            self._wanted[host] = self._asked_for(host)
        return self._wanted[host]

    def _asked_for(self, host: str) -> Wanted | None:
        endpoints = (
            placed for service in set(self._services[host].values()) for placed in self._registry.service(service)
        )
        # Most endpoints of a service ask for the same; one of each kind is enough to look at.
        kinds = {(one.endpoint.service, one.endpoint.route, one.endpoint.proxydns): one for one in endpoints}
        asking = [placed for placed in kinds.values() if self._asks(placed, host)]
        return wanted_of(asking).also(Wanted(http=True)) if asking else None

    def _asks(self, placed: Placed, host: str) -> bool:
        routed = judge_route(placed.endpoint, self._registry.claims, self._domains)
        return any(place.name == host for place in routed.granted)
