"""Our own names and other people's records as one: what there is at a name, and where a chain of aliases leads.

Pure. Our names win over foreign records at the same name; where a name of ours has nothing to say, a foreign record
may.
Nothing here knows messages; what is found goes to `answer`, together with the names that it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dnsserver import dname, rr
from dnsserver.dname import BadName
from dnsserver.domain import Domain
from dnsserver.foreign import MAX_FOUND, Foreign, Found, Hits, TooMuch, may_be_wildcard
from dnsserver.names import Own
from dnsserver.own import OwnNames
from dnsserver.rr import Record, Type

MAX_CHAIN = 8  # aliases in a row; SkyDNS's limit
MAX_WORK = 4 * MAX_FOUND  # records looked at for one answer, all aliases together


class Work:
    """How much one answer has cost so far, and which names it depends on."""

    __slots__ = ("_left", "depends")

    def __init__(self) -> None:
        self.depends: set[bytes] = set()
        self._left = MAX_WORK

    def spend(self, records: int) -> None:
        """Count records that were looked at.

        Raises:
            TooMuch: aliases of aliases; an answer may not cost more than MAX_WORK.
        """
        self._left -= records
        if self._left < 0:
            raise TooMuch("the aliases behind this name lead to too many records")


class Seek(NamedTuple):
    """What addresses are looked for, and how.

    Attributes:
        wanted: A, AAAA or both.
        work: what the answer cost so far.
        below: follow aliases of a name to names below itself. Their addresses are among its own already, since a
            question finds what is below; SkyDNS repeats them in additional sections, and only there so do we.
    """

    wanted: frozenset[Type]
    work: Work
    below: bool = False


class Case:
    """One name as it was asked for, and what there is.

    Attributes:
        name: wire name, spelled as asked.
        lower: the same in lower case.
        domain: the one of ours that it is in; None for a name elsewhere.
        own: what our own records say; None: it is not ours.
        foreign: what a question for it finds among foreign records; None: nothing at or below it.
    """

    __slots__ = ("domain", "foreign", "lower", "name", "own")

    def __init__(self, name: bytes, domain: Domain | None, own: Own | None, foreign: Hits | None) -> None:
        self.name, self.lower = name, name.lower()
        self.domain, self.own, self.foreign = domain, own, foreign

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
    def exists(self) -> bool:
        """True when there is something at or below the name."""
        at_apex = self.domain is not None and self.lower == self.domain.name
        return self.own is not None or self.foreign is not None or at_apex


class Zone:
    """All that we answer from. Change it by giving differences to `own` and `foreign` and calling `widened`."""

    def __init__(self, domains: Sequence[Domain], own: OwnNames, foreign: Foreign) -> None:
        self.domains = tuple(domains)
        self.own, self.foreign = own, foreign
        self._by_name = {domain.name: domain for domain in domains}

    def domain_of(self, lower: bytes) -> Domain | None:
        """The domain of ours that a name is in: the longest when one lies in another."""
        for ancestor in dname.suffixes(lower):
            found = self._by_name.get(ancestor)
            if found is not None:
                return found
        return None

    def covers(self, lower: bytes) -> bool:
        """True for names whose answer depends on what the store holds: those in our domains, and reverse names."""
        return self.domain_of(lower) is not None or dname.is_reverse(lower)

    def answers(self, lower: bytes) -> bool:
        """True for names that we answer ourselves: those in our domains, and reverse names that somebody told us."""
        if self.domain_of(lower) is not None:
            return True
        return dname.is_reverse(lower) and bool(self.own.pointers(lower) or self.foreign.at(lower))

    def stub_of(self, lower: bytes):
        return ()

    def denies_below(self, lower: bytes) -> tuple[bytes, Callable[[bytes], bool]] | None:
        """The nearest name above one that does not exist, and what tells that a name right below that does not either.

        Args:
            lower: a name that does not exist, in one of our domains.

        Returns:
            None when it cannot be told cheaply.
        """
        domain = self.domain_of(lower)
        for above in dname.suffixes(dname.parent(lower)):
            if domain is None or above == domain.name or self.own.exists(above) or self.foreign.exists(above):
                own = self.own.denies_below(above)
                return (above, _both(own, self.foreign.exists)) if own else None
        return None

    def case(self, name: bytes, work: Work, *, below: bool = True) -> Case:
        """What there is at a name.

        Args:
            name: wire name.
            work: what the answer cost so far.
            below: look at foreign records; else only whether there are any, however many.

        Raises:
            TooMuch: the name finds too many foreign records.
        """
        lower = name.lower()
        domain = self.domain_of(lower)
        own = self.own.find(lower, domain) if domain else None
        if own is not None and not own.empty and not (own.yields and self.foreign.exists(lower)):
            work.depends |= {lower, *own.depends}
            return Case(name, domain, own, self._exactly(lower))
        work.depends |= self._around(lower, domain) | (own.depends if own else frozenset())
        foreign = self.foreign.find(lower) if below else Hits((), ()) if self.foreign.finds(lower) else None
        if own is None and foreign is None and domain is not None and lower != domain.name:
            own = self._wildcard(lower, domain, work)
        work.spend(len(foreign.all) if foreign else 0)
        return Case(name, domain, own, foreign)

    # At a name of ours others may add what we do not say (a TXT record); what they hold below it is not its own.
    def _exactly(self, lower: bytes) -> Hits | None:
        found = tuple(self.foreign.at(lower))
        return Hits((), found) if found else None

    # What comes into being at an ancestor may change the answer: an instance below a service, a wildcard's end.
    def _around(self, lower: bytes, domain: Domain | None) -> set[bytes]:
        top = domain.name if domain else dname.ROOT
        names = {lower}
        for ancestor in dname.suffixes(lower):
            if ancestor == top:
                break
            names.add(ancestor)
        if may_be_wildcard(lower):
            names.add(top)
        return names

    # RFC 4592 §3.3.1: only the wildcard right below the closest name that exists counts.
    def _wildcard(self, lower: bytes, domain: Domain, work: Work) -> Own | None:
        for ancestor in dname.suffixes(dname.parent(lower)):
            work.depends.add(b"\x01*" + ancestor)
            own = self.own.wildcard(ancestor, domain)
            if own is not None:
                work.depends |= own.depends
                return own
            if ancestor == domain.name or self.foreign.exists(ancestor) or self.own.find(ancestor, domain) is not None:
                return None
        return None

    def addresses(self, case: Case, seek: Seek, chain: tuple[bytes, ...] = ()) -> list[Record]:
        """Addresses of a name, behind the aliases that lead to them; an alias that leads nowhere is left out.

        Args:
            case: the name.
            seek: what to look for.
            chain: targets of the aliases that led here.

        Raises:
            TooMuch: see Work.
        """
        if case.ours:
            return [
                Record(case.name, kind, ttl, data) for kind, ttl, data in case.ours.addresses if kind in seek.wanted
            ]
        records: list[Record] = []
        for found in case.hosts:
            if found.address and found.address[0] in seek.wanted:
                records.append(Record(case.name, found.address[0], found.ttl, found.address[1]))
            elif found.target:
                records += self._follow(case, found.target, found.ttl, seek, chain)
        return records

    def _follow(self, case: Case, target: bytes, ttl: int, seek: Seek, chain: tuple[bytes, ...]) -> list[Record]:
        lower = target.lower()
        loops = lower in chain or (lower == case.lower if seek.below else dname.is_under(lower, case.lower))
        if loops or len(chain) >= MAX_CHAIN:
            return []
        reached = self.addresses(self.case(target, seek.work), seek, (*chain, lower))
        alias = Record(case.name, Type.CNAME, ttl, rr.pointing(target))
        return [alias, *reached] if reached else []


def _both(own_denies: Callable[[bytes], bool], foreign_exists: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    return lambda name: not foreign_exists(name) and own_denies(name)


def widened(names: Iterable[bytes]) -> set[bytes]:
    """The names and all above them: what is below a name is part of what a question for it finds."""
    return {ancestor for name in names for ancestor in (name, *_ancestors(name))}


def _ancestors(name: bytes) -> Iterable[bytes]:
    return () if name[:1] == b"\x00" else dname.suffixes(name)


def domain(text: str) -> Domain:
    """A domain of ours from text.

    Raises:
        BadName: it is no domain name.
    """
    if not text.strip("."):
        raise BadName("the root is no domain of ours")
    name = dname.from_text(text.lower())
    return Domain(text.lower().rstrip("."), name, dname.is_reverse(name))
