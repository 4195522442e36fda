"""Finished answers as octets, kept until a name that they depend on changes.

Pure. One dictionary look-up finds an answer. Bounded in answers and octets: the oldest goes first, since what is asked
often is soon there again.

Invariant: an answer is held exactly as long as it stands under each of the names that it depends on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable


class Kept:
    """One finished answer.

    `body()` is the next turn of it, or None when its time is over; `tally` counts for how it was asked and answered;
    `apart`: it is right for another spelling of the question too, see Written.
    """

    __slots__ = ("apart", "body", "depends", "octets", "tally")

    def __init__(
        self,
        body: Callable[[], bytes | None],
        octets: int,
        depends: frozenset[bytes],
        tally: list[int],
        *,
        apart: bool = False,
    ) -> None:
        self.body, self.octets, self.depends, self.tally, self.apart = body, octets, depends, tally, apart


class Cache:
    """Answers by key.

    Args:
        most: answers held.
        most_octets: octets of all bodies together.
    """

    def __init__(self, most: int, most_octets: int) -> None:
        self._most, self._most_octets = most, most_octets
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._by_name: dict[bytes, set[bytes]] = {}
        self._octets = 0
        self.get: Callable[[bytes], Kept | None] = self._kept.get

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def octets(self) -> int:
        """Octets of all bodies held."""
        return self._octets

    def put(self, key: bytes, kept: Kept) -> None:
        """Hold an answer, in the place of the one before; the oldest make room."""
        self._remove(key)
        self._kept[key] = kept
        self._octets += kept.octets
        for name in kept.depends:
            self._by_name.setdefault(name, set()).add(key)
        while len(self._kept) > self._most or self._octets > self._most_octets:
            self._remove(next(iter(self._kept)))

    def drop(self, names: Iterable[bytes]) -> int:
        """Let go of every answer that depends on one of the names; returns how many there were."""
        keys = {key for name in names for key in self._by_name.get(name, ())}
        for key in keys:
            self._remove(key)
        return len(keys)

    def drop_below(self, zones: tuple[bytes, ...]) -> int:
        """Let go of every answer that depends on a name at or below one of the zones; returns how many there were.

        Cost: all names that answers depend on.
        """
        return self.drop([name for name in self._by_name if name.endswith(zones)])

    def drop_asked(self, zones: tuple[bytes, ...]) -> int:
        """Let go of every answer to a question for a name at or below one of the zones, and of some others.

        Cost: all that is held.
        """
        keys = [key for key in self._kept if any(zone in key.lower() for zone in zones)]
        for key in keys:
            self._remove(key)
        return len(keys)

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()
        self._by_name.clear()
        self._octets = 0

    def _remove(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._octets -= kept.octets
        for name in kept.depends:
            keys = self._by_name[name]
            keys.discard(key)
            if not keys:
                del self._by_name[name]
