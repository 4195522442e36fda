"""One TCP connection: pipelined queries, answers as they come, transfers in between.

Sockets are read and written here without the event loop's streams, which would hold a quarter of a megabyte for a
client that sends without reading. What a connection holds is bounded: one read, the replies of one turn, some answers
that came later. Nothing is read from a client that does not take its replies, or whose earlier queries wait for too
many answers.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from dnsserver.message.frames import BadFrame, Frames, framed
from dnsserver.transport.io_slots import Slots
from dnsserver.transport.io_turns import BROKEN, READ, WRITE
from dnsserver.transport.later import Transfer, Wanted

Answer: TypeAlias = Callable[[bytes, bytes], "bytes | Wanted | Transfer | None"]
Defer: TypeAlias = Callable[[Wanted, Callable[[bytes], None]], None]

WRITE_HIGH = 64 * 1024  # octets of replies in one turn, and one reply above it
MOST_UNSENT = 512 * 1024  # octets that the client did not take, with the answers that came later
MOST_WAITING = 64  # queries of one connection that wait for other name servers
_TAKEN = 16 * 1024  # octets that a client must take to earn its time
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


class Server(NamedTuple):
    """What a connection belongs to.

    Attributes:
        slots: those of all sockets.
        answer: one message and its client's packed address to a reply, None for none, what must be waited for, or a
            transfer; must not raise.
        defer: takes what must be waited for, and a callable for its reply, to be called once, now or later.
    """

    slots: Slots
    answer: Answer
    defer: Defer


class Connection:
    """One client's connection; see the module.

    Args:
        opened: connected and non-blocking; closed by this.
        client: packed address.
        server: what it belongs to.
    """

    __slots__ = (
        "_ended", "_eof", "_frames", "_next", "_out", "_queued", "_server", "_shut", "_slots", "_socket", "_streams",
        "_taken", "_transfer", "_waiting", "_whole", "client",
    )  # fmt: skip

    def __init__(self, opened: socket.socket, client: bytes, server: Server) -> None:
        self.client = client
        self._socket: socket.socket | None = opened
        self._server, self._slots = server, server.slots
        self._frames = Frames()
        self._out = bytearray()  # not taken by the kernel yet
        self._taken = 0  # octets of it taken since the last time that earned something
        self._waiting = 0  # queries that others must be asked about
        self._transfer: Iterator[bytes] | None = None
        self._next: Transfer | None = None  # asked for while another one goes on
        self._queued = False  # another turn was asked for
        self._streams = False  # it is the transfer's turn among those of all connections
        self._shut = False  # nothing more is written
        self._ended = False  # no more is read
        self._eof = False  # the client said that it sends no more
        self._whole = False  # there may be whole messages that are not answered

    def begin(self) -> None:
        """Take a slot, or go."""
        if self._slots.enter(self):
            self._watch()
        else:
            self._close()

    # --- as its slot sees it

    @property
    def waits(self) -> bool:
        """It is our turn."""
        return not self._out and (self._waiting > 0 or self._transfer is not None)

    @property
    def owes(self) -> bool:
        """Something that was asked is not answered, or an answer not taken yet."""
        return bool(self._out or self._waiting or self._transfer or self._whole)

    def abort(self) -> None:
        """Close at once, without waiting for the client to read."""
        if self._socket is not None and self._out:
            # The kernel would keep what is not taken for minutes.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def finish(self) -> None:
        """Read no more; close when everything is answered."""
        self._ended = True
        self._soon()

    # --- turns

    def ready(self, events: int, until: float) -> None:
        """Its socket can be read from or written to; go on until this time."""
        if events & BROKEN:
            self.abort()
            return
        if events & WRITE:
            self._flush()
        if events & READ:
            self._read()
        self._go(until)

    def work(self, until: float) -> None:
        """Go on with what was not finished."""
        self._queued = False
        self._go(until)

    def _soon(self) -> None:
        if not self._queued and self._socket is not None:
            self._queued = True
            self._slots.turns.soon(self)

    def _go(self, until: float) -> None:
        self._burst(until)
        if self._streams and not self._out:
            self._pump()
            if not (self._ended or self._whole or self._held_up):
                self._read()  # while a transfer goes on there may be no other time for it
        if not self._out and (self._streams or (self._whole and not self._held_up)):
            self._soon()
        # What has nothing left to answer is closed once no more is read.
        if self._ended and not (self._shut or self._queued or self.owes):
            self._shut_down()
        self._watch()

    def _watch(self) -> None:
        if self._socket is not None:
            busy = self._queued or self._out or self._held_up
            reads = self._shut if self._ended else not busy
            self._slots.turns.watch(self._socket.fileno(), self, READ * reads | WRITE * bool(self._out))

    @property
    def _held_up(self) -> bool:
        return self._waiting >= MOST_WAITING or self._next is not None

    # Closing with unread octets would be a reset, which can overtake our last replies; so the client closes first.
    def _shut_down(self) -> None:
        if self._eof:
            self._close()
        elif self._socket is not None:
            self._shut = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    # --- queries

    def _read(self) -> None:
        if self._socket is None:
            return
        buffer = self._slots.buffer
        try:
            size = self._socket.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if not size:
            self._eof = self._ended = True
            if self._shut:
                self._close()
        elif not self._ended:
            self._frames.feed(buffer[:size])
            self._whole = True

    # Bounded in time and in octets: small queries for large answers must not fill the memory.
    def _burst(self, until: float) -> None:
        replies: list[bytes] = []
        room, answer, client, now = WRITE_HIGH, self._server.answer, self.client, self._slots.now
        while self._whole and room > 0 and not (self._out or self._held_up):
            message = self._take()
            if message is None:
                break
            found = answer(message, client)
            if isinstance(found, bytes):
                replies += (len(found).to_bytes(2), found)
                room -= len(found)
            elif found is not None:
                self._later(found)
            if now() >= until:
                break
        if replies:
            self._slots.earned(self)
            self._send(b"".join(replies))

    def _take(self) -> bytes | None:
        try:
            message = self._frames.take()
        except BadFrame:  # what was asked before is answered, and that is all
            message, self._ended, self._eof = None, True, True
        self._whole = message is not None
        return message

    def _later(self, found: Wanted | Transfer) -> None:
        if isinstance(found, Wanted):
            self._waiting += 1
            self._server.defer(found, self._once())
        elif self._transfer is None:
            self._transfer = found.messages
            self._slots.queue(self)
        else:
            self._next = found

    def _once(self) -> Callable[[bytes], None]:
        sent = False

        def send(reply: bytes) -> None:
            nonlocal sent
            if not sent:
                sent = True
                self._waiting -= 1
                self._slots.earned(self)
                self._send(framed(reply))
                self._soon()

        return send

    # --- transfers

    def transfer(self) -> None:
        """Begin the transfer that waits in line."""
        self._streams = True
        self._soon()

    # One message at a time: queries and other connections have their turn in between.
    def _pump(self) -> None:
        if self._transfer is None:
            return
        try:
            message = next(self._transfer, None)
        except BaseException:
            self.abort()
            raise
        if message is not None:
            if message:  # else there is nothing to send yet
                self._send(framed(message))
            return
        self._transfer, self._streams = None, False
        self._slots.transferred(self)
        after, self._next = self._next, None
        if after is not None:
            self._later(after)

    # --- writing

    def _send(self, octets: bytes) -> None:
        if self._socket is None:
            return
        if not self._out:
            sent = self._sent(octets)
            if sent == len(octets) or self._socket is None:
                return
            self._out += memoryview(octets)[sent:]
        else:
            self._out += octets
        if len(self._out) > MOST_UNSENT:
            self.abort()

    def _sent(self, octets: bytes | bytearray) -> int:
        if self._socket is None:
            return 0
        try:
            sent = self._socket.send(octets)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.abort()
            return 0
        self._taken += sent
        if self._taken >= _TAKEN:
            self._taken = 0
            self._slots.earned(self)
        return sent

    def _flush(self) -> None:
        del self._out[: self._sent(self._out)]
        if not self._out:
            self._slots.earned(self)

    def _close(self) -> None:
        opened, self._socket = self._socket, None
        if opened is None:
            return
        self._slots.turns.forget(opened.fileno())
        opened.close()
        self._slots.leave(self)
        self._transfer = self._next = None
        self._out = bytearray()
