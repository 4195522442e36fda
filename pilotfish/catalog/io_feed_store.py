"""The store of another process, reached over its feed: the side of the children and of the command line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pilotfish.catalog import feed
from pilotfish.catalog.commit import check_commit
from pilotfish.catalog.io_line import Line, connect
from pilotfish.catalog.store import (
    AccessRefused,
    Change,
    Committed,
    Condition,
    Entry,
    Lease,
    Operation,
    Quiet,
    Reading,
    StoreUnavailable,
    Survey,
)

CONNECT_TIMEOUT_S = 2.0
MAX_CALLS = 32  # in flight at once; more wait here, so that one process does not take all of the server's connections
ANSWER_TIMEOUT_S = 20.0  # between two frames: more than the store's own timeouts together, and than its silence

T = TypeVar("T")


class FeedStore:
    """The store of another process, reached over its feed; implements `Store`.

    Each call and each watch has a connection of its own, so that none waits for another. What is the same for every
    method: StoreUnavailable when nobody serves the feed, or it ends or falls silent in the middle.

    Args:
        path: the socket of a `FeedServer`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._cluster = ""
        self._lines: set[Line] = set()
        self._closed = False
        self._calls = asyncio.Semaphore(MAX_CALLS)

    async def read(self, *prefixes: str) -> Reading:
        """Everything under the prefixes at one revision; see `Store.read`."""
        entries: list[Entry] = []
        async with self._calls, self._asked(feed.Read(prefixes)) as line:
            while isinstance(answer := await self._next(line), feed.Entries):
                entries += answer.entries
        done = _expected(feed.ReadDone, answer)
        self._cluster = done.cluster
        return Reading(done.cluster, done.revision, tuple(entries))

    async def survey(self, prefix: str, *, keys: bool) -> Survey:
        """How many keys there are, or their revisions; see `Store.survey`."""
        found: dict[str, int] = {}
        async with self._calls, self._asked(feed.Count(prefix, keys)) as line:
            while isinstance(answer := await self._next(line), feed.Keys):
                found |= answer.keys
        done = _expected(feed.CountDone, answer)
        return Survey(done.cluster, done.revision, done.count, found)

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[Change | Quiet, None]:
        """Follow a prefix from just after `revision`; see `Store.watch`."""
        parts: list[feed.Changed] = []
        async with self._asked(feed.Watch(prefix, revision, self._cluster)) as line:
            while True:
                answer = await self._next(line)
                if isinstance(answer, feed.Still):
                    yield Quiet(answer.revision)
                    continue
                parts.append(_expected(feed.Changed, answer))
                if not parts[-1].more:
                    yield feed.whole_change(parts)
                    parts = []

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Committed:
        """All or nothing; see `Store.commit`."""
        check_commit(conditions, operations)
        answer = await self._call(feed.Commit(tuple(conditions), tuple(operations)))
        return _expected(feed.CommitDone, answer).committed

    async def grant(self, ttl_s: int) -> Lease:
        """Begin a lease; see `Store.grant`."""
        return _expected(feed.Granted, await self._call(feed.Grant(ttl_s))).lease

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease; see `Store.keep_alive`."""
        return _expected(feed.Renewed, await self._call(feed.KeepAlive(lease))).ttl_s

    async def revoke(self, lease: int) -> None:
        """End a lease with its keys; see `Store.revoke`."""
        _expected(feed.Revoked, await self._call(feed.Revoke(lease)))

    async def close(self) -> None:
        """End all calls and watches (StoreUnavailable). The store and its leases live on."""
        self._closed = True
        for line in list(self._lines):
            line.drop()

    async def _call(self, request: feed.Request) -> feed.Answer:
        async with self._calls, self._asked(request) as line:
            return await self._next(line)

    @contextlib.asynccontextmanager
    async def _asked(self, request: feed.Request) -> AsyncIterator[Line]:
        frame = feed.request_frame(request)
        line = await self._connect()
        if self._closed:  # meanwhile
            line.drop()
        self._lines.add(line)
        try:
            with self._explained():
                await line.send(frame, ANSWER_TIMEOUT_S)
            yield line
        finally:
            self._lines.discard(line)
            line.drop()

    async def _connect(self) -> Line:
        if self._closed:
            raise StoreUnavailable(f"feed {self.path} is closed")
        with self._explained():
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await connect(self.path)

    async def _next(self, line: Line) -> feed.Answer:
        with self._explained():
            answer = feed.parse_answer(await line.receive(feed.MAX_ANSWER_BYTES, ANSWER_TIMEOUT_S))
        if isinstance(answer, feed.Failed):
            raise feed.error_of(answer)
        return answer

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise AccessRefused(f"feed {self.path} is not ours to use: be the user who runs it, or root") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise StoreUnavailable(f"nobody serves the feed {self.path}: is `pilotfish up` running there?") from error
        except TimeoutError as error:
            raise StoreUnavailable(f"feed {self.path} is open and silent") from error
        except (OSError, EOFError) as error:
            raise StoreUnavailable(f"feed {self.path} ended in the middle of an answer") from error
        except feed.BadFrame as error:
            raise StoreUnavailable(f"feed {self.path} sends {error}") from error


def _expected(kind: type[T], answer: feed.Answer) -> T:
    if not isinstance(answer, kind):
        raise StoreUnavailable(f"the feed answers {type(answer).__name__} where {kind.__name__} is due")
    return answer
