"""The feed: the store of one process, served to others of the same user over a unix socket.

`FeedServer` stands beside the store and its mirrors; `FeedStore` (`io_feed_store`) is the `Store` of the others. What
is mirrored is served from the mirror (`io_mirrored`), the rest is passed through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from pilotfish.catalog import feed
from pilotfish.catalog.io_feed_store import FeedStore
from pilotfish.catalog.io_line import BUFFER, CannotServe, Line, Place
from pilotfish.catalog.io_mirrored import MirroredStore, Source
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Quiet, StartOver, Store, StoreError, StoreUnavailable

__all__ = ["CannotServe", "FeedServer", "FeedStore", "Source"]

MAX_CLIENTS = 256  # connections at once; a process has one a watch and one a call in flight
REQUEST_TIMEOUT_S = 5.0  # a client sends its request at once
SEND_TIMEOUT_S = 30.0  # a client that takes nothing for so long is gone or stopped


class FeedServer:
    """Serves a store to other processes of the same user.

    Args:
        store: what is served; not closed by this.
        path: the socket; made 0600, in a folder that is made 0700 if absent.
        mirrors: by prefix, who keeps that prefix mirrored. It is looked up at each request, so it may be filled later;
            whoever fills it calls `publish` with every difference of that mirror, from the first one on. Without that
            its watches are passed through.
        beat_s: how often a watch looks whether the store was heard.
        max_changes: how far a watch may be behind before it has to start over.
    """

    def __init__(
        self,
        store: Store,
        path: Path | str,
        mirrors: Mapping[str, Source] | None = None,
        *,
        beat_s: float = 0.5,
        max_changes: int = 10_000,
    ) -> None:
        self.path = Path(path)
        sources = {} if mirrors is None else mirrors
        self._store = MirroredStore(store, sources, beat_s=beat_s, max_changes=max_changes)
        self._place = Place(self.path)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def clients(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    def publish(self, prefix: str, difference: Difference) -> None:
        """Tell the watchers what changed in the mirror of `prefix`. Call it right after the mirror took it in."""
        self._store.publish(prefix, difference)

    async def start(self) -> None:
        """Open the socket.

        Raises:
            CannotServe: another process serves there, or the place is not safe or not writable.
        """
        self._server = await asyncio.start_unix_server(self._serve, sock=self._place.open(), limit=BUFFER)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self.serving():
            await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None, None]:
        """Serve while the context lasts.

        Raises:
            CannotServe: as `start`.
        """
        await self.start()
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """End all connections and take the socket away."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._place.leave()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._server is None:
            writer.transport.abort()
            return
        self._tasks.add(task)
        line = Line(reader, writer)
        try:
            await self._converse(line)
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass  # the client is gone, or does not take what it asked for
        except asyncio.CancelledError:
            pass  # we are closing; asyncio before 3.12 reports a connection's task that ends so as a fault
        finally:
            line.drop()
            self._tasks.discard(task)

    async def _converse(self, line: Line) -> None:
        try:
            if len(self._tasks) > MAX_CLIENTS:
                raise StoreUnavailable(f"{MAX_CLIENTS} connections are open already")
            request = feed.parse_request(await line.receive(feed.MAX_REQUEST_BYTES, REQUEST_TIMEOUT_S))
            await _unless_gone(self._answer(request, line), line.reader)
        except StoreError as error:
            await line.send(feed.answer_frame(feed.failed(error)), SEND_TIMEOUT_S)
        except feed.BadFrame as error:
            answer = feed.Failed("BadRequest", str(error), retry=False)
            await line.send(feed.answer_frame(answer), SEND_TIMEOUT_S)

    async def _answer(self, request: feed.Request, line: Line) -> None:
        async with aclosing(self._answers(request)) as answers:
            async for answer in answers:
                await line.send(feed.answer_frame(answer), SEND_TIMEOUT_S)

    async def _answers(self, request: feed.Request) -> AsyncGenerator[feed.Answer, None]:
        match request:
            case feed.Watch():
                async with aclosing(self._watched(request)) as answers:
                    async for answer in answers:
                        yield answer
            case feed.Read(prefixes):
                reading = await self._store.read(*prefixes)
                for part in feed.entry_parts(reading.entries):
                    yield part
                yield feed.ReadDone(reading.cluster, reading.revision)
            case feed.Count(prefix, keys):
                survey = await self._store.survey(prefix, keys=keys)
                for keys_part in feed.key_parts(survey.keys.items()):
                    yield keys_part
                yield feed.CountDone(survey.cluster, survey.revision, survey.count)
            case _:
                yield await self._done(request)

    async def _done(self, request: feed.Commit | feed.Grant | feed.KeepAlive | feed.Revoke) -> feed.Answer:
        match request:
            case feed.Commit(conditions, operations):
                return feed.CommitDone(await self._store.commit(conditions, operations))
            case feed.Grant(ttl_s):
                return feed.Granted(await self._store.grant(ttl_s))
            case feed.KeepAlive(lease):
                return feed.Renewed(await self._store.keep_alive(lease))
            case feed.Revoke(lease):
                await self._store.revoke(lease)
                return feed.Revoked()

    async def _watched(self, request: feed.Watch) -> AsyncGenerator[feed.Answer, None]:
        if request.cluster:
            now = await self._store.survey(request.prefix, keys=False)
            if now.cluster != request.cluster:
                raise StartOver("another store is served than the one that this revision is of")
        async with aclosing(self._store.watch(request.prefix, request.revision)) as news:
            async for one in news:
                parts = [feed.Still(one.revision)] if isinstance(one, Quiet) else feed.change_parts(one)
                for part in parts:
                    yield part


# A client asks once: whatever comes after that is its end, or garbage.
async def _unless_gone(work: Coroutine[object, object, None], reader: asyncio.StreamReader) -> None:
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished = task.done()
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    if not finished:
        raise ConnectionResetError("the client is gone")
    task.result()
