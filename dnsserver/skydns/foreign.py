"""SkyDNS records written by others: where they stand, and which of them a question finds.

Pure. A key is a name: /skydns/test/example/web/1 is 1.web.example.test. A question finds every record at or below its
name; the labels `*` and `any` stand for one label each. Our own exports, told by their mark, are not taken in: what
they say is answered from the truth they were made from. A bad record is left out and named, its neighbours are not
touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dnsserver.message import dname
from dnsserver.skydns.record import DEFAULT_PRIORITY, BadForeign, Found, parse
from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Entry

CONFIG = ("config",)  # SkyDNS keeps its own settings there
MAX_FOUND = 2048  # records one question may find: about what fills 64 KiB
MAX_LOOKED_AT = 4 * MAX_FOUND  # names one question may look at: a wildcard may match many and find nothing
MAX_LEVELS = 16  # names for which it is remembered what is below labels of any kind, at most MAX_LOOKED_AT names each
WILDCARDS = frozenset({b"*", b"any"})


class TooMuch(Exception):
    """A question finds more than we are willing to put together."""


class Hits(NamedTuple):
    """What a question finds, sorted by key, each content once, without records of other groups.

    Attributes:
        hosts: records with a host: what is answered for every type but TXT. The others are as if they were not there.
        all: records with or without one.
        mails: records for mail with a host, of all groups: SkyDNS asks for none there.
        found: all of them, also of other groups, and each content as often as it is there.
    """

    hosts: tuple[Found, ...] = ()
    all: tuple[Found, ...] = ()
    mails: tuple[Found, ...] = ()
    found: tuple[Found, ...] = ()

    @property
    def each_host(self) -> tuple[Found, ...]:
        """Records with a host, without records of other groups, each content as often as it is there."""
        return tuple(grouped([one for one in self.found if one.said.host]))

    @property
    def mails_nowhere(self) -> bool:
        """True when there is a record for mail without a host."""
        return any(one.said.mail and not one.said.host for one in self.found)

    @property
    def mixed(self) -> bool:
        """True when there are records without a host among them."""
        return any(not one.said.host for one in self.all)


NO_HITS = Hits()


class _Level(NamedTuple):
    """Names a number of labels below one name, by their first label, and how many names were looked at for them."""

    by_label: dict[bytes, list[bytes]]
    looked_at: int


class Foreign:
    """All records of others, as a tree of names. Change it only by `apply`.

    Args:
        prefix: of their keys.
        ttl: seconds for records that give none.
        priority: for records that give none.
        exact: a question finds what stands at its name itself, and `*` and `any` are labels like others.
    """

    def __init__(self, prefix: str, ttl: int, priority: int = DEFAULT_PRIORITY, *, exact: bool = False) -> None:
        self.refused: dict[str, str] = {}  # key -> why its record was left out
        self.ttl, self.priority = ttl, priority
        self._prefix, self._exact = prefix.rstrip("/"), exact
        self._held: dict[str, Found] = {}
        self._at: dict[bytes, dict[str, Found]] = {}
        self._children: dict[bytes, set[bytes]] = {}
        self._levels: dict[bytes, dict[int, _Level]] = {}  # what `_level` found, by the name above

    def __len__(self) -> int:
        return len(self._held)

    def apply(self, difference: Difference) -> set[bytes]:
        """Take in a difference of the mirror of the SkyDNS prefix; returns the names whose records changed."""
        changed: set[bytes] = set()
        for key in difference.deletes:
            self._remove(key, changed)
        for entry in difference.puts:
            self._remove(entry.key, changed)
            self._put(entry, changed)
        for above in {above for name in changed for above in dname.suffixes(name)} if self._levels else ():
            self._levels.pop(above, None)
        return changed

    def exists(self, name: bytes) -> bool:
        """True when there is a record at or below a name in lower case."""
        return name in self._at or name in self._children

    def find(self, name: bytes) -> Hits | None:
        """The records that a question for a name in lower case finds.

        Returns:
            None when there is nothing at or below the name (for a wildcard: at or below what stands right of it).

        Raises:
            TooMuch: more than MAX_FOUND, or more than MAX_LOOKED_AT names to look at.
        """
        if self._exact:
            return self.standing(name)
        labels, fixed, top = _top(name)
        return self._hits(self._below(top, labels[:fixed][::-1])) if self.exists(top) else None

    def finds(self, name: bytes) -> bool:
        """True when `find` would not return None; looks at nothing below the name."""
        return self.exists(name if self._exact else _top(name)[2])

    def standing(self, name: bytes) -> Hits | None:
        """As `find`, with `*` and `any` as labels like others: for what stands at a wildcard."""
        return self.under(name) if not self._exact else self._hits(self.at(name)) if self.exists(name) else None

    def under(self, name: bytes) -> Hits | None:
        """The records at and below a name in lower case, whatever questions find: for names that mean something.

        Raises:
            TooMuch: see `find`.
        """
        return self._hits(self._below(name, ())) if self.exists(name) else None

    def at(self, name: bytes) -> list[Found]:
        """The records at exactly this name, in lower case, sorted by key."""
        held = self._at.get(name)
        return [held[key].settled(self.ttl, self.priority) for key in sorted(held)] if held else []

    def right_below(self, name: bytes) -> list[Found]:
        """The records at names with one label more than a name in lower case, sorted by key."""
        found = [one for child in self._children.get(name, ()) for one in self.at(child)]
        return sorted(found, key=_by_key)

    def names(self) -> list[bytes]:
        """The names that have records at or below them, in lower case."""
        return list(self._at.keys() | self._children.keys())

    def _hits(self, found: list[Found]) -> Hits:
        settled = tuple(sorted((one.settled(self.ttl, self.priority) for one in found), key=_by_key))
        each = _each_once(settled)
        hosts = [one for one in each if one.said.host]
        mails = tuple(one for one in hosts if one.said.mail)
        served = tuple(grouped(hosts))
        return Hits(served, served if len(hosts) == len(each) else tuple(grouped(each)), mails, settled)

    def _below(self, name: bytes, pattern: tuple[bytes, ...]) -> list[Found]:
        found: list[Found] = []
        for here in self._matching(name, pattern):
            found += self._at.get(here, {}).values()
            if len(found) > MAX_FOUND:
                raise TooMuch(f"{dname.to_text(name)} finds more than {MAX_FOUND} records")
        return found

    def _matching(self, name: bytes, pattern: tuple[bytes, ...]) -> Iterator[bytes]:
        waiting, looked_at = [(name, pattern)], 0
        passed = next((at for at, label in enumerate(pattern) if label not in WILDCARDS), 0)
        if passed and name != dname.ROOT:
            level = self._level(name, passed)
            looked_at, rest = level.looked_at, pattern[passed + 1 :]
            waiting = [(child, rest) for child in level.by_label.get(pattern[passed], ())]
        while waiting or looked_at > MAX_LOOKED_AT:
            if looked_at > MAX_LOOKED_AT:
                raise TooMuch(f"{dname.to_text(name)} has more than {MAX_LOOKED_AT} names below it")
            here, labels = waiting.pop()
            if not labels:
                yield here
            children = self._children.get(here, ())
            looked_at += len(children)
            waiting += [
                (child, labels[1:])
                for child in children
                if not labels or labels[0] in WILDCARDS or child[1 : 1 + child[0]] == labels[0]
            ]

    # What stands below that many labels of any kind: remembered, so that made-up labels left of a `*` cost a look-up.
    def _level(self, name: bytes, depth: int) -> _Level:
        known = self._levels.get(name, {}).get(depth)
        if known is not None:
            return known
        here, looked_at = [name], 0
        for _ in range(depth + 1):
            looked_at += sum(len(self._children.get(one, ())) for one in here)
            if looked_at > MAX_LOOKED_AT:
                here = []
                break
            here = [child for one in here for child in self._children.get(one, ())]
        by_label: dict[bytes, list[bytes]] = {}
        for child in here:
            by_label.setdefault(child[1 : 1 + child[0]], []).append(child)
        if len(self._levels) >= MAX_LEVELS:
            self._levels.clear()
        level = self._levels.setdefault(name, {})[depth] = _Level(by_label, looked_at)
        return level

    def _put(self, entry: Entry, changed: set[bytes]) -> None:
        labels = keys.skydns_name(self._prefix, entry.key)
        if labels is None or labels == CONFIG:
            return
        try:
            found = parse(entry, labels)
        except BadForeign as error:
            self.refused[entry.key] = str(error)
            return
        if found is not None:
            self._held[entry.key] = found
            self._link(found.name.lower(), entry.key, found)
            changed.add(found.name.lower())

    def _remove(self, key: str, changed: set[bytes]) -> None:
        self.refused.pop(key, None)
        found = self._held.pop(key, None)
        if found is not None:
            self._unlink(found.name.lower(), key)
            changed.add(found.name.lower())

    def _link(self, name: bytes, key: str, found: Found) -> None:
        self._at.setdefault(name, {})[key] = found
        for child in dname.suffixes(name):
            siblings = self._children.setdefault(dname.parent(child), set())
            if child in siblings:
                return
            siblings.add(child)

    def _unlink(self, name: bytes, key: str) -> None:
        del self._at[name][key]
        if not self._at[name]:
            del self._at[name]
        for gone in dname.suffixes(name):
            if self.exists(gone):
                return
            siblings = self._children[dname.parent(gone)]
            siblings.discard(gone)
            if not siblings:
                del self._children[dname.parent(gone)]


def _by_key(found: Found) -> str:
    return found.key


def _each_once(found: Iterable[Found]) -> list[Found]:
    first: dict[tuple[object, ...], Found] = {}
    for one in found:
        first.setdefault(one.same, one)
    return list(first.values())


def may_be_wildcard(name: bytes) -> bool:
    """False when a name in lower case has no wildcard label for certain; most have none."""
    return b"\x01*" in name or b"\x03any" in name


def _top(name: bytes) -> tuple[tuple[bytes, ...], int, bytes]:
    labels = dname.labels_of(name) if may_be_wildcard(name) else ()
    fixed = _fixed(labels)
    return labels, fixed, dname.from_labels(labels[fixed:]) if fixed else name


# How many labels from the left are not certain: up to and including the rightmost wildcard.
def _fixed(labels: tuple[bytes, ...]) -> int:
    return max((at + 1 for at, label in enumerate(labels) if label in WILDCARDS), default=0)


def grouped(found: list[Found]) -> list[Found]:
    """Leave out records of other groups.

    The records with the fewest labels say which group counts; those of it and those without a group are kept. When
    records of that level disagree, everything is. SkyDNS walks the list in order, and so do we.
    """
    if not found:
        return found
    group, level = found[0].said.group, found[0].key.count("/")
    seen = 0
    for one in found:
        seen += 1
        if one.key.count("/") < level:
            if not one.said.group:
                break
            level, group = one.key.count("/"), one.said.group
    if not group:
        return found
    if any(one.said.group not in {"", group} and one.key.count("/") == level for one in found[:seen]):
        return found
    return [one for one in found if one.said.group in {"", group}]


def scaled(found: list[Found]) -> list[int]:
    """SRV weights as SkyDNS gives them: each record's share of 100 among those of its priority, rounded down.

    The order of multiplication and division is SkyDNS's, since the rounding shows it.
    """
    total: dict[int, int] = {}
    for one in found:
        total[one.priority] = total.get(one.priority, 0) + one.weight
    return [int(100.0 / total[one.priority] * one.weight) for one in found]
