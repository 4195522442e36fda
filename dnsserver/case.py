"""What there is at one name, and what an answer has cost so far. Pure: values, and one counter for each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from dnsserver.message import dname
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Rcode, Reply
from dnsserver.outside import Asked
from dnsserver.own.domain import Domain
from dnsserver.own.names import Own
from dnsserver.skydns.foreign import MAX_FOUND, Hits, TooMuch
from dnsserver.skydns.record import Found

MAX_WORK = 4 * MAX_FOUND  # records looked at for one answer, all aliases together
MAX_ASKED = 32  # names elsewhere that one answer may need
UNKNOWN = Reply(Rcode.SERVFAIL)

Collected = tuple[bytes, bytes, frozenset[int]]  # whose records they become, whose they are, types


class Outside(Protocol):
    """What is known of names that others answer for."""

    def find(self, name: bytes, rtype: int) -> Reply | None:
        """What others say of a name in lower case, aliases first; None: they must be asked."""


class Work:
    """How much one answer has cost so far, which names it depends on, and what it needs from others.

    Args:
        outside: names that others answer for; None: nobody is asked, and SkyDNS's ways win over an RFC's.
        glue: look for the addresses of targets.

    Attributes:
        depends: names (and marks) whose change changes the answer.
        wholly: those among them that it depends on with all that is below them.
        lookups: what others must be asked first.
        expires_s: seconds for which what others said counts; None: nothing is theirs.
        hostless: a record without a host is among what was found, where a host was looked for.
    """

    __slots__ = (
        "_asked",
        "_collected",
        "_left",
        "depends",
        "expires_s",
        "glue",
        "hostless",
        "lookups",
        "outside",
        "wholly",
    )

    def __init__(self, outside: Outside | None = None, *, glue: bool = True) -> None:
        self.glue, self.hostless = glue, False
        self.depends: set[bytes] = set()
        self.wholly: set[bytes] = set()
        self.lookups: dict[Asked, None] = {}
        self.expires_s: int | None = None
        self.outside = outside
        self._left = MAX_WORK
        self._asked: dict[Asked, Reply] = {}
        self._collected: dict[Collected, list[Record]] = {}

    @property
    def strict(self) -> bool:
        """True when there is a forwarder: then RFCs win where SkyDNS and CoreDNS agree on something else."""
        return self.outside is not None

    def spend(self, records: int) -> None:
        """Count records that were looked at or collected.

        Raises:
            TooMuch: aliases of aliases; an answer may not cost more than MAX_WORK.
        """
        self._left -= records
        if self._left < 0:
            raise TooMuch("the aliases behind this name lead to too many records")

    def collect(self, what: Collected, make: Callable[[], list[Record]]) -> list[Record]:
        """Records that end up in the answer, counted; from the second time on the last of them stands for all.

        That one says that there are some, and may lower their TTL; a name with many endpoints costs little to whom it
        is an alias, and is never too much by itself.

        Raises:
            TooMuch: see `spend`.
        """
        again = self._collected.get(what)
        if again is not None:
            self.spend(1)
            return again
        records = make()
        self.spend(min(len(records), MAX_FOUND))
        self._collected[what] = records[-1:]
        return records

    def renew(self) -> None:
        """Begin the answer anew in another way; what it depends on stays."""
        self._left = MAX_WORK
        self._collected.clear()

    def ask(self, name: bytes, rtype: int) -> Reply:
        """What others say of a name in lower case; nothing as long as they were not asked, and when it is too much."""
        asked = Asked(name, rtype)
        if asked not in self._asked:
            if self.outside is None or len(self._asked) >= MAX_ASKED:
                return UNKNOWN
            reply = self.outside.find(name, rtype)
            if reply is None:
                self.lookups[asked] = None
            else:
                self._note_end(reply)
            self._asked[asked] = reply or UNKNOWN
        return self._asked[asked]

    def _note_end(self, reply: Reply) -> None:
        ends = min((record.ttl for part in (reply.answer, reply.authority) for record in part), default=0)
        self.expires_s = ends if self.expires_s is None else min(ends, self.expires_s)


class Case:
    """One name as it was asked for, and what there is.

    Attributes:
        name: wire name, spelled as asked.
        lower: the same in lower case.
        domain: the one of ours that it is in; None for a name elsewhere.
        own: what our own records say; None: it is not ours.
        foreign: what a question for it finds among foreign records; None: nothing at or below it.
        stands: where these stand, in lower case: at the name itself, a stored wildcard, what local.dns stands for.
        wild: they stand at a stored wildcard.
        flat: it has the addresses behind its targets as its own: a domain itself, which can be no alias.
    """

    __slots__ = ("domain", "flat", "foreign", "lower", "name", "own", "stands", "wild")

    def __init__(
        self,
        name: bytes,
        domain: Domain | None,
        own: Own | None,
        foreign: Hits | None,
        stands: bytes = b"",
        *,
        wild: bool = False,
        flat: bool = False,
    ) -> None:
        self.name, self.lower = name, name.lower()
        self.domain, self.own, self.foreign = domain, own, foreign
        self.stands, self.wild, self.flat = stands or self.lower, wild, flat

    @property
    def ours(self) -> Own | None:
        """Our own records, when they decide: there are some, and they do not yield to foreign ones."""
        if self.own is None or self.own.empty or (self.own.yields and self.foreign is not None):
            return None
        return self.own

    @property
    def hosts(self) -> tuple[Found, ...]:
        """Foreign records with a host that a question for the name finds."""
        return self.foreign.hosts if self.foreign else ()

    @property
    def each_host(self) -> tuple[Found, ...]:
        """As `hosts`, each content as often as it is there."""
        return self.foreign.each_host if self.foreign else ()

    @property
    def exists(self) -> bool:
        """True when there is something at or below the name."""
        return self.own is not None or self.foreign is not None or self.apex

    @property
    def apex(self) -> bool:
        """True for a domain of ours itself."""
        return self.domain is not None and self.lower == self.domain.name

    def alias(self, *, bare: bool) -> Found | None:
        """The record that makes the name an alias, by RFC 1034 §3.6.2: it has one target, and nothing else.

        Args:
            bare: nothing else of any type; else no address.
        """
        if self.ours or self.apex or not self.hosts or (self.domain is not None and self.domain.reverse):
            return None
        targets = {one.target.lower() if one.target else None for one in self.hosts}
        if len(targets) > 1 or not targets.isdisjoint({None, self.lower, dname.ROOT}):
            return None
        if bare and not (self.foreign and all(one.bare for one in self.foreign.all)):
            return None
        return self.hosts[-1]

    def target_of(self, found: Found) -> bytes:
        """Target of the SRV or MX record of a foreign record with a host.

        At a stored wildcard, the name asked for stands in the place of the `*`, since that is a name to be looked up.
        """
        if not self.wild or found.target is not None:
            return found.service_target()
        name = found.name[: len(found.name) - len(self.stands)] + self.name
        return dname.without(name if len(name) <= dname.MAX_NAME else self.name, found.said.targetstrip)


class Seek(NamedTuple):
    """What addresses are looked for: A, AAAA or both; and what the answer cost so far.

    `into` is the name, in lower case, that has all as its own; b"": each name has its own.
    """

    wanted: frozenset[Type]
    work: Work
    into: bytes = b""


def each_target(hosts: Iterable[Found]) -> list[Found]:
    """Foreign records with a host, each target once: where it comes last, since then the last counts."""
    last: dict[object, Found] = {}
    for found in hosts:
        what = found.target.lower() if found.target else found.key
        last.pop(what, None)
        last[what] = found
    return list(last.values())
