"""An etcd cluster on the lab's hosts: one member a host, each of which can be killed, paused and started again."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.debian import architecture
from lab.namespace import Namespace
from lab.process import Process
from lab.waiting import LabError, wait_until

CLIENT_PORT = 2379
PEER_PORT = 2380
HEALTHY_WITHIN_S = 60


class Member:
    """One etcd server, ``etcd1`` on the first host.

    Args:
        number: from 1.
        place: the host it runs on.
        address: the host's address, which the others reach.
        folder: its data; kept across a kill and a start.
        cluster: ``etcd1=http://...:2380,...``, the same for every member.
    """

    def __init__(self, number: int, place: Namespace, address: str, folder: Path, cluster: str) -> None:
        self.number = number
        self.name = f"etcd{number}"
        self.url = f"http://{address}:{CLIENT_PORT}"
        self._place = place
        self._address = address
        self._folder = folder
        self._cluster = cluster
        self.process: Process | None = None

    def start(self, *options: str) -> None:
        """Start the server, with its data if it had any; does not wait for the cluster."""
        if self.process is not None and self.process.alive:
            raise LabError(f"{self.name} runs already")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        peer = f"http://{self._address}:{PEER_PORT}"
        command: list[str | Path] = [
            "etcd", "--name", self.name, "--data-dir", self._folder / "data",
            "--listen-client-urls", f"{self.url},http://127.0.0.1:{CLIENT_PORT}", "--advertise-client-urls", self.url,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", self._cluster, "--initial-cluster-state", "new", "--logger", "zap", *options,
        ]  # fmt: skip
        self.process = self._place.popen(command, name=self.name, log=f"{self.name}.log", env=_environment())

    def kill(self) -> None:
        """SIGKILL."""
        self._running().kill()

    def stop(self) -> None:
        """SIGTERM: a leader hands over first."""
        self._running().terminate()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._running().pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._running().resume()

    @property
    def healthy(self) -> bool:
        """Whether it has a leader and a proposal of its own went through."""
        try:
            return json.loads(self._get("/health")).get("health") in ("true", True)
        except (OSError, ValueError, LabError, http.client.HTTPException):
            return False

    def status(self) -> dict[str, object]:
        """What ``etcdctl endpoint status`` says of this member alone: leader, raftTerm, dbSize, header.revision...

        Raises:
            LabError: it does not answer.
        """
        answer = self._place.run(["etcdctl", "--endpoints", self.url, "endpoint", "status", "-w", "json"])
        status: dict[str, object] = json.loads(answer.stdout)[0]["Status"]
        return status

    def _get(self, path: str) -> bytes:
        with self._place.inside():
            connection = http.client.HTTPConnection(self._address, CLIENT_PORT, timeout=2)
            try:
                connection.request("GET", path)
                return connection.getresponse().read()
            finally:
                connection.close()

    def _running(self) -> Process:
        if self.process is None:
            raise LabError(f"{self.name} was not started")
        return self.process


class Etcd:
    """The cluster."""

    def __init__(self, members: Sequence[Member], place: Namespace) -> None:
        self.members = list(members)
        self._place = place

    @property
    def urls(self) -> str:
        """The members' client addresses, separated by commas, as ``--etcd`` wants them."""
        return ",".join(member.url for member in self.members)

    def member(self, number: int) -> Member:
        """The member on host `number`, from 1."""
        return self.members[number - 1]

    @property
    def leader(self) -> Member:
        """The member that leads now.

        Raises:
            LabError: nobody does.
        """
        for member in self.members:
            if member.process is None or not member.process.alive or not member.healthy:
                continue
            status = member.status()
            if status["leader"] == _header(status)["member_id"]:
                return member
        raise LabError("no member of etcd leads")

    def start(self) -> None:
        """Start every member that does not run, and wait until all are healthy."""
        for member in self.members:
            if member.process is None or not member.process.alive:
                member.start()
        self.wait_healthy()

    def wait_healthy(self, within_s: float = HEALTHY_WITHIN_S) -> None:
        """Wait until every running member is part of a cluster that can write."""
        for member in self.members:
            process = member.process
            if process is not None and process.alive:
                what = f"{member.name} to be healthy; see {process.log}"
                wait_until(functools.partial(getattr, member, "healthy"), within_s=within_s, what=what)

    def ctl(
        self, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None, within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run etcdctl (v3) with all members as endpoints, from outside the hosts."""
        command = ["etcdctl", "--endpoints", self.urls, *arguments]
        return self._place.run(command, check=check, env=env, within_s=within_s)

    def get(self, prefix: str) -> dict[str, str]:
        """All keys under `prefix` with their values, read from the cluster with etcdctl."""
        lines = self.ctl("get", "--prefix", prefix, "-w", "json").stdout
        return {_text(pair["key"]): _text(pair.get("value", "")) for pair in json.loads(lines).get("kvs", [])}


def _header(status: Mapping[str, object]) -> Mapping[str, object]:
    header = status["header"]
    if not isinstance(header, dict):
        raise LabError(f"etcdctl gave a status without a header: {status}")
    return header


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", errors="replace")


def _environment() -> dict[str, str]:
    """Version 3.4 wants to be told that it may run on anything but amd64."""
    kind = architecture()
    return {} if kind == "amd64" else {"ETCD_UNSUPPORTED_ARCH": kind}
