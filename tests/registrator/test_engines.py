"""Several engines from one registrator: what the flags say of each, and what one that is away does to the others."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import generate_latest

from pilotfish import look
from pilotfish.catalog.failure import CannotReach
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.keys import node_key
from pilotfish.catalog.record import Address, Endpoint, Node, decode
from pilotfish.catalog.settings import BadSettings, resolve
from pilotfish.catalog.telemetry import Telemetry
from registrator import io_fleet, io_where
from registrator.fleet import apart
from registrator.io_fleet import registrator
from registrator.rules.address import Host
from registrator.rules.container import facts
from registrator.service import RegistratorService
from registrator.settings import RegistratorSettings
from tests.parts.docker_documents import shown
from tests.parts.fake_docker import FakeDocker, container
from tests.registrator.harness import HOST_IP, records, until, web

LOCAL = "unix:///var/run/docker.sock"


def told(*docker: str, **flags) -> RegistratorSettings:
    return resolve(RegistratorSettings, {"docker": docker, **flags} if docker else flags, {}, {})


APART = {
    "the engine of this host": ((), {}, [("", LOCAL, ())]),
    "with a name": ((), {"node_name": "h1"}, [("h1", LOCAL, ())]),
    "a path is a socket": (("/run/podman/podman.sock",), {}, [("", "unix:///run/podman/podman.sock", ())]),
    "one far away is called as its URL says": (("tcp://h2.lan:2376",), {}, [("h2", "tcp://h2.lan:2376", ())]),
    "unless it is given a name": (("tcp://h2:2376",), {"node_name": "far"}, [("far", "tcp://h2:2376", ())]),
    "an address is no name": (("tcp://10.0.0.2:2376",), {}, [("", "tcp://10.0.0.2:2376", ())]),
    "--ip is the only engine's": (("tcp://h2:2376",), {"ip": "10.0.0.9"}, [("h2", "tcp://h2:2376", ("10.0.0.9",))]),
    "two": (
        (LOCAL, "h2=tcp://10.0.0.2:2376"),
        {"node_name": "h1"},
        [("h1", LOCAL, ()), ("h2", "tcp://10.0.0.2:2376", ())],
    ),
    "a comma list": ((f"{LOCAL},tcp://h2:2376",), {}, [("", LOCAL, ()), ("h2", "tcp://h2:2376", ())]),
    "--ip is this host's, --docker-ip another's": (
        (LOCAL, "h2=tcp://10.0.0.2:2376"),
        {"ip": "192.0.2.1", "docker_ip": ("h2=192.0.2.2", "h2=2001:db8::2")},
        [("", LOCAL, ("192.0.2.1",)), ("h2", "tcp://10.0.0.2:2376", ("192.0.2.2", "2001:db8::2"))],
    ),
    "loopback is this host": (
        ("tcp://localhost:2375",),
        {"ip": "192.0.2.1"},
        [("", "tcp://localhost:2375", ("192.0.2.1",))],
    ),
}


@pytest.mark.parametrize(("docker", "flags", "each"), APART.values(), ids=APART)
def test_each_engine_has_settings_of_its_own(docker, flags, each):
    """Name, URL and addresses."""
    assert [(one.node_name, one.docker[0], one.ip) for one in apart(told(*docker, **flags))] == each


WRONG = {
    "two of this host": ((LOCAL, "/run/podman/podman.sock"), {}, "would both be this host: give each a name"),
    "one name twice": (("a=tcp://h1:1", "a=tcp://h2:1"), {}, "tcp://h1:1 and tcp://h2:1 would both be node a"),
    "no name to be had": ((LOCAL, "tcp://10.0.0.2:2376"), {}, "--docker NAME=tcp://10.0.0.2:2376"),
    "whose address": (("a=tcp://h1:1", "b=tcp://h2:1"), {"ip": "10.0.0.1"}, "--docker-ip NAME=10.0.0.1"),
    "an address of nobody": (("a=tcp://h1:1", LOCAL), {"docker_ip": "c=10.0.0.1"}, "'c' is the name of no engine (a)"),
    "an address without a name": ((), {"docker_ip": "10.0.0.1"}, "does not say whose address"),
    "no scheme": (("h1:2376",), {}, "is no engine"),
    "no port": (("tcp://h1",), {}, "names no host and port"),
    "no host": (("tcp://:2376",), {}, "names no host and port"),
    "a port that is none": (("tcp://h1:x",), {}, "names no host and port"),
    "a password in it": (("tcp://me:secret@h1:2376",), {}, "is no engine"),
    "a name that is none": (("a.b=tcp://h1:2376",), {}, "node name"),
}


@pytest.mark.parametrize(("docker", "flags", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_said(docker, flags, words):
    """Before anything is connected to; with what to write instead."""
    with pytest.raises(BadSettings) as caught:
        apart(told(*docker, **flags))
    assert words in str(caught.value).replace('"', "'")


TLS_VERIFY = {"1": True, "true": True, "yes": True, "": False}


@pytest.mark.parametrize(("text", "verify"), TLS_VERIFY.items(), ids=TLS_VERIFY)
def test_docker_tls_verify_is_read_as_docker_machine_prints_it(text, verify):
    """`export DOCKER_TLS_VERIFY="1"`, or unset."""
    assert resolve(RegistratorSettings, {}, {"DOCKER_TLS_VERIFY": text}, {}).docker_tls_verify is verify


@pytest.mark.parametrize("text", ["0", "false", "no", "off", "maybe"])
def test_docker_tls_verify_that_docker_would_read_as_yes_is_refused(text):
    """Docker takes every text for yes: taking "0" for no would leave a certificate unchecked that Docker checks."""
    with pytest.raises(BadSettings, match=r"DOCKER_TLS_VERIFY.*write 1, or leave it empty"):
        resolve(RegistratorSettings, {}, {"DOCKER_TLS_VERIFY": text}, {})


WHERE = {
    "given": ("tcp://10.0.0.2:1", ("192.0.2.1",), ("192.0.2.1",)),
    "of the URL": ("tcp://10.0.0.2:1", (), ("10.0.0.2",)),
    "of the URL, IPv6": ("tcp://[2001:db8::2]:1", (), ("2001:db8::2",)),
    "a name that is nobody's": ("tcp://nobody.invalid:1", (), ()),
}


@pytest.mark.parametrize(("url", "given", "found"), WHERE.values(), ids=WHERE)
async def test_where_an_engine_is_reached(url, given, found):
    """The admin's word, else the URL's; what cannot be looked up is not guessed."""
    assert await io_where.addresses(url, given) == found


@pytest.fixture
async def store() -> AsyncIterator[EmbeddedStore]:
    made = EmbeddedStore(quiet_s=1.0)
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def fleet(store, *engines: FakeDocker, **changes):
    """A registrator for engines h1, h2, ...; yields it with its telemetry."""
    telemetry = Telemetry("registrator", time.time)
    docker = tuple(f"h{number}={engine.url}" for number, engine in enumerate(engines, 1))
    ips = tuple(f"h{number}={HOST_IP}{number}" for number in range(1, len(engines) + 1))
    settings = dataclasses.replace(
        RegistratorSettings(), docker=docker, docker_ip=ips, docker_timeout_s=2.0, ping_s=0.5, **changes
    )
    made = registrator(settings, store, telemetry)
    task = asyncio.create_task(made.run())
    try:
        yield made, telemetry, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def two(tmp_path):
    async with FakeDocker(tmp_path / "1.sock", seed=1) as one, FakeDocker(tmp_path / "2.sock", seed=2) as other:
        yield one, other


async def entries(store):
    return {entry.key: entry for entry in (await store.read("/")).entries}


async def see(store, true, what):
    deadline = time.monotonic() + 30
    while not true(found := await entries(store)):
        assert time.monotonic() < deadline, (what, list(found))
        await asyncio.sleep(0.01)
    return found


async def test_every_engine_is_a_node_with_its_own_lease_and_address(store, two):
    """Containers stand under the node that they run on."""
    web_1, web_2 = (engine.add(web("web-1"), quiet=True) for engine in two)
    async with fleet(store, *two) as (_, telemetry, _):
        found = await see(
            store, lambda found: records(found, "h1") == {web_1} and records(found, "h2") == {web_2}, "both"
        )
        await until(lambda: not telemetry.ready.missing, "it is ready")
        nodes = [decode(Node, found[node_key(name)].value) for name in ("h1", "h2")]
        assert [one.engine for one in nodes] == [engine.engine_id for engine in two]
        assert [one.addresses for one in nodes] == [(f"{HOST_IP}1",), (f"{HOST_IP}2",)]
        assert len({found[node_key(name)].lease for name in ("h1", "h2")}) == 2


async def test_one_that_is_away_does_not_touch_the_other(store, two):
    """Its records stay, it alone is missing, and the other's changes are written meanwhile."""
    near, far = two
    web_1 = far.add(web("web-1"), quiet=True)
    async with fleet(store, near, far, lease_ttl_s=2) as (_, telemetry, _):
        await see(store, lambda found: records(found, "h2") == {web_1}, "the far one")
        await until(lambda: not telemetry.ready.missing, "it is ready")
        await far.down()
        await until(lambda: list(telemetry.ready.missing) == ["h2 docker"], "the far one alone is missing")
        shop = near.add(web("shop-1"))
        renewed = time.monotonic() + 3  # longer than the lease
        await see(store, lambda found: records(found, "h1") == {shop}, "the near one")
        await until(lambda: time.monotonic() > renewed, "the lease would have ended")
        assert records(await entries(store), "h2") == {web_1}
        await far.up()
        await until(lambda: not telemetry.ready.missing, "it is ready again")


async def test_one_that_is_away_from_the_start_is_waited_for(store, two):
    """The others do not wait for it."""
    near, far = two
    await far.down()
    shop = near.add(web("shop-1"), quiet=True)
    async with fleet(store, near, far) as (_, telemetry, _):
        await see(store, lambda found: records(found, "h1") == {shop}, "the near one")
        assert "h2 docker" in telemetry.ready.missing
        await far.up()
        await until(lambda: not telemetry.ready.missing, "it is ready")


async def test_metrics_and_state_tell_the_nodes_apart(store, two):
    """One family, a label for the node; what belongs to the process stands there once."""
    two[0].add(web("web-1"), quiet=True)
    async with fleet(store, *two) as (made, telemetry, _):
        await until(lambda: not telemetry.ready.missing, "it is ready")
        shop = two[1].add(web("shop-1"))
        await see(store, lambda found: records(found, "h2") == {shop}, "the event's container")
        value = telemetry.registry.get_sample_value
        assert [value("pilotfish_registrator_containers", {"node": name}) for name in ("h1", "h2")] == [1.0, 1.0]
        text = generate_latest(telemetry.registry).decode()
        families = [line for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(families) == len(set(families))
        assert text.count("pilotfish_build_info{") == 1
        assert 'pilotfish_mirror_entries{part="registrator/h2"' in text
        assert 'pilotfish_convergence_seconds_count{stage="store"}' in text
        assert [one["node"] for one in made.state()["nodes"]] == ["h1", "h2"]


async def test_once_writes_what_it_can_and_says_what_it_could_not(store, two):
    """An engine that is away does not keep the other's containers from being written."""
    near, far = two
    await far.down()
    shop = near.add(web("shop-1"), quiet=True)
    async with fleet(store, near, far, once=True) as (_, _, task):
        with pytest.raises(CannotReach, match=str(far.path)):
            await asyncio.wait_for(asyncio.shield(task), 30)
        assert records(await entries(store), "h1") == {shop}


async def test_a_container_is_looked_for_on_all_engines(two):
    """One that is away matters only for a container that no other one has."""
    near, far = two
    near.add(web("shop-1"), quiet=True)
    await far.down()
    settings = told(f"h2={far.url}", f"h1={near.url}", docker_ip=("h1=192.0.2.1", "h2=192.0.2.2"))
    found = await asyncio.to_thread(look.inspect, settings, "shop-1", as_json=False)
    assert found.text.startswith("shop-1 (")
    for nowhere, words in (("db-1", "there is no file 'db-1'"), (None, str(far.path))):
        with pytest.raises(CannotReach, match=words):
            await asyncio.to_thread(look.inspect, settings, nowhere, as_json=False)


async def test_one_engine_is_a_service_as_before(store, two):
    """No label, no other names."""
    settings = dataclasses.replace(RegistratorSettings(), docker=(two[0].url,), node_name="h1")
    telemetry = Telemetry("registrator", time.time)
    made = registrator(settings, store, telemetry)
    assert made.state()["node"] == "h1"
    assert telemetry.registry.get_sample_value("pilotfish_registrator_containers") == 0.0


DIALLED = {"on this host": (True, ["172.17.0.2", "10.0.0.2"]), "on another": (False, ["10.0.0.2"])}


@pytest.mark.parametrize(("local", "where"), DIALLED.values(), ids=DIALLED)
async def test_a_container_is_dialled_where_it_can_be_reached(store, two, local, where):
    """On another host where it is published: 172.17.0.2 would be a container of this one."""
    settings = dataclasses.replace(RegistratorSettings(), docker=(two[0].url,), node_name="far")
    service = RegistratorService(settings, store, Telemetry("registrator", time.time))
    service.book.host = Host("far", ("10.0.0.2",), local=local)
    seen = facts(shown(container("web-1", ports={80: 8080}, networks={"bridge": "172.17.0.2"})))
    addresses = (Address("10.0.0.2", 8080, "lan"), Address("172.17.0.2", 80, "node"))
    endpoint = Endpoint(service="web", id="far:web-1:80", label="x", port=80, addresses=addresses)
    assert [target.ip for target in service.book._targets(seen, endpoint)] == where


WARNED = {
    "no TLS": ("tcp://10.0.0.2:2375", {}, "without TLS"),
    "not checked": ("tcp://10.0.0.2:2376", {"docker_cert_path": "/certs"}, "is not checked"),
    "checked": ("tcp://10.0.0.2:2376", {"docker_tls_verify": True}, ""),
    "this host": ("tcp://127.0.0.1:2375", {}, ""),
    "a socket": (LOCAL, {}, ""),
}


@pytest.mark.parametrize(("url", "flags", "words"), WARNED.values(), ids=WARNED)
def test_what_is_allowed_and_not_safe_is_said(url, flags, words, caplog):
    """Once, at the start."""
    settings = dataclasses.replace(RegistratorSettings(), docker=(url,), **flags)
    io_fleet._warn(settings, Telemetry("registrator", time.time))
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)
