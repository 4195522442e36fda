"""Real etcd servers on loopback ports: start, stop, kill, freeze, wipe.

    with EtcdCluster(tmp_path, members=3) as cluster:
        cluster.members[0].pause()

TEST_ETCD names another etcd than the lab's, to run the same tests on another release.
Every process dies with the test process, however that ends (PR_SET_PDEATHSIG); each fault waits until it has bitten.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from lab.tools import Tools
from tests.parts.ports import free_port

START_S = 20.0  # fresh start takes 0.3 s alone; three members on a busy machine take several
HEARTBEAT_MS, ELECTION_MS = 100, 1000  # etcd's defaults, named because bounds in tests depend on them


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Wait for a condition; AssertionError naming it after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


def etcd_program() -> str:
    """Path of the server that is tested."""
    return os.environ.get("TEST_ETCD") or str(Tools(["lab"]).find("etcd"))


class EtcdMember:
    """One etcd process.

    Args:
        folder: for data and log.
        name: of the member.
        ports: (client, peer).
        options: more flags, for example ("--auth-token-ttl", "3").
        scheme: "https" needs the certificate flags among the options.
    """

    def __init__(
        self, folder: Path, name: str, ports: tuple[int, int], options: Sequence[str] = (), scheme: str = "http"
    ) -> None:
        self.name = name
        self.folder = folder
        self.url = f"{scheme}://127.0.0.1:{ports[0]}"
        self.peer_url = f"http://127.0.0.1:{ports[1]}"
        self.options = tuple(options)
        self.initial_cluster = f"{name}={self.peer_url}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / f"{self.name}.etcd"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process, f"{self.name} is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the process; `wait_ready` says when it serves."""
        assert not self._process
        command = [
            "setpriv", "--pdeathsig", "KILL", etcd_program(), "--name", self.name,
            "--data-dir", str(self.data), "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self.initial_cluster, "--heartbeat-interval", str(HEARTBEAT_MS),
            "--election-timeout", str(ELECTION_MS), *self.options,
        ]  # fmt: skip
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        (self.folder / f"{self.name}.pid").write_text(str(self.pid))

    def wait_ready(self) -> None:
        """Wait until it answers reads and writes."""
        wait_until(self._healthy, f"etcd {self.name} serves, see {self.folder / self.name}.log")

    def kill(self) -> None:
        """SIGKILL, as the OOM killer or a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: an orderly end."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: self.state() == "T", f"etcd {self.name} is stopped")

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        wait_until(lambda: self.state() != "T", f"etcd {self.name} goes on")

    def state(self) -> str:
        """The letter of the process's state: S, R, T."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def restart(self) -> None:
        """Start again on the same data."""
        self.start()
        self.wait_ready()

    def wipe(self) -> None:
        """Remove the data of a member that is not running."""
        assert not self._process
        shutil.rmtree(self.data)

    def status(self) -> dict[str, object]:
        """Its own words: raftTerm, leader, header, errors."""
        found = json.loads(self.ctl("endpoint", "status"))
        return dict(found[0]["Status"])

    def ctl(self, *arguments: str) -> str:
        """Run etcdctl against this member; returns its output, as JSON where etcdctl can."""
        command = [str(Tools(["lab"]).find("etcdctl")), "--endpoints", self.url, "--write-out", "json", *arguments]
        env = os.environ | {"ETCDCTL_API": "3"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, check=False)
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def _end(self, how: signal.Signals) -> None:
        if process := self._process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, how)
                os.kill(process.pid, signal.SIGCONT)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
            self._process = None

    def _healthy(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"etcd {self.name} ended, see {self.folder / self.name}.log"
        if self.url.startswith("https"):
            return self._listens()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, urllib.error.URLError):
            return False

    def _listens(self) -> bool:
        host, _, port = self.url.rpartition("/")[2].rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False


class EtcdCluster:
    """One or three members that know each other; a context manager that starts and ends them."""

    def __init__(self, folder: Path, members: int = 1, options: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.members = [
            EtcdMember(folder, f"m{number}", (free_port(), free_port()), options) for number in range(1, members + 1)
        ]
        initial = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in self.members:
            member.initial_cluster = initial

    @property
    def urls(self) -> tuple[str, ...]:
        """Client addresses of all members."""
        return tuple(member.url for member in self.members)

    def leader(self) -> EtcdMember:
        """The member that leads now."""
        for member in self.members:
            if member._process and member.state() != "T":
                status = member.status()
                header = status["header"]
                assert isinstance(header, dict)
                if header["member_id"] == status.get("leader"):
                    return member
        raise AssertionError("no member leads")

    def __enter__(self) -> Self:
        for member in self.members:
            member.start()
        try:
            for member in self.members:
                member.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill()
            shutil.rmtree(member.data, ignore_errors=True)
