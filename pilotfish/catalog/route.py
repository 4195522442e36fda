"""What a proxy serves: a route, the hosts it answers at, and how they are spelled in the catalog.

Pure. A route is one endpoint's wish to be served; whether it is served is decided by the claims (`verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from pilotfish.catalog.options import Options
from pilotfish.catalog.values import Host, Name, Path, Port, is_reserved

Scheme: TypeAlias = Literal["http", "https", "grpc", "tcp", "udp"]
Backend: TypeAlias = Literal["http", "https", "grpc", "grpcs"]
InTheClear: TypeAlias = Literal["redirect", "serve", "refuse"]  # what becomes of who comes without TLS

HTTP_SCHEMES: frozenset[Scheme] = frozenset({"http", "https", "grpc"})
OVER_TLS: frozenset[Scheme] = frozenset({"https", "grpc"})  # reached over TLS too, once a certificate covers the host

CERT_PATTERN = r"^[A-Za-z0-9_*][A-Za-z0-9_.*-]{0,254}\Z"  # a file name: www.example.com, _wildcard.example.com
CertName: TypeAlias = Annotated[str, msgspec.Meta(pattern=CERT_PATTERN)]
MAX_AGE_S = 10 * 365 * 86400  # of HSTS: browsers themselves keep it for about a year or two


class Hsts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What browsers are told to keep of a host, RFC 6797.

    Attributes:
        max_age: seconds for which they use https alone; 0: they forget it.
        subdomains: for all hosts below it too.
        preload: it may stand in the browsers' own lists.
    """

    max_age: Annotated[int, msgspec.Meta(ge=0, le=MAX_AGE_S)]
    subdomains: bool = False
    preload: bool = False


class Route(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How an endpoint asks to be served by the proxies.

    Attributes:
        scheme: what clients speak; `tcp` and `udp` are streams on a port of their own.
        hosts: PROXY_HOST as given: a host with a dot stands as it is, one without stands under every domain.
        path: prefix of the paths that it serves.
        strip: the prefix is taken off before the application sees the request.
        dest: PROXY_DEST, what stands in its place then; `/`: nothing.
        port: the port of a stream on the proxies; 0 for the others, and for a stream that is told by its host name
            (SNI) on the port of https.
        backend: what nginx speaks with the application.
        options: what it asks for besides; None: nothing.
        cert: PROXY_CERT, the certificate that https takes; empty: the best that covers the host.
        hsts: PROXY_HSTS; None: nothing is told.
        http: PROXY_HTTP, what becomes of who comes over http although it is to be https: he is sent there, served all
            the same, or answered as if nobody were here.
    """

    scheme: Scheme
    hosts: tuple[Host, ...] = ()
    path: Path = "/"
    strip: bool = False
    port: Port | Literal[0] = 0
    backend: Backend = "http"
    options: Options | None = None
    cert: CertName | Literal[""] = ""
    hsts: Hsts | None = None
    http: InTheClear = "redirect"
    dest: Path = "/"


class Place(NamedTuple):
    """Where a route stands: a host and a path prefix. At most one service owns a place.

    A stream stands at `*:PORT`, or at `HOST:PORT` when the host name that a client asks for decides (SNI), with the
    path `/tcp` or `/udp`; `https` stands for the port of https, which only the proxy knows.
    """

    host: str
    path: str

    @property
    def name(self) -> str:
        """Its host without a port: `www.example.com` of `www.example.com:https`."""
        return self.host.partition(":")[0]

    @property
    def port(self) -> str:
        """The port of a stream as it is spelled; empty for all others."""
        return self.host.partition(":")[2]


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
        name = name.partition(":")[0]  # of a stream
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
    """All places at which a route asks to be served.

    PROXY_HOST if given, and the PROXYDNS names, else the service's name, each under every domain. A stream asks for a
    port, or with PROXY_HOST for these names on a port.

    >>> places_of(Route(scheme="http"), "estest", (), ("svc.internal",))
    (Place(host='estest.svc.internal', path='/'),)
    >>> places_of(Route(scheme="tcp", hosts=("db",)), "db", (), ("a.test",))
    (Place(host='db.a.test:https', path='/tcp'),)
    """
    spelled = spelled_by(route, service, proxy_names)
    hosts = dict.fromkeys([*spelled.absolute, *under_domains(spelled.relative, domains)])
    return tuple(Place(f"{host}{spelled.port}", spelled.path) for host in hosts)


class Spelled(NamedTuple):
    """Where a route asks to be served, whatever the domains are.

    Attributes:
        absolute: hosts that stand as they are.
        relative: those that stand under each domain.
        port: what stands behind each host: `:5432` for a stream, else nothing.
        path: at all of them.
    """

    absolute: tuple[str, ...]
    relative: tuple[str, ...]
    port: str = ""
    path: str = "/"


def spelled_by(route: Route, service: Name, proxy_names: tuple[Name, ...]) -> Spelled:
    """Where a route asks to be served, as it is given."""
    absolute = tuple(host for host in route.hosts if "." in host)
    relative = tuple(host for host in route.hosts if "." not in host)
    if route.scheme not in HTTP_SCHEMES:
        return Spelled(absolute if route.hosts else ("*",), relative, f":{route.port or 'https'}", f"/{route.scheme}")
    relative = (*relative, *proxy_names)
    return Spelled(absolute, relative or (() if absolute else (service,)), "", route.path)
