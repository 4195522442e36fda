"""Does a change only add, so that it can wait for old workers to end, or does it take something away? Pure.

Each reload leaves a generation of workers behind for as long as a connection of theirs is open, up to an hour. When as
many live as may, what only adds servers, hosts or paths waits: nobody is sent to the wrong place meanwhile. All else
is urgent: a server that is gone, a place that belongs to another service, a rule that became stricter. A new host below
another service's wildcard is urgent too, and a new path below another's: its clients reach that one until it is served.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from confgen.nginx.shapes import Location, Server, ServiceView, Site, Upstream

# What may differ between two views of which the second only adds: names, servers, and what follows from them.
_FREE: dict[type[msgspec.Struct], frozenset[str]] = {
    ServiceView: frozenset({"upstreams", "sites", "parts", "notes"}),
    Site: frozenset({"hosts", "locations", "parts", "rest"}),
    Location: frozenset({"upstream"}),
    Upstream: frozenset({"name", "once", "upgrade", "servers", "keepalive"}),
}
Rules: TypeAlias = tuple[object, ...]
Place: TypeAlias = tuple[str, str]  # host, path


def only_adds(before: ServiceView | None, after: ServiceView | None) -> bool:
    """True when whatever was served by one service is still served, by the same servers and by others.

    Args:
        before: as nginx serves it; None: not at all.
        after: as it should be; None: not at all.
    """
    if before is None:
        return True
    if after is None or _rules(before) != _rules(after):
        return False
    now = _places(after)
    return all(_still(was, now.get(place)) for place, was in _places(before).items())


def keeps_servers(before: ServiceView | None, after: ServiceView | None) -> bool:
    """True when whatever was served is still served by the same servers, with the same weights."""
    was, now = (_servers(view) if view else {} for view in (before, after))
    return all(now.get(place) == servers for place, servers in was.items())


def _servers(view: ServiceView) -> dict[Place, tuple[Server, ...]]:
    return {
        (host.text, one.path): one.upstream.servers if one.upstream else ()
        for site in (*view.sites, *(site for _, site in view.parts))
        for one in site.locations
        for host in site.hosts
    }


class Answering:
    """Who answers which places, as nginx serves them.

    Args:
        views: of all services.
    """

    def __init__(self, views: Iterable[ServiceView]) -> None:
        self._at: dict[str, list[tuple[str, str]]] = {}  # host -> path, with a slash at its end, and service
        for view in views:
            for host, path in _places(view):
                self._at.setdefault(host, []).append((_below(path), view.name))

    def takes(self, view: ServiceView | None) -> bool:
        """True when a view has a place that another service answers until now."""
        return view is not None and any(self.by_another(view.name, *place) for place in _places(view))

    def by_another(self, service: str, host: str, path: str) -> bool:
        """True when what is asked for at a place reaches another service than this one.

        At a host that nobody has, the longest wildcard above it answers, with all that stands there.
        """
        there = self._at.get(host)
        if there is not None:
            above = [one for one in there if _below(path).startswith(one[0])]
            return bool(above) and max(above)[1] != service  # prefixes of one path: the longest is the greatest
        wide = next((one for one in wildcards(host) if one in self._at), "")
        return any(owner != service for _, owner in self._at.get(wide, ()))


def wildcards(host: str) -> tuple[str, ...]:
    """The wildcards that cover a host, the narrowest first: in this order nginx tries them.

    >>> wildcards("*.b.test"), wildcards("a.b.test")
    (('*.test',), ('*.b.test', '*.test'))
    """
    labels = host.removeprefix("*.").split(".")
    return tuple(f"*.{'.'.join(labels[turn:])}" for turn in range(1, len(labels)))


def _below(path: str) -> str:
    return path.rstrip("/") + "/"


_Served: TypeAlias = tuple[Rules, Rules, frozenset[str]]


def _still(was: _Served, now: _Served | None) -> bool:
    if now is None or was[0] != now[0] or not was[2] <= now[2]:
        return False
    return not was[2] or was[1] == now[1]  # without a server there was no upstream to have rules


def _places(view: ServiceView) -> dict[Place, _Served]:
    found: dict[Place, _Served] = {}
    for site in (*view.sites, *(site for _, site in view.parts)):
        for location in site.locations:
            upstream = location.upstream
            servers = frozenset(server.address.text for server in upstream.servers) if upstream else frozenset[str]()
            served = ((*_rules(site), *_rules(location)), _rules(upstream) if upstream else (), servers)
            found.update(((host.text, location.path), served) for host in site.hosts)
    return found


def _rules(value: msgspec.Struct) -> Rules:
    free = _FREE[type(value)]
    return tuple(getattr(value, name) for name in value.__struct_fields__ if name not in free)
