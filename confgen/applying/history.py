"""What is remembered of each configuration, and which one an operator holds on to. Pure: values and their JSON.

NGINX-DIR/history/<hash>.json   when and why a generation was applied, and what it changed (a `Note`)
NGINX-DIR/pin.json              the generation that a rollback holds until it is accepted (a `Pin`)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from confgen.nginx.quote import Unprintable, digest

FORMAT = 1
FOLDER, PIN = "history", "pin.json"
MOST_NAMES = 500  # services that a note names of each kind; beyond it only their number tells
_SERVICE = re.compile(r"(?:services|parts)/(.+)\.conf\Z")


class Note(msgspec.Struct, frozen=True):
    """One generation, as it was applied last.

    Attributes:
        generation: its hash.
        before: the one that it took over from; empty for none.
        at: UNIX time when it was proved, seconds.
        revision: of the store that it shows.
        reason: a sentence.
        added, changed, removed: services whose files came, changed or went, sorted, MOST_NAMES at most.
        counts: how many of each there are.
        main: the common files changed.
        quarantined: services that it serves as 503 because they were refused.
    """

    format: int
    generation: str
    before: str
    at: float
    revision: int
    reason: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    counts: tuple[int, int, int] = (0, 0, 0)
    main: bool = False
    quarantined: tuple[str, ...] = ()


class Pin(msgspec.Struct, frozen=True):
    """A generation that is held.

    Attributes:
        generation: its hash.
        since: UNIX time, seconds.
        until: UNIX time when it is let go by itself; 0: never.
    """

    format: int
    generation: str
    since: float
    until: float = 0.0

    def holds(self, now: float) -> bool:
        """True while it is held, at a UNIX time in seconds."""
        return not self.until or now < self.until


class Difference(msgspec.Struct, frozen=True):
    """What two configurations differ in: names of services, and whether the common files do."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    main: bool


def difference(
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    services: Mapping[str, str] | None = None,
    *,
    leaving_out: str = "generation.conf",
) -> Difference:
    """Compare the files of two configurations.

    Args:
        before: file -> text.
        after: file -> text.
        services: file -> service, where it is known; else the file's name says it.
        leaving_out: a file that always differs.

    >>> difference({"services/a.conf": b"1", "nginx.conf": b""}, {"services/b.conf": b"1", "nginx.conf": b"2"})
    Difference(added=('b',), changed=(), removed=('a',), main=True)
    """
    known = services or {}
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {leaving_out}
    owners = {name: known.get(name) or _named(name) for name in differing}
    touched = {owner for owner in owners.values() if owner}
    was = {owner for name, owner in owners.items() if owner and name in before}
    now = {owner for name, owner in owners.items() if owner and name in after}
    return Difference(
        added=tuple(sorted(touched - was)),
        changed=tuple(sorted(was & now)),
        removed=tuple(sorted(touched - now)),
        main=any(not owner for owner in owners.values()),
    )


def _named(file: str) -> str:
    found = _SERVICE.match(file)
    return found.group(1).partition("@")[0] if found else ""


def note(
    found: Difference,
    *,
    generation: str,
    before: str,
    at: float,
    revision: int,
    reason: str,
    quarantined: tuple[str, ...],
) -> Note:
    """The note of a generation that was just proved; the arguments are its attributes."""
    return Note(
        format=FORMAT,
        generation=generation,
        before=before,
        at=at,
        revision=revision,
        reason=reason,
        added=found.added[:MOST_NAMES],
        changed=found.changed[:MOST_NAMES],
        removed=found.removed[:MOST_NAMES],
        counts=(len(found.added), len(found.changed), len(found.removed)),
        main=found.main,
        quarantined=quarantined[:MOST_NAMES],
    )


def encode(value: Note | Pin) -> bytes:
    """As it stands on disk: one JSON object."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def decode_note(text: bytes) -> Note | None:
    """A note; None for what is none of this version."""
    try:
        found = msgspec.json.decode(text, type=Note)
    except msgspec.MsgspecError:
        return None
    return found if found.format == FORMAT else None


def decode_pin(text: bytes) -> Pin | None:
    """A pin; None for what is none of this version, or names no generation."""
    try:
        found = msgspec.json.decode(text, type=Pin)
        digest(found.generation)
    except (msgspec.MsgspecError, Unprintable):
        return None
    return found if found.format == FORMAT else None
