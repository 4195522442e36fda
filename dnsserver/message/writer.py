"""DNS messages as they go: answers to octets (RFC 1035 §4, RFC 6891). `wire` is the way there.

Pure. What `write` returns is at most `limit` octets with the id, and has TC set if a record of the answer was left out.
Bodies are without their id, so that all who ask the same can have the same.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import NamedTuple

from dnsserver.message.rr import ADDRESSES, COMPRESSIBLE, Record, Type
from dnsserver.message.wire import (
    AA,
    AD,
    CD,
    CLASS_IN,
    DO,
    HEADER,
    HEADER_LAYOUT,
    MAX_PLAIN_UDP,
    MAX_UDP,
    OPCODE_MASK,
    OPT_LAYOUT,
    OPT_SIZE,
    OPT_START,
    OPTION_LAYOUT,
    QR,
    RA,
    RD,
    RECORD_LAYOUT,
    TC,
    Edns,
    Malformed,
    Query,
    Rcode,
    Reply,
    head,
    read,
)

MAX_TURNS = 16  # a client that takes the first address reaches this many in turn
MAX_TURNED = 16384  # octets of one answer in all its orders
EDE_SIZE = 6  # octets of an extended error without text
_EDE_OPTION = 15  # RFC 8914 §2
_POINTERS_END = 0x4000  # a pointer has 14 bits; RFC 1035 §4.1.4


class Written(NamedTuple):
    """A reply as octets, without its id.

    Attributes:
        body: the message from its third octet on.
        runs: parts of the body that hold records of one address RRset, all of one size: (start, end, size of one). They
            may be put in another order without touching anything else.
        authority: where in the body the authority section begins; 0 when the answer was cut before it.
        opt: octets of the OPT record at its end; 0 without one.
        ttls: where in the body the TTLs of records stand.
        apart: nothing but owners in the answer points into the question, so that another spelling of it changes no
            other name.
    """

    body: bytes
    runs: tuple[tuple[int, int, int], ...]
    authority: int
    opt: int
    ttls: tuple[int, ...]
    apart: bool = False


class _Writer:
    """A message under construction. Offsets are those of the whole message, id included."""

    def __init__(self, question: bytes, klass: int) -> None:
        self.out = bytearray(HEADER) + question
        self.ttls: list[int] = []
        self.apart = True
        self._behind = len(self.out)  # where the question ends
        self._class = klass or CLASS_IN
        self._seen: dict[bytes, int] = {}
        if question:
            self._remember(question[:-4], HEADER)

    def _remember(self, name: bytes, at: int) -> None:
        while name[0] and at < _POINTERS_END:
            self._seen.setdefault(name, at)
            step = 1 + name[0]
            name, at = name[step:], at + step

    def _name(self, name: bytes, *, compress: bool, asked: bool = False) -> None:
        if not compress:
            self._remember(name, len(self.out))
            self.out += name
            return
        rest, start, seen = name, len(self.out), self._seen
        while rest[0] and rest not in seen:
            if start < _POINTERS_END:
                seen[rest] = start
            step = 1 + rest[0]
            rest, start = rest[step:], start + step
        self.out += name[: len(name) - len(rest)]
        if rest[0]:
            self.apart = self.apart and ((asked and seen[rest] == HEADER) or seen[rest] >= self._behind)
            rest = (0xC000 | seen[rest]).to_bytes(2)
        self.out += rest

    def record(self, record: Record, *, answers: bool = False) -> None:
        owner, rtype, ttl, data = record
        self._name(owner, compress=True, asked=answers)
        self.out += RECORD_LAYOUT.pack(rtype, self._class, ttl, 0)
        start = len(self.out)
        self.ttls.append(start - 6)
        self.out += data.head
        for name in data.names:
            self._name(name, compress=rtype in COMPRESSIBLE)
        self.out += data.tail
        struct.pack_into("!H", self.out, start - 2, len(self.out) - start)

    def whole_sets(self, records: Iterable[Record], room: int) -> int:
        """Write records as long as whole RRsets fit; returns how many."""
        count = kept = 0
        mark, current = len(self.out), None
        for record in records:
            if record[:2] != current:
                mark, kept, current = len(self.out), count, record[:2]
            self.record(record)
            count += 1
            if len(self.out) > room:
                self.cut(mark)
                return kept
        return count

    def cut(self, mark: int) -> None:
        """Take back what was written from an offset on."""
        del self.out[mark:]
        while self.ttls and self.ttls[-1] >= mark:
            self.ttls.pop()


def write(query: Query, reply: Reply, limit: int) -> Written:
    """Write a reply.

    Args:
        query: what it answers; its question is repeated octet by octet, records are of its class.
        reply: what to say.
        limit: most octets, id included: udp_limit or MAX_TCP.

    Source: RFC 1035 §4.1; RFC 2181 §9 (TC only for what is needed); RFC 6891 §6.1.1 (OPT for OPT).
    """
    writer = _Writer(query.question, query.klass)
    opt = _opt(query.edns, reply) if query.edns is not None else b""
    room = limit - len(opt)
    runs, answers, cut = _answers(writer, reply, room)
    authority, authorities, additionals = len(writer.out), 0, 0
    if not cut:
        authorities = writer.whole_sets(reply.authority, room)
        cut = authorities < len(reply.authority)
    if not cut:
        additionals = writer.whole_sets(reply.additional, room)
    counts = (1 if query.question else 0, answers, authorities, additionals + bool(opt))
    HEADER_LAYOUT.pack_into(writer.out, 0, 0, _flags(query, reply) | TC * cut, *counts)
    ttls = tuple(at - 2 for at in writer.ttls)
    return Written(bytes(writer.out[2:]) + opt, runs, authority - 2 if authorities else 0, len(opt), ttls, writer.apart)


def _flags(query: Query, reply: Reply) -> int:
    flags = QR | (query.flags & (RD | OPCODE_MASK)) | AA * reply.authoritative | (reply.rcode & 0xF)
    if reply.recursion:
        flags |= RA
        if not reply.authoritative:  # as a resolver: RFC 4035 §3.2.2
            flags |= query.flags & CD
    # Said to those who asked for it: RFC 6840 §5.7.
    asked = query.flags & AD or (query.edns is not None and query.edns.do)
    return flags | (AD if reply.authentic and asked else 0)


def _answers(writer: _Writer, reply: Reply, room: int) -> tuple[tuple[tuple[int, int, int], ...], int, bool]:
    ends: list[tuple[Record, int, int]] = []
    for record in reply.answer:
        start = len(writer.out)
        writer.record(record, answers=True)
        if len(writer.out) > room:
            writer.cut(start)
            break
        ends.append((record, start, len(writer.out)))
    return _runs(ends, reply.fence), len(ends), len(ends) < len(reply.answer)


def _runs(written: Sequence[tuple[Record, int, int]], fence: int) -> tuple[tuple[int, int, int], ...]:
    runs: list[tuple[int, int, int]] = []
    current: tuple[bytes, int, int] | None = None
    for number, (record, start, end) in enumerate(written):
        kind = (record.owner, record.type, end - start)
        if record.type in ADDRESSES and kind == current and not 0 < number == fence:
            runs[-1] = (runs[-1][0], end - 2, end - start)
        elif record.type in ADDRESSES:
            runs.append((start - 2, end - 2, end - start))
        current = kind
    # One record alone has no order; one whose owner is written out must stay first, later ones point into it.
    return tuple(run for run in runs if run[1] - run[0] > run[2])


def _opt(edns: Edns, reply: Reply) -> bytes:
    options = b"" if reply.ede is None else OPTION_LAYOUT.pack(_EDE_OPTION, 2) + struct.pack("!H", reply.ede)
    flags = DO if edns.do else 0
    return OPT_LAYOUT.pack(0, Type.OPT, MAX_UDP, reply.rcode >> 4, 0, flags, len(options)) + options


def with_options(body: bytes, options: bytes) -> bytes:
    """A finished body that ends in an OPT record of ours, with more EDNS options."""
    at = len(body) - opt_size(body) + OPT_SIZE
    length = len(body) - at + len(options)
    return b"".join((body[: at - 2], length.to_bytes(2), body[at:], options))


def opt_size(body: bytes) -> int:
    """Octets of the OPT record that a finished body ends in: it has no option, or an extended error."""
    return OPT_SIZE if body[-OPT_SIZE : -OPT_SIZE + 3] == OPT_START else OPT_SIZE + EDE_SIZE


def turned(written: Written, by: int) -> bytes:
    """The body with each run turned by `by` records, so that every address comes first in its turn."""
    body = written.body
    for start, end, size in written.runs:
        middle = start + (by * size) % (end - start)
        body = body[:start] + body[middle:end] + body[start:middle] + body[end:]
    return body


def turns(written: Written, *, turning: bool = True) -> Callable[[], bytes]:
    """The body in one order after the other, for ever; see `orders`."""
    return cycle([turned(written, by) for by in range(orders(written, turning=turning))]).__next__


def orders(written: Written, *, turning: bool = True) -> int:
    """In how many orders a body is given: a large one in few."""
    counts = [(end - start) // size for start, end, size in written.runs]
    room = max(1, MAX_TURNED // len(written.body))
    return min(max(counts, default=1), MAX_TURNS, room) if turning else 1


def respelled(body: bytes, question: bytes) -> bytes:
    """A body that is `apart`, with the question as a client spelled it: owners in the answers point there."""
    return body[: HEADER - 2] + question + body[HEADER - 2 + len(question) :]


def error(message: bytes, rcode: Rcode) -> bytes:
    """A reply to a message that is not answered: its header alone (RFC 8906 §8.1.4), id included.

    Where the message could be read, and has an OPT record, so has the reply (RFC 6891 §6.1.1).
    """
    asked = head(message)
    opt = b""
    if asked.questions <= 1 and not asked.answers and not asked.authorities:
        with contextlib.suppress(Malformed):
            edns = read(message).edns
            opt = b"" if edns is None else _opt(edns, Reply(rcode))
    return HEADER_LAYOUT.pack(asked.id, QR | (asked.flags & (RD | OPCODE_MASK)) | rcode, 0, 0, 0, bool(opt)) + opt


def truncated(query: Query) -> bytes:
    """The body of an answer that says: ask again over TCP."""
    written = write(query, Reply(Rcode.NOERROR), MAX_PLAIN_UDP)
    return struct.pack("!H", struct.unpack_from("!H", written.body)[0] | TC) + written.body[2:]
