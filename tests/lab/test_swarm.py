"""A swarm of two real engines, a registrator on each: what is registered, by whom, and never twice.

The lab's kernel has no IPVS, so the ingress mesh carries nothing: what is looked at is what the API says.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import time
from collections.abc import Iterator

import pytest

from lab.lab import Lab
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.keys import CONTAINERS, NODES, node_key
from pilotfish.catalog.record import Container, Node, decode
from pilotfish.catalog.telemetry import Telemetry
from registrator.io_fleet import registrator
from registrator.settings import RegistratorSettings

pytestmark = pytest.mark.lab

WAIT_S = 60.0
IMAGE = "pilotfish-lab/web:1"


@pytest.fixture
def swarm() -> Iterator[Lab]:
    """Two hosts: a manager and a worker; we are on the manager's network."""
    with Lab(hosts=2) as lab:
        manager, worker = lab.hosts
        manager.docker(["swarm", "init", "--advertise-addr", manager.address])
        token = manager.docker(["swarm", "join-token", "-q", "worker"]).stdout.strip()
        worker.docker(
            ["swarm", "join", "--advertise-addr", worker.address, "--token", token, f"{manager.address}:2377"]
        )
        with manager.inside():
            yield lab


class Town:
    """A store, and a registrator on each host."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.store = lab, EmbeddedStore(quiet_s=1.0)
        self.parts, self.tasks = {}, {}

    def start(self, host) -> None:
        settings = dataclasses.replace(
            RegistratorSettings(), docker=(f"unix://{host.docker_socket}",), node_name=host.name, ip=(host.address,),
            lease_ttl_s=3, resync_s=5.0,
        )  # fmt: skip
        self.parts[host.name] = registrator(settings, self.store, Telemetry("registrator", time.time))
        self.tasks[host.name] = asyncio.create_task(self.parts[host.name].run())

    async def stop(self, host) -> None:
        task = self.tasks.pop(host.name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        for host in self.lab.hosts:
            if host.name in self.tasks:
                await self.stop(host)
        await self.store.close()

    async def docker(self, *arguments: str, host: int = 0) -> str:
        done = await asyncio.to_thread(self.lab.hosts[host].docker, list(arguments), within_s=60)
        return done.stdout.strip()

    async def nodes(self) -> dict[str, Node]:
        found = (await self.store.read(NODES)).entries
        return {one.key.removeprefix(NODES): decode(Node, one.value) for one in found}

    async def places(self) -> dict[str, list[tuple[str, ...]]]:
        """Node -> addresses of each passing endpoint registered under it, sorted; nothing is ever registered twice."""
        entries = (await self.store.read(CONTAINERS)).entries
        records = [decode(Container, one.value) for one in entries]
        published = [record for record in records if record.endpoints]
        doubled = [one for one, count in collections.Counter(record.id for record in published).items() if count > 1]
        assert not doubled
        found = collections.defaultdict(list)
        for record in published:
            for one in record.endpoints:
                if one.state == "passing":
                    found[record.node].append((one.service, *(f"{each.ip}:{each.port}" for each in one.addresses)))
        return {name: sorted(places) for name, places in found.items()}

    async def see(self, wanted: dict[str, list[tuple[str, ...]]], what: str) -> float:
        """Wait until exactly this is registered; returns the seconds that it took."""
        began = time.monotonic()
        while (found := await self.places()) != wanted:
            for task in self.tasks.values():
                if task.done():
                    task.result()
            assert time.monotonic() - began < WAIT_S, f"{what}: {found}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began


@pytest.fixture
async def town(swarm):
    one = Town(swarm)
    for host in swarm.hosts:
        one.start(host)
    yield one
    await one.close()


@pytest.mark.timeout(600)
async def test_services_of_a_swarm(town):
    """Tasks and VIP, ingress and host mode, to removal; then the worker's own registrator when the manager's ends."""
    manager, worker = (host.address for host in town.lab.hosts)
    cluster = await town.docker("info", "--format", "{{.Swarm.Cluster.ID}}")
    swarm = f"swarm-{cluster[:12]}"

    await town.docker("service", "create", "-d", "--no-resolve-image", "--mode", "global", "--name", "shop", "--label",
                      "SERVICE_NAME=store", "--publish", "8080:80", IMAGE)  # fmt: skip
    both = [("store", f"{manager}:8080"), ("store", f"{worker}:8080")]
    took = {"tasks of a new service": await town.see({swarm: sorted(both)}, "a task on each node")}
    assert (await town.nodes())[swarm].engine == f"swarm {cluster}"

    await town.docker("service", "update", "-d", "--label-add", "SERVICE_SWARM=vip", "shop")
    vip = ("store", *sorted([f"{manager}:8080", f"{worker}:8080"]))
    took["the service instead"] = await town.see({swarm: [vip]}, "one for the service")

    await town.docker("service", "create", "-d", "--no-resolve-image", "--mode", "global", "--name", "edge",
                      "--publish", "mode=host,target=80,published=9001", IMAGE)  # fmt: skip
    edges = sorted([("edge", f"{manager}:9001"), ("edge", f"{worker}:9001")])
    took["host mode"] = await town.see({swarm: sorted([vip, *edges])}, "host mode")

    await town.docker("service", "rm", "shop")
    took["removed"] = await town.see({swarm: edges}, "the first is gone")

    plain = await town.docker("run", "-d", "-P", "--name", "plain", "-e", "SERVICE_NAME=plain", IMAGE, host=1)
    port = (await town.docker("port", plain, "80", host=1)).splitlines()[0].rpartition(":")[2]
    here = town.lab.hosts[1].name
    container = await town.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", plain, host=1)
    plain_at = ("plain", f"{worker}:{port}", f"{container}:80")
    took["a plain container"] = await town.see({swarm: edges, here: [plain_at]}, "a container that is no task")

    began = time.monotonic()
    await town.stop(town.lab.hosts[0])
    while node_key(swarm).rpartition("/")[2] in await town.nodes():  # until the lease has ended
        assert time.monotonic() - began < WAIT_S
        await asyncio.sleep(0.05)
    deadline = time.monotonic() + WAIT_S
    while [one[:2] for one in (await town.places()).get(here, [])] != [("edge", f"{worker}:9001"), plain_at[:2]]:
        assert time.monotonic() < deadline, await town.places()
        await asyncio.sleep(0.05)
    took["the worker's own, without the manager's"] = time.monotonic() - began
    town.start(town.lab.hosts[0])
    took["the manager's again"] = await town.see({swarm: edges, here: [plain_at]}, "as before")
    print("swarm:", ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()))
