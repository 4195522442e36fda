"""The suite on every host of a lab, with many services registered besides, and probes that see it as a client does."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import dns.message

from bench.estate import Estate
from lab.host import Host
from lab.lab import Lab
from lab.process import Process
from lab.waiting import LabError, wait_until

READY_WITHIN_S = 60
SEEN_WITHIN_S = 20
IN_A_ROW = 10  # an old worker of a proxy may still accept between two connections that the new ones got
STATUS = {"registrator": 9701, "dns": 9702, "confgen": 9703}
DNS_EVERY_S, HTTP_EVERY_S = 0.001, 0.004  # the resolution of what is measured


class Probe(NamedTuple):
    """A question that is asked again and again.

    Attributes:
        title: what it asks.
        ask: True: served.
        every_s: seconds between two questions.
        in_a_row: how many equal answers count as one.
    """

    title: str
    ask: Callable[[], bool]
    every_s: float
    in_a_row: int

    def until(self, wanted: bool) -> float:
        """UNIX time of the answer from which on all were as wanted, as far as was looked.

        Raises:
            LabError: not within SEEN_WITHIN_S.
        """
        deadline, since, seen = time.monotonic() + SEEN_WITHIN_S, 0.0, 0
        while time.monotonic() < deadline:
            answer, now = self.ask(), time.time()
            if answer is wanted:
                since, seen = since or now, seen + 1
                if seen == self.in_a_row:
                    return since
            else:
                since, seen = 0.0, 0
            time.sleep(self.every_s)
        raise LabError(f"{self.title}: not {wanted} within {SEEN_WITHIN_S} s")


def dns_probe(host: Host, name: str) -> Probe:
    """Whether the host's DNS server gives a service for a name (SRV)."""
    question = dns.message.make_query(name, "SRV", use_edns=False).to_wire()
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(2)
    opened.connect((host.address, 53))

    def ask() -> bool:
        opened.send(question)
        return int.from_bytes(opened.recv(4096)[6:8], "big") > 0  # ANCOUNT, RFC 1035 §4.1.1

    return Probe(f"{name} at the DNS server of {host.name}", ask, DNS_EVERY_S, 1)


def http_probe(address: tuple[str, int], name: str) -> Probe:
    """Whether a proxy serves a host with 200, asked over a new connection each time."""
    request = f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode()

    def ask() -> bool:
        try:
            with socket.create_connection(address, timeout=2) as connection:
                connection.sendall(request)
                return b" 200 " in connection.recv(32)
        except OSError:
            return False

    return Probe(f"{name} at the proxy {address[0]}", ask, HTTP_EVERY_S, IN_A_ROW)


def fill(lab: Lab, estate: Estate) -> None:
    """Write an estate into the lab's etcd."""
    filling = [sys.executable, "-m", "bench.fill", lab.etcd.urls, estate.text, "write"]
    lab.switch.run(filling, within_s=READY_WITHIN_S)


@contextlib.contextmanager
def running(lab: Lab, hosts: Sequence[Host]) -> Iterator[None]:
    """The parts on some hosts, ready."""
    processes = [start(lab, host, part) for host in hosts for part in STATUS]
    try:
        for host in hosts:
            for part in STATUS:
                wait_ready(host, part)
        yield
    finally:
        for process in processes:
            process.terminate()


def start(lab: Lab, host: Host, part: str) -> Process:
    """Start one part on one host."""
    own = {
        "registrator": ("--ip", host.address),
        "dns": ("--listen", f"{host.address}:53"),
        "confgen": ("--ip", host.address, "--nginx-dir", str(host.folder / "nginx"), "--nginx-on-exit", "quit"),
    }[part]
    command = [sys.executable, "-m", "pilotfish", part, "--etcd", lab.etcd.urls, "--node-name", host.name, *own]
    return host.popen(command, name=part)


def wait_ready(host: Host, part: str) -> None:
    """Wait until a part says that nothing is missing."""
    asking = ["curl", "-fsS", f"http://127.0.0.1:{STATUS[part]}/ready"]
    wait_until(
        lambda: host.run(asking, check=False).returncode == 0,
        within_s=READY_WITHIN_S,
        what=f"{part} on {host.name} to be ready",
        every_s=0.2,
    )
