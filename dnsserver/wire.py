"""DNS messages: octets to questions, answers to octets (RFC 1035 §4, RFC 6891). The only file that knows the format.

Pure, strict, and bounded by the length of the message: the reader takes one question and the additional records that
the header promises, follows no compression pointer (a query has no place where one could point to anything but itself),
and allocates nothing that is larger than the message. Nothing of a library parses what a client sent.

Invariants:
- `read` returns a Query or raises Malformed, for any octets;
- `Query.plain` is the message without its id and its EDNS options: equal for all that ask the same in the same way;
- what `write` returns is at most `limit` octets with the id, and has TC set if a record of the answer was left out.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from itertools import cycle
from typing import NamedTuple

from dnsserver.dname import MAX_LABEL, MAX_NAME
from dnsserver.rr import ADDRESSES, COMPRESSIBLE, Record, Type

HEADER = 12  # octets; RFC 1035 §4.1.1
MAX_QUERY = 4096  # octets; a question with every option in use stays far below
MAX_PLAIN_UDP = 512  # octets without EDNS; RFC 1035 §4.2.1
MAX_UDP = 1232  # octets that no path fragments; RFC 9715 §3, DNS flag day 2020
MAX_TCP = 65535  # octets; RFC 1035 §4.2.2
MAX_TURNS = 16  # a client that takes the first address reaches this many in turn
MAX_TURNED = 16384  # octets of one answer in all its orders
CLASS_IN, CLASS_CHAOS = 1, 3

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_MASK = 0x7800
_DO = 0x8000
_POINTERS_END = 0x4000  # a pointer has 14 bits; RFC 1035 §4.1.4

_HEADER = struct.Struct("!6H")
_RR_FIXED = struct.Struct("!HHIH")
_OPT = struct.Struct("!BHHBBHH")  # root, type, size, extended rcode, version, flags, length; RFC 6891 §6.1.2
OPT_SIZE = _OPT.size  # octets without options
OPT_START = b"\x00\x00\x29"  # the root, type OPT
EDE_SIZE = 6  # octets of an extended error without text
_OPTION = struct.Struct("!HH")
_EDE_OPTION = 15  # RFC 8914 §2


class Rcode(IntEnum):
    """Response codes (IANA, DNS parameters); those over 15 need EDNS."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    NOTAUTH = 9
    BADVERS = 16


class Ede(IntEnum):
    """Extended errors that we give (RFC 8914 §4)."""

    STALE = 3
    NOT_READY = 14
    PROHIBITED = 18
    STALE_NXDOMAIN = 19
    NOT_AUTHORITATIVE = 20
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


class Malformed(ValueError):
    """The message cannot be read as a query; the text says where it goes wrong."""


class Head(NamedTuple):
    """The header of a message: id, flags, and how many entries each section has."""

    id: int
    flags: int
    questions: int
    answers: int
    authorities: int
    additionals: int

    @property
    def opcode(self) -> int:
        """0 for a query; RFC 1035 §4.1.1."""
        return (self.flags & OPCODE_MASK) >> 11


class Edns(NamedTuple):
    """The OPT record of a query: what the client can take, its version, DO bit and options (RFC 6891 §6.1)."""

    size: int
    version: int
    do: bool
    options: bytes = b""


class Query(NamedTuple):
    """One question as it was asked.

    Attributes:
        flags: of the header.
        name: wire name, spelled as asked.
        type: record type asked for.
        klass: class asked for.
        edns: None without an OPT record.
        question: octets of the question section.
        plain: see the module.
        serial: of the zone that who asks for changes has already (RFC 1995 §3).
    """

    flags: int
    name: bytes
    type: int
    klass: int
    edns: Edns | None
    question: bytes
    plain: bytes
    serial: int | None = None


def head(message: bytes) -> Head:
    """The header; the message has at least HEADER octets."""
    return Head._make(_HEADER.unpack_from(message))


def read(message: bytes) -> Query:
    """Read a query of one question and no answers, or of none: then name, type and class are empty.

    Raises:
        Malformed: cut short, too long, a compressed or extended label in the question, two OPT records or one that is
            not at the root, options that do not fill it, octets behind the last record.

    Source: RFC 1035 §4.1, RFC 6891 §6.1, RFC 9267 (what sloppy readers fell for).
    """
    flags, questions, additionals = struct.unpack_from("!HH4xH", message, 2)
    end, qtype, klass = _question(message) if questions else (HEADER, 0, 0)
    edns, after = _additionals(message, end, additionals)
    if after != len(message):
        raise Malformed("octets behind the last record")
    question = message[HEADER:end]
    return Query(flags, question[:-4], qtype, klass, edns, question, _plain(message, end, edns))


def _question(message: bytes) -> tuple[int, int, int]:
    end = _name_end(message, HEADER)
    try:
        return end + 4, *struct.unpack_from("!HH", message, end)
    except struct.error:
        raise Malformed("the question is cut short") from None


def _plain(message: bytes, end: int, edns: Edns | None) -> bytes:
    if edns is None or len(message) == end + _OPT.size:
        return message[2:]
    # As of one who sent nothing else: one additional record.
    return (
        message[2:10]
        + b"\x00\x01"
        + message[12:end]
        + _OPT.pack(0, Type.OPT, edns.size, 0, edns.version, _DO * edns.do, 0)
    )


def _name_end(message: bytes, at: int) -> int:
    start = at
    try:
        while length := message[at]:
            if length > MAX_LABEL:
                raise Malformed("a compressed or extended label where a plain one belongs")
            at += 1 + length
            if at - start >= MAX_NAME:
                raise Malformed(f"a name of more than {MAX_NAME} octets")
    except IndexError:
        raise Malformed("a name is cut short") from None
    return at + 1


def _additionals(message: bytes, at: int, count: int) -> tuple[Edns | None, int]:
    edns = None
    for _ in range(count):
        owner, at = at, _skip_name(message, at)
        try:
            rtype, size, ttl, length = _RR_FIXED.unpack_from(message, at)
        except struct.error:
            raise Malformed("a record is cut short") from None
        at += _RR_FIXED.size
        if at + length > len(message):
            raise Malformed("a record is longer than the message")
        if rtype == Type.OPT:
            if edns is not None or message[owner]:
                raise Malformed("an OPT record twice, or not at the root")
            _check_options(message, at, at + length)
            edns = Edns(size, (ttl >> 16) & 0xFF, bool(ttl & _DO), bytes(message[at : at + length]))
        at += length
    return edns, at


# The owner of an additional record may be compressed; we need its end, not what it says.
def _skip_name(message: bytes, at: int) -> int:
    try:
        while (length := message[at]) and length <= MAX_LABEL:
            at += 1 + length
    except IndexError:
        raise Malformed("a name is cut short") from None
    if length and length < 0xC0:
        raise Malformed("an extended label")
    return at + (2 if length else 1)


def _check_options(message: bytes, at: int, end: int) -> None:
    while at < end:
        if at + _OPTION.size > end:
            raise Malformed("an EDNS option is cut short")
        at += _OPTION.size + _OPTION.unpack_from(message, at)[1]
    if at > end:
        raise Malformed("an EDNS option is longer than its record")


def udp_limit(edns: Edns | None) -> int:
    """How many octets an answer over UDP may have: what the client takes, at most MAX_UDP, at least 512."""
    return MAX_PLAIN_UDP if edns is None else min(MAX_UDP, max(MAX_PLAIN_UDP, edns.size))


class Reply(NamedTuple):
    """What to say to a query.

    Attributes:
        rcode: how it went.
        authoritative: the AA bit.
        answer: records, each RRset in one piece.
        authority: records.
        additional: records; left out when they do not fit.
        ede: extended error, for clients with EDNS.
        fence: how many records of `answer` stay in front of the others when their order turns; 0: all turn together.
        recursion: the RA bit.
        authentic: the AD bit, as an upstream that checks signatures gave it.
    """

    rcode: Rcode
    authoritative: bool = False
    answer: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    ede: Ede | None = None
    fence: int = 0
    recursion: bool = False
    authentic: bool = False


class Written(NamedTuple):
    """A reply as octets, without its id.

    Attributes:
        body: the message from its third octet on.
        runs: parts of the body that hold records of one address RRset, all of one size: (start, end, size of one). They
            may be put in another order without touching anything else.
        authority: where in the body the authority section begins; 0 when the answer was cut before it.
        opt: octets of the OPT record at its end; 0 without one.
        ttls: where in the body the TTLs of records stand.
    """

    body: bytes
    runs: tuple[tuple[int, int, int], ...]
    authority: int
    opt: int
    ttls: tuple[int, ...]


class _Writer:
    """A message under construction. Offsets are those of the whole message, id included."""

    def __init__(self, question: bytes, klass: int) -> None:
        self.out = bytearray(HEADER) + question
        self.ttls: list[int] = []
        self._class = klass or CLASS_IN
        self._seen: dict[bytes, int] = {}
        if question:
            self._remember(question[:-4], HEADER)

    def _remember(self, name: bytes, at: int) -> None:
        while name[0] and at < _POINTERS_END:
            self._seen.setdefault(name, at)
            step = 1 + name[0]
            name, at = name[step:], at + step

    def _name(self, name: bytes, *, compress: bool) -> None:
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
        self.out += (0xC000 | seen[rest]).to_bytes(2) if rest[0] else rest

    def record(self, record: Record) -> None:
        owner, rtype, ttl, data = record
        self._name(owner, compress=True)
        self.out += _RR_FIXED.pack(rtype, self._class, ttl, 0)
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
    _HEADER.pack_into(writer.out, 0, 0, _flags(query, reply) | TC * cut, *counts)
    ttls = tuple(at - 2 for at in writer.ttls)
    return Written(bytes(writer.out[2:]) + opt, runs, authority - 2 if authorities else 0, len(opt), ttls)


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
        writer.record(record)
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
    options = b"" if reply.ede is None else _OPTION.pack(_EDE_OPTION, 2) + struct.pack("!H", reply.ede)
    flags = _DO if edns.do else 0
    return _OPT.pack(0, Type.OPT, MAX_UDP, reply.rcode >> 4, 0, flags, len(options)) + options


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
    """The body in one order after the other, for ever; a large one in few."""
    counts = [(end - start) // size for start, end, size in written.runs]
    room = max(1, MAX_TURNED // len(written.body))
    orders = min(max(counts, default=1), MAX_TURNS, room) if turning else 1
    return cycle([turned(written, by) for by in range(orders)]).__next__


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
    return _HEADER.pack(asked.id, QR | (asked.flags & (RD | OPCODE_MASK)) | rcode, 0, 0, 0, bool(opt)) + opt


def truncated(query: Query) -> bytes:
    """The body of an answer that says: ask again over TCP."""
    written = write(query, Reply(Rcode.NOERROR), MAX_PLAIN_UDP)
    return struct.pack("!H", struct.unpack_from("!H", written.body)[0] | TC) + written.body[2:]
