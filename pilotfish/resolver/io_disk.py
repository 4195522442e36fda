"""The file system of a host: what is at a path, and changing it so that no reader ever sees half a file.

A file is written aside, flushed to the disk, and renamed over the old one, which is kept aside under a second name
until all is done: taking a change back needs no space. Names aside begin with a dot, which every program here passes
over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pilotfish.resolver.state import ABSENT, FOLDER, Absent, Change, File, Folder, Link, State

LARGEST = 4 * 1024 * 1024  # octets of a file that is read; a real one has a few thousand
NEW, OLD, PART = ".pilotfish-new", ".pilotfish-old", ".part"
MOUNTED = frozenset({errno.EBUSY, errno.EXDEV})


class DiskTrouble(Exception):
    """A path cannot be read or changed; the message names it and what to do."""


class Disk:
    """The files below a root.

    Args:
        root: `/`, or the folder that holds another system's.
        gate: called with a few words before each change; a test stops us there.
    """

    def __init__(self, root: Path = Path("/"), gate: Callable[[str], None] = lambda _: None) -> None:
        self.root, self.gate = root, gate
        self._staged: dict[str, State] = {}  # path -> what lies aside for it, written by us

    def real(self, path: str) -> Path:
        """Where a path of the host is."""
        return self.root / path.lstrip("/")

    def state(self, path: str) -> State:
        """What is at a path.

        Raises:
            DiskTrouble: it is neither file, folder nor link, cannot be read, or is far too large.
        """
        real = self.real(path)
        try:
            found = real.lstat()
            if stat.S_ISLNK(found.st_mode):
                return Link(str(real.readlink()))
            if stat.S_ISDIR(found.st_mode):
                return FOLDER
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                raise DiskTrouble(f"{path} is no file that can be changed")
            text = real.read_bytes().decode("latin-1")
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except OSError as error:
            raise DiskTrouble(f"{path}: {error.strerror}") from error
        return File(text, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def stage(self, moves: tuple[Change, ...]) -> None:
        """Write aside what moves will need: from here on, only names change.

        Raises:
            DiskTrouble: the disk is full, read-only or the like; nothing has changed.
        """
        for move in moves:
            if isinstance(move.after, Folder):
                continue  # made by its move: what is staged below waits for it
            with self._named(move.path):
                self._aside(move)

    def move(self, move: Change, in_place: Callable[[str], None]) -> None:
        """Make one change that was staged.

        Args:
            move: from what is there.
            in_place: called before a file that cannot be renamed over, since it is mounted, is written in place.

        Raises:
            DiskTrouble: it cannot be made.
        """
        real = self.real(move.path)
        self.gate(f"change {move.path}")
        with self._named(move.path):
            if isinstance(move.after, Folder):
                real.mkdir(mode=0o755)
            elif isinstance(move.after, Absent):
                self._take_away(real, move.before)
            else:
                self._aside(move)
                self._rename(move, in_place)
            self.gate(f"changed {move.path}")
            _flush(real.parent)

    def undo(self, move: Change, in_place: Callable[[str], None]) -> None:
        """Take one change back: by the second name of what was there, else by its content.

        Args:
            move: from what is there now to what was there before.
            in_place: as in `move`.

        Raises:
            DiskTrouble: it cannot be taken back.
        """
        old = self._beside(move.path, OLD)
        with self._named(move.path):
            if not isinstance(move.after, Absent | Folder) and os.path.lexists(old):
                self.gate(f"put back {move.path}")
                with contextlib.suppress(OSError):
                    old.replace(self.real(move.path))
                    _flush(old.parent)
                    return
        self.move(move, in_place)

    def tidy(self, paths: tuple[str, ...]) -> None:
        """Remove what lies aside.

        Raises:
            DiskTrouble: it cannot be removed.
        """
        self._staged.clear()
        for path in paths:
            for ending in (NEW, f"{NEW}{PART}", OLD):
                with self._named(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._beside(path, ending).unlink()

    def _beside(self, path: str, ending: str) -> Path:
        real = self.real(path)
        return real.with_name(f".{real.name}{ending}")

    def _aside(self, move: Change) -> None:
        """The new state under a name of its own, and a second name for the old one."""
        new, old, real = self._beside(move.path, NEW), self._beside(move.path, OLD), self.real(move.path)
        if not real.parent.is_dir() or self._staged.get(move.path) is move.after:
            return  # a move that comes first makes the folder; or all is there
        for left in (new, old):
            left.unlink(missing_ok=True)
        if isinstance(move.after, File | Link):
            self.gate(f"write {move.path} aside")
            _make(new, move.after, real, self.gate)
        self._staged[move.path] = move.after
        if isinstance(move.before, File | Link):
            self.gate(f"keep {move.path} aside")
            # Without hard links (or across a mount) the content in the record has to do.
            with contextlib.suppress(OSError):
                os.link(real, old, follow_symlinks=False)

    def _rename(self, move: Change, in_place: Callable[[str], None]) -> None:
        real, new = self.real(move.path), self._beside(move.path, NEW)
        try:
            new.replace(real)
        except OSError as error:
            if error.errno not in MOUNTED or not isinstance(move.after, File):
                raise
            # The second name would change with it.
            self._beside(move.path, OLD).unlink(missing_ok=True)
            in_place(move.path)
            self.gate(f"write {move.path} in place")
            _overwrite(real, move.after.data)
            new.unlink()

    def _take_away(self, real: Path, before: State) -> None:
        if isinstance(before, Folder):
            for path in real.iterdir():
                if path.name.startswith(".") and path.name.endswith((NEW, OLD, PART)):
                    path.unlink()  # its folder goes; the content in the record has to do
            try:
                real.rmdir()
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                    raise  # a folder that others use by now stays
        else:
            real.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _named(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "; is it immutable (lsattr)?" if error.errno == errno.EPERM else ""
            raise DiskTrouble(f"{path}: {error.strerror or error}{hint}") from error


def _make(new: Path, state: File | Link, like: Path, gate: Callable[[str], None]) -> None:
    if isinstance(state, Link):
        new.symlink_to(state.target)
        return
    part = new.with_name(f"{new.name}{PART}")
    try:
        with part.open("wb") as file:
            file.write(state.data)
            os.fchmod(file.fileno(), state.mode)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), state.uid, state.gid)
            _copy_attributes(like, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        gate(f"name {new.name}")
        part.rename(new)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _copy_attributes(like: Path, target: int) -> None:
    """SELinux labels and access lists, where the old file has any."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(like, follow_symlinks=False):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(like, name, follow_symlinks=False))


def _overwrite(real: Path, data: bytes) -> None:
    """Octets first, length last: a full disk leaves the blocks that are there."""
    with real.open("r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace(real: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file of our own whole, or leave it as it is.

    Raises:
        OSError: it cannot be written.
    """
    part = real.with_name(f".{real.name}{PART}")
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(real)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _flush(real.parent)
