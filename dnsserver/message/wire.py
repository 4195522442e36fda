"""DNS messages as they come: octets to questions (RFC 1035 §4, RFC 6891). `writer` is the way back.

Pure, strict, and bounded by the length of the message: the reader takes one question and the additional records that
the header promises, follows no compression pointer (a query has no place where one could point to anything but itself),
and allocates nothing that is larger than the message. Nothing of a library parses what a client sent.

Invariants:
- `read` returns a Query or raises Malformed, for any octets;
- `Query.plain` is the message without its id and its EDNS options, the name in lower case, unusual sizes made one of
  few: equal for all that ask the same, and so what finished answers are held by.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from dnsserver.message.dname import MAX_LABEL, MAX_NAME
from dnsserver.message.rr import Record, Type

HEADER = 12  # octets; RFC 1035 §4.1.1
MAX_QUERY = 4096  # octets; a question with every option in use stays far below
MAX_PLAIN_UDP = 512  # octets without EDNS; RFC 1035 §4.2.1
MAX_UDP = 1232  # octets that no path fragments; RFC 9715 §3, DNS flag day 2020
MAX_TCP = 65535  # octets; RFC 1035 §4.2.2
CLASS_IN, CLASS_CHAOS = 1, 3

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_MASK = 0x7800
_USUAL_SIZES = frozenset(
    {512, 1024, 1200, 1220, 1232, 1280, 1400, 1410, 1432, 1440, 1452, 1472, 1500, 2048, 4000, 4096, 8192}
)
_SIZE_STEP = 64  # octets; all other sizes are made multiples of it
_COUNTS = {  # of a message with a question or without, with an OPT record or without
    (question, opt): bytes((0, question, 0, 0, 0, 0, 0, opt)) for question in (False, True) for opt in (False, True)
}
DO = 0x8000

HEADER_LAYOUT = struct.Struct("!6H")
RECORD_LAYOUT = struct.Struct("!HHIH")
OPT_LAYOUT = struct.Struct("!BHHBBHH")  # root, type, size, extended rcode, version, flags, length; RFC 6891 §6.1.2
OPT_SIZE = OPT_LAYOUT.size  # octets without options
OPT_START = b"\x00\x00\x29"  # the root, type OPT
OPTION_LAYOUT = struct.Struct("!HH")


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

    @property
    def spelled(self) -> bytes:
        """`plain`, with the name spelled as asked."""
        return self.plain[: HEADER - 2] + self.question + self.plain[HEADER - 2 + len(self.question) :]

    def folded(self) -> Query:
        """The same question as `plain` has it: what is made for it is right for all who ask the same."""
        edns = self.edns and self.edns._replace(size=folded_size(self.edns.size))
        return self._replace(name=self.name.lower(), question=_folded(self.question), edns=edns)


def head(message: bytes) -> Head:
    """The header; the message has at least HEADER octets."""
    return Head._make(HEADER_LAYOUT.unpack_from(message))


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
    return Query(flags, question[:-4], qtype, klass, edns, question, _plain(flags, question, edns))


def _question(message: bytes) -> tuple[int, int, int]:
    end = _name_end(message, HEADER)
    try:
        return end + 4, *struct.unpack_from("!HH", message, end)
    except struct.error:
        raise Malformed("the question is cut short") from None


def _plain(flags: int, question: bytes, edns: Edns | None) -> bytes:
    head = (flags & (RD | AD | CD)).to_bytes(2) + _COUNTS[bool(question), edns is not None]
    opt = (
        b"" if edns is None else OPT_LAYOUT.pack(0, Type.OPT, folded_size(edns.size), 0, edns.version, DO * edns.do, 0)
    )
    return head + _folded(question) + opt


def _folded(question: bytes) -> bytes:
    return question[:-4].lower() + question[-4:]


def folded_size(size: int) -> int:
    """What a client takes, made one of few: an answer for that is one that it takes too."""
    if size in _USUAL_SIZES:
        return size
    return MAX_UDP if size > MAX_UDP else max(MAX_PLAIN_UDP, size - size % _SIZE_STEP)


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
            rtype, size, ttl, length = RECORD_LAYOUT.unpack_from(message, at)
        except struct.error:
            raise Malformed("a record is cut short") from None
        at += RECORD_LAYOUT.size
        if at + length > len(message):
            raise Malformed("a record is longer than the message")
        if rtype == Type.OPT:
            if edns is not None or message[owner]:
                raise Malformed("an OPT record twice, or not at the root")
            _check_options(message, at, at + length)
            edns = Edns(size, (ttl >> 16) & 0xFF, bool(ttl & DO), bytes(message[at : at + length]))
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
        if at + OPTION_LAYOUT.size > end:
            raise Malformed("an EDNS option is cut short")
        at += OPTION_LAYOUT.size + OPTION_LAYOUT.unpack_from(message, at)[1]
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
