"""Services and tasks of a swarm as documents of containers: what the API tells, and what is made of it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.telemetry import Telemetry
from registrator.engines.engine import (
    Away,
    EngineInfo,
    EngineUnavailable,
    ListAgain,
    Membership,
    read_membership,
    stirs_a_swarm,
)
from registrator.engines.io_swarm import BETWEEN_LOOKS_S, LEADER_S, Leader, SwarmEngine
from registrator.engines.swarm import Listed, leads, node_of, see
from registrator.io_fleet import WithSwarm
from registrator.rules.address import Host
from registrator.rules.container import facts
from registrator.rules.naming import default_of
from registrator.rules.wanted import wanted
from registrator.settings import RegistratorSettings
from tests.registrator.harness import until

CONTAINER = "c0" * 32
OTHER = "c1" * 32


def node(name="n1", ip="10.0.0.1", *, state="ready", leader=False):
    manager = {"ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": f"{ip}:2377"}} if leader else {}
    return {"ID": name, "Description": {"Hostname": name}, "Status": {"State": state, "Addr": ip}, **manager}


def port(target=80, published=8080, mode="ingress", protocol="tcp"):
    return {"Protocol": protocol, "TargetPort": target, "PublishedPort": published, "PublishMode": mode}


def service(name="web", *, ports=(), labels=None, own_labels=None, env=(), check=None, vips=()):
    container = {"Image": "shop:1@sha256:ab", "Env": list(env), "Labels": own_labels or {}}
    if check:
        container["Healthcheck"] = {"Test": check}
    networks = [{"Target": f"net{n}"} for n, _ in enumerate(vips)]
    template = {"ContainerSpec": container, "Networks": networks}
    spec = {"Name": name, "Labels": labels or {}, "TaskTemplate": template}
    virtual = [{"NetworkID": f"net{n}", "Addr": addr} for n, addr in enumerate(vips)]
    virtual.insert(0, {"NetworkID": "ingress", "Addr": "10.255.0.4/16"})
    return {"ID": f"id-{name}", "CreatedAt": "2026-01-02T03:04:05Z", "Spec": spec,
            "Endpoint": {"Ports": list(ports), "VirtualIPs": virtual}}  # fmt: skip


def task(name="t1", of="web", *, at="n1", slot=1, state="running", wanted="running", container=CONTAINER, ports=()):
    status = {"State": state, "Timestamp": "2026-01-02T03:04:05Z", "ContainerStatus": {"ContainerID": container}}
    if ports:
        status["PortStatus"] = {"Ports": list(ports)}
    return {"ID": name, "ServiceID": f"id-{of}", "NodeID": at, "Slot": slot, "DesiredState": wanted, "Status": status}


def published(listed):
    """Container id -> (service, addresses) of each endpoint of what a swarm publishes."""
    made = see(listed).documents
    host = Host("swarm-x", (), local=False)
    found = {}
    for own, document in made.items():
        record = wanted(facts(document), host, RegistratorSettings(), lambda _: None).container
        found[own] = [(one.service, [(a.ip, a.port, a.scope) for a in one.addresses]) for one in record.endpoints]
    return found


TWO = [node("n1", "10.0.0.1"), node("n2", "10.0.0.2")]

PUBLISHED = {
    "ingress: each task at its own node": (
        [service(ports=[port()])],
        [task(), task("t2", at="n2", slot=2, container=OTHER)],
        {CONTAINER: [("web", [("10.0.0.1", 8080, "lan")])], OTHER: [("web", [("10.0.0.2", 8080, "lan")])]},
    ),
    "host mode: the task's own port": (
        [service(ports=[port(mode="host")])],
        [task(ports=[port(published=32768, mode="host")])],
        {CONTAINER: [("web", [("10.0.0.1", 32768, "lan")])]},
    ),
    "both modes": (
        [service(ports=[port(), port(81, 8081, "host")])],
        [task(ports=[port(81, 8081, "host")])],
        {CONTAINER: [("web-80", [("10.0.0.1", 8080, "lan")]), ("web-81", [("10.0.0.1", 8081, "lan")])]},
    ),
    "the service: one, at every node that is ready": (
        [service(ports=[port()], labels={"SERVICE_SWARM": "vip"})],
        [task(), task("t2", at="n2", slot=2, container=OTHER)],
        [[("web", [("10.0.0.1", 8080, "lan"), ("10.0.0.2", 8080, "lan")])]],
    ),
    "the service, by environment": (
        [service(ports=[port()], env=["SERVICE_SWARM=vip"])],
        [task()],
        [[("web", [("10.0.0.1", 8080, "lan"), ("10.0.0.2", 8080, "lan")])]],
    ),
    "the service, by its routable address": (
        [service(ports=[port()], labels={"SERVICE_SWARM": "vip", "SERVICE_INTERNAL": "1"}, vips=["10.1.0.5/24"])],
        [task()],
        [[("web", [("10.1.0.5", 80, "lan")])]],
    ),
    "a service without a task that runs": (
        [service(ports=[port()], labels={"SERVICE_SWARM": "vip"})],
        [task(state="starting")],
        [],
    ),
    "no published port": ([service()], [task()], {CONTAINER: []}),
    "a task that starts": ([service(ports=[port()])], [task(state="starting")], {}),
    "a task that is to stop": ([service(ports=[port()])], [task(wanted="shutdown")], {}),
    "a task that failed": ([service(ports=[port()])], [task(state="failed")], {}),
    "a task of a service that is gone": ([], [task()], {}),
    "a task on a node that is gone": ([service(ports=[port()])], [task(at="n9")], {}),
    "the service's name tag": (
        [service(ports=[port()], labels={"SERVICE_NAME": "shop"})],
        [task()],
        {CONTAINER: [("shop", [("10.0.0.1", 8080, "lan")])]},
    ),
    "its label over its containers' label": (
        [
            service(
                ports=[port()], labels={"SERVICE_NAME": "a"}, own_labels={"SERVICE_NAME": "b"}, env=["SERVICE_NAME=c"]
            )
        ],
        [task()],
        {CONTAINER: [("a", [("10.0.0.1", 8080, "lan")])]},
    ),
    "its containers' label over their environment": (
        [service(ports=[port()], own_labels={"SERVICE_NAME": "b"}, env=["SERVICE_NAME=c"])],
        [task()],
        {CONTAINER: [("b", [("10.0.0.1", 8080, "lan")])]},
    ),
    "a stack's service": (
        [service("shop_web", ports=[port()], labels={"com.docker.stack.namespace": "shop"})],
        [task(of="shop_web")],
        {CONTAINER: [("web.shop", [("10.0.0.1", 8080, "lan")])]},
    ),
    "a UDP port": (
        [service(ports=[port(53, 53, protocol="udp")])],
        [task()],
        {CONTAINER: [("web", [("10.0.0.1", 53, "lan")])]},
    ),
}


@pytest.mark.parametrize(("services", "tasks", "found"), PUBLISHED.values(), ids=PUBLISHED)
def test_what_a_swarm_publishes(services, tasks, found):
    """Names, ports of both modes, tasks or the service."""
    made = published(Listed(services, tasks, TWO))
    assert (list(made.values()) if isinstance(found, list) else made) == found


def test_a_manager_that_does_not_know_its_own_address_is_asked_where_others_reach_it():
    """`docker swarm init` leaves 0.0.0.0 in the node's status."""
    here = {**node(leader=True), "Status": {"State": "ready", "Addr": "0.0.0.0"}}
    made = published(Listed([service(ports=[port()])], [task()], [here]))
    assert made == {CONTAINER: [("web", [("10.0.0.1", 8080, "lan")])]}


JUDGED = {
    "ingress": ([port()], None, "healthy"),
    "host mode": ([port(mode="host")], None, "none"),
    "host mode with a check": ([port(mode="host")], ["CMD", "true"], "healthy"),
    "host mode with its image's check off": ([port(mode="host")], ["NONE"], "none"),
}


@pytest.mark.parametrize(("ports", "check", "health"), JUDGED.values(), ids=JUDGED)
def test_who_says_that_a_task_is_ready(ports, check, health):
    """The swarm, where a dial would reach any task or a check was passed; else the first dial."""
    [document] = see(Listed([service(ports=ports, check=check)], [task(ports=ports)], TWO)).documents.values()
    assert facts(document).health == health


SETTLED = {
    "all run": ([task()], True),
    "one starts": ([task(), task("t2", state="preparing")], False),
    "one is to stop": ([task(wanted="shutdown")], True),
    "one failed and is replaced": ([task(state="failed", wanted="shutdown"), task("t2")], True),
    "none": ([], True),
}


@pytest.mark.parametrize(("tasks", "settled"), SETTLED.values(), ids=SETTLED)
def test_whether_a_look_soon_will_show_more(tasks, settled):
    """While a task is on its way."""
    assert see(Listed([service()], tasks, TWO)).settled is settled


def test_the_leader_alone_writes():
    """Of several managers."""
    nodes = [node("a", leader=True), node("b"), {"ID": "c", "ManagerStatus": None}]
    assert [one for one in ("a", "b", "c", "") if leads(one, nodes)] == ["a"]


MEMBERS = {
    "none": ({"LocalNodeState": "inactive", "NodeID": ""}, Membership("", manager=False, cluster="")),
    "a worker": ({"LocalNodeState": "active", "NodeID": "w", "ControlAvailable": False}, Membership("w", False, "")),
    "a manager": (
        {"LocalNodeState": "active", "NodeID": "m", "ControlAvailable": True, "Cluster": {"ID": "c"}},
        Membership("m", True, "c"),
    ),
    "a locked manager": ({"LocalNodeState": "locked", "NodeID": "m"}, Membership("", False, "")),
    "nothing": (None, Membership("", False, "")),
}


@pytest.mark.parametrize(("told", "member"), MEMBERS.values(), ids=MEMBERS)
def test_an_engine_tells_its_place_in_a_swarm(told, member):
    """GET /info."""
    assert read_membership({"Swarm": told}) == member


A_TASK = {"Attributes": {"com.docker.swarm.task.id": "t"}}
STIRS = {
    "a service": ({"Type": "service", "Action": "update"}, True),
    "a node": ({"Type": "node", "Action": "update"}, True),
    "a task's container": ({"Type": "container", "Action": "die", "Actor": A_TASK}, True),
    "its health": ({"Type": "container", "Action": "health_status: healthy", "Actor": A_TASK}, True),
    "a check in it": ({"Type": "container", "Action": "exec_start: /bin/true", "Actor": A_TASK}, False),
    "any container": ({"Type": "container", "Action": "die", "Actor": {"Attributes": {}}}, False),
}


@pytest.mark.parametrize(("event", "stirs"), STIRS.values(), ids=STIRS)
def test_which_events_are_worth_a_look_at_the_swarm(event, stirs):
    """Those of services and nodes, and what happens to a task on this very host."""
    assert stirs_a_swarm(event) is stirs


@pytest.mark.parametrize("left", [True, False], ids=["the swarm registers it", "nobody else does"])
def test_a_task_is_never_registered_twice(left):
    """Its own engine's registrator leaves it out, by a rule that says so, while the swarm's registrator lives."""
    labels = {"com.docker.swarm.task.id": "t1", "com.docker.swarm.service.name": "web"}
    bound = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    seen = facts(
        {"Id": CONTAINER, "Name": "/web.1.t1", "Config": {"Labels": labels}, "NetworkSettings": {"Ports": bound}}
    )
    made = wanted(seen, Host("h1", ("10.0.0.1",), swarm=left), RegistratorSettings(), lambda _: None)
    assert (len(made.container.endpoints), [one.rule for one in made.left_out]) == ((0, ["swarm"]) if left else (1, []))
    assert default_of(seen).name == "web"


def test_the_node_of_a_swarm():
    """Short enough for a label, and always the same."""
    assert node_of("y8dk2n5lq0bq7pl5ypxxgtgqq") == "swarm-y8dk2n5lq0bq"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["ID", "ServiceID", "NodeID", "Spec", "Endpoint", "Ports", "Status", "State", "Labels", "Name"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(JSON, max_size=3), st.lists(JSON, max_size=3), st.lists(JSON, max_size=3))
def test_whatever_a_manager_answers_is_read(services, tasks, nodes):
    """Nonsense beside a task disturbs nothing."""
    made = see(Listed([*services, service(ports=[port()])], [*tasks, task()], [*nodes, *TWO]))
    assert CONTAINER in made.documents


class Manager:
    """A manager of a swarm whose lists can be changed, and which can lose its lead or be away."""

    behind_s = 0.0

    def __init__(self):
        self.place = Membership("n1", manager=True, cluster="c" * 20)
        self.services, self.tasks, self.nodes = [service(ports=[port()])], [task()], [node(leader=True)]
        self.away = False
        self.asked = 0

    async def membership(self):
        return self.place

    async def swarm(self, kind):
        self.asked += 1
        if self.away:
            raise EngineUnavailable("away")
        return getattr(self, kind)

    async def info(self):
        return EngineInfo("DOCKER", "h1", "20.10.24", "1.41")


class Slow(Manager):
    """A manager whose first list of nodes takes until it is let go."""

    def __init__(self):
        super().__init__()
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    async def swarm(self, kind):
        found = await super().swarm(kind)
        if kind == "nodes" and not self.begun.is_set():
            self.begun.set()
            await self.let_go.wait()
        return found


async def test_of_two_looks_the_later_one_stands():
    """Also where the earlier one is answered later: what it saw is older."""
    manager = Slow()
    engine = SwarmEngine(manager, manager.place.cluster, time.time)
    async with asyncio.timeout(10), asyncio.TaskGroup() as looks:
        looks.create_task(engine.running())
        await manager.begun.wait()
        manager.tasks = []
        later = looks.create_task(engine.running())
        await asyncio.wait({later}, timeout=0.1)
        manager.let_go.set()
    assert await engine.inspect(CONTAINER) is None


async def test_a_swarm_tells_what_differs():
    """ListAgain first, then an event for what comes and goes; away while the manager does not answer."""
    manager, heard = Manager(), []
    engine = SwarmEngine(manager, manager.place.cluster, time.time)

    async def listen():
        async with contextlib.aclosing(engine.news()) as news:
            async for one in news:
                heard.append(one)

    listening = asyncio.create_task(listen())
    try:
        await until(lambda: len(heard) == 2, "the first look")
        assert heard[0] == ListAgain("looking at the swarm")
        assert (heard[1].container, await engine.running()) == (CONTAINER, (CONTAINER,))
        manager.tasks = []
        engine.wake()
        await until(lambda: len(heard) == 3, "the task is gone")
        assert (heard[2].container, await engine.inspect(CONTAINER)) == (CONTAINER, None)
        manager.away = True
        engine.wake()
        await until(lambda: isinstance(heard[-1], Away), "the manager is away")
        manager.away = False
        await until(lambda: heard[-1] == ListAgain("looking at the swarm"), "it is back")
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert (await engine.info()).id == f"swarm {manager.place.cluster}"


async def test_what_was_never_looked_at_is_not_gone():
    """A new leader's registrator asks for what the last one's has written before it has looked at the swarm."""
    manager = Manager()
    engine = SwarmEngine(manager, manager.place.cluster, time.time)
    assert await engine.inspect(CONTAINER) is not None
    manager.away = True
    unable = SwarmEngine(manager, manager.place.cluster, time.time)
    with pytest.raises(EngineUnavailable):
        await unable.inspect(CONTAINER)


async def test_who_leads_registers_and_who_does_not_stops():
    """Lost and won again with the swarm's own lead; one that cannot be asked changes nothing."""
    manager, running, began = Manager(), set(), []

    async def register(cluster, _):
        began.append(cluster)
        running.add(cluster)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(cluster)

    leader = Leader(manager, Telemetry("registrator", time.time), register)
    task_ = asyncio.create_task(leader.run())
    try:
        await until(lambda: running, "it leads")
        manager.away, asked = True, manager.asked
        leader.wake("node")
        await until(lambda: manager.asked > asked, "it was asked in vain")
        assert running
        manager.away, manager.nodes = False, [node("n1"), node("n2", leader=True)]
        leader.wake("node")
        await until(lambda: not running, "another leads")
        manager.nodes = [node("n1", leader=True)]
        leader.wake("node")
        await until(lambda: running, "it leads again")
        assert began == [manager.place.cluster] * 2
    finally:
        task_.cancel()
        await asyncio.gather(task_, return_exceptions=True)
    assert not running


async def test_however_much_happens_a_swarm_is_looked_at_now_and_then():
    """No more than five times a second; and who leads is asked when a node changed, and every other second."""
    manager, engines, places = Manager(), [], 0

    async def register(_, engine):
        engines.append(engine)
        async with contextlib.aclosing(engine.news()) as news:
            async for _one in news:
                pass

    membership = manager.membership

    async def counted():
        nonlocal places
        places += 1
        return await membership()

    manager.membership = counted
    leader = Leader(manager, Telemetry("registrator", time.time), register)
    task_, began = asyncio.create_task(leader.run()), time.monotonic()
    try:
        await until(lambda: manager.asked >= 4, "the first look")
        asked, woken = manager.asked, 0

        def wakes():
            nonlocal woken
            woken += 1
            leader.wake("container")
            return manager.asked >= asked + 9

        await until(wakes, "three more looks")
        took_s = time.monotonic() - began
    finally:
        task_.cancel()
        await asyncio.gather(task_, return_exceptions=True)
    assert woken > 10
    assert took_s > 2 * BETWEEN_LOOKS_S
    assert places <= 1 + took_s / LEADER_S


async def test_a_swarms_metrics_come_and_go_with_its_lead():
    """Each family once, whatever the manager's own registrator shows; nothing that grows old when the lead is lost."""
    store, telemetry, manager = EmbeddedStore(quiet_s=1.0), Telemetry("registrator", time.time), Manager()
    settings = dataclasses.replace(RegistratorSettings(), docker=("unix:///nowhere.sock",), node_name="h1")
    both, cluster = WithSwarm(settings, store, telemetry), manager.place.cluster
    leads = asyncio.create_task(both._register(cluster, SwarmEngine(manager, cluster, time.time)))

    def shown():
        return generate_latest(telemetry.registry).decode()

    try:
        age = f'pilotfish_store_age_seconds{{part="registrator/{node_of(cluster)}"'
        await until(lambda: age in shown() and "services_in_panic{node=" in shown(), "it is shown")
        types = collections.Counter(line for line in shown().splitlines() if line.startswith("# TYPE"))
        assert max(types.values()) == 1
    finally:
        leads.cancel()
        await asyncio.gather(leads, return_exceptions=True)
        await store.close()
    assert node_of(cluster) not in shown()
