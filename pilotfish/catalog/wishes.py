"""What operators want: drains and shifts, as they stand under /pilotfish/v1/wishes. Pure: records in, values out.

Nobody edits another's record: a wish stands beside the records, and every reader combines the two (`verdict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from pilotfish.catalog.keys import WishKey, wish_key
from pilotfish.catalog.record import BadRecord, Drain, Release, Shift, decode


class Kind(Enum):
    """What a drain is for."""

    NODE = "node"  # every container of a host, and its proxy
    CONTAINER = "container"  # by the engine's whole id
    SERVICE = "service"  # by its name in lower case


class Subject(NamedTuple):
    """Whom a drain takes out."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"


DRAIN, SHIFT, RELEASE = "drain", "shift", "release"  # the kinds of wishes, as keys have them
RELEASE_KEY = wish_key(RELEASE, "guard")  # readers act when it is put (`guard`); its lease ends soon after


def subject_of(name: str) -> Subject | None:
    """The subject that the name of a drain's key stands for; None for one that makes no sense.

    >>> subject_of("node:h1")
    Subject(kind=<Kind.NODE: 'node'>, name='h1')
    """
    kind, found, rest = name.partition(":")
    if not found or not rest or kind not in {one.value for one in Kind}:
        return None
    return Subject(Kind(kind), rest)


def subjects(node: str, container: str, service: str) -> tuple[Subject, ...]:
    """Whose drains take out an endpoint of a service (in lower case) in a container on a node."""
    return Subject(Kind.SERVICE, service), Subject(Kind.NODE, node), Subject(Kind.CONTAINER, container)


class Wishes:
    """All wishes that stand.

    Attributes:
        drains: whom operators took out.
        shifts: service in lower case -> how its versions share the load.
    """

    def __init__(self) -> None:
        self.drains: dict[Subject, Drain] = {}
        self.shifts: dict[str, Shift] = {}

    def take(self, key: WishKey, value: bytes) -> None:
        """A wish came or changed.

        Raises:
            BadRecord: it is none that this version knows.
        """
        subject = subject_of(key.name)
        if key.kind == SHIFT:
            self.shifts[key.name.lower()] = decode(Shift, value)
        elif key.kind == DRAIN and subject:
            self.drains[subject] = decode(Drain, value)
        elif key.kind == RELEASE:
            decode(Release, value)
        else:
            raise BadRecord("it is a wish of no kind that this version knows")

    def at(self, key: WishKey) -> Drain | Shift | None:
        """The wish of a key; None for none."""
        if key.kind == SHIFT:
            return self.shifts.get(key.name.lower())
        subject = subject_of(key.name)
        return self.drains.get(subject) if key.kind == DRAIN and subject else None

    def drop(self, key: WishKey) -> None:
        """A wish went."""
        if key.kind == DRAIN and (subject := subject_of(key.name)):
            self.drains.pop(subject, None)
        elif key.kind == SHIFT:
            self.shifts.pop(key.name.lower(), None)


MAX_WEIGHT = 65535  # of SRV, RFC 2782


class Load(NamedTuple):
    """What of a version is served: the weights of its endpoints together, and the largest of them."""

    weight: int = 0
    largest: int = 0

    def plus(self, weight: int) -> Load:
        """With one endpoint more."""
        return Load(self.weight + weight, max(self.largest, weight))


def shares(percents: Mapping[str, int], loads: Mapping[str, Load]) -> Mapping[str, float]:
    """By what the weight of an endpoint is multiplied, by its version, so that versions share the load as asked.

    Args:
        percents: of versions, as asked; what is left of 100 goes to the versions that are not named.
        loads: of all versions.

    Weights are whole numbers: they are made as large as they can be, so that a small share of many endpoints is still
    the share that was asked for.

    >>> dict(shares({"blue": 90, "green": 10}, {"blue": Load(300, 100), "green": Load(100, 100)}))
    {'blue': 630.0, 'green': 210.0}
    """
    others = sum(load.weight for version, load in loads.items() if version not in percents)
    rest = max(0, 100 - sum(percents.values()))
    factors = {
        version: percents.get(version, rest) * HUNDREDTHS / (load.weight if version in percents else others)
        if load.weight
        else 0.0
        for version, load in loads.items()
    }
    largest = max((factor * loads[version].largest for version, factor in factors.items()), default=0.0)
    scale = max(1, int(MAX_WEIGHT / largest)) if largest else 1  # whole: what is even stays even
    return MappingProxyType({version: factor * scale for version, factor in factors.items()})


HUNDREDTHS = 100  # in a percent: the least of which a weight is made
