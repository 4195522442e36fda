"""Who is served, with what weight, and why: the one judgement that DNS, proxies, exports and status share.

Pure: records in, verdicts out. Every reader calls this and nothing else to decide whether an endpoint is served, so
that a name and a URL never disagree about the same container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from pilotfish.catalog.record import Claim, Container, Endpoint, State
from pilotfish.catalog.route import Place, places_of


class Placed(NamedTuple):
    """An endpoint with the container and so the node it belongs to."""

    container: Container
    endpoint: Endpoint

    @property
    def node(self) -> str:
        """Name of the host it runs on."""
        return self.container.node


class Verdict(NamedTuple):
    """Whether an endpoint is served: its weight (0: not served) and the reason in words."""

    weight: int
    reason: str

    @property
    def published(self) -> bool:
        """True when it is in DNS answers and upstreams."""
        return self.weight > 0


REASONS: dict[State, str] = {
    "starting": "starting: not yet ready",
    "passing": "passing",
    "failing": "failing: its health check says so",
    "draining": "draining: about to stop",
}


def judge(endpoint: Endpoint) -> Verdict:
    """Judge one endpoint by its own state and weight.

    >>> from pilotfish.catalog.record import Endpoint
    >>> judge(Endpoint(service="a", id="h:c:80", label="h-c-80", port=80, state="draining"))
    Verdict(weight=0, reason='draining: about to stop')
    """
    reason = REASONS[endpoint.state]
    if endpoint.state != "passing":
        return Verdict(0, reason)
    if endpoint.weight == 0:
        return Verdict(0, "weight 0: takes no traffic")
    return Verdict(endpoint.weight, reason)


def published(endpoints: Iterable[Placed]) -> tuple[Placed, ...]:
    """Those that are served, in the order given."""
    return tuple(placed for placed in endpoints if judge(placed.endpoint).published)


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
