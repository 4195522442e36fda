"""One host of the lab: namespaces, an address on the switch, an engine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.cgroup import Cgroup
from lab.engine import Engine
from lab.namespace import Namespace
from lab.process import Process
from lab.switch import Switch

INTERFACE = "eth0"


class Host:
    """A Docker host as one knows them: its own network, /run/docker.sock, host name and boot id.

    Args:
        number: from 1; decides the address.
        name: the host name, also the node name that programs take by default.
        folder: the host's state on disk.
        group: what runs on it.
        switch: the network it is plugged into.
        env: the environment of its programs.
    """

    def __init__(
        self, number: int, name: str, folder: Path, *, group: Cgroup, switch: Switch, env: Mapping[str, str]
    ) -> None:
        self.number = number
        self.name = name
        self.folder = folder
        self.group = group
        self.address = switch.address(number)
        self.address6 = switch.address6(number)
        self._switch = switch
        # Containers get a group beside the programs: a group with processes cannot hand controllers to groups below it.
        self.place = Namespace(name, folder, group.child("programs"), env)
        self.engine = Engine(self.place, folder / "docker", f"{group.below_root}/containers")

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    @property
    def docker_socket(self) -> Path:
        """The engine's socket as seen from outside; inside it is /run/docker.sock."""
        return self.engine.socket

    @property
    def is_up(self) -> bool:
        """False between a crash and the next boot."""
        return self.place.is_open

    def open(self) -> None:
        """Make the namespaces and plug the host in; nothing runs yet."""
        self.place.open()
        self._switch.plug(self.name, self.number, self.place.holder)
        settings = (
            f"link set {INTERFACE} up",
            f"address add {self.address}/{self._switch.PREFIX} dev {INTERFACE}",
            f"address add {self.address6}/{self._switch.PREFIX6} dev {INTERFACE} nodad",
            f"route add default via {self._switch.GATEWAY}",
        )
        self.place.run(["ip", "-batch", "-"], input_text="\n".join(settings) + "\n")

    def close(self) -> None:
        """End everything on the host at once, containers too; its namespaces go."""
        self.group.kill()
        self.place.close()
        self.group.remove()

    def crash(self) -> None:
        """Pull the plug: every program is gone without a word, and so is the address. Disks keep what they have."""
        self._switch.unplug(self.name)
        self.close()

    def boot(self) -> None:
        """Come back after a crash with a new boot id; the engine is started, other programs are the caller's."""
        self.open()
        self.engine.start()

    def cut(self) -> None:
        """Pull the network cable: no packet in or out, no reset, nothing refused."""
        self._switch.set_port(self.name, up=False)

    def heal(self) -> None:
        """Put the cable back."""
        self._switch.set_port(self.name, up=True)

    def iptables(self, *arguments: str, within_s: float = 30) -> str:
        """Run iptables inside the host and return what it printed, e.g. ``iptables("-nvxL", "INPUT")``."""
        return self.place.run(["iptables", "-w", *arguments], within_s=within_s).stdout

    def resolver(self, *addresses: str, search: Sequence[str] = ()) -> None:
        """Make the host ask these name servers: its own /etc/resolv.conf, nobody else's."""
        lines = [f"nameserver {address}" for address in addresses]
        lines += [f"search {' '.join(search)}"] if search else []
        (self.folder / "resolv.conf").write_text(
            "\n".join([*lines, "options timeout:1 attempts:2", ""]), encoding="ascii"
        )

    def run(
        self,
        command: Sequence[str | Path],
        *,
        check: bool = True,
        within_s: float = 60,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the host to its end; see `Namespace.run`."""
        return self.place.run(command, check=check, within_s=within_s, input_text=input_text, env=env)

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | str | None = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program on the host; it ends with the lab; see `Namespace.popen`."""
        return self.place.popen(command, log=log, name=name, env=env, cwd=cwd)

    def docker(
        self,
        arguments: Sequence[str | Path],
        *,
        check: bool = True,
        within_s: float = 60,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command line on the host; see `Namespace.run`."""
        return self.engine.docker(arguments, check=check, within_s=within_s, input_text=input_text, env=env)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread into the host's network; see `Namespace.inside`."""
        with self.place.inside():
            yield

    def pids(self) -> list[int]:
        """Every process on the host, the engine's and the containers' too."""
        return self.group.pids()
