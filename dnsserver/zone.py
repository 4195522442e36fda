"""Our own names and other people's records as one: what there is at a name.

Pure. Our names win over foreign records at the same name; where a name of ours has nothing to say, a foreign record
may. Nothing here knows messages; what is found goes to `answer`, together with the names that it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dnsserver.case import Case, Work
from dnsserver.message import dname
from dnsserver.message.dname import BadName
from dnsserver.own.domain import Domain
from dnsserver.own.index import OwnNames
from dnsserver.own.names import Own
from dnsserver.skydns.foreign import NO_HITS, Foreign, Hits, may_be_wildcard
from dnsserver.skydns.stub import Servers, Stubs
from pilotfish.catalog.mirror import Difference

APEX = b"\x04apex\x03dns"  # CoreDNS's: below it stands what a domain itself says
LOCAL = b"\x05local\x03dns"  # SkyDNS's: stands for one name, told by a setting
STAR = b"\x01*"


class Changed(NamedTuple):
    """What a difference of the store changed.

    Attributes:
        names: names whose answers changed, and marks; those above them are not among them, see `widened`.
        below: names below which all answers changed: stub zones with other servers than before.
    """

    names: set[bytes]
    below: frozenset[bytes] = frozenset()


class Zone:
    """All that we answer from. Change it by `apply_own` and `apply_foreign`.

    Args:
        domains: what we are authoritative for.
        own: our own names.
        foreign: other people's records.
        local: wire name that local.dns of each domain stands for; empty: what is stored there.
    """

    def __init__(self, domains: Sequence[Domain], own: OwnNames, foreign: Foreign, local: bytes = b"") -> None:
        self.domains = tuple(domains)
        self.own, self.foreign = own, foreign
        self.stubs = Stubs(domains, foreign)
        self.watching: list[Callable[[set[bytes]], None]] = []  # are told the names of each change
        self._by_name = {domain.name: domain for domain in domains}
        self._above = {above for domain in domains for above in (dname.ROOT, *dname.suffixes(domain.name))}
        self._above -= self._by_name.keys()
        self._stand_for: dict[bytes, bytes] = {}
        self.set_local(local)

    def set_local(self, local: bytes) -> None:
        """Say what local.dns stands for; what was answered before is to be forgotten."""
        self._stand_for = {LOCAL + domain.name: local.lower() for domain in self.domains if local}

    def apply_own(self, difference: Difference) -> Changed:
        """Take in a difference of /pilotfish/v1/."""
        return self._told(Changed(self.own.apply(difference)))

    def apply_foreign(self, difference: Difference) -> Changed:
        """Take in a difference of the SkyDNS prefix."""
        names = self.foreign.apply(difference)
        return self._told(Changed(names, self.stubs.update(names)))

    def _told(self, changed: Changed) -> Changed:
        for tell in self.watching:
            tell(changed.names)
        return changed

    def domain_of(self, lower: bytes) -> Domain | None:
        """The domain of ours that a name is in: the longest when one lies in another."""
        for ancestor in dname.suffixes(lower):
            found = self._by_name.get(ancestor)
            if found is not None:
                return found
        return None

    def is_above(self, lower: bytes) -> bool:
        """True for names that domains of ours are below: what is below those is no record of theirs."""
        return lower in self._above

    def covers(self, lower: bytes) -> bool:
        """True for names whose answer depends on what the store holds: those in our domains, and reverse names."""
        return self.domain_of(lower) is not None or dname.is_reverse(lower)

    def answers(self, lower: bytes) -> bool:
        """True for names that we answer ourselves: those in our domains, and reverse names that somebody named."""
        if self.domain_of(lower) is not None:
            return True
        if not dname.is_reverse(lower):
            return False
        return bool(self.own.pointers(lower)) or any(one.target for one in self.foreign.at(lower))

    def stub_of(self, lower: bytes) -> Servers:
        """Name servers, address and port, of the stub zone that a name in lower case is in; () if it is in none."""
        return self.stubs.of(lower)

    def exists(self, lower: bytes) -> bool:
        """True for a domain of ours, and a name with anything at or below it; instances and ports are not looked at."""
        return lower in self._by_name or self.own.exists(lower) or self.foreign.exists(lower)

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
                # A name further below may end the search for a wildcard that others right below `above` are made by.
                own = None if self.foreign.exists(STAR + above) else self.own.denies_below(above)
                return (above, _absent(own, self.foreign.exists, self.stubs)) if own else None
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
        stands = self._stand_for.get(lower, lower)
        there = domain if stands is lower else self.domain_of(stands)
        own = self.own.find(stands, there) if there else None
        if own is not None and not own.empty and not (own.yields and self.foreign.exists(stands)):
            work.depends |= {lower, stands, *own.depends}
            work.wholly.add(stands)
            return Case(name, domain, own, self._exactly(stands), stands)
        work.depends |= self._around(stands, there) | (own.depends if own else frozenset())
        if may_be_wildcard(stands):
            work.wholly |= work.depends
        foreign, wild = self._found(stands, below=below), False
        work.wholly.add(stands)
        if own is None and foreign is None and there is not None and stands != there.name:
            own, star = self._wildcard(stands, there, work)
            wild = own is not None or star is not None
            work.wholly |= work.depends
            if star is not None:
                foreign, stands = self._standing(star, below=below), star
        work.spend(len(foreign.all) if foreign else 0)
        return Case(name, domain, own, foreign, stands, wild=wild)

    def _found(self, lower: bytes, *, below: bool) -> Hits | None:
        if below:
            return self.foreign.find(lower)
        return NO_HITS if self.foreign.finds(lower) else None

    def _standing(self, star: bytes, *, below: bool) -> Hits | None:
        return self.foreign.standing(star) if below else NO_HITS

    def at_apex(self, case: Case) -> Case:
        """What addresses a domain itself has: those under apex.dns, if there are any; else it is as any other name."""
        if case.ours or not case.apex:
            return case
        found = self.foreign.under(APEX + case.lower)
        if found is None:
            return case
        return Case(case.name, case.domain, case.own, found, APEX + case.lower, flat=True)

    # At a name of ours others may add what we do not say (a TXT record); what they hold below it is not its own.
    def _exactly(self, lower: bytes) -> Hits | None:
        found = tuple(self.foreign.at(lower))
        mails = tuple(one for one in found if one.said.mail and one.said.host)
        return Hits((), found, mails) if found else None

    # What comes into being at an ancestor may change the answer: an instance below a service, a wildcard's end.
    def _around(self, lower: bytes, domain: Domain | None) -> set[bytes]:
        top = domain.name if domain else dname.ROOT
        names, nearest = {lower}, lower
        for ancestor in dname.suffixes(lower):
            if ancestor == top:
                break
            names.add(ancestor)
            nearest = ancestor
        if may_be_wildcard(lower) or nearest[1:2] == b"_":  # `_tcp.<domain>` comes with what claims the domain itself
            names.add(top)
        return names

    # RFC 4592 §3.3.1: only the wildcard right below the closest name that exists counts. Ours go first here too.
    def _wildcard(self, lower: bytes, domain: Domain, work: Work) -> tuple[Own | None, bytes | None]:
        for ancestor in dname.suffixes(dname.parent(lower)):
            star = STAR + ancestor
            work.depends.add(star)
            own = self.own.wildcard(ancestor, domain)
            if own is not None:
                work.depends |= own.depends
                return own, None
            if self.foreign.exists(star):
                return None, star
            if ancestor == domain.name or self.foreign.exists(ancestor):
                break
            encloser = self.own.find(ancestor, domain)
            if encloser is not None:
                work.depends |= encloser.depends
                break
        return None, None


# Stub zones that come later let go of what was said of the names above them.
def _absent(
    own_denies: Callable[[bytes], bool], foreign_exists: Callable[[bytes], bool], stubs: Stubs
) -> Callable[[bytes], bool]:
    if stubs:
        return lambda name: not foreign_exists(name) and own_denies(name) and not stubs.lead_through(name)
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
