"""Many datagrams with one system call, both ways: sendmmsg(2) and recvmmsg(2) through ctypes, with arrival times.

The kernel notes when a datagram arrived (SO_TIMESTAMPNS, socket(7)), so it does not matter when it is read. For Linux
on machines with 64 bits, and for IPv4 and IPv6 sockets that are connected.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator, Sequence

ROOM = 2048  # octets for a datagram that is received; more of it is cut
AT_ONCE = 64  # datagrams received by one call
_CONTROL = 64  # octets for ancillary data
_STAMP = 16  # where the time stands in them: behind the header of the one control message, cmsg(3)
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_DONTWAIT = socket.MSG_DONTWAIT
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):  # struct msghdr, sendmsg(2)
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):  # struct mmsghdr, sendmmsg(2)
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_SIZE = ctypes.sizeof(_Message)


class Outgoing:
    """DNS messages that lie ready to be sent; each is sent with the id that it is given at that time.

    Args:
        messages: as they are sent, but for the id.
    """

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._octets = ctypes.create_string_buffer(b"".join(messages))
        base = ctypes.addressof(self._octets)
        self._offsets = [0] * len(messages)
        self._vectors = (_Vector * len(messages))()
        self._messages = (_Message * len(messages))()
        at, vector_at = 0, ctypes.addressof(self._vectors)
        for number, message in enumerate(messages):
            self._offsets[number] = at
            self._vectors[number] = _Vector(base + at, len(message))
            self._messages[number].header.vectors = vector_at + number * ctypes.sizeof(_Vector)
            self._messages[number].header.vector_count = 1
            at += len(message)
        self._first = ctypes.addressof(self._messages)

    def __len__(self) -> int:
        return len(self._offsets)

    def send(self, descriptor: int, start: int, count: int, first_id: int) -> int:
        """Send messages `start` to `start + count - 1` with ids in a row; returns how many the kernel took."""
        for number in range(count):
            struct.pack_into("!H", self._octets, self._offsets[start + number], first_id + number & 0xFFFF)
        sent = int(_LIBC.sendmmsg(descriptor, ctypes.c_void_p(self._first + start * _SIZE), count, _DONTWAIT))
        return max(sent, 0)


class Incoming:
    """Room for what is received."""

    def __init__(self) -> None:
        self._octets = ctypes.create_string_buffer(ROOM * AT_ONCE)
        self._control = ctypes.create_string_buffer(_CONTROL * AT_ONCE)
        self._vectors = (_Vector * AT_ONCE)()
        self._messages = (_Message * AT_ONCE)()
        for number in range(AT_ONCE):
            self._vectors[number] = _Vector(ctypes.addressof(self._octets) + number * ROOM, ROOM)
            message = self._messages[number].header
            message.vectors = ctypes.addressof(self._vectors) + number * ctypes.sizeof(_Vector)
            message.vector_count = 1
            message.control = ctypes.addressof(self._control) + number * _CONTROL
            message.control_length = _CONTROL
        self._fresh = bytes(self._messages)  # the kernel writes lengths into them

    def receive(self, descriptor: int) -> Iterator[tuple[int, int, int]]:
        """Everything that is there now: id, response code, and when it arrived (UNIX time, nanoseconds)."""
        while True:
            ctypes.memmove(self._messages, self._fresh, len(self._fresh))
            found = int(_LIBC.recvmmsg(descriptor, self._messages, AT_ONCE, _DONTWAIT, None))
            for number in range(found):
                message_id, flags = struct.unpack_from("!HH", self._octets, number * ROOM)
                seconds, nanoseconds = struct.unpack_from("qq", self._control, number * _CONTROL + _STAMP)
                yield message_id, flags & 0xF, seconds * 1_000_000_000 + nanoseconds
            if found < AT_ONCE:
                return


def client(address: tuple[str, int]) -> socket.socket:
    """A socket that is connected to a server, and whose datagrams carry the time at which they arrived."""
    opened = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.connect(address)
    return opened
