"""The few DNS messages that a check needs: one question, and what its answer says (RFC 1035 §4).

Knows the message format; knows no sockets. An answer comes from outside: reading one never raises anything but
`BadAnswer`, whatever it holds.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

TYPES = {"A": 1, "NS": 2, "SOA": 6, "AAAA": 28}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
LARGEST = 4096  # octets of an answer that are read
MAX_POINTERS = 32  # in one name; each must also point backwards
MAX_NAME = 255  # RFC 1035 §3.1


class BadAnswer(ValueError):
    """Not an answer to the question that was asked, or not a DNS message at all."""


class Answer(NamedTuple):
    """What an answer says.

    Attributes:
        rcode: `NOERROR`, `REFUSED`, ...
        authoritative: AA.
        recursion: RA.
        records: of the asked type, at any owner: addresses, or for SOA the name of the primary server.
    """

    rcode: str
    authoritative: bool
    recursion: bool
    records: tuple[str, ...]


def ask(number: int, name: str, kind: str) -> bytes:
    """A question with RD set.

    Args:
        number: the message's id, not to be guessed.
        name: without or with its last dot; `.` is the root.
        kind: of `TYPES`.
    """
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + _wire(name) + struct.pack(">2H", TYPES[kind], 1)


def read(data: bytes, number: int, name: str, kind: str) -> Answer:
    """Read the answer to `ask(number, name, kind)`.

    Raises:
        BadAnswer: it is none.
    """
    try:
        return _read(data[:LARGEST], number, name, kind)
    except (struct.error, IndexError, ValueError) as error:
        raise BadAnswer(str(error)) from error


def _read(data: bytes, number: int, name: str, kind: str) -> Answer:
    found, flags, questions, answers = struct.unpack_from(">4H", data)
    if found != number or not flags & 0x8000 or questions != 1:
        raise BadAnswer("no answer to what was asked")
    asked, at = _name(data, 12)
    if asked != name.rstrip(".").lower() or struct.unpack_from(">2H", data, at) != (TYPES[kind], 1):
        raise BadAnswer("an answer to another question")
    records, at = [], at + 4
    # A message cut short (TC) has no records to be read; its flags are what counts then.
    for _ in range(0 if flags & 0x0200 else answers):
        _, at = _name(data, at)
        of, _, _, length = struct.unpack_from(">2HIH", data, at)
        at += 10
        if at + length > len(data):
            raise BadAnswer("a record is cut")
        if of == TYPES[kind]:
            records.append(_text(data, at, length, kind))
        at += length
    rcode = RCODES.get(flags & 15, f"RCODE {flags & 15}")
    return Answer(rcode, bool(flags & 0x0400), bool(flags & 0x0080), tuple(records))


def _text(data: bytes, at: int, length: int, kind: str) -> str:
    if kind in {"A", "AAAA"}:
        return str(ipaddress.ip_address(data[at : at + length]))
    return _name(data, at)[0] or "."


def _wire(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(wire) > MAX_NAME or any(len(label) > 63 for label in labels):
        raise ValueError(f"{name!r} is no DNS name")
    return wire


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, in lower case without its last dot, and the offset behind it."""
    labels: list[bytes] = []
    behind, size = 0, 1
    lowest = at
    for _ in range(MAX_NAME + MAX_POINTERS):
        length = data[at]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[at + 1]
            behind = behind or at + 2
            if target >= lowest:  # only backwards: so it ends
                raise BadAnswer("a name points forward")
            at = lowest = target
        elif length:
            size += length + 1
            if length > 63 or size > MAX_NAME:
                raise BadAnswer("a name is too long")
            labels.append(data[at + 1 : at + 1 + length])
            at += length + 1
        else:
            return b".".join(labels).decode("latin-1").lower(), behind or at + 1
    raise BadAnswer("a name does not end")
