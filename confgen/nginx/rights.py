"""What a service has a right to: the places that it owns, and what its endpoints ask to be served as there.

Pure. Whoever else stands at its hosts does not count yet: that is decided in `view`. Invariant: what is in a `Rights`
can be printed, so that no service's mistake shows only when all are rendered.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from confgen.nginx import quote, tls
from confgen.nginx.agree import Asked, agree, secured
from confgen.nginx.policy import JUST_SERVED, PLAIN, Around, Decided, decide, key_of
from confgen.nginx.quote import Token
from confgen.nginx.shapes import Note, Server, shown
from confgen.nginx.stream_shapes import Wish
from pilotfish.catalog import values
from pilotfish.catalog.options import NOTHING as NOTHING_ASKED
from pilotfish.catalog.record import Address, Claim
from pilotfish.catalog.route import HTTP_SCHEMES, OVER_TLS, InTheClear, Place, Reserved
from pilotfish.catalog.verdict import Placed, Routed, judge_route

NOTHING_RESERVED = Reserved((), ())
RESERVED = "this host is reserved"


class ViewSettings(msgspec.Struct, frozen=True):
    """What decides about views besides the catalog.

    Attributes:
        node: the host this proxy runs on.
        domains: ours, in the order given.
        reserved: names and hosts that no service gets.
        around: what nginx and the admin's folders give.
        told: balancers that are trusted say whether their clients came over https, which they may serve for us.
    """

    node: str
    domains: tuple[str, ...]
    reserved: Reserved = NOTHING_RESERVED
    around: Around = Around()
    told: bool = False


class Standing(NamedTuple):
    """What stands at a place that a service has: no servers when it is claimed and nobody is published.

    Attributes:
        servers: sorted.
        strip: the prefix is taken off.
        dest: what stands in its place then.
        decided: what is printed besides.
        tls: it is to be reached over TLS too, once a certificate covers its host; None: no endpoint is there to say so.
        http: then, what becomes of who comes without TLS; None: he is served, as for gRPC, whose clients follow nobody.
        cert: the certificate that is named.
        hsts: the value of Strict-Transport-Security.
    """

    servers: tuple[Server, ...] = ()
    strip: bool = False
    dest: str = "/"
    decided: Decided = JUST_SERVED
    tls: bool | None = None
    http: InTheClear | None = None
    cert: str = ""
    hsts: Token | None = None


class Rights(NamedTuple):
    """What a service has a right to, before it is known who else stands at its hosts.

    Attributes:
        places: of http -> what stands there.
        asked: all places that its endpoints ask for, granted or not.
        notes: what it does not get, sorted.
        streams: places of streams -> what is wished there.
    """

    places: Mapping[Place, Standing]
    asked: frozenset[Place]
    notes: tuple[Note, ...]
    streams: Mapping[Place, Wish] = {}


NOTHING = Rights({}, frozenset(), ())


class _Wanting(NamedTuple):
    """One endpoint at a place: what it asks for, whether it is published, and how it is reached."""

    asked: Asked
    published: bool
    server: Server | None


def choose_address(placed: Placed, node: str) -> Address | None:
    """How the proxy on `node` reaches an endpoint: its own container's address at home, a `lan` address elsewhere.

    A `node` address is never used from another host: every host has a 172.17.0.0/16.
    """
    if placed.node != node:
        return next((one for one in placed.endpoint.addresses if one.scope == "lan"), None)
    lan = [one for one in placed.endpoint.addresses if one.scope == "lan"]
    own = [one for one in placed.endpoint.addresses if one.scope == "node"]
    bridged = [one for one in own if not one.ip.startswith("127.") and one.ip != "::1"]
    return next(iter([*bridged, *own, *lan]), None)


@functools.lru_cache(maxsize=1024)  # nearly all have the same
def matches(path: str) -> tuple[Token, ...]:
    """How nginx says "this path, and everything below it".

    >>> [token.text for token in matches("/api")]
    ['= /api', '/api/']
    """
    return (quote.below(path),) if path.endswith("/") else (quote.exactly(path), quote.below(f"{path}/"))


def place_problem(place: Place, reserved: Reserved) -> str:
    """Why a place cannot be served at all; empty when it can.

    Claims' keys are as untrusted as anything else. What passes here can be printed, so that no service's mistake shows
    only when all are rendered.
    """
    for noun, printed, text in (("host", quote.host, place.host), ("path", matches, place.path)):
        try:
            printed(text)
        except quote.Unprintable:
            return f"{values.quoted(text)} is no {noun}"
    if "//" in place.path:
        return "no request reaches a path with '//': give it with single slashes"
    if reserved.covers(place.host):
        return RESERVED
    return ""


def _claim_problem(place: Place, reserved: Reserved) -> str:
    """Why nothing stands at a claimed place; of a stream's the rest is said where its port is known."""
    if not place.port:
        return place_problem(place, reserved)
    return RESERVED if reserved.covers(place.name) else ""


def rights(
    endpoints: Iterable[Placed], owned: Iterable[Place], claims: Mapping[Place, Claim], settings: ViewSettings
) -> Rights:
    """What a service has a right to: by its claims, filled with its endpoints."""
    notes: list[Note] = []
    places: dict[Place, list[_Wanting]] = {}
    asked: set[Place] = set()
    streams: dict[Place, list[_Wanting]] = {}
    judged: tuple[object, Routed] = (None, Routed((), ()))  # most endpoints of a service ask as the one before did
    for place in sorted(owned):
        problem = _claim_problem(place, settings.reserved)
        if problem:
            notes.append(Note(claims[place].service.lower(), shown(place), problem))
        elif place.port:
            streams[place] = []
        else:
            places[place] = []
    for placed in endpoints:
        route = placed.endpoint.route
        if route is None:
            continue
        published = placed.verdict.published
        server = _server(placed, settings.node) if published else None
        notes += _unreached(placed, settings) if published and server is None else ()
        asks = (route, placed.endpoint.proxydns)
        if asks != judged[0]:
            judged = asks, judge_route(placed.endpoint, claims, settings.domains)
            asked.update(judged[1].granted, (refusal.place for refusal in judged[1].refused))
        routed = judged[1]
        notes += _refusals(placed, routed)
        one = _Wanting(Asked(placed.container.started, placed.endpoint.id, route), published, server)
        for place in routed.granted:
            if route.scheme not in HTTP_SCHEMES and place in streams:
                streams[place].append(one)
            elif route.scheme in HTTP_SCHEMES and place in places:
                places[place].append(one)
    standing = {}
    for place, there in places.items():
        service = claims[place].service.lower()
        standing[place], said = _standing(service, there, settings.around)
        notes += (Note(service, shown(place), each) for each in said)
    wishes = {}
    for place, there in streams.items():
        wishes[place], said = _wish(claims[place].since, there)
        notes += (Note(claims[place].service.lower(), shown(place), each) for each in said)
    return Rights(standing, frozenset(asked), tuple(sorted(set(notes))), wishes)


# Of the endpoints themselves nothing is kept: their records take several times the room of their servers.
def _standing(service: str, there: Sequence[_Wanting], around: Around) -> tuple[Standing, tuple[str, ...]]:
    """What stands at a place, and what is to be said of it."""
    served = [one for one in there if one.published]
    everybody = [one.asked for one in there]
    over = secured((one.asked for one in served), everybody) or secured(everybody)
    standing = Standing(
        tls=any(one.asked.route.scheme in OVER_TLS for one in there) if there else None,
        http=over.http if over else None,
        cert=over.cert if over else "",
        hsts=tls.header(over.hsts) if over and over.hsts else None,
    )
    if not served:
        return standing, ()
    agreed = agree([one.asked for one in served], [one.asked for one in there if not one.published])
    try:
        decided = decide(service, agreed.route, agreed.allow, around)
    except quote.Unprintable as error:  # no record that can be decoded comes here; if one does, it costs only itself
        decided = Decided(PLAIN, f"{error}; nobody is let in")
    backend = agreed.route.backend  # nginx speaks one language with a group: who speaks another waits
    sticky = decided.policy.sticky is not None and decided.policy.sticky.cookie is not None
    servers = {
        msgspec.structs.replace(one.server, key=key_of(one.asked.id)) if sticky else one.server
        for one in served
        if one.server is not None and one.asked.route.backend == backend
    }
    said = (*agreed.notes, *decided.notes, *((decided.closed,) if decided.closed else ()))
    strip, dest = agreed.route.strip, agreed.route.dest
    return standing._replace(servers=tuple(sorted(servers)), strip=strip, dest=dest, decided=decided), said


def _wish(since: float, there: Sequence[_Wanting]) -> tuple[Wish, tuple[str, ...]]:
    """What is wished at the place of a stream, and what is to be said of it."""
    if not there:
        return Wish(since, (), idle=True), ()
    served = [one for one in there if one.published] or there
    agreed = agree([one.asked for one in served], [one.asked for one in there if not one.published])
    options = agreed.route.options or NOTHING_ASKED
    asked = "PROXY_AUTH" if options.auth else "PROXY_RATE" if options.rate else ""
    servers = tuple(sorted({one.server for one in served if one.server is not None}))
    closed = f"{asked}: streams have no such guard; nobody is let in" if asked else ""
    return Wish(since, servers, allow=agreed.allow, closed=closed, idle_s=options.timeout_s), agreed.notes


def _refusals(placed: Placed, routed: Routed) -> list[Note]:
    return [
        Note(
            placed.endpoint.service.lower(),
            shown(refusal.place),
            f"it belongs to {refusal.owner}, which asked first" if refusal.owner else "nobody has claimed it yet",
        )
        for refusal in routed.refused
    ]


def _unreached(placed: Placed, settings: ViewSettings) -> list[Note]:
    problem = f"{placed.node} gives no address of it that {settings.node} can reach: publish the port"
    return [Note(placed.endpoint.service.lower(), values.quoted(placed.endpoint.id), problem)]


def _server(placed: Placed, node: str) -> Server | None:
    chosen = choose_address(placed, node)
    if chosen is None:
        return None
    try:
        address, weight = quote.address(chosen.ip, chosen.port), quote.number(placed.verdict.weight)
        return Server(address, weight, placed.node == node)
    except quote.Unprintable:
        return None
