"""Looks after what operators wished about things that are gone: plans marks and removals. Pure.

Any node may notice it, as with claims; conditions on a wish's revision see to it that only one of them writes. A
container that was removed never comes back under its id, and a service that nobody has started for a day is a new one
when it comes. A host is different: it is drained to be repaired, and is away for as long as that takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from pilotfish.catalog.keys import WishKey, wish_key
from pilotfish.catalog.record import Drain, Shift, encode
from pilotfish.catalog.store import Condition, Delete, ModifiedAt, Operation, Put
from pilotfish.catalog.wishes import SHIFT, Kind, Subject, subject_of

DAY_S = 24 * 3600.0
# Seconds for which somebody has to be gone until what was wished about it goes too.
FORGOTTEN_S: Mapping[Kind, float] = MappingProxyType(
    {Kind.CONTAINER: DAY_S, Kind.SERVICE: DAY_S, Kind.NODE: 30 * DAY_S}
)


class Wished(NamedTuple):
    """A wish as it stands in the store, with the revision of its last change."""

    key: WishKey
    wish: Drain | Shift
    revision: int

    @property
    def subject(self) -> Subject | None:
        """Whom it is about; None: nobody that this version knows."""
        return Subject(Kind.SERVICE, self.key.name.lower()) if self.key.kind == SHIFT else subject_of(self.key.name)


class Tidied(NamedTuple):
    """One write about one wish.

    Attributes:
        condition: holds as long as nobody else has touched it.
        operation: the write.
        said: what an operator should know of it; empty for a mark.
    """

    condition: Condition
    operation: Operation
    said: str = ""


def plan_wishes(wishes: Iterable[Wished], is_there: Callable[[Subject], bool], now: float) -> tuple[Tidied, ...]:
    """Mark wishes about what is gone, forget the mark of what came back, and remove those that are forgotten.

    Args:
        wishes: all that stand.
        is_there: whether any node knows a subject.
        now: UNIX time in seconds.
    """
    steps = []
    for one in wishes:
        if (subject := one.subject) is None:
            continue
        key = wish_key(one.key.kind, one.key.name)
        unchanged, gone_since = ModifiedAt(key, one.revision), one.wish.gone_since
        if is_there(subject):
            if gone_since:
                steps.append(Tidied(unchanged, Put(key, _marked(one.wish, 0.0))))
        elif not gone_since:
            steps.append(Tidied(unchanged, Put(key, _marked(one.wish, now))))
        elif now - gone_since >= FORGOTTEN_S[subject.kind]:
            days = (now - gone_since) / DAY_S
            said = f"the {one.key.kind} of {subject} is removed: it is gone for {days:.0f} days"
            steps.append(Tidied(unchanged, Delete(key), said))
    return tuple(steps)


def _marked(wish: Drain | Shift, gone_since: float) -> bytes:
    return encode(msgspec.structs.replace(wish, gone_since=gone_since))
