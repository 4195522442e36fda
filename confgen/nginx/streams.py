"""Streams: TCP and UDP ports that nginx passes on as they are, and TLS that is told apart by its host name (SNI).

Pure. A service has a stream by its claims: `*:PORT` for a port, `HOST:PORT` for a name on a port, where `https` stands
for the port of https. Names share their port with others: with the service that has the whole port, and on the port of
https with what nginx itself serves over https. One port of one protocol is one listener, whoever stands behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256

from confgen.nginx import layout, quote
from confgen.nginx.quote import Token
from confgen.nginx.shapes import Note, Server, shown, stem
from confgen.nginx.stream_shapes import (
    Around,
    Behind,
    Facts,
    Guard,
    Listener,
    Named,
    Pool,
    Socket,
    Stream,
    StreamView,
    Wish,
)
from pilotfish.catalog.record import Protocol
from pilotfish.catalog.route import Place

HTTPS = "https"  # as a port: whichever the proxy has for it
TCP_IDLE_S = 3600.0  # as upgraded connections of http
UDP_IDLE_S = 60.0  # a datagram has no end: so long after the last one its client is forgotten


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
