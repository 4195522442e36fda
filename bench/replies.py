"""What a reply to one of our questions says, as far as benches judge it. Pure; reads octets, trusts none."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

A, AAAA, OPT = 1, 28, 41
EDE = 15  # option code, RFC 8914
STALE, STALE_NXDOMAIN = 3, 19
MARKS = frozenset({STALE, STALE_NXDOMAIN})


class Said(NamedTuple):
    """A reply.

    Attributes:
        rcode: response code.
        addresses: of all A and AAAA records in the answer section.
        ttl: the highest of answer and authority; 0 without records.
        marked: whether it says that it is stale (EDE 3 or 19).
        truncated: the TC flag.
    """

    rcode: int
    addresses: frozenset[str]
    ttl: int
    marked: bool
    truncated: bool


def read(reply: bytes) -> Said:
    """Read a reply with its id.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        flags, questions, *counts = struct.unpack_from("!2x5H", reply)
        at = 12
        for _ in range(questions):
            at = _past_name(reply, at) + 4
        return _said(flags, list(_records(reply, at, counts)), counts[0], counts[0] + counts[1])
    except (struct.error, IndexError) as error:
        raise ValueError("it ends too early") from error


def _said(flags: int, records: list[tuple[int, int, bytes]], answers: int, no_additional: int) -> Said:
    addresses = frozenset(str(ipaddress.ip_address(data)) for kind, _, data in records[:answers] if kind in {A, AAAA})
    ttl = max((ttl for _, ttl, _ in records[:no_additional]), default=0)
    marked = any(kind == OPT and _ede(data) in MARKS for kind, _, data in records[no_additional:])
    return Said(flags & 15, addresses, ttl, marked, bool(flags & 0x0200))


def _records(reply: bytes, at: int, counts: list[int]) -> Iterator[tuple[int, int, bytes]]:
    for _ in range(sum(counts)):
        at = _past_name(reply, at)
        kind, ttl, size = struct.unpack_from("!H2xIH", reply, at)
        at += 10 + size
        yield kind, ttl, reply[at - size : at]


def _past_name(reply: bytes, at: int) -> int:
    while size := reply[at]:
        if size >= 0xC0:
            return at + 2
        at += 1 + size
    return at + 1


def _ede(options: bytes) -> int | None:
    at = 0
    while at < len(options):
        code, size = struct.unpack_from("!2H", options, at)
        if code == EDE:
            return int.from_bytes(options[at + 4 : at + 6], "big")
        at += 4 + size
    return None
