"""The query log's file: lines are made and written by a thread of their own, and never waited for.

The allowance of a second is given by the thread when it is through with the last one. So a disk that is slow or full,
or a pipe that nobody reads, leaves lines out; it holds up no answer and fills no queue.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from enum import Enum
from queue import Empty, SimpleQueue
from threading import Thread

from dnsserver import querylog
from dnsserver.faults import Faults
from dnsserver.querylog import Noted
from pilotfish.catalog.failure import CannotStart

STDERR = "-"
_STDERR_FD = 2
_MODE = 0o640
_TICK_S = 1.0
_BATCH = 256  # lines written at once
_CLOSE_S = 2.0


class _Order(Enum):
    REOPEN = "reopen"
    CLOSE = "close"


class QueryLog:
    """Writes what `note` was told, at most so many lines a second.

    Args:
        path: file to append to; "-" for standard error.
        per_second: lines; what is above is counted, and said in a line of its own.
        log: where it is said that the file cannot be written.
        now: UNIX time in seconds.
        faults: told of lines that could not be made.

    Raises:
        CannotStart: the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        per_second: int,
        log: logging.Logger,
        *,
        now: Callable[[], float] = time.time,
        faults: Faults | None = None,
    ) -> None:
        self.left_out = 0  # messages that were not written down
        self._path, self._per_second, self._log, self._now = path, per_second, log, now
        self._faults = faults or Faults(log)
        self._left = per_second
        self._said_left_out = 0
        self._torn = self._failing = False
        self._orders: SimpleQueue[Noted | _Order] = SimpleQueue()
        try:
            self._file = self._open()
        except OSError as error:
            raise CannotStart(
                f"--query-log {path}: {error.strerror or error}; name a file that can be written"
            ) from error
        self._thread = Thread(target=self._run, name="query log", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        """True when the next message is to be noted; otherwise it is counted as left out."""
        if self._left > 0:
            self._left -= 1
            return True
        self.left_out += 1
        return False

    def note(self, client: bytes, transport: str, message: bytes, reply: bytes | None) -> None:
        """Have a line written, see `querylog.Noted`; only after `wants`."""
        self._orders.put(Noted(self._now(), client, transport, message, reply))

    def reopen(self) -> None:
        """Go on in a new file: the old one was moved away. If it cannot be opened the old one is kept."""
        self._orders.put(_Order.REOPEN)

    def close(self) -> None:
        """Write what was noted, then end; a file that does not take it is left after two seconds."""
        self._left = 0
        self._orders.put(_Order.CLOSE)
        self._thread.join(_CLOSE_S)

    # --- the thread

    def _run(self) -> None:
        due = time.monotonic() + _TICK_S
        while True:
            first = self._next(due - time.monotonic())
            batch = self._batch(first)
            self._write(b"".join(self._line(one) for one in batch if isinstance(one, Noted)))
            if _Order.REOPEN in batch:
                self._reopen()
            if _Order.CLOSE in batch:
                self._say_left_out()
                self._shut(self._file)
                return
            if time.monotonic() >= due:
                self._say_left_out()
                self._left = self._per_second
                due = time.monotonic() + _TICK_S

    def _next(self, timeout_s: float) -> Noted | _Order | None:
        try:
            return self._orders.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None

    def _batch(self, first: Noted | _Order | None) -> list[Noted | _Order]:
        batch = [] if first is None else [first]
        while batch and isinstance(batch[-1], Noted) and len(batch) < _BATCH:
            try:
                batch.append(self._orders.get_nowait())
            except Empty:
                break
        return batch

    # A fault of ours may cost this line, not all that follow.
    def _line(self, one: Noted) -> bytes:
        try:
            return querylog.line(one)
        except Exception as error:  # noqa: BLE001  whatever it is, it is said
            self.left_out += 1
            self._faults.caught("a line of the query log could not be made", error)
            return b""

    def _say_left_out(self) -> None:
        count = self.left_out - self._said_left_out
        if count:
            self._said_left_out += count
            self._write(querylog.left_out(self._now(), count))

    def _write(self, lines: bytes) -> None:
        if not lines:
            return
        octets, sent = b"\n" + lines if self._torn else lines, 0
        try:
            while sent < len(octets):
                sent += os.write(self._file, octets[sent:])
        except OSError as error:
            self._torn = self._torn if not sent else not octets[:sent].endswith(b"\n")
            self._fail(error)
            return
        self._torn = False
        if self._failing:
            self._failing = False
            self._log.info("the query log is written again")

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._log.warning("the query log is not written: %s: %s", self._path, error.strerror or error)

    def _open(self) -> int:
        if self._path == STDERR:
            return _STDERR_FD
        # Without O_NONBLOCK a pipe that nobody reads would hold us up here.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        opened = os.open(self._path, flags, _MODE)
        os.set_blocking(opened, True)
        return opened

    def _reopen(self) -> None:
        try:
            opened = self._open()
        except OSError as error:
            self._fail(error)
            return
        self._shut(self._file)
        self._file, self._torn = opened, False

    @staticmethod
    def _shut(opened: int) -> None:
        if opened != _STDERR_FD:
            os.close(opened)
