"""Endpoints apart from the configuration: what nginx is told without a reload (`--nginx-endpoints lua`).

Pure. A view is taken apart into what the configuration says (hosts, paths, which upstreams there are) and who the
servers of its upstreams are at the moment. A change that only moves servers gives an equal `settled` view, so nothing
is rendered; the balancer (templates/endpoints.lua.j2) is sent the servers instead. Invariants: a settled view and its
lines say together what the view says; a name means the same places with the same policy in every configuration, so
that servers that are sent for a new one never answer for the places of an old one. Clients that stay with a server are
nginx's own business: those upstreams remain whole in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from msgspec.structs import replace

from confgen.nginx import quote
from confgen.nginx.shapes import MAX_KEEPALIVE, Location, Server, ServiceView, Site, Upstream, once_of

DIGITS = 32  # of a version: 128 bits
NAME_DIGITS = 16  # of an upstream's name, behind its service's
MAX_PAST = 10_000  # names that no configuration of now has; about 1 MB


def taken_apart(view: ServiceView) -> tuple[ServiceView, dict[str, str]]:
    """What of a view stands in the configuration, and the servers that do not.

    Returns:
        The view, with upstreams that have no servers; and the name of each such upstream -> address, port and weight of
        each server, blanks between all. Both names that it may have: which of them a configuration asks for depends on
        where its servers were then.
    """
    places: dict[Upstream, list[str]] = {}
    for site in (*view.sites, *(site for _, site in view.parts)):
        for one in site.locations:
            if one.upstream:
                places.setdefault(one.upstream, []).extend(f"{host.text}{one.path}" for host in site.hosts)
    told = [one for one in view.upstreams if not one.policy.sticky]
    emptied = {one: _emptied(view.name, one, places.get(one, [])) for one in told}
    lines = {
        name: " ".join(map(_server, one.servers))
        for one, now in emptied.items()
        for name in (now.name.text, once_of(now.name.text))
    }
    settled = replace(
        view,
        upstreams=tuple(emptied.get(one, one) for one in view.upstreams),
        sites=tuple(_site(site, emptied) for site in view.sites),
        parts=tuple((file, _site(site, emptied)) for file, site in view.parts),
    )
    return settled, lines


def _site(site: Site, emptied: Mapping[Upstream, Upstream]) -> Site:
    return replace(site, locations=tuple(_location(one, emptied) for one in site.locations))


def _location(location: Location, emptied: Mapping[Upstream, Upstream]) -> Location:
    now = emptied.get(location.upstream) if location.upstream else None
    return replace(location, upstream=now) if now else location


# How many connections are kept must not depend on how many servers there are just now.
def _emptied(service: str, upstream: Upstream, places: Iterable[str]) -> Upstream:
    meaning = "\n".join([repr(upstream.policy), *sorted(places)])
    name = f"{service}--{sha256(meaning.encode()).hexdigest()[:NAME_DIGITS]}"
    return replace(
        upstream,
        name=quote.upstream(name),
        once=quote.upstream(once_of(name) if upstream.keepalive else name),
        upgrade=quote.label(name),
        servers=(),
        keepalive=upstream.keepalive and quote.number(MAX_KEEPALIVE),
    )


def _server(server: Server) -> str:
    ip, _, port = server.address.text.rpartition(":")
    return f"{ip} {port} {server.weight.text}"


class Apart:
    """All services, taken apart.

    Attributes:
        settled: what stands in the configuration, by service.
    """

    def __init__(self) -> None:
        self.settled: dict[str, ServiceView] = {}
        self._lines: dict[str, dict[str, str]] = {}

    def update(self, views: Mapping[str, ServiceView], changed: Iterable[str]) -> set[str]:
        """Take in what changed; returns the services of which the configuration has to be rendered again."""
        again = set()
        for service in changed:
            view = views.get(service)
            before = self.settled.pop(service, None)
            self._lines.pop(service, None)
            if view is not None:
                self.settled[service], self._lines[service] = taken_apart(view)
            if self.settled.get(service) != before:
                again.add(service)
        return again

    def table(self) -> dict[str, str]:
        """The servers of all upstreams that are not in the configuration, as `taken_apart` has them."""
        return {name: servers for own in self._lines.values() for name, servers in own.items()}


def with_past(table: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """A table, and names that only older configurations have, with the servers that they had last.

    Workers that end, a configuration that is gone back to and one that an operator holds still ask for them.

    Args:
        table: of now.
        before: what this returned last.

    >>> with_past({"b--1": "192.0.2.2 80 1"}, {"a--1": "192.0.2.1 80 1", "b--1": "192.0.2.1 80 1"})
    {'a--1': '192.0.2.1 80 1', 'b--1': '192.0.2.2 80 1'}
    """
    past = [(name, servers) for name, servers in before.items() if name not in table]
    return {**dict(past[-MAX_PAST:]), **table}


def text(table: Mapping[str, str]) -> str:
    """A table, or a part of one, as the balancer reads it: one upstream a line; without servers it has none any more.

    >>> text({"web--1": "192.0.2.1 80 100"}).splitlines()
    ['web--1 192.0.2.1 80 100']
    """
    return "".join(f"{name} {servers}\n" for name, servers in sorted(table.items()))


def whole(table: Mapping[str, str]) -> str:
    """A table as a file: its name, then `text`."""
    return f"{version(table)}\n{text(table)}"


def read(saved: str) -> dict[str, str]:
    """A table from what `whole` made of it; empty when it is something else.

    >>> read(whole({"web--1": "192.0.2.1 80 100"})), read("damaged")
    ({'web--1': '192.0.2.1 80 100'}, {})
    """
    name, _, rest = saved.partition("\n")
    parted = [line.partition(" ") for line in rest.splitlines()]
    table = {upstream: servers for upstream, _, servers in parted}
    return table if name == version(table) else {}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What has to be said to whoever knows one table, for him to know another."""
    moved = {name: servers for name, servers in now.items() if before.get(name) != servers}
    return moved | dict.fromkeys(before.keys() - now.keys(), "")


def version(table: Mapping[str, str]) -> str:
    """The name of a whole table: equal tables have equal names, whoever made them."""
    return sha256(text(table).encode()).hexdigest()[:DIGITS]
