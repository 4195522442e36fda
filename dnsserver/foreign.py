"""SkyDNS records written by others: what they say, where they stand, and which of them a question finds.

Pure. A key is a name: /skydns/test/example/web/1 is 1.web.example.test. A question finds every record at or below its
name; the labels `*` and `any` stand for one label each. Our own exports, told by their mark, are not taken in: what
they say is answered from the truth they were made from. A bad record is left out and named, its neighbours are not
touched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec

from dnsserver import dname, rr
from dnsserver.dname import BadName
from dnsserver.rr import Data, Type
from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Entry

MARK = "pilotfish"  # our exports carry it
DEFAULT_PRIORITY = 10  # SkyDNS's
DEFAULT_WEIGHT = 100  # what SkyDNS counts for records that give none
LEASED_TTL = 30  # seconds at most for a record that may end with its lease
MAX_FOUND = 2048  # records one question may find: about what fills 64 KiB
MAX_LOOKED_AT = 4 * MAX_FOUND  # names one question may look at: a wildcard may match many and find nothing
MAX_TEXT = 60_000  # octets; one record has to fit in one message
WILDCARDS = frozenset({b"*", b"any"})

Whole16 = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class TooMuch(Exception):
    """A question finds more than we are willing to put together."""


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The JSON of a SkyDNS record; unknown fields are ignored, names of fields match in any case as in Go."""

    host: str = ""
    port: Whole16 = 0
    priority: Whole16 = 0
    weight: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    text: str = ""
    mail: bool = False
    ttl: Seconds = 0
    targetstrip: Annotated[int, msgspec.Meta(ge=0, le=127)] = 0
    group: str = ""


class Found(NamedTuple):
    """One SkyDNS record, ready to be answered.

    Attributes:
        key: where it stands.
        name: its wire name, spelled as in the key.
        said: its fields.
        priority: with SkyDNS's default.
        ttl: seconds, with the default, capped when it hangs on a lease.
        address: type and data when its host is an address.
        target: wire name when its host is a name.
    """

    key: str
    name: bytes
    said: Said
    priority: int
    ttl: int
    address: tuple[Type, Data] | None
    target: bytes | None

    @property
    def weight(self) -> int:
        """What it counts among records of one priority."""
        return self.said.weight or DEFAULT_WEIGHT

    @property
    def same(self) -> tuple[object, ...]:
        """What makes two records one in an answer."""
        said = self.said
        return said.host, said.port, said.priority, said.weight, said.text

    def service_target(self) -> bytes:
        """Target of its SRV record: its host's name, or its own when that is an address; stripped as it asks for."""
        return dname.without(self.target or self.name, self.said.targetstrip)


class Hits(NamedTuple):
    """What a question finds, sorted by key, each content once, without records of other groups.

    Attributes:
        hosts: records with a host: what is answered for every type but TXT. The others are as if they were not there.
        all: records with or without one.
    """

    hosts: tuple[Found, ...]
    all: tuple[Found, ...]

    @property
    def mixed(self) -> bool:
        """True when there are records without a host among them."""
        return any(not one.said.host for one in self.all)


class BadForeign(ValueError):
    """A value under the SkyDNS prefix that is no record; the message says why."""


def parse(entry: Entry, labels: tuple[str, ...], default_ttl: int) -> Found | None:
    """Read one record; None for one of our own exports.

    Raises:
        BadForeign: not JSON, a field of the wrong type or out of range, a text that no message can hold, or a key or
            host that is no domain name.
    """
    try:
        raw = msgspec.json.decode(entry.value)
        if not isinstance(raw, dict):
            raise BadForeign("no JSON object")
        if MARK in raw:
            return None
        said = msgspec.convert({str(name).lower(): value for name, value in raw.items() if value is not None}, Said)
        name = dname.from_labels([label.encode() for label in labels])
        address, target = _host(said.host)
        size = len(said.text.encode())
    except (msgspec.MsgspecError, BadName, UnicodeError, RecursionError) as error:
        raise BadForeign(str(error)) from error
    if size > MAX_TEXT:
        raise BadForeign(f"a text of {size} octets: {MAX_TEXT} are allowed")
    ttl = min(said.ttl or default_ttl, rr.MAX_TTL)
    return Found(
        entry.key,
        name,
        said,
        said.priority or DEFAULT_PRIORITY,
        min(ttl, LEASED_TTL) if entry.lease else ttl,
        address,
        target,
    )


def _host(host: str) -> tuple[tuple[Type, Data] | None, bytes | None]:
    if not host:
        return None, None
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None, dname.from_text(host)
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped  # as Go's To4
    return rr.address(str(ip).partition("%")[0]), None


class Foreign:
    """All records of others, as a tree of names. Change it only by `apply`."""

    def __init__(self, prefix: str, default_ttl: int) -> None:
        self.refused: dict[str, str] = {}  # key -> why its record was left out
        self._prefix, self._default_ttl = prefix.rstrip("/"), default_ttl
        self._held: dict[str, Found] = {}
        self._at: dict[bytes, dict[str, Found]] = {}
        self._children: dict[bytes, set[bytes]] = {}

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
        labels, fixed, top = _top(name)
        if not self.exists(top):
            return None
        found = sorted(self._below(top, labels[:fixed][::-1]), key=_by_key)
        return Hits(tuple(_served([one for one in found if one.said.host])), tuple(_served(found)))

    def finds(self, name: bytes) -> bool:
        """True when `find` would not return None; looks at nothing below the name."""
        return self.exists(_top(name)[2])

    def at(self, name: bytes) -> list[Found]:
        """The records at exactly this name, in lower case, sorted by key."""
        held = self._at.get(name, {})
        return [held[key] for key in sorted(held)]

    def _below(self, name: bytes, pattern: tuple[bytes, ...]) -> list[Found]:
        found: list[Found] = []
        for here in self._matching(name, pattern):
            found += self._at.get(here, {}).values()
            if len(found) > MAX_FOUND:
                raise TooMuch(f"{dname.to_text(name)} finds more than {MAX_FOUND} records")
        return found

    def _matching(self, name: bytes, pattern: tuple[bytes, ...]) -> Iterator[bytes]:
        waiting, looked_at = [(name, pattern)], 0
        while waiting:
            here, labels = waiting.pop()
            if not labels:
                yield here
            children = self._children.get(here, ())
            looked_at += len(children)
            if looked_at > MAX_LOOKED_AT:
                raise TooMuch(f"{dname.to_text(name)} has more than {MAX_LOOKED_AT} names below it")
            waiting += [
                (child, labels[1:])
                for child in children
                if not labels or labels[0] in WILDCARDS or child[1 : 1 + child[0]] == labels[0]
            ]

    def _put(self, entry: Entry, changed: set[bytes]) -> None:
        labels = keys.skydns_name(self._prefix, entry.key)
        if labels is None or labels == ("config",):  # SkyDNS keeps its own settings there
            return
        try:
            found = parse(entry, labels, self._default_ttl)
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


def _served(found: list[Found]) -> list[Found]:
    first: dict[tuple[object, ...], Found] = {}
    for one in found:
        first.setdefault(one.same, one)
    return grouped(list(first.values()))


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
