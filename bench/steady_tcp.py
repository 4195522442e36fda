"""A client over TCP: `python -m bench.steady_tcp ADDRESS PORT RATE SECONDS NAME` asks at a fixed rate.

By turns over one connection that is kept, and over a new one. A connection that the server ended is made anew, and the
question asked once more, as resolvers do. It prints what came of it as one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import NamedTuple

import dns.message

from bench.figures import percentile
from bench.witness import TIMEOUT_S, hurry


class Steady(NamedTuple):
    """What came of it; times in milliseconds."""

    asked: int
    lost: int
    again: int
    p50: float
    p99: float


class Client:
    """One client and its kept connection."""

    def __init__(self, address: str, port: int, name: str) -> None:
        self._server = address, port
        query = dns.message.make_query(name, "A").to_wire()
        self._query = len(query).to_bytes(2, "big") + query
        self._kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._using = asyncio.Lock()
        self.took: list[float] = []
        self.lost = self.again = 0

    async def ask(self, *, anew: bool) -> None:
        """Ask one question, and count what came of it."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await (self._ask_anew() if anew else self._ask_kept())
            self.took.append((time.monotonic() - begun) * 1000)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.lost += 1

    async def _ask_anew(self) -> None:
        reader, writer = await asyncio.open_connection(*self._server)
        try:
            await self._exchange(reader, writer)
        finally:
            writer.close()

    async def _ask_kept(self) -> None:
        async with self._using:
            if self._kept is not None:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await self._exchange(*self._kept)
                    return
                self.again += 1
            self._kept = None  # whatever happens now, a torn connection is not used again
            kept = await asyncio.open_connection(*self._server)
            await self._exchange(*kept)
            self._kept = kept

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._query)
        size = int.from_bytes(await reader.readexactly(2), "big")
        await reader.readexactly(size)


async def run(client: Client, rate: float, seconds: float) -> Steady:
    """Ask for so long."""
    begun, asked = time.monotonic(), 0
    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() < begun + seconds:
            tasks.create_task(client.ask(anew=bool(asked % 2)))
            asked += 1
            await asyncio.sleep(max(0.0, begun + asked / rate - time.monotonic()))
    return Steady(asked, client.lost, client.again, *(percentile(client.took, percent) for percent in (50, 99)))


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    address, port, rate, seconds, name = arguments
    hurry()

    async def whole() -> Steady:
        return await run(Client(address, int(port), name), float(rate), float(seconds))

    print(json.dumps(asyncio.run(whole())._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
