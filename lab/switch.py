"""The network between the hosts: a bridge in namespaces of its own, and the place to be a client from outside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab.cgroup import Cgroup
from lab.namespace import Namespace

BRIDGE = "br0"


class Switch(Namespace):
    """A bridge with the address 10.88.0.254 and fd88::fe; hosts are 10.88.0.1, fd88::1 and so on.

    Labs do not meet: each has its own switch, so all use the same addresses. There is no way out of it.
    """

    PREFIX = 24
    PREFIX6 = 64
    GATEWAY = "10.88.0.254"

    def __init__(self, folder: Path, group: Cgroup, env: Mapping[str, str]) -> None:
        super().__init__("outside", folder, group, env)

    @staticmethod
    def address(number: int) -> str:
        """The IPv4 address of host `number`."""
        return f"10.88.0.{number}"

    @staticmethod
    def address6(number: int) -> str:
        """The IPv6 address of host `number`."""
        return f"fd88::{number:x}"

    def open(self) -> None:
        """Make the bridge."""
        super().open()
        self._ip(
            f"link add {BRIDGE} type bridge",
            f"address add {self.GATEWAY}/{self.PREFIX} dev {BRIDGE}",
            f"address add {self.address6(254)}/{self.PREFIX6} dev {BRIDGE} nodad",
            f"link set {BRIDGE} up",
        )

    def plug(self, port: str, number: int, holder: int) -> None:
        """Connect the namespaces that process `holder` keeps open; inside, the interface is eth0.

        A host has the same hardware address after a crash, as in life: its neighbours remember it.
        """
        hardware = f"02:88:00:00:00:{number:02x}"
        self._ip(
            f"link add {port} type veth peer name eth0 address {hardware} netns {holder}",
            f"link set {port} master {BRIDGE} up",
        )

    def unplug(self, port: str) -> None:
        """Take the connection away for good."""
        self._ip(f"link delete {port}")

    def set_port(self, port: str, *, up: bool) -> None:
        """Switch a port on or off; a host keeps its addresses meanwhile."""
        self._ip(f"link set {port} {'up' if up else 'down'}")

    def _ip(self, *commands: str) -> None:
        self.run(["ip", "-batch", "-"], input_text="\n".join(commands) + "\n")
