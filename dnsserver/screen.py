"""Which messages are answered, refused or dropped: two tables, walked from the top; the first rule that fits decides.

Pure. docs/dns.md shows the same rows. What passes both tables is one question of class IN or CHAOS, or a cookie alone;
whether its name is ours is for the zone to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dnsserver.message import edns, ixfr, wire, writer
from dnsserver.message.rr import Type
from dnsserver.message.wire import Head, Malformed, Query, Rcode

META_TYPES = range(128, 255)  # RFC 6895 §3.1; 255 is ANY
OPCODE_QUERY = 0
MAX_ADDITIONALS = 2  # OPT and TSIG
CLASSES = frozenset({wire.CLASS_IN, wire.CLASS_CHAOS})
TRANSFERS = frozenset({Type.AXFR, Type.IXFR})


class HeadRule(NamedTuple):
    """A rule that needs the header only; `rcode` None: the message is dropped without a reply."""

    title: str
    applies: Callable[[Head, int], bool]
    rcode: Rcode | None


class QueryRule(NamedTuple):
    """A rule on a message that could be read."""

    title: str
    applies: Callable[[Query], bool]
    rcode: Rcode


HEAD_RULES: tuple[HeadRule, ...] = (
    # Answering answers would let two servers talk to each other for ever (RFC 5358 §3 in spirit).
    HeadRule("QR is set", lambda head, _: bool(head.flags & wire.QR), None),
    HeadRule("opcode other than QUERY (RFC 8906 §3.1.4)", lambda head, _: head.opcode != OPCODE_QUERY, Rcode.NOTIMP),
    HeadRule("more than 4096 octets", lambda _, length: length > wire.MAX_QUERY, Rcode.FORMERR),
    HeadRule("more than one question (RFC 9619 §4)", lambda head, _: head.questions > 1, Rcode.FORMERR),
    HeadRule(
        "answer records, or more than one authority record",
        lambda head, _: bool(head.answers) or head.authorities > 1,
        Rcode.FORMERR,
    ),
    HeadRule("more than two additional records", lambda head, _: head.additionals > MAX_ADDITIONALS, Rcode.FORMERR),
)

QUERY_RULES: tuple[QueryRule, ...] = (
    QueryRule(
        "EDNS version other than 0 (RFC 6891 §6.1.3)",
        lambda query: bool(query.edns and query.edns.version),
        Rcode.BADVERS,
    ),
    QueryRule(
        "no question, and no cookie that asks for one (RFC 7873 §5.4)",
        lambda query: not (query.question or _has_cookie(query)),
        Rcode.FORMERR,
    ),
    QueryRule(
        "class other than IN and CHAOS",
        lambda query: query.question != b"" and query.klass not in CLASSES,
        Rcode.REFUSED,
    ),
    QueryRule("type OPT", lambda query: query.type == Type.OPT, Rcode.FORMERR),
    QueryRule(
        "meta type 128 to 250, 253 and 254: TSIG, TKEY, MAILA, MAILB and unassigned ones",
        lambda query: query.type in META_TYPES and query.type not in TRANSFERS,
        Rcode.REFUSED,
    ),
)


def _read_changes(message: bytes) -> Query:
    plain, serial = ixfr.without_soa(message)
    return wire.read(plain)._replace(serial=serial)


def _has_cookie(query: Query) -> bool:
    try:
        return query.edns is not None and edns.read_options(query.edns.options).cookie is not None
    except Malformed:
        return False


def screen(message: bytes) -> Query | bytes | None:
    """Decide the fate of one message.

    Returns:
        The query when it is to be answered from the zone; the finished refusal, id included; or None when there must be
        no reply (shorter than a header, or itself a reply).

    Never raises.
    """
    if len(message) < wire.HEADER:
        return None
    head = wire.head(message)
    for rule in HEAD_RULES:
        if rule.applies(head, len(message)):
            return None if rule.rcode is None else writer.error(message, rule.rcode)
    try:
        query = _read_changes(message) if head.authorities else wire.read(message)
    except Malformed:
        return writer.error(message, Rcode.FORMERR)
    for check in QUERY_RULES:
        if check.applies(query):
            written = writer.write(query, wire.Reply(check.rcode), wire.udp_limit(query.edns))
            return message[:2] + written.body
    return query


def refusal_code(reply: bytes) -> int:
    """The code of a finished refusal: BADVERS is the one that does not fit in the header."""
    return (reply[3] & 0xF) or Rcode.BADVERS
