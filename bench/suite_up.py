"""`pilotfish up` on loopback over an etcd, with nginx, and with an engine that has no containers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.estate import PROXY_IP
from bench.machine import family
from bench.parts import LOCAL, Folder, Part
from bench.server import Server
from lab.waiting import wait_until
from tests.parts.ports import free_port

_APPLIED = 'pilotfish_confgen_configurations_total{outcome="accept"}'
_HOSTS = "pilotfish_confgen_hosts"


class Up(NamedTuple):
    """A running one.

    Attributes:
        part: the process.
        dns: its DNS server, a process of its own.
    """

    part: Part
    dns: Server

    def configurations(self) -> float:
        """How many configurations nginx took over so far."""
        return self._metric(_APPLIED)

    def hosts(self) -> float:
        """How many hosts are answered for by nginx, or will be by the next configuration."""
        return self._metric(_HOSTS)

    def _metric(self, name: str) -> float:
        lines = self.part.get("/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


@contextlib.contextmanager
def running(place: Folder, url: str) -> Iterator[Up]:
    """Start it; yields it once nothing is missing."""
    place.path.chmod(0o755)  # nginx's workers, who are not us, pass through
    port = free_port()
    with _engine(place) as engine:
        part = Part(
            place, "up", "--etcd", url, "--docker", engine, "--data", str(place.path / "data"), "--node-name", "here",
            "--ip", PROXY_IP, "--listen", f"{LOCAL}:{port}", "--http-port", str(free_port()),
            "--nginx-bin", str(place.tools.find("nginx")), "--nginx-on-exit", "quit",
        )  # fmt: skip
        part.wait_ready()
        try:
            yield Up(part, Server("Pilotfish", _child(part.process.pid), port))
        finally:
            part.process.terminate()


def _child(pid: int) -> int:
    """The DNS server among the processes of `up`."""

    def found() -> int:
        commands = {one: Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0") for one in family(pid)}
        return next((one for one, command in commands.items() if b"dns-child" in command), 0)

    return wait_until(found, within_s=10, what="the DNS server of up")


@contextlib.contextmanager
def _engine(place: Folder) -> Iterator[str]:
    """An engine for the registrator to watch; yields its URL."""
    command = [sys.executable, "-m", "tests.parts.fake_docker_process", "--socket", str(place.path / "docker.sock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("the engine did not start")
            yield f"unix://{place.path / 'docker.sock'}"
        finally:
            process.terminate()
