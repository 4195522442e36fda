"""The embedded store: `Store` inside this process, kept in one SQLite file, or in memory only.

The file is read and written by one thread of its own, so that the event loop never waits for a disk; changes come back
to the loop in order and are kept in a bounded history, which all watches read. Leases live by the monotonic clock, end
like etcd's (all their keys in one revision), and get their full time again when a process opens the file anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pilotfish.catalog.commit import check_commit
from pilotfish.catalog.history import History, narrow
from pilotfish.catalog.io_sqlite import Database
from pilotfish.catalog.store import (
    Change,
    Committed,
    Condition,
    Lease,
    LeaseGone,
    Operation,
    Quiet,
    Reading,
    StoreError,
    StoreUnavailable,
    Survey,
)

CALL_TIMEOUT_S = 5.0  # a disk that needs longer is as good as gone
MAX_WAITING = 1000  # calls in line for the file; more means that it does not keep up
MIN_TTL_S = 1.0  # shorter leases end between two renewals of a busy process
STOPPED_S = 1.0  # a timer this late was not late: the process was stopped, and could renew nothing
RETRY_S = 1.0  # between attempts to end a lease on a full disk

T = TypeVar("T")


class EmbeddedStore:
    """A store of this process; implements `Store`. Made inside a running event loop.

    Args:
        path: the file; made, with its folder, if absent. Beside it lie `-wal`, `-shm` and `.lock`. None: in memory.
        quiet_s: a watch gives a sign of life at least this often.
        quota_bytes: size of the file at which writes are refused (StoreFull).
        history_changes: how many changes a watch may be behind before it has to start over.
        history_bytes: the same in octets of values.

    Raises:
        StoreUnavailable: another process has the file, or it cannot be written.
        BrokenStore: the file is damaged, of another program, or of a newer version.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        quiet_s: float = 5.0,
        quota_bytes: int = 512 * 1024 * 1024,
        history_changes: int = 10_000,
        history_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = Database(Path(path) if path is not None else None, quota_bytes=quota_bytes)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pilotfish-store")
        self._history = History(self._file.revision(), max_changes=history_changes, max_bytes=history_bytes)
        self._quiet_s = quiet_s
        self._waiting = 0
        self._closed = False
        self._wakes: set[asyncio.Event] = set()
        self._ttls = {lease.id: lease.ttl_s for lease in self._file.leases()}
        self._deadlines: dict[int, float] = {}
        self._renew_all()
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    async def read(self, *prefixes: str) -> Reading:
        """Everything under the prefixes at one revision; see `Store.read`."""
        return await self._call(self._file.read, prefixes)

    async def survey(self, prefix: str, *, keys: bool) -> Survey:
        """How many keys there are, or which, with their revisions; see `Store.survey`."""
        return await self._call(functools.partial(self._file.survey, keys=keys), prefix)

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[Change | Quiet, None]:
        """Follow a prefix from just after `revision`; see `Store.watch`. Begins with a Quiet."""
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            self._check_open()
            self._history.after(revision)
            heard = self._loop.time()
            yield Quiet(revision)
            while True:
                wake.clear()
                for change in self._history.after(revision):
                    revision = change.revision
                    part = narrow(change, prefix)
                    if part is not None:
                        heard = self._loop.time()
                        yield part
                if revision == self._history.head and self._loop.time() >= heard + self._quiet_s:
                    heard = self._loop.time()
                    yield Quiet(revision)
                if revision == self._history.head:
                    await self._woken(wake, heard + self._quiet_s)
        finally:
            self._wakes.discard(wake)

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Committed:
        """All or nothing; see `Store.commit`."""
        check_commit(conditions, operations)
        return await self._call(self._changing, self._file.commit, conditions, operations)

    async def grant(self, ttl_s: int) -> Lease:
        """Begin a lease; see `Store.grant`."""
        lease = Lease(id=secrets.randbits(62) + 1, ttl_s=max(MIN_TTL_S, float(ttl_s)))
        await self._call(self._file.add_lease, lease)
        self._ttls[lease.id] = lease.ttl_s
        self._deadlines[lease.id] = self._loop.time() + lease.ttl_s
        self._arm()
        return lease

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease; see `Store.keep_alive`. Writes nothing."""
        self._check_open()
        if lease not in self._deadlines:
            raise LeaseGone(f"lease {lease:x} has ended")
        self._deadlines[lease] = self._loop.time() + self._ttls[lease]
        return self._ttls[lease]

    async def revoke(self, lease: int) -> None:
        """End a lease with its keys; see `Store.revoke`."""
        await self._call(self._changing, self._file.end_lease, lease)
        self._deadlines.pop(lease, None)
        self._ttls.pop(lease, None)

    async def close(self) -> None:
        """End all watches (StoreUnavailable) and let go of the file. Leases in it go on at the next opening."""
        if self._closed:
            return
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._wake_all()
        await self._loop.run_in_executor(self._worker, self._file.close)
        self._worker.shutdown(wait=True)

    async def _call(self, work: Callable[..., T], *arguments: object) -> T:
        self._check_open()
        if self._waiting >= MAX_WAITING:
            raise StoreUnavailable(f"{self._file.where} does not keep up: {self._waiting} calls are waiting")
        self._waiting += 1
        job = self._loop.run_in_executor(self._worker, work, *arguments)
        job.add_done_callback(self._done)
        # Not wait_for: what the thread has begun goes on, and whoever waits no longer must not see it half done.
        await asyncio.wait({job}, timeout=CALL_TIMEOUT_S)
        if not job.done():
            raise StoreUnavailable(f"{self._file.where} did not answer within {CALL_TIMEOUT_S:g} s")
        return job.result()

    def _done(self, job: asyncio.Future[T]) -> None:
        self._waiting -= 1
        if not job.cancelled():
            job.exception()  # seen: a caller that was cancelled will not ask

    # In the thread. The change reaches the loop before the outcome does, and also if nobody waits for the outcome.
    def _changing(self, work: Callable[..., tuple[T, Change | None]], *arguments: object) -> T:
        outcome, change = work(*arguments)
        if change is not None:
            self._loop.call_soon_threadsafe(self._publish, change)
        return outcome

    def _publish(self, change: Change) -> None:
        self._history.append(change)
        self._wake_all()

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake.set()

    async def _woken(self, wake: asyncio.Event, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await wake.wait()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._file.where} is closed")

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._deadlines and not self._closed:
            when = min(self._deadlines.values())
            self._timer = self._loop.call_at(when, self._expire, when)

    def _expire(self, planned: float) -> None:
        if self._loop.time() > planned + STOPPED_S:
            self._renew_all()
        for lease in [lease for lease, deadline in self._deadlines.items() if deadline <= self._loop.time()]:
            self._end(lease)
        self._arm()

    def _renew_all(self) -> None:
        self._deadlines = {lease: self._loop.time() + ttl_s for lease, ttl_s in self._ttls.items()}

    def _end(self, lease: int) -> None:
        self._deadlines.pop(lease, None)
        self._ttls.pop(lease, None)
        if not self._closed:
            job = self._loop.run_in_executor(self._worker, self._changing, self._file.end_lease, lease)
            job.add_done_callback(lambda done: self._ended(lease, done))

    def _ended(self, lease: int, job: asyncio.Future[None]) -> None:
        if not job.cancelled() and isinstance(job.exception(), StoreError):
            self._loop.call_later(RETRY_S, self._end, lease)
