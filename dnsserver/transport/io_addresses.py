"""The addresses of this host, and sockets bound to them one by one.

A socket on the wildcard answers from whatever address the kernel prefers; one on each address answers from the address
it was asked at, without asking the kernel about each datagram.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.values import join_host_port

DNS_PORT = 53
_SIOCGIFCONF = 0x8912
_IFREQ_SIZE = 40 if struct.calcsize("P") == 8 else 32
_IP_IN_IFREQ = slice(20, 24)  # 16 octets of name, then a sockaddr_in
_MAX_INTERFACES = 1024
_IF_INET6 = Path("/proc/net/if_inet6")
_NOT_USABLE = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED
_LINK_LOCAL = "20"  # its scope in if_inet6: such an address means nothing without its interface
_RECEIVE_BUFFER = 4 * 1024 * 1024  # octets asked for; the kernel gives at most net.core.rmem_max
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT = 10, 23, 5  # linux/in.h, linux/in6.h
BACKLOG = 512  # connections that wait to be accepted
_PORT_TRIES = 20


def is_any(ip: str) -> bool:
    """True for 0.0.0.0 and ::."""
    return ipaddress.ip_address(ip).is_unspecified


def is_loopback(ip: str) -> bool:
    """True for 127.0.0.0/8 and ::1."""
    return ipaddress.ip_address(ip).is_loopback


def expanded(listen: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Where to listen: 0.0.0.0 and :: stand for each address that the host has now, each once.

    Raises:
        OSError: the host's addresses cannot be looked up (too many open files).
    """
    found: dict[tuple[str, int], None] = {}
    for ip, port in listen:
        version = ipaddress.ip_address(ip).version
        here = (_host_v4() if version == 4 else _host_v6()) if is_any(ip) else [ip]
        found.update(((one, port), None) for one in here)
    return list(found)


def _host_v4() -> list[str]:
    """IPv4 addresses of all interfaces that are up (netdevice(7), SIOCGIFCONF)."""
    buffer = array.array("B", bytes(_IFREQ_SIZE * _MAX_INTERFACES))
    address, length = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        filled = fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, struct.pack("iL", length, address))
    used: int = struct.unpack("iL", filled)[0]
    rows = (buffer[at : at + _IFREQ_SIZE] for at in range(0, used, _IFREQ_SIZE))
    return [socket.inet_ntoa(row[_IP_IN_IFREQ].tobytes()) for row in rows]


def _host_v6() -> list[str]:
    """IPv6 addresses that may be used, without link-local ones; none on a host without IPv6."""
    try:
        lines = _IF_INET6.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    rows = [line.split() for line in lines]
    return [
        str(ipaddress.IPv6Address(int(ip, 16)))
        for ip, _, _, scope, flags, _ in rows
        if scope != _LINK_LOCAL and not int(flags, 16) & _NOT_USABLE
    ]


def check_free(ip: str, port: int) -> None:
    """Make sure that nobody else answers at an address, when sockets are opened that would not notice.

    Raises:
        CannotStart: it is taken, not ours, or the port needs privileges.
    """
    try:
        for opened in open_pair(ip, port):
            opened.close()
    except OSError as error:
        raise cannot_listen(ip, port, error) from error


def open_pair(ip: str, port: int, *, shared: bool = False) -> tuple[socket.socket, socket.socket]:
    """A UDP socket and a listening TCP socket at one address and port; port 0 finds one that both can have.

    Args:
        ip: of this host.
        port: of both.
        shared: other processes of ours may have sockets there already; the kernel deals out what comes (SO_REUSEPORT).
            Without it the address has to be free; others of ours may come later.

    Raises:
        OSError: the address is taken, not ours, or the port needs privileges.
    """
    for _ in range(_PORT_TRIES if port == 0 else 1):
        udp = _open(ip, port, socket.SOCK_DGRAM, shared=shared)
        try:
            return udp, _open(ip, udp.getsockname()[1], socket.SOCK_STREAM, shared=shared)
        except OSError as error:
            udp.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free for both UDP and TCP")


def _open(ip: str, port: int, kind: socket.SocketKind, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_DGRAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            _ignore_path_mtu(opened, family)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((ip, port))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM:
            opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


# Whoever forges "packet too big" could make us send fragments; our answers fit without asking (RFC 9715 §3.1).
def _ignore_path_mtu(opened: socket.socket, family: socket.AddressFamily) -> None:
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
        if family == socket.AF_INET6
        else (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
    )
    with contextlib.suppress(OSError):
        opened.setsockopt(level, option, _PMTUDISC_OMIT)


_HINTS = {
    errno.EADDRINUSE: "another program has it (`ss -ulpn` shows which); choose another with --listen ADDR:PORT",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose another with --listen ADDR:PORT",
    errno.EADDRNOTAVAIL: "this host has no such address; choose one of its own with --listen ADDR:PORT",
}


def cannot_listen(ip: str, port: int, error: OSError) -> CannotStart:
    """The reason not to start that a failed `open_pair` is."""
    hint = _HINTS.get(error.errno or 0, "choose another with --listen ADDR:PORT")
    return CannotStart(f"cannot listen at {join_host_port(ip, port)}: {error.strerror or error}; {hint}")
