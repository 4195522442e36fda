"""A real Docker engine inside a host's namespaces."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import image
from lab.namespace import Namespace
from lab.process import Process
from lab.waiting import LabError, wait_until

READY_WITHIN_S = 60  # it answers within 3 s; twelve may start at once on a small machine
PIDFILE = "/run/docker.pid"


class Engine:
    """dockerd with a containerd of its own; images and containers survive a stop and a start, as on any host.

    Args:
        place: where it runs. Inside, its socket is /run/docker.sock, as on any host.
        folder: its data.
        cgroup_parent: where its containers' groups are made.
    """

    def __init__(self, place: Namespace, folder: Path, cgroup_parent: str) -> None:
        self._place = place
        self._folder = folder
        self._cgroup_parent = cgroup_parent
        self.socket = folder / "docker.sock"
        self.process: Process | None = None

    def start(self, *options: str, wait: bool = True) -> None:
        """Start the engine with further dockerd `options`; returns when it answers, unless told not to wait."""
        if self.process is not None and self.process.alive:
            raise LabError(f"the engine of {self._place.name} runs already")
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "daemon.json"
        if not settings.exists():
            settings.write_text("{}\n", encoding="ascii")
        # A killed engine leaves its pid file, and the id in it may be another program's by now.
        self._place.run(["rm", "-f", PIDFILE, "/run/docker/containerd/containerd.pid"])
        command: list[str | Path] = [
            "dockerd", "--data-root", self._folder / "data", "--exec-root", "/run/docker", "--pidfile", PIDFILE,
            "--host", "unix:///run/docker.sock", "--host", f"unix://{self.socket}", "--config-file", settings,
            "--cgroup-parent", self._cgroup_parent, *options,
        ]  # fmt: skip
        self.process = self._place.popen(command, name="dockerd", log="dockerd.log")
        if wait:
            self.wait_ready()

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the engine answers on its socket.

        Raises:
            LabError: it ended, or the deadline passed; with the end of its log.
        """
        process = self._running()

        def answers() -> bool:
            if not process.alive:
                raise LabError(f"the engine of {self._place.name} ended; it said:\n{process.tail()}")
            return self._ping()

        wait_until(answers, within_s=within_s, what=f"the engine of {self._place.name}; see {process.log}")

    def stop(self) -> None:
        """SIGTERM: the engine stops its containers and ends."""
        self._running().terminate(within_s=60)

    def kill(self) -> None:
        """SIGKILL to the engine alone: its containers go on running, unattended."""
        self._running().kill()

    def pause(self) -> None:
        """SIGSTOP: the socket accepts, nothing answers."""
        self._running().pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._running().resume()

    def revive(self) -> None:
        """Make the engine run again, if it was paused, killed or stopped; does not wait for it."""
        if self.process is not None and self.process.alive:
            self.process.resume()
        else:
            self.start(wait=False)

    def remove_containers(self) -> None:
        """Remove every container, running or not, and every network and volume that is not the engine's own."""
        containers = self.docker(["ps", "-aq"]).stdout.split()
        if containers:
            self.docker(["rm", "-f", "-v", *containers])
        networks = self.docker(["network", "ls", "-q", "--filter", "type=custom"]).stdout.split()
        if networks:
            self.docker(["network", "rm", *networks])
        volumes = self.docker(["volume", "ls", "-q"]).stdout.split()
        if volumes:
            self.docker(["volume", "rm", *volumes])

    def docker(
        self,
        arguments: Sequence[str | Path],
        *,
        check: bool = True,
        within_s: float = 60,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command line on this engine; see `Namespace.run`."""
        return self._place.run(["docker", *arguments], check=check, within_s=within_s, input_text=input_text, env=env)

    def load_images(self, packed: Path) -> None:
        """Give the engine the sample images; those it has already are left alone."""
        have = self.docker(["images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout.split()
        if any(wanted.name not in have for wanted in image.IMAGES):
            image.load(self.docker, packed)

    def get(self, path: str, within_s: float = 10) -> object:
        """The JSON answer of the engine's API to ``GET path``, asked from outside over the socket."""
        connection = _UnixConnection(self.socket, within_s)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def _ping(self) -> bool:
        connection = _UnixConnection(self.socket, timeout=2)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _running(self) -> Process:
        if self.process is None:
            raise LabError(f"the engine of {self._place.name} was not started")
        return self.process


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._patience_s = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience_s)
        self.sock.connect(str(self._path))
