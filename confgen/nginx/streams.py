"""Streams: TCP and UDP ports that nginx passes on as they are, and TLS that is told apart by its host name (SNI).

Pure. A service has a stream by its claims: `*:PORT` for a port, `HOST:PORT` for a name on a port, where `https` stands
for the port of https. Names share their port with others: with the service that has the whole port, and on the port of
https with what nginx itself serves over https. One port of one protocol is one listener, whoever stands behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from confgen.nginx import layout, quote
from confgen.nginx.quote import Token
from confgen.nginx.shapes import Note, Server, shown, stem
from pilotfish.catalog.record import Protocol
from pilotfish.catalog.route import Place

HTTPS = "https"  # as a port: whichever the proxy has for it
TCP_IDLE_S = 3600.0  # as upgraded connections of http
UDP_IDLE_S = 60.0  # a datagram has no end: so long after the last one its client is forgotten


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


def socket_of(place: Place, https_port: int) -> Socket:
    """The socket of a stream's place.

    Raises:
        quote.Unprintable: it is none; keys of claims are as untrusted as anything else.
    """
    protocol: Protocol
    match place.path:
        case "/tcp":
            protocol = "tcp"
        case "/udp":
            protocol = "udp"
        case _:
            raise quote.Unprintable("no stream has this path")
    port = place.port
    if port == HTTPS:
        return Socket(protocol, https_port)
    if not (port.isascii() and port.isdigit()) or port[0] == "0" or not 0 < int(port[:6]) < 65536:
        raise quote.Unprintable("no stream has this port")
    return Socket(protocol, int(port))


def problem(place: Place, facts: Facts) -> str:
    """Why a place cannot be served; empty when it can."""
    try:
        socket = socket_of(place, facts.https_port)
        if place.name != "*":
            quote.host(place.name)
    except quote.Unprintable as error:
        return str(error)
    if facts.missing:
        return facts.missing
    named = place.name != "*"
    if named and facts.missing_names:
        return facts.missing_names
    if socket.protocol == "tcp" and socket.port in facts.http_ports:
        return f"port {socket} is that of http"
    if socket == Socket("tcp", facts.https_port):
        why = (
            facts.missing_shared
            if named
            else f"port {socket} is that of https: give PROXY_HOST, and it is shared by name"
        )
    elif not any(one.first <= socket.port <= one.last for one in facts.allowed):
        why = f"port {socket} is not among --stream-ports"
    else:
        why = ""
    return why or facts.taken.get(socket, "")


def build(
    service: str, standing: Mapping[Place, Wish], facts: Facts, refused: Mapping[Place, str]
) -> tuple[StreamView | None, tuple[Note, ...]]:
    """The streams of one service.

    Args:
        service: in lower case.
        standing: its places -> what it wishes there.
        facts: see there.
        refused: places that it has to leave to others -> why.
    """
    notes, pools, behind = [], dict[tuple[bool, tuple[Server, ...]], Pool](), []
    guards = dict[Token, Guard]()
    for place, wish in sorted(standing.items()):
        why = problem(place, facts) or refused.get(place, "") or _closed(wish, facts)
        if why:
            notes.append(Note(service, shown(place), why))
            continue
        # Without a server nothing listens: a closed port says so to every client, in every protocol.
        unique = tuple(sorted({one.address: one for one in sorted(wish.servers, reverse=True)}.values()))
        if unique:
            socket = socket_of(place, facts.https_port)
            key = socket.protocol == "udp", unique
            pool = pools.setdefault(key, Pool(quote.upstream(f"{service}--{len(pools) + 1}"), *key))
            guard = None if wish.allow is None else _guard(pool.name, wish.allow)
            guards |= {guard.name: guard} if guard else {}
            name = "" if place.name == "*" else place.name
            idle = None if name or wish.idle_s is None else quote.duration(wish.idle_s)
            behind.append(Behind(socket, name, pool.name, guard.name if guard else None, idle))
    if not behind:
        return None, tuple(notes)
    file = quote.file(f"streams/{stem(service)}.conf")
    served = tuple(sorted(pools.values())), tuple(sorted(behind)), tuple(sorted(guards.values()))
    return StreamView(file, *served), tuple(notes)


def _closed(wish: Wish, facts: Facts) -> str:
    why = facts.missing_guards if wish.allow is not None else ""
    return wish.closed or (f"PROXY_ALLOW: {why}; nobody is let in" if why else "")


def _guard(pool: Token, allow: Collection[str]) -> Guard:
    networks = tuple(sorted(quote.network(one) for one in allow))
    whole = " ".join([pool.text, *(one.text for one in networks)])
    return Guard(quote.word(f"pilotfish_allow_{sha256(whole.encode()).hexdigest()[:16]}"), pool, networks)


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


def assemble(views: Mapping[str, StreamView], around: Around) -> Stream | None:
    """Put the streams of all services together; None when there are none."""
    if not views and not around.inner:
        return None
    pass_socket, https_socket = (quote.file(f"{around.folder}/{name}.sock") for name in ("pass", "https"))
    sockets: dict[Socket, dict[str, Behind]] = {}
    if around.inner and around.https_hosts is not None:
        sockets[Socket("tcp", around.https_port)] = {}
    for _, view in sorted(views.items()):
        for one in view.behind:
            sockets.setdefault(one.socket, {}).setdefault(one.host, one)
    listeners = tuple(_listener(socket, found, around) for socket, found in sorted(sockets.items()))
    shared = next((one for one in listeners if one.shared), None)
    kept = _kept({one.host.text for one in shared.names}, around) if shared else ()
    names = [*(one.host.text for listener in listeners for one in listener.names), *kept]
    return Stream(
        listeners=listeners,
        views=tuple(sorted(views.items())),
        pass_socket=pass_socket,
        https_socket=https_socket,
        kept=tuple(quote.host(host) for host in kept),
        bucket=quote.number(layout.names_bucket(max(map(len, names), default=0))),
        names_size=quote.number(layout.names_size(len(names))),
        ipv6=around.ipv6,
        proxy_protocol=around.proxy_protocol,
        trusted=tuple(quote.network(network) for network in around.trusted),
    )


def _listener(socket: Socket, found: Mapping[str, Behind], around: Around) -> Listener:
    rest = found.get("")
    # nginx has one time for a port: its owner's counts only where he is alone.
    own = rest.idle if rest and len(found) == 1 else None
    shared = socket == Socket("tcp", around.https_port)
    return Listener(
        port=quote.number(socket.port),
        udp=socket.protocol == "udp",
        idle=own or quote.duration(UDP_IDLE_S if socket.protocol == "udp" else TCP_IDLE_S),
        names=tuple(Named(quote.host(host), one.pool, one.guard) for host, one in sorted(found.items()) if host),
        default=rest.pool if rest else None,
        guard=rest.guard if rest else None,
        map=quote.upstream(f"pilotfish_names_{socket.port}"),
        shared=shared,
        inner=shared and around.https_hosts is not None,
    )


def _kept(passed: Collection[str], around: Around) -> tuple[str, ...]:
    wide = tuple(host[1:] for host in passed if host.startswith("*."))
    others = (around.hosts | (around.https_hosts or frozenset())) if wide else ()
    covered = {host for host in others if host.removeprefix("*").endswith(wide)}
    return tuple(sorted(covered.union(around.reserved).difference(passed)))
