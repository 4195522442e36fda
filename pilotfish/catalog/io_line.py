"""Frames over a unix socket, and the place where such a socket may stand.

A socket is reached by its owner only: it is made 0600, and in a folder that others cannot write.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

from pilotfish.catalog import feed

BUFFER = 256 * 1024  # octets read ahead on one connection
FULL_S = 0.01  # between attempts to connect while the other side takes no more
_LONGEST_PATH = 107  # octets; sun_path of unix(7) without its final zero


class CannotServe(Exception):
    """The socket cannot be opened where it should be; the message says why and what to do."""


class Line:
    """One connection, seen as frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, within_s: float) -> None:
        """Send whole frames, and wait until the other side has taken most of them.

        Raises:
            TimeoutError: it did not.
            OSError: it is gone.
        """
        async with asyncio.timeout(within_s):
            self.writer.write(data)
            await self.writer.drain()

    async def receive(self, limit: int, within_s: float) -> bytes:
        """The message of the next frame.

        Raises:
            TimeoutError: it did not come whole.
            BadFrame: it is over `limit` octets, or empty.
            EOFError: the connection ended before or within it.
            OSError: the other side is gone.
        """
        async with asyncio.timeout(within_s):
            size = feed.body_size(await self.reader.readexactly(feed.HEAD_SIZE), limit)
            return await self.reader.readexactly(size)

    def drop(self) -> None:
        """Let go of the connection at once; whoever waits for it sees its end."""
        self.writer.transport.abort()


async def connect(path: Path) -> Line:
    """Connect to whoever listens at `path`; waits while more connections are pending there than it holds.

    Raises:
        OSError: nobody listens, or not for us.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.setblocking(False)
        await _connected(end, bytes(path))
        return Line(*await asyncio.open_unix_connection(sock=end, limit=BUFFER))
    except BaseException:
        end.close()
        raise


# Not left to asyncio: it takes EAGAIN, a full backlog here, for a connection under way.
async def _connected(end: socket.socket, path: bytes) -> None:
    while True:
        try:
            end.connect(path)
        except BlockingIOError:
            await asyncio.sleep(FULL_S)
        else:
            return


class Place:
    """Where one process listens, and no second one: a socket and, beside it, the lock that outlives it.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def open(self) -> socket.socket:
        """Take the place, and listen there. A socket that a dead process left is replaced.

        Raises:
            CannotServe: another process serves there, or the place is not safe or not writable.
        """
        try:
            _make_folder(self.path.parent)
            self._lock = _lock(self.path)
            _remove_stale(self.path)
            return _listen(self.path)
        except OSError as error:
            self._unlock()
            raise CannotServe(f"feed {self.path}: {error}") from error
        except CannotServe:
            self._unlock()
            raise

    def leave(self) -> None:
        """Take the socket away and let others have the place."""
        self.path.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid not in {os.geteuid(), 0} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotServe(f"others may write into {folder}: give the feed a folder of its own, with mode 0700")


# Two processes that start at one moment must not both find the old socket stale.
def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CannotServe(f"another process serves the feed {path} already") from None
    return handle


def _remove_stale(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise CannotServe(f"{path} is there and no socket: remove it, or name another place for the feed")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(bytes(path)) != errno.ECONNREFUSED:
            raise CannotServe(f"another process answers at {path}")
    path.unlink()


def _listen(path: Path) -> socket.socket:
    if len(bytes(path)) > _LONGEST_PATH:
        raise CannotServe(f"the path {path} is too long for a socket: {_LONGEST_PATH} octets at most")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), 0o600)  # before bind: at no moment may others connect
        listening.bind(bytes(path))
    except OSError:
        listening.close()
        raise
    return listening
