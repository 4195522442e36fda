"""The file of a snapshot: written aside, made durable, renamed; read only when it can be trusted.

At every moment the path holds the last whole snapshot or none. Both calls block for as long as the disk does: a caller
inside an event loop gives them to a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from pilotfish.catalog.snapshot import BadSnapshot, Snapshot, decode, pieces

MAX_SNAPSHOT_BYTES = 512 * 1024 * 1024  # 100,000 endpoints need about a tenth of it
_ASIDE = ".new"


def save(path: Path | str, snapshot: Snapshot) -> None:
    """Write a snapshot in the place of the one before, readable by its owner only.

    The folder is made if it is absent. What a writer that died left aside is removed.

    Raises:
        OSError: disk full, no permission, another process writes the same snapshot. The one before is still there.
    """
    path = Path(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_aside(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_ASIDE, dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:  # mkstemp made it 0600
            file.writelines(pieces(snapshot))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load(path: Path | str, *, max_bytes: int = MAX_SNAPSHOT_BYTES) -> Snapshot | None:
    """Read a snapshot; None when there is no file.

    Args:
        path: the file that `save` wrote.
        max_bytes: a larger file is refused before it is read.

    Raises:
        BadSnapshot: whatever else is the matter with it; the message names the file. It never stops the caller from
            starting: go on without a snapshot, the next one replaces it.
    """
    path = Path(path)
    try:
        # A link is not followed, and a pipe in its place does not hold us up.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadSnapshot(f"snapshot {path}: cannot be opened: {error}") from error
    try:
        return decode(_read(handle, max_bytes))
    except (OSError, BadSnapshot) as error:
        raise BadSnapshot(f"snapshot {path}: {error}") from error
    finally:
        os.close(handle)


def _read(handle: int, max_bytes: int) -> bytes:
    _check(os.fstat(handle), max_bytes)
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(max_bytes)  # what grew meanwhile is cut, and so refused


# Names and addresses that anybody could have put there must not be answered.
def _check(status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadSnapshot("it is no regular file")
    if status.st_uid not in {os.geteuid(), 0}:
        raise BadSnapshot(f"it belongs to user {status.st_uid}, not to us: chown it, or remove it")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise BadSnapshot(f"others may write it (mode {mode:04o}): chmod it to 0600, or remove it")
    if status.st_size > max_bytes:
        raise BadSnapshot(f"it has {status.st_size} octets, over the limit of {max_bytes}")


def _remove_aside(path: Path) -> None:
    with os.scandir(path.parent) as found:
        names = [one.name for one in found if one.name.startswith(f".{path.name}.") and one.name.endswith(_ASIDE)]
    for name in names:
        (path.parent / name).unlink(missing_ok=True)


# The rename is in the folder: without this a crash of the machine may bring the old name back. Some file systems
# refuse to sync a folder; the snapshot is whole on those too.
def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
