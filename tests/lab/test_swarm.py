"""A swarm of two real engines, a registrator on each: what is registered, by whom, and never twice.

The lab's kernel has no IPVS, so the ingress mesh carries nothing: what is looked at is what the API says.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
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
from tests.registrator.test_faults import Losses

pytestmark = pytest.mark.lab

WAIT_S = 60.0
IMAGE = "pilotfish-lab/web:1"


@contextlib.contextmanager
def joined(lab: Lab, role: str) -> Iterator[Lab]:
    """A swarm that the first host began and the others joined as managers or workers; we are on the first's network."""
    first, *others = lab.hosts
    first.docker(["swarm", "init", "--advertise-addr", first.address])
    token = first.docker(["swarm", "join-token", "-q", role]).stdout.strip()
    for host in others:
        host.docker(["swarm", "join", "--advertise-addr", host.address, "--token", token, f"{first.address}:2377"])
    with first.inside():
        yield lab


@pytest.fixture
def swarm() -> Iterator[Lab]:
    """Two hosts: a manager and a worker."""
    with Lab(hosts=2) as lab, joined(lab, "worker"):
        yield lab


@pytest.fixture
def managers() -> Iterator[Lab]:
    """Three hosts, all of them managers: one can be missed."""
    with Lab(hosts=3) as lab, joined(lab, "manager"):
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


@contextlib.asynccontextmanager
async def running(lab):
    one = Town(lab)
    for host in lab.hosts:
        one.start(host)
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
async def town(swarm):
    async with running(swarm) as one:
        yield one


async def until(true, what):
    """Wait until an awaitable condition holds; returns what it gave."""
    deadline = time.monotonic() + WAIT_S
    while not (found := await true()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
    return found


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


@pytest.mark.timeout(600)
async def test_another_manager_leads(managers):
    """The leader's engine hangs, the next one is demoted: another's registrator goes on, no record goes."""
    async with running(managers) as town:
        cluster = await town.docker("info", "--format", "{{.Swarm.Cluster.ID}}")
        name = f"swarm-{cluster[:12]}"
        everywhere = {port: sorted(f"{host.address}:{port}" for host in managers.hosts) for port in (8080, 8081, 8082)}

        async def serve(service, port, host):
            await town.docker("service", "create", "-d", "--no-resolve-image", "--mode", "global", "--name", service,
                              "--publish", f"{port}:80", IMAGE, host=host)  # fmt: skip

        async def writer():
            return (await town.nodes())[name].instance

        async def leader(host):
            listed = await town.docker("node", "ls", "--format", "{{.ID}} {{.ManagerStatus}}", host=host)
            return next((line.split()[0] for line in listed.splitlines() if line.endswith(" Leader")), "")

        async def registered(port):
            return [at for _, at in (await town.places()).get(name, []) if at.endswith(f":{port}")] == everywhere[port]

        await serve("shop", 8080, 0)
        await until(lambda: registered(8080), "the first manager's registrator has it")
        before, began = await writer(), time.monotonic()
        async with Losses(town.store, CONTAINERS) as losses:
            managers.hosts[0].engine.pause()
            try:

                async def another():
                    return await writer() != before

                await until(another, "another manager's registrator has taken over")
                took = {"its engine hangs": time.monotonic() - began}
            finally:
                managers.hosts[0].engine.resume()
            await serve("more", 8081, 1)
            await until(lambda: registered(8081), "it registers what is new")

            async def led():
                return await leader(1)

            leads = await until(led, "somebody leads")
            before, began = await writer(), time.monotonic()
            ids = [await town.docker("info", "--format", "{{.Swarm.NodeID}}", host=host) for host in range(3)]
            other = (ids.index(leads) + 1) % 3
            await town.docker("node", "demote", leads, host=other)
            await until(another, "the next manager's registrator has taken over")
            took["it is demoted"] = time.monotonic() - began
            await serve("most", 8082, other)
            await until(lambda: registered(8082), "it registers what is new")
        for port in everywhere:
            assert await registered(port)
        assert [key for key in losses.lost if f"/{name}/" in key] == []
        print("swarm led by another:", ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()))
