"""Who stands at which host: one service leads it, others may have paths of their own there.

Pure. A claim is for a host and a path as written; `/api` and `/api/` are two claims but one location, so one of them
wins here: the older claim, then the lesser path. Who has been there longest leads a host: its file holds the server
block, which includes the others' files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pilotfish.catalog.route import Place


class Holding(NamedTuple):
    """A place that a service has a right to.

    Attributes:
        place: where.
        service: whose.
        since: UNIX time in seconds.
        https: its endpoints ask for https; None: there is none to say so.
        cert: the certificate that they name.
    """

    place: Place
    service: str
    since: float
    https: bool | None = False
    cert: str = ""


def _age(one: Holding) -> tuple[float, str]:
    return one.since, one.service


def _reach(path: str) -> str:
    return path.rstrip("/") + "/"


class Hosts:
    """All hosts with the services that stand there."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Place, Holding]] = {}  # by host
        self._of: dict[str, dict[Place, Holding]] = {}  # by service
        self._lengths: dict[int, int] = {}
        self._passed: dict[str, dict[str, Holding]] = {}  # names that streams ask for at the port of https; by service
        self._passes_of: dict[str, dict[str, Holding]] = {}  # the same, by service and name

    def __len__(self) -> int:
        return len(self._held)

    @property
    def names(self) -> frozenset[str]:
        """All hosts at which anybody stands, or that a stream asks for at the port of https."""
        return frozenset(self._held.keys() | self._passed.keys())

    @property
    def longest(self) -> int:
        """Length of the longest host, 0 without any."""
        return max(self._lengths, default=0)

    def replace(self, service: str, holdings: Iterable[Holding]) -> set[str]:
        """Set what a service holds; returns every service that stands at a host which this changed."""
        before, after = self._of.get(service, {}), {one.place: one for one in holdings}
        if before == after:
            return set()
        self._of.pop(service, None)
        if after:
            self._of[service] = after
        changed = {place.host for place, _ in before.items() ^ after.items()}
        affected = self._at(changed)
        for place in before.keys() - after.keys():
            self._drop(place, service)
        for holding in after.values():
            self._put(holding)
        return affected | self._at(changed)

    def _at(self, hosts: Iterable[str]) -> set[str]:
        """All services at these hosts, those that take them as a stream included."""
        found = {one.service for host in hosts for one in self._held.get(host, {}).values()}
        return found | {service for host in hosts for service in self._passed.get(host, ())}

    def pass_on(self, service: str, holdings: Iterable[Holding]) -> set[str]:
        """Set which names a service takes as streams on the port of https; returns the services at changed ones."""
        before, after = self._passes_of.pop(service, {}), dict[str, Holding]()
        for one in sorted(holdings, key=lambda one: (one.since, one.place), reverse=True):
            after[one.place.name] = one  # of two places with one name the older claim
        if after:
            self._passes_of[service] = after
        changed = {host for host, _ in before.items() ^ after.items()}
        affected = self._at(changed)
        for host in before.keys() - after.keys():
            del self._passed[host][service]
            if not self._passed[host]:
                del self._passed[host]
        for host, one in after.items():
            self._passed.setdefault(host, {})[service] = one
        return affected | self._at(changed)

    def passes(self, host: str) -> Holding | None:
        """Who takes a name as a stream on the port of https: who asked for it first; None when nobody does."""
        one = min(self._passed.get(host, {}).values(), key=_age, default=None)
        return None if one is None or self.before(host, one) else one

    def before(self, host: str, stream: Holding) -> Holding | None:
        """Who stood at a host before a stream asked for its name; None when nobody did.

        Another service counts over http too: who has a host has it on both ports. One may serve http beside a stream of
        its own.
        """
        rivals = self._held.get(host, {}).values()
        older = [one for one in rivals if _age(one) < _age(stream)]
        return min(
            (one for one in older if one.service != stream.service or one.https is not False), key=_age, default=None
        )

    def refused(self, host: str, service: str) -> str:
        """Why a service does not get a name that it asks for as a stream, as a sentence; empty when it does."""
        taker, mine = self.passes(host), self._passed[host][service]
        if taker is not None:
            return "" if taker.service == service else f"{taker.service} takes {host} there, and asked first"
        rival = self.before(host, mine)
        if rival is not None and rival.https is False:
            return f"{host} is served over http by {rival.service}, which asked first"
        return f"{host} is served over https, which was asked for first"

    def _put(self, holding: Holding) -> None:
        host = holding.place.host
        if host not in self._held:
            self._held[host] = {}
            self._lengths[len(host)] = self._lengths.get(len(host), 0) + 1
        self._held[host][holding.place] = holding

    def _drop(self, place: Place, service: str) -> None:
        held = self._held.get(place.host, {})
        if place not in held or held[place].service != service:  # its new owner came first
            return
        del held[place]
        if not held:
            del self._held[place.host]
            self._lengths[len(place.host)] -= 1
            if not self._lengths[len(place.host)]:
                del self._lengths[len(place.host)]

    def _winners(self, host: str) -> dict[str, Holding]:
        found: dict[str, Holding] = {}
        for one in sorted(self._held.get(host, {}).values(), key=lambda one: (one.since, one.place.path)):
            found.setdefault(_reach(one.place.path), one)
        return found

    def winner(self, place: Place) -> Holding:
        """Who is served here: the oldest claim among those that nginx cannot tell apart."""
        return self._winners(place.host)[_reach(place.path)]

    def served(self, host: str) -> tuple[Holding, ...]:
        """What is served at a host, one holding for each place that nginx can tell apart."""
        return tuple(self._winners(host).values())

    def leader(self, host: str) -> str:
        """The service whose file holds the server block of a host: the oldest there, whom no later one displaces."""
        found = self._winners(host).values()
        return min(found, key=lambda one: (one.since, len(one.place.path), one.place.path)).service

    def others(self, host: str, leader: str) -> tuple[str, ...]:
        """The other services that serve something at a host, sorted."""
        return tuple(sorted({one.service for one in self._winners(host).values()} - {leader}))

    def secured(self, host: str) -> str | None:
        """The certificate that is named for a host, "" when any will do; None when nobody asks for https there.

        Of the services there, the one that asked first for https names it. A place without endpoints counts as asking:
        who came over https is to be answered 503, not refused.
        """
        found = [one for _, one in sorted(self._winners(host).items()) if one.https is not False]
        if not found or self.passes(host):
            return None
        first = min(found, key=_age).service
        return next((one.cert for one in found if one.cert and one.service == first), "")

    def secured_services(self) -> set[str]:
        """The services that stand at a host which anybody asks to be served over https."""
        asking = {one.place.host for held in self._of.values() for one in held.values() if one.https is not False}
        return {one.service for host in asking for one in self._held[host].values()}

    def covers_all(self, host: str) -> bool:
        """True when somebody serves `/`, so that no path of the host is left over."""
        return "/" in self._winners(host)
