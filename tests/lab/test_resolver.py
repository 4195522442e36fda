"""`pilotfish resolver` on a real host: real resolvers before our real DNS server, a real engine, and their traps."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.host import Host
from lab.lab import Lab
from lab.process import Process
from lab.tools import Tools
from lab.waiting import wait_until

pytestmark = pytest.mark.lab

APP = "pilotfish-lab/app:1"
WEB, WEB_ADDRESS = "web.svc.internal", "10.1.2.3"  # a record of ours
ELSE, ELSE_ADDRESS = "www.example", "10.9.8.7"  # tests.parts.small_dns has no other address
OURS = "127.0.0.1:1053"
DEADLINE_S = 20


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A host with an engine, an etcd, and the resolvers of Debian on its PATH; /var/lib is its own."""
    tools = Tools(["lab", "resolvers"])
    with Lab(hosts=1, etcd=1, env={"PATH": tools.path()}) as made:
        made.hosts[0].run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/lib"])
        made.etcd.ctl("put", "/skydns/internal/svc/web", json.dumps({"host": WEB_ADDRESS}))
        yield made


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    """The host with our DNS server at 127.0.0.1:1053, and somebody else's at the switch; nothing of it stays."""
    one = lab.hosts[0]
    elsewhere = small_dns(lab.switch, f"{lab.switch.GATEWAY}:53", "--domain", "example", "--outside", "nxdomain")
    ours = start_ours(lab, one, OURS)
    yield one
    one.run(["sh", "-c", "cat /run/test-*.pid 2>/dev/null | xargs -r kill; rm -f /run/test-*.pid"], check=False)
    for process in (ours, elsewhere):
        process.terminate()
    one.place.end_all_but([one.engine.process, lab.etcd.members[0].process])
    one.run(["rm", "-rf", "/var/lib/pilotfish", "/etc/systemd/resolved.conf.d", "/etc/dnsmasq.d", "/etc/unbound"])
    one.resolver()


def start_ours(lab: Lab, host: Host, *listen: str, at: int = 9702, more: Sequence[str] = ()) -> Process:
    """Our real DNS server, ready; its status at a port of loopback."""
    places = [word for one in listen for word in ("--listen", one)]
    command = [sys.executable, "-m", "pilotfish", "dns", "--etcd", lab.etcd.urls, "--node-name", host.name]
    process = host.popen([*command, *places, *more, "--status", f"127.0.0.1:{at}"], name="dns")
    ready = ["curl", "-sf", f"http://127.0.0.1:{at}/ready"]
    wait_until(lambda: host.run(ready, check=False).returncode == 0, within_s=DEADLINE_S, what=f"dns: {process.log}")
    return process


def small_dns(place, address: str, *options: str) -> Process:
    """A name server that says what it is told to."""
    process = place.popen([sys.executable, "-m", "tests.parts.small_dns", address, *options], name="small-dns")
    process.wait_line("listening", within_s=DEADLINE_S)
    return process


def wire(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`pilotfish resolver` on the host, whatever it answers."""
    return host.run([sys.executable, "-m", "pilotfish", "resolver", *arguments], check=False)


def wired(host: Host, *arguments: str) -> str:
    """`pilotfish resolver`, which must succeed; what it said."""
    done = wire(host, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status(host: Host, *arguments: str) -> tuple[int, dict]:
    """The exit code of `status`, and its JSON."""
    done = wire(host, "status", "--json", "--name", "web", *arguments)
    return done.returncode, json.loads(done.stdout)


def looked_up(host: Host, name: str) -> str:
    """The address that a program on the host gets from glibc; empty when there is none."""
    return host.run(["getent", "ahostsv4", name], check=False).stdout.partition(" ")[0]


def daemon(host: Host, name: str, command: str) -> tuple[str, ...]:
    """A script on the host that starts a daemon, or starts it anew; returns how to run it."""
    script = f"""#!/bin/sh
pid=$(cat /run/test-{name}.pid 2>/dev/null) && kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
{command} >>{host.folder}/log/{name}.log 2>&1 </dev/null &
echo $! >/run/test-{name}.pid
"""
    path = host.folder / f"restart-{name}"
    path.write_text(script)
    path.chmod(0o755)
    return ("sh", str(path))


def write(host: Host, path: str, text: str) -> None:
    """Write a file of the host's own /etc."""
    host.run(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "write", path], input_text=text)


def read(host: Host, path: str) -> str:
    """A file of the host."""
    return host.run(["cat", path]).stdout


def test_systemd_resolved(lab: Lab, host: Host):
    """The real one: our names by a routing domain, others by the link's server; back again; and what it must refuse."""
    restart = daemon(host, "resolved", "systemd-resolved")
    user = "grep -q ^systemd-resolve: /etc/passwd || echo systemd-resolve:x:990:990::/:/usr/sbin/nologin >>/etc/passwd;"
    group = "grep -q ^systemd-resolve: /etc/group || echo systemd-resolve:x:990: >>/etc/group;"
    host.run(["sh", "-c", user + group + "mkdir -p /run/systemd/resolve /run/systemd/netif/links;"
              "chown systemd-resolve: /run/systemd/resolve"])  # fmt: skip
    index = host.run(["cat", "/sys/class/net/eth0/ifindex"]).stdout.strip()
    # What networkd says of a link, in its own words (sd-network).
    link = f"ADMIN_STATE=configured\nOPER_STATE=routable\nDNS={lab.switch.GATEWAY}\nLLMNR=no\nMDNS=no\n"
    write(host, f"/run/systemd/netif/links/{index}", link)
    write(host, "/etc/systemd/resolved.conf", "[Resolve]\nLLMNR=no\nMulticastDNS=no\nCache=no\n")
    host.resolver("127.0.0.53")
    host.run(restart)
    wait_until(lambda: looked_up(host, ELSE) == ELSE_ADDRESS, within_s=DEADLINE_S, what="systemd-resolved")
    assert looked_up(host, WEB) == ""
    assert status(host)[0] == 1

    tell = ("--reload-with", f"systemd-resolved={shlex.join(restart)}")
    for bad, why in (("false", "`false` failed with 1"), ("true", "127.0.0.53:53 does not give our answer")):
        done = wire(host, "install", "--yes", "--reload-with", f"systemd-resolved={bad}")
        assert (done.returncode, why in done.stderr, "everything was put back" in done.stderr) == (1, True, True)
        assert host.run(["ls", "/etc/systemd/resolved.conf.d"], check=False).returncode != 0

    said = wired(host, "install", "--yes", *tell)
    assert "+DNS=127.0.0.1:1053\n+Domains=~svc.internal\n" in said
    assert "docker is left out" in said
    code, found = status(host)
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == (WEB_ADDRESS, ELSE_ADDRESS)
    assert (code, found["wired"], found["system"]["addresses"]) == (0, True, [WEB_ADDRESS])
    assert wired(host, "install", "--yes", *tell).endswith("already so; nothing to change\n")

    wired(host, "remove", "--yes", *tell)
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == ("", ELSE_ADDRESS)
    assert status(host)[0] == 1

    # A global server beside ours would be asked instead of us: it was seen to be.
    write(host, "/etc/systemd/resolved.conf.d/other.conf", f"[Resolve]\nDNS={lab.switch.GATEWAY}\n")
    write(host, "/etc/systemd/resolved.conf.d/zz.conf", "[Resolve]\nDNS=127.0.0.1:1053\nDomains=~svc.internal\n")
    host.run(restart)
    wait_until(lambda: looked_up(host, ELSE) == ELSE_ADDRESS, within_s=DEADLINE_S, what="systemd-resolved")
    assert looked_up(host, WEB) == ""
    done = wire(host, "install", "--yes", *tell)
    assert (done.returncode, "is set for the whole host" in done.stderr) == (1, True)


UNBOUND = """\
server:
    directory: "/etc/unbound"
    chroot: ""
    username: ""
    pidfile: ""
    interface: 127.0.0.1
    private-address: 10.0.0.0/8
    trust-anchor: ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
    domain-insecure: "example"
    private-domain: "example"
include-toplevel: "/etc/unbound/unbound.conf.d/*.conf"
forward-zone:
    name: "."
    forward-addr: {gateway}
"""
NEEDED = ("domain-insecure", "private-domain", "do-not-query-localhost")


def test_unbound(lab: Lab, host: Host):
    """A validating one that keeps private addresses out: checked, told by SIGHUP, and every line of ours is needed."""
    write(host, "/etc/unbound/unbound.conf", UNBOUND.format(gateway=lab.switch.GATEWAY))
    host.run(["mkdir", "-p", "/etc/unbound/unbound.conf.d"])
    restart = daemon(host, "unbound", "unbound -d -p -c /etc/unbound/unbound.conf")
    host.run(restart)
    host.resolver("127.0.0.1")
    wait_until(lambda: looked_up(host, ELSE) == ELSE_ADDRESS, within_s=DEADLINE_S, what="unbound")

    said = wired(host, "install", "--yes")
    assert "$ unbound-checkconf /etc/unbound/unbound.conf" in said
    assert "$ sh -c kill -HUP " in said
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == (WEB_ADDRESS, ELSE_ADDRESS)
    assert status(host)[0] == 0
    text = read(host, "/etc/unbound/unbound.conf.d/pilotfish.conf")
    for word in NEEDED:
        lines = [line for line in text.splitlines(keepends=True) if word not in line]
        write(host, "/etc/unbound/unbound.conf.d/pilotfish.conf", "".join(lines))
        host.run(restart)
        wait_until(lambda: looked_up(host, ELSE) == ELSE_ADDRESS, within_s=DEADLINE_S, what="unbound")
        assert looked_up(host, WEB) == "", f"{word} is not needed"

    refused = wire(host, "remove", "--yes")
    assert (refused.returncode, "-    do-not-query-localhost: no" in refused.stderr) == (1, True)
    wired(host, "remove", "--yes", "--force")
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == ("", ELSE_ADDRESS)

    broken = "server:\n    no-such-option: 1\n"
    write(host, "/etc/unbound/unbound.conf.d/broken.conf", broken)
    done = wire(host, "install", "--yes")
    assert (done.returncode, "unbound-checkconf" in done.stderr, "no-such-option" in done.stderr) == (1, True, True)
    assert host.run(["ls", "/etc/unbound/unbound.conf.d"]).stdout == "broken.conf\n"


def test_dnsmasq(lab: Lab, host: Host):
    """One that stops rebinding: a new start, since it reads its files only then; its own check stops a bad file."""
    write(host, "/etc/dnsmasq.conf", f"no-resolv\nserver={lab.switch.GATEWAY}\nstop-dns-rebind\n")
    host.run(["mkdir", "-p", "/etc/dnsmasq.d"])
    dnsmasq = (
        "dnsmasq --keep-in-foreground --pid-file= --user=root -7 /etc/dnsmasq.d,.dpkg-dist,.dpkg-old --bind-interfaces"
    )
    restart = daemon(host, "dnsmasq", f"{dnsmasq} --listen-address=127.0.0.1 --rebind-domain-ok=/example/")
    host.run(restart)
    host.resolver("127.0.0.1")
    wait_until(lambda: looked_up(host, ELSE) == ELSE_ADDRESS, within_s=DEADLINE_S, what="dnsmasq")
    assert looked_up(host, WEB) == ""

    tell = ("--reload-with", f"dnsmasq={shlex.join(restart)}")
    said = wired(host, "install", "--yes", *tell)
    assert "+server=/svc.internal/127.0.0.1#1053" in said
    assert "$ dnsmasq --test " in said
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == (WEB_ADDRESS, ELSE_ADDRESS)
    assert status(host)[0] == 0
    path = "/etc/dnsmasq.d/pilotfish.conf"
    whole = read(host, path)
    write(host, path, "".join(line for line in whole.splitlines(keepends=True) if "rebind" not in line))
    host.run(restart)
    wait_until(lambda: looked_up(host, ELSE) == ELSE_ADDRESS, within_s=DEADLINE_S, what="dnsmasq")
    assert looked_up(host, WEB) == ""
    write(host, path, whole)
    wired(host, "remove", "--yes", *tell)
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == ("", ELSE_ADDRESS)

    assert "left to you: restart dnsmasq" in wired(host, "install", "--dry-run")
    write(host, "/etc/dnsmasq.d/broken.conf", "no-such-option\n")
    done = wire(host, "install", "--yes", *tell)
    assert (done.returncode, "`dnsmasq --test" in done.stderr) == (1, True)
    assert host.run(["ls", "/etc/dnsmasq.d"]).stdout == "broken.conf\n"


def test_plain_resolv_conf(lab: Lab, host: Host):
    """The file is mounted here, as in a container: written in place. Without a forwarder it is refused; ports too."""
    host.resolver(lab.switch.GATEWAY, search=["a.example"])
    before = read(host, "/etc/resolv.conf")
    alone = start_ours(lab, host, "127.0.0.2:53", at=9712)
    refusals = {
        ("--server", OURS): "has no ports",
        ("--server", "127.0.0.2:53"): "start it with --forward ADDR",
        ("--server", "127.0.0.9:53"): "nothing answers there",
    }
    for server, why in refusals.items():
        done = wire(host, "install", "--yes", *server)
        assert (done.returncode, why in done.stderr) == (3 if "127.0.0.9:53" in server else 1, True), done.stderr
        assert read(host, "/etc/resolv.conf") == before
    alone.terminate()

    start_ours(lab, host, "127.0.0.2:53", at=9712, more=("--forward", lab.switch.GATEWAY))
    said = wired(host, "install", "--yes", "--server", "127.0.0.2:53")
    assert f"{lab.switch.GATEWAY} is asked no more" in said
    assert "/etc/resolv.conf is a mount: it is written in place" in said
    assert "nameserver 127.0.0.2\nsearch a.example\n" in read(host, "/etc/resolv.conf")
    assert (looked_up(host, WEB), looked_up(host, ELSE)) == (WEB_ADDRESS, ELSE_ADDRESS)
    nslookup = host.run(["busybox", "nslookup", WEB]).stdout
    assert "Server:\t\t127.0.0.2" in nslookup
    assert f"Address: {WEB_ADDRESS}" in nslookup
    assert status(host)[0] == 0
    wired(host, "remove", "--yes")
    assert read(host, "/etc/resolv.conf") == before


def test_killed_while_writing_in_place():
    """A mounted resolv.conf, killed at every step, and a full disk: whole, or as it was."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.resolver.on_mounts"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[2]) > 20


def test_a_second_name_server(lab: Lab, host: Host):
    """Why ours stands alone: glibc believes the first that says no, and goes on only after a refusal or silence."""
    small_dns(host, "127.0.0.2:53", "--outside", "refused")
    asked = {}
    for first, second in (("127.0.0.2", lab.switch.GATEWAY), (lab.switch.GATEWAY, "127.0.0.2")):
        host.resolver(first, second)
        asked[first] = (looked_up(host, WEB), looked_up(host, ELSE))

    assert asked == {"127.0.0.2": (ELSE_ADDRESS, ELSE_ADDRESS), lab.switch.GATEWAY: ("", ELSE_ADDRESS)}


def test_beside_the_stub(host: Host, lab: Lab):
    """Who has 127.0.0.53 is not in our way: all addresses of the host are taken one by one."""
    small_dns(host, "127.0.0.53:53")
    ours = start_ours(lab, host, "0.0.0.0:53", at=9712)
    for address in ("127.0.0.1", host.address):
        assert WEB_ADDRESS in host.run(["busybox", "nslookup", WEB, address]).stdout
    done = wire(host, "install", "--yes", "--server", "127.0.0.53:53", "--kind", "systemd-resolved")
    ours.terminate()

    assert (done.returncode, "this is systemd-resolved itself" in done.stderr) == (1, True)


def test_the_engine(lab: Lab, host: Host):
    """Its settings are merged; containers know our names after its restart, by glibc and busybox, on both networks."""
    settings = host.engine._folder / "daemon.json"
    settings.write_text('{\n    "debug": false,\n    "max-concurrent-uploads": 3\n}')
    before = settings.read_bytes()
    start_ours(lab, host, f"{host.address}:53", at=9712, more=("--forward", lab.switch.GATEWAY))
    refused = wire(host, "install", "--yes", "--kind", "docker")
    assert (refused.returncode, "a container's loopback is its own" in refused.stderr) == (1, True)

    said = wired(host, "install", "--yes", "--kind", "docker", "--server", f"{host.address}:53", "--search")
    assert "left to you: restart the Docker engine" in said
    merged = json.loads(settings.read_bytes())
    assert merged == {
        "debug": False,
        "max-concurrent-uploads": 3,
        "dns": [host.address],
        "dns-search": ["svc.internal"],
    }
    old = host.docker(["run", "-d", APP]).stdout.strip()
    assert host.address not in host.docker(["exec", old, "cat", "/etc/resolv.conf"]).stdout
    _, found = status(host)
    [docker] = [kind for kind in found["kinds"] if kind["kind"] == "docker"]
    assert [note for note in docker["notes"] if "restart it" in note]

    host.engine.stop()
    host.engine.start()
    host.docker(["network", "create", "shop"])
    for network in ("bridge", "shop"):
        run = ["run", "--rm", "--network", network]
        assert resolved_in(host, run, WEB) == WEB_ADDRESS
        assert resolved_in(host, run, "web") == WEB_ADDRESS  # --search
        assert resolved_in(host, run, ELSE) == ELSE_ADDRESS
        shown = host.docker([*run, "--entrypoint", "/bin/busybox", APP, "nslookup", WEB]).stdout
        assert WEB_ADDRESS in shown, shown
    assert [kind["notes"] for kind in status(host)[1]["kinds"] if kind["kind"] == "docker"] == [[]]

    wired(host, "remove", "--yes")
    assert settings.read_bytes() == before
    settings.write_text("{}\n")
    host.engine.stop()
    host.engine.start()


def resolved_in(host: Host, run: Sequence[str | Path], name: str) -> str:
    """The address that glibc gives a program in a container."""
    program = f"import socket; print(socket.gethostbyname({name!r}))"
    return host.docker([*run, "--entrypoint", "/usr/bin/python3", APP, "-I", "-S", "-c", program]).stdout.strip()


def test_only_root(host: Host):
    """Anybody may look; whoever changes must be root, and is told so."""
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = host.run([*user, sys.executable, "-m", "pilotfish", "resolver", "install", "--yes"], check=False)

    assert (done.returncode, "run it as root" in done.stderr) == (1, True)
