"""Answers as CoreDNS's etcd plugin gives them, for where SkyDNS's cannot be given.

Pure. To SkyDNS a record without a host has the root as its host: an answer that comes upon one is full of the addresses
of everything. There CoreDNS is followed in all it does, so that the whole answer is one of the two: a name beside a
text is no alias and no service, additional sections have A only, what is said twice counts twice for weights, and an
alias of a name to names below it is left out (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dnsserver.case import Case, Work, each_target
from dnsserver.message import dname, rr
from dnsserver.message.rr import Record, Service, Type
from dnsserver.skydns.foreign import scaled
from dnsserver.skydns.record import Found
from dnsserver.zone import Zone

MAX_CHAIN = 8  # aliases in a row
Sections = tuple[list[Record], list[Record]]  # answer, additional


class Looking(NamedTuple):
    """Where is looked for what, and what it cost so far."""

    zone: Zone
    kind: Type
    work: Work

    def at(self, target: bytes, chain: tuple[bytes, ...] = ()) -> list[Record]:
        """Addresses of a target."""
        return self.of(self.zone.case(target, self.work), chain)

    def of(self, case: Case, chain: tuple[bytes, ...] = ()) -> list[Record]:
        """Addresses of a name, behind the aliases that lead to them.

        Raises:
            TooMuch: see Work.
        """
        case = self.zone.at_apex(case)
        if case.ours:
            return self.work.collect((case.lower, case.lower, frozenset({self.kind})), lambda: self._own(case))
        records: list[Record] = []
        for found in each_target(case.each_host):
            if found.target and not found.said.text:
                records += self._through(case, found, found.target, chain)
            elif found.address and found.address[0] == self.kind:
                records.append(Record(case.name, self.kind, found.ttl, found.address[1]))
        return records

    def _own(self, case: Case) -> list[Record]:
        said = case.ours.addresses if case.ours else ()
        return [Record(case.name, its, ttl, data) for its, ttl, data in said if its == self.kind]

    def _through(self, case: Case, found: Found, target: bytes, chain: tuple[bytes, ...]) -> list[Record]:
        lower = target.lower()
        loops = lower in chain or dname.is_under(lower, case.lower)
        if loops or len(chain) >= MAX_CHAIN or self.zone.domain_of(lower) is None:
            return []
        reached = self.at(target, (*chain, lower))
        return [Record(case.name, Type.CNAME, found.ttl, rr.pointing(target)), *reached] if reached else []


def _a(zone: Zone, case: Case, work: Work) -> Sections:
    return Looking(zone, Type.A, work).of(case), []


def _aaaa(zone: Zone, case: Case, work: Work) -> Sections:
    return Looking(zone, Type.AAAA, work).of(case), []


def _srv(zone: Zone, case: Case, work: Work) -> Sections:
    weighed = zip(case.each_host, scaled(list(case.each_host)), strict=True)
    pointing = []
    for found, weight in weighed:
        service = Service(found.priority, max(1, weight), found.said.port, case.target_of(found))
        pointing.append(Pointing(found, found.said.port, Record(case.name, Type.SRV, found.ttl, rr.srv(service))))
    return _sections(Looking(zone, Type.A, work), case, pointing)


def _mx(zone: Zone, case: Case, work: Work) -> Sections:
    pointing = []
    for found in case.each_host:
        if found.said.mail:
            data = rr.mx(found.priority, case.target_of(found))
            pointing.append(Pointing(found, found.priority, Record(case.name, Type.MX, found.ttl, data)))
    return _sections(Looking(zone, Type.A, work), case, pointing)


class Pointing(NamedTuple):
    """What is found, its port or preference, and the record that points at it."""

    found: Found
    number: int
    record: Record


def _sections(looking: Looking, case: Case, pointing: Iterable[Pointing]) -> Sections:
    answers: list[Record] = []
    additional: list[Record] = []
    seen: set[tuple[bytes, int | None]] = set()  # a target that was made up, with each number once; others once
    for found, number, record in pointing:
        target = case.target_of(found)
        if found.address:
            if (target, number) not in seen:
                answers.append(record)
            owner = found.name if record.type == Type.MX and not case.wild else target
            additional.append(Record(owner, found.address[0], found.ttl, found.address[1]))
            seen.add((target, number))
        elif not found.said.text:
            answers.append(record)
            if (target, None) not in seen and looking.zone.domain_of(target.lower()) is not None:
                additional += looking.at(target)
            seen.add((target, None))
    return answers, additional


ANSWERERS: dict[int, Callable[[Zone, Case, Work], Sections]] = {
    Type.A: _a,
    Type.AAAA: _aaaa,
    Type.SRV: _srv,
    Type.MX: _mx,
}
