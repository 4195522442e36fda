"""The lab itself: hosts are hosts, faults bite, and nothing stays behind."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroup, state
from lab.host import Host
from lab.lab import Lab, require_root
from lab.process import state_of
from lab.waiting import LabError, wait_until

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).parents[2]
APP = "pilotfish-lab/app:1"
HEALTH = "pilotfish-lab/health:1"


def start(host: Host, *options: str, image: str = APP) -> str:
    """Run a container and wait until it listens; its id."""
    container = host.docker(["run", "-d", *options, image]).stdout.strip()
    wait_until(lambda: "listening" in logs(host, container), within_s=20, what="the application")
    return container


def logs(host: Host, container: str) -> str:
    return host.docker(["logs", container]).stdout


def get(address: str, port: int, path: str = "/", timeout: float = 5) -> dict[str, object]:
    """The application's answer, asked from the calling thread's network."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def living(pids: list[int]) -> list[int]:
    """Those that still run; the machine's init collects dead ones (Z) when it comes to it."""
    return [pid for pid in pids if state_of(pid) not in {"", "Z", "X"}]


def inspect(host: Host, container: str, path: str) -> str:
    return host.docker(["inspect", "-f", "{{" + path + "}}", container]).stdout.strip()


def test_published_port_answers_from_other_hosts_and_from_outside(fresh3):
    """A port published on one host is reached from another and from outside, by IPv4 and IPv6."""
    one, two, _ = fresh3.hosts
    start(one, "--hostname", "estest", "-p", "8000:9200", "-p", "8001:9300")
    seen = []
    for place, address in [(two, one.address), (fresh3.switch, one.address), (two, one.address6)]:
        with place.inside():
            seen.append(get(address, 8000, "/x?n=7"))
    with two.inside():
        seen.append(get(one.address, 8001, "/x?n=7"))

    assert [(answer["name"], answer["n"], answer["port"]) for answer in seen] == [("estest", "7", 9200)] * 3 + [
        ("estest", "7", 9300)
    ]
    assert seen[0]["client"] == two.address


def test_every_host_has_its_own_identity(fresh3):
    """Host name, boot id, engine, socket and resolv.conf are each host's own; bridges collide as they do in life."""
    fresh3.hosts[0].resolver("10.88.0.2", search=["example.org"])
    names = [host.run(["hostname"]).stdout.strip() for host in fresh3.hosts]
    boots = [host.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for host in fresh3.hosts]
    engines = [host.engine.get("/info")["ID"] for host in fresh3.hosts]
    inside = [host.docker(["info", "-f", "{{.Name}} {{.ID}}"]).stdout.split() for host in fresh3.hosts]
    bridges = {host.run(["ip", "-4", "-o", "address", "show", "docker0"]).stdout.split()[3] for host in fresh3.hosts}

    assert names == ["docker01", "docker02", "docker03"]
    assert len(set(boots)) == len(set(engines)) == 3
    assert inside == [list(pair) for pair in zip(names, engines, strict=True)]
    assert bridges == {"172.17.0.1/16"}
    assert "nameserver 10.88.0.2\nsearch example.org" in fresh3.hosts[0].run(["cat", "/etc/resolv.conf"]).stdout
    assert "nameserver" not in fresh3.hosts[1].run(["cat", "/etc/resolv.conf"]).stdout


def test_a_host_cannot_reach_the_machine_or_the_world(fresh3):
    """No packet leaves the switch."""
    listener = socket.create_server(("0.0.0.0", 0))
    with listener:
        answer = fresh3.hosts[0].run(
            ["curl", "-sS", "-m", "1", f"http://127.0.0.1:{listener.getsockname()[1]}/"], check=False
        )
        routes = fresh3.switch.run(["ip", "-4", "route"]).stdout.split("\n")

    assert answer.returncode == 7  # refused: the host's loopback is not the machine's
    assert [line.split()[0] for line in routes if line] == ["10.88.0.0/24"]


def test_etcd_survives_its_leader(fresh3):
    """The cluster elects another leader when the first is killed, and takes it back."""
    etcd = fresh3.etcd
    etcd.ctl("put", "/a/b", "first")
    leader = etcd.leader
    before = leader.status()["raftTerm"]
    leader.kill()
    rest = [member for member in etcd.members if member is not leader]
    wait_until(lambda: all(member.healthy for member in rest), within_s=20, what="a new leader")
    etcd.ctl("put", "/a/c", "second")

    assert not leader.healthy
    assert etcd.leader in rest
    assert etcd.leader.status()["raftTerm"] > before
    leader.start()
    etcd.wait_healthy()
    assert etcd.get("/a/") == {"/a/b": "first", "/a/c": "second"}


def test_a_paused_member_stands_still(fresh3):
    """A pause is one: connections open, nothing answers."""
    member = fresh3.etcd.member(2)
    member.pause()
    assert state_of(member.process.pid) == "T"
    assert not member.healthy
    member.resume()
    wait_until(lambda: member.healthy, within_s=20, what="the member")


def test_cut_and_heal(fresh3):
    """A host whose cable is out is not reached and does not reach; its addresses stay; afterwards it is as before."""
    one, two, _ = fresh3.hosts
    start(one, "-p", "8000:9200")
    one.cut()
    for place, address in [(two, one.address), (one, two.address)]:
        with place.inside(), pytest.raises(OSError, match=r"timed out|[Uu]nreachable|No route"):
            get(address, 8000, timeout=1)
    assert one.address in one.run(["ip", "-4", "-o", "address"]).stdout
    one.heal()
    with two.inside():
        assert get(one.address, 8000)["port"] == 9200


def test_iptables_counts_what_it_dropped(fresh3):
    """A rule inside a host bites there and shows how often."""
    one, two, _ = fresh3.hosts
    start(one, "-p", "8000:9200")
    two.iptables("-A", "OUTPUT", "-p", "tcp", "-d", one.address, "--dport", "8000", "-j", "DROP")
    with two.inside(), pytest.raises(TimeoutError):
        get(one.address, 8000, timeout=1)
    rule = next(line.split() for line in two.iptables("-nvxL", "OUTPUT").splitlines() if "dpt:8000" in line)

    assert int(rule[0]) > 0
    with fresh3.switch.inside():
        assert get(one.address, 8000)["port"] == 9200


def test_crash_and_boot(fresh3):
    """After a crash nothing runs and nobody answers; after the boot the engine has its images and another boot id."""
    one, two, _ = fresh3.hosts
    container = start(one, "-p", "8000:9200")
    program = one.popen(["sleep", "1000"])
    boot, pids = one.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout, one.pids()
    one.crash()
    assert living(pids) == []
    assert not program.alive
    with two.inside(), pytest.raises(OSError, match=r"timed out|[Uu]nreachable|No route"):
        get(one.address, 8000, timeout=1)
    one.boot()

    assert one.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot
    assert inspect(one, container, ".State.Running") == "false"
    start(one, "-p", "8000:9200")
    with two.inside():
        assert get(one.address, 8000)["port"] == 9200


def test_a_killed_engine_leaves_its_containers_running(fresh3):
    """SIGKILL of the engine stops no container; the engine starts again over its old data."""
    one = fresh3.hosts[0]
    container = start(one)
    pid = int(inspect(one, container, ".State.Pid"))
    one.engine.kill()
    assert living([pid]) == [pid]
    assert pid in one.pids()
    with pytest.raises(OSError, match="refused"):
        one.engine.get("/_ping")
    one.engine.start()
    assert container[:12] in one.docker(["ps", "-aq"]).stdout


def test_health_of_a_container(fresh1):
    """An image with HEALTHCHECK is healthy, and unhealthy when its application says so."""
    host = fresh1.hosts[0]
    container = start(host, image=HEALTH)
    states = []
    for wanted, command in [("healthy", "touch"), ("unhealthy", "rm"), ("healthy", "touch")]:
        wait_until(
            lambda w=wanted: inspect(host, container, ".State.Health.Status") == w, within_s=30, what=f"{wanted}"
        )
        states.append(wanted)
        host.docker(["exec", container, command, "/tmp/unhealthy"])

    assert states == ["healthy", "unhealthy", "healthy"]


ENDS = [
    pytest.param("drain", 0, True, id="drain: the running request is answered, exit code 0"),
    pytest.param("exit", 0, False, id="exit: the running request is lost, exit code 0"),
    pytest.param("ignore", 137, False, id="ignore: killed after the engine's patience"),
]


@pytest.mark.parametrize(("on_term", "code", "answered"), ENDS)
def test_how_the_application_ends(fresh1, on_term, code, answered):
    """The sample application ends in the way it was told to."""
    host = fresh1.hosts[0]
    container = start(host, "-p", "8000:9200", "-e", f"ON_TERM={on_term}", "-e", "DRAIN_S=0", "--stop-timeout", "1")
    with host.inside(), socket.create_connection((host.address, 8000), timeout=20) as client:
        client.sendall(b"GET /slow/2000?n=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: '"n": "1"' in logs(host, container), within_s=10, what="the request to arrive")
        stopped = host.popen(["docker", "stop", "-t", "5" if answered else "1", container])
        got = b""
        while chunk := receive(client):
            got += chunk
    stopped.wait(within_s=30)

    assert got.startswith(b"HTTP/1.1 200") == answered
    assert int(inspect(host, container, ".State.ExitCode")) == code


def receive(client: socket.socket) -> bytes:
    """What comes next; nothing when the other end is gone, politely or not."""
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""


def test_the_application_speaks_websocket_chunks_and_datagrams(fresh1):
    """Echo over an upgraded connection, a chunked body, a datagram; the connection is kept."""
    host = fresh1.hosts[0]
    start(host, "-p", "8000:9200", "-p", "7000:7000/udp", "-e", "UDP_PORTS=7000", "--hostname", "echo")
    with host.inside():
        client = socket.create_connection((host.address, 8000), timeout=5)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, datagrams, client.makefile("rb") as stream:
        client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert b'"body": 5' in read_answer(stream)
        client.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455 section 1.3
        client.sendall(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")  # "Hello", RFC 6455 section 5.7
        assert stream.read(7) == b"\x81\x05Hello"
        datagrams.settimeout(5)
        datagrams.sendto(b"ping", (host.address, 7000))
        assert datagrams.recv(100) == b"echo:7000 ping"


def read_answer(stream) -> bytes:
    head = b"".join(iter(stream.readline, b"\r\n"))
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return stream.read(size)


def test_reset_puts_everything_back(lab1):
    """After a reset there is no container, network, key, rule, program or cut of the test before."""
    host = lab1.hosts[0]
    start(host)
    host.docker(["network", "create", "extra"])
    host.iptables("-A", "OUTPUT", "-j", "ACCEPT")
    lab1.etcd.ctl("put", "/left", "over")
    program = host.popen(["sleep", "1000"])
    host.cut()
    host.engine.kill()
    lab1.etcd.member(1).pause()
    lab1.reset()

    assert host.docker(["ps", "-aq"]).stdout == ""
    assert host.docker(["network", "ls", "-q", "--filter", "type=custom"]).stdout == ""
    assert host.iptables("-S", "OUTPUT") == "-P OUTPUT ACCEPT\n"
    assert lab1.etcd.get("") == {}
    assert not program.alive
    assert "state UP" in lab1.switch.run(["ip", "link", "show", host.name]).stdout


def leftovers(lab_id: str) -> dict[str, set[str]]:
    """What a lab has on the machine, outside its own namespaces; others may run beside it."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    groups = {path.name for path in cgroup.mount_point().glob(f"{cgroup.PREFIX}*")}
    return {
        "mounts": {line.split()[1] for line in mounts if lab_id in line.split()[1]},
        "folders": {folder.name for folder in state.base().iterdir()} & {lab_id},
        "groups": groups & {f"{cgroup.PREFIX}{lab_id}"},
    }


def test_nothing_is_left_after_a_lab():
    """A lab that ended has no mount, folder or control group any more, and none of its processes lives."""
    with Lab(hosts=1, etcd=1) as lab:
        lab.hosts[0].docker(["run", "-d", APP])
        folder, pids = lab.folder, lab.hosts[0].pids()
        assert len(pids) > 4
        assert living(pids) == pids
        assert leftovers(lab.id) == {"mounts": set(), "folders": {lab.id}, "groups": {f"{cgroup.PREFIX}{lab.id}"}}
        lab_id = lab.id
    assert leftovers(lab_id) == {"mounts": set(), "folders": set(), "groups": set()}
    assert not folder.exists()
    assert living(pids) == []


OWNER = """
import signal, sys
from lab.lab import Lab
lab = Lab(hosts=1, etcd=1, say=lambda line: None)
lab.start()
lab.hosts[0].docker(["run", "-d", "pilotfish-lab/app:1"])
lab.hosts[0].popen(["sh", "-c", "setsid sleep 1000 & sleep 1000"])
print(lab.id, lab._keeper.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def owner() -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Another process that owns a lab: the process, the lab's id, its keeper."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, start_new_session=True
    ) as process:
        lab_id, keeper = process.stdout.readline().split()
        yield process, lab_id, int(keeper)
        process.kill()


def test_a_killed_owner_is_cleaned_at_once(owner):
    """SIGKILL of the owner: its keeper ends all processes and removes all files without anybody's help."""
    process, lab_id, keeper = owner
    pids = cgroup.of_lab(lab_id).pids()
    process.kill()
    wait_until(lambda: not leftovers(lab_id)["folders"], within_s=30, what="the keeper")
    wait_until(lambda: not living([keeper]), within_s=10, what="the keeper to end")

    assert len(pids) > 5
    assert living(pids) == []
    assert not leftovers(lab_id)["groups"]


def test_a_killed_owner_and_keeper_are_cleaned_at_the_next_start(owner):
    """SIGKILL of both: the hosts go on running until somebody starts a lab, or says clean."""
    process, lab_id, keeper = owner
    os.kill(keeper, signal.SIGKILL)
    process.kill()
    process.wait()
    pids = cgroup.of_lab(lab_id).pids()
    assert len(living(pids)) > 5

    said = subprocess.run(
        [sys.executable, "-m", "lab", "clean"], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert f"cleaned lab {lab_id}" in said
    assert living(pids) == []
    assert not leftovers(lab_id)["folders"]
    assert not leftovers(lab_id)["groups"]


def test_a_living_lab_is_not_cleaned(lab1):
    """Another process's sweep leaves alone what belongs to us."""
    subprocess.run([sys.executable, "-m", "lab", "clean"], cwd=CHECKOUT, check=True, timeout=60)
    assert lab1.etcd.member(1).healthy
    assert lab1.hosts[0].docker(["ps", "-q"]).returncode == 0


def test_command_line():
    """up, show, enter and down, as a person uses them."""

    def lab(*arguments: str) -> str:
        command = [sys.executable, "-m", "lab", *arguments]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60).stdout

    with subprocess.Popen(
        [sys.executable, "-m", "lab", "up", "--hosts", "1", "--etcd", "1"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    ) as up:
        try:
            said = "".join(iter(up.stdout.readline, "Ctrl-C ends it.\n"))
            lab_id = said.split("\nlab ")[-1].split(":")[0]
            assert "docker01   10.88.0.1" in said
            assert f"lab {lab_id}:" in lab("show")
            assert lab("enter", "--lab", lab_id, "docker01", "hostname") == "docker01\n"
            assert "CONTAINER ID" in lab("enter", "--lab", lab_id, "docker01", "docker", "ps")
            assert f"lab {lab_id} is down" in lab("down", "--lab", lab_id)
            assert up.wait(30) == 0
        finally:
            up.kill()


def test_without_root_it_says_what_to_do():
    """A user without root is told so, in one line, and nothing is tried."""
    code = "import os; os.setuid(65534); from lab.lab import require_root; require_root()"
    command = [sys.executable, "-c", f"import lab.lab; {code}"]
    answer = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60)
    require_root()  # we have it
    assert answer.returncode == 1
    assert "takes root: run it with sudo" in answer.stderr.splitlines()[-1]


def test_failing_programs_are_reported_with_what_they_said(fresh1):
    """A failed command names host, command, exit code and output; a log that never has the line shows its end."""
    host = fresh1.hosts[0]
    with pytest.raises(LabError, match=r"docker01: sh -c echo oops >&2; exit 3: exit code 3: oops"):
        host.run(["sh", "-c", "echo oops >&2; exit 3"])
    with pytest.raises(LabError, match=r"no end after 0\.2 s"):
        host.run(["sleep", "5"], within_s=0.2)
    ended = host.popen(["sh", "-c", "echo bye; exit 4"])
    with pytest.raises(LabError, match=r"ended \(4\) without 'hello'; it said:\nbye"):
        ended.wait_line("hello", within_s=10)
