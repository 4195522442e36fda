"""Tries whether nginx could listen on a port, before a configuration asks for it.

A reload whose port is taken passes `nginx -t`, exits 0 and changes nothing, for all services: so a taken port is left
out beforehand, by name. A port that our nginx itself holds counts as free.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
from pathlib import Path

from confgen.nginx.stream_shapes import Socket

PROC = Path("/proc")
_LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h


def problem(wanted: Socket, master: int, *, ipv6: bool) -> str:
    """Why nginx could not listen there; empty when it could.

    Args:
        wanted: protocol and port, on all addresses.
        master: process id of our nginx; 0 when it does not run.
        ipv6: on those of IPv6 too.
    """
    families = [(socket.AF_INET, "0.0.0.0"), *([(socket.AF_INET6, "::")] if ipv6 else [])]
    for family, address in families:
        try:
            _try(family, address, wanted)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "" if _is_held_by(wanted, master) else f"port {wanted} is taken by another process of this host"
            return f"port {wanted} cannot be listened on: {error.strerror}"
    return ""


def taken(address: str, port: int, master: int) -> str:
    """The kernel's words when nginx could not listen for TCP at an address because others do; empty otherwise.

    Args:
        address: IPv4, or IPv6 without brackets.
        port: 1 to 65535; others are nginx's to refuse.
        master: process id of our nginx; 0 when it does not run.
    """
    wanted = Socket("tcp", port)
    try:
        _try(socket.AF_INET6 if ":" in address else socket.AF_INET, address, wanted)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and not _is_held_by(wanted, master, address):
            return f"{error.errno}: {error.strerror}"
    except OverflowError:
        return ""
    return ""


def _try(family: socket.AddressFamily, address: str, wanted: Socket) -> None:
    kind = socket.SOCK_STREAM if wanted.protocol == "tcp" else socket.SOCK_DGRAM
    with contextlib.closing(socket.socket(family, kind)) as probe:
        if wanted.protocol == "tcp":  # as nginx: connections of a former listener that are ending do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address, wanted.port))  # no more: who connected to a socket of ours would be cut off at once


def _is_held_by(wanted: Socket, master: int, address: str = "") -> bool:
    """True when every socket at a port, or at one address and everywhere, belongs to a process."""
    holding = _inodes(wanted, address)
    return bool(master and holding) and holding <= _sockets_of(master)


def _inodes(wanted: Socket, address: str) -> set[str]:
    found, asked = set(), ipaddress.ip_address(address or "0.0.0.0")
    for name in (wanted.protocol, f"{wanted.protocol}6"):
        try:
            lines = (PROC / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6
            continue
        for line in lines:
            fields = line.split()
            listening = wanted.protocol == "udp" or fields[3] == _LISTENING
            where, _, port = fields[1].rpartition(":")
            if listening and int(port, 16) == wanted.port:
                at = _address(where)
                if asked.is_unspecified or at.is_unspecified or at == asked:
                    found.add(fields[9])
    return found


def _address(written: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as /proc/net has it: words of 32 bits, each in the machine's order."""
    words = (int(written[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(written), 8))
    return ipaddress.ip_address(b"".join(words))


def _sockets_of(pid: int) -> set[str]:
    links = []
    with contextlib.suppress(OSError):  # it ended, or is not ours to look at
        for one in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed just now
                links.append(one.readlink().name)
    return {name[len("socket:[") : -1] for name in links if name.startswith("socket:[")}
