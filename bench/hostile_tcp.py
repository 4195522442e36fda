"""Fifty TCP clients that are slow or mean: `python -m bench.hostile_tcp ADDRESS PORT QUERIES SECONDS NAME`.

Each has an address of its own in 127.1.0.0/16 and one manner, which it repeats over new connections. They end when the
quick ones have sent QUERIES together and the time is up that slow ones need, or after three times SECONDS. Prints how
many queries, connections and octets there were as one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import dns.message

CLIENTS = 50
HOLD_S = 30.0  # how long one that waits for something to happen waits
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST
SMALL = 4096  # octets of a receive buffer that is filled soon

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Mob:
    """All of them together.

    Args:
        server: whom they bother.
        name: what they ask for, where they ask.
        queries: how many they send.
    """

    def __init__(self, server: tuple[str, int], name: str, queries: int) -> None:
        self._server, self._queries = server, queries
        query = dns.message.make_query(name, "A", use_edns=0).to_wire()
        self.query = len(query).to_bytes(2, "big") + query
        self.chance = random.Random(1)
        self.count: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    def take(self, wanted: int) -> int:
        """Leave to send so many queries, or fewer.

        Raises:
            EOFError: none are left.
        """
        allowed = min(wanted, self._queries - self.count["queries"])
        if allowed <= 0:
            raise EOFError
        self.count["queries"] += allowed
        return allowed

    @property
    def spent(self) -> bool:
        """All queries were sent."""
        return self.count["queries"] >= self._queries

    async def client(self, manner: Callable[[Mob, Streams], Awaitable[None]], until: float) -> None:
        """One client: its manner again and again."""
        number = next(self._numbers)
        source = f"127.1.{number >> 8}.{number & 255}"
        while time.monotonic() < until:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                opened = socket.socket()
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
                opened.setblocking(False)
                opened.bind((source, 0))
                await asyncio.get_running_loop().sock_connect(opened, self._server)
                streams = await asyncio.open_connection(sock=opened)
                self.count["connections"] += 1
                try:
                    async with asyncio.timeout(HOLD_S):
                        await manner(self, streams)
                finally:
                    streams[1].transport.abort()
            await asyncio.sleep(0.05)


async def trickles(mob: Mob, streams: Streams) -> None:
    """A query octet by octet."""
    for one in mob.query * mob.take(1):
        streams[1].write(bytes([one]))
        await asyncio.sleep(0.1)


async def never_reads(mob: Mob, streams: Streams) -> None:
    """Asks without end, and takes no answer."""
    while True:
        streams[1].write(mob.query * mob.take(200))
        await streams[1].drain()


async def half(mob: Mob, streams: Streams) -> None:
    """Half a query, and then nothing until it is thrown out."""
    streams[1].write(mob.query[: len(mob.query) // 2])
    await streams[0].read()


async def huge(mob: Mob, streams: Streams) -> None:
    """A length that no query has, and as many octets."""
    streams[1].write(b"\xff\xff" + mob.chance.randbytes(65535))
    await streams[0].read()


async def pipelines(mob: Mob, streams: Streams) -> None:
    """Thousands at once, and gone with a reset before an answer is read."""
    streams[1].write(mob.query * mob.take(2000))
    await asyncio.sleep(0.05)
    streams[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def is_silent(_: Mob, streams: Streams) -> None:
    """Connects, and that is all."""
    await streams[0].read()


async def comes_and_goes(mob: Mob, streams: Streams) -> None:
    """One query on each connection, closed at once."""
    streams[1].write(mob.query * mob.take(1))
    await streams[1].drain()


async def half_closes(mob: Mob, streams: Streams) -> None:
    """Many queries, then the end of its side, and answers taken slowly."""
    streams[1].write(mob.query * mob.take(500))
    streams[1].write_eof()
    while await streams[0].read(512):  # noqa: ASYNC110  it is slow on purpose
        await asyncio.sleep(0.02)


async def babbles(mob: Mob, streams: Streams) -> None:
    """Frames of noise."""
    for _ in range(mob.take(100)):
        noise = mob.chance.randbytes(mob.chance.randrange(12, 200))
        streams[1].write(len(noise).to_bytes(2, "big") + noise)
    await streams[1].drain()
    await asyncio.sleep(0.05)


async def is_greedy(mob: Mob, streams: Streams) -> None:
    """As many answers as it can get."""
    while True:
        count = mob.take(100)
        streams[1].write(mob.query * count)
        for _ in range(count):
            size = int.from_bytes(await streams[0].readexactly(2), "big")
            await streams[0].readexactly(size)


MANNERS: Mapping[str, Callable[[Mob, Streams], Awaitable[None]]] = {
    manner.__name__: manner
    for manner in (
        trickles, never_reads, half, huge, pipelines, is_silent, comes_and_goes, half_closes, babbles, is_greedy
    )
}  # fmt: skip


async def run(mob: Mob, seconds: float) -> Counter[str]:
    """Let them all go on until everything is sent and the time is up."""
    begun = time.monotonic()
    manners = itertools.cycle(MANNERS.values())
    tasks = [asyncio.create_task(mob.client(next(manners), begun + 3 * seconds)) for _ in range(CLIENTS)]
    while time.monotonic() < begun + seconds or (not mob.spent and time.monotonic() < begun + 3 * seconds):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return mob.count


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    address, port, queries, seconds, name = arguments
    mob = Mob((address, int(port)), name, int(queries))
    print(json.dumps(asyncio.run(run(mob, float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
