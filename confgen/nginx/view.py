"""The catalog as an nginx template needs it: every decision is taken here, the template only lays it out.

Pure. What one service is served as depends on its endpoints and claims (`rights`), on who else stands at its hosts, and
on certificates; each service's result is a frozen value, made anew only when one of these changed. Invariants: equal
catalogs give equal views (everything is sorted); one host is led by one service, so no server name comes twice; nothing
printable is a bare string.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeAlias

import msgspec

from confgen.nginx import directives, extras, quote, tls
from confgen.nginx.policy import CLOSED_FOR_WORK, NO_GUARDS, Around, Decided, Policy, at, beside, guards
from confgen.nginx.quote import Token
from confgen.nginx.rights import NOTHING, Rights, Standing, ViewSettings, matches, rights
from confgen.nginx.shapes import (
    NOTHING_OWN,
    Location,
    Note,
    Own,
    Server,
    ServiceView,
    Site,
    Upstream,
    headers_file,
    page_file,
    part_file,
    service_file,
    shown,
    snippet_file,
    upstream,
)
from confgen.nginx.sharing import Holding, Hosts
from confgen.nginx.stream_shapes import Facts
from confgen.nginx.stream_views import StreamViews
from pilotfish.catalog import values
from pilotfish.catalog.record import Claim
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.route import Place


class Views:
    """The views of all services, kept in step with a registry.

    Cost of an update: in proportion to what was touched and to who shares a host with it.
    """

    def __init__(self, settings: ViewSettings) -> None:
        self.services: dict[str, ServiceView] = {}
        self._settings = settings
        self._wanted: dict[str, Rights] = {}
        self._askers: dict[Place, set[str]] = {}
        self._owners: dict[Place, str] = {}
        self._owned: dict[str, set[Place]] = {}
        self._hosts = Hosts()
        self.streams = StreamViews(self._hosts)
        self._certificates = tls.NOT_TOLD
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
    def hosts(self) -> frozenset[str]:
        """All hosts that anybody has, those included that streams take at the port of https."""
        return self._hosts.names

    @property
    def longest_host(self) -> int:
        """Length of the longest of them, in octets."""
        return self._hosts.longest

    def unused(self) -> tuple[str, ...]:
        """The admin's files that stand nowhere, because nothing is served at their host or path; as sentences."""
        used = {file for view in self.services.values() for file, _ in view.copies}
        found = self.around.extras
        places = [*(Place(host, "") for host in found.hosts), *found.places]
        lost = [f"snippet of {shown(one)}" for one in sorted(places) if snippet_file(one) not in used]
        lost += [f"page of {host}" for host in sorted(found.pages) if page_file(host) not in used]
        return tuple(f"{one}: nothing is served there that it could stand in" for one in lost)

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

    def renew(self, certificates: tls.Certificates) -> frozenset[str]:
        """Take other certificates; returns the services whose view changed."""
        if certificates == self._certificates:
            return frozenset()
        self._certificates = certificates
        return frozenset(service for service in sorted(self._hosts.secured_services()) if self._view(service))

    def face(self, facts: Facts) -> frozenset[str]:
        """Take other facts about streams; returns the services whose view changed."""
        return frozenset(service for service in sorted(self.streams.face(facts)) if self._view(service))

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
        before = self._wanted.get(service, NOTHING)
        after = rights(registry.service(service), self._owned.get(service, ()), registry.claims, self._settings)
        for place in before.asked - after.asked:
            self._askers[place].discard(service)
            if not self._askers[place]:
                del self._askers[place]
        for place in after.asked - before.asked:
            self._askers.setdefault(place, set()).add(service)
        self._wanted[service] = after
        holdings = [
            Holding(place, service, registry.claims[place].since, standing.tls, standing.cert)
            for place, standing in after.places.items()
        ]
        beside = self._hosts.replace(service, holdings) | self.streams.want(service, after.streams)
        kept = before.places.keys() & after.places.keys()
        changed = {one.host for one in kept if _guards(before, one) != _guards(after, one)}
        return beside | {one.service for host in changed for one in self._hosts.served(host)}

    def _view(self, service: str) -> bool:
        wanted = self._wanted.get(service, NOTHING)
        before = self.services.get(service)
        changed, notes = self.streams.view(service)
        if not wanted.places and not wanted.notes and not wanted.streams:
            self._wanted.pop(service, None)
            self.services.pop(service, None)
            return changed or before is not None
        wanted = wanted._replace(notes=(*wanted.notes, *notes))
        view = _Builder(
            service,
            wanted,
            self._hosts,
            self._settings,
            certificates=self._certificates,
            everybody=self._wanted,
        ).build()
        self.services[service] = view
        return changed or view != before


def _guards(wanted: Rights, place: Place, snippet: Set[str] = frozenset()) -> tuple[object, ...]:
    standing = wanted.places.get(place)
    return guards(standing.decided, snippet) if standing else ()


# What makes hosts alike, in the order of a `Site`.
_Alike: TypeAlias = tuple[
    tuple[Location, ...], tuple[Token, ...], bool, Own, tls.Certificate | None, Token | None, bool, tuple[Token, ...]
]


class _Builder:
    """Makes the view of one service."""

    def __init__(
        self,
        service: str,
        wanted: Rights,
        hosts: Hosts,
        settings: ViewSettings,
        *,
        certificates: tls.Certificates,
        everybody: Mapping[str, Rights],
    ) -> None:
        self._service, self._wanted, self._hosts, self._certificates = service, wanted, hosts, certificates
        self._everybody = everybody
        self._copies: dict[Token, bytes] = {}
        self._settings, self._extras = settings, settings.around.extras
        self._upstreams: dict[tuple[tuple[Server, ...], Policy], Upstream] = {}

    def build(self) -> ServiceView:
        notes = list(self._wanted.notes)
        locations: dict[str, list[Location]] = {}
        for place, standing in sorted(self._wanted.places.items()):
            winner = self._hosts.winner(place)
            if (winner.place, winner.service) == (place, self._service):
                decided, said = self._beside(place, standing.decided)
                left, taken = self._left(place)
                whys = (*self._about_tls(place.host, standing), *said, *taken)
                notes += (Note(self._service, shown(place), why) for why in whys)
                there = locations.setdefault(place.host, [])
                if left:
                    there.append(self._location(place, left, standing._replace(decided=decided)))
            else:
                reason = f"{winner.service} has {winner.place.path} at this host, which is the same to nginx"
                notes.append(Note(self._service, shown(place), reason))
        leads = {host: found for host, found in locations.items() if self._hosts.leader(host) == self._service}
        sites = self._sites(leads)
        return ServiceView(
            name=self._service,
            file=service_file(self._service),
            upstreams=tuple(self._upstreams.values()),
            sites=sites,
            parts=tuple(
                (part_file(self._service, host), self._part(host, found))
                for host, found in locations.items()
                if host not in leads
            ),
            notes=tuple(sorted(set(notes))),
            copies=tuple(sorted(self._copies.items())),
        )

    def _beside(self, place: Place, decided: Decided) -> tuple[Decided, list[str]]:
        """What was decided, as far as it is a guard at this host, and what is to be said of it."""
        says, path = self._says(place), place.path.rstrip("/")
        guarded = bool(path) and guards(decided, says) != NO_GUARDS
        loose = guarded and quote.nearly(path) is None and self._strict(place.host)
        return beside(decided, directives.names(self._snippet(place.host)), says, loose=loose)

    def _left(self, place: Place) -> tuple[tuple[Token, ...], list[str]]:
        """What the admin's own directives leave of a place, and what is to be said of it.

        nginx would refuse the same location twice, and with it the neighbours.
        """
        found, taken = self._matches(place), self._locations(place.host)
        left = tuple(one for one in found if one.text not in taken)
        if left == found:
            return found, []
        twice = ", ".join(one.text for one in found if one.text in taken)
        rest = f"; ours is {', '.join(one.text for one in left)}" if left else ""
        return left, [f"the host's own directives have a location {twice} already, which counts{rest}"]

    def _part(self, host: str, found: list[Location]) -> Site:
        certificate, covered, own = self._certificate(host), self._covered(host), self._headers(host)
        hosts = (quote.host(host),)
        return Site(hosts, tuple(found), (), rest=False, own=own, certificate=certificate, covered=covered)

    def _sites(self, leads: Mapping[str, list[Location]]) -> tuple[Site, ...]:
        alike: dict[_Alike, list[Token]] = {}
        for host, found in leads.items():
            parts = tuple(part_file(other, host) for other in self._hosts.others(host, self._service))
            certificate, strict = self._certificate(host), self._strict(host)
            rest = not self._hosts.covers_all(host) and "/" not in self._locations(host)
            near = self._near(host) if strict else ()
            key = (tuple(found), parts, rest, self._own(host), certificate, self._covered(host), strict, near)
            alike.setdefault(key, []).append(quote.host(host))
        return tuple(Site(tuple(hosts), *rest) for rest, hosts in alike.items())

    def _strict(self, host: str) -> bool:
        """Whether guards differ among what is served at a host."""
        found, snippet = self._hosts.served(host), self._snippet(host)
        if directives.guards_inside(snippet):
            return True
        passed = directives.passes_inside(snippet)
        if len(found) + passed < 2:
            return False
        return len({self._asked(one) for one in found} | ({NO_GUARDS} if passed else set())) > 1

    def _asked(self, one: Holding) -> tuple[object, ...]:
        return _guards(self._everybody[one.service], one.place, self._says(one.place))

    def _near(self, host: str) -> tuple[Token, ...]:
        """What some applications take for a guarded path of a host: other letters, or parameters behind a segment."""
        found = self._hosts.served(host)
        paths = {one.place.path.rstrip("/") for one in found}
        guarded = {one.place.path.rstrip("/") for one in found if self._asked(one) != NO_GUARDS}
        near = (quote.nearly(path, paths) for path in sorted(guarded - {""}))
        return tuple(one for one in near if one is not None)

    def _snippet(self, host: str) -> bytes:
        """The admin's own directives of a host; empty where there are none."""
        return self._extras.hosts.get(host, b"")

    def _locations(self, host: str) -> frozenset[str]:
        """What the admin's own directives serve at a host."""
        return directives.locations(self._snippet(host))

    def _says(self, place: Place) -> frozenset[str]:
        own = extras.reaching(self._extras.places, place)
        return directives.names(self._extras.places[own]) if own else frozenset()

    def _matches(self, place: Place) -> tuple[Token, ...]:
        """How nginx says what belongs to a place; with the paths that it would redirect for a claim of `/path/`."""
        paths = [one.place.path for one in self._hosts.served(place.host)]
        if len(paths) < 2:
            return matches(place.path)
        reaches = [path.rstrip("/") + "/" for path in paths]
        stems = [path.rstrip("/") for path in paths if path.endswith("/") and path != "/"]
        above = {one: max((each for each in reaches if one.startswith(each)), key=len, default="") for one in stems}
        own = [one for one, reach in above.items() if reach == place.path.rstrip("/") + "/"]
        return (*matches(place.path), *(quote.exactly(one) for one in sorted(own)))

    def _own(self, host: str) -> Own:
        hosts, pages = self._extras.hosts, self._extras.pages
        snippet = self._copy(snippet_file(Place(host, "")), hosts[host]) if host in hosts else None
        page = self._copy(page_file(host), pages[host]) if host in pages else None
        return msgspec.structs.replace(self._headers(host), snippet=snippet, page=page)

    def _headers(self, host: str) -> Own:
        """Of a host's own directives, what each location has to repeat."""
        snippet = self._snippet(host)
        text = directives.headers(snippet)
        if not text:
            return NOTHING_OWN
        return Own(headers=self._copy(headers_file(self._service, host), text), sent=directives.sent(snippet))

    def _certificate(self, host: str) -> tls.Certificate | None:
        named = self._hosts.secured(host)
        return None if named is None else self._certificates.choose(host, named)

    def _covered(self, host: str) -> Token | None:
        """How many labels a name below a wildcard has that is covered: `*` in a certificate is one, RFC 6125 §6.4.3."""
        wide = host.startswith("*.") and self._certificate(host) is not None
        return quote.number(host.count(".") + 1) if wide else None

    def _about_tls(self, host: str, standing: Standing) -> tuple[str, ...]:
        """What a place that asks for https does not get of it, as sentences."""
        if standing.http is None:
            return ()
        found, named = self._certificate(host), standing.cert
        if found is None and self._settings.told and not len(self._certificates):
            return ()  # balancers have them
        if found is None:
            passed = self._hosts.passes(host)
            why = f"{passed.service} takes it as a stream on the port of https, and asked first" if passed else ""
            alone = "not served at all" if standing.http == "refuse" else "served over http alone"
            how = "https is left to the balancers" if self._settings.told else alone
            return (f"{how}: {why or self._certificates.why_not(host)}",)
        alone = "not served" if standing.http == "refuse" else "served over http alone"
        deeper = f"names of more labels than {host} are {alone}: no certificate covers them"
        notes = (deeper,) if host.startswith("*.") and not self._settings.told else ()
        if not named or named == found.name:
            return notes
        why = self._certificates.why_not_named(host, named) or "who asked first for https at this host decides"
        return (f"PROXY_CERT does not count: {why}; {values.quoted(found.name)} is served", *notes)

    def _copy(self, file: Token, text: bytes) -> Token:
        self._copies[file] = text
        return file

    def _location(self, place: Place, left: tuple[Token, ...], standing: Standing) -> Location:
        shut = standing.http == "refuse"
        there = standing.http is not None and (self._settings.told or self._certificate(place.host) is not None)
        secure = shut or (there and standing.http == "redirect")
        hsts = standing.hsts if there else None
        if place.host in self._extras.pages:
            closed = Location(place.path, left, None, strip=False, policy=CLOSED_FOR_WORK)
            return msgspec.structs.replace(closed, secure=secure, shut=shut, hsts=hsts)
        path, policy = place.path, at(standing.decided.policy, place)
        own = extras.reaching(self._extras.places, place)
        strip = standing.strip and path != "/" and not policy.grpc
        servers = () if standing.decided.closed else standing.servers
        return Location(
            path,
            left,
            self._upstream(servers, policy) if servers else None,
            strip=strip,
            prefix=quote.below(path.rstrip("/")) if strip else None,
            spelled=quote.spelled(path.rstrip("/")) if strip else None,
            dest=quote.below(standing.dest.rstrip("/")) if strip and standing.dest != "/" else None,
            policy=policy,
            snippet=None if own is None else self._copy(snippet_file(own), self._extras.places[own]),
            says=self._says(place),
            sent=frozenset() if own is None else directives.sent(self._extras.places[own]),
            secure=secure,
            shut=shut,
            hsts=hsts,
        )

    def _upstream(self, servers: tuple[Server, ...], policy: Policy) -> Upstream:
        servers = tuple({one.address: one for one in reversed(servers)}.values())[::-1]
        key = (servers, policy)
        if key not in self._upstreams:
            self._upstreams[key] = upstream(self._service, len(self._upstreams) + 1, servers, policy)
        return self._upstreams[key]
