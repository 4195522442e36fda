"""The fake Docker engine says what a real one says, and lies as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import aiohttp
import docker
import pytest

from tests.parts.docker_documents import container, exited, shown
from tests.parts.fake_docker import FakeDocker, Shuffled, delayed, dropped, duplicated

CAPTURES = Path(__file__).parent / "captures" / "docker-20.10.24"
EXPOSED = {"ports": {80: None}}
HEALTHY = {"ports": {443: 8443, "53/udp": "10.88.7.1:53", 80: "127.0.0.1:8081"}, "health": "healthy"}


@pytest.fixture
async def engine(tmp_path):
    async with FakeDocker(tmp_path / "docker.sock") as running:
        yield running


@pytest.fixture
async def client(engine):
    connector = aiohttp.UnixConnector(str(engine.path))
    async with aiohttp.ClientSession("http://docker", connector=connector) as session:
        yield session


class Reader:
    """Reads /events in the background."""

    def __init__(self, client, engine):
        self.client, self.engine = client, engine
        self.events, self.rest = [], b""
        self.came = asyncio.Condition()
        self.over = asyncio.Event()

    async def run(self, query=""):
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with self.client.get(f"/v1.41/events{query}") as response:
                async for chunk in response.content.iter_any():
                    *lines, self.rest = (self.rest + chunk).split(b"\n")
                    async with self.came:
                        self.events += map(json.loads, lines)
                        self.came.notify_all()
        self.over.set()

    async def read(self, count):
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: len(self.events) >= count)
        return [event["Action"] for event in self.events]


@pytest.fixture
async def reader(client, engine):
    listening = Reader(client, engine)
    task = asyncio.create_task(listening.run())
    async with asyncio.timeout(10):
        while not engine.listeners:
            await asyncio.sleep(0)
    yield listening
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _shape(value):
    """Names and kinds, without values; lists by their first item; free-form maps without their keys."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


SHAPES = [
    ("bridge", container(ports={80: 32768}, env=["A=b"], labels={"SERVICE_80_PROXY": "http"})),
    ("host", container(network_mode="host", **EXPOSED)),
    ("joined", container(network_mode="container:" + "0" * 64, **EXPOSED)),
    ("none", container(network_mode="none", **EXPOSED)),
    (
        "two-networks",
        container(
            network_mode="app", networks={"app": "172.18.0.2", "bridge": "172.17.0.3"}, stop_timeout=1, **HEALTHY
        ),
    ),
]


@pytest.mark.parametrize(("name", "ours"), SHAPES, ids=[row[0] for row in SHAPES])
def test_documents_are_shaped_like_a_real_engines(name, ours):
    """Every field has the name and kind that a real engine gave; of HostConfig only some are there."""
    real, mine = _shape(json.loads((CAPTURES / f"{name}.json").read_text())), _shape(ours)
    for document in (real, mine):
        document["Config"].pop("Labels")
        document["Config"]["Env"] = document["Args"] = document["GraphDriver"] = None
        document["HostConfig"].pop("PortBindings")  # names the ports that -p asked for; -P asks for none
        document["State"].get("Health", {})["Log"] = None
        for entry in document["NetworkSettings"]["Networks"].values():
            entry["IPAMConfig"] = entry["DriverOpts"] = entry["Aliases"] = None  # null or empty by how it was joined
    real["HostConfig"] = {key: value for key, value in real["HostConfig"].items() if key in mine["HostConfig"]}

    assert mine == real


@pytest.mark.parametrize("name", ["bridge", "two-networks", "host"])
def test_values_are_those_of_a_real_engine(name):
    """Built from what `docker run` was told, ports and networks come out as the real engine answered."""
    real = json.loads((CAPTURES / f"{name}.json").read_text())
    ours = container(
        "x",
        network_mode=real["HostConfig"]["NetworkMode"],
        ports={"bridge": {80: 32768}, "host": {80: None}}.get(name, HEALTHY["ports"]),
        networks={key: entry["IPAddress"] for key, entry in real["NetworkSettings"]["Networks"].items()},
    )

    assert ours["NetworkSettings"]["Ports"] == real["NetworkSettings"]["Ports"]
    assert ours["Config"]["ExposedPorts"] == real["Config"]["ExposedPorts"]
    for key, entry in real["NetworkSettings"]["Networks"].items():
        mine = ours["NetworkSettings"]["Networks"][key]
        same = ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "GlobalIPv6Address")
        assert {field: mine[field] for field in same} == {field: entry[field] for field in same}


def test_a_stopped_container_has_no_addresses():
    """As with a real engine, ports and addresses go with the process; networks stay."""
    real = json.loads((CAPTURES / "exited.json").read_text())
    document = container(network_mode="app", **HEALTHY)
    exited(document, code=127, at="2026-01-01T12:00:01Z")
    ours = shown(document)

    assert ours["NetworkSettings"]["Ports"] == real["NetworkSettings"]["Ports"] == {}
    assert [entry["IPAddress"] for entry in ours["NetworkSettings"]["Networks"].values()] == [""]
    same = ("Status", "Running", "Paused", "Pid", "ExitCode")
    assert [ours["State"][field] for field in same] == [real["State"][field] for field in same]


async def test_events_are_those_of_a_real_engine(engine, reader):
    """Start, stop, kill and removal are told in the same words and the same order."""
    real = list(map(json.loads, (CAPTURES / "events.ndjson").read_text().splitlines()))
    own = engine.add(container("hostnet", image="web:1", network_mode="host"))
    engine.kill(own, 9)
    engine.die(own, 137)
    engine.remove(own)
    await reader.read(7)

    assert [_plain(event) for event in reader.events] == [
        _plain(event) for event in real if event["Actor"]["Attributes"]["name"] in {"hostnet", "host"}
    ]


def _plain(event):
    """An event without ids and times."""
    attributes = {key: value for key, value in event["Actor"]["Attributes"].items() if key != "container"}
    keys = sorted(event)
    return event["Type"], event["Action"], attributes, keys, event.get("status"), event.get("from")


async def test_answers(engine, client):
    """Each endpoint answers, with and without a version in front."""
    own = engine.add(container("web_1", ports={80: 8080}, labels={"a": "b"}))
    gone = engine.add(container("old_1"))
    engine.stop(gone)

    for prefix in ("", "/v1.41", "/v1.24"):
        async with client.get(f"{prefix}/_ping") as answer:
            assert (answer.status, answer.headers["Api-Version"], await answer.text()) == (200, "1.41", "OK")
        rows = await (await client.get(f"{prefix}/containers/json")).json()
        assert [(row["Id"], row["State"]) for row in rows] == [(own, "running")]
        assert rows[0]["Ports"][0] == {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
    rows = await (await client.get("/containers/json?all=1")).json()
    assert [row["Names"] for row in rows] == [["/old_1"], ["/web_1"]]
    for asked in (own, own[:12], "web_1"):
        assert (await (await client.get(f"/containers/{asked}/json")).json())["Id"] == own
    assert (await (await client.get("/info")).json())["ID"] == engine.engine_id
    assert (await (await client.get("/version")).json())["ApiVersion"] == "1.41"
    assert not engine.violations


REFUSALS = [
    ("unknown container", "GET", "/containers/nope/json", 404, "No such container: nope", False),
    ("new version", "GET", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API", False),
    ("old version", "GET", "/v1.11/info", 400, "client version 1.11 is too old. Minimum supported", False),
    ("bad filter", "GET", "/events?filters=%7Bbad", 400, "invalid filter", False),
    ("unknown path", "GET", "/v1.41/images/json", 404, "page not found", True),
    ("another verb", "POST", "/v1.41/containers/json", 404, "page not found", True),
    ("removal", "DELETE", "/containers/x", 404, "page not found", True),
]


@pytest.mark.parametrize("row", REFUSALS, ids=[row[0] for row in REFUSALS])
async def test_refusals(engine, client, row):
    """What an engine would refuse is refused; what nobody may ask of it is noted."""
    _, method, path, status, says, violates = row
    async with client.request(method, path) as answer:
        assert answer.status == status
        assert says in (await answer.json())["message"]
    assert engine.violations == ([f"{method} {path}"] if violates else [])


async def test_state_follows(engine, client):
    """Pause, health, rename and networks show in the next inspection."""
    own = engine.add(container("web_1", health="starting"))
    engine.pause(own)
    engine.health_status(own, "healthy")
    engine.rename(own, "web_2")
    engine.network_connect(own, "app", ("10.0.0.5", "fd00::5"))
    engine.network_disconnect(own, "bridge")
    found = await (await client.get(f"/containers/{own}/json")).json()

    assert (found["State"]["Status"], found["State"]["Health"]["Status"], found["Name"]) == (
        "paused",
        "healthy",
        "/web_2",
    )
    assert {name: entry["GlobalIPv6Address"] for name, entry in found["NetworkSettings"]["Networks"].items()} == {
        "app": "fd00::5"
    }


async def test_memory_of_events(engine, client):
    """`since` and `until` give what is remembered, filtered, and no more than 256."""
    own = engine.add(container("web_1"), quiet=True)
    for _ in range(300):
        engine.update(own)
    engine.stop(own)
    everything = await (await client.get("/events?since=0&until=1")).text()
    deaths = await (await client.get('/events?since=0&until=1&filters={"event":["die"],"type":["container"]}')).text()
    events = list(map(json.loads, everything.splitlines()))
    later = f"{events[-2]['time']}.{events[-2]['timeNano'] % 1_000_000_000:09d}"

    assert len(events) == 256
    assert [json.loads(line)["Action"] for line in deaths.splitlines()] == ["die"]
    last = await (await client.get(f"/events?since={later}&until=1")).text()
    assert [json.loads(line)["Action"] for line in last.splitlines()] == ["disconnect", "stop"]


async def test_memory_of_events_after_the_clock_was_set_back(engine, client):
    """Told is what came after the last event that is older than `since`, as dockerd does: nothing, here."""
    own = engine.add(container("web_1"), quiet=True)
    engine.update(own)
    [update] = engine.history
    engine.set_clock(-3600)
    engine.stop(own)
    assert await (await client.get(f"/events?since={update['time']}&until=1")).text() == ""
    told = await (await client.get(f"/events?since={update['time'] - 3700}&until=1")).text()
    assert [json.loads(line)["Action"] for line in told.splitlines()] == ["update", "kill", "die", "disconnect", "stop"]


TAMPERS = [
    ("dropped", lambda: dropped, ["last"]),
    ("duplicated", lambda: duplicated, ["create", "create", "connect", "connect", "start", "start", "last"]),
    ("delayed", lambda: delayed(0.02), ["last", "create", "connect", "start"]),
    ("shuffled", lambda: Shuffled(3), ["create", "start", "connect", "last"]),
]


@pytest.mark.parametrize(("make", "expected"), [row[1:] for row in TAMPERS], ids=[row[0] for row in TAMPERS])
async def test_tampering(engine, reader, make, expected):
    """Events are lost, doubled, late or out of order, and it is counted."""
    engine.tamper = make()
    own = engine.add(container("web_1"))
    engine.tamper = None
    engine._tell(engine.containers[own], "last")

    assert await reader.read(len(expected)) == expected
    assert engine.bitten["tampered"] >= 1


async def test_cut_in_the_middle_of_a_line(engine, reader):
    """A broken stream ends with half a line."""
    engine.add(container("web_1"))
    engine.cut_streams()
    async with asyncio.timeout(10):
        await reader.over.wait()

    assert len(reader.events) == 3
    assert reader.rest.startswith(b'{"status"')
    assert engine.bitten["cut"] == 1


async def test_half_open_stream(engine, client, reader):
    """A frozen stream stays open and says nothing; a new one is told everything."""
    engine.freeze_streams()
    other = Reader(client, engine)
    task = asyncio.create_task(other.run())
    async with asyncio.timeout(10):
        while engine.listeners < 2:
            await asyncio.sleep(0)
    engine.add(container("web_1"))

    assert await other.read(3) == ["create", "connect", "start"]
    assert (reader.events, reader.over.is_set(), engine.bitten["frozen"]) == ([], False, 3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_small_chunks(engine, reader):
    """Lines that come in pieces are whole in the end."""
    engine.chunk = 7
    engine.add(container("web_1"))

    assert await reader.read(3) == ["create", "connect", "start"]


async def test_disturbed_answers(engine, client):
    """One inspection hangs until it is let go, others go on; then errors and nonsense, as often as asked for."""
    own, other = engine.add(container("web_1")), engine.add(container("web_2"))
    hanging = engine.disturb("inspect", container=own, hang=True)
    asked = asyncio.create_task(client.get(f"/containers/{own}/json"))
    async with asyncio.timeout(10):
        while not hanging.bitten:
            await asyncio.sleep(0)
    assert (await client.get(f"/containers/{other}/json")).status == 200
    assert not asked.done()
    hanging.end()
    assert (await asked).status == 200

    for status in (404, 500):
        disturbance = engine.disturb("inspect", container=own, status=status, times=1)
        assert (await client.get(f"/containers/{own}/json")).status == status
        assert (await client.get(f"/containers/{own}/json")).status == 200
        assert disturbance.bitten == 1
    engine.disturb("list", body=b"{not json", times=1)
    assert await (await client.get("/containers/json")).text() == "{not json"
    assert engine.bitten == {"inspect": 3, "list": 1}


async def test_restart(engine, reader):
    """A restart ends the streams; afterwards the containers are there, the memory is not."""
    own = engine.add(container("web_1"))
    await reader.read(3)
    await engine.restart()
    async with asyncio.timeout(10):
        await reader.over.wait()

    async with aiohttp.ClientSession("http://docker", connector=aiohttp.UnixConnector(str(engine.path))) as client:
        assert [row["Id"] for row in await (await client.get("/containers/json")).json()] == [own]
        assert await (await client.get("/events?since=0&until=1")).text() == ""


async def test_down(engine):
    """While it is down, its socket is gone."""
    await engine.down()
    assert not engine.path.exists()
    await engine.up()
    assert engine.path.exists()


async def test_the_docker_library_accepts_it(engine):
    """The client library that people use reads what it answers."""
    own = engine.add(container("web_1", ports={80: 8080}))

    def ask():
        with contextlib.closing(docker.DockerClient(base_url=engine.url, timeout=5)) as found:
            return [(each.id, each.name, each.ports) for each in found.containers.list()], found.info()["Name"]

    listed, name = await asyncio.to_thread(ask)
    bindings = [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    assert listed == [(own, "web_1", {"80/tcp": bindings})]
    assert name == "fake"
    assert not engine.violations


async def test_in_a_process(tmp_path):
    """Run by itself, it does what it is told on stdin."""
    command = (sys.executable, "-m", "tests.parts.fake_docker_process", "--socket", str(tmp_path / "d.sock"))
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, **pipes, cwd=Path(__file__).parents[2])

    async def say(line):
        process.stdin.write(json.dumps(line).encode() + b"\n")
        return json.loads(await process.stdout.readline())

    async with asyncio.timeout(30):
        assert json.loads(await process.stdout.readline())["result"] == f"unix://{tmp_path / 'd.sock'}"
        added = await say({"do": "add", "with": {"container": {"name": "web_1"}}})
        assert await say({"do": "stop", "with": {"container_id": added["result"]}}) == {"ok": True, "result": None}
        assert not (await say({"do": "explode"}))["ok"]
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "d.sock"))) as client:
            found = await (await client.get(f"http://d/containers/{added['result']}/json")).json()
        assert found["State"]["Status"] == "exited"
        process.stdin.close()
        assert await process.wait() == 0
