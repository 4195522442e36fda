"""What a registrator costs in a storm: 1,000 containers that start and stop, at a real etcd.

The storm is replayed at the engine's API by the fake engine of the tests: a real engine on two cores starts a few
containers a second, and would be all that is measured. Two storms: steady, each container lives for some seconds; and
all at once, which is what a host does when it boots or a compose file of that size comes up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from bench.figures import table
from bench.machine import cpu_s, memory_mb
from bench.parts import Etcd, Folder, Part, folder
from pilotfish.catalog import record
from pilotfish.catalog.io_stores import open_etcd
from pilotfish.catalog.keys import containers_of
from pilotfish.catalog.settings import EtcdOptions
from pilotfish.catalog.store import Store
from tests.parts.fake_docker import FakeDocker, container

CONTAINERS = 1000
SECONDS = 60.0
LIVES = 0.1  # of the storm: how long a container lives
WITHIN_S = 120.0
NODE = "storm"
HEADS = ("storm", "events/s", "CPU s", "of a core", "memory MB", "commits", "inspections", "right after ms")


class Cost(NamedTuple):
    """What the registrator has used so far: processor time, transactions, looks at containers, events heard."""

    cpu: float
    commits: float
    looks: float
    events: float


def run(seconds: float = SECONDS, containers: int = CONTAINERS) -> None:
    """Print one table: the steady storm, then all at once."""
    with folder("lab") as place:
        rows = asyncio.run(_measure(place, seconds, containers))
    title = f"A registrator on one engine (replayed at its API) and etcd: {containers:,} containers start and stop"
    print(table(title, HEADS, rows), flush=True)


async def _measure(place: Folder, seconds: float, containers: int) -> list[tuple[str, ...]]:
    url = (await asyncio.to_thread(Etcd, place)).url
    store = open_etcd(EtcdOptions(etcd=(url,)))
    try:
        async with FakeDocker(place.path / "docker.sock") as engine:
            options = ("--docker", engine.url, "--etcd", url, "--node-name", NODE, "--ip", "192.0.2.10")
            part = Part(place, "registrator", *options)
            await asyncio.to_thread(part.wait_ready)
            storm = _Storm(engine, store, part, containers)
            return [
                await storm.measured(f"steady, {seconds:g} s", lambda: storm.steady(seconds)),
                await storm.measured("all start at once", storm.start_all),
                await storm.measured("all stop at once", storm.stop_all),
            ]
    finally:
        await store.close()


class _Storm:
    """The containers of one engine, and the registrator that is to follow them."""

    def __init__(self, engine: FakeDocker, store: Store, part: Part, containers: int) -> None:
        self._engine, self._store, self._part = engine, store, part
        tags = {"SERVICE_NAME": "web"}
        self._documents = [
            container(f"web-{n}", ports={80: 10_000 + n}, env=tags, health="healthy") for n in range(containers)
        ]

    async def measured(self, title: str, storm: Callable[[], Awaitable[None]]) -> tuple[str, ...]:
        """Let a storm pass; a row of the table."""
        before, told, began = await self._cost(), self._engine.told, time.monotonic()
        await storm()
        ended = time.monotonic()
        await self._right()
        right_s, after = time.monotonic() - ended, await self._cost()
        lasted_s = time.monotonic() - began
        memory, _ = memory_mb(self._part.process.pid)
        return (
            title, f"{(self._engine.told - told) / max(ended - began, 0.001):,.0f}", f"{after.cpu - before.cpu:.2f}",
            f"{(after.cpu - before.cpu) / lasted_s:.0%}", f"{memory:.0f}", f"{after.commits - before.commits:.0f}",
            f"{after.looks - before.looks:.0f}", f"{right_s * 1000:.0f}",
        )  # fmt: skip

    async def steady(self, seconds: float) -> None:
        """Each starts and, some time later, stops and is removed, spread evenly."""
        began = time.monotonic()
        for at, number, start in self._times(seconds):
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            if start:
                self._engine.add(self._documents[number])
            else:
                self._gone(number)

    async def start_all(self) -> None:
        """As fast as the loop goes."""
        for document in self._documents:
            self._engine.add(document)

    async def stop_all(self) -> None:
        """As fast as the loop goes."""
        for number in range(len(self._documents)):
            self._gone(number)

    def _times(self, seconds: float) -> Iterator[tuple[float, int, bool]]:
        """When each starts (True) and stops (False), in order."""
        count = len(self._documents)
        spread_s, lives_s = seconds * (1 - LIVES), seconds * LIVES
        starts = [(number * spread_s / count, number, True) for number in range(count)]
        yield from sorted([*starts, *((at + lives_s, number, False) for at, number, _ in starts)])

    def _gone(self, number: int) -> None:
        own = self._documents[number]["Id"]
        self._engine.stop(own)
        self._engine.remove(own)

    async def _right(self) -> None:
        """Wait until the store says exactly what runs."""
        running = {own for own, found in self._engine.containers.items() if found["State"]["Running"]}
        deadline = time.monotonic() + WITHIN_S
        for question in (self._keys, self._passing):  # the engine answers in this loop: what costs more is asked last
            while await question() != running:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not right within {WITHIN_S:g} s:\n{self._part.process.tail()}")
                await asyncio.sleep(0.1)

    async def _keys(self) -> set[str]:
        """Ids of containers that are recorded."""
        prefix = containers_of(NODE)
        return {key.removeprefix(prefix) for key in (await self._store.survey(prefix, keys=True)).keys}

    async def _passing(self) -> set[str]:
        """Ids of containers that are recorded with an endpoint that passes."""
        entries = (await self._store.read(containers_of(NODE))).entries
        found = [record.decode(record.Container, entry.value) for entry in entries]
        return {one.id for one in found if any(endpoint.state == "passing" for endpoint in one.endpoints)}

    async def _cost(self) -> Cost:
        text = await asyncio.to_thread(self._part.get, "/metrics")
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        names = ("commits", "inspections", "events")
        counted = [float(values[f"pilotfish_registrator_{name}_total"]) for name in names]
        return Cost(cpu_s(self._part.process.pid), *counted)
