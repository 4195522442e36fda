"""A fault proxy for TCP and unix sockets: put it in front of etcd, the Docker socket or a DNS server, and add toxics.

    async with ToxicProxy("127.0.0.1:2379", seed=7) as proxy:
        ...connect to proxy.address...
        stalled = proxy.add(timeout(0, DOWNSTREAM))
        ...
        proxy.remove(stalled)
        assert stalled.bitten

Addresses are "host:port" or the path of a unix socket. Toxics may come and go while connections are open; see `toxics`
for what they do, and `toxic_udp` for datagrams. Buffers are bounded, so that held data holds back the sender as a full
TCP window does.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.parts.toxics import (
    DOWNSTREAM,
    UPSTREAM,
    Stream,
    Toxic,
    bandwidth,
    latency,
    limit_data,
    loss,
    reset_peer,
    slicer,
    slow_close,
    timeout,
)

__all__ = [
    "DOWNSTREAM",
    "UPSTREAM",
    "Toxic",
    "ToxicProxy",
    "bandwidth",
    "latency",
    "limit_data",
    "loss",
    "reset_peer",
    "slicer",
    "slow_close",
    "timeout",
]

CHUNK = 16 * 1024  # octets read at once
WAITING_CHUNKS = 16  # in each direction; beyond it the sender is held back
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST


class _Held:
    """A piece of a stream on its way: data, or b"" for the end, and when it may go on."""

    def __init__(self, due: float, data: bytes) -> None:
        self.due = due
        self.data = data


class ToxicProxy:
    """See the module.

    Args:
        target: where it connects to.
        listen: where it listens; by default a free port of 127.0.0.1, or for a unix target its path with ".toxic".
        seed: decides which connections are met, and all that varies.

    Attributes:
        address: where it listens, in the form of `target`.
        accepted: connections so far.
        octets: octets delivered so far, by direction.
        cut: connections broken by `down`.
    """

    def __init__(self, target: str | Path, listen: str | Path | None = None, *, seed: int = 0) -> None:
        self.target = str(target)
        self.seed = seed
        unix = "/" in self.target
        self.address = str(listen) if listen else f"{self.target}.toxic" if unix else "127.0.0.1:0"
        self.accepted = 0
        self.octets: collections.Counter[str] = collections.Counter()
        self.cut = 0
        self.toxics: list[Toxic] = []
        self._added = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def up(self) -> None:
        """Listen; after `down` at the same address."""
        if "/" in self.address:
            self._server = await asyncio.start_unix_server(self._accept, self.address)
            return
        host, _, port = self.address.rpartition(":")
        self._server = await asyncio.start_server(self._accept, host.strip("[]"), int(port))
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def down(self) -> None:
        """Refuse new connections and close those that are open."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut += len(self._connections)
        for connection in list(self._connections):
            connection.close()
        await asyncio.gather(*(connection.ended.wait() for connection in list(self._connections)))
        if server is not None:
            await server.wait_closed()
        self._unlink()

    def _unlink(self) -> None:
        if "/" in self.address:
            Path(self.address).unlink(missing_ok=True)

    def reset_all(self) -> int:
        """Break what is open with a reset, and go on listening; returns how many there were."""
        found = list(self._connections)
        for connection in found:
            connection.reset()
        return len(found)

    def add(self, toxic: Toxic) -> Toxic:
        """Put a toxic in force, also for connections that are open."""
        toxic.number = self._added
        self._added += 1
        toxic.since = asyncio.get_running_loop().time()
        self.toxics.append(toxic)
        self._tell()
        return toxic

    def remove(self, toxic: Toxic) -> None:
        """Take a toxic away; its counter stays."""
        self.toxics.remove(toxic)
        self._tell()

    def clear(self) -> None:
        """Take all toxics away."""
        self.toxics.clear()
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until_changed(self, within_s: float | None) -> None:
        """Wait until toxics come or go, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), within_s)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, self.accepted, writer)
        self.accepted += 1
        self._connections.add(connection)
        try:
            await connection.run(reader)
        finally:
            self._connections.discard(connection)
            connection.ended.set()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to the target."""
        if "/" in self.target:
            return await asyncio.open_unix_connection(self.target)
        host, _, port = self.target.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))


class _Connection:
    """A client's connection and ours to the target."""

    def __init__(self, proxy: ToxicProxy, number: int, client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.number = number
        self.writers = [client]
        self.ended = asyncio.Event()
        self.since = asyncio.get_running_loop().time()
        self._task: asyncio.Task[None] | None = None

    async def run(self, client: asyncio.StreamReader) -> None:
        """Carry data until both directions have ended or something breaks."""
        self._task = asyncio.current_task()
        try:
            reader, writer = await self.proxy.connect()
            self.writers.append(writer)
            async with asyncio.TaskGroup() as tasks:
                guard = tasks.create_task(self._guard())
                ways = [
                    tasks.create_task(_Way(self, UPSTREAM, client, writer).run()),
                    tasks.create_task(_Way(self, DOWNSTREAM, reader, self.writers[0]).run()),
                ]
                await asyncio.wait(ways)
                guard.cancel()
        except (OSError, ExceptionGroup):
            pass  # one side broke, so the other is closed: what a proxy can tell of it
        except asyncio.CancelledError:
            pass  # `close` or `reset` ended it; the server that started this task does not care
        finally:
            for each in self.writers:
                each.close()
            for each in self.writers:
                with contextlib.suppress(OSError, TimeoutError):
                    await asyncio.wait_for(each.wait_closed(), 1)

    def active(self, *kinds: str, stream: Stream | None = None) -> Iterator[Toxic]:
        """Toxics of these kinds that concern this connection, in the order in which they were added."""
        for toxic in list(self.proxy.toxics):
            fits = toxic.kind in kinds and stream in {None, toxic.stream}
            if fits and toxic.concerns(self.proxy.seed, self.number):
                yield toxic

    async def _guard(self) -> None:
        """End the connection when a toxic says so."""
        loop = asyncio.get_running_loop()
        while True:
            due = [
                (max(self.since, toxic.since) + toxic.how["ms"] / 1000, toxic)
                for toxic in self.active("reset_peer", "timeout")
                if toxic.kind == "reset_peer" or toxic.how["ms"] > 0
            ]
            when, toxic = min(due, key=lambda pair: pair[0], default=(None, None))
            if when is not None and toxic is not None and when <= loop.time():
                toxic.bitten += 1
                self.reset() if toxic.kind == "reset_peer" else self.close()
                return
            await self.proxy.until_changed(None if when is None else when - loop.time())

    def close(self) -> None:
        """End it at once; what has not been delivered is lost."""
        for writer in self.writers:
            writer.transport.abort()
        if self._task is not None:
            self._task.cancel()

    def reset(self) -> None:
        """End it with a TCP reset to both sides."""
        for writer in self.writers:
            found = writer.get_extra_info("socket")
            if found is not None and found.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):  # this side is closed already
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()


class _Way:
    """One direction of a connection."""

    def __init__(
        self, connection: _Connection, stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.reader = reader
        self.writer = writer
        self.random = random.Random(f"{connection.proxy.seed}/{connection.number}/{stream}")
        self.passed: collections.Counter[int] = collections.Counter()  # octets since a limit_data began, by its number
        self.waiting: asyncio.Queue[_Held] = asyncio.Queue(WAITING_CHUNKS)

    def active(self, kind: str) -> Iterator[Toxic]:
        """Toxics of this kind that concern this direction."""
        return self.connection.active(kind, stream=self.stream)

    async def run(self) -> None:
        """Carry data until it ends, then pass the end on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._deliver())

    async def _read(self) -> None:
        loop, due = asyncio.get_running_loop(), 0.0
        data = b"-"
        while data:
            data = await self.reader.read(CHUNK)
            due = max(due, loop.time() + self._delay_s(bool(data)))  # never before what came earlier
            await self.waiting.put(_Held(due, data))

    def _delay_s(self, counts: bool) -> float:
        delay_s = 0.0
        for toxic in self.active("latency"):
            jitter = self.random.uniform(-1, 1) * toxic.how["jitter"]
            delay_s += max(0.0, toxic.how["ms"] + jitter) / 1000
            toxic.bitten += counts
        return delay_s

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while (held := await self.waiting.get()).data:
            await asyncio.sleep(max(0.0, held.due - loop.time()))
            for piece, gap_s in self._pieces(held.data):
                await self._pass(piece)
                await asyncio.sleep(gap_s)
        for toxic in self.active("slow_close"):
            toxic.bitten += 1
            await asyncio.sleep(toxic.how["ms"] / 1000)
        await self._hold()
        if self.writer.can_write_eof():
            self.writer.write_eof()

    def _pieces(self, data: bytes) -> list[tuple[bytes, float]]:
        """Data as a slicer cuts it, with the seconds to wait after each piece."""
        toxic = next(self.active("slicer"), None)
        if toxic is None:
            return [(data, 0.0)]
        how, pieces, at = toxic.how, [], 0
        while at < len(data):
            size = max(1, round(how["size"] + self.random.uniform(-1, 1) * how["variation"]))
            pieces.append((data[at : at + size], how["delay_us"] / 1e6))
            at += size
        toxic.bitten += len(pieces) - 1
        return pieces

    async def _pass(self, data: bytes) -> None:
        """Write a piece, when and as far as the toxics let it through."""
        await self._hold(data)
        for toxic in self.active("bandwidth"):
            toxic.bitten += 1
            await asyncio.sleep(len(data) / (toxic.how["rate"] * 1000))
        spent = None
        for toxic in self.active("limit_data"):
            left = round(toxic.how["octets"]) - self.passed[toxic.number]
            self.passed[toxic.number] += len(data)
            if len(data) >= left:
                data, spent = data[: max(0, left)], toxic
        self.writer.write(data)
        await self.writer.drain()
        self.connection.proxy.octets[self.stream] += len(data)
        if spent is not None:
            spent.bitten += 1
            await self._end_orderly()

    async def _end_orderly(self) -> None:
        """Close after what was written has left: the peer sees the octets, then the end."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
        self.connection.close()

    async def _hold(self, data: bytes = b"") -> None:
        """Wait while a timeout is in force."""
        counted: set[int] = set()
        while (toxic := next(self.active("timeout"), None)) is not None:
            if data and toxic.number not in counted:
                counted.add(toxic.number)
                toxic.bitten += 1
            await self.connection.proxy.until_changed(None)
