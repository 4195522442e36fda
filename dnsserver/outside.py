"""Questions that name servers elsewhere must answer, and what came of them. Pure: values only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dnsserver.message.wire import Reply


class Asked(NamedTuple):
    """One question of class IN for somebody else: what its answer is kept by.

    Attributes:
        name: wire name in lower case.
        type: record type.
        do: DNSSEC records are wanted too (RFC 3225).
        cd: the asker checks signatures itself (RFC 4035 §3.2.2).
    """

    name: bytes
    type: int
    do: bool = False
    cd: bool = False


class Outcome(NamedTuple):
    """What a name server elsewhere said, or that none did.

    Attributes:
        reply: as it was at `since`; to be said it is `aged` first. Owners are as in the question, in lower case; never
            authoritative; SERVFAIL with an EDE code when nobody answered.
        since: monotonic seconds to which the TTLs in `reply` belong.
        expires: monotonic seconds until which it may be repeated, with TTLs counted down; not after `since`: never.
        due: it is asked for often and ends soon: ask for it again (prefetch).
    """

    reply: Reply
    since: float
    expires: float
    due: bool = False

    def aged(self, now: float) -> Reply:
        """What it says at a moment, in monotonic seconds: the time since `since` taken off its TTLs, which end at 0."""
        past_s = int(now - self.since)
        return with_ttls(self.reply, lambda ttl: max(0, ttl - past_s)) if past_s > 0 else self.reply


def with_ttls(reply: Reply, ttl: Callable[[int], int]) -> Reply:
    """A reply with other TTLs in answer and authority section, each made from the one before."""
    answer, authority = (
        tuple(record._replace(ttl=ttl(record.ttl)) for record in records) for records in (reply.answer, reply.authority)
    )
    return reply._replace(answer=answer, authority=authority)
