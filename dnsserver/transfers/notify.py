"""Telling secondaries that a zone changed (NOTIFY, RFC 1996): the message, and whether a reply is the one to it.

Pure. The SOA in it is a hint (§3.7): who trusts it saves a question.
"""

from __future__ import annotations

import struct

from dnsserver.message import wire, writer
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Query, Rcode, Reply

OPCODE = 4 << 11  # RFC 1996 §4.5
_QUESTION = struct.Struct("!HH")


def message(message_id: int, soa: Record) -> bytes:
    """What is sent for the zone of a SOA.

    Args:
        message_id: 0 to 65535, by chance.
        soa: of the zone, as it is now.
    """
    question = soa.owner + _QUESTION.pack(Type.SOA, wire.CLASS_IN)
    query = Query(OPCODE, soa.owner, Type.SOA, wire.CLASS_IN, None, question, b"")
    body = writer.write(query, Reply(Rcode.NOERROR, True, (soa,)), wire.MAX_PLAIN_UDP).body
    flags = int.from_bytes(body[:2]) & ~wire.QR
    return message_id.to_bytes(2) + flags.to_bytes(2) + body[2:]


def outcome(reply: bytes, sent: bytes) -> int | None:
    """The response code of a reply to what was sent; None: it is no reply to it.

    Never raises. What a secondary says besides is not looked at.
    """
    if len(reply) < wire.HEADER or reply[:2] != sent[:2]:
        return None
    head = wire.head(reply)
    if not head.flags & wire.QR or head.flags & wire.OPCODE_MASK != OPCODE:
        return None
    question = sent[wire.HEADER : sent.index(0, wire.HEADER) + 1 + _QUESTION.size]
    if head.questions and reply[wire.HEADER : wire.HEADER + len(question)].lower() != question.lower():
        return None
    return head.flags & 0xF
