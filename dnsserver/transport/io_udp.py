"""Datagrams: one socket per local address, read and answered in batches, one call into the pure part per message.

What costs is the system calls, so each brings as many messages as wait (`io_mmsg`); where the C library has no such
calls, each message has its own. An event loop's datagram protocol costs four times as much per message.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from dnsserver.aging import Clock
from dnsserver.cache import Kept
from dnsserver.faults import Faults
from dnsserver.message.wire import MAX_QUERY, MAX_UDP
from dnsserver.transport import io_mmsg
from dnsserver.transport.io_mmsg import SLOTS, Mailbox
from dnsserver.transport.later import Wanted

UDP = "udp"
BATCHES = 4  # of SLOTS messages, before other work of the loop has its turn
FEW = SLOTS // 4  # after a batch with fewer than this, the next ones are waited for together
_DRAINED = 100  # times BATCHES at most at the end: more than a buffer holds
_SO_MEMINFO = 55  # asm-generic/socket.h
_MEMINFO_SIZE = 36  # nine numbers; linux/sock_diag.h
_DROPS = 8  # which of them counts datagrams that found the buffer full

NOT_ANSWERED = "a DNS message was not answered"
_Address = tuple[str, int] | tuple[str, int, int, int]
Defer = Callable[[Wanted, Callable[[bytes], None]], None]
Note = Callable[[bytes, str, bytes, bytes | None], None]


class Answers(Protocol):
    """What a socket needs of the responder."""

    clock: Clock
    hot: Callable[[bytes], Kept | None]

    def udp(self, message: bytes, client: bytes) -> bytes | Wanted | None:
        """The reply to a datagram."""
        ...


class UdpEdge:
    """Serves one bound UDP socket.

    Args:
        opened: bound and non-blocking; closed by `close`.
        answers: one message to one reply or none; must not raise.
        defer: takes what others must be asked for, and how to send the reply.
        note: told of each message: the client's octets, how it came, the message, the reply; None: nobody asks.
        short_cut: finished answers may be given without asking `answers` (there is no limit to keep).
        faults: told of what `answers` and `defer` raise; it costs this message, not those beside it.
    """

    def __init__(
        self,
        opened: socket.socket,
        answers: Answers,
        defer: Defer,
        note: Note | None = None,
        *,
        short_cut: bool = True,
        faults: Faults | None = None,
    ) -> None:
        self.unsent = 0  # replies that the kernel did not take
        self._socket, self._answers, self._defer, self._note = opened, answers, defer, note
        self._faults = faults or Faults(logging.getLogger("pilotfish.dns"))
        self._hot = answers.hot if short_cut else _nothing
        self._handle = ctypes.c_int(opened.fileno())
        self._loop = asyncio.get_running_loop()
        box = _mailbox(opened.family) if io_mmsg.available() else None
        self._readable = self._readable_singly if box is None else functools.partial(self._readable_in_batches, box)
        self._loop.add_reader(opened.fileno(), self._readable)

    def _readable_in_batches(self, box: Mailbox) -> None:
        self._answers.clock.now = self._loop.time()
        for _ in range(BATCHES):
            try:
                count = box.receive(self._handle)
            except OSError:  # what an earlier reply met on its way (ICMP); the socket is fine
                continue
            if count:
                self._answer(box, count)
            if count < FEW:
                return

    # The hot path: per message one slice, one look-up, one copy.
    def _answer(self, box: Mailbox, count: int) -> None:
        hot, inbox, outbox, lengths, sizes = self._hot, box.inbox, box.outbox, box.lengths, box.sizes
        without: list[int] = []  # slots whose message gets no reply now
        for slot, start, key_at, length_at, out, size_at in _plan(box)[:count]:
            kept = hot(inbox[key_at : start + lengths[length_at]])
            if kept is not None and (body := kept.body()) is not None:
                kept.tally[0] += 1
            else:
                told = self._other(box, slot)
                if told is None:
                    without.append(slot)
                    continue
                body = told
            size = len(body)
            outbox[out : out + size] = body
            sizes[size_at] = size
            if self._note is not None:
                self._noted(box, slot, body)
        if not without:
            self.unsent += box.send(self._handle, 0, count)
        elif len(without) < count:
            left = set(range(count)).difference(without)
            self.unsent += box.send_some(self._handle, sorted(left))

    def _other(self, box: Mailbox, slot: int) -> bytes | None:
        """The body of a reply that is not finished yet; None: there is none now."""
        told = self._told(box.message(slot), box.client(slot), functools.partial(box.address, slot))
        return None if told is None else told[2:]

    def _told(self, message: bytes, client: bytes, address: Callable[[], _Address]) -> bytes | None:
        """The reply to a message; None: there is none now."""
        try:
            told = self._answers.udp(message, client)
            if isinstance(told, Wanted):
                self._defer(told, functools.partial(self._send, address()))
                return None
        except Exception as error:  # noqa: BLE001  whatever it is, it is said
            self._faults.caught(NOT_ANSWERED, error)
            return None
        if told is None and self._note is not None:
            self._note(client, UDP, message, None)
        return told

    def _noted(self, box: Mailbox, slot: int, body: bytes) -> None:
        message = box.message(slot)
        if self._note is not None:
            self._note(box.client(slot), UDP, message, message[:2] + body)

    def _readable_singly(self) -> None:
        self._answers.clock.now = self._loop.time()
        for _ in range(BATCHES * SLOTS):
            try:
                message, address = self._socket.recvfrom(MAX_QUERY + 1)
            except BlockingIOError:
                return
            except OSError:  # as above
                continue
            client = socket.inet_pton(self._socket.family, str(address[0]).partition("%")[0])
            told = self._told(message, client, functools.partial(_itself, address))
            if told is not None:
                self._send(address, told)
                if self._note is not None:
                    self._note(client, UDP, message, told)

    def _send(self, address: _Address, reply: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            self._socket.sendto(reply, address)
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

    def stand_aside(self) -> None:
        """Get no more datagrams, so that another process at this address gets them; what has come is still answered.

        A socket that is connected, to itself here, is passed over when the kernel chooses among several (socket(7),
        SO_REUSEPORT). Closing it instead would lose what comes between the last look and the close.
        """
        with contextlib.suppress(OSError):
            self._socket.connect(self._socket.getsockname())

    def drain(self) -> None:
        """Answer what has come already."""
        for _ in range(_DRAINED):
            with contextlib.suppress(OSError):
                self._readable()
            if not self._waits():
                return

    def _waits(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Answer what has come already, and stop serving."""
        self._loop.remove_reader(self._socket.fileno())
        self.drain()
        self._socket.close()


def _itself(address: _Address) -> _Address:
    return address


def _nothing(_key: bytes) -> None:
    return None


# Sockets are served one at a time, so those of one family share their slots.
@functools.cache
def _mailbox(family: socket.AddressFamily) -> Mailbox:
    return Mailbox(family, MAX_QUERY, MAX_UDP)


@functools.cache
def _plan(box: Mailbox) -> tuple[tuple[int, int, int, int, int, int], ...]:
    return tuple(
        (slot, box.starts[slot], box.starts[slot] + 2, box.length_at[slot], box.outs[slot], box.size_at[slot])
        for slot in range(SLOTS)
    )
