"""The record on disk, and the lock that keeps two of us apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from pilotfish.catalog.failure import CannotStart
from pilotfish.resolver import io_disk
from pilotfish.resolver.io_disk import Disk
from pilotfish.resolver.journal import BadRecord, Record, decode, encode
from pilotfish.resolver.state import File, State

FOLDER = "/var/lib/pilotfish"
PATH = f"{FOLDER}/resolver.json"
LOCK = f"{FOLDER}/resolver.lock"
EDITED = f"{FOLDER}/resolver-edited"


class RecordFile:
    """The one file that says what was installed and what was there before.

    Args:
        disk: of the host.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other install, remove and status of this host out; the kernel ends it when we end.

        Raises:
            CannotStart: another is at work, or the folder cannot be used.
        """
        with self._opened() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CannotStart(f"another `pilotfish resolver` is at work ({LOCK} is locked); try again") from error
            except OSError as error:
                raise CannotStart(f"{LOCK}: {error.strerror}") from error
            yield

    def _opened(self) -> TextIO:
        real = self._disk.real(LOCK)
        try:
            real.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
            return real.open("w", encoding="ascii")
        except OSError as error:
            raise CannotStart(
                f"{LOCK}: {error.strerror}; what is installed is remembered in {FOLDER}: make it a folder that can be"
                " written"
            ) from error

    def load(self) -> Record:
        """What was kept; an empty record when nothing was.

        Raises:
            CannotStart: it cannot be read.
        """
        real = self._disk.real(PATH)
        try:
            return decode(real.read_bytes())
        except FileNotFoundError:
            return Record()
        except OSError as error:
            raise CannotStart(f"{PATH}: {error.strerror}; run it as root") from error
        except BadRecord as error:
            raise CannotStart(f"{PATH}: {error}; docs/resolver.md says how to undo by hand") from error

    def save(self, record: Record) -> None:
        """Keep a record, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        real = self._disk.real(PATH)
        self._disk.gate("keep the record")
        if record.is_empty:
            real.unlink(missing_ok=True)
        else:
            io_disk.replace(real, encode(record))

    def put_aside(self, path: str, state: State) -> str:
        """Keep a file that was edited by hand before it is overwritten; returns where.

        Raises:
            OSError: it cannot be written.
        """
        if not isinstance(state, File):
            return ""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"{EDITED}/{path.strip('/').replace('/', '_')}.{stamp}"
        real = self._disk.real(name)
        real.parent.mkdir(exist_ok=True, mode=0o700)
        io_disk.replace(real, state.data)
        return name

    @property
    def may_be_used(self) -> bool:
        """False where only root may change the host's files."""
        return os.geteuid() == 0 or str(self._disk.root) != "/"
