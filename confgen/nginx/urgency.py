"""Does a change only add, so that it can wait for old workers to end, or does it take something away? Pure.

Each reload leaves a generation of workers behind for as long as a connection of theirs is open, up to an hour. When as
many live as may, what only adds servers, hosts or paths waits: nobody is sent to the wrong place meanwhile. All else
is urgent: a server that is gone, a place that belongs to another service, a rule that became stricter.
"""

from __future__ import annotations

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
