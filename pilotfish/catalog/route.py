"""What a proxy serves: a route, the hosts it answers at, and how they are spelled in the catalog.

Pure. A route is one endpoint's wish to be served; whether it is served is decided by the claims (`verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from pilotfish.catalog.values import Host, Name, Path, Port

Scheme: TypeAlias = Literal["http", "https", "grpc", "tcp", "udp"]
Backend: TypeAlias = Literal["http", "https", "grpc", "grpcs"]

HTTP_SCHEMES: frozenset[Scheme] = frozenset({"http", "https", "grpc"})


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an endpoint asks to be served by the proxies.

    Attributes:
        scheme: what clients speak; `tcp` and `udp` are streams on a port of their own.
        hosts: PROXY_HOST as given: a host with a dot stands as it is, one without stands under every domain.
        path: prefix of the paths that it serves.
        strip: the prefix is taken off before the application sees the request.
        port: the port of a stream on the proxies; 0 for the others.
        backend: what nginx speaks with the application.
    """

    scheme: Scheme
    hosts: tuple[Host, ...] = ()
    path: Path = "/"
    strip: bool = False
    port: Port | Literal[0] = 0
    backend: Backend = "http"


class Place(NamedTuple):
    """Where a route stands: a host and a path prefix. At most one service owns a place."""

    host: str
    path: str


def under_domains(names: Iterable[str], domains: Iterable[str]) -> tuple[str, ...]:
    """Each name under each domain, in lower case: domains in the order given, names within each.

    >>> under_domains(["Web"], ["svc.internal", "example.net"])
    ('web.svc.internal', 'web.example.net')
    """
    listed = [name.lower() for name in names]
    return tuple(dict.fromkeys(f"{name}.{domain}" for domain in domains for name in listed))


def places_of(
    route: Route, service: Name, proxy_names: tuple[Name, ...], domains: tuple[str, ...]
) -> tuple[Place, ...]:
    """All places at which an HTTP route asks to be served.

    PROXY_HOST if given, and the PROXYDNS names, else the service's name, each under every domain.

    >>> places_of(Route(scheme="http"), "estest", (), ("svc.internal",))
    (Place(host='estest.svc.internal', path='/'),)
    """
    absolute = [host for host in route.hosts if "." in host]
    relative = [host for host in route.hosts if "." not in host] + list(proxy_names)
    if not absolute and not relative:
        relative = [service]
    hosts = dict.fromkeys([*absolute, *under_domains(relative, domains)])
    return tuple(Place(host, route.path) for host in hosts)
