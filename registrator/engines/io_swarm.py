"""A swarm as one more engine, and a registrator on it for as long as its manager leads.

`SwarmEngine` asks a manager for services, tasks and nodes, and tells of each document of `swarm.see` as an engine tells
of containers. The manager says nothing of tasks by events: services and nodes are told at once, tasks are looked at a
second later while any is not where it is wanted, and every few seconds besides. All managers may run a registrator;
the swarm's own leader writes, under a node key that is the swarm's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.telemetry import Telemetry
from registrator.engines import swarm
from registrator.engines.engine import NODE, Away, EngineError, EngineInfo, Event, Kind, ListAgain, News
from registrator.engines.io_docker import DockerEngine
from registrator.engines.swarm import Document, Listed

UNSETTLED_S = 1.0
SETTLED_S = 5.0  # tasks that fail on another node: nothing tells
BETWEEN_LOOKS_S = 0.2  # however much happens: a look is three lists of everything
LEADER_S = 2.0
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 2.0


class SwarmEngine:
    """A swarm, seen through one of its managers; implements `engine.Engine`.

    Args:
        manager: its engine; closed by whoever opened it.
        cluster: id of the swarm.
        now: UNIX time in seconds.
    """

    def __init__(self, manager: DockerEngine, cluster: str, now: Callable[[], float]) -> None:
        self._manager, self._cluster, self._now = manager, cluster, now
        self._documents: dict[str, Document] = {}
        self._looked = False
        self._looking = asyncio.Lock()  # or what was asked first, and answered last, would stand
        self._woken = asyncio.Event()

    @property
    def behind_s(self) -> float:
        """As its manager's; see `Engine.behind_s`."""
        return self._manager.behind_s

    async def info(self) -> EngineInfo:
        """The swarm is the engine, whichever manager tells of it: so one registrator takes over from another."""
        info = await self._manager.info()
        return info._replace(id=f"{swarm.ENGINE_PREFIX}{self._cluster}", name=swarm.node_of(self._cluster))

    async def running(self) -> tuple[str, ...]:
        """Ids of all documents."""
        await self._look()
        return tuple(sorted(self._documents))

    async def inspect(self, container: str) -> Mapping[str, object] | None:
        """A document as it was last seen; None when there is none. What was never looked at may hold anything."""
        if not self._looked:
            await self._look()
        return self._documents.get(container)

    def wake(self) -> None:
        """Something happened to a service, a node or a task."""
        self._woken.set()

    def doubt(self, why: str) -> None:  # noqa: ARG002  there is no stream that could have lost it
        """Look at once."""
        self.wake()

    async def close(self) -> None:
        """The manager's engine is not ours to close."""

    async def news(self) -> AsyncGenerator[News]:
        """What differs from one look to the next, for ever."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        listed = False
        while True:
            before = self._documents
            try:
                settled = await self._look()
            except EngineError as error:
                listed = False
                yield Away(str(error))
                await backoff.wait()
                continue
            backoff.reset()
            if not listed:
                listed = True
                yield ListAgain("looking at the swarm")
            now = self._now() - self.behind_s
            for container in sorted(before.keys() | self._documents.keys()):
                if before.get(container) != self._documents.get(container):
                    yield Event(Kind.LOOK, container, now, "task")
            await self._rest(SETTLED_S if settled else UNSETTLED_S)

    async def _look(self) -> bool:
        """List everything; True when all tasks are where they are wanted."""
        async with self._looking:
            services = await self._manager.swarm("services")
            tasks = await self._manager.swarm("tasks")
            nodes = await self._manager.swarm("nodes")
            self._documents, settled = swarm.see(Listed(services, tasks, nodes))
            self._looked = True
            return settled

    async def _rest(self, pause_s: float) -> None:
        await asyncio.sleep(BETWEEN_LOOKS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s - BETWEEN_LOOKS_S):
                await self._woken.wait()
        self._woken.clear()


class Leader:
    """Runs a registrator for the swarm while the engine's node is the swarm's leader.

    Args:
        manager: the engine; any, also one that is in no swarm.
        telemetry: of the engine's registrator.
        register: registers a swarm, given its id and itself as an engine, until cancelled.
    """

    def __init__(
        self, manager: DockerEngine, telemetry: Telemetry, register: Callable[[str, SwarmEngine], Awaitable[None]]
    ) -> None:
        self._manager, self._telemetry, self._register = manager, telemetry, register
        self._engine: SwarmEngine | None = None
        self._woken = asyncio.Event()

    def wake(self, kind: str) -> None:
        """A service, a node or a task's container of the swarm changed: the event's type."""
        if kind == NODE:
            self._woken.set()
        if self._engine is not None:
            self._engine.wake()

    async def run(self) -> None:
        """Follow the leadership, for ever."""
        running: asyncio.Task[None] | None = None
        leading = ""
        try:
            while True:
                found = await self._leads()
                if found is not None and found != leading:
                    await _ended(running)
                    leading, running = found, self._start(found)
                if running is not None and running.done():
                    running.result()  # an error of it is ours
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LEADER_S):
                        await self._woken.wait()
        finally:
            await _ended(running)

    def _start(self, cluster: str) -> asyncio.Task[None] | None:
        if not cluster:
            self._engine = None
            self._telemetry.log.info("swarm: another manager leads now")
            return None
        self._telemetry.log.info("swarm: this manager leads, its services are registered here")
        self._engine = SwarmEngine(self._manager, cluster, self._telemetry.now)
        return asyncio.ensure_future(self._register(cluster, self._engine))

    async def _leads(self) -> str | None:
        """Id of the swarm that this engine's node leads; empty: none; None: it could not be asked, as it was."""
        try:
            membership = await self._manager.membership()
            if not membership.manager:
                return ""
            nodes = await self._manager.swarm("nodes")
        except EngineError as error:
            self._telemetry.log.info("swarm: %s", error)
            return None
        return membership.cluster if swarm.leads(membership.node, nodes) else ""


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
