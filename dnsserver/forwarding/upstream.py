"""Messages to and from the name servers that we ask: a question to octets, octets to what they said (RFC 1035 §4).

Pure and strict. The reader believes nothing: a reply must repeat the question, pointers in names lead backwards only,
all work is bounded by the length of the message, and records that do not belong to the name that was asked for are left
out (RFC 5452 §6, RFC 2181 §5.4.1).

Invariants:
- `read` returns a Said or raises BadReply, for any octets;
- what it returns holds only records of class IN on the chain from the asked name, each alias before its target, and in
  the authority section what proves that there is nothing more;
- owners are in lower case; letters that `spelled` made large come back small in names that point into the question.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

from dnsserver.forwarding.chain import Sections, on_the_chain
from dnsserver.message.dname import MAX_NAME, ROOT
from dnsserver.message.rr import Data, Record, Type
from dnsserver.message.wire import AA, AD, CD, CLASS_IN, HEADER, MAX_UDP, OPCODE_MASK, QR, RA, RD, TC, Ede, Rcode, Reply
from dnsserver.outside import Asked

MAX_TTL = 86400  # seconds; who says more is asked again after a day
MAX_JUMPS = 126  # pointers in one name: one for each label that a name can have
STUB_OPTION = b"\xfd\xf3\x00\x01\x01"  # EDNS option 65011 with value 1: SkyDNS's guard against loops of stub zones

_HEADER = struct.Struct("!6H")
_RR_FIXED = struct.Struct("!HHIH")
_OPTION = struct.Struct("!HH")
_EDE = 15  # RFC 8914 §2
_DO = 0x8000
_TOP_BIT = 0x80000000  # a TTL with it is 0; RFC 2181 §8
_LETTERS = bytes(0x20 if 0x61 <= octet <= 0x7A else 0 for octet in range(256))

# Refusals of servers that could not, or would not, read the question do not always repeat it.
_BARE = frozenset({Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED})


class Wrong(Enum):
    """What is wrong with a reply."""

    FOREIGN = "foreign"  # the answer to another question, or none at all
    SPELLING = "spelling"  # the right question, but not its large and small letters
    MALFORMED = "malformed"


class BadReply(ValueError):
    """A message that is not the reply to what was asked; the text says why."""

    def __init__(self, wrong: Wrong, why: str) -> None:
        super().__init__(why)
        self.wrong = wrong


class Said(NamedTuple):
    """What a name server said.

    Attributes:
        rcode: with the upper bits of EDNS; not every one is in `Rcode`.
        truncated: there is more, over TCP; no records are given.
        authoritative: the AA bit.
        authentic: the AD bit.
        recursion: the RA bit.
        edns: it sent an OPT record.
        ede: code of its first extended error (RFC 8914).
        sections: records on the chain.
    """

    rcode: int
    truncated: bool = False
    authoritative: bool = False
    authentic: bool = False
    recursion: bool = False
    edns: bool = False
    ede: int | None = None
    sections: Sections = Sections()

    @property
    def lame(self) -> bool:
        """True when it knows nothing and does not look further: a referral, or less."""
        nothing = self.rcode == Rcode.NOERROR and not self.sections.answer and not self.sections.authority
        return nothing and not self.recursion and not self.authoritative and not self.truncated

    @property
    def reply(self) -> Reply:
        """The same for those who asked us."""
        rcode = Rcode(self.rcode) if self.rcode in _RCODES else Rcode.SERVFAIL
        if rcode not in _ANSWERS:
            return Reply(rcode, recursion=True, ede=_ede(self.ede))
        answer, authority, aliases, _ = self.sections
        return Reply(
            rcode,
            answer=answer,
            authority=authority,
            ede=_ede(self.ede),
            fence=aliases,
            recursion=True,
            authentic=self.authentic,
        )


_ANSWERS = frozenset({Rcode.NOERROR, Rcode.NXDOMAIN})
_RCODES = frozenset(map(int, Rcode)) - {Rcode.NOTAUTH}  # which is about us when we say it
_EDES = frozenset(map(int, Ede))


def _ede(code: int | None) -> Ede | None:
    return Ede(code) if code in _EDES else None


# --- questions


def spelled(name: bytes, chance: bytes) -> bytes:
    r"""The name with letters made large by chance (draft-vixie-dnsext-dns0x20): more for a forger to guess.

    >>> spelled(b"\x03abc\x00", b"\x00\xff\x00\xff\x00")
    b'\x03AbC\x00'

    Args:
        name: in lower case.
        chance: at least as many random octets as the name has.
    """
    size = len(name)
    flips = int.from_bytes(name.translate(_LETTERS)) & int.from_bytes(chance[:size])
    return (int.from_bytes(name) ^ flips).to_bytes(size)


def question(name: bytes, rtype: int) -> bytes:
    """The question section for a name in class IN."""
    return name + struct.pack("!HH", rtype, CLASS_IN)


def query(message_id: int, asked: Asked, section: bytes, *, edns: bool = True, stub: bool = False) -> bytes:
    """A query for a recursive name server.

    Args:
        message_id: random, 16 bits.
        asked: gives the DO and CD bits.
        section: the question section, see `question`.
        edns: with an OPT record; servers from before 1999 do not know it.
        stub: with the guard against loops of stub zones.

    AD is set: tell us whether signatures were checked (RFC 6840 §5.7). No client subnet is ever sent (RFC 7871 §11).
    """
    flags = RD | AD | (CD if asked.cd else 0)
    if not edns:
        return _HEADER.pack(message_id, flags, 1, 0, 0, 0) + section
    options = STUB_OPTION if stub else b""
    opt = struct.pack("!BHHHHH", 0, Type.OPT, MAX_UDP, 0, _DO if asked.do else 0, len(options))
    return _HEADER.pack(message_id, flags, 1, 0, 0, 1) + section + opt + options


# --- replies


def read(message: bytes, message_id: int, section: bytes, asked: Asked, *, exact: bool, tcp: bool = False) -> Said:
    """Read the reply to a query.

    Args:
        message: any octets.
        message_id: as sent.
        section: the question section as sent.
        asked: what was asked for.
        exact: the reply must repeat large and small letters.
        tcp: it came over TCP, where nothing may be missing.

    Raises:
        BadReply: it is no reply to this query, or cannot be read.

    Cost: linear in the length of the message.
    """
    if len(message) < HEADER:
        raise BadReply(Wrong.MALFORMED, "shorter than a header")
    found_id, flags, *counts = _HEADER.unpack_from(message)
    if found_id != message_id or not flags & QR or flags & OPCODE_MASK:
        raise BadReply(Wrong.FOREIGN, "no reply to a query of this id")
    if counts[0] == 0 and len(message) == HEADER and flags & 0xF in _BARE:
        return Said(flags & 0xF)
    _check_question(message, counts[0], section, exact=exact)
    if flags & TC and not tcp:
        return Said(flags & 0xF, truncated=True)
    try:
        return _Reader(message, len(section), asked.name).said(flags, counts, asked)
    except (IndexError, struct.error):
        raise BadReply(Wrong.MALFORMED, "cut short") from None


def _check_question(message: bytes, count: int, section: bytes, *, exact: bool) -> None:
    found = message[HEADER : HEADER + len(section)]
    if count != 1 or (found != section and found.lower() != section.lower()) or found[-4:] != section[-4:]:
        raise BadReply(Wrong.FOREIGN, "another question")
    if exact and found != section:
        raise BadReply(Wrong.SPELLING, "the letters of the question were changed")


# How the data of types whose names may be compressed is laid out (RFC 1035 §3.3; RFC 3597 §4 adds the old ones that are
# to be read so): octets before the names, how many names, octets behind them, -1 for any number. The names of all
# other types are never compressed, and their data is passed on as it is.
_LAYOUT: dict[int, tuple[int, int, int]] = {
    Type.NS: (0, 1, 0),
    3: (0, 1, 0),  # MD
    4: (0, 1, 0),  # MF
    Type.CNAME: (0, 1, 0),
    Type.SOA: (0, 2, 20),
    7: (0, 1, 0),  # MB
    8: (0, 1, 0),  # MG
    9: (0, 1, 0),  # MR
    Type.PTR: (0, 1, 0),
    14: (0, 2, 0),  # MINFO
    Type.MX: (2, 1, 0),
    17: (0, 2, 0),  # RP
    18: (2, 1, 0),  # AFSDB
    21: (2, 1, 0),  # RT
    24: (18, 1, -1),  # SIG
    26: (2, 2, 0),  # PX
    30: (0, 1, -1),  # NXT
    Type.SRV: (6, 1, 0),
    36: (2, 1, 0),  # KX
    Type.DNAME: (0, 1, 0),
}
_SIZES: dict[int, int] = {Type.A: 4, Type.AAAA: 16}


class _Reader:
    """One message that is read from front to back.

    `_names` holds what is known to stand at an offset, from the start the question and its ancestors; it makes the work
    linear however pointers are chained. `_steps` is how many labels may still be looked at.
    """

    __slots__ = ("_message", "_names", "_steps", "_ttl", "at", "ede", "edns", "extended")

    def __init__(self, message: bytes, question_size: int, name: bytes) -> None:
        self._message = message
        self._steps = len(message)
        self._names: dict[int, bytes] = {}
        self.at = HEADER + question_size
        self.edns, self.extended = False, 0
        self.ede: int | None = None
        here = HEADER
        while name[0]:
            self._names[here] = name
            here += 1 + name[0]
            name = name[1 + name[0] :]

    def said(self, flags: int, counts: list[int], asked: Asked) -> Said:
        """All of it."""
        answer = self._records(counts[1])
        authority = self._records(counts[2])
        self._additional(counts[3])
        if self.at != len(self._message):
            raise BadReply(Wrong.MALFORMED, "octets behind the last record")
        rcode = self.extended << 4 | flags & 0xF
        sections = on_the_chain(asked, answer, authority)
        truncated, authoritative, authentic, recursion = (bool(flags & bit) for bit in (TC, AA, AD, RA))
        return Said(rcode, truncated, authoritative, authentic, recursion, self.edns, self.ede, sections)

    def _records(self, count: int) -> list[Record]:
        records, message, size = [], self._message, len(self._message)
        for _ in range(count):
            owner, at = self._name(self.at)
            rtype, klass, ttl, length = _RR_FIXED.unpack_from(message, at)
            at += 10
            self.at = end = at + length
            if end > size or rtype == Type.OPT:
                raise BadReply(Wrong.MALFORMED, "a record that does not belong here")
            if klass == CLASS_IN:
                ttl = 0 if ttl & _TOP_BIT else min(ttl, MAX_TTL)
                records.append(Record(owner.lower(), rtype, ttl, self._data(rtype, at, end)))
        return records

    def _data(self, rtype: int, at: int, end: int) -> Data:
        layout = _LAYOUT.get(rtype)
        if layout is None:
            if _SIZES.get(rtype, end - at) != end - at:
                raise BadReply(Wrong.MALFORMED, "an address of the wrong size")
            if rtype == Type.NAPTR:
                return self._with_names(at, self._behind_strings(at + 4, 3), 1, 0, end)
            return Data(self._message[at:end])
        before, count, behind = layout
        return self._with_names(at, at + before, count, behind, end)

    def _with_names(self, at: int, first: int, count: int, behind: int, end: int) -> Data:
        here, names = first, []
        for _ in range(count):
            name, here = self._name(here)
            names.append(name)
        if here > end or (behind >= 0 and here + behind != end):
            raise BadReply(Wrong.MALFORMED, "data that does not fill its record")
        return Data(self._message[at:first], tuple(names), self._message[here:end])

    def _behind_strings(self, at: int, count: int) -> int:
        for _ in range(count):
            at += 1 + self._message[at]
        return at

    def _additional(self, count: int) -> None:
        message, size = self._message, len(self._message)
        for _ in range(count):
            start = self.at
            at = self._skip(start)
            rtype, _, ttl, length = _RR_FIXED.unpack_from(message, at)
            at += 10
            self.at = end = at + length
            if end > size:
                raise BadReply(Wrong.MALFORMED, "a record that is longer than the message")
            if rtype == Type.OPT:
                if self.edns or message[start]:
                    raise BadReply(Wrong.MALFORMED, "an OPT record twice, or not at the root")
                self.edns, self.extended = True, ttl >> 24
                self._options(at, end)

    def _options(self, at: int, end: int) -> None:
        while at < end:
            code, length = _OPTION.unpack_from(self._message, at)
            at += _OPTION.size + length
            if at > end:
                raise BadReply(Wrong.MALFORMED, "an EDNS option that is longer than its record")
            if code == _EDE and length >= 2 and self.ede is None:
                self.ede = int.from_bytes(self._message[at - length : at - length + 2])

    def _skip(self, at: int) -> int:
        message = self._message
        while 0 < (length := message[at]) < 0x40:
            at += 1 + length
        if 0x40 <= length < 0xC0:
            raise BadReply(Wrong.MALFORMED, "a label of an unknown kind")
        return at + (2 if length else 1)

    def _name(self, at: int) -> tuple[bytes, int]:
        """The name at an offset, and where it ends."""
        message, names = self._message, self._names
        start = piece = before = at
        end = target = jumps = 0
        pieces: list[bytes] = []
        while True:
            length = message[at]
            if length >= 0xC0:
                pieces.append(message[piece:at])
                end = end or at + 2
                at = piece = (length & 0x3F) << 8 | message[at + 1]
                target = target or at
                jumps += 1
                if at >= before or jumps > MAX_JUMPS:
                    raise BadReply(Wrong.MALFORMED, "a name that points forward, or in circles")
                before = at
                known = names.get(at)
                if known is not None:
                    break
            elif length >= 0x40:
                raise BadReply(Wrong.MALFORMED, "a label of an unknown kind")
            elif length:
                at += 1 + length
                self._steps -= 1
                if self._steps < 0:
                    raise BadReply(Wrong.MALFORMED, "names of more labels than a message can have")
            else:
                pieces.append(message[piece:at])
                end, known = end or at + 1, ROOT
                break
        if len(pieces) == 1 and not pieces[0]:
            return known, end
        name = b"".join(pieces) + known
        if len(name) > MAX_NAME:
            raise BadReply(Wrong.MALFORMED, f"a name of more than {MAX_NAME} octets")
        names[start] = name
        if target:
            names[target] = name[len(pieces[0]) :]
        return name, end
