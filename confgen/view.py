"""The catalog as an nginx template needs it: every decision is taken here, the template only lays it out.

Pure. What one service is served as depends on its endpoints, on the claims, and on who else stands at its hosts; each
service's result is a frozen value, made anew only when one of these changed. Invariants: equal catalogs give equal
views (everything is sorted); one host is led by one service, so no server name comes twice; nothing printable is a
bare string.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from confgen import quote
from confgen.agree import Asked, agree
from confgen.policy import CLOSED_FOR_WORK, JUST_SERVED, PLAIN, Around, Decided, Policy, at, decide, key_of
from confgen.quote import Token
from confgen.shapes import (
    Location,
    Note,
    Own,
    Server,
    ServiceView,
    Site,
    Upstream,
    page_file,
    part_file,
    service_file,
    snippet_file,
    upstream,
)
from confgen.sharing import Holding, Hosts
from pilotfish.catalog import values
from pilotfish.catalog.record import Address, Claim
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.route import HTTP_SCHEMES, Place, Reserved, Route, places_of
from pilotfish.catalog.verdict import Placed, Routed, judge_route

SERVED_SCHEMES = frozenset({"http", "grpc"})


NOTHING_RESERVED = Reserved((), ())


class ViewSettings(msgspec.Struct, frozen=True):
    """What decides about views besides the catalog.

    Attributes:
        node: the host this proxy runs on.
        domains: ours, in the order given.
        reserved: names and hosts that no service gets.
        around: what nginx and the admin's folders give.
    """

    node: str
    domains: tuple[str, ...]
    reserved: Reserved = NOTHING_RESERVED
    around: Around = Around()


class _Standing(NamedTuple):
    """What stands at a place that a service has: no servers when it is claimed and nobody is there."""

    servers: tuple[Server, ...] = ()
    strip: bool = False
    decided: Decided = JUST_SERVED


class _Wanted(NamedTuple):
    """What a service has a right to, before it is known who else stands at its hosts."""

    places: Mapping[Place, _Standing]
    asked: frozenset[Place]
    notes: tuple[Note, ...]


def choose_address(placed: Placed, node: str) -> Address | None:
    """How the proxy on `node` reaches an endpoint: its own container's address at home, a `lan` address elsewhere.

    A `node` address is never used from another host: every host has a 172.17.0.0/16.
    """
    lan = [one for one in placed.endpoint.addresses if one.scope == "lan"]
    if placed.node != node:
        return lan[0] if lan else None
    own = [one for one in placed.endpoint.addresses if one.scope == "node"]
    bridged = [one for one in own if not one.ip.startswith("127.") and one.ip != "::1"]
    return next(iter([*bridged, *own, *lan]), None)


def unserved(route: Route) -> str:
    """Why a route is not served by this version; empty when it is."""
    if route.scheme not in SERVED_SCHEMES:
        return f"PROXY={route.scheme} is not served yet: only http and grpc"
    return ""


class Views:
    """The views of all services, kept in step with a registry.

    Cost of an update: in proportion to what was touched and to who shares a host with it.
    """

    def __init__(self, settings: ViewSettings) -> None:
        self.services: dict[str, ServiceView] = {}
        self._settings = settings
        self._wanted: dict[str, _Wanted] = {}
        self._askers: dict[Place, set[str]] = {}
        self._owners: dict[Place, str] = {}
        self._owned: dict[str, set[Place]] = {}
        self._hosts = Hosts()
        self._all_anew = False

    def reconsider(self, around: Around) -> None:
        """Decide about every service anew at the next update: nginx or the admin's folders give something else."""
        self._settings = msgspec.structs.replace(self._settings, around=around)
        self._all_anew = True

    @property
    def around(self) -> Around:
        """What decides besides the routes."""
        return self._settings.around

    @property
    def host_count(self) -> int:
        """Hosts that are answered for."""
        return len(self._hosts)

    @property
    def longest_host(self) -> int:
        """Length of the longest of them, in octets."""
        return self._hosts.longest

    def update(self, registry: Registry, touched: Touched) -> frozenset[str]:
        """Bring the views up to date; returns the services whose view changed, came or went."""
        dirty = set(touched.services) | (set(self._wanted) if self._all_anew else set())
        self._all_anew = False
        for place in touched.places:
            dirty |= self._claim_changed(place, registry.claims.get(place))
        beside = set()
        for service in sorted(dirty):
            beside |= self._want(service, registry)
        return frozenset(service for service in sorted(dirty | beside) if self._view(service))

    def _claim_changed(self, place: Place, claim: Claim | None) -> set[str]:
        affected = set(self._askers.get(place, ()))
        before = self._owners.pop(place, None)
        if before is not None:
            self._owned[before].discard(place)
            if not self._owned[before]:
                del self._owned[before]
            affected.add(before)
        if claim is not None:
            owner = claim.service.lower()
            self._owners[place] = owner
            self._owned.setdefault(owner, set()).add(place)
            affected.add(owner)
        return affected

    def _want(self, service: str, registry: Registry) -> set[str]:
        """Work out what one service has a right to; returns the services that share a host with it."""
        before = self._wanted.get(service, _NOTHING)
        after = wanted(registry.service(service), self._owned.get(service, ()), registry.claims, self._settings)
        for place in before.asked - after.asked:
            self._askers[place].discard(service)
            if not self._askers[place]:
                del self._askers[place]
        for place in after.asked - before.asked:
            self._askers.setdefault(place, set()).add(service)
        self._wanted[service] = after
        holdings = [Holding(place, service, registry.claims[place].since) for place in after.places]
        return self._hosts.replace(service, holdings)

    def _view(self, service: str) -> bool:
        wanted_ = self._wanted.get(service, _NOTHING)
        before = self.services.get(service)
        if not wanted_.places and not wanted_.notes:
            self._wanted.pop(service, None)
            self.services.pop(service, None)
            return before is not None
        view = _Builder(service, wanted_, self._hosts, self._settings).build()
        self.services[service] = view
        return view != before


_NOTHING = _Wanted({}, frozenset(), ())


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
        return "this host is reserved"
    return ""


def wanted(
    endpoints: Iterable[Placed], owned: Iterable[Place], claims: Mapping[Place, Claim], settings: ViewSettings
) -> _Wanted:
    """What a service has a right to: by its claims, filled with its endpoints."""
    notes: list[Note] = []
    places: dict[Place, list[tuple[Asked, Server | None]]] = {}
    asked: set[Place] = set()
    for place in sorted(owned):
        problem = place_problem(place, settings.reserved)
        if problem:
            notes.append(Note(claims[place].service.lower(), _shown(place), problem))
        else:
            places[place] = []
    for placed in endpoints:
        route = placed.endpoint.route
        if route is None:
            continue
        published = placed.verdict.published
        server = _server(placed, settings.node) if published else None
        notes += _route_notes(placed, route, settings, reached=server is not None or not published)
        if route.scheme not in HTTP_SCHEMES:
            continue
        asked.update(places_of(route, placed.endpoint.service, placed.endpoint.proxydns, settings.domains))
        routed = judge_route(placed.endpoint, claims, settings.domains)
        notes += _refusals(placed, routed)
        if unserved(route):
            continue
        for place in routed.granted:
            if place in places and published:
                places[place].append((Asked(placed.container.started, placed.endpoint.id, route), server))
    standing = {}
    for place, served in places.items():
        service = claims[place].service.lower()
        standing[place], said = _standing(service, served, settings.around)
        notes += (Note(service, _shown(place), one) for one in said)
    return _Wanted(standing, frozenset(asked), tuple(sorted(set(notes))))


# Of the endpoints themselves nothing is kept: their records take several times the room of their servers.
def _standing(
    service: str, served: Sequence[tuple[Asked, Server | None]], around: Around
) -> tuple[_Standing, tuple[str, ...]]:
    """What stands at a place, and what is to be said of it."""
    if not served:
        return _Standing(), ()
    agreed = agree([asked for asked, _ in served])
    try:
        decided = decide(service, agreed.route, agreed.allow, around)
    except quote.Unprintable as error:  # no record that can be decoded comes here; if one does, it costs only itself
        decided = Decided(PLAIN, f"{error}; nobody is let in")
    backend = agreed.route.backend  # nginx speaks one language with a group: who speaks another waits
    sticky = decided.policy.sticky is not None and decided.policy.sticky.cookie is not None
    servers = {
        msgspec.structs.replace(server, key=key_of(asked.id)) if sticky else server
        for asked, server in served
        if server is not None and asked.route.backend == backend
    }
    said = (*agreed.notes, *decided.notes, *((decided.closed,) if decided.closed else ()))
    return _Standing(tuple(sorted(servers)), agreed.route.strip, decided), said


def _refusals(placed: Placed, routed: Routed) -> list[Note]:
    return [
        Note(
            placed.endpoint.service.lower(),
            _shown(refusal.place),
            f"it belongs to {refusal.owner}, which asked first" if refusal.owner else "nobody has claimed it yet",
        )
        for refusal in routed.refused
    ]


def _route_notes(placed: Placed, route: Route, settings: ViewSettings, *, reached: bool) -> list[Note]:
    endpoint, problem = placed.endpoint, unserved(route)
    if not problem and not reached:
        problem = f"{placed.node} gives no address of it that {settings.node} can reach: publish the port"
    return [Note(endpoint.service.lower(), values.quoted(endpoint.id), problem)] if problem else []


def _shown(place: Place) -> str:
    shown = f"{place.host}{place.path}"
    return shown if shown.isascii() and shown.isprintable() and len(shown) < 300 else values.quoted(shown)


def _server(placed: Placed, node: str) -> Server | None:
    chosen = choose_address(placed, node)
    if chosen is None:
        return None
    try:
        address, weight = quote.address(chosen.ip, chosen.port), quote.number(placed.verdict.weight)
        return Server(address, weight, placed.node == node)
    except quote.Unprintable:
        return None


class _Builder:
    """Makes the view of one service."""

    def __init__(self, service: str, wanted_: _Wanted, hosts: Hosts, settings: ViewSettings) -> None:
        self._service, self._wanted, self._hosts, self._settings = service, wanted_, hosts, settings
        self._copies: dict[Token, bytes] = {}
        self._extras = settings.around.extras
        self._upstreams: dict[tuple[tuple[Server, ...], Policy], Upstream] = {}

    def build(self) -> ServiceView:
        notes = list(self._wanted.notes)
        locations: dict[str, list[Location]] = {}
        for place, standing in sorted(self._wanted.places.items()):
            winner = self._hosts.winner(place)
            if (winner.place, winner.service) == (place, self._service):
                locations.setdefault(place.host, []).append(self._location(place, standing))
            else:
                reason = f"{winner.service} has {winner.place.path} at this host, which is the same to nginx"
                notes.append(Note(self._service, _shown(place), reason))
        leads = {host: found for host, found in locations.items() if self._hosts.leader(host) == self._service}
        sites = self._sites(leads)
        return ServiceView(
            name=self._service,
            file=service_file(self._service),
            upstreams=tuple(self._upstreams.values()),
            sites=sites,
            parts=tuple(
                (part_file(self._service, host), Site((quote.host(host),), tuple(found), (), rest=False))
                for host, found in locations.items()
                if host not in leads
            ),
            notes=tuple(sorted(set(notes))),
            copies=tuple(sorted(self._copies.items())),
        )

    def _sites(self, leads: Mapping[str, list[Location]]) -> tuple[Site, ...]:
        alike: dict[tuple[tuple[Location, ...], tuple[Token, ...], bool, Own], list[Token]] = {}
        for host, found in leads.items():
            parts = tuple(part_file(other, host) for other in self._hosts.others(host, self._service))
            covered = self._hosts.covers_all(host)
            alike.setdefault((tuple(found), parts, not covered, self._own(host)), []).append(quote.host(host))
        return tuple(Site(tuple(hosts), *rest) for rest, hosts in alike.items())

    def _own(self, host: str) -> Own:
        extras, everywhere = self._extras, Place(host, "")
        snippet = self._copy(snippet_file(everywhere), extras.hosts[host]) if host in extras.hosts else None
        return Own(snippet, self._copy(page_file(host), extras.pages[host]) if host in extras.pages else None)

    def _copy(self, file: Token, text: bytes) -> Token:
        self._copies[file] = text
        return file

    def _location(self, place: Place, standing: _Standing) -> Location:
        if place.host in self._extras.pages:
            return Location(place.path, matches(place.path), None, strip=False, policy=CLOSED_FOR_WORK)
        path, policy = place.path, at(standing.decided.policy, place.host)
        own = self._extras.places.get(place)
        snippet = None if own is None else self._copy(snippet_file(place), own)
        servers = () if standing.decided.closed else standing.servers
        strip = standing.strip and path != "/" and not policy.grpc
        return Location(
            path, matches(path), self._upstream(servers, policy) if servers else None, strip, policy, snippet
        )

    def _upstream(self, servers: tuple[Server, ...], policy: Policy) -> Upstream:
        servers = tuple({one.address: one for one in reversed(servers)}.values())[::-1]
        key = (servers, policy)
        if key not in self._upstreams:
            self._upstreams[key] = upstream(self._service, len(self._upstreams) + 1, servers, policy)
        return self._upstreams[key]
