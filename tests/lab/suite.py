"""The parts of the suite on the hosts of a lab, as an admin would start them, and the questions one asks of them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

import dns.message
import dns.query
import dns.rdatatype

from lab.host import Host
from lab.lab import Lab
from lab.process import Process
from lab.waiting import wait_until

SOAK = os.environ.get("SOAK") == "1"
LEASE_S = 30 if SOAK else 5  # the default at full length; short enough to wait for otherwise
AFTER_LEASE_S = 5.0  # a lease ends up to this much later than its time
DOMAIN = "svc.internal"
APP = "pilotfish-lab/app:1"
PARTS = ("registrator", "dns", "confgen")
STALL = () if SOAK else ("--etcd-stall", "3s")
TIMERS: dict[str, tuple[str, ...]] = {
    "registrator": ("--lease-ttl", str(LEASE_S)),
    "dns": (),
    "confgen": ("--proxy-ttl", str(LEASE_S)),
}
STATUS = {"registrator": 9701, "dns": 9702, "confgen": 9703}
ESTEST = (
    *("-e", "SERVICE_NAME=estest", "-e", "SERVICE_9200_PROXY=http", "-e", "SERVICE_9200_PROXYDNS=estest"),
    *("-p", "9200", "-p", "9300"),
)


class Suite:
    """Parts on some hosts of a lab.

    Args:
        lab: with an etcd cluster.
        hosts: on which hosts; default: all.
        more: part -> further arguments.
    """

    def __init__(self, lab: Lab, hosts: Sequence[Host] | None = None, **more: Sequence[str]) -> None:
        self.lab = lab
        self.hosts = list(hosts or lab.hosts)
        self.more = more
        self.processes: dict[tuple[str, str], Process] = {}

    def start(self, host: Host, part: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start one part on one host, with the arguments that every host has."""
        folder = host.folder / part
        folder.mkdir(exist_ok=True)
        own = {
            "registrator": ("--ip", host.address),
            "dns": ("--listen", f"{host.address}:53", "--snapshot", str(folder / "zone.snapshot")),
            "confgen": ("--ip", host.address, "--nginx-dir", str(folder / "nginx")),
        }[part]
        command = [sys.executable, "-m", "pilotfish", part, "--etcd", self.lab.etcd.urls, *STALL]
        command += ["--node-name", host.name, *own, *TIMERS[part], *self.more.get(part, ()), *arguments]
        process = host.popen(command, name=part, env=env)
        self.processes[host.name, part] = process
        return process

    def start_all(self) -> None:
        """Start every part on every host, and wait until all are ready."""
        for host in self.hosts:
            for part in PARTS:
                self.start(host, part)
        for host in self.hosts:
            self.wait_ready(host)

    def process(self, host: Host, part: str) -> Process:
        """The running process of a part."""
        return self.processes[host.name, part]

    def wait_ready(self, host: Host, parts: Sequence[str] = PARTS, within_s: float = 30) -> None:
        """Wait until parts say that nothing is missing."""
        for part in parts:
            try:
                wait_until(lambda part=part: self.ready(host, part), within_s=within_s, what=f"{part} on {host.name}")
            except Exception as error:
                error.add_note(self.process(host, part).tail(40))
                raise

    def ready(self, host: Host, part: str) -> bool:
        """True when /ready says yes."""
        return self.status(host, part, "/ready", fail=True) is not None

    def status(self, host: Host, part: str, path: str = "/api/state", *, fail: bool = False) -> str | None:
        """What a part's status server says; None when it does not, or with `fail` when it says no."""
        options = ["-sS", "-m", "3", *(["-f"] if fail else [])]
        asked = host.run(["curl", *options, f"http://127.0.0.1:{STATUS[part]}{path}"], check=False)
        return asked.stdout if asked.returncode == 0 else None

    def state(self, host: Host, part: str) -> dict:
        """A part's /api/state."""
        return json.loads(self.status(host, part) or "{}")

    def stop(self) -> None:
        """End all parts; nginx goes with the lab's reset."""
        for process in self.processes.values():
            if process.alive:
                process.terminate()


@contextlib.contextmanager
def running(lab: Lab, **more: Sequence[str]) -> Iterator[Suite]:
    """All parts on all hosts, ready; ended afterwards. On failure the logs are added to the error."""
    suite = Suite(lab, **more)
    try:
        suite.start_all()
        yield suite
    except Exception as error:
        for (host, part), process in suite.processes.items():
            error.add_note(f"--- {part} on {host}, last lines:\n{process.tail(25)}")
        raise
    finally:
        suite.stop()


def run(host: Host, *options: str, name: str, image: str = APP) -> str:
    """Start a container whose host name is its name; returns its id."""
    return host.docker(["run", "-d", "--name", name, "--hostname", name, *options, image]).stdout.strip()


def ask(host: Host, name: str, kind: str = "A", *, server: str = "", tcp: bool = False) -> dns.message.Message:
    """Ask the DNS server of a host, from that host.

    Raises:
        dns.exception.Timeout: no answer within two seconds.
    """
    question = dns.message.make_query(name, kind, use_edns=0)
    with host.inside():
        send = dns.query.tcp if tcp else dns.query.udp
        return send(question, server or host.address, timeout=2)


def answers(host: Host, name: str, kind: str = "A", **options: object) -> list[str]:
    """The records of the asked type in an answer, as sorted text."""
    message = ask(host, name, kind, **options)
    wanted = dns.rdatatype.from_text(kind)
    return sorted(str(record) for rrset in message.answer if rrset.rdtype == wanted for record in rrset)


def additional(message: dns.message.Message) -> dict[str, list[str]]:
    """Name -> addresses of the additional section."""
    found: dict[str, list[str]] = {}
    for rrset in message.additional:
        found.setdefault(str(rrset.name), []).extend(str(record) for record in rrset)
    return found


def page(host: Host, proxy: str, name: str, path: str = "/") -> dict | int:
    """The application's answer through a proxy, as a client on `host` gets it; the status if it is not 200."""
    command = ["curl", "-s", "-m", "3", "-w", "\n%{http_code}", "-H", f"Host: {name}", f"http://{proxy}{path}"]
    body, _, status = host.run(command, check=False).stdout.rpartition("\n")
    return json.loads(body) if status == "200" else int(status or 0)


def served_by(host: Host, proxy: str, name: str, count: int) -> set[str]:
    """Which containers answered `count` requests through a proxy; a status instead of a name is in it as text."""
    found = [page(host, proxy, name) for _ in range(count)]
    return {one["name"] if isinstance(one, dict) else str(one) for one in found}


def network_of(host: Host) -> tuple[str, ...]:
    """What makes a command run in a host's network, and nothing else of it."""
    return ("nsenter", f"--net=/proc/{host.place.holder}/ns/net")
