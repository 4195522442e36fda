"""Parts of the suite as processes on loopback, and the etcd that they read; everything ends with its `with` block."""

from __future__ import annotations

import contextlib
import http.client
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.estate import Estate
from bench.machine import raise_session
from lab.process import Process
from lab.tools import Tools
from lab.waiting import wait_until
from tests.parts.ports import free_port

LOCAL = "127.0.0.1"
UP_WITHIN_S = 120


class Folder:
    """A folder that goes with everything that was started in it.

    Args:
        path: absolute.
        tools: whose programs are first on PATH.
    """

    def __init__(self, path: Path, tools: Tools) -> None:
        self.path, self.tools = path, tools
        self._started: list[Process] = []

    def start(self, name: str, command: Sequence[str | Path]) -> Process:
        """Start a program; its output is in `<name>.log`."""
        started = Process(
            [str(part) for part in command], name=name, log=self.path / f"{name}.log", env=self.tools.env()
        )
        raise_session(started.pid)
        self._started.append(started)
        return started

    def end(self) -> None:
        """End what still runs, the youngest first."""
        for process in reversed(self._started):
            if process.alive:
                process.terminate()


@contextlib.contextmanager
def folder(*groups: str) -> Iterator[Folder]:
    """A temporary folder and the programs of some groups of tools."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-bench-") as path:
        made = Folder(Path(path), Tools(groups))
        try:
            yield made
        finally:
            made.end()


class Etcd:
    """An etcd of one member, that can be stopped and started again on its data.

    Args:
        place: where it runs.
    """

    def __init__(self, place: Folder) -> None:
        self.url, peer = f"http://{LOCAL}:{free_port()}", f"http://{LOCAL}:{free_port()}"
        self._place = place
        self._command: list[str | Path] = [
            place.tools.find("etcd"), "--data-dir", place.path / "etcd", "--unsafe-no-fsync", "--logger", "zap",
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        ]  # fmt: skip
        self._said = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.process = self._place.start("etcd", self._command)
        self.process.wait_line("serving client traffic", within_s=UP_WITHIN_S, after=self._said)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self._said = len(self.process.text())


def etcd(place: Folder, estate: Estate) -> str:
    """Start an etcd of one member that holds an estate; returns its URL."""
    url = Etcd(place).url
    wait_filled(fill(place, url, estate))
    return url


def fill(place: Folder, url: str, estate: Estate, what: str = "write") -> Process:
    """Start to write an estate into an etcd, or to `remove` it."""
    return place.start("fill", [sys.executable, "-m", "bench.fill", url, estate.text, what])


def wait_filled(filler: Process) -> None:
    """Wait until it is done.

    Raises:
        RuntimeError: it failed.
    """
    if filler.wait(UP_WITHIN_S) != 0:
        raise RuntimeError(f"the store could not be filled:\n{filler.tail()}")


class Part:
    """One part on loopback, ready.

    Args:
        place: where it runs.
        name: dns, confgen or up.
        options: more arguments.
    """

    def __init__(self, place: Folder, name: str, *options: str) -> None:
        self._status = free_port()
        command = [sys.executable, "-m", "pilotfish", name, "--status", f"{LOCAL}:{self._status}", *options]
        self.process = place.start(name, [*command, "--log-level", "warning"])

    def wait_ready(self, every_s: float = 0.02) -> None:
        """Wait until /ready says that nothing is missing."""
        wait_until(self._ready, within_s=UP_WITHIN_S, what=f"{self.process.name} to be ready", every_s=every_s)

    def _ready(self) -> bool:
        if not self.process.alive:
            raise RuntimeError(f"{self.process.name} ended:\n{self.process.tail()}")
        try:
            return self._asked("/ready")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def get(self, path: str) -> str:
        """What its status address says at a path.

        Raises:
            RuntimeError: it did not answer with 200.
        """
        status, text = self._asked(path)
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self.process.name}: {path} gave {status}: {text}")
        return text

    def _asked(self, path: str) -> tuple[int, str]:
        asking = http.client.HTTPConnection(LOCAL, self._status, timeout=30)
        try:
            asking.request("GET", path)
            answer = asking.getresponse()
            return answer.status, answer.read().decode()
        finally:
            asking.close()


def dns_server(place: Folder, url: str, *options: str) -> tuple[Part, int]:
    """A DNS server on an etcd, not waited for, and the port that it answers at."""
    port = free_port()
    return Part(place, "dns", "--etcd", url, "--listen", f"{LOCAL}:{port}", *options), port
