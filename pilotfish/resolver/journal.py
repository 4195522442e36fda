"""What was installed, what was there before, and what is under way: one JSON file. Pure.

The record is written before the first change and after the last. Whatever ends us in between, the next start finds
what was under way, and takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from pilotfish.resolver.plan import Command
from pilotfish.resolver.state import FOLDER, Change, State, same

FORMAT = 1


class BadRecord(ValueError):
    """The record cannot be read."""


class Installed(msgspec.Struct, frozen=True):
    """One kind as it was installed.

    Attributes:
        servers: ours that the host was pointed at, `127.0.0.1:1053`.
        domains: the names that are asked of them.
        changes: from what was there before us to what we wrote, in the order in which it was written.
    """

    servers: tuple[str, ...]
    domains: tuple[str, ...]
    changes: tuple[Change, ...]


class Pending(msgspec.Struct, frozen=True):
    """What is under way.

    Attributes:
        moves: changes in the order in which they are made.
        then: what is installed once all of them are made.
        in_place: paths that had to be written in place, and may be found half written.
        reloads: what programs are told by, from the moment at which they are; a program that does not run any more when
            all this is taken back is started by them again.
    """

    moves: tuple[Change, ...]
    then: dict[str, Installed]
    in_place: tuple[str, ...] = ()
    reloads: tuple[Command, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """The whole file.

    Attributes:
        installed: kind -> what was done for it.
        pending: what is under way.
        aside: paths beside which something may still lie that was needed for a change.
    """

    installed: dict[str, Installed] = {}
    pending: Pending | None = None
    aside: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to remember."""
        return not self.installed and self.pending is None and not self.aside


def encode(record: Record) -> bytes:
    """The record as it is kept."""
    return msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=2) + b"\n"


def decode(data: bytes) -> Record:
    """The record that was kept.

    Raises:
        BadRecord: it is none, or of a later format.
    """
    try:
        record = msgspec.json.decode(data, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(str(error)) from error
    if record.format != FORMAT:
        raise BadRecord(f"it has format {record.format}, this version knows {FORMAT}")
    return record


def begun(record: Record, moves: Iterable[Change], then: Mapping[str, Installed]) -> Record:
    """The record before the first move."""
    return Record(record.installed, Pending(tuple(moves), dict(then)))


def in_place(record: Record, path: str) -> Record:
    """The record before a file is written in place."""
    if record.pending is None or path in record.pending.in_place:
        return record
    pending = msgspec.structs.replace(record.pending, in_place=(*record.pending.in_place, path))
    return msgspec.structs.replace(record, pending=pending)


def telling(record: Record, reloads: Iterable[Command]) -> Record:
    """The record before programs are told."""
    lasting = tuple(command for command in reloads if command.lasts)
    if record.pending is None or not lasting:
        return record
    return msgspec.structs.replace(record, pending=msgspec.structs.replace(record.pending, reloads=lasting))


def done(record: Record) -> Record:
    """The record after the last move."""
    return Record(record.pending.then, aside=_paths(record.pending)) if record.pending else record


def undone(record: Record) -> Record:
    """The record after everything was taken back."""
    return Record(record.installed, aside=_paths(record.pending) if record.pending else record.aside)


def tidied(record: Record) -> Record:
    """The record when nothing lies aside any more."""
    return msgspec.structs.replace(record, aside=())


def _paths(pending: Pending) -> tuple[str, ...]:
    return tuple(move.path for move in pending.moves)


def undoing(pending: Pending, now: Callable[[str], State]) -> tuple[list[Change], list[str]]:
    """The moves that take back what was under way, last first, and the paths that somebody else changed meanwhile."""
    moves, strange = [], []
    for move in reversed(pending.moves):
        found = now(move.path)
        if same(found, move.before):
            continue
        if same(found, move.after) or move.path in pending.in_place:
            moves.append(Change(move.path, found, move.before))
        else:
            strange.append(move.path)
    return moves, strange


class Found(msgspec.Struct, frozen=True):
    """How the files of an installed kind are found.

    Attributes:
        intact: changes whose file is as we wrote it.
        edited: changes whose file was changed afterwards, and still has something of ours.
        given_up: changes whose file has nothing of ours any more: put back or overwritten by somebody else.
    """

    intact: tuple[Change, ...] = ()
    edited: tuple[Change, ...] = ()
    given_up: tuple[Change, ...] = ()


def look(installed: Installed, now: Callable[[str], State], is_ours: Callable[[State], bool]) -> Found:
    """Compare what was written with what is there."""
    intact, edited, given_up = [], [], []
    for change in installed.changes:
        found = now(change.path)
        if same(found, change.after):
            intact.append(change)
        elif same(found, change.before) or change.after == FOLDER or not is_ours(found):
            given_up.append(change)
        else:
            edited.append(change)
    return Found(tuple(intact), tuple(edited), tuple(given_up))


def originals(found: Found) -> dict[str, State]:
    """Path -> what would be there without us, where that is not what is there."""
    return {change.path: change.before for change in (*found.intact, *found.edited)}


def removing(installed: Installed, found: Found, now: Callable[[str], State]) -> tuple[Change, ...]:
    """The moves that put back what was there before, last first; what was edited is put back too."""
    ours = [change for change in reversed(installed.changes) if change not in found.given_up]
    return tuple(
        Change(change.path, now(change.path), change.before)
        for change in ours
        if not same(now(change.path), change.before)
    )
