"""A registrator on a fake engine and an embedded store, and ways to wait for what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.keys import container_key, containers_of, node_key
from pilotfish.catalog.record import Container, Node, decode
from pilotfish.catalog.store import Entry, Store
from pilotfish.catalog.telemetry import Telemetry
from registrator.service import RegistratorService
from registrator.settings import RegistratorSettings
from tests.parts.fake_docker import FakeDocker, container

WAIT_S = 30.0  # for something that must come, on a busy machine
NODE = "h1"
HOST_IP = "192.0.2.10"  # RFC 5737; nothing is ever dialled there


def settings(engine: FakeDocker, **changes: object) -> RegistratorSettings:
    """Settings for a fake engine, with short timers."""
    given = {"docker": (engine.url,), "node_name": NODE, "ip": (HOST_IP,), "docker_timeout_s": 5.0, "ping_s": 1.0}
    return dataclasses.replace(RegistratorSettings(), **{**given, **changes})


def web(name: str = "web_1", *, port: int = 80, host_port: int = 8080, **changes: object) -> dict:
    """A container that is ready at once, without a dial: its HEALTHCHECK says so."""
    given = {"env": {"SERVICE_NAME": "web"}, "ports": {port: host_port}, "health": "healthy"}
    return container(name, **{**given, **changes})


async def until(true: Callable[[], object], what: str, wait_s: float = WAIT_S) -> None:
    """Wait for a condition in this process."""
    deadline = time.monotonic() + wait_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {wait_s:g} s: {what}")
        await asyncio.sleep(0.005)


class Registrator:
    """One registrator in this process.

    Attributes:
        service: the part itself.
        task: runs it.
    """

    def __init__(self, store: Store, engine: FakeDocker, **changes: object) -> None:
        self.telemetry = Telemetry("registrator", time.time)
        self.settings = settings(engine, **changes)
        self.service = RegistratorService(self.settings, store, self.telemetry)
        self.task = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        """As SIGTERM does."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    def metric(self, name: str, **labels: str) -> float:
        """The value of one of its metrics."""
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0


class World:
    """A store, an engine, and any number of registrators; what is in the store is looked at through a second hand."""

    def __init__(self, store: EmbeddedStore, engine: FakeDocker) -> None:
        self.store, self.engine = store, engine
        self.running: list[Registrator] = []
        self.left_out = "/nobody's/"  # keys under it are none of ours

    def start(self, store: Store | None = None, engine: FakeDocker | None = None, **changes: object) -> Registrator:
        """Start a registrator."""
        one = Registrator(store or self.store, engine or self.engine, **changes)
        self.running.append(one)
        return one

    async def close(self) -> None:
        """Stop everything; a registrator that had died of an error fails the test."""
        for one in self.running:
            await one.stop()

    async def entries(self, prefix: str = "/") -> dict[str, Entry]:
        """What the store holds."""
        found = (await self.store.read(prefix)).entries
        return {entry.key: entry for entry in found if not entry.key.startswith(self.left_out)}

    async def record(self, container_id: str, node: str = NODE) -> Container | None:
        """A container's record."""
        entry = (await self.entries(container_key(node, container_id))).get(container_key(node, container_id))
        return decode(Container, entry.value) if entry else None

    async def node(self, node: str = NODE) -> Node | None:
        """The node's record."""
        entry = (await self.entries(node_key(node))).get(node_key(node))
        return decode(Node, entry.value) if entry else None

    async def states(self, container_id: str) -> dict[int, str]:
        """Port -> state of a container; empty without a record."""
        record = await self.record(container_id)
        return {one.port: one.state for one in record.endpoints} if record else {}

    async def see(self, what: str, true: Callable[[dict[str, Entry]], object], wait_s: float = WAIT_S) -> None:
        """Wait until what the store holds satisfies a condition."""
        deadline = time.monotonic() + wait_s
        while not true(found := await self.entries()):
            for one in self.running:
                if one.task.done() and not one.task.cancelled() and one.task.exception():
                    raise one.task.exception()
            if time.monotonic() > deadline:
                listed = "\n".join(f"{key} {entry.value[:200]!r}" for key, entry in found.items())
                raise AssertionError(f"not within {wait_s:g} s: {what}; there is\n{listed}")
            await asyncio.sleep(0.005)

    async def see_states(self, container_id: str, states: dict[int, str], wait_s: float = WAIT_S) -> None:
        """Wait until a container's endpoints are in these states; {} waits for its record to go."""
        key = container_key(NODE, container_id)

        def reached(found: dict[str, Entry]) -> bool:
            record = decode(Container, found[key].value) if key in found else None
            return ({one.port: one.state for one in record.endpoints} if record else {}) == states

        await self.see(f"{container_id[:12]} is {states}", reached, wait_s)


async def listening(world: World, **changes: object) -> Registrator:
    """A registrator that was started and listens to its engine."""
    one = world.start(**changes)
    await until(lambda: world.engine.listeners, "the registrator listens")
    return one


def records(found: dict[str, Entry], node: str = NODE) -> set[str]:
    """Ids of the containers that are recorded."""
    prefix = containers_of(node)
    return {key.removeprefix(prefix) for key in found if key.startswith(prefix)}


def exports(found: dict[str, Entry]) -> dict[str, object]:
    """Keys for others' eyes with their values; JSON is decoded."""
    return {
        key: json.loads(entry.value) if entry.value.startswith(b"{") else entry.value.decode()
        for key, entry in found.items()
        if not key.startswith("/pilotfish/")
    }


@contextlib.asynccontextmanager
async def world(tmp_path: Path, store: EmbeddedStore | None = None):
    """A World in a folder; over a store of its own unless one is given, which is closed with it."""
    store = store or EmbeddedStore(quiet_s=1.0)
    async with FakeDocker(tmp_path / "docker.sock") as engine:
        there = World(store, engine)
        try:
            yield there
        finally:
            await there.close()
            await store.close()
