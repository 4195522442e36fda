"""An HTTP load of numbered requests: `python -m tests.parts.checker --proxy 10.0.0.1:80 --host web.test --log FILE`.

N workers send GET or POST through the given proxies in turn; each request carries its number as `?seq=` and `?n=` and
in the headers X-Seq and X-Request-Number, and servers answer with JSON that has it back ("seq" or "n") beside who they
are ("id" or "container"). Nothing is sent twice, except a GET on a reused connection that the server had closed before
a byte of an answer came: that is what every client does. See `checker_judge` for what becomes of the log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

from tests.parts.aside import Aside, Progress, end_point, read_rows
from tests.parts.checker_judge import Sent, Served, Serving, Span, Verdict, judge, text

__all__ = ["Aside", "Sent", "Served", "Serving", "Span", "Verdict", "judge", "read_rows", "served_by", "text"]

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024


class _ClosedEarly(ConnectionError):
    """The connection was closed before the first byte of an answer."""


class _Connection:
    """One connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.requests = 0

    async def ask(self, request: bytes) -> tuple[int, bytes, bool]:
        """Send a request; returns status, body, and whether the connection can be used again."""
        self.requests += 1
        try:
            self.writer.write(request)
            await self.writer.drain()
            first = await self.reader.readline()
        except ConnectionError as error:
            raise _ClosedEarly(*error.args) from error
        if not first:
            raise _ClosedEarly("closed before an answer")
        version, status, *_ = first.decode("latin-1").split(None, 2)
        headers = await self._headers()
        body, framed = await self._body(headers)
        goes_on = framed and version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return int(status), body, goes_on

    async def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        size = 0
        while (line := await self.reader.readline()).strip():
            size += len(line)
            if size > MAX_HEAD:
                raise ValueError("head too long")
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if not line:
            raise ConnectionError("closed in the middle of an answer")
        return headers

    async def _body(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        """The body, and whether its end could be told without closing (RFC 9112 section 6.3)."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks(), True
        if "content-length" in headers:
            return await self.reader.readexactly(min(int(headers["content-length"]), MAX_BODY)), True
        return await self.reader.read(MAX_BODY), False

    async def _chunks(self) -> bytes:
        body = b""
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                await self.writer.wait_closed()


class _Load:
    """All workers of one run."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.numbers: Iterator[int] = iter(range(options.count) if options.count else itertools.count())
        self.started = time.monotonic()

    async def worker(self) -> None:
        kept: dict[str, _Connection] = {}
        for number in self.numbers:
            if not await self._turn(number):
                break
            self.progress.write(await self._request(number, kept))
        for connection in kept.values():
            await connection.close()

    async def _turn(self, number: int) -> bool:
        """Wait until a request is due; False when it is time to end."""
        due_s = self.started + number / self.options.rate - time.monotonic() if self.options.rate else 0.0
        if due_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.progress.stop.wait(), due_s)
        return not self.progress.stop.is_set()

    async def _request(self, number: int, kept: dict[str, _Connection]) -> Sent:
        options = self.options
        proxy = options.proxy[number % len(options.proxy)]
        method = options.method[number % len(options.method)]
        seq = f"{options.run}.{number}" if options.run else str(number)
        about: dict[str, Any] = {"seq": seq, "proxy": proxy, "method": method, "reused": proxy in kept}
        begin = time.monotonic()
        try:
            async with asyncio.timeout(options.timeout):
                about |= await self._exchange(self._bytes(seq, method), proxy, method, kept)
        except TimeoutError:
            about["error"] = "timeout"
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            about["error"] = type(error).__name__
        if "error" in about and proxy in kept:
            await kept.pop(proxy).close()
        return Sent(at=begin, took_s=time.monotonic() - begin, **about)

    def _bytes(self, seq: str, method: str) -> bytes:
        body = f"body of {seq}".encode() if method == "POST" else b""
        path = self.options.path + ("&" if "?" in self.options.path else "?")
        lines = (
            f"{method} {path}seq={seq}&n={seq} HTTP/1.1",
            f"Host: {self.options.host}",
            f"X-Seq: {seq}",
            f"X-Request-Number: {seq}",
            *([f"Content-Length: {len(body)}"] if body else []),
            f"Connection: {'keep-alive' if self.options.keep_alive else 'close'}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def _exchange(self, request: bytes, proxy: str, method: str, kept: dict[str, _Connection]) -> dict[str, Any]:
        """Send a request and read its answer; leaves the connection in `kept` when it can be used again."""
        repeated = False
        if proxy not in kept:
            kept[proxy] = await self._connect(proxy)
        try:
            status, body, goes_on = await kept[proxy].ask(request)
        except _ClosedEarly:
            if method != "GET" or kept[proxy].requests == 1:
                raise
            await kept.pop(proxy).close()
            repeated = True
            kept[proxy] = await self._connect(proxy)
            status, body, goes_on = await kept[proxy].ask(request)
        if not (goes_on and self.options.keep_alive):
            await kept.pop(proxy).close()
        return {"status": status, "repeated": repeated, **_who(body)}

    async def _connect(self, proxy: str) -> _Connection:
        return _Connection(*await asyncio.open_connection(*end_point(proxy), limit=MAX_HEAD))


def _who(body: bytes) -> dict[str, Any]:
    """Who says to have served the request, and the number that came back."""
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    by, echoed = said.get("id", said.get("container")), said.get("seq", said.get("n"))
    return {"by": None if by is None else str(by), "echoed": None if echoed is None else str(echoed)}


def served_by(by: str, log: str) -> list[Served]:
    """Read a server's printed log: lines of JSON, of which those with a "seq" or "n" are requests."""
    rows = []
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            seq = said.get("seq", said.get("n")) if isinstance(said, dict) else None
            if seq is not None:
                rows.append(Served(str(seq), by))
    return rows


async def _run(options: argparse.Namespace) -> None:
    async with Progress(options.log, options.seconds) as progress:
        load = _Load(options, progress)
        async with asyncio.TaskGroup() as workers:
            for _ in range(options.workers):
                workers.create_task(load.worker())


def main() -> None:
    """Run the load."""
    parser = argparse.ArgumentParser(description="Numbered HTTP requests through proxies.")
    parser.add_argument("--proxy", action="append", required=True, help="address:port; repeatable, used in turn")
    parser.add_argument("--host", required=True, help="Host header")
    parser.add_argument("--log", required=True, help="file for the rows")
    parser.add_argument("--path", default="/", help="path, may have a query")
    parser.add_argument("--method", action="append", choices=("GET", "POST"), help="repeatable, used in turn (GET)")
    parser.add_argument("--workers", type=int, default=4, help="requests at the same time")
    parser.add_argument("--count", type=int, default=0, help="how many requests (0: until the time is up)")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long at most")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second over all workers (0: as fast as they go)"
    )
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for one request")
    parser.add_argument("--keep-alive", action="store_true", help="use connections again")
    parser.add_argument("--run", default="", help="put before each number, so that two runs can be told apart")
    options = parser.parse_args()
    options.method = options.method or ["GET"]
    asyncio.run(_run(options))


if __name__ == "__main__":
    main()
