"""A Docker engine (or podman's service) through the Docker SDK: who it is, which containers run, and what happens.

Blocking calls run in a few threads with timeouts; the event stream has a thread of its own, which feeds a bounded queue
in the event loop. Nothing is ever lost silently: when the queue is full, a line cannot be read or the stream ends, the
listener is told to list again. The stream has no heartbeat, so the engine is pinged on another connection.
Only these are ever sent, all GET: /_ping, /version, /info, /containers/json, /containers/ID/json, /events, and to the
manager of a swarm /services, /tasks, /nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar, cast

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types.daemon import CancellableStream

from pilotfish.catalog.io_follow import Backoff
from registrator.engines import io_tls
from registrator.engines.clock import EngineClock, Moment
from registrator.engines.engine import (
    MIN_API,
    NO_SWARM,
    SWARM_TYPES,
    TYPES,
    Away,
    EngineError,
    EngineInfo,
    EngineRefused,
    EngineUnavailable,
    ListAgain,
    Membership,
    News,
    api_version,
    container_id,
    read_event,
    read_info,
    read_membership,
    stirs_a_swarm,
    system_time,
)
from registrator.engines.heard import Heard
from registrator.engines.io_inbox import Inbox, pump
from registrator.engines.io_threads import Busy, Workers
from registrator.settings import RegistratorSettings

THREADS = 4  # one hung inspection must not hold up the others
KNOCK_S = 1.0
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.5  # an engine that is back is found again within two seconds
# dockerd drops events for a reader that is 1,024 behind, and says nothing. After so many without a pause of so long,
# containers are listed again as soon as it is quiet, not at the next comparison; but no more often than health checks
# of many containers, three events each, make such bursts.
BURST = 256
QUIET_S = 0.5
BETWEEN_LISTS_S = 5.0
MOST_ASKED = 3  # times in a row, where our own clock is set while the engine says what time it is
CALL_GRACE_S = 1.0  # over the socket's own timeout
CLOSE_S = 0.5  # for calls in flight at the end: their connections are closed in order, not by whoever comes later

T = TypeVar("T")


class DockerSettings(NamedTuple):
    """How an engine is reached.

    Attributes:
        url: unix:///var/run/docker.sock, tcp://HOST:2376, http:// or https://.
        tls_verify: check the engine's certificate, and show ours.
        cert_path: folder with ca.pem, cert.pem and key.pem.
        timeout_s: of one call.
        ping_s: how often it is pinged while its events are silent.
    """

    url: str = "unix:///var/run/docker.sock"
    tls_verify: bool = False
    cert_path: str = ""
    timeout_s: float = 10.0
    ping_s: float = 5.0

    @classmethod
    def of(cls, settings: RegistratorSettings) -> DockerSettings:
        """Those of a registrator that has one engine."""
        return cls(
            url=settings.docker[0],
            tls_verify=settings.docker_tls_verify,
            cert_path=settings.docker_cert_path,
            timeout_s=settings.docker_timeout_s,
            ping_s=settings.ping_s,
        )


class DockerEngine:
    """One engine; implements `engine.Engine`. Made inside a running event loop.

    Args:
        settings: how it is reached.
    """

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._workers = Workers(THREADS, "docker")
        self._client: docker.APIClient | None = None
        self._connecting = asyncio.Lock()
        self._inbox: Inbox | None = None
        self._stream: CancellableStream[str] | None = None
        self._doubted = ""
        self._types: Sequence[str] = TYPES  # of what events are listened to
        self._closed = False
        self._burst, self._heard_at = 0, 0.0  # events that came without a pause, and when the last of them did
        self._in_doubt, self._list_at = False, 0.0  # a burst may have cost some; not to be listed for it before then
        self._clock, self._heard = EngineClock(), Heard()
        self.on_swarm: Callable[[str], None] | None = None  # called with the type of what may have changed in a swarm

    @property
    def behind_s(self) -> float:
        """How far the engine's clock is from ours; see `Engine.behind_s`."""
        return self._clock.behind_s

    async def info(self) -> EngineInfo:
        """Who the engine is; see `Engine.info`."""
        client = await self._connected()
        return read_info(await self._about(client), client.api_version)

    async def _about(self, client: docker.APIClient) -> Mapping[str, object]:
        """What the engine says of itself; what time it is there is remembered."""
        about: Mapping[str, object] = {}
        for _ in range(MOST_ASKED):
            before = _now()
            about = await self._call(client.info)
            if not (theirs := system_time(about)) or self._clock.asked(theirs, before, _now()):
                break
        return about

    async def running(self) -> tuple[str, ...]:
        """Ids of all containers that run; see `Engine.running`."""
        client = await self._connected()
        found = await self._call(lambda: client.containers(all=False))
        ids = [one.get("Id") for one in found if isinstance(one, dict)]
        return tuple(sorted(one for one in ids if isinstance(one, str) and container_id(one)))

    async def membership(self) -> Membership:
        """The engine's place in a swarm; where it joined one, or left it, events are listened to anew.

        Raises:
            EngineError: it cannot be asked.
        """
        client = await self._connected()
        found = read_membership(await self._about(client))
        if _types(found) != self._types:
            self.doubt("its place in a swarm is another than before")
        return found

    async def swarm(self, kind: Literal["services", "tasks", "nodes"]) -> list[object]:
        """What a manager lists of its swarm.

        Raises:
            EngineError: it cannot be asked, or manages none.
        """
        client = await self._connected()
        found = await self._call(getattr(client, kind))
        if not isinstance(found, list):  # no list is not an empty one: all that is registered would go
            raise EngineUnavailable(f"{self._settings.url}: /{kind} is no list: does a proxy in between answer it?")
        return found

    async def inspect(self, container: str) -> Mapping[str, object] | None:
        """The engine's document of a container; see `Engine.inspect`."""
        client = await self._connected()
        try:
            found: Mapping[str, object] = await self._call(lambda: client.inspect_container(container))
        except _Gone:
            return None
        return found

    def doubt(self, why: str) -> None:
        """Listen on a fresh connection; see `Engine.doubt`."""
        if self._inbox is not None:
            self._doubted = why
            self._inbox.wake()

    async def close(self) -> None:
        """Let go of connections and threads; see `Engine.close`."""
        self._closed = True
        await self._workers.close(CLOSE_S)
        self._hang_up()  # whoever asked for the events may have been gone when they came
        if self._client is not None:
            self._client.close()

    async def news(self) -> AsyncGenerator[News]:
        """What happens, for ever; see `Engine.news`."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while not self._closed:
            try:
                async with contextlib.aclosing(self._listen()) as heard:
                    async for one in heard:
                        backoff.reset()
                        yield one
            except EngineError as error:
                self._forget()
                yield Away(str(error))
                await backoff.wait()

    async def _listen(self) -> AsyncGenerator[News]:
        """One connection: begins with ListAgain, ends when doubted, raises EngineError when it breaks."""
        client = await self._connected()
        await self.ping()  # the next call has no timeout of its own: not to an engine that hangs
        about = await self._about(client)
        since = self._heard.begin(system_time(about), time.monotonic())
        self._types = types = _types(read_membership(about))
        stream = await self._call(lambda: self._open(client, since, types))
        inbox = self._inbox = Inbox(asyncio.get_running_loop())
        threading.Thread(target=pump, args=(stream, inbox), name="docker-events", daemon=True).start()
        why, self._doubted = self._doubted or "listening", ""
        try:
            yield ListAgain(why)
            while not self._doubted:
                for one in await self._arrived(inbox):
                    yield one
        finally:
            self._inbox = None
            self._hang_up()

    def _open(self, client: docker.APIClient, since: int | None, types: Sequence[str]) -> CancellableStream[str]:
        """In a thread: ask for the events."""
        stream = self._stream = client.events(since=since, filters={"type": list(types)})
        return stream

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(Exception):  # whatever the SDK finds wrong with a socket that we give up anyway
                stream.close()

    async def _arrived(self, inbox: Inbox) -> list[News]:
        """What came since; an empty list after a ping that went well."""
        loop = asyncio.get_running_loop()
        if not await inbox.wait(min(QUIET_S, self._settings.ping_s) if self._in_doubt else self._settings.ping_s):
            self._burst = 0
            if self._in_doubt and loop.time() >= self._list_at:
                self._in_doubt, self._list_at = False, loop.time() + BETWEEN_LISTS_S
                return [ListAgain("many events at once: the engine may have dropped some", dropped=True)]
            await self.ping()
        found: list[News] = []
        came = inbox.take()
        now = loop.time()
        self._burst = len(came) + (self._burst if now - self._heard_at < QUIET_S else 0)
        self._in_doubt |= self._burst >= BURST
        self._heard_at = now
        events = [event for raw in came if (event := read_event(raw))]
        heard = _now()
        if any(self._clock.is_doubtful(event.at, heard.day) for event in events):
            # Should it not answer, they are told as it was known then; whether the engine lives is pinged.
            with contextlib.suppress(EngineError):
                await self._about(await self._connected())
        elif events:
            self._clock.heard(events[-1].at, heard)
        for raw in came:
            if self.on_swarm is not None and stirs_a_swarm(raw):
                self.on_swarm(str(raw.get("Type")))
        found += self._heard.take(events, now, self._clock.theirs(time.time()))
        if inbox.overflowed():
            found.append(ListAgain("more events than could be taken in", dropped=True))
        if not found:
            inbox.check()
        return found

    async def ping(self) -> None:
        """Ask for a sign of life on another connection.

        Raises:
            EngineUnavailable: there was none in time.
        """
        client = await self._connected()
        await self._call(client.ping, min(self._settings.timeout_s, self._settings.ping_s))

    async def _connected(self) -> docker.APIClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._call(lambda: _connect(self._settings))
            return self._client

    def _forget(self) -> None:
        """Connect anew next time: another version may answer then."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _call(self, work: Callable[[], T], timeout_s: float | None = None) -> T:
        """Run a blocking call; every way to fail comes out as an EngineError that names the engine."""
        limit_s = self._settings.timeout_s + CALL_GRACE_S if timeout_s is None else timeout_s
        try:
            return await self._workers.call(lambda: _translated(work, self._settings.url), limit_s)
        except TimeoutError:
            raise EngineUnavailable(f"{self._settings.url} did not answer within {limit_s:g} s") from None
        except Busy as error:
            raise EngineUnavailable(f"{self._settings.url} does not keep up: {error}") from error


def _now() -> Moment:
    return Moment(time.time(), time.monotonic())


def _types(place: Membership) -> Sequence[str]:
    """Of what an engine tells events, by its place in a swarm."""
    return TYPES if place == NO_SWARM else TYPES + SWARM_TYPES


class _Gone(EngineError):
    """There is no such container."""


def _translated(work: Callable[[], T], url: str) -> T:
    try:
        _knock(url)
        return work()
    except NotFound as error:
        raise _Gone(f"{url}: {error.explanation}") from error
    except APIError as error:
        raise EngineUnavailable(f"{url}: {error.explanation or error}") from error
    except (DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineUnavailable(f"cannot reach the Docker engine at {url}: {_why(error)}") from error


def _knock(url: str) -> None:
    """Fail early, with the system's own error, where nobody listens.

    The SDK wraps that error several times, and lets go of the socket late.
    """
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(KNOCK_S)
            probe.connect(url.removeprefix("unix://"))


# What to do about an error of a socket.
_ADVICE: dict[type[BaseException], str] = {
    FileNotFoundError: "there is no such socket: is Docker running, or is it elsewhere (--docker, DOCKER_HOST)?",
    PermissionError: "permission denied: run as root or as a member of the socket's group",
    ConnectionRefusedError: "nobody listens there: is Docker running?",
    socket.gaierror: "its host name has no address: is it spelled right (--docker, DOCKER_HOST)?",
    NotADirectoryError: "there is no such socket: a part of its path is no folder (--docker, DOCKER_HOST)",
}


def _why(error: BaseException) -> str:
    """What was wrong in few words, with what to do where that is known.

    Over TCP the system's error is the last of several that the SDK's libraries wrap it in.
    """
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    known = (_ADVICE[type(one)] for one in causes if type(one) in _ADVICE)
    return next(known, str(error)[:300])


def _connect(settings: DockerSettings) -> docker.APIClient:
    """Connect, negotiate the API version and refuse what is too old.

    Raises:
        EngineRefused: the engine speaks no API that we know, or our certificates cannot be used any more.
    """
    wrong = io_tls.problems(settings.url, tls_verify=settings.tls_verify, cert_path=settings.cert_path)
    if wrong:
        raise EngineRefused("; ".join(wrong))
    probe = _client(settings, "1.41")  # the engine's own version is asked without any
    try:
        spoken = str(probe.version(api_version=False).get("ApiVersion", ""))
    finally:
        probe.close()
    if api_version(spoken) < MIN_API:
        raise EngineRefused(
            f"{settings.url}: the engine speaks API {spoken or '?'}, "
            f"{MIN_API[0]}.{MIN_API[1]} is needed: Docker 20.10 or podman 4 or later"
        )
    return _client(settings, spoken)


def _client(settings: DockerSettings, version: str) -> docker.APIClient:
    timeout_s = cast("int", settings.timeout_s)  # the SDK hands it on to requests, which takes fractions
    tls = io_tls.config(settings.url, tls_verify=settings.tls_verify, cert_path=settings.cert_path)
    client = docker.APIClient(base_url=settings.url, version=version, timeout=timeout_s, tls=tls)
    client.trust_env = False  # or REQUESTS_CA_BUNDLE would stand in for the CA that was given, and a proxy in between
    return client
