"""Questions that name servers elsewhere must answer, and what came of them. Pure: values only."""

from __future__ import annotations

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
        reply: records with the seconds that they have left at `since`; owners as in the question, in lower case; never
            authoritative; SERVFAIL with an EDE code when nobody answered.
        since: monotonic seconds to which the TTLs in `reply` belong.
        expires: monotonic seconds until which it may be repeated, with TTLs counted down; not after `since`: never.
        due: it is asked for often and ends soon: ask for it again (prefetch).
    """

    reply: Reply
    since: float
    expires: float
    due: bool = False
