"""The streams of all services, kept in step with what they want and with what is around them.

Pure. A name that a stream takes on the port of https cannot be served over https by nginx itself: whoever claimed it
first has it, and both sides are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from confgen.nginx.shapes import Note, Server
from confgen.nginx.sharing import Holding, Hosts
from confgen.nginx.streams import Facts, Socket, StreamView, build, problem, socket_of
from pilotfish.catalog.route import Place


class Wish(NamedTuple):
    """What a service has a right to at a place: since when (UNIX time in seconds), and with which servers."""

    since: float
    servers: tuple[Server, ...]


class StreamViews:
    """The stream views of all services.

    Args:
        hosts: who stands at which host over http and https; told of names that streams take.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.views: dict[str, StreamView] = {}
        self._hosts = hosts
        self._wished: dict[str, Mapping[Place, Wish]] = {}
        self._facts = Facts()

    @property
    def sockets(self) -> frozenset[Socket]:
        """All that nginx is to listen on for them."""
        return frozenset(one.socket for view in self.views.values() for one in view.behind)

    def want(self, service: str, wished: Mapping[Place, Wish]) -> set[str]:
        """Set what a service has a right to; returns the services that share a host with it."""
        if wished:
            self._wished[service] = wished
        else:
            self._wished.pop(service, None)
        return self._hosts.pass_on(service, self._passing(service, wished))

    def _passing(self, service: str, wished: Mapping[Place, Wish]) -> list[Holding]:
        return [
            Holding(place, service, wish.since)
            for place, wish in wished.items()
            if place.name != "*" and not problem(place, self._facts) and self._is_https(place)
        ]

    def _is_https(self, place: Place) -> bool:
        return socket_of(place, self._facts.https_port) == Socket("tcp", self._facts.https_port)

    def face(self, facts: Facts) -> set[str]:
        """Take other facts; returns the services that have to be looked at again."""
        if facts == self._facts:
            return set()
        self._facts = facts
        affected = set(self._wished)
        for service, wished in self._wished.items():
            affected |= self.want(service, wished)
        return affected

    def view(self, service: str) -> tuple[bool, tuple[Note, ...]]:
        """Make the view of a service; returns whether it changed, and what it asked for and does not get."""
        wished = self._wished.get(service, {})
        refused = {place: why for place in wished if (why := self._refused(place, service))}
        standing = {place: wish.servers for place, wish in wished.items()}
        after, notes = build(service, standing, self._facts, refused)
        before = self.views.pop(service, None)
        if after is not None:
            self.views[service] = after
        return before != after, notes

    def _refused(self, place: Place, service: str) -> str:
        if place.name == "*" or problem(place, self._facts) or not self._is_https(place):
            return ""
        owner = self._hosts.passes(place.name)
        if owner is not None and owner.service == service:
            return ""
        return f"{place.name} is served over https, which was asked for first"
