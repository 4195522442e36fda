"""Files of template resources: staged beside their place, compared, and renamed over what was there.

A reader sees the old file or the new one, whole. Where the place is a mount point (a file that was bound into a
container), a rename is impossible, and it is written in place. Blocking; call it in a thread.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

DEFAULT_MODE = 0o644
MAX_DIFF_LINES = 20_000  # of both files together; difflib is quadratic


class CannotPlace(Exception):
    """A file cannot be put where it belongs; the message names it and says why."""


class Wanted(NamedTuple):
    """A file as it should be.

    Attributes:
        dest: absolute path.
        data: its octets.
        mode: None: as the file that is there, else 0644.
        uid: owner.
        gid: group.
        changed_ns: when it was rendered, in nanoseconds since 1970; becomes the file's time of change.
    """

    dest: Path
    data: bytes
    mode: int | None
    uid: int
    gid: int
    changed_ns: int


def owner(uid: int | None, name: str) -> int:
    """The number of a file's owner: as given, by name, or ours.

    Raises:
        CannotPlace: nobody has this name.
    """
    if uid is not None or not name:
        return os.geteuid() if uid is None else uid
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise CannotPlace(f"owner: this host has no user {name!r}") from None


def group(gid: int | None, name: str) -> int:
    """The number of a file's group: as given, by name, or ours.

    Raises:
        CannotPlace: there is no such group.
    """
    if gid is not None or not name:
        return os.getegid() if gid is None else gid
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise CannotPlace(f"group: this host has no group {name!r}") from None


def real(dest: Path) -> Path:
    """A place with all links on the way to it followed, but not one that stands there itself: that is replaced."""
    return Path(os.path.realpath(dest.parent)) / dest.name


def within(dest: Path, roots: Sequence[str]) -> None:
    """Refuse a place that is outside all roots, links followed.

    Raises:
        CannotPlace: it is.
    """
    if dest.name in {"", ".", ".."} or not any(real(dest).is_relative_to(os.path.realpath(root)) for root in roots):
        raise CannotPlace(f"{dest} is outside {', '.join(roots)}: --dest-root says where files may be written")


def differs(wanted: Wanted) -> str:
    """How a file differs from what is wanted: "absent", "content", "mode", "owner"; "" when it does not.

    Raises:
        CannotPlace: something else than a file stands there.
    """
    try:
        facts = wanted.dest.stat()
    except FileNotFoundError:
        return "absent"
    if not stat.S_ISREG(facts.st_mode):
        raise CannotPlace(f"{wanted.dest} is no file; a template can only write files")
    if facts.st_size != len(wanted.data) or wanted.dest.read_bytes() != wanted.data:
        return "content"
    if wanted.mode is not None and stat.S_IMODE(facts.st_mode) != wanted.mode:
        return "mode"
    return "" if (facts.st_uid, facts.st_gid) == (wanted.uid, wanted.gid) else "owner"


def changed_ns(dest: Path) -> int | None:
    """When a file was rendered; None when it is not there."""
    try:
        return dest.stat().st_mtime_ns
    except OSError:
        return None


def stage(wanted: Wanted, mark: str) -> Path:
    """Write a file aside, in the folder where it belongs, synced to disk; returns its path.

    Args:
        wanted: the file.
        mark: part of the staged file's name, by which `sweep` knows it.

    Raises:
        OSError: disk full, no such folder, no rights; nothing is left behind.
    """
    aside = wanted.dest.with_name(f".{wanted.dest.name[:180]}.{mark}.stage")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(wanted.data)
            file.flush()
            os.fchown(file.fileno(), wanted.uid, wanted.gid)
            os.fchmod(file.fileno(), _mode(wanted))
            os.utime(file.fileno(), ns=(wanted.changed_ns, wanted.changed_ns))
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside


def _mode(wanted: Wanted) -> int:
    if wanted.mode is not None:
        return wanted.mode
    try:
        return stat.S_IMODE(wanted.dest.stat().st_mode)
    except FileNotFoundError:
        return DEFAULT_MODE


def replace(aside: Path, wanted: Wanted) -> bool:
    """Put a staged file in its place; True when it had to be written in place, over what was there.

    Args:
        aside: the staged file; gone afterwards.
        wanted: where it goes.

    Raises:
        OSError: it cannot be renamed, nor, on a mount point, written.
    """
    try:
        aside.replace(wanted.dest)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _overwrite(wanted, stat.S_IMODE(aside.stat().st_mode))
        aside.unlink()
        return True
    _sync_folder(wanted.dest.parent)
    return False


def _overwrite(wanted: Wanted, mode: int) -> None:
    with wanted.dest.open("r+b") as file:
        file.write(wanted.data)
        file.truncate()
        file.flush()
        os.fchown(file.fileno(), wanted.uid, wanted.gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(dest: Path) -> bool:
    """Remove a file that stands for nothing any more; True when there was one.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        dest.unlink()
    except FileNotFoundError:
        return False
    _sync_folder(dest.parent)
    return True


def sweep(folder: Path, mark: str) -> int:
    """Remove what a killed process left aside in a folder; returns how many files."""
    count = 0
    with contextlib.suppress(OSError):
        for left in folder.iterdir():
            if left.name.startswith(".") and left.name.endswith(f".{mark}.stage"):
                left.unlink(missing_ok=True)
                count += 1
    return count


def difference(wanted: Wanted) -> str:
    """What would change, as a unified diff; "" when nothing would."""
    what = differs(wanted)
    if not what:
        return ""
    before = b"" if what == "absent" else wanted.dest.read_bytes()
    old, new = _lines(before), _lines(wanted.data)
    head = f"{wanted.dest}: {what} differs\n"
    if before == wanted.data and what != "absent":
        return head
    if len(old) + len(new) > MAX_DIFF_LINES:
        return f"{head}(from {len(old)} lines to {len(new)}, too long to compare)\n"
    name = "/dev/null" if what == "absent" else str(wanted.dest)
    return head + "".join(difflib.unified_diff(old, new, name, str(wanted.dest)))


def _lines(data: bytes) -> list[str]:
    """Lines as diff shows them: the last one says when no newline ends it."""
    lines = data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]
