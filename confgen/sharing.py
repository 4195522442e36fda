"""Who stands at which host: one service leads it, others may have paths of their own there.

Pure. A claim is for a host and a path as written; `/api` and `/api/` are two claims but one location, so one of them
wins here: the older claim, then the lesser path. The service with the shortest path leads a host: its file holds the
server block, which includes the others' files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pilotfish.catalog.route import Place


class Holding(NamedTuple):
    """A place that a service has a right to, and since when (UNIX time in seconds)."""

    place: Place
    service: str
    since: float


def _reach(path: str) -> str:
    return path.rstrip("/") + "/"


class Hosts:
    """All hosts with the services that stand there."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Place, Holding]] = {}  # by host
        self._of: dict[str, dict[Place, Holding]] = {}  # by service
        self._lengths: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def longest(self) -> int:
        """Length of the longest host, 0 without any."""
        return max(self._lengths, default=0)

    def replace(self, service: str, holdings: Iterable[Holding]) -> set[str]:
        """Set what a service holds; returns every service that stands at a host which this changed."""
        before, after = self._of.pop(service, {}), {one.place: one for one in holdings}
        if after:
            self._of[service] = after
        changed = {place.host for place, _ in before.items() ^ after.items()}
        affected = {one.service for host in changed for one in self._held.get(host, {}).values()}
        for place in before.keys() - after.keys():
            self._drop(place, service)
        for holding in after.values():
            self._put(holding)
        return affected | {one.service for host in changed for one in self._held.get(host, {}).values()}

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

    def leader(self, host: str) -> str:
        """The service whose file holds the server block of a host."""
        found = self._winners(host)
        return found[min(found, key=lambda path: (len(path), path))].service

    def others(self, host: str, leader: str) -> tuple[str, ...]:
        """The other services that serve something at a host, sorted."""
        return tuple(sorted({one.service for one in self._winners(host).values()} - {leader}))

    def covers_all(self, host: str) -> bool:
        """True when somebody serves `/`, so that no path of the host is left over."""
        return "/" in self._winners(host)
