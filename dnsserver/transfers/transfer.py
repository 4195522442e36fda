"""Whole zones for secondaries (RFC 5936): every name of a domain, as the RRsets that a question for it would give.

Pure. A transfer is put together in steps, so that nobody waits for it, while records come and go; what changed
meanwhile is looked at again, until there is a moment at which all of it is as it is. That moment's serial is the
zone's. So a secondary has a whole zone of one serial, or none.

Where a zone cannot say what we answer, it says less. A name is an alias only when it has nothing else; else it has the
addresses behind its targets, as far as they are ours. Query wildcards, `nearest.` and names without any data are not in
it, names in a stub zone neither. Domains of ours within this one are delegated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from dnsserver.answer import ANSWERERS, Authority, Says, one_ttl, one_ttl_a_set, tidy
from dnsserver.case import Case, Work
from dnsserver.message import dname, rr, wire, writer
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Query, Rcode, Reply
from dnsserver.own.domain import Domain
from dnsserver.skydns.foreign import TooMuch, may_be_wildcard
from dnsserver.transfers import listing
from dnsserver.zone import Zone, widened

MESSAGE = 16_384  # octets; further back no compression pointer reaches (RFC 1035 §4.1.4)
STEP = 64  # answers put together before others have their turn
LAST = 32  # so few places are looked at in one go, or an end would never come
MAX_AGAIN = 20  # how often, on average, each place may change before we give up
PAUSE = b""  # in the place of a message: nothing to send yet


class _Nobody:
    """Nobody is asked: what others say is no part of our zone."""

    def find(self, name: bytes, rtype: int) -> Reply | None:
        del name, rtype
        return Reply(Rcode.NOERROR)


NOBODY = _Nobody()


class Held(NamedTuple):
    """The records of one place, by name; names whose change changes them, and those with all that is below them."""

    names: dict[bytes, tuple[Record, ...]]
    depends: frozenset[bytes]
    wholly: frozenset[bytes]


class Collection:
    """The records of a domain, while they are put together.

    Args:
        zone: what there is; tells what changes until `close`.
        domain: which part of it.
        authority: makes the SOA, as it is when asked.
    """

    def __init__(self, zone: Zone, domain: Domain, authority: Callable[[], Authority]) -> None:
        self._zone, self._domain, self._authority = zone, domain, authority
        self._pending: dict[bytes, None] = dict.fromkeys(listing.places(zone, domain))
        self._left = MAX_AGAIN * (len(self._pending) + STEP)
        self._held: dict[bytes, Held] = {}
        self._users: dict[bytes, set[bytes]] = {}  # name -> places that depend on it
        self._users_wholly: dict[bytes, set[bytes]] = {}
        zone.watching.append(self._changed)

    def close(self) -> None:
        """Hear of no more changes."""
        if self._changed in self._zone.watching:
            self._zone.watching.remove(self._changed)

    @property
    def hopeless(self) -> bool:
        """True when it changes faster than it can be put together, or is no longer what is answered from."""
        return self._left < 0 or self._changed not in self._zone.watching

    def step(self) -> bool:
        """Look at some places; True when all are as they are."""
        room = STEP
        while self._pending and (room > 0 or len(self._pending) <= LAST):
            place, _ = self._pending.popitem()
            room -= self._look_at(place)
        return not self._pending

    def records(self) -> list[Record]:
        """The zone without its SOA; right after `step` said so."""
        found: dict[bytes, tuple[Record, ...]] = {}
        for held in self._held.values():
            for name, records in held.names.items():
                found.setdefault(name, records)
        within = [self._delegated(domain) for domain in self._zone.domains if self._is_within(domain)]
        return [
            *self._servers(self._domain),
            *(record for records in within for record in records),
            *(record for records in found.values() for record in records),
        ]

    @property
    def soa(self) -> Record:
        """The SOA of now."""
        return self._authority().record(self._domain)

    def _changed(self, names: set[bytes]) -> None:
        above = widened(names)
        again = {place for name in names for place in self._users.get(name, ())}
        again |= {place for name in above for place in self._users_wholly.get(name, ())}
        again |= {name for name in above if name[0] and listing.belongs(self._zone, name, self._domain)}
        self._pending.update(dict.fromkeys(again))

    def _look_at(self, place: bytes) -> int:
        self._left -= 1
        before = self._held.pop(place, None)
        if before:
            _forget(self._users, before.depends, place)
            _forget(self._users_wholly, before.wholly, place)
        names: dict[bytes, tuple[Record, ...]] = {}
        depends, wholly, cost = {place}, {place}, 0
        for name in (place, *listing.brought(self._zone, place, self._domain)):
            work = Work(NOBODY, glue=False)
            records = plain(self._zone, name, work, self._authority())
            depends |= work.depends
            wholly |= work.wholly
            cost += 1 + len(records) // 8
            if records:
                names[name] = tuple(records)
        if not names and not listing.may_say(self._zone, place):
            return cost  # when something comes there, it is among what changed
        self._held[place] = Held(names, frozenset(depends), frozenset(wholly))
        for users, those in ((self._users, depends), (self._users_wholly, wholly)):
            for name in those:
                users.setdefault(name, set()).add(place)
        return cost

    def _is_within(self, domain: Domain) -> bool:
        return domain != self._domain and self._zone.domain_of(dname.parent(domain.name)) == self._domain

    def _servers(self, domain: Domain) -> Sequence[Record]:
        return _name_servers(self._zone, domain, self._authority()).answer

    def _delegated(self, domain: Domain) -> Sequence[Record]:
        says = _name_servers(self._zone, domain, self._authority())
        return [*one_ttl(tidy(says.answer)), *one_ttl_a_set(tidy(says.additional))]


def _forget(users: dict[bytes, set[bytes]], names: Iterable[bytes], place: bytes) -> None:
    for name in names:
        users[name].discard(place)


def plain(zone: Zone, name: bytes, work: Work, authority: Authority) -> list[Record]:
    """The RRsets of one name, fit for a zone: all that a question for it would give, or one alias.

    Args:
        zone: what there is.
        name: wire name in lower case, in one of our domains; a `*` in it is that label, and asks for nothing.
        work: what it cost so far; nobody is asked.
        authority: as for questions.
    """
    try:
        case = _literal(zone, name, work)
        if case.wild:
            return []  # it is the wildcard that says this
        alias = case.alias(bare=True)
        if alias is not None and alias.target is not None:
            return [Record(name, Type.CNAME, alias.ttl, rr.pointing(alias.target))]
    except TooMuch:
        return []  # a question for it is SERVFAIL
    return [record for rtype in _types(case) for record in _set(zone, case, rtype, work, authority)]


def _types(case: Case) -> Iterator[Type]:
    """The types that a name may have: those of its records, so that not every question is tried at every name."""
    found = case.foreign.all if case.foreign is not None else ()
    if case.ours or case.hosts or case.apex:
        yield from (Type.A, Type.AAAA, Type.SRV)
    if case.ours and case.ours.bindings:
        yield Type.HTTPS
    if any(one.said.text for one in found):
        yield Type.TXT
    if case.foreign is not None and case.foreign.mails:
        yield Type.MX
    if case.apex or any(one.kept for one in found):
        yield from (Type.CAA, Type.NAPTR)
    if case.domain and case.domain.reverse:
        yield Type.PTR


def _set(zone: Zone, case: Case, rtype: Type, work: Work, authority: Authority) -> list[Record]:
    try:
        return one_ttl(tidy(ANSWERERS[rtype](zone, case, work, authority).answer))
    except TooMuch:
        return []


def _literal(zone: Zone, name: bytes, work: Work) -> Case:
    if not may_be_wildcard(name):
        return zone.case(name, work)
    domain = zone.domain_of(name)
    own = zone.own.find(name, domain) if domain else None
    work.depends |= {name, *(own.depends if own else ())}
    work.wholly.add(name)
    hits = zone.foreign.standing(name)
    return Case(name, domain, own, hits)


def _name_servers(zone: Zone, domain: Domain, authority: Authority) -> Says:
    work = Work(NOBODY)
    return ANSWERERS[Type.NS](zone, Case(domain.name, domain, None, None), work, authority)


class Whole:
    """A zone of one serial: its SOA, and all else."""

    __slots__ = ("__weakref__", "records", "soa")

    def __init__(self, soa: Record, records: Sequence[Record]) -> None:
        self.soa, self.records = soa, records


class Transfers:
    """Puts zones together for those who ask; those who ask at the same time share one.

    Args:
        zone: what there is.
        authority: makes SOA records, as it is when asked.
    """

    def __init__(self, zone: Zone, authority: Callable[[], Authority]) -> None:
        self._zone, self._authority = zone, authority
        self._whole: weakref.WeakValueDictionary[bytes, Whole] = weakref.WeakValueDictionary()

    def reply(self, query: Query, *, tcp: bool) -> Reply | Iterator[bytes]:
        """What is said to who may have the zone.

        Args:
            query: of type AXFR or IXFR.
            tcp: how it came: over UDP only the SOA is told (RFC 1995 §2), and nothing for AXFR (RFC 5936 §4.2).

        Returns:
            One reply, or bodies of messages, without ids; PAUSE among them means that there is nothing to send yet.
        """
        domain = self._zone.domain_of(query.name.lower())
        if domain is None or domain.name != query.name.lower():
            return Reply(Rcode.NOTAUTH)  # RFC 5936 §2.2.1
        soa = self._authority().record(domain)
        if query.type == Type.IXFR and (not tcp or _is_current(query.serial, self._authority().serial)):
            return Reply(Rcode.NOERROR, True, (soa,))
        return self._bodies(query, domain) if tcp else Reply(Rcode.REFUSED)

    def _bodies(self, query: Query, domain: Domain) -> Iterator[bytes]:
        whole = self._whole.get(domain.name)
        if whole is None or whole.soa != self._authority().record(domain):
            collection = Collection(self._zone, domain, self._authority)
            try:
                while not collection.step():
                    yield PAUSE
                    if collection.hopeless:
                        break
                else:
                    whole = self._whole[domain.name] = Whole(collection.soa, collection.records())
            finally:
                collection.close()
        if whole is None or not any(record.type == Type.NS for record in whole.records):
            yield writer.write(query, Reply(Rcode.SERVFAIL), wire.MAX_TCP).body  # a zone without name servers is none
            return
        yield from bodies(query, (whole.soa, *whole.records, whole.soa))


# RFC 1982 §3.2, RFC 1995 §4: who has this serial or a later one has nothing to get.
def _is_current(theirs: int | None, ours: int) -> bool:
    return theirs is not None and (theirs - ours) % 2**32 < 2**31


def bodies(query: Query, records: Sequence[Record]) -> Iterator[bytes]:
    """Replies that hold records in their order, as many in each as fit in MESSAGE octets, but at least one.

    Source: RFC 5936 §2.2; each repeats the question, and has an OPT record if the query has one.
    """
    room = MESSAGE - wire.HEADER - len(query.question) - wire.OPT_SIZE
    batch: list[Record] = []
    size = 0
    for record in records:
        longest = _longest(record)
        if batch and size + longest > room:
            yield _body(query, batch)
            batch, size = [], 0
        batch.append(record)
        size += longest
    yield _body(query, batch)


def _body(query: Query, batch: Sequence[Record]) -> bytes:
    return writer.write(query, Reply(Rcode.NOERROR, True, batch), wire.MAX_TCP).body


# Octets of a record without compression.
def _longest(record: Record) -> int:
    data = record.data
    return len(record.owner) + 10 + len(data.head) + sum(map(len, data.names)) + len(data.tail)
