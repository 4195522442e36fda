"""podman's service on a host of the lab: Docker's API from another engine.

The lab's namespaces give podman no control group of its own, so containers run without one (`cgroups = "disabled"`) and
cannot be paused; everything else is as on a host. Containers survive the service, as always with podman.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from lab import image
from lab.host import Host
from lab.process import Process
from lab.tools import Tools
from lab.waiting import wait_until

POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{folder}/graph"
runroot = "/run/podman"
"""
CONTAINERS = """\
[containers]
cgroups = "disabled"
seccomp_profile = "unconfined"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{tools}/bin/conmon"]
runtime = "crun"
helper_binaries_dir = ["{helpers}"]
[engine.runtimes]
crun = ["{tools}/bin/crun"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
default_subnet = "10.89.0.0/16"
"""


class Podman:
    """podman on one host.

    Args:
        host: where it runs; it needs no Docker engine.
        busybox: a statically linked busybox, for the image.
    """

    def __init__(self, host: Host, busybox: Path) -> None:
        self._host, self._busybox = host, busybox
        self._tools = Tools(["podman"])
        self._folder = host.folder / "podman"
        self.socket = self._folder / "podman.sock"
        self.process: Process | None = None

    def install(self) -> None:
        """Write its settings, import the sample application as pilotfish-lab/app:1."""
        self._folder.mkdir()
        tools = self._tools.find("podman").parent.parent
        for name, text in {"containers.conf": CONTAINERS, "storage.conf": STORAGE, "policy.json": POLICY}.items():
            filled = (
                text
                if name == "policy.json"
                else text.format(folder=self._folder, tools=tools, helpers=tools / "root" / "usr/lib/podman")
            )
            (self._folder / name).write_text(filled, encoding="ascii")
        (self._folder / "config.json").write_text("{}\n", encoding="ascii")
        self._host.run(["mkdir", "-p", "/etc/containers"])
        self._host.run(["cp", self._folder / "policy.json", "/etc/containers/policy.json"])
        changes = [f"CMD {json.dumps(image.COMMAND)}", "ENV PATH=/usr/bin:/bin", "ENV PORTS=9200", "EXPOSE 9200"]
        options = [word for change in changes for word in ("--change", change)]
        self.podman("import", *options, str(image.archive(self._busybox)), image.APP_IMAGE.name)

    def podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its command line."""
        return self._host.run([self._tools.find("podman"), *arguments], env=self._env)

    def start(self) -> None:
        """Serve the API on `socket`."""
        command: list[str | Path] = [
            self._tools.find("podman"),
            "system",
            "service",
            "-t",
            "0",
            f"unix://{self.socket}",
        ]
        self.process = self._host.popen(command, env=self._env, name="podman")
        wait_until(self.socket.exists, within_s=30, what="podman's socket")

    def stop(self) -> None:
        """End the service; containers run on."""
        if self.process is not None:
            self.process.terminate(within_s=30)
        self.socket.unlink(missing_ok=True)

    @property
    def _env(self) -> dict[str, str]:
        return {
            "CONTAINERS_CONF": str(self._folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"),
            "DOCKER_CONFIG": str(self._folder),
            "TMPDIR": str(self._folder),
        }
