"""A Docker engine that is none: the Engine API that we use, on a unix socket, scriptable, and able to lie.

    async with FakeDocker(tmp_path / "docker.sock") as engine:
        web = engine.add(container("web_1", ports={80: 8080}, env={"SERVICE_NAME": "web"}))
        engine.kill(web, signal=15)
        engine.die(web)

Answered are GET /_ping, /version, /info, /containers/json, /containers/{id}/json and /events, with and without
/v1.41 in front; anything else is answered as an engine would and noted in `violations`. It keeps the last 256 events.

Lies: `tamper` changes what is told of each event (see `dropped`, `duplicated`, `delayed`, `Shuffled`); `disturb` hangs,
delays or falsifies answers; `cut_streams`, `freeze_streams`, `down` and `restart` break connections. `bitten` counts
what has really happened to somebody. `fake_docker_process` runs one in a process of its own.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.parts import docker_documents as documents
from tests.parts.docker_documents import Document, container
from tests.parts.docker_script import Script, Shuffled, delayed, dropped, duplicated

__all__ = ["Disturbance", "FakeDocker", "Shuffled", "container", "delayed", "dropped", "duplicated"]

SLOW_READER = 1024  # events waiting for one reader before it loses some; dockerd's buffer
MIN_API = (1, 12)
_VERSIONED = re.compile(r"^/v(\d+)\.(\d+)(/.*)$")
_EVENT_FILTERS = {"type", "event", "container"}
_LIST_FILTERS = {"status", "label", "id"}


class Disturbance:
    """One thing that is wrong with some answers; made by `FakeDocker.disturb`.

    Attributes:
        bitten: how many requests have met it.
    """

    def __init__(self, endpoint: str, **how: Any) -> None:
        self.endpoint = endpoint
        self.container: str | None = how["container"]
        self.status: int | None = how["status"]
        self.body: bytes | None = how["body"]
        self.delay_s: float = how["delay_s"]
        self.hang: bool = how["hang"]
        self.times: int | None = how["times"]
        self.bitten = 0
        self.ended = asyncio.Event()

    def end(self) -> None:
        """Stop it; requests that hang get their answers."""
        self.ended.set()

    def concerns(self, endpoint: str, container_id: str | None) -> bool:
        over = self.ended.is_set() or (self.times is not None and self.bitten >= self.times)
        return not over and self.endpoint == endpoint and self.container in {None, container_id}


_CUT = object()  # in a stream's queue: write half a line, then close
_CLOSE = object()  # close at once


class _Stream:
    """One reader of /events."""

    def __init__(self, *, frozen: bool) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.frozen = frozen


class FakeDocker(Script):
    """A Script behind a socket.

    Args:
        path: where the socket is put.
        api: the highest API version it speaks.
        name: the host's name, in /info.
        seed: makes the engine's own id.

    Attributes:
        violations: requests that no client of ours should make, as "POST /containers/create".
        requests: answered requests by endpoint.
        most_at_once: inspections that were being answered at the same time.
        chunk: octets per write of the event streams; None: a line at a time.
        swarm: its place in a swarm, in /info.
    """

    def __init__(self, path: Path | str, *, api: str = "1.41", name: str = "fake", seed: int = 0) -> None:
        super().__init__()
        self.path = Path(path)
        self.api = api
        self.name = name
        self.engine_id = documents.hex_id("engine", seed)[:32].upper()
        self.chunk: int | None = None
        self.swarm: Document = {"LocalNodeState": "inactive"}
        self.violations: list[str] = []
        self.requests: collections.Counter[str] = collections.Counter()
        self.most_at_once = 0
        self._inspecting = 0
        self._freeze_new = False
        self._disturbances: list[Disturbance] = []
        self._streams: set[_Stream] = set()
        self._runner: web.AppRunner | None = None

    # --- coming and going

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.forget_timers()
        await self.down()

    @property
    def url(self) -> str:
        """What DOCKER_HOST would be."""
        return f"unix://{self.path}"

    @property
    def listeners(self) -> int:
        """How many readers of /events are connected; tests wait for it."""
        return len(self._streams)

    async def up(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def down(self) -> None:
        """Stop listening and break every connection; containers are kept, as with `live-restore`."""
        for stream in self._streams:
            stream.queue.put_nowait(_CLOSE)
        for disturbance in self._disturbances:
            disturbance.end()
        runner, self._runner = self._runner, None
        if runner is not None:
            for site in tuple(runner.sites):
                await site.stop()
            for _ in range(5):  # a connection that was just taken gets its handler, which then closes it
                await asyncio.sleep(0)
            await runner.cleanup()
        self.path.unlink(missing_ok=True)

    async def restart(self) -> None:
        """Be gone and come back, as `systemctl restart docker`; the memory of events is lost, as with the real one."""
        await self.down()
        self.history.clear()
        await self.up()

    # --- lies

    def deliver(self, event: Document) -> None:
        """Queue an event for all readers; one that does not keep up loses it, as with dockerd."""
        for stream in self._streams:
            if stream.queue.qsize() >= SLOW_READER:
                self.bitten["skipped"] += 1
            else:
                stream.queue.put_nowait(event)

    def cut_streams(self) -> None:
        """Break every event stream in the middle of a line."""
        for stream in self._streams:
            stream.queue.put_nowait(_CUT)

    def freeze_streams(self, *, new_ones_too: bool = False) -> None:
        """Go silent on the event streams that are open, without closing them: half-open connections."""
        self._freeze_new = new_ones_too
        for stream in self._streams:
            stream.frozen = True

    def disturb(
        self,
        endpoint: str,
        *,
        container: str | None = None,
        status: int | None = None,
        body: bytes | None = None,
        delay_s: float = 0.0,
        hang: bool = False,
        times: int | None = None,
    ) -> Disturbance:
        """Let answers go wrong.

        Args:
            endpoint: "ping", "version", "info", "list", "inspect", "events" or "tasks".
            container: only inspections of this one.
            status: answer with this status and an error message.
            body: answer with these octets.
            delay_s: answer this late.
            hang: do not answer before `end` is called on what this returns.
            times: how many requests it meets; None: all until `end`.
        """
        how = {"container": container, "status": status, "body": body, "delay_s": delay_s, "hang": hang, "times": times}
        disturbance = Disturbance(endpoint, **how)
        self._disturbances.append(disturbance)
        return disturbance

    # --- answering

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, refused = self._without_version(request)
        if refused is not None:
            return refused
        parts = tuple(path.strip("/").split("/"))
        inspects = len(parts) == 3 and parts[0::2] == ("containers", "json")
        endpoint, make = _ENDPOINTS.get(("containers", "*", "json") if inspects else parts, ("", None))
        if make is None or (request.method != "GET" and (request.method, endpoint) != ("HEAD", "ping")):
            return self._violation(request)
        self.requests[endpoint] += 1
        asked = parts[1] if inspects else ""
        self._inspecting += inspects
        self.most_at_once = max(self.most_at_once, self._inspecting)
        try:
            wrong = await self._disturbed(endpoint, self._find(asked) if inspects else None)
            return wrong if wrong is not None else await make(self, request, asked)
        finally:
            self._inspecting -= inspects

    def _without_version(self, request: web.Request) -> tuple[str, web.Response | None]:
        found = _VERSIONED.match(request.path)
        if not found:
            return request.path, None
        asked, ours = (int(found[1]), int(found[2])), tuple(map(int, self.api.split(".")))
        text = f"client version {found[1]}.{found[2]} is too "
        if asked > ours:
            return "", self._error(400, f"{text}new. Maximum supported API version is {self.api}")
        if asked < MIN_API:
            return "", self._error(400, f"{text}old. Minimum supported API version is 1.12, please upgrade your client")
        return found[3], None

    def _violation(self, request: web.Request) -> web.Response:
        self.violations.append(f"{request.method} {request.path_qs}")
        return self._error(404, "page not found")

    async def _disturbed(self, endpoint: str, container_id: str | None) -> web.Response | None:
        for disturbance in self._disturbances:
            if not disturbance.concerns(endpoint, container_id):
                continue
            disturbance.bitten += 1
            self.bitten[endpoint] += 1
            wait_s = None if disturbance.hang else disturbance.delay_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(disturbance.ended.wait(), wait_s)
            if disturbance.body is not None:
                return web.Response(body=disturbance.body, content_type="application/json", headers=self._headers())
            if disturbance.status is not None:
                return self._error(
                    disturbance.status, "No such container" if disturbance.status == 404 else "disturbed"
                )
        return None

    def _headers(self) -> dict[str, str]:
        return {"Api-Version": self.api, "Ostype": "linux", "Server": "Docker/20.10.24 (linux)"}

    def _json(self, value: object, status: int = 200) -> web.Response:
        return web.json_response(value, status=status, headers=self._headers())

    def _error(self, status: int, message: str) -> web.Response:
        return self._json({"message": message}, status)

    async def _ping(self, _request: web.Request, _asked: str) -> web.StreamResponse:
        return web.Response(text="OK", headers=self._headers())

    async def _version(self, _request: web.Request, _asked: str) -> web.StreamResponse:
        about = {"Version": "20.10.24", "ApiVersion": self.api, "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
        return self._json({"Platform": {"Name": ""}, "Components": [], **about})

    async def _info(self, _request: web.Request, _asked: str) -> web.StreamResponse:
        states = collections.Counter(own["State"]["Status"] for own in self.containers.values())
        counts = {"Containers": len(self.containers), "ContainersRunning": states["running"]}
        about = {
            "ServerVersion": "20.10.24", "OSType": "linux", "Swarm": self.swarm, "SystemTime": self._now()
        }  # fmt: skip
        return self._json({"ID": self.engine_id, "Name": self.name, **counts, **about})

    async def _tasks(self, _request: web.Request, _asked: str) -> web.StreamResponse:
        return self._json([])

    async def _list(self, request: web.Request, _asked: str) -> web.StreamResponse:
        filters, refused = self._filters(request, _LIST_FILTERS)
        if refused is not None:
            return refused
        every = request.query.get("all", "0").lower() in {"1", "true"} or "status" in filters
        rows = [documents.summary(own) for own in reversed(self.containers.values())]
        shown = [row for row in rows if every or row["State"] in {"running", "paused", "restarting"}]
        return self._json([row for row in shown if _listed(row, filters)])

    async def _inspect(self, _request: web.Request, asked: str) -> web.StreamResponse:
        found = self._find(asked)
        if found is None:
            return self._error(404, f"No such container: {asked}")
        return self._json(documents.shown(self.containers[found]))

    def _find(self, asked: str) -> str | None:
        """By id, by the beginning of an id, or by name."""
        if asked in self.containers:
            return asked
        for own_id, own in self.containers.items():
            if own_id.startswith(asked) or own["Name"] == "/" + asked:
                return own_id
        return None

    def _filters(self, request: web.Request, known: set[str]) -> tuple[dict[str, list[str]], web.Response | None]:
        try:
            filters = {key: list(values) for key, values in json.loads(request.query.get("filters", "{}")).items()}
        except (ValueError, AttributeError, TypeError) as error:
            return {}, self._error(400, f"invalid filter: {error}")
        for key in filters.keys() - known:
            return {}, self._error(400, f"invalid filter '{key}'")
        return filters, None

    async def _events(self, request: web.Request, _asked: str) -> web.StreamResponse:
        filters, refused = self._filters(request, _EVENT_FILTERS)
        if refused is not None:
            return refused
        response = web.StreamResponse(headers={**self._headers(), "Content-Type": "application/json"})
        stream = _Stream(frozen=self._freeze_new)
        for event in self._since(request.query.get("since", "")):
            stream.queue.put_nowait(event)
        self._streams.add(stream)
        try:
            await response.prepare(request)
            await self._feed(request, response, stream, filters, request.query.get("until", ""))
        except ConnectionError:
            self.bitten["reader gone"] += 1
        finally:
            self._streams.discard(stream)
        return response

    def _since(self, text: str) -> list[Document]:
        """As dockerd: from the newest back to the first that is older, whatever lies before that one."""
        newer = itertools.takewhile(lambda event: event["timeNano"] >= _nanoseconds(text), reversed(self.history))
        return list(newer)[::-1] if text else []

    async def _feed(
        self,
        request: web.Request,
        response: web.StreamResponse,
        stream: _Stream,
        filters: dict[str, list[str]],
        until: str,
    ) -> None:
        """Write events until there is a reason to stop."""
        ends_s = max(0.05, (_nanoseconds(until) - time.time_ns()) / 1e9) if until else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ends_s):
                while (event := await stream.queue.get()) not in (_CUT, _CLOSE):
                    if stream.frozen:
                        self.bitten["frozen"] += 1
                    elif _told(event, filters):
                        await self._write(response, json.dumps(event, separators=(",", ":")).encode() + b"\n")
                await self._break(request, response, half=event is _CUT)

    async def _write(self, response: web.StreamResponse, line: bytes) -> None:
        size = self.chunk or len(line)
        for at in range(0, len(line), size):
            await response.write(line[at : at + size])
            if self.chunk:
                await asyncio.sleep(0)  # lets the piece leave by itself

    async def _break(self, request: web.Request, response: web.StreamResponse, *, half: bool) -> None:
        if half:
            await response.write(b'{"status":"start","id":"0123456789')
            self.bitten["cut"] += 1
        if request.transport is not None:
            request.transport.close() if half else request.transport.abort()


_ENDPOINTS: dict[
    tuple[str, ...], tuple[str, Callable[[FakeDocker, web.Request, str], Awaitable[web.StreamResponse]]]
] = {
    ("_ping",): ("ping", FakeDocker._ping),
    ("version",): ("version", FakeDocker._version),
    ("info",): ("info", FakeDocker._info),
    ("containers", "json"): ("list", FakeDocker._list),
    ("containers", "*", "json"): ("inspect", FakeDocker._inspect),
    ("events",): ("events", FakeDocker._events),
    ("tasks",): ("tasks", FakeDocker._tasks),
}


def _nanoseconds(text: str) -> int:
    """Seconds with up to nine decimals, as `since` and `until` have them."""
    seconds, _, fraction = text.partition(".")
    return int(seconds or 0) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def _told(event: Document, filters: dict[str, list[str]]) -> bool:
    action, attributes = event["Action"], event["Actor"]["Attributes"]
    have = {
        "type": {event["Type"]},
        "event": {action, action.partition(":")[0]},
        "container": {event["Actor"]["ID"], attributes.get("name"), attributes.get("container")},
    }
    return all(have[key] & set(values) for key, values in filters.items())


def _listed(row: Document, filters: dict[str, list[str]]) -> bool:
    labels = {*row["Labels"], *(f"{key}={value}" for key, value in row["Labels"].items())}
    have = {"status": {row["State"]}, "label": labels, "id": {row["Id"]}}
    return all(have[key] & set(values) for key, values in filters.items())
