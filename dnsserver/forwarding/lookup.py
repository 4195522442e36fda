"""One question to name servers elsewhere: whom to ask next, over what, for how long, and when to give up.

Pure: the clock is an argument, monotonic seconds; sending and waiting is the caller's. A lookup is asked for its first
step, is told what came of it, and says the next one, until it has ended. It ends: the number of tries and the time are
bounded whatever the servers do.

What comes of a try, and what is done then:

    an answer, or "no such name"        given
    cut (TC)                            the same server over TCP; cut there too: the next server
    SERVFAIL, REFUSED, a referral ...   the next server; if all say so: given
    FORMERR without EDNS                the same server without EDNS
    other letters than asked            the same server over TCP
    many forged replies                 the same server over TCP
    nothing in time                     the next server; in a second round the same
    refused by its host (ICMP)          the next server
    nothing can be sent from here       the next server; not held against this one
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from dnsserver.forwarding.health import Health, Healths, Server
from dnsserver.forwarding.upstream import Said
from dnsserver.message.wire import Ede, Rcode, Reply

PATIENCE_S = 2.9  # for one question in all; clients wait 5 s, and their user less
ROUNDS = 2
MAX_TRIES = 8  # however many servers there are
_LEAST_S = 0.02  # less time is not worth a try


class Event(Enum):
    """What came of a try other than a message."""

    SILENT = "timeout"
    UNREACHABLE = "unreachable"
    BROKEN = "not_sent"
    SPELLING = "respelled"
    FLOODED = "forged"


class Try(NamedTuple):
    """One message to be sent.

    Attributes:
        server: to whom.
        tcp: over TCP.
        exact: letters are made large by chance, and must come back so.
        edns: with an OPT record.
        timeout_s: how long to wait.
    """

    server: Server
    tcp: bool
    exact: bool
    edns: bool
    timeout_s: float


class Ended(NamedTuple):
    """No more tries: an answer, or a reply to give instead."""

    reply: Reply
    answered: bool


Step = Try | Ended


class Lookup:
    """One question; see the module.

    Args:
        servers: whom to ask, in this order.
        healths: told how each of them does.
        timeout_s: for one try.
        now: the time at which all of it begins.
        rounds: how often a silent server is asked.
    """

    __slots__ = (
        "_bad",
        "_ends",
        "_healths",
        "_left",
        "_reached",
        "_respelled",
        "_rounds",
        "_silent",
        "_timeout_s",
        "_tries",
        "_try",
    )

    def __init__(
        self, servers: Sequence[Server], healths: Healths, timeout_s: float, now: float, rounds: int = ROUNDS
    ) -> None:
        self._left, self._silent = list(servers), list[Server]()
        self._healths, self._timeout_s, self._rounds = healths, timeout_s, rounds
        self._ends = now + PATIENCE_S
        self._tries = 0
        self._try: Try | None = None
        self._bad: Said | None = None
        self._reached = False
        self._respelled: Server | None = None

    def start(self, now: float) -> Step:
        """The first step."""
        return self._next(now)

    def after(self, what: Said | Event, took_s: float, now: float) -> Step:
        """The step after what came of the last one, so many seconds after it was sent."""
        done = self._try
        if done is None:
            return self._given_up()
        if isinstance(what, Event):
            return self._after_event(done, what, now)
        self._reached = True
        return self._after_word(done, what, took_s, now)

    def _after_event(self, done: Try, event: Event, now: float) -> Step:
        health = self._healths[done.server]
        if event in _OVER_TCP and not done.tcp:
            self._reached = True
            self._respelled = done.server if event is Event.SPELLING else None
            return self._again(done._replace(tcp=True, exact=False), now)
        if event is not Event.BROKEN:
            health.silent(now)
        if event is Event.SILENT:
            self._reached = True
            if not done.tcp:
                self._silent.append(done.server)
        return self._next(now)

    def _after_word(self, done: Try, said: Said, took_s: float, now: float) -> Step:
        health = self._healths[done.server]
        health.answered(took_s, now, refused=said.rcode == Rcode.REFUSED)
        if said.truncated:
            return self._next(now) if done.tcp else self._again(done._replace(tcp=True, exact=False), now)
        if said.rcode in _UNREAD and done.edns and not said.edns:
            return self._again(done._replace(edns=False), now)
        self._learn(health, done, said, now)
        if said.rcode in _ANSWERS and not said.lame:
            # AD can be set by whoever stands between us and the server; on this host there is nobody (RFC 4035 §4.9.3).
            return Ended(said.reply._replace(authentic=said.authentic and _is_here(done.server[0])), answered=True)
        if self._bad is None or said.rcode == Rcode.SERVFAIL:
            self._bad = said
        return self._next(now)

    def _learn(self, health: Health, done: Try, said: Said, now: float) -> None:
        if not done.edns and said.rcode not in _UNREAD:
            health.no_edns(now)
        if done.exact and said.sections.last:
            health.spelled()
        elif self._respelled == done.server:
            health.misspelled(now)

    def _next(self, now: float) -> Step:
        if not self._left and self._rounds > 1:
            self._rounds -= 1
            self._left, self._silent = self._silent, []
        if not self._left:
            return self._given_up()
        server = self._left.pop(0)
        health = self._healths[server]
        exact, edns = health.keeps_case(now), health.knows_edns(now)
        return self._again(Try(server, tcp=False, exact=exact, edns=edns, timeout_s=0), now)

    def _again(self, step: Try, now: float) -> Step:
        timeout_s = min(self._timeout_s, self._ends - now)
        if self._tries >= MAX_TRIES or timeout_s < _LEAST_S:
            return self._given_up()
        self._tries += 1
        self._try = step._replace(timeout_s=timeout_s)
        return self._try

    def _given_up(self) -> Ended:
        self._try = None
        if self._bad is not None:
            return Ended(_as_failure(self._bad), answered=False)
        return Ended(failure(Ede.NO_REACHABLE_AUTHORITY if self._reached else Ede.NETWORK_ERROR), answered=False)


_ANSWERS = frozenset({Rcode.NOERROR, Rcode.NXDOMAIN})
_UNREAD = frozenset({Rcode.FORMERR, Rcode.NOTIMP})
_OVER_TCP = frozenset({Event.SPELLING, Event.FLOODED})
_GIVEN = frozenset({Rcode.SERVFAIL, Rcode.REFUSED})


def _as_failure(said: Said) -> Reply:
    reply = said.reply
    return reply if reply.rcode in _GIVEN else failure(Ede.NO_REACHABLE_AUTHORITY)


def failure(ede: Ede) -> Reply:
    """What is said when nobody answers."""
    return Reply(Rcode.SERVFAIL, ede=ede, recursion=True)


def ours(servers: Iterable[Server], own: Iterable[Server]) -> list[Server]:
    """Those of the servers that are ourselves: asking them would never end.

    Args:
        servers: whom we are told to ask.
        own: addresses and ports that we listen at.
    """
    listening = {(_plain(ip), port) for ip, port in own}
    ports = {port for _, port in listening}
    return [(ip, port) for ip, port in servers if (_plain(ip), port) in listening or (port in ports and _is_any(ip))]


def _plain(ip: str) -> str:
    address = ipaddress.ip_address(ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _is_here(ip: str) -> bool:
    return ipaddress.ip_address(_plain(ip)).is_loopback


# To send to 0.0.0.0 or :: is to send to this host.
def _is_any(ip: str) -> bool:
    return ipaddress.ip_address(_plain(ip)).is_unspecified
