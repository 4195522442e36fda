"""Routes that two services ask for, of whom one gets it: for `inspect` and `lint`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pilotfish.catalog.record import Endpoint
from pilotfish.catalog.route import Place, places_of


class Contested(NamedTuple):
    """A place that an endpoint asks for after another service did.

    Attributes:
        number: of the container, as it was given.
        endpoint: that asks.
        place: for it.
        first: the service that asked before.
    """

    number: int
    endpoint: Endpoint
    place: Place
    first: str

    def __str__(self) -> str:
        """One sentence for people."""
        return (
            f"{self.place.host}{self.place.path}: service {self.first} asks for it too: the first gets it; both serve"
            " it when both have one SERVICE_NAME"
        )


def contested(endpoints: Iterable[tuple[int, Endpoint]], domains: tuple[str, ...]) -> Iterator[Contested]:
    """Places that several services ask for, each as often as somebody comes too late.

    Args:
        endpoints: each with the number of its container; the first that asks is the first here.
        domains: that are served.
    """
    asking: dict[Place, str] = {}
    for number, endpoint in endpoints:
        if endpoint.route is None:
            continue
        service = endpoint.service.lower()
        for place in places_of(endpoint.route, service, endpoint.proxydns, domains):
            first = asking.setdefault(place, service)
            if first != service:
                yield Contested(number, endpoint, place, first)
