"""A name server that does what it is told: answers, is silent, slow, or lies, over UDP and TCP on one loopback port.

A manner is a function from what came to what goes back: octets are sent, numbers are seconds to wait before the next.
Manners do not share code with what is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple, Self

import dns.flags
import dns.message
import dns.rrset

QR, AA, TC, RA, AD = 0x8000, 0x0400, 0x0200, 0x0080, 0x0020
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"


class Seen(NamedTuple):
    """One query: its octets, the client's address and port, and whether it came over TCP."""

    message: bytes
    client: tuple[str, int]
    tcp: bool

    @property
    def id(self) -> int:
        return int.from_bytes(self.message[:2])

    @property
    def parsed(self) -> dns.message.Message:
        return dns.message.from_wire(self.message)

    @property
    def name(self) -> str:
        """As it was spelled."""
        return self.parsed.question[0].name.to_text()


Manner = Callable[[Seen], Iterable[bytes | float]]


def question_end(message: bytes) -> int:
    """Where the first question of a message ends."""
    at = 12
    while message[at]:
        at += 1 + message[at]
    return at + 5


class Raw(NamedTuple):
    """A record as octets; the owner is the question's name unless given."""

    type: int
    ttl: int
    data: bytes
    owner: bytes = b"\xc0\x0c"
    klass: int = 1

    @property
    def octets(self) -> bytes:
        return self.owner + struct.pack("!HHIH", self.type, self.klass, self.ttl, len(self.data)) + self.data


def reply(
    query: bytes,
    *answer: Raw,
    authority: Iterable[Raw] = (),
    additional: Iterable[bytes] = (OPT,),
    flags: int = QR | RA,
    rcode: int = 0,
) -> bytes:
    """A reply to a query, put together by hand."""
    rest, more = list(authority), list(additional)
    header = query[:2] + struct.pack("!5H", flags | rcode, 1, len(answer), len(rest), len(more))
    records = b"".join(record.octets for record in [*answer, *rest])
    return header + query[12 : question_end(query)] + records + b"".join(more)


def a(ip: str = "192.0.2.1", ttl: int = 300, owner: bytes = b"\xc0\x0c") -> Raw:
    return Raw(1, ttl, socket.inet_aton(ip), owner)


def wire(name: str) -> bytes:
    """A name as octets."""
    return b"".join(bytes((len(part),)) + part.encode() for part in name.rstrip(".").split(".") if part) + b"\x00"


def soa(zone: str, ttl: int = 60, minimum: int = 60) -> Raw:
    return Raw(6, ttl, b"\x00\x00" + struct.pack("!5I", 1, 3600, 600, 86400, minimum), wire(zone))


# --- manners


def good(ip: str = "192.0.2.1", ttl: int = 300) -> Manner:
    """One address for every name."""
    return lambda seen: [reply(seen.message, a(ip, ttl))]


def silent(_: Seen) -> Iterable[bytes | float]:
    return []


def failing(rcode: int, *, opt: bool = True) -> Manner:
    return lambda seen: [reply(seen.message, rcode=rcode, additional=[OPT] if opt else [])]


def slow(seconds: float, then: Manner) -> Manner:
    return lambda seen: [seconds, *then(seen)]


def over_udp(manner: Manner, tcp: Manner) -> Manner:
    """One manner over UDP, another over TCP."""
    return lambda seen: (tcp if seen.tcp else manner)(seen)


def truncated(seen: Seen) -> Iterable[bytes | float]:
    return [reply(seen.message, flags=QR | RA | TC)]


def first(*before: Callable[[Seen], bytes], then: Manner) -> Manner:
    """Some messages before what the manner says."""
    return lambda seen: [*(make(seen) for make in before), *then(seen)]


def changed_id(manner: Manner) -> Manner:
    return lambda seen: [bytes((octets[0] ^ 0xFF, *octets[1:])) for octets in manner(seen) if isinstance(octets, bytes)]


def other_question(name: str, rtype: int = 1, klass: int = 1) -> Callable[[Seen], bytes]:
    """The right id, an answer, but to another question."""

    def make(seen: Seen) -> bytes:
        query = seen.message[:12] + wire(name) + struct.pack("!HH", rtype, klass)
        return reply(query, a("203.0.113.66"))

    return make


def small_letters(manner: Manner) -> Manner:
    """The question comes back in lower case."""

    def lowered(seen: Seen) -> Iterable[bytes | float]:
        end = question_end(seen.message)
        return manner(seen._replace(message=seen.message[:12] + seen.message[12:end].lower() + seen.message[end:]))

    return lowered


def said(*records: str, **how: object) -> Manner:
    """What dnspython makes of records in text: "owner ttl type data"."""

    def make(seen: Seen) -> Iterable[bytes | float]:
        made = dns.message.make_response(seen.parsed, recursion_available=True)
        for record in records:
            owner, ttl, rtype, data = record.split(" ", 3)
            made.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, data))
        made.flags |= dns.flags.Flag(int(str(how.get("flags", 0))))
        return [made.to_wire(max_size=65535)]

    return make


class FakeUpstream:
    """The server.

    Attributes:
        manner: what it does; may be changed at any time.
        seen: the queries that came.
    """

    def __init__(self, manner: Manner, host: str = "127.0.0.1") -> None:
        self.manner, self.host = manner, host
        self.seen: list[Seen] = []
        self.server: tuple[str, int] = (host, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; again at the same port after `stop`."""
        loop = asyncio.get_running_loop()
        for _ in range(20):
            self._udp, _unused = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=self.server)
            self.server = self._udp.get_extra_info("sockname")[:2]
            with contextlib.suppress(OSError):
                self._tcp = await asyncio.start_server(self._serve, *self.server)
                return
            self._udp.close()
            self.server = (self.host, 0)
        raise RuntimeError("no port is free for both UDP and TCP")

    async def stop(self) -> None:
        """Be gone: the host says that nobody listens."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closing is finished by the loop

    def names(self, *, tcp: bool | None = None) -> list[str]:
        """Names that were asked for, in lower case, but probes."""
        names = [one.name.lower() for one in self.seen if tcp is None or one.tcp == tcp]
        return [name for name in names if not name.endswith("pilotfish-loop-probe.")]

    def hear(self, seen: Seen, send: Callable[[bytes], None]) -> None:
        """Answer one query."""
        self.seen.append(seen)
        steps = list(self.manner(seen))
        if all(isinstance(step, bytes) for step in steps):
            for step in steps:
                send(step)  # type: ignore[arg-type]
            return
        task = asyncio.ensure_future(self._slowly(steps, send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _slowly(self, steps: list[bytes | float], send: Callable[[bytes], None]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                send(step)
            else:
                await asyncio.sleep(step)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        client = writer.get_extra_info("peername")[:2]
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                message = await reader.readexactly(length)
                self.hear(Seen(message, client, True), lambda out: writer.write(len(out).to_bytes(2) + out))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            if task is not None and task.cancelling():
                writer.transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, fake: FakeUpstream) -> None:
        self.fake = fake
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        def send(out: bytes) -> None:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.sendto(out, addr)

        self.fake.hear(Seen(data, addr[:2], False), send)


@contextlib.asynccontextmanager
async def upstreams(*manners: Manner) -> AsyncIterator[list[FakeUpstream]]:
    """Several at once."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FakeUpstream(manner)) for manner in manners]
