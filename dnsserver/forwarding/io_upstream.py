"""One message to a name server and the reply to it: over UDP from a socket of its own, or over a TCP connection.

A datagram goes out from a port chosen by chance, on a socket that is connected to the server, and that is closed when
the reply is there: a forger has to guess port, id and letters (RFC 5452 §9). What is not the reply does not end the
wait; too much of it does.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dnsserver.forwarding import upstream
from dnsserver.forwarding.lookup import Event, Try
from dnsserver.forwarding.upstream import BadReply, Said, Wrong
from dnsserver.message.frames import framed
from dnsserver.outside import Asked

MAX_WRONG = 30  # messages that are not the reply; then somebody is guessing
_EVENTS = 64  # sockets looked at before other work of the loop has its turn
_BURST = 16  # datagrams read before other work of the loop has its turn
_MOST = 4096  # octets of a datagram; we ask for 1232 at most
_BIND_TRIES = 8
_MAX_TCP_MESSAGES = 4
_PORTS = (32768, 60999)  # Linux's own default
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_UNREACHABLE = frozenset(
    {
        errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN,
        errno.EPIPE, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL,
    }
)  # fmt: skip


def local_ports() -> tuple[int, int]:
    """The first and the last port that outgoing sockets may have on this host (ip(7))."""
    try:
        first, last = _PORT_RANGE.read_text(encoding="ascii").split()
        return int(first), int(last)
    except (OSError, ValueError):
        return _PORTS


def open_files() -> int:
    """How many files this process may have open (getrlimit(2))."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if soft == resource.RLIM_INFINITY else soft


class Question(NamedTuple):
    """What is sent, and what its reply must repeat.

    Attributes:
        port: to send from, where it is free.
    """

    asked: Asked
    step: Try
    id: int
    section: bytes
    message: bytes
    port: int

    def read(self, reply: bytes) -> Said:
        """Read its reply; raises BadReply."""
        return upstream.read(reply, self.id, self.section, self.asked, exact=self.step.exact, tcp=self.step.tcp)


def made(asked: Asked, step: Try, ports: tuple[int, int], *, stub: bool) -> Question:
    """A question with all that is left to chance in it: id, port and letters."""
    chance = os.urandom(6 + len(asked.name))
    name = upstream.spelled(asked.name, chance[6:]) if step.exact else asked.name
    message_id = int.from_bytes(chance[:2])
    section = upstream.question(name, asked.type)
    message = upstream.query(message_id, asked, section, edns=step.edns, stub=stub)
    first, last = ports
    return Question(asked, step, message_id, section, message, first + int.from_bytes(chance[2:6]) % (last - first + 1))


def event_of(error: OSError) -> Event:
    """Whether the server cannot be reached, or nothing can be sent from here."""
    return Event.UNREACHABLE if error.errno in _UNREACHABLE else Event.BROKEN


class Watch:
    """Sockets that wait for a datagram. Watching each with the loop itself would cost three times as much."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readable: dict[int, Callable[[], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, opened: socket.socket, readable: Callable[[], None]) -> None:
        """Call `readable` when there is something to read."""
        self._epoll.register(opened.fileno(), select.EPOLLIN)
        self._readable[opened.fileno()] = readable

    def remove(self, opened: socket.socket) -> None:
        """Watch it no longer; it is closed next, and so leaves the kernel's list."""
        self._readable.pop(opened.fileno(), None)

    def _ready(self) -> None:
        for file, _ in self._epoll.poll(0, _EVENTS):
            readable = self._readable.get(file)
            if readable is not None:
                readable()

    def close(self) -> None:
        """Watch nothing."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()


class Exchange:
    """Waits for the reply to one datagram.

    Args:
        watch: says when there is something.
        question: already made; sent by `start`.
        tell: called once with what came of it, unless `close` came first.
        wrong: called for each message that is not the reply.
    """

    __slots__ = ("_loop", "_question", "_socket", "_tell", "_timer", "_watch", "_wrong", "_wrongs")

    def __init__(
        self, watch: Watch, question: Question, tell: Callable[[Said | Event], None], wrong: Callable[[Wrong], None]
    ) -> None:
        self._watch = watch
        self._question, self._wrong = question, wrong
        self._tell: Callable[[Said | Event], None] | None = tell
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wrongs = 0

    def start(self) -> Event | None:
        """Send; an event when that fails at once."""
        try:
            self._socket = opened = _connected(self._question.step.server, self._question.port)
            opened.send(self._question.message)
            self._watch.add(opened, self._readable)
        except OSError as error:
            self.close()
            return event_of(error)
        self._timer = self._loop.call_later(self._question.step.timeout_s, self._end, Event.SILENT)
        return None

    def _readable(self) -> None:
        for _ in range(_BURST):
            if self._socket is None:
                return
            try:
                message, source = self._socket.recvfrom(_MOST)
                self._received(message, source)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(event_of(error))

    # Between its opening and its connecting a socket takes datagrams from anywhere.
    def _received(self, message: bytes, source: object) -> None:
        opened = self._socket
        if opened is None:
            return
        try:
            said = self._question.read(message) if source == opened.getpeername() else None
        except BadReply as error:
            self._no_reply(error.wrong)
        else:
            self._end(said) if said is not None else self._no_reply(Wrong.FOREIGN)

    def _no_reply(self, wrong: Wrong) -> None:
        self._wrong(wrong)
        self._wrongs += 1
        if wrong is Wrong.SPELLING:
            self._end(Event.SPELLING)
        elif self._wrongs >= MAX_WRONG:
            self._end(Event.FLOODED)

    def _end(self, what: Said | Event) -> None:
        tell = self._tell
        self.close()
        if tell is not None:
            tell(what)

    # Whoever is told mostly holds this exchange: without the way back both are freed at once, not by the collector.
    def close(self) -> None:
        """Wait no longer."""
        self._tell = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._watch.remove(self._socket)
            self._socket.close()
            self._socket = None


def _unconnected(server: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _connected(server: tuple[str, int], port: int) -> socket.socket:
    opened = _unconnected(server, socket.SOCK_DGRAM)
    try:
        _bind(opened, port)
        opened.connect(server)
    except BaseException:
        opened.close()
        raise
    return opened


# A port that is taken is left to the one that has it: no two questions are out with the same port.
def _bind(opened: socket.socket, port: int) -> None:
    for _ in range(_BIND_TRIES):
        try:
            opened.bind(("", port))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            first, last = local_ports()
            port = first + int.from_bytes(os.urandom(4)) % (last - first + 1)
        else:
            return


# Sockets, not asyncio's streams: a stream's transport is freed by the collector only.
async def over_tcp(question: Question, wrong: Callable[[Wrong], None]) -> Said | Event:
    """Ask over a connection of its own; never raises but for cancellation."""
    loop, server = asyncio.get_running_loop(), question.step.server
    try:
        with _unconnected(server, socket.SOCK_STREAM) as opened:
            async with asyncio.timeout(question.step.timeout_s):
                await loop.sock_connect(opened, server)
                await loop.sock_sendall(opened, framed(question.message))
                return await _reply(opened, question, wrong)
    except TimeoutError:
        return Event.SILENT
    except OSError as error:
        return event_of(error)


async def _reply(opened: socket.socket, question: Question, wrong: Callable[[Wrong], None]) -> Said | Event:
    for _ in range(_MAX_TCP_MESSAGES):
        length = int.from_bytes(await _exactly(opened, 2))
        try:
            return question.read(await _exactly(opened, length))
        except BadReply as error:
            wrong(error.wrong)
    return Event.FLOODED


async def _exactly(opened: socket.socket, size: int) -> bytes:
    found, loop = bytearray(), asyncio.get_running_loop()
    while len(found) < size:
        more = await loop.sock_recv(opened, size - len(found))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "closed in the middle of a reply")
        found += more
    return bytes(found)
