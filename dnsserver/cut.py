"""The reply that says "ask again over TCP", made from a plain question's own octets.

Pure. Who floods us gets these; reading the question and writing a reply would cost more than to answer it.
"""

from __future__ import annotations

from dnsserver.message import wire

_COUNTS = b"\0\1\0\0\0\0\0\0"  # one question, no records; RFC 1035 §4.1.1
_COUNTS_EDNS = b"\0\1\0\0\0\0\0\1"  # and the client's OPT
_SIZE = wire.MAX_UDP.to_bytes(2, "big")
_QR_TC, _RD, _DO = 0x82, 0x01, 0x80
_KEPT_OPCODE = 0xFE  # of the first octet of flags, all that has to be 0: QR, opcode, AA, TC
_LONGEST_NAME = 255
_MOST = wire.HEADER + _LONGEST_NAME + 4 + wire.OPT_SIZE


def over_tcp(message: bytes) -> bytes | None:
    """The reply with TC set, id included; None when this is not a plain question: one of class IN, without options."""
    size, counts = len(message), message[4:12]
    if size > _MOST or size < wire.HEADER or message[2] & _KEPT_OPCODE:
        return None
    end, opt = size, b""
    if counts == _COUNTS_EDNS:
        end -= wire.OPT_SIZE
        sent = message[end:]
        if sent[:3] != wire.OPT_START or sent[6] or sent[9:] != b"\0\0":
            return None
        opt = wire.OPT_START + _SIZE + b"\0\0" + bytes((sent[7] & _DO,)) + b"\0\0\0"
    elif counts != _COUNTS:
        return None
    if message[end - 2 : end] != b"\0\1" or not _is_name(message, end - 4):
        return None
    flags = bytes((_QR_TC | message[2] & _RD, 0))
    return message[:2] + flags + message[4:end] + opt


def _is_name(message: bytes, end: int) -> bool:
    """True when a name without pointers begins behind the header and ends before `end`."""
    at = wire.HEADER
    while at < end - 1:
        size = message[at]
        if not 0 < size < 64:
            return False
        at += size + 1
    return at == end - 1 and message[at] == 0 and end - wire.HEADER <= _LONGEST_NAME
