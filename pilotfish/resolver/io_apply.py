"""Performs moves whole or not at all: record, files, checks, programs, proof, record."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pilotfish.resolver.io_disk import Disk, DiskTrouble
from pilotfish.resolver.io_record import RecordFile
from pilotfish.resolver.journal import Installed, Record, begun, done, in_place, telling, tidied, undoing, undone
from pilotfish.resolver.plan import Command
from pilotfish.resolver.state import Change, same

COMMAND_TIMEOUT_S = 120.0
LONGEST_SAID = 2000  # characters of a failed program's output that are shown


class Failed(Exception):
    """It could not be done, and everything was taken back; the message says what was in the way."""


class Steps(NamedTuple):
    """What is done besides changing files.

    Attributes:
        checks: must succeed before anybody is told.
        reloads: tell programs; also run when files are put back.
        prove: raises Failed when the host does not resolve our names afterwards.
    """

    checks: tuple[Command, ...] = ()
    reloads: tuple[Command, ...] = ()
    prove: Callable[[], None] = lambda: None


class Applier:
    """Changes one host.

    Args:
        disk: of the host.
        file: of the record.
        say: receives a line for what the user should know.
    """

    def __init__(self, disk: Disk, file: RecordFile, say: Callable[[str], None]) -> None:
        self._disk, self._file, self._say = disk, file, say
        self._record = Record()

    def apply(self, record: Record, moves: tuple[Change, ...], then: Mapping[str, Installed], steps: Steps) -> Record:
        """Make all moves, and all steps in their order; on any failure, none.

        Returns:
            The new record.

        Raises:
            Failed: it was taken back.
        """
        for move in moves:  # whoever was asked may have taken his time
            if not same(self._disk.state(move.path), move.before):
                raise Failed(f"{move.path} was changed meanwhile; nothing was done, run this again")
        told = False
        try:
            self._save(begun(record, moves, then))
            self._disk.stage(moves)
            for move in moves:
                self._disk.move(move, self._in_place)
            for command in steps.checks:
                self._run(command)
            if steps.reloads:
                self._save(telling(self._record, steps.reloads))
            told = True
            for command in steps.reloads:
                self._run(command)
            self._disk.gate("prove it")
            steps.prove()
            self._save(done(self._record))
        except (Failed, DiskTrouble, OSError, KeyboardInterrupt) as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            self.take_back(self._record, steps.reloads if told else ())
            raise Failed(f"{why}; everything was put back") from error
        return self.tidy()

    def tidy(self) -> Record:
        """Remove what lies aside; what cannot be removed is left to the next run."""
        try:
            self._disk.gate("tidy up")
            self._disk.tidy(self._record.aside)
            if self._record.aside:
                self._save(tidied(self._record))
        except (DiskTrouble, OSError) as error:
            self._say(f"{error}; the next run tidies up")
        return self._record

    def take_back(self, record: Record, reloads: Iterable[Command]) -> Record:
        """Undo what is under way in a record, tell the programs, and forget it.

        Raises:
            Failed: a file cannot be put back; the record still knows it, and the next run tries again.
        """
        self._record = record
        if record.pending is None:
            return self.tidy()
        try:
            moves, strange = undoing(record.pending, self._disk.state)
            for move in moves:
                self._disk.undo(move, self._in_place)
            for path in strange:
                self._say(f"{path} was changed by somebody else meanwhile: it is left as it is")
            for command in reloads:
                self._try(command)
            self._save(undone(self._record))
        except (DiskTrouble, OSError) as error:
            raise Failed(f"{error}; not everything could be put back: mend that, and run this again") from error
        return self.tidy()

    def _save(self, record: Record) -> None:
        self._file.save(record)
        self._record = record

    def _in_place(self, path: str) -> None:
        if self._record.pending and path not in self._record.pending.in_place:
            self._say(f"{path} is a mount: it is written in place")
            self._save(in_place(self._record, path))

    def _run(self, command: Command) -> None:
        self._disk.gate(f"run {' '.join(command.argv)}")
        try:
            answer = subprocess.run(  # noqa: S603  argv of our own tables, no shell
                command.argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`{' '.join(command.argv)}` did not end within {COMMAND_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise Failed(f"cannot run `{' '.join(command.argv)}` to {command.why}: {error.strerror}") from error
        if answer.returncode:
            said = (answer.stderr.strip() or answer.stdout.strip())[-LONGEST_SAID:]
            raise Failed(f"`{' '.join(command.argv)}` failed with {answer.returncode}: {said or 'it said nothing'}")

    def _try(self, command: Command) -> None:
        try:
            self._run(command)
        except Failed as error:
            self._say(f"after putting the files back: {error}; run it by hand")
