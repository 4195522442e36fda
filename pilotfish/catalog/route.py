"""What a proxy serves: a route, the hosts it answers at, and how they are spelled in the catalog.

Pure. A route is one endpoint's wish to be served; whether it is served is decided by the claims (`verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from pilotfish.catalog.options import Options
from pilotfish.catalog.values import Host, Name, Path, Port, is_reserved

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
        options: what it asks for besides; None: nothing.
    """

    scheme: Scheme
    hosts: tuple[Host, ...] = ()
    path: Path = "/"
    strip: bool = False
    port: Port | Literal[0] = 0
    backend: Backend = "http"
    options: Options | None = None


class Place(NamedTuple):
    """Where a route stands: a host and a path prefix. At most one service owns a place."""

    host: str
    path: str


class Reserved(NamedTuple):
    """Names and hosts that no service can have: those of the proxies and the console, and the labels of values.

    Attributes:
        domains: that we serve.
        names: relative to them: the proxies', the console's.
    """

    domains: tuple[str, ...]
    names: tuple[str, ...]

    def covers(self, name: str) -> bool:
        """True for a name, relative or absolute, that nobody can take.

        >>> Reserved(("a.test",), ("proxy",)).covers("x.dns.a.test"), Reserved((), ("proxy",)).covers("Proxy")
        (True, True)
        >>> Reserved(("a.test",), ("proxy",)).covers("proxy.example.com")
        False
        """
        relative = name.lower()
        for domain in self.domains:
            relative = relative.removesuffix(f".{domain}")
        if relative.rpartition(".")[2] == "localhost":
            return True  # everybody's own, RFC 6761 §6.3
        if "." in name and relative == name.lower():
            return False  # of no domain of ours, or a domain itself, which may be claimed
        return relative in {one.lower() for one in self.names} or is_reserved(relative)

    def hosts(self) -> tuple[str, ...]:
        """Hosts that are answered by us whatever wildcard covers them, sorted."""
        return tuple(sorted({*under_domains(self.names, self.domains), "localhost"}))


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
    spelled = spelled_by(route, service, proxy_names)
    hosts = dict.fromkeys([*spelled.absolute, *under_domains(spelled.relative, domains)])
    return tuple(Place(host, route.path) for host in hosts)


class Spelled(NamedTuple):
    """The hosts of a route as they are given: those that stand as they are, and those that stand under each domain."""

    absolute: tuple[str, ...]
    relative: tuple[str, ...]


def spelled_by(route: Route, service: Name, proxy_names: tuple[Name, ...]) -> Spelled:
    """The hosts at which an HTTP route asks to be served, whatever the domains are."""
    absolute = tuple(host for host in route.hosts if "." in host)
    relative = (*(host for host in route.hosts if "." not in host), *proxy_names)
    return Spelled(absolute, relative or (() if absolute else (service,)))
