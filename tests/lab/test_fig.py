"""The compose files and the image, for real: built, brought up, and used."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import pytest

from lab import suite_image
from lab.host import Host
from lab.lab import Lab
from lab.tools import Tools
from lab.waiting import wait_until

# Making the base image takes a minute the first time, building ours half a minute.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

SERVICES = {"etcd", "registrator", "dnsserver", "nginx"}
IMAGES = ("pilotfish:local", "pilotfish-etcd:local")
TAGS = ["-e", "SERVICE_NAME=hello", "-e", "SERVICE_9200_PROXY=http"]
APP = "pilotfish-lab/app:1"


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools(["lab", "image"])


@pytest.fixture(scope="module")
def fig_lab() -> Iterator[Lab]:
    """Three hosts without etcd: that comes out of the compose files."""
    with Lab(hosts=3) as lab:
        yield lab


@pytest.fixture(scope="module")
def folder(fig_lab: Lab, tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, its images built on the first host from fig.yml and given to the others."""
    into = suite_image.context(tmp_path_factory.mktemp("fig"), suite_image.wheels(tools))
    first, *others = fig_lab.hosts
    first.resolver(fig_lab.switch.GATEWAY)  # refuses at once, where a silent one would be waited for
    first.docker(["import", suite_image.base_archive(tools), suite_image.BASE_NAME], within_s=300)
    suite_image.compose(first, tools, into, "-f", "fig.yml", "build", within_s=600)
    packed = into / "images.tar"
    first.docker(["save", "-o", packed, *IMAGES], within_s=300)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: host.docker(["load", "-i", packed], within_s=300), others))
    packed.unlink()
    return into


@pytest.fixture
def fig(folder: Path, fig_lab: Lab) -> Iterator[Path]:
    """The folder; afterwards no container and no volume of it is left."""
    yield folder
    fig_lab.reset()


def up(host: Host, tools: Tools, folder: Path, file: str) -> None:
    suite_image.compose(host, tools, folder, "-f", file, "up", "-d", "--no-build")


def healths(host: Host) -> dict[str, str]:
    """Service -> what the engine says of its container."""
    lines = host.docker(
        ["ps", "-a", "--filter", "label=com.docker.compose.service",
         "--format", '{{.Label "com.docker.compose.service"}} {{.Status}}']
    ).stdout.splitlines()  # fmt: skip
    return dict(line.split(" ", 1) for line in lines)


@contextlib.contextmanager
def telling(host: Host) -> Iterator[None]:
    """An error in here is told together with what each service printed last."""
    try:
        yield
    except Exception as error:
        error.add_note("\n".join(f"{name}: {state}\n{logs(host, name)}" for name, state in healths(host).items()))
        raise


def wait_healthy(host: Host) -> None:
    """Wait until each service's container is healthy and none had to be started again."""
    with telling(host):
        wait_until(
            lambda: {name for name, state in healths(host).items() if "(healthy)" in state} == SERVICES,
            within_s=90,
            what="all services to be healthy",
            every_s=0.5,
        )


def container_of(host: Host, service: str) -> str:
    listed = host.docker(["ps", "-aq", "--filter", f"label=com.docker.compose.service={service}"]).stdout.split()
    return listed[0]


def logs(host: Host, service: str) -> str:
    answer = host.docker(["logs", "--tail", "20", container_of(host, service)], check=False)
    return answer.stdout + answer.stderr


def resolve(lab: Lab, server: str, name: str, *, tcp: bool = False) -> set[str]:
    """The IPv4 addresses of a name, asked from outside."""
    query = dns.message.make_query(name, dns.rdatatype.A)
    with lab.switch.inside():
        ask = dns.query.tcp if tcp else dns.query.udp
        answer = ask(query, server, timeout=2)
    return {record.address for rrset in answer.answer for record in rrset if rrset.rdtype == dns.rdatatype.A}


def page(lab: Lab, proxy: str, name: str) -> dict[str, object]:
    """What a proxy answers for a name, asked from outside; empty while it has nothing."""
    answer = lab.switch.run(["curl", "-fsS", "-m", "2", "-H", f"Host: {name}", f"http://{proxy}/"], check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else {}


def start(host: Host, name: str) -> None:
    host.docker(["run", "-d", "-P", "--name", name, "--hostname", name, *TAGS, APP])


def test_one_host(fig, fig_lab, tools):
    """fig.yml: everything gets healthy; a tagged container is found by name over UDP and TCP, and by its URL."""
    host = fig_lab.hosts[0]
    up(host, tools, fig, "fig.yml")
    wait_healthy(host)
    start(host, "hello-1")
    with telling(host):
        wait_until(lambda: page(fig_lab, host.address, "hello.svc.internal"), within_s=20, what="the page", every_s=0.1)

    assert page(fig_lab, host.address, "hello.svc.internal")["name"] == "hello-1"
    for tcp in (False, True):
        assert resolve(fig_lab, host.address, "hello.svc.internal", tcp=tcp) == {host.address}
    host.docker(["stop", "hello-1"])
    wait_until(
        lambda: not page(fig_lab, host.address, "hello.svc.internal"), within_s=20, what="the page to go", every_s=0.1
    )


def test_rights(fig, fig_lab, tools):
    """Only the registrator has the Docker socket; nothing runs as root; etcd and status answer on loopback alone."""
    host = fig_lab.hosts[0]
    up(host, tools, fig, "fig.yml")
    wait_healthy(host)
    sockets, users, rights = set(), {}, {}
    for service in SERVICES:
        container = container_of(host, service)
        mounts = json.loads(host.docker(["inspect", "-f", "{{json .Mounts}}", container]).stdout)
        sockets |= {service for mount in mounts if mount["Destination"].endswith("docker.sock")}
        top = host.docker(["top", container, "-o", "pid,uid"]).stdout.split("\n")[1:]
        processes = [line.split() for line in top if line]
        users[service] = {uid for _, uid in processes}
        rights[service] = {capabilities(int(pid)) for pid, _ in processes}
    listening = host.run(["ss", "-Hltn"]).stdout.split("\n")
    addresses = {line.split()[3] for line in listening if line}

    assert sockets == {"registrator"}
    assert users == {service: {"9700"} for service in SERVICES}
    assert rights.pop("etcd") == {0}
    assert set.union(*rights.values()) <= {0, 1 << 10}  # CAP_NET_BIND_SERVICE is 10, capability.h
    assert {f"127.0.0.1:{port}" for port in (2379, 2380, 9701, 9702, 9703)} <= addresses
    assert not [name for name in addresses if re.search(r":(2379|2380|970\d)$", name) and "127.0.0.1" not in name]


def capabilities(pid: int) -> int:
    """A process's effective capabilities, as in proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


def test_three_hosts(fig, fig_lab, tools):
    """fig/: one file a host, a cluster with certificates; every host's DNS and proxy know containers of the others."""
    addresses = {f"DOCKER0{host.number}": host.address for host in fig_lab.hosts}
    (fig / "fig/.env").write_text("".join(f"{name}={value}\n" for name, value in addresses.items()))
    subprocess.run([fig / "fig/certificates.sh", *addresses.values()], check=True, timeout=60)
    for host in fig_lab.hosts:
        up(host, tools, fig, f"fig/docker0{host.number}.yml")
    for host in fig_lab.hosts:
        wait_healthy(host)
    for host in fig_lab.hosts[1:]:
        start(host, f"hello-{host.number}")

    for host in fig_lab.hosts:
        seen = set()

        def both_answer(host=host, seen=seen) -> bool:
            seen.add(page(fig_lab, host.address, "hello.svc.internal").get("name"))
            return {"hello-2", "hello-3"} <= seen

        with telling(host):
            wait_until(both_answer, within_s=30, what=f"both behind {host.name}", every_s=0.1)
        assert resolve(fig_lab, host.address, "hello.svc.internal") == set(addresses.values())
    ask = ["etcdctl", "--insecure-skip-tls-verify", "--command-timeout", "3s", "get", "/"]
    url = f"https://{fig_lab.hosts[0].address}:2379"
    plain = fig_lab.switch.run([*ask, "--endpoints", url], check=False)
    assert plain.returncode != 0  # without a certificate nobody reads the store
    keys = fig_lab.hosts[0].docker(["exec", container_of(fig_lab.hosts[0], "etcd"), "etcdctl", "get", "--prefix",
                                 "/pilotfish/v1/nodes/", "--keys-only"]).stdout.split()  # fmt: skip
    assert keys == [f"/pilotfish/v1/nodes/docker0{number}" for number in (1, 2, 3)]
