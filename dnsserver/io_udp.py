"""Datagrams: one socket per local address, read in bursts, one call into the pure part per message.

An event loop's own datagram protocol costs four times as much per message as reading the socket until it is empty.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from dnsserver.wire import MAX_QUERY

BURST = 64  # messages read before other work of the loop has its turn
_SO_MEMINFO = 55  # asm-generic/socket.h
_MEMINFO_SIZE = 36  # nine numbers; linux/sock_diag.h
_DROPS = 8  # which of them counts datagrams that found the buffer full


class UdpEdge:
    """Serves one bound UDP socket.

    Args:
        opened: bound and non-blocking; closed by `close`.
        answer: one message to one reply or none; must not raise.
    """

    def __init__(self, opened: socket.socket, answer: Callable[[bytes], bytes | None]) -> None:
        self.unsent = 0  # replies that the kernel did not take
        self._socket, self._answer = opened, answer
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(opened.fileno(), self._readable)

    def _readable(self) -> None:
        receive, answer, send = self._socket.recvfrom, self._answer, self._socket.sendto
        for _ in range(BURST):
            try:
                message, client = receive(MAX_QUERY + 1)
            except BlockingIOError:
                return
            except OSError:  # what an earlier reply met on its way (ICMP); the socket is fine
                continue
            reply = answer(message)
            if reply is not None:
                try:
                    send(reply, client)
                except OSError:  # buffer full, no route, a forged source: the client asks again
                    self.unsent += 1

    @property
    def overflowed(self) -> int:
        """Datagrams that the kernel dropped since the socket was opened, because its buffer was full."""
        try:
            info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_SIZE)
        except OSError:
            return 0
        return int(struct.unpack(f"{len(info) // 4}I", info)[_DROPS]) if len(info) == _MEMINFO_SIZE else 0

    def close(self) -> None:
        """Stop serving."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
