"""A TCP edge without a DNS server behind it: the test decides what each message gets, and when."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from dnsserver.message import wire
from dnsserver.message.frames import framed
from dnsserver.transport.io_slots import Slots
from dnsserver.transport.io_tcp import TcpEdge
from dnsserver.transport.later import Transfer, Wanted

DEADLINE_S = 15.0
QUESTION = b"\x03web\x04test\x00\x00\x01\x00\x01"


def query(number: int) -> bytes:
    """A query whose id is a number."""
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + QUESTION


def stream(*numbers: int) -> bytes:
    """Queries as they stand in a stream."""
    return b"".join(framed(query(number)) for number in numbers)


def number_of(message: bytes) -> int:
    return int.from_bytes(message[:2])


class Edge:
    """A listening TCP edge.

    Messages are answered with themselves, unless their number is in `waits` (kept in `waiting` until `give`), in
    `transfers`, or in `silent`.
    """

    def __init__(self, most: int = 20, idle_s: float = 60.0, host: str = "127.0.0.1") -> None:
        self.slots = Slots(most, idle_s)
        self.asked: list[int] = []
        self.clients: list[bytes] = []
        self.waits: set[int] | range = set()
        self.silent: set[int] | range = set()
        self.transfers: dict[int, Callable[[], Transfer]] = {}
        self.waiting: dict[int, Callable[[bytes], None]] = {}
        self.padding = b""
        self._clients: list[Client] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind((host, 0))
        opened.listen(512)
        self.port = opened.getsockname()[1]
        self.edge = TcpEdge(opened, self.slots, self._answer, self._defer)
        self.sweeping = asyncio.create_task(self.slots.sweep())

    async def __aenter__(self) -> Edge:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.sweeping.cancel()
        self.edge.close()
        self.slots.close()

    def _answer(self, message: bytes, client: bytes) -> bytes | Wanted | Transfer | None:
        number = number_of(message)
        self.asked.append(number)
        self.clients.append(client)
        if number in self.silent:
            return None
        if number in self.waits:
            return Wanted(message[:2], wire.read(query(number)), client, True, (), ())
        if number in self.transfers:
            return self.transfers[number]()
        return message + self.padding

    def _defer(self, wanted: Wanted, send: Callable[[bytes], None]) -> None:
        self.waiting[number_of(wanted.id)] = send

    def give(self, *numbers: int) -> None:
        """Answer queries that wait."""
        for number in numbers:
            self.waiting.pop(number)(query(number))

    async def client(self, local: str = "127.0.0.1", **options: int) -> Client:
        """Connect from an address."""
        made = await Client.connect(("127.0.0.1", self.port), local, **options)
        self._clients.append(made)
        return made

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        await until(true, what)


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fail with its name when it does not come true in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while not true():
                await asyncio.sleep(0.005)
    assert true(), what


class Client:
    """A connection to it."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket, self._loop, self._read = opened, asyncio.get_running_loop(), b""

    @classmethod
    async def connect(cls, at: tuple[str, int], local: str = "127.0.0.1", *, receive_buffer: int = 0) -> Client:
        opened = socket.socket()
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.setblocking(False)
        try:
            opened.bind((local, 0))
            await asyncio.get_running_loop().sock_connect(opened, at)
        except BaseException:
            opened.close()
            raise
        return cls(opened)

    async def send(self, octets: bytes) -> None:
        await self._loop.sock_sendall(self.socket, octets)

    async def ask(self, *numbers: int) -> None:
        await self.send(stream(*numbers))

    async def message(self) -> bytes:
        """The next message; b"" at the end of the connection, however it ends."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self._read) < 2 or len(self._read) < 2 + int.from_bytes(self._read[:2]):
                try:
                    came = await self._loop.sock_recv(self.socket, 65536)
                except ConnectionError:
                    came = b""
                if not came:
                    return b""
                self._read += came
        end = 2 + int.from_bytes(self._read[:2])
        found, self._read = self._read[2:end], self._read[end:]
        return found

    async def numbers(self, count: int) -> list[int]:
        """The numbers of the next messages."""
        return [number_of(await self.message()) for _ in range(count)]

    async def ended(self) -> bool:
        """Wait for the end; True when nothing came before it."""
        return await self.message() == b""

    def end(self) -> None:
        """Send no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()
