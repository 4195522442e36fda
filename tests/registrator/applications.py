"""Applications whose health can be changed, on real sockets of loopback addresses that stand for containers'."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
BAD = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ELSEWHERE = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.78:1/\r\nContent-Length: 0\r\n\r\n"
HANG = b""  # says nothing, and keeps the connection
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"  # and then a body without an end


class Application:
    """Answers what it is told to.

    Attributes:
        answer: octets sent for every request; or a list, of which each request takes one.
        may_answer: set; until it is again, requests wait.
        asked: the first line of every request, in order.
        sent: octets of endless bodies that were taken.
    """

    def __init__(self, ip: str) -> None:
        self.ip, self.port = ip, 0
        self.answer: bytes | list[bytes] = OK
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.sent = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, always at the same port."""
        self._server = await asyncio.start_server(self._serve, self.ip, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        self.asked.append(head.split(b"\r\n")[0].decode())
        await self.may_answer.wait()
        answer = self.answer if isinstance(self.answer, bytes) else self.answer.pop(0)
        if answer == HANG:
            await reader.read()
        writer.write(answer)
        while answer == ENDLESS:
            writer.write(b"x" * 1000)
            await writer.drain()
            self.sent += 1000
        await writer.drain()


@contextlib.asynccontextmanager
async def application(ip: str = "127.0.0.77") -> AsyncIterator[Application]:
    """One that listens."""
    one = Application(ip)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()
