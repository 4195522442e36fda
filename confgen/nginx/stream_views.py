"""The streams of all services, kept in step with what they want and with what is around them.

Pure. A name that a stream takes on the port of https cannot be served over https by nginx itself, nor by another
stream: whoever claimed it first has it, the same at every proxy, and all sides are told. Nor does a name come to a port
that another service had as a whole before: nginx waits for a greeting there from then on, and clients of MySQL or SMTP,
which wait for the server to speak, would wait with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from confgen.nginx.agree import intersection
from confgen.nginx.quote import Unprintable
from confgen.nginx.shapes import Note
from confgen.nginx.sharing import Holding, Hosts
from confgen.nginx.stream_shapes import Facts, Socket, StreamView, Wish
from confgen.nginx.streams import HTTPS, build, problem, socket_of
from pilotfish.catalog.route import Place


class StreamViews:
    """The stream views of all services.

    Args:
        hosts: who stands at which host over http and https; told of names that streams take.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.views: dict[str, StreamView] = {}
        self._hosts = hosts
        self._wished: dict[str, Mapping[Place, Wish]] = {}
        self._whole: dict[Socket, tuple[float, str]] = {}  # ports that a service has as a whole; since when, and who
        self._named: dict[Socket, set[str]] = {}  # services that ask for a name there
        self._facts = Facts()

    @property
    def sockets(self) -> frozenset[Socket]:
        """All that nginx is to listen on for them."""
        return frozenset(one.socket for view in self.views.values() for one in view.behind)

    def want(self, service: str, wished: Mapping[Place, Wish]) -> set[str]:
        """Set what a service has a right to; returns the services that share a host with it."""
        before = self._wished.pop(service, {})
        if wished:
            self._wished[service] = wished
        whole = self._occupied(service, before, wished)
        return self._hosts.pass_on(service, self._passing(service, wished)) | whole

    def _occupied(self, service: str, before: Mapping[Place, Wish], after: Mapping[Place, Wish]) -> set[str]:
        """Note which ports a service asks for; returns those with names at ports that it came to or left."""
        was, now = self._whole_ports(service, before), self._whole_ports(service, after)
        for socket in was:
            if self._whole.get(socket, (0.0, ""))[1] == service:  # else its new owner came first
                del self._whole[socket]
        self._whole |= now
        for socket in self._named_ports(before):
            self._named[socket].discard(service)
            if not self._named[socket]:
                del self._named[socket]
        for socket in self._named_ports(after):
            self._named.setdefault(socket, set()).add(service)
        changed = {socket for socket, _ in was.items() ^ now.items()}
        return {one for socket in changed for one in self._named.get(socket, ())} - {service}

    def _whole_ports(self, service: str, wished: Mapping[Place, Wish]) -> dict[Socket, tuple[float, str]]:
        found = {self._socket(place): (wish.since, service) for place, wish in wished.items() if place.name == "*"}
        return {socket: one for socket, one in found.items() if socket is not None}

    def _named_ports(self, wished: Mapping[Place, Wish]) -> set[Socket]:
        return {socket for place in wished if place.name != "*" and (socket := self._socket(place)) is not None}

    def _socket(self, place: Place) -> Socket | None:
        try:
            return socket_of(place, self._facts.https_port)
        except Unprintable:
            return None

    def _passing(self, service: str, wished: Mapping[Place, Wish]) -> list[Holding]:
        return [
            Holding(place, service, wish.since)
            for place, wish in wished.items()
            if place.name != "*" and not problem(place, self._facts) and self._is_https(place)
        ]

    def _spelled(self, place: Place) -> Place:
        """A place as others spell it too: a name at the number of https's port is that name at `https`."""
        if place.name == "*" or problem(place, self._facts) or not self._is_https(place):
            return place
        return Place(f"{place.name}:{HTTPS}", place.path)

    def _is_https(self, place: Place) -> bool:
        return socket_of(place, self._facts.https_port) == Socket("tcp", self._facts.https_port)

    def face(self, facts: Facts) -> set[str]:
        """Take other facts; returns the services that have to be looked at again."""
        if facts == self._facts:
            return set()
        everything, affected = dict(self._wished), set(self._wished)
        for service in everything:
            self.want(service, {})
        self._facts = facts
        for service, wished in everything.items():
            affected |= self.want(service, wished)
        return affected

    def view(self, service: str) -> tuple[bool, tuple[Note, ...]]:
        """Make the view of a service; returns whether it changed, and what it asked for and does not get."""
        wished = {place: wish for place, wish in self._wished.get(service, {}).items() if not wish.idle}
        refused = {self._spelled(place): why for place in wished if (why := self._refused(place, service))}
        standing: dict[Place, Wish] = {}
        for place, wish in wished.items():
            spelled = self._spelled(place)
            standing[spelled] = _joined(standing[spelled], wish) if spelled in standing else wish
        after, notes = build(service, standing, self._facts, refused)
        before = self.views.pop(service, None)
        if after is not None:
            self.views[service] = after
        return before != after, notes

    def _refused(self, place: Place, service: str) -> str:
        if place.name == "*" or problem(place, self._facts):
            return ""
        if self._is_https(place):
            return self._hosts.refused(place.name, service)
        socket = socket_of(place, self._facts.https_port)
        since, owner = self._whole.get(socket, (0.0, service))
        first = owner == service or (self._wished[service][place].since, service) < (since, owner)
        return "" if first else f"{owner} has the whole of port {socket}, and asked first"


def _joined(one: Wish, other: Wish) -> Wish:
    """What one service wishes at two spellings of a place: what protects most counts."""
    lists = [tuple(wish.allow) for wish in (one, other) if wish.allow is not None]
    return one._replace(
        servers=tuple({*one.servers, *other.servers}),
        allow=intersection(lists) if lists else None,
        closed=one.closed or other.closed,
    )
