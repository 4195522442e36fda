"""TCP clients that hold connections: `python -m tests.dnsserver.slow_clients 127.0.0.1 53 1000 silent deaf`.

As many of each kind that is named: silent ones, ones that send an octet now and then (trickling), ones that stop in the
middle of a query (halfway), ones that ask once and do not read (deaf), and ones that ask without end and do not read
(flooding). They come from several loopback addresses, and connect again as soon as they are thrown
out. A line of JSON with what happened is written every half second, until standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

from dnsserver.message.frames import framed

PER_ADDRESS = 50
OCTET_S = 5.0  # between the octets of those that trickle
REPORT_S = 0.5
QUERY = framed(bytes.fromhex("123401000001000000000000") + b"\x03web\x03svc\x08internal\x00\x00\x01\x00\x01")

Kind = Callable[[socket.socket], Awaitable[None]]


async def silent(opened: socket.socket) -> None:
    """Say nothing and wait for the end."""
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(opened, 4096):
            pass


async def trickling(opened: socket.socket) -> None:
    """Send a query octet by octet, for ever."""
    ended = asyncio.create_task(silent(opened))
    await asyncio.sleep(random.uniform(0, OCTET_S))
    for octet in QUERY[:-1] * 1000:
        if ended.done():
            return
        await asyncio.get_running_loop().sock_sendall(opened, bytes((octet,)))
        await asyncio.wait([ended], timeout=OCTET_S)


async def halfway(opened: socket.socket) -> None:
    """Stop in the middle of a query."""
    await asyncio.get_running_loop().sock_sendall(opened, QUERY[:20])
    await silent(opened)


async def deaf(opened: socket.socket) -> None:
    """Ask for more than its own socket holds, and read nothing."""
    await asyncio.get_running_loop().sock_sendall(opened, QUERY * 200)
    while True:  # only who writes learns that it was thrown out
        await asyncio.sleep(0.5)
        await asyncio.get_running_loop().sock_sendall(opened, QUERY)


async def flooding(opened: socket.socket) -> None:
    """Ask as long as the server listens, and read nothing."""
    while True:
        await asyncio.get_running_loop().sock_sendall(opened, QUERY * 100)


KINDS: dict[str, Kind] = {kind.__name__: kind for kind in (silent, trickling, halfway, deaf, flooding)}


async def hold(at: tuple[str, int], kind: Kind, local: str, counts: Counter[str]) -> None:
    """One client, for ever."""
    while True:
        with socket.socket() as opened, contextlib.suppress(OSError):
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.bind((local, 0))
            await asyncio.get_running_loop().sock_connect(opened, at)
            counts["connected"] += 1
            counts["open"] += 1
            try:
                await kind(opened)
            finally:
                counts["open"] -= 1
                counts["thrown out"] += 1
        await asyncio.sleep(random.uniform(0.05, 0.2))


async def main(at: tuple[str, int], count: int, kinds: list[Kind]) -> None:
    """Hold connections until standard input ends."""
    counts: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(hold(at, kinds[number % len(kinds)], f"127.0.1.{1 + number // PER_ADDRESS}", counts))
        for number in range(count)
    ]
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    while not told.done() and not any(task.done() for task in tasks):
        await asyncio.wait([told], timeout=REPORT_S)
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), [KINDS[name] for name in sys.argv[4:]]))
