"""Connections: pipelined queries, idle timeouts, caps per server and per client, no room for slow ones.

A connection earns its time with whole queries and replies that were taken; trickling octets earn nothing. When all
slots are taken, the one that was idle longest makes room (RFC 7766 §6.2.3, §10). Nothing is read from a client that
does not read its replies, or whose earlier queries are not all answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable

from dnsserver.frames import BadFrame, Frames, framed
from dnsserver.io_addresses import BACKLOG
from dnsserver.later import Transfer, Wanted

BURST = 64  # messages answered before other work of the loop has its turn
WRITE_HIGH = 256 * 1024  # octets of replies after which we wait until the client has taken them
_SHARE = 10  # one client may hold this part of all slots
_SWEEP_S = 0.5


Answer = Callable[[bytes, bytes], bytes | Wanted | Transfer | None]
Defer = Callable[[Wanted, Callable[[bytes], None]], None]


def _packed(ip: str) -> bytes:
    try:
        return ipaddress.ip_address(ip.partition("%")[0]).packed
    except ValueError:
        return b""


class Slots:
    """The connections of all listening sockets together.

    Args:
        most: connections at once.
        idle_s: silence after which one is closed.
    """

    def __init__(self, most: int, idle_s: float) -> None:
        self.refused = 0  # connections closed at once: their client has its share
        self.evicted = 0  # connections that made room, or were idle or slow for too long
        self._most, self._share, self._idle_s = most, max(1, most // _SHARE), idle_s
        self._held: OrderedDict[Connection, float] = OrderedDict()  # the one that earned its time last, last
        self._by_client: Counter[str] = Counter()
        self._now = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, connection: Connection, client: str) -> bool:
        """Take a slot; False when the client has its share."""
        if self._by_client[client] >= self._share:
            self.refused += 1
            return False
        self._by_client[client] += 1
        self._held[connection] = self._now()
        if len(self._held) > self._most:
            self._evict(next(iter(self._held)))
        return True

    def earned(self, connection: Connection) -> None:
        """It did something useful: its time begins anew."""
        if connection in self._held:
            self._held[connection] = self._now()
            self._held.move_to_end(connection)

    def leave(self, connection: Connection, client: str) -> None:
        """Give the slot back."""
        if self._held.pop(connection, None) is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    async def sweep(self) -> None:
        """Close what is idle, for ever."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._idle_s / 2))
            limit = self._now() - self._idle_s
            for connection in [one for one, since in self._held.items() if since < limit]:
                self._evict(connection)

    def close(self) -> None:
        """Close all connections at once."""
        for connection in list(self._held):
            connection.abort()

    def _evict(self, connection: Connection) -> None:
        self.evicted += 1
        connection.abort()


class Connection(asyncio.Protocol):
    """One client's connection; see the module."""

    def __init__(self, slots: Slots, answer: Answer, defer: Defer) -> None:
        self._slots, self._answer, self._defer = slots, answer, defer
        self._octets, self._pending = b"", 0
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._again: asyncio.Handle | None = None
        self._full = self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a slot, or go."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream is expected")
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        self._octets = _packed(self._client)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        if not self._slots.enter(self, self._client):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer the queries that are whole."""
        self._frames.feed(data)
        if self._again is None:
            self._work()

    def eof_received(self) -> bool:
        """The client will send no more; what it asked before is answered all the same."""
        self._ended = True
        return self._again is not None or self._full or self._pending > 0

    def pause_writing(self) -> None:
        """The client does not take its replies: ask it for no more."""
        self._full = True
        self._read_on()

    def resume_writing(self) -> None:
        """It took them."""
        self._full = False
        self._slots.earned(self)
        if self._again is None:
            self._work()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the loop's signature
        """Give the slot back."""
        if self._again is not None:
            self._again.cancel()
        self._slots.leave(self, self._client)
        self._transport = None

    def abort(self) -> None:
        """Close at once, without waiting for the client to read."""
        self._slots.leave(self, self._client)
        if self._transport:
            self._transport.abort()

    def _work(self) -> None:
        self._again = None
        if self._transport is None or self._full:
            return
        try:
            more, replies = self._burst()
        except BadFrame:
            self.abort()
            return
        if replies:
            self._transport.write(replies)
        if more and not self._full:
            self._again = asyncio.get_running_loop().call_soon(self._work)
        elif self._ended and not self._full and not self._pending:
            self._transport.close()
        self._read_on()

    # Bounded in messages and in octets: small queries for large answers must not fill the memory.
    def _burst(self) -> tuple[bool, bytes]:
        replies = bytearray()
        for _ in range(BURST):
            message = self._frames.take(1)
            if not message:
                return False, bytes(replies)
            self._slots.earned(self)
            reply = self._answer(message[0], self._octets)
            if isinstance(reply, Wanted):
                self._pending += 1
                self._defer(reply, self._late)
                continue
            if isinstance(reply, Transfer):
                continue
            replies += b"" if reply is None else framed(reply)
            if len(replies) >= WRITE_HIGH:
                break
        return True, bytes(replies)

    def _late(self, reply: bytes) -> None:
        self._pending -= 1
        if self._transport is None:
            return
        self._slots.earned(self)
        self._transport.write(framed(reply))
        if self._ended and not self._pending and not self._full and self._again is None:
            self._transport.close()

    def _read_on(self) -> None:
        if self._transport is None or self._ended:
            return
        if self._full or self._again is not None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class TcpEdge:
    """Serves one listening TCP socket.

    Args:
        server: what `serve` returned.
    """

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @classmethod
    async def serve(cls, opened: socket.socket, slots: Slots, answer: Answer, defer: Defer) -> TcpEdge:
        """Accept connections on a listening socket; `answer` must not raise."""
        loop = asyncio.get_running_loop()
        return cls(await loop.create_server(lambda: Connection(slots, answer, defer), sock=opened, backlog=BACKLOG))

    def close(self) -> None:
        """Accept no more."""
        with contextlib.suppress(OSError):
            self._server.close()
