"""What every Engine keeps to: on the fake engine, which can lie, and on a real one, which is the truth about it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
import trustme

from lab.lab import Lab
from lab.podman import Podman
from lab.waiting import wait_until
from registrator.engines.engine import Away, EngineUnavailable, Event, Kind, ListAgain
from registrator.engines.io_docker import DockerEngine, DockerSettings
from registrator.rules.container import facts
from tests.parts.fake_docker import FakeDocker, container

WAIT_S = 60.0  # for something that must come
SHORT = {"timeout_s": 5.0, "ping_s": 0.5}


ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """What is done to containers, on the fake engine."""

    removal, tells_signals, pauses = "destroy", True, True
    settings: ClassVar[dict] = {}

    def __init__(self, engine: FakeDocker) -> None:
        self.engine, self.url = engine, engine.url
        self.numbers = itertools.count(8000)

    async def run(self, name: str) -> str:
        return self.engine.add(container(name, ports={80: next(self.numbers)}, env={"SERVICE_NAME": "web"}))

    async def stop(self, one: str) -> None:
        self.engine.stop(one)

    async def signal(self, one: str, signal: int) -> None:
        self.engine.kill(one, signal)

    async def pause(self, one: str) -> None:
        self.engine.pause(one)

    async def rename(self, one: str, name: str) -> None:
        self.engine.rename(one, name)

    async def join(self, one: str, network: str) -> None:
        self.engine.network_connect(one, network, "10.99.0.2")

    async def remove(self, one: str) -> None:
        self.engine.remove(one)

    async def down(self) -> None:
        await self.engine.down()

    async def up(self) -> None:
        await self.engine.up()


class Real:
    """The same on a Docker engine in a namespace."""

    removal, tells_signals, pauses = "destroy", True, True
    settings: ClassVar[dict] = {}

    def __init__(self, lab) -> None:
        self.host = lab.hosts[0]
        self.url = f"unix://{self.host.docker_socket}"

    async def docker(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self.host.docker, list(arguments))
        return done.stdout.strip()

    async def run(self, name: str) -> str:
        return await self.docker("run", "-d", "-P", "--name", name, "-e", "SERVICE_NAME=web", "pilotfish-lab/app:1")

    async def stop(self, one: str) -> None:
        await self.docker("stop", one)

    async def signal(self, one: str, signal: int) -> None:
        await self.docker("kill", "-s", str(signal), one)

    async def pause(self, one: str) -> None:
        await self.docker("pause", one)

    async def rename(self, one: str, name: str) -> None:
        await self.docker("rename", one, name)

    async def join(self, one: str, network: str) -> None:
        await self.docker("network", "create", network)
        await self.docker("network", "connect", network, one)

    async def remove(self, one: str) -> None:
        await self.docker("rm", "-f", one)

    async def down(self) -> None:
        await asyncio.to_thread(self.host.engine.stop)

    async def up(self) -> None:
        await asyncio.to_thread(self.host.engine.start)


class Tls(Real):
    """The same engine at tcp://, for clients with a certificate only."""

    def __init__(self, lab) -> None:
        super().__init__(lab)
        self.url = f"tcp://{self.host.address}:2376"
        folder = self.host.folder / "certs"
        folder.mkdir(exist_ok=True)
        ca = trustme.CA()
        self.options = ["--host", "tcp://0.0.0.0:2376", "--tlsverify"]
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        for name, made in {"cert": ca.issue_cert("client"), "server": ca.issue_cert(self.host.address)}.items():
            key = "key" if name == "cert" else "server-key"
            made.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
            made.private_key_pem.write_to_path(str(folder / f"{key}.pem"))
        for option, name in {"--tlscacert": "ca", "--tlscert": "server", "--tlskey": "server-key"}.items():
            self.options += [option, f"{folder}/{name}.pem"]
        self.settings = {"tls_verify": True, "cert_path": str(folder)}

    async def up(self) -> None:
        await asyncio.to_thread(self.host.engine.start, *self.options)


class Proxied(Real):
    """The same engine behind the proxy of docs/docker-readonly.conf, which allows nothing but what we need."""

    def __init__(self, lab) -> None:
        super().__init__(lab)
        folder = self.host.folder / "docker-readonly"
        folder.mkdir(exist_ok=True)
        self.socket, conf = folder / "docker.sock", folder / "nginx.conf"
        self.socket.unlink(missing_ok=True)
        text = (ROOT / "docs/docker-readonly.conf").read_text()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # Debian's nginx keeps them in /var/lib
        text = text.replace("http {", "\n".join(["http {", *(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)]))
        text = text.replace("/run/docker-readonly", str(folder)).replace("/var/run/docker.sock", "/run/docker.sock")
        conf.write_text(text)
        self.url = f"unix://{self.socket}"
        self.process = self.host.popen(
            [lab.tools.find("nginx"), "-p", folder, "-c", conf, "-g", "daemon off;"], name="proxy"
        )
        wait_until(self.socket.exists, within_s=10, what="the proxy")


class PodmanHands(Real):
    """podman's service: its own words, and neither signals nor, in the lab, pauses."""

    removal = "remove"
    tells_signals = pauses = False

    def __init__(self, host, podman) -> None:
        self.host, self.podman = host, podman
        self.url = f"unix://{podman.socket}"

    async def docker(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self.podman.podman, *arguments)
        return done.stdout.strip()

    async def down(self) -> None:
        await asyncio.to_thread(self.podman.stop)

    async def up(self) -> None:
        await asyncio.to_thread(self.podman.start)


@pytest.fixture(scope="module")
def lab():
    """One host with a real engine, made when the first test asks for it."""
    with Lab(hosts=1) as made:
        yield made


@pytest.fixture(scope="module")
def podman():
    """Podman on a host of its own."""
    with Lab(hosts=1, engines=False) as made:
        one = Podman(made.hosts[0], made.tools.find("busybox"))
        one.install()
        one.start()
        yield made.hosts[0], one


@pytest.fixture
def tls(lab):
    """The engine at tcp://; we are on its network meanwhile."""
    one = Tls(lab)
    one.host.engine.stop()
    one.host.engine.start(*one.options)
    with one.host.inside():
        yield one
    one.host.engine.stop()
    one.host.engine.start()


@pytest.fixture
def swarm(lab):
    """The engine as the manager of a swarm of its own."""
    one = Real(lab)
    one.host.docker(["swarm", "init", "--advertise-addr", one.host.address])
    yield one
    one.host.docker(["swarm", "leave", "--force"])


@pytest.fixture
def clean(lab):
    """Put back afterwards, when nobody needs the engine any more."""
    yield
    lab.reset()


REAL = ("real", "tls", "proxied", "swarm", "podman")
ENGINES = ["fake", *(pytest.param(name, marks=pytest.mark.lab) for name in REAL)]


@pytest.fixture(params=ENGINES)
async def hands(request, tmp_path: Path) -> AsyncIterator[Fake | Real]:
    """Something that does things to containers."""
    if request.param == "fake":
        async with FakeDocker(tmp_path / "docker.sock") as engine:
            yield Fake(engine)
        return
    if request.param == "podman":
        one = PodmanHands(*request.getfixturevalue("podman"))
        yield one
        await one.docker("rm", "-f", "-t", "0", "--all")
        return
    request.getfixturevalue("clean")
    if request.param in {"tls", "swarm"}:
        yield request.getfixturevalue(request.param)
    else:
        yield {"real": Real, "proxied": Proxied}[request.param](request.getfixturevalue("lab"))


class Ear:
    """Takes in an engine's news."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine, self.heard, self.came = engine, [], asyncio.Condition()

    async def listen(self) -> None:
        async with contextlib.aclosing(self.engine.news()) as news:
            async for one in news:
                async with self.came:
                    self.heard.append(one)
                    self.came.notify_all()

    async def hear(self, what, start: int = 0) -> int:
        """Wait for news of which `what` is true, from the `start`th on; returns where it stands."""

        def found() -> int | None:
            return next((n for n, one in enumerate(self.heard) if n >= start and what(one)), None)

        async with asyncio.timeout(WAIT_S), self.came:
            await self.came.wait_for(lambda: found() is not None)
        return found()


@pytest.fixture
async def ear(hands):
    """A connected listener."""
    engine = DockerEngine(DockerSettings(url=hands.url, **SHORT, **hands.settings))
    one = Ear(engine)
    task = asyncio.create_task(one.listen())
    try:
        await one.hear(lambda news: isinstance(news, ListAgain))
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.close()


def about(one: str, action: str = ""):
    return lambda news: isinstance(news, Event) and news.container == one and action in {"", news.action}


async def test_a_start_is_told_listed_and_described(hands, ear):
    """The event names the container by its whole id; list and inspection know it by then."""
    one = await hands.run("web-1")
    at = await ear.hear(about(one, "start"))
    assert ear.heard[at].kind is Kind.LOOK
    assert one in await ear.engine.running()
    seen = facts(await ear.engine.inspect(one))
    assert (seen.id, seen.name, seen.running, seen.health) == (one, "web-1", True, "none")
    assert dict(seen.env)["SERVICE_NAME"] == "web"
    assert [str(port) for port in seen.bindings]
    assert seen.networks[0].ipv4
    assert abs(ear.heard[at].at - time.time()) < WAIT_S  # the engine's clock is ours here


async def test_a_stop_is_told_before_the_process_ends(hands, ear):
    """`kill` with the stop signal's number, then `die`; afterwards it is described, and not listed."""
    one = await hands.run("web-1")
    await hands.stop(one)
    died = await ear.hear(about(one, "die"))
    if hands.tells_signals:
        killed = await ear.hear(about(one, "kill"))
        assert (ear.heard[killed].kind, ear.heard[killed].signal) == (Kind.KILL, "15")
        assert killed < died
        assert ear.heard[killed].at <= ear.heard[died].at
    assert one not in await ear.engine.running()
    assert not facts(await ear.engine.inspect(one)).running


async def test_a_signal_that_stops_nothing_is_told_with_its_number(hands, ear):
    """SIGHUP reloads; its number tells it from a stop."""
    one = await hands.run("web-1")
    await hands.signal(one, 28)  # SIGWINCH: whoever does not know it ignores it
    at = await ear.hear(about(one, "kill"))
    assert ear.heard[at].signal == ("28" if hands.tells_signals else "")  # no number: nothing is concluded
    assert facts(await ear.engine.inspect(one)).running


async def test_pause_rename_and_networks_are_told(hands, ear):
    """What changes an inspection is told; a network's event is about the container that joined it."""
    one = await hands.run("web-1")
    await hands.rename(one, "shop-1")
    await ear.hear(about(one, "rename"))
    assert facts(await ear.engine.inspect(one)).name == "shop-1"
    await hands.join(one, "backend")
    await ear.hear(about(one, "connect"))
    assert "backend" in {network.name for network in facts(await ear.engine.inspect(one)).networks}
    if not hands.pauses:
        return
    await hands.pause(one)
    await ear.hear(about(one, "pause"))
    seen = facts(await ear.engine.inspect(one))
    assert (seen.running, seen.paused) == (True, True)
    assert one in await ear.engine.running()


async def test_what_is_removed_is_gone(hands, ear):
    """None stands for no such container, also for one that never was."""
    one = await hands.run("web-1")
    await hands.remove(one)
    await ear.hear(about(one, hands.removal))
    assert await ear.engine.inspect(one) is None
    assert await ear.engine.inspect("f" * 64) is None
    assert one not in await ear.engine.running()


async def test_an_engine_that_goes_and_comes_back(hands, ear):
    """Away, then ListAgain by itself; it is the same engine, and its events are heard again."""
    before = await ear.engine.info()
    assert before.id
    await hands.down()
    away = await ear.hear(lambda news: isinstance(news, Away))
    with pytest.raises(EngineUnavailable):
        await ear.engine.running()
    await hands.up()
    await ear.hear(lambda news: isinstance(news, ListAgain), away)
    assert await ear.engine.info() == before
    one = await hands.run("web-2")
    await ear.hear(about(one, "start"))


async def test_doubt_begins_a_fresh_stream(hands, ear):
    """Whoever doubts gets a list and loses nothing."""
    ear.engine.doubt("because")
    again = await ear.hear(lambda news: news == ListAgain("because"))
    one = await hands.run("web-1")
    await ear.hear(about(one, "start"), again)
