"""The status server of a part: /health, /ready, /metrics and read-only JSON at /api/state.

Bound to loopback unless told otherwise. A browser that was lured here by a foreign name (DNS rebinding) is refused: the
Host header must be an address, `localhost`, or the name of this machine. `up` shows several parts as one, some of them
in other processes: each is a Source.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pilotfish.catalog.metrics import summed
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.catalog.values import join_host_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CHILD_TIMEOUT_S = 2.0


class Source(Protocol):
    """One part as the status server sees it."""

    name: str

    async def metrics(self) -> str:
        """Its metrics in Prometheus' text format."""
        ...

    async def missing(self) -> Mapping[str, str]:
        """What it misses to be ready, with reasons."""
        ...

    async def state(self) -> object:
        """What /api/state shows of it."""
        ...


class LocalSource:
    """A part in this process."""

    def __init__(self, telemetry: Telemetry, state: Callable[[], Mapping[str, object]]) -> None:
        self.name = telemetry.part
        self._telemetry, self._state = telemetry, state

    async def metrics(self) -> str:
        """Its metrics in Prometheus' text format."""
        return generate_latest(self._telemetry.registry).decode()

    async def missing(self) -> Mapping[str, str]:
        """What it misses to be ready, with reasons."""
        return self._telemetry.ready.missing

    async def state(self) -> object:
        """What /api/state shows of it."""
        return self._state()


class ChildSource:
    """A part in a child process that serves its status on a unix socket."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    async def metrics(self) -> str:
        """Its metrics; empty while it cannot be asked."""
        return (await self._get("/metrics") or b"").decode()

    async def missing(self) -> Mapping[str, str]:
        """What it misses, or that it does not answer."""
        body = await self._get("/ready")
        if body is None:
            return {"process": "does not answer"}
        found: dict[str, str] = msgspec.json.decode(body)["missing"]
        return found

    async def state(self) -> object:
        """What it shows itself."""
        body = await self._get("/api/state")
        return None if body is None else msgspec.json.decode(body)

    async def _get(self, path: str) -> bytes | None:
        timeout = aiohttp.ClientTimeout(total=CHILD_TIMEOUT_S)
        connector = aiohttp.UnixConnector(str(self._path))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def _may_ask(host: str) -> bool:
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name in {"localhost", socket.gethostname()}:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


@web.middleware
async def _only_known_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _may_ask(request.host):
        return web.Response(status=421, text="ask by address, by localhost or by this machine's name\n")
    response = await handler(request)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _json(value: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value, order="sorted", enc_hook=str)
    return web.Response(body=body + b"\n", status=status, content_type="application/json")


class _Handlers:
    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(self, _: web.Request) -> web.Response:
        found = await asyncio.gather(*(source.missing() for source in self._sources))
        missing = {
            self._label(source, name): why
            for source, each in zip(self._sources, found, strict=True)
            for name, why in each.items()
        }
        return _json({"ready": not missing, "missing": missing}, status=503 if missing else 200)

    def _label(self, source: Source, name: str) -> str:
        return name if len(self._sources) == 1 else f"{source.name}: {name}"

    async def metrics(self, _: web.Request) -> web.Response:
        texts = await asyncio.gather(*(source.metrics() for source in self._sources))
        body = texts[0].encode() if len(texts) == 1 else generate_latest(summed(texts))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def state(self, _: web.Request) -> web.Response:
        states = await asyncio.gather(*(source.state() for source in self._sources))
        if len(states) == 1:
            return _json(states[0])
        return _json({source.name: state for source, state in zip(self._sources, states, strict=True)})


def application(*sources: Source) -> web.Application:
    """The status application over one part, or over several shown as one."""
    handlers = _Handlers(sources)
    app = web.Application(middlewares=[_only_known_hosts], client_max_size=1024)
    app.router.add_get("/health", handlers.health)
    app.router.add_get("/ready", handlers.ready)
    app.router.add_get("/metrics", handlers.metrics)
    app.router.add_get("/api/state", handlers.state)
    return app


@asynccontextmanager
async def serving(app: web.Application, where: tuple[str, int] | Path) -> AsyncIterator[Any]:
    """Serve the application while the context lasts; yields the address that it listens at.

    Args:
        app: made by `application`.
        where: address and port, or the path of a unix socket in a folder that only we can enter.

    Raises:
        OSError: the address is taken or not ours; the message names it.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if isinstance(where, Path):
            where.unlink(missing_ok=True)  # noqa: ASYNC240  one unlink at start
            await web.UnixSite(runner, str(where)).start()
        else:
            try:
                await web.TCPSite(runner, where[0], where[1]).start()
            except OSError as error:
                reason = f"--status {join_host_port(*where)}: {os.strerror(error.errno or 0)}"
                raise OSError(error.errno, reason) from error
        yield runner.addresses[0]
    finally:
        await runner.cleanup()
