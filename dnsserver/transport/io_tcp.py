"""Listening TCP sockets: who connects gets a connection with a slot, as long as there are files to have one with."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from dnsserver.transport.io_connection import Answer, Connection, Defer, Server
from dnsserver.transport.io_slots import Slots

_ACCEPTS = 4  # connections accepted before other work of the loop has its turn
_SEND_BUFFER = 64 * 1024  # octets asked for, the kernel takes twice as many; else it holds megabytes for a client that
_RECEIVE_BUFFER = 32 * 1024  # does not read its replies, or sends more than we answer
_PAUSE_S = 0.5  # in accepting, when there is nothing to accept with
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2


class TcpEdge:
    """Serves one listening TCP socket.

    Args:
        opened: listening and non-blocking; closed by `close`.
        slots: those of all sockets.
        answer: see Server.
        defer: see Server.
        log: where it is said that files ran out.
    """

    def __init__(
        self, opened: socket.socket, slots: Slots, answer: Answer, defer: Defer, log: logging.Logger | None = None
    ) -> None:
        self._socket, self._server = opened, Server(slots, answer, defer)
        self._log = log or logging.getLogger("pilotfish.dns")
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.Handle | None = None
        # Inherited by connections; replies are written whole.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._resume()

    def close(self) -> None:
        """Accept no more; connections that were made before are still served."""
        if self._socket.fileno() < 0:
            return
        if self._paused is None:
            self._accept()
        if self._paused is None:
            self._loop.remove_reader(self._socket.fileno())
        else:
            self._paused.cancel()
        self._socket.close()

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                opened, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            opened.setblocking(False)
            Connection(opened, packed(peer[0]), self._server).begin()

    # The socket stays readable while nothing can be accepted: asking again at once would be a busy loop.
    def _pause(self, error: OSError) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._paused = self._loop.call_later(_PAUSE_S, self._resume)
        if error.errno in _EXHAUSTED:
            self._server.slots.squeeze()
        self._log.warning(
            "TCP clients must wait: %s; allow more open files (ulimit -n), or fewer with --tcp-connections",
            error.strerror,
            extra={"cause": "accept"},
        )


_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def packed(ip: str) -> bytes:
    r"""The octets of a peer's address; of IPv4 in IPv6 those of the IPv4 address.

    >>> packed("::ffff:192.0.2.1")
    b'\xc0\x00\x02\x01'
    """
    if ":" not in ip:
        return socket.inet_pton(socket.AF_INET, ip)
    octets = socket.inet_pton(socket.AF_INET6, ip.partition("%")[0])
    return octets.removeprefix(_MAPPED)
