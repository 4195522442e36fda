"""Who is served, with what weight, and why: the one judgement that DNS, proxies, exports and status share.

Pure: records in, verdicts out. The registry asks it about every endpoint that it hands out (`Placed.verdict`), so that
a name and a URL never disagree about the same container.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from pilotfish.catalog import values
from pilotfish.catalog.record import Claim, Container, Endpoint, State
from pilotfish.catalog.route import Place, places_of
from pilotfish.catalog.wishes import MAX_WEIGHT, Kind, Load, Subject, Wishes, shares, subjects


class Verdict(NamedTuple):
    """Whether an endpoint is served: its weight (0: not served) and the reason in words."""

    weight: int
    reason: str

    @property
    def published(self) -> bool:
        """True when it is in DNS answers and upstreams."""
        return self.weight > 0


class Placed(NamedTuple):
    """An endpoint with the container and so the node it belongs to, and the verdict on it."""

    container: Container
    endpoint: Endpoint
    verdict: Verdict

    @property
    def node(self) -> str:
        """Name of the host it runs on."""
        return self.container.node


class Situation(NamedTuple):
    """What decides about the endpoints of one service besides their own records.

    Attributes:
        panic: most of those that worked fail at once: a fault of the check or of something behind all of them is
            likelier than that all of them broke, and to serve none helps nobody (as Envoy does).
        drained: whom of their nodes, containers and themselves operators took out.
        shares: version -> by what weights are multiplied; None: as they are.
    """

    panic: bool = False
    drained: frozenset[Subject] = frozenset()
    shares: Mapping[str, float] | None = None


CALM = Situation()
PANIC_FROM = 3  # formerly passing endpoints of a service; with fewer, each failure is believed


def situation(members: Sequence[tuple[Container, Endpoint]], service: str, wishes: Wishes) -> Situation:
    """What decides about the endpoints of a service together.

    Args:
        members: all its endpoints on all hosts.
        service: its name in lower case.
        wishes: all that stand.
    """
    judged = [endpoint for _, endpoint in members if endpoint.passed and endpoint.state in _WORKED]
    failing = sum(endpoint.state == "failing" for endpoint in judged)
    panic = len(judged) >= PANIC_FROM and failing * 2 > len(judged)
    ours = {one for container, _ in members for one in subjects(container.node, container.id, service)}
    plain = Situation(panic, frozenset(ours & wishes.drains.keys()))
    shift = wishes.shifts.get(service)
    if shift is None:
        return plain
    loads: dict[str, Load] = {}
    for container, endpoint in members:
        weight = judge(container, endpoint, plain).weight
        loads[endpoint.version] = loads.get(endpoint.version, Load()).plus(weight)
    return plain._replace(shares=shares(shift.percents, loads))


_WORKED = frozenset({"passing", "failing"})

AWAY = "orphan: its registrator is away"
HELD = "held: its record was taken away together with most others"

REASONS: dict[State, str] = {
    "starting": "starting: not yet ready",
    "passing": "passing",
    "failing": "failing: its health check says so",
    "draining": "draining: about to stop",
}


def judge(
    container: Container,
    endpoint: Endpoint,
    around: Situation = CALM,
    orphan: Collection[str] | None = None,
    why_kept: str = AWAY,
) -> Verdict:
    """Judge one endpoint.

    Args:
        container: whose it is.
        endpoint: by its own state and weight.
        around: the situation of its service.
        orphan: for a record that is kept although the store has it no more: ids of its endpoints that do not answer.
        why_kept: why it is.

    >>> from pilotfish.catalog.record import Container, Endpoint
    >>> container = Container(node="h", id="0123456789ab", name="c", image="i", started=0.0, observed=0.0)
    >>> judge(container, Endpoint(service="a", id="h:c:80", label="h-c-80", port=80, state="draining"))
    Verdict(weight=0, reason='draining: about to stop')
    """
    reason = f"{endpoint.state}: {endpoint.why}" if endpoint.why else REASONS[endpoint.state]
    if orphan is not None:
        if endpoint.id in orphan:
            return Verdict(0, f"{why_kept}, and it is gone: no answer, or another has its address")
        reason = f"{why_kept}, kept while it answers; {reason}"
    if endpoint.state == "failing" and around.panic and endpoint.passed:
        reason += "; kept, since most of its service fails"
    elif endpoint.state != "passing":
        return Verdict(0, reason)
    if around.drained:
        ours = subjects(container.node, container.id, endpoint.service.lower())
        taken = next((one for one in ours if one in around.drained), None)
        if taken is not None:
            said = called(container) if taken.kind is Kind.CONTAINER else str(taken)
            return Verdict(0, f"drained: an operator took {said} out")
    if endpoint.weight == 0:
        return Verdict(0, "weight 0: takes no traffic")
    if around.shares is None:
        return Verdict(endpoint.weight, reason)
    return _shifted(endpoint, around.shares, reason)


def called(container: Container) -> str:
    """A container as people know it: `web-1 on docker01 (0123456789ab)`."""
    return f"{container.name} on {container.node} ({container.id[:12]})"


def _shifted(endpoint: Endpoint, by: Mapping[str, float], reason: str) -> Verdict:
    factor = by.get(endpoint.version, 0.0)
    if not factor:
        return Verdict(0, f"version {values.quoted(endpoint.version)} has no share: an operator shifted the load")
    return Verdict(min(MAX_WEIGHT, max(1, round(endpoint.weight * factor))), reason)


def published(endpoints: Iterable[Placed]) -> tuple[Placed, ...]:
    """Those that are served, in the order given."""
    return tuple(placed for placed in endpoints if placed.verdict.published)


class How(IntEnum):
    """How an endpoint stands behind a name; the highest that any endpoint has decides for the name."""

    SERVICE = 1  # the name is its service's, and it has no DNS tag
    TAGGED = 2  # its DNS tag says so
    PROXIED = 3  # it is proxied under its service's name, or PROXYDNS or PROXY_HOST says so


def names_of(endpoint: Endpoint) -> dict[str, How]:
    """All names, relative to our domains and in lower case, that an endpoint stands behind.

    >>> from pilotfish.catalog.record import Endpoint
    >>> names_of(Endpoint(service="Web", id="h:c:80", label="h-c-80", port=80, proxydns=("www",)))
    {'web': <How.SERVICE: 1>, 'www': <How.PROXIED: 3>}
    """
    service = endpoint.service.lower()
    names = {service: How.SERVICE} if endpoint.dns is None else {name.lower(): How.TAGGED for name in endpoint.dns}
    proxied = list(endpoint.proxydns)
    if endpoint.route:
        proxied += [service, *(host for host in endpoint.route.hosts if "." not in host)]
    return names | {name.lower(): How.PROXIED for name in proxied}


class Refusal(NamedTuple):
    """A place that a service asked for and does not have."""

    place: Place
    owner: str


class Routed(NamedTuple):
    """What became of the route of one endpoint: places that it serves, and those that it was refused."""

    granted: tuple[Place, ...]
    refused: tuple[Refusal, ...]


def judge_route(endpoint: Endpoint, claims: Mapping[Place, Claim], domains: Sequence[str]) -> Routed:
    """Which places an endpoint's service owns among those that its route asks for.

    A place that nobody has claimed yet is not served: its registrator claims it before it publishes, so a missing claim
    means that it has not come that far. `owner` is empty then.
    """
    if endpoint.route is None:
        return Routed((), ())
    service = endpoint.service.lower()
    granted, refused = [], []
    for place in places_of(endpoint.route, service, endpoint.proxydns, tuple(domains)):
        claim = claims.get(place)
        if claim is not None and claim.service.lower() == service:
            granted.append(place)
        else:
            refused.append(Refusal(place, claim.service if claim else ""))
    return Routed(tuple(granted), tuple(refused))
