"""What this machine says of itself: its name, its boot, and the addresses by which other hosts reach it.

Nothing is guessed: an address is only given when it is the source address of a default route and we see the host's own
network. Inside a container with a network of its own, there is none, and whoever asks must be told (`--ip`).
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

# Documentation addresses (RFC 5737, RFC 3849): never ours, always behind the default route. Nothing is sent to them.
_BEYOND = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_INTERFACES = Path("/sys/class/net")
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def boot_id() -> str:
    """An id that changes with every boot of the host; empty where the kernel has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def hostname() -> str:
    """The host's name up to its first dot."""
    return socket.gethostname().partition(".")[0]


def default_addresses() -> tuple[str, ...]:
    """Source addresses of the default routes, IPv4 first; empty without one, or outside the host's network."""
    if not in_hosts_network():
        return ()
    found = (_source(family, beyond) for family, beyond in _BEYOND)
    return tuple(ip for ip in found if ip and _usable(ip))


def in_hosts_network() -> bool:
    """True unless this is a container with a network of its own.

    A container on the host's network sees the host's bridges; one with a network of its own has none.
    """
    if not any(mark.exists() for mark in _CONTAINER_MARKS):
        return True
    return any((interface / "bridge").is_dir() for interface in _INTERFACES.glob("*"))


def _source(family: socket.AddressFamily, beyond: str) -> str:
    """Which of our addresses the kernel would send from; connecting a datagram socket sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _usable(ip: str) -> bool:
    address = ipaddress.ip_address(ip.partition("%")[0])
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)
