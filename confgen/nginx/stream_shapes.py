"""What streams are made of: what decides about them, what each service wishes, what a configuration says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from confgen.nginx.quote import Token
from confgen.nginx.shapes import Server
from pilotfish.catalog.record import Protocol


class Socket(NamedTuple):
    """What one listener takes."""

    protocol: Protocol
    port: int

    def __str__(self) -> str:
        """As people write it: `53/udp`."""
        return f"{self.port}/{self.protocol}"


class PortRange(msgspec.Struct, frozen=True):
    """Ports from the first to the last, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        """As people write it: `1024-65535`, `53`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Facts(msgspec.Struct, frozen=True):
    """What decides about streams besides the catalog.

    Attributes:
        missing: why nginx has no streams; empty when it has.
        missing_names: why it cannot tell TLS by its name; empty when it can.
        missing_shared: why no name can be passed on at the port of https; empty when it can.
        missing_guards: why it cannot tell clients by their address; empty when it can.
        http_ports: ours, for TCP.
        https_port: ours, for TCP.
        allowed: ports that tags may ask for.
        taken: sockets that cannot be had -> why.
    """

    missing: str = "this configuration has no streams"
    missing_names: str = ""
    missing_shared: str = ""
    missing_guards: str = ""
    http_ports: frozenset[int] = frozenset({80})
    https_port: int = 443
    allowed: tuple[PortRange, ...] = ()
    taken: Mapping[Socket, str] = MappingProxyType({})


class Wish(NamedTuple):
    """What a service has a right to at a place.

    Attributes:
        since: UNIX time in seconds.
        servers: each once; they may be none.
        idle: no endpoint asks for it at the moment: it stays out of others' hands, and there is nothing to say.
        allow: networks whose clients may; None: all; empty: none.
        closed: why nobody is let in; empty when somebody may be.
        idle_s: seconds without a word after which a connection ends; None: as long as all others.
    """

    since: float
    servers: tuple[Server, ...]
    idle: bool = False
    allow: frozenset[str] | None = None
    closed: str = ""
    idle_s: float | None = None


class Pool(msgspec.Struct, frozen=True, order=True):
    """The servers of one service behind one or more of its places.

    Attributes:
        name: of the group.
        udp: a client is kept at its server by a hash, since each worker would choose anew.
        servers: sorted, at least one.
    """

    name: Token
    udp: bool
    servers: tuple[Server, ...]


class Guard(msgspec.Struct, frozen=True, order=True):
    """Whose clients reach a pool.

    Attributes:
        name: of the variable that holds the pool for them, and CLOSED for all others, without `$`.
        pool: who serves them.
        networks: sorted; empty: nobody is let in.
    """

    name: Token
    pool: Token
    networks: tuple[Token, ...]


class Behind(msgspec.Struct, frozen=True, order=True):
    """A pool at a socket, for one host name or for the whole port.

    Attributes:
        socket: protocol and port.
        host: name in the TLS greeting; empty: whatever comes.
        pool: who serves it.
        guard: variable that lets in whom it may; None: everybody may.
        idle: of a whole port, how long its connections may be silent; None: as long as all others.
    """

    socket: Socket
    host: str
    pool: Token
    guard: Token | None = None
    idle: Token | None = None


class StreamView(msgspec.Struct, frozen=True):
    """All streams of one service.

    Attributes:
        file: its own.
        pools: sorted by name.
        behind: where they stand, sorted.
        guards: who is let in, sorted by name.
    """

    file: Token
    pools: tuple[Pool, ...]
    behind: tuple[Behind, ...]
    guards: tuple[Guard, ...] = ()


class Named(msgspec.Struct, frozen=True):
    """One line of a map: a host name, where it leads, and the variable that leads there only whom it may."""

    host: Token
    target: Token
    guard: Token | None = None


class Listener(msgspec.Struct, frozen=True):
    """One socket of nginx's.

    Attributes:
        port: as printed.
        udp: not TCP.
        idle: time without a word after which a connection is closed.
        names: sorted, told by the TLS greeting; empty: there are none.
        default: pool for all others; None: they are refused, or go to https.
        guard: variable that leads there only whom it may; None: everybody may.
        map: variable with the pool of a name, without `$`; `_side` behind it: which socket takes the name.
        shared: this is the port of https.
        inner: https is served there too: names go through a socket of their own, which takes off what tells https the
            client's address.
    """

    port: Token
    udp: bool
    idle: Token
    names: tuple[Named, ...]
    default: Token | None
    map: Token
    shared: bool = False
    inner: bool = False
    guard: Token | None = None

    @property
    def guarded(self) -> bool:
        """Some names are not for everybody."""
        return any(one.guard for one in self.names)


class Stream(msgspec.Struct, frozen=True):
    """The whole of streams in a configuration.

    Attributes:
        listeners: sorted.
        views: of all services that have one, sorted by service.
        pass_socket: where names on the port of https come in; used when a listener says `inner`.
        https_socket: where nginx serves https then.
        kept: hosts that no stream gets on the port of https, although a wildcard of one covers them: those of others,
            which an exact host beats, and ours. They go to https, which knows them or refuses.
        bucket: size of a bucket in which the longest name fits.
        names_size: of the maps.
        ipv6: listen there too.
        proxy_protocol: each TCP connection begins with a PROXY header.
        trusted: networks whose word in it counts.
    """

    listeners: tuple[Listener, ...]
    views: tuple[tuple[str, StreamView], ...]
    pass_socket: Token
    https_socket: Token
    kept: tuple[Token, ...]
    bucket: Token
    names_size: Token
    ipv6: bool
    proxy_protocol: bool = False
    trusted: tuple[Token, ...] = ()

    @property
    def inner(self) -> Listener | None:
        """The listener that has the port of https, if one has."""
        return next((one for one in self.listeners if one.inner), None)


class Around(NamedTuple):
    """What is outside the streams.

    Attributes:
        https_port: of the proxy.
        https_hosts: hosts that nginx itself serves over https; None: it serves no https.
        folder: of inner sockets, absolute.
        ipv6: listen there too.
        proxy_protocol: balancers begin each TCP connection with a PROXY header.
        trusted: networks whose word in it counts.
        inner: https stays behind the streams' listener, although no name needs it.
        hosts: that anybody has, over whatever.
        reserved: hosts that nobody has.
    """

    https_port: int
    https_hosts: frozenset[str] | None
    folder: str
    ipv6: bool
    proxy_protocol: bool = False
    trusted: tuple[str, ...] = ()
    inner: bool = False
    hosts: frozenset[str] = frozenset()
    reserved: tuple[str, ...] = ()
