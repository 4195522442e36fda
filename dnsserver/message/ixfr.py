"""Questions for what changed in a zone (IXFR, RFC 1995 §3): the SOA that they carry.

Pure. It is the one record that a query may have besides additional ones. It is read and taken out, so that the rest is
a query like any other.
"""

from __future__ import annotations

import struct

from dnsserver.message.dname import MAX_LABEL
from dnsserver.message.rr import Type
from dnsserver.message.wire import CLASS_IN, HEADER, Malformed

_TYPE_CLASS = struct.Struct("!HH")
_RR_FIXED = struct.Struct("!HHIH")
_TIMES = struct.Struct("!5I")
_POINTER = 0xC0


def without_soa(message: bytes) -> tuple[bytes, int]:
    """A query with one record in its authority section, without it; and the serial that it tells.

    Raises:
        Malformed: it is not of type IXFR, or the record is not a SOA of class IN, or is cut short.
    """
    try:
        start = _skip_name(message, HEADER) + _TYPE_CLASS.size
        at = _skip_name(message, start)
        rtype, klass, _, length = _RR_FIXED.unpack_from(message, at)
        asked = _TYPE_CLASS.unpack_from(message, start - _TYPE_CLASS.size)[0]
        at += _RR_FIXED.size
        times = _skip_name(message, _skip_name(message, at))
        serial = _TIMES.unpack_from(message, times)[0]
    except (IndexError, struct.error):
        raise Malformed("a record is cut short") from None
    if (asked, rtype, klass) != (Type.IXFR, Type.SOA, CLASS_IN) or times + _TIMES.size != at + length:
        raise Malformed("a record that is no SOA of a question for changes")
    counts = message[8:10]
    if counts != b"\x00\x01":
        raise Malformed("more than one record in the authority section")
    return message[:8] + b"\x00\x00" + message[10:start] + message[at + length :], serial


# What it points to is not looked at: only where it ends matters.
def _skip_name(message: bytes, at: int) -> int:
    while length := message[at]:
        if length >= _POINTER:
            return at + 2
        if length > MAX_LABEL:
            raise Malformed("an extended label")
        at += 1 + length
    return at + 1
