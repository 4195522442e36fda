"""Names that exist, and what follows for those around them (RFC 4592 §2.2.2, RFC 8020). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from dnsserver.message import dname

Denial: TypeAlias = Callable[[bytes], bool]

_UNDERSCORE = ord("_")


class Existing:
    """Names of one kind that exist, and with them all between them and the root.

    Invariant: a name is `in` it exactly as long as it, or a name below it, of this kind or one beside it, was put and
    not dropped.

    Args:
        beside: another kind, counted together with this one: one look-up tells whether a name exists for any reason.
    """

    def __init__(self, beside: Existing | None = None) -> None:
        self._members: set[bytes] = set()
        self._counts: dict[bytes, int] = beside.counts if beside else {}

    def __contains__(self, name: bytes) -> bool:
        return name in self._counts

    @property
    def counts(self) -> dict[bytes, int]:
        """How many names of all kinds are at and below a name."""
        return self._counts

    def itself(self, name: bytes) -> bool:
        """True for a name of this kind that was put, not only one that has such below it."""
        return name in self._members

    def between(self, parent: bytes) -> set[bytes]:
        """The names of this kind, and those on the way to them, right below another; looks at all of this kind."""
        ways = {one for name in self._members for one in dname.suffixes(name)}
        return {name for name in ways if dname.parent(name) == parent}

    def put(self, name: bytes) -> None:
        """It exists."""
        if name not in self._members:
            self._members.add(name)
            for at_or_above in dname.suffixes(name):
                self._counts[at_or_above] = self._counts.get(at_or_above, 0) + 1

    def drop(self, name: bytes) -> None:
        """It is gone."""
        if name in self._members:
            self._members.discard(name)
            for at_or_above in dname.suffixes(name):
                self._counts[at_or_above] -= 1
                if not self._counts[at_or_above]:
                    del self._counts[at_or_above]

    def denial(self, besides: Iterable[bytes] = ()) -> Denial:
        """A quick answer to "is there nothing at or below this name", for names one label below a certain parent.

        Names that begin with `_` are never denied: ports and protocols stand there.

        Args:
            besides: names below the parent that exist too; as they are now, while those counted here are as when asked.
        """
        counted, fixed = self._counts, frozenset(besides)

        def denies(name: bytes) -> bool:
            return name not in counted and name not in fixed and name[1] != _UNDERSCORE

        return denies
