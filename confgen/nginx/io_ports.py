"""Tries whether nginx could listen on a port, before a configuration asks for it.

A reload whose port is taken passes `nginx -t`, exits 0 and changes nothing, for all services: so a taken port is left
out beforehand, by name. A port that our nginx itself holds counts as free.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from confgen.nginx.streams import Socket

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


def _try(family: socket.AddressFamily, address: str, wanted: Socket) -> None:
    kind = socket.SOCK_STREAM if wanted.protocol == "tcp" else socket.SOCK_DGRAM
    with contextlib.closing(socket.socket(family, kind)) as probe:
        if wanted.protocol == "tcp":  # as nginx: connections of a former listener that are ending do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address, wanted.port))  # no more: who connected to a socket of ours would be cut off at once


def _is_held_by(wanted: Socket, master: int) -> bool:
    """True when every socket at a port belongs to a process."""
    holding = _inodes(wanted)
    return bool(master and holding) and holding <= _sockets_of(master)


def _inodes(wanted: Socket) -> set[str]:
    found = set()
    for name in (wanted.protocol, f"{wanted.protocol}6"):
        try:
            lines = (PROC / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6
            continue
        for line in lines:
            fields = line.split()
            listening = wanted.protocol == "udp" or fields[3] == _LISTENING
            if listening and int(fields[1].rpartition(":")[2], 16) == wanted.port:
                found.add(fields[9])
    return found


def _sockets_of(pid: int) -> set[str]:
    try:
        links = [one.readlink().name for one in (PROC / str(pid) / "fd").iterdir()]
    except OSError:  # it ended, or is not ours to look at
        return set()
    return {name[len("socket:[") : -1] for name in links if name.startswith("socket:[")}
