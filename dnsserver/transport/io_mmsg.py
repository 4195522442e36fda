"""Many datagrams in one system call: recvmmsg(2) and sendmmsg(2), through ctypes.

A mailbox has one slot for each datagram of a batch. Slot, address and headers are laid out once; the kernel fills
them, and an answer goes back from the slot that its question came in: its id is sent from where it was received, so
that only what follows the id is written. docs/decisions/0013 has the figures.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
from collections.abc import Sequence

SLOTS = 64  # datagrams of one batch: more gain nothing, and hold up what else the loop has to do
_NAME = 32  # octets kept for one address; a sockaddr_in6 has 28
_MSG_DONTWAIT = socket.MSG_DONTWAIT


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint32))


# Calls that never wait keep the interpreter's lock: giving it up each time may cost a whole turn of another thread.
_LIBC = ctypes.PyDLL(None, use_errno=True)


def available() -> bool:
    """True where the C library has both calls."""
    return hasattr(_LIBC, "recvmmsg") and hasattr(_LIBC, "sendmmsg")


class Mailbox:
    """Slots for a batch of datagrams of one address family.

    Args:
        family: AF_INET or AF_INET6.
        largest_in: octets of the largest datagram that is read whole; a longer one is cut one octet after it.
        largest_out: octets of the largest answer, without its id.

    Attributes:
        inbox: where datagrams are; that of slot i begins at `starts[i]` and has `lengths[length_at[i]]` octets.
        outbox: where answers without id go; that of slot i begins at `outs[i]`, its size goes to `sizes[size_at[i]]`.
        names: the clients' addresses; `client(i)` and `address(i)` read them.
    """

    def __init__(self, family: socket.AddressFamily, largest_in: int, largest_out: int) -> None:
        self._family = family
        self.inbox = mmap.mmap(-1, SLOTS * (largest_in + 1))
        self.outbox = mmap.mmap(-1, SLOTS * largest_out)
        self.names = mmap.mmap(-1, SLOTS * _NAME)
        self._received, self._sent = (_Mmsghdr * SLOTS)(), (_Mmsghdr * SLOTS)()
        self._pieces_in, self._pieces_out = (_Iovec * SLOTS)(), (_Iovec * (2 * SLOTS))()
        self.starts = tuple(slot * (largest_in + 1) for slot in range(SLOTS))
        self.outs = tuple(slot * largest_out for slot in range(SLOTS))
        self._lay_out(largest_in + 1)
        self.lengths = memoryview(self._received).cast("B").cast("I")
        self.sizes = memoryview(self._pieces_out).cast("B").cast("Q" if ctypes.sizeof(ctypes.c_size_t) == 8 else "I")
        header, piece = ctypes.sizeof(_Mmsghdr), ctypes.sizeof(_Iovec)
        self.length_at = tuple((slot * header + _Mmsghdr.len.offset) // 4 for slot in range(SLOTS))
        self.size_at = tuple(
            ((2 * slot + 1) * piece + _Iovec.len.offset) // self.sizes.itemsize for slot in range(SLOTS)
        )
        self._batch = ctypes.c_uint(SLOTS)
        self._dont_wait = ctypes.c_int(_MSG_DONTWAIT)
        self._head = ctypes.c_void_p(ctypes.addressof(self._received))
        self._sent_at = ctypes.addressof(self._sent)
        self._few = (_Mmsghdr * SLOTS)()  # headers of those that are sent when not all are
        self._few_at = ctypes.addressof(self._few)
        self._sent_octets, self._few_octets = (memoryview(each).cast("B") for each in (self._sent, self._few))
        where = slice(4, 8) if family == socket.AF_INET else slice(8, 24)  # after family and port, and the flow label
        self._ips = tuple(slice(slot * _NAME + where.start, slot * _NAME + where.stop) for slot in range(SLOTS))

    def _lay_out(self, room: int) -> None:
        inbox, outbox, names = (
            ctypes.addressof(ctypes.c_char.from_buffer(area)) for area in (self.inbox, self.outbox, self.names)
        )
        size = 16 if self._family == socket.AF_INET else 28  # of a sockaddr_in, a sockaddr_in6
        for slot in range(SLOTS):
            start, name = inbox + self.starts[slot], names + slot * _NAME
            piece = self._pieces_in[slot]
            piece.base, piece.len = start, room
            self._received[slot].hdr = _Msghdr(name=name, namelen=_NAME, iov=ctypes.pointer(piece), iovlen=1)
            number, rest = self._pieces_out[2 * slot], self._pieces_out[2 * slot + 1]
            number.base, number.len = start, 2
            rest.base, rest.len = outbox + self.outs[slot], 0
            self._sent[slot].hdr = _Msghdr(name=name, namelen=size, iov=ctypes.pointer(number), iovlen=2)

    def receive(self, handle: ctypes.c_int) -> int:
        """Fill slots from a socket without waiting; returns how many, 0 when there was nothing.

        Raises:
            OSError: what an earlier answer met on its way (ICMP), or the socket is closed.
        """
        count: int = _LIBC.recvmmsg(handle, self._head, self._batch, self._dont_wait, None)
        if count >= 0:
            return count
        number = ctypes.get_errno()
        if number in {11, 4}:  # EAGAIN, EINTR
            return 0
        raise OSError(number, os.strerror(number))

    def send(self, handle: ctypes.c_int, first: int, last: int) -> int:
        """Send the answers in the slots from `first` up to `last`; returns how many the kernel did not take."""
        return self._send(handle, self._sent_at, first, last)

    def _send(self, handle: ctypes.c_int, headers: int, first: int, last: int) -> int:
        unsent, header = 0, ctypes.sizeof(_Mmsghdr)
        while first < last:
            at = ctypes.c_void_p(headers + first * header)
            count: int = _LIBC.sendmmsg(handle, at, ctypes.c_uint(last - first), self._dont_wait)
            if count <= 0:  # this one cannot be sent: no room, no route, a forged source; the others may
                unsent, count = unsent + 1, 1
            first += count
        return unsent

    def send_some(self, handle: ctypes.c_int, slots: Sequence[int]) -> int:
        """Send the answers in some of the slots; returns how many the kernel did not take."""
        header = ctypes.sizeof(_Mmsghdr)
        for place, slot in enumerate(slots):
            self._few_octets[place * header : (place + 1) * header] = self._sent_octets[
                slot * header : (slot + 1) * header
            ]
        return self._send(handle, self._few_at, 0, len(slots))

    def client(self, slot: int) -> bytes:
        """The octets of the address that a datagram came from: 4 or 16."""
        return self.names[self._ips[slot]]

    def address(self, slot: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address that a datagram came from, as sockets take it."""
        name = self.names[slot * _NAME : (slot + 1) * _NAME]
        ip, port = socket.inet_ntop(self._family, self.client(slot)), int.from_bytes(name[2:4])
        if self._family == socket.AF_INET:
            return ip, port
        return ip, port, int.from_bytes(name[4:8]), int.from_bytes(name[24:28], "little")

    def message(self, slot: int) -> bytes:
        """The datagram in a slot."""
        start = self.starts[slot]
        return self.inbox[start : start + self.lengths[self.length_at[slot]]]
