"""What must not be forgotten when the process is killed: reloads that are due, and files that were made.

A reload is entered before its file is put in place, and crossed out when it succeeded: a file that was replaced and
not reloaded is known after any death. Commands are entered as hashes; what is run comes from the resources alone.

A folder that cannot be written holds back what must be written down first: no file is replaced without its reload
being known. What is only crossed out is kept in memory and written later (`catch_up`): at worst a reload runs twice.
Blocking; call it in a thread.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable, Mapping, Set
from hashlib import sha256
from pathlib import Path

import msgspec

from confgen.resources.resource import Command, argv
from pilotfish.catalog.failure import CannotStart

MOST_STRAYS = 100  # commands that are due and belong to nothing that is there
MOST_ENTRIES = 100  # of one command


class CannotRemember(Exception):
    """The ledger cannot be written; the message names its folder and says why."""


class Page(msgspec.Struct):
    """The file's content.

    Attributes:
        reloads: hash of a command that is due -> one entry for each file that was replaced since.
        made: resource -> file that was made -> key of its item.
    """

    reloads: dict[str, list[int]] = {}
    made: dict[str, dict[str, str]] = {}


def hashed(command: Command) -> str:
    """The name of a command in the ledger."""
    return sha256("\0".join(argv(command)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Ledger:
    """The ledger of one folder of resources.

    Args:
        folder: where it is kept; made if absent.
        confdir: whose it is.

    Attributes:
        mark: part of the names of its files and of staged files.
        behind: why what is on disk is older than what is known; "" when it is not.
    """

    def __init__(self, folder: Path, confdir: Path) -> None:
        self.mark = sha256(os.fsencode(os.path.realpath(confdir))).hexdigest()[:8]
        self._path = folder / f"{self.mark}.json"
        self._confdir = confdir
        self._lock = -1
        self._page = Page()
        self._last = 0
        self._placed: set[int] = set()
        self.behind = ""
        self._writing = threading.Lock()  # resources are placed beside each other, in threads

    def open(self) -> None:
        """Take it for ourselves, and read it.

        Raises:
            CannotStart: another process works on the same resources, or it cannot be written.
        """
        try:
            self._take()
        except BlockingIOError:
            raise CannotStart(self._taken()) from None
        except OSError as error:
            raise CannotStart(
                f"--state-dir {self._path.parent}: {error.strerror}; name a folder that can be written"
            ) from error
        try:
            self._page = msgspec.json.decode(self._path.read_bytes(), type=Page)
        except (OSError, msgspec.MsgspecError):
            self._page = Page()  # nothing is due; what is not in place is rendered anyhow
        self._placed = {entry for entries in self._page.reloads.values() for entry in entries}
        self._last = max(self._placed, default=0)

    def _take(self) -> None:
        """Make the folder, and lock it against other processes."""
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise

    def _held(self) -> bool:
        """True while the lock that others find is the one that we hold."""
        try:
            return self._lock >= 0 and os.path.samestat(os.fstat(self._lock), self._path.with_suffix(".lock").stat())
        except FileNotFoundError:
            return False

    def _taken(self) -> str:
        return f"--confdir {self._confdir}: another process works on these resources"

    def close(self) -> None:
        """Let others have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def due(self, command: Command) -> bool:
        """True when a command was not run since a file of it changed."""
        return bool(self._page.reloads.get(hashed(command)))

    def enter(self, command: Command) -> int:
        """A file of this command is about to be replaced; returns the entry, for `placed` or `withdraw`.

        Raises:
            CannotRemember: then nothing is entered.
        """
        with self._writing:
            self._last += 1
            entries = self._page.reloads.setdefault(hashed(command), [])
            entries.append(self._last)
            for one in [one for one in entries[:-MOST_ENTRIES] if one in self._placed]:
                entries.remove(one)  # the reload that counts for the newer ones counts for it
                self._placed.discard(one)
            try:
                self._write()
            except CannotRemember:
                self._cross_out(command, {self._last})
                raise
            return self._last

    def placed(self, entry: int) -> None:
        """The file of an entry was replaced: a reload that begins from now on counts for it."""
        self._placed.add(entry)

    def withdraw(self, command: Command, entry: int) -> None:
        """The file of an entry was not replaced after all."""
        self.cross_out(command, {entry})

    def begun(self, command: Command) -> frozenset[int]:
        """The entries that a reload which begins now counts for."""
        return frozenset(self._placed.intersection(self._page.reloads.get(hashed(command), ())))

    def cross_out(self, command: Command, entries: Set[int]) -> None:
        """A reload succeeded which counts for these entries."""
        with self._writing:
            self._cross_out(command, entries)
            self._write_or_wait()

    def _cross_out(self, command: Command, entries: Set[int]) -> None:
        left = [one for one in self._page.reloads.pop(hashed(command), ()) if one not in entries]
        if left:
            self._page.reloads[hashed(command)] = left
        self._placed -= entries

    def prune(self, known: Iterable[Command]) -> None:
        """Forget the oldest commands that nobody knows, beyond MOST_STRAYS.

        Args:
            known: those that belong to something; looked at only when there are too many.
        """
        with self._writing:
            if len(self._page.reloads) <= MOST_STRAYS:
                return
            kept = {hashed(command) for command in known}
            strays = sorted((max(entries), one) for one, entries in self._page.reloads.items() if one not in kept)
            for _, one in strays[:-MOST_STRAYS]:
                self._placed.difference_update(self._page.reloads.pop(one))
            if len(strays) > MOST_STRAYS:
                self._write_or_wait()

    def made(self, resource: str) -> dict[str, str]:
        """The files that were made for the items of a resource, each with its item's key."""
        return dict(self._page.made.get(resource, {}))

    def make(self, resource: str, files: Mapping[str, str]) -> None:
        """These files of a resource are about to be written, besides those that were made before.

        Raises:
            CannotRemember: then nothing is noted.
        """
        before = self.made(resource)
        with self._writing:
            if files.items() <= before.items():
                return
            self._page.made[resource] = {**before, **files}
            try:
                self._write()
            except CannotRemember:
                self._set_made(resource, before)
                raise

    def keep(self, resource: str, files: Mapping[str, str]) -> None:
        """The files of a resource are these; all others of it were removed."""
        with self._writing:
            if files != self.made(resource):
                self._set_made(resource, files)
                self._write_or_wait()

    def _set_made(self, resource: str, files: Mapping[str, str]) -> None:
        self._page.made[resource] = dict(files)
        if not files:
            del self._page.made[resource]

    def catch_up(self) -> None:
        """Write down what could not be written when it happened."""
        with self._writing:
            if self.behind:
                self._write_or_wait()

    def _write_or_wait(self) -> None:
        try:
            self._write()
        except CannotRemember as error:
            self.behind = str(error)

    def _write(self) -> None:
        """Write the page.

        Raises:
            CannotRemember: it cannot be written, or the folder was taken away and belongs to another process now.
        """
        aside = self._path.with_suffix(".new")
        try:
            if not self._held():
                self._take()  # the folder was removed, and our lock with it
            with aside.open("wb") as file:
                file.write(msgspec.json.encode(self._page))
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
        except BlockingIOError:
            raise CannotRemember(self._taken()) from None
        except OSError as error:
            raise CannotRemember(f"--state-dir {self._path.parent}: {error.strerror}") from error
        self.behind = ""
