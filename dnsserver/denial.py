"""Names that do not exist, answered without building an answer for each.

Pure. Below a name that exists, every name that does not gets the same answer, but for the question and for where in it
the domain begins. So what was written once is cut into pieces, and held by the name above: a flood of made-up names
costs a few look-ups each, and fills nothing.

Invariants:
- a pattern says that a name does not exist only after it has looked: at that moment neither the name nor the one below
  the pattern's name that leads to it exists;
- a pattern is held exactly as long as none of the names that it depends on has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dnsserver.message.rr import Record
from dnsserver.skydns.foreign import may_be_wildcard

MAX_PATTERNS = 4096  # names above; each with the types and EDNS sizes that are asked for
MAX_SHAPES = 128  # lengths of what stands in front, for each pattern
MAX_DEPTH = 8  # labels that are looked through for the name above
_HEADER = 10  # octets of flags and counts: what is left of a header without its id
_OPT = 11  # octets of an OPT record without options
_FIXED = 4  # octets of type and class
_START = 12  # where the question begins in a message
_COMPRESSED = 0xC000  # RFC 1035 §4.1.4
_POINTER = 64  # a length octet from here on is none


class Shape(NamedTuple):
    """What is sent around the question and the serial: flags and counts; records up to the serial; what follows it."""

    head: bytes
    before: bytes
    after: bytes
    tally: list[int]


class Pattern(NamedTuple):
    """The answer for all names that do not exist below one name, asked for in one way.

    Attributes:
        absent: True for a name right below, in lower case, when nothing is there or below it.
        tail: octets of a question behind its name, EDNS included.
        shapes: by the octets in front of the name above.
        depends: names that change it.
    """

    absent: Callable[[bytes], bool]
    tail: int
    shapes: dict[int, Shape]
    depends: frozenset[bytes]


Key = tuple[bytes, bytes]  # flags and counts; the question from the name above on


class Denials:
    """Patterns by how a question looks from the name above on.

    Args:
        serial: octets of the SOA's serial as it is now.
    """

    def __init__(self, serial: bytes) -> None:
        self.serial = serial
        self._patterns: dict[Key, Pattern] = {}
        self._by_name: dict[bytes, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._patterns)

    def find(self, key: bytes) -> bytes | None:
        """The answer to a question for a name that does not exist; None when it is not known here.

        Args:
            key: the message without its id, spelled as it came.

        Never raises: what is no well-formed question finds nothing, since only such were held.
        """
        # Letters in what stands behind the name are folded too: types and sizes that differ only by that share an
        # answer here. None of it is in the answer but for the question, which is copied.
        lower = key.lower()
        flags, at, get, most = lower[:_HEADER], _HEADER, self._patterns.get, len(lower)
        for _ in range(MAX_DEPTH):
            if at >= most or not 0 < lower[at] < _POINTER:
                return None
            near, at = at, at + 1 + lower[at]
            pattern = get((flags, lower[at:]))
            if pattern is not None:
                return self._told(key, lower, pattern, near, at)
        return None

    def _told(self, key: bytes, lower: bytes, pattern: Pattern, near: int, at: int) -> bytes | None:
        shape, end = pattern.shapes.get(at), len(key) - pattern.tail
        name = lower[near:end]
        # Names in the answer point into the domain in the question: spelled otherwise, they would be too.
        if shape is None or key[at:end] != lower[at:end] or may_be_wildcard(lower) or not pattern.absent(name):
            return None
        shape.tally[0] += 1
        head, before, after, _ = shape
        return b"".join((head, key[_HEADER : end + _FIXED], before, self.serial, after))

    def learn(self, key: bytes, above: bytes, absent: Callable[[bytes], bool], shape: Shape) -> None:
        """Hold what was said to one question for all like it.

        Args:
            key: the message without its id, of one question and at most an OPT record without options.
            above: the nearest name above that exists; wire name in lower case.
            absent: see Pattern.
            shape: the pieces of what was said.
        """
        lower = key.lower()
        tail = _FIXED + (_OPT if key[_HEADER - 1] else 0)
        at = len(key) - tail - len(above)
        where = lower[:_HEADER], lower[at:]
        pattern = self._patterns.get(where)
        if pattern is None:
            if len(self._patterns) >= MAX_PATTERNS:
                self.clear()
            pattern = self._patterns[where] = Pattern(absent, tail, {}, _around(above))
            for name in pattern.depends:
                self._by_name.setdefault(name, set()).add(where)
        if len(pattern.shapes) < MAX_SHAPES:
            pattern.shapes[at] = shape

    def drop(self, names: Iterable[bytes]) -> int:
        """Let go of every pattern that depends on one of the names; returns how many there were."""
        found = {where for name in names for where in self._by_name.get(name, ())}
        for where in found:
            for name in self._patterns.pop(where).depends:
                held = self._by_name[name]
                held.discard(where)
                if not held:
                    del self._by_name[name]
        return len(found)

    def drop_below(self, zones: tuple[bytes, ...]) -> int:
        """Let go of every pattern at or below one of the zones; returns how many there were."""
        return self.drop([name for name in self._by_name if name.endswith(zones)])

    def clear(self) -> None:
        """Let go of all."""
        self._patterns.clear()
        self._by_name.clear()


def is_apart(before: bytes, name: bytes, soa: Record) -> bool:
    """True when of a question's name only the domain was pointed into: so it is for all names of this length.

    Args:
        before: what is sent between the question and the serial.
        name: of the question.
        soa: the one record in it.
    """
    pointer = (_COMPRESSED | (_START + len(name) - len(soa.owner))).to_bytes(2)
    return before.count(pointer) == 1 + sum(one.endswith(soa.owner) for one in soa.data.names)


def _around(above: bytes) -> frozenset[bytes]:
    return frozenset({above, b"\x01*" + above})
