"""Answers from data that could not be confirmed. Pure."""

from __future__ import annotations

from dnsserver.message.wire import Ede, Rcode, Reply

STALE_TTL = 30  # seconds; RFC 8767 §5
_CODES = {Rcode.NOERROR: Ede.STALE, Rcode.NXDOMAIN: Ede.STALE_NXDOMAIN}


def as_stale(reply: Reply) -> Reply:
    """The same as data that could not be confirmed (RFC 8767 §4), and a word about it (RFC 8914 §4.4, §4.20)."""
    return reply._replace(
        answer=[record._replace(ttl=STALE_TTL) for record in reply.answer],
        additional=[record._replace(ttl=STALE_TTL) for record in reply.additional],
        ede=reply.ede or _CODES.get(reply.rcode),
    )
