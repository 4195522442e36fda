"""Which containers stand behind which services and names. Pure; keys of the store stand for containers.

Most changes of a container leave that as it is (another weight, another state). Then nothing is indexed anew, and the
record that it had before need not be decoded again: a transaction of 120 records is taken in within 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from pilotfish.catalog.record import Endpoint
from pilotfish.catalog.verdict import How, names_of

V = TypeVar("V")

MAX_SHARED = 20_000  # footings that are kept to be shared; with more, some stand in memory twice


class Footing(NamedTuple):
    """What a container stands behind.

    Attributes:
        services: of its endpoints, in lower case, each once.
        failing: services of those that fail, one for each.
        names: names relative to our domains, in lower case, with in which ways it stands behind them, as bits.
    """

    services: tuple[str, ...]
    failing: tuple[str, ...]
    names: tuple[tuple[str, int], ...]


NOTHING = Footing((), (), ())


def footing_of(endpoints: Iterable[Endpoint], *, by_name: bool = True) -> Footing:
    """What a container with these endpoints stands behind; its names only where somebody asks by them."""
    services: dict[str, None] = {}
    failing: list[str] = []
    names: dict[str, int] = {}
    for endpoint in endpoints:
        service = endpoint.service.lower()
        services[service] = None
        if endpoint.state == "failing":
            failing.append(service)
        if by_name:
            for name, how in names_of(endpoint).items():
                names[name] = names.get(name, 0) | 1 << how
    return Footing(tuple(services), tuple(failing), tuple(names.items()))


class Standing:
    """The index, both ways.

    Args:
        by_name: somebody asks by names.

    Attributes:
        services: service -> keys of its containers.
        names: name -> keys -> in which ways they stand behind it, as bits; empty where nobody asks by names.
        failing: service -> endpoints that fail.
        count: containers that have endpoints.
    """

    def __init__(self, *, by_name: bool = True) -> None:
        self._by_name = by_name
        self.services: dict[str, dict[str, None]] = {}
        self.names: dict[str, dict[str, int]] = {}
        self.failing: dict[str, int] = {}
        self.count = 0
        self._footings: dict[str, Footing] = {}
        self._shared: dict[Footing, Footing] = {}  # containers of one service stand alike

    def put(self, key: str, endpoints: Iterable[Endpoint]) -> tuple[Footing, Footing]:
        """A container came or changed; returns what it stood behind, and what it stands behind now."""
        before, now = self.of(key), footing_of(endpoints, by_name=self._by_name)
        if before == now:
            if before is NOTHING:
                self._footings[key] = NOTHING
            return before, before
        self._remove(key, before)
        now = self._footings[key] = self._share(now)
        self.count += now != NOTHING
        for service in now.services:
            self.services.setdefault(service, {})[key] = None
        for service in now.failing:
            self.failing[service] = self.failing.get(service, 0) + 1
        for name, ways in now.names:
            self.names.setdefault(name, {})[key] = ways
        return before, now

    def drop(self, key: str) -> Footing:
        """A container went, if it was there; returns what it stood behind."""
        before = self._footings.pop(key, NOTHING)
        self._remove(key, before)
        return before

    def of(self, key: str) -> Footing:
        """What a container stands behind; nothing for one that is not there."""
        return self._footings.get(key, NOTHING)

    def ways(self, name: str) -> frozenset[How]:
        """In which ways containers stand behind a name in lower case."""
        together = 0
        for ways in self.names.get(name, {}).values():
            together |= ways
        return frozenset(how for how in How if together & 1 << how)

    def _remove(self, key: str, footing: Footing) -> None:
        self.count -= footing != NOTHING
        for service in footing.services:
            _discard(self.services, service, key)
        for service in footing.failing:
            self.failing[service] -= 1
            if not self.failing[service]:
                del self.failing[service]
        for name, _ in footing.names:
            _discard(self.names, name, key)

    def _share(self, footing: Footing) -> Footing:
        if len(self._shared) > MAX_SHARED:
            self._shared.clear()
        return self._shared.setdefault(footing, footing)


def _discard(index: dict[str, dict[str, V]], name: str, key: str) -> None:
    held = index[name]
    del held[key]
    if not held:
        del index[name]
