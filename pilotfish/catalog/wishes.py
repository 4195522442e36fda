"""What operators want: drains and shifts, as they stand under /pilotfish/v1/wishes. Pure: records in, values out.

Nobody edits another's record: a wish stands beside the records, and every reader combines the two (`verdict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from pilotfish.catalog.keys import WishKey
from pilotfish.catalog.record import BadRecord, Drain, Shift, decode


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


DRAIN, SHIFT = "drain", "shift"  # the kinds of wishes, as keys have them


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


def shares(percents: Mapping[str, int], weights: Mapping[str, int]) -> Mapping[str, float]:
    """By what the weight of an endpoint is multiplied, by its version, so that versions share the load as asked.

    Args:
        percents: of versions, as asked; what is left of 100 goes to the versions that are not named.
        weights: of all endpoints of a version that are served, together.

    >>> dict(shares({"blue": 90, "green": 10}, {"blue": 300, "green": 100}))
    {'blue': 30.0, 'green': 10.0}
    """
    others = sum(weight for version, weight in weights.items() if version not in percents)
    rest = max(0, 100 - sum(percents.values()))
    asked = {version: (percents.get(version, rest), weights[version]) for version in weights}
    return MappingProxyType(
        {
            version: percent * SHARE_SCALE / (weight if version in percents else others) if weight else 0.0
            for version, (percent, weight) in asked.items()
        }
    )


SHARE_SCALE = 100  # a weight of a percent of one version's; so that many endpoints of a small share stay apart
