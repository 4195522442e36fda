"""What `pilotfish history`, `show` and `diff` print. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from confgen.applying.history import Note, Pin

SHORT = 12  # digits of a generation that are shown; its beginning is enough to name it
LEAST = 4  # digits that name one
NAMES = 3  # services that a line of the table names
CURRENT, PREVIOUS = "current", "previous"


class UnknownGeneration(Exception):
    """Nothing, or more than one, is called so; the message says what there is."""


class Past(msgspec.Struct, frozen=True):
    """The generations of a folder.

    Attributes:
        generations: the last applied first.
        notes: what is remembered of them.
        current: what nginx reads, empty for none.
        good: what was proved last, empty for none.
        pin: what an operator holds.
    """

    generations: tuple[str, ...]
    notes: Mapping[str, Note]
    current: str
    good: str
    pin: Pin | None

    def named(self, name: str) -> str:
        """The generation that an operator means: its hash, the beginning of it, `current` or `previous`.

        Raises:
            UnknownGeneration: there is none, or more than one.
        """
        if name == CURRENT:
            return self._or_none(self.current, "nginx reads none yet")
        if name == PREVIOUS:
            # Without a note it was never proved: a kill in the middle left it.
            others = [one for one in self.generations if one != self.current and one in self.notes]
            return self._or_none(others[0] if others else "", "there is none before the one that is served")
        found = [one for one in self.generations if one.startswith(name.lower())] if len(name) >= LEAST else []
        if len(found) == 1:
            return found[0]
        shown = ", ".join(one[:SHORT] for one in self.generations) or "none"
        raise UnknownGeneration(f"{name!r} names {len(found) or 'no'} generations: there are {shown}")

    def _or_none(self, found: str, why: str) -> str:
        if not found:
            raise UnknownGeneration(why)
        return found


def table(past: Past) -> str:
    """The generations, one a line, the last applied first; `*` is what nginx reads."""
    rows = [("GENERATION", "APPLIED", "REVISION", "CHANGED", "WHY")]
    for one in past.generations:
        known = past.notes.get(one)
        mark = "*" if one == past.current else " "
        name = f"{mark} {one[:SHORT]}"
        held = "pinned; " if past.pin and past.pin.generation == one else ""
        if known is None:
            rows.append((name, "-", "-", "-", f"{held}not remembered"))
        else:
            rows.append((name, moment(known.at), str(known.revision), changed(known), f"{held}{known.reason}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip() for row in rows)


def moment(at: float) -> str:
    """A UNIX time, as UTC.

    >>> moment(0)
    '1970-01-01T00:00:00Z'
    """
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def changed(note: Note) -> str:
    """What a generation changed, in a few words.

    >>> changed(Note(1, "", "", 0, 1, "", added=("web",), removed=("a", "b", "c", "d"), counts=(1, 0, 4), main=True))
    '+web -a -b -c and 1 more, main file'
    """
    named = [
        *(f"+{one}" for one in note.added),
        *(f"~{one}" for one in note.changed),
        *(f"-{one}" for one in note.removed),
    ]
    more = sum(note.counts) - min(len(named), NAMES + 1)
    shown = " ".join(named[: NAMES + 1]) + (f" and {more} more" if more > 0 else "")
    parts = [part for part in (shown, "main file" if note.main else "") if part]
    return ", ".join(parts) or "nothing"


def told(past: Past, generation: str, files: Mapping[str, bytes]) -> str:
    """All that is known of one generation, and its files."""
    known = past.notes.get(generation)
    lines = [f"generation   {generation}"]
    if generation == past.current:
        lines.append("             nginx reads it")
    if past.pin and past.pin.generation == generation:
        until = f", until {moment(past.pin.until)}" if past.pin.until else ""
        lines.append(f"             pinned since {moment(past.pin.since)}{until}; let it go: pilotfish accept")
    if known:
        lines += [
            f"applied      {moment(known.at)}",
            f"revision     {known.revision}",
            f"why          {known.reason}",
            f"before       {known.before or '-'}",
        ]
        for title, names, count in zip(
            ("added", "changed", "removed"), (known.added, known.changed, known.removed), known.counts, strict=True
        ):
            more = f" and {count - len(names)} more" if count > len(names) else ""
            lines.append(f"{title:<13}{' '.join(names) or '-'}{more}")
        lines.append(f"quarantined  {' '.join(known.quarantined) or '-'}")
    lines += ["", *(f"{len(text):>8}  {name}" for name, text in files.items())]
    return "\n".join(lines)


def difference(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    """What two generations differ in, as `diff -u` prints it, without line ends."""
    for name in sorted(before.keys() | after.keys()):
        old, new = (files.get(name, b"").decode(errors="replace").splitlines() for files in (before, after))
        if old != new:
            yield from difflib.unified_diff(old, new, _side("a", name, before), _side("b", name, after), lineterm="")


def _side(side: str, name: str, files: Mapping[str, bytes]) -> str:
    return f"{side}/{name}" if name in files else "/dev/null"


def plain(past: Past) -> dict[str, object]:
    """The same as `table`, for JSON."""
    return {
        "current": past.current,
        "good": past.good,
        "pinned": msgspec.to_builtins(past.pin),
        "generations": [
            msgspec.to_builtins(past.notes[one]) if one in past.notes else {"generation": one}
            for one in past.generations
        ],
    }


def compared(past: Past, names: Sequence[str]) -> tuple[str, str]:
    """The two generations that `diff` compares: as named, the second one nginx's own if it is not.

    Raises:
        UnknownGeneration: there are none that are called so.
    """
    return past.named(names[0]), past.named(names[1] if len(names) > 1 else CURRENT)
