"""Who owns a route: plans the claims of a node's endpoints and looks after those that nobody uses any more.

Pure. A place (host and path) belongs to the service that claimed it first, in the store's order: a claim is put only
where none is. It stays when the containers go and is free again IDLE_S later, so that recreating them keeps it. Any
node may notice that a claim is idle; conditions on its revision see to it that only one of them writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from pilotfish.catalog.keys import claim_key
from pilotfish.catalog.record import Claim, Endpoint, encode
from pilotfish.catalog.route import Place, Reserved, places_of, spelled_by
from pilotfish.catalog.store import Absent, Condition, Delete, ModifiedAt, Operation, Put

IDLE_S = 24 * 3600.0  # a claim without an endpoint is free after this time


class Held(NamedTuple):
    """A claim as it stands in the store, with the revision of its last change."""

    claim: Claim
    revision: int


class Step(NamedTuple):
    """One write about one claim; `conditions` hold as long as nobody else was faster."""

    place: Place
    conditions: tuple[Condition, ...]
    operation: Operation


class Conflict(NamedTuple):
    """A place that an endpoint asks for and does not get.

    Attributes:
        place: that it asks for.
        service: that the endpoint belongs to.
        owner: the service that has the place; empty: it is reserved.
        endpoint: its id.
    """

    place: Place
    service: str
    owner: str
    endpoint: str

    def __str__(self) -> str:
        """One sentence for people."""
        where = f"{self.place.host}{self.place.path}"
        first = f"belongs to {self.owner}, which asked first; both serve it when both have one SERVICE_NAME"
        why = first if self.owner else "is reserved"
        return f"{self.endpoint}: {where} {why}"


def asked(endpoint: Endpoint, domains: tuple[str, ...]) -> tuple[Place, ...]:
    """The places that an endpoint asks for; none without a route."""
    if endpoint.route is None:
        return ()
    return places_of(endpoint.route, endpoint.service.lower(), endpoint.proxydns, domains)


def plan_claims(
    endpoints: Iterable[Endpoint], claims: Mapping[Place, Held], reserved: Reserved, now: float
) -> tuple[tuple[Step, ...], tuple[Conflict, ...]]:
    """Claim what endpoints ask for and nobody has.

    Args:
        endpoints: of this node; earlier ones win among themselves.
        claims: all that there are.
        reserved: our domains, and what nobody may take.
        now: UNIX time in seconds.
    """
    steps: dict[Place, Step] = {}
    taken: dict[Place, str] = {}
    conflicts = []
    for endpoint in endpoints:
        service = endpoint.service.lower()
        for place in asked(endpoint, reserved.domains):
            held = claims.get(place)
            owner = held.claim.service.lower() if held else taken.setdefault(place, service)
            if reserved.covers(place.host) or owner != service:
                conflicts.append(Conflict(place, service, "" if reserved.covers(place.host) else owner, endpoint.id))
            elif held is None:
                value = encode(Claim(service=service, since=now))
                steps[place] = Step(place, (Absent(claim_key(place)),), Put(claim_key(place), value))
            elif held.claim.idle_since:
                steps[place] = _rewrite(place, held, idle_since=0.0)
    return tuple(steps.values()), tuple(conflicts)


def _rewrite(place: Place, held: Held, *, idle_since: float) -> Step:
    value = encode(msgspec.structs.replace(held.claim, idle_since=idle_since))
    key = claim_key(place)
    return Step(place, (ModifiedAt(key, held.revision),), Put(key, value))


class Askers:
    """Who asks for a place, whatever domains the nodes serve that registered them.

    A host below a domain that this node does not serve may be asked for on another node, which does: a name that stands
    under every domain counts for a place under any. Or two nodes would write one claim in turns, for ever.

    Args:
        endpoints: of all nodes, whatever their state.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._absolute: dict[Place, set[str]] = {}
        self._relative: dict[Place, set[str]] = {}  # with the host without its domain
        for endpoint in endpoints:
            if endpoint.route is None:
                continue
            service = endpoint.service.lower()
            spelled = spelled_by(endpoint.route, service, endpoint.proxydns)
            for host in spelled.absolute:
                self._absolute.setdefault(Place(f"{host}{spelled.port}", spelled.path), set()).add(service)
            for name in spelled.relative:
                self._relative.setdefault(Place(f"{name.lower()}{spelled.port}", spelled.path), set()).add(service)

    def of(self, place: Place) -> frozenset[str]:
        """The services, in lower case, that may ask for a place."""
        found = set(self._absolute.get(place, ()))
        name, colon, port = place.host.partition(":")
        at = name.find(".")
        while at >= 0:
            found |= self._relative.get(Place(f"{name[:at]}{colon}{port}", place.path), set())
            at = name.find(".", at + 1)
        return frozenset(found)


def plan_idle(endpoints: Iterable[Endpoint], claims: Mapping[Place, Held], now: float) -> tuple[Step, ...]:
    """Mark claims that nobody uses, and remove those that nobody has used for IDLE_S.

    Args:
        endpoints: of all nodes, whatever their state.
        claims: all that there are.
        now: UNIX time in seconds.
    """
    askers = Askers(endpoints)
    steps = []
    for place, held in claims.items():
        if held.claim.service.lower() in askers.of(place):
            continue
        if not held.claim.idle_since:
            steps.append(_rewrite(place, held, idle_since=now))
        elif now - held.claim.idle_since >= IDLE_S:
            key = claim_key(place)
            steps.append(Step(place, (ModifiedAt(key, held.revision),), Delete(key)))
    return tuple(steps)
