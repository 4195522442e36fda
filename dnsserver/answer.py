"""A question and the zone to an answer: one function a type, in a table.

Pure. An answer says which names it depends on, so that it can be kept until one of them changes. What all RRsets have
in common (no record twice, one alias an owner, aliases first, one TTL a set) is done in one place, at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dnsserver import aliases, as_coredns
from dnsserver.aliases import glue
from dnsserver.case import Case, Outside, Seek, Work
from dnsserver.message import dname, rr, svcb
from dnsserver.message.rr import Record, Service, Soa, Type
from dnsserver.message.wire import Ede, Rcode, Reply
from dnsserver.outside import Asked
from dnsserver.own.domain import Domain
from dnsserver.own.names import ENDPOINT_TTL, PROXY_TTL
from dnsserver.skydns import foreign
from dnsserver.skydns.foreign import MAX_FOUND, TooMuch
from dnsserver.skydns.record import Found
from dnsserver.zone import APEX, Zone

ONLY_A, ONLY_AAAA = frozenset({Type.A}), frozenset({Type.AAAA})
BOTH = ONLY_A | ONLY_AAAA
FROM_BELOW = BOTH | {Type.SRV, Type.TXT, Type.MX}  # types that foreign records below a name are answered for
MAX_GLUED = 256  # targets whose addresses are added; more would not fit, and clients ask
NS = b"\x02ns\x03dns"


class Says(NamedTuple):
    """The sections of a positive answer; without records in `answer` there is no such data.

    `name_error` marks the one case where SkyDNS and CoreDNS agree on "no such name" for a name that exists; `fence`
    is that of the reply.
    """

    answer: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    name_error: bool = False
    fence: int = 0


NOTHING = Says()


class Answered(NamedTuple):
    """A reply, and what makes it wrong.

    Attributes:
        depends: names (and marks) whose change makes it wrong.
        lookups: what others must be asked first; until then the reply is none.
        expires_s: seconds for which what others said of it counts; None: nothing in it is theirs.
        too_much: it is a failure of ours, and stays one until what it depends on changes.
    """

    reply: Reply
    depends: frozenset[bytes]
    lookups: tuple[Asked, ...] = ()
    expires_s: int | None = None
    too_much: bool = False


class Times(NamedTuple):
    """How often secondaries look for a new zone, and for how long they answer from an old one, in seconds."""

    refresh: int = 28800  # as in SkyDNS, which has no secondaries
    retry: int = 7200
    expire: int = 604800


ALONE = Times()
FOLLOWED = Times(60, 15)  # a NOTIFY may be lost


class Authority:
    """The SOA records of our domains, made once for each serial.

    Args:
        serial: highest revision of the zone; modulo 2^32 on the wire (RFC 1982).
        negative_ttl: seconds for which "no such name" may be kept.
        mailbox: wire name of who is responsible; empty: hostmaster of each domain.
        times: for secondaries.
    """

    def __init__(self, serial: int, negative_ttl: int, mailbox: bytes = b"", times: Times = ALONE) -> None:
        self.serial, self.negative_ttl = serial & 0xFFFFFFFF, negative_ttl
        self._mailbox, self._times = mailbox, times
        self._made: dict[Domain, Record] = {}

    def moved(self, serial: int) -> Authority:
        """The same for another serial."""
        return Authority(serial, self.negative_ttl, self._mailbox, self._times)

    def record(self, domain: Domain) -> Record:
        """The SOA of a domain (RFC 1035 §3.3.13); its own TTL is that of negative answers (RFC 2308 §3)."""
        found = self._made.get(domain)
        if found is None:
            says = Soa(self.serial, *self._times, self.negative_ttl)
            data = rr.soa(NS + domain.name, self._mailbox or b"\x0ahostmaster" + domain.name, says)
            found = self._made[domain] = Record(domain.name, Type.SOA, self.negative_ttl, data)
        return found


def answer(zone: Zone, name: bytes, qtype: int, authority: Authority, outside: Outside | None = None) -> Answered:
    """Answer a question of class IN.

    Args:
        zone: what there is.
        name: wire name as asked; its spelling is kept.
        qtype: any type but meta types.
        authority: for SOA records.
        outside: names that others answer for, for aliases that lead there; None: there is no forwarder, and where
            SkyDNS and CoreDNS agree on what an RFC forbids, they win.

    Source: RFC 1034 §4.3.2, RFC 2308 §2 (negative answers), RFC 6604 (aliases), RFC 8020 (what NXDOMAIN means), RFC
    8482 (ANY).
    """
    lower, work = name.lower(), Work(outside)
    domain = zone.domain_of(lower)
    if domain is None:
        return Answered(_elsewhere(zone, name, lower, qtype), frozenset({lower}))
    try:
        reply = (_walked if work.strict else _plain)(zone, name, qtype, work, authority)
    except TooMuch:
        depends = frozenset({*work.depends, lower})
        return Answered(Reply(Rcode.SERVFAIL), depends, expires_s=work.expires_s, too_much=True)
    return Answered(reply, frozenset(work.depends), tuple(work.lookups), work.expires_s)


def _plain(zone: Zone, name: bytes, qtype: int, work: Work, authority: Authority) -> Reply:
    case = zone.case(name, work, below=qtype in FROM_BELOW)
    says = ANSWERERS.get(qtype, _nothing)(zone, case, work, authority)
    if work.hostless and qtype in as_coredns.ANSWERERS and not case.ours:
        work.renew()
        says = Says(*as_coredns.ANSWERERS[qtype](zone, case, work))
    return _reply(case, says, authority)


def _walked(zone: Zone, name: bytes, qtype: int, work: Work, authority: Authority) -> Reply:
    """The answer at the end of a chain of aliases, with the chain in front of it."""
    try:
        case = zone.case(name, work)
    except TooMuch:
        if qtype in FROM_BELOW:
            raise
        return _plain(zone, name, qtype, work, authority)  # whatever there is, it is no alias alone
    steps, end = aliases.walk(zone, case, qtype, work)
    if isinstance(end, Case):
        reply = _reply(end, ANSWERERS.get(qtype, _nothing)(zone, end, work, authority), authority)
    else:
        reply = Reply(end.rcode, True, (), [one for one in end.authority if one.type == Type.SOA], ede=end.ede)
    if not steps:
        return reply
    if isinstance(end, Case) and reply.authority and work.expires_s is not None:  # its serial is held as it is now
        work.depends.update(record.owner for record in reply.authority)
    lowest = min(record.ttl for record in (*(step for step, ours in steps if ours), *reply.answer))
    chain = [record._replace(ttl=lowest) if ours else record for record, ours in steps]
    ours = [record._replace(ttl=lowest) for record in reply.answer]
    return reply._replace(answer=[*chain, *ours], fence=reply.fence and reply.fence + len(chain))


def _reply(case: Case, says: Says, authority: Authority) -> Reply:
    if says.answer:
        answer_section, additional = one_ttl(tidy(says.answer)), one_ttl_a_set(tidy(says.additional))
        return Reply(Rcode.NOERROR, True, answer_section, (), additional, fence=says.fence)
    if case.domain is None:
        return Reply(Rcode.NOERROR, True)
    rcode = Rcode.NOERROR if case.exists and not says.name_error else Rcode.NXDOMAIN
    return Reply(rcode, True, (), (authority.record(case.domain),))


# Names outside our domains: nothing but what reverse names of our hosts, and foreign records there, say.
def _elsewhere(zone: Zone, name: bytes, lower: bytes, qtype: int) -> Reply:
    if dname.is_reverse(lower):
        pointers = _pointers(zone, name, lower)
        if pointers:
            return Reply(Rcode.NOERROR, answer=pointers if qtype == Type.PTR else ())
    return Reply(Rcode.REFUSED, ede=Ede.NOT_AUTHORITATIVE)


def _pointers(zone: Zone, name: bytes, lower: bytes) -> Sequence[Record]:
    records = [Record(name, Type.PTR, ENDPOINT_TTL, rr.pointing(host)) for host in zone.own.pointers(lower)]
    records += [
        Record(name, Type.PTR, found.ttl, rr.pointing(found.target)) for found in zone.foreign.at(lower) if found.target
    ]
    return one_ttl(tidy(records))


def _nothing(_zone: Zone, _case: Case, _work: Work, _authority: Authority) -> Says:
    return NOTHING


def _a(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    case = zone.at_apex(case)
    return Says(aliases.addresses(zone, case, Seek(ONLY_A, work)), fence=_fence(case, Type.A))


def _aaaa(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    case = zone.at_apex(case)
    return Says(aliases.addresses(zone, case, Seek(ONLY_AAAA, work)), fence=_fence(case, Type.AAAA))


def _fence(case: Case, kind: Type) -> int:
    return case.ours.fence(kind) if case.ours else 0


# What a target's addresses are saves the client a question (RFC 9460 §4.1).
def _https(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    bindings = case.ours.bindings if case.ours else ()
    targets = dict.fromkeys(case.name if one.target == svcb.OWNER else one.target for one in bindings)
    return Says(
        [Record(case.name, Type.HTTPS, PROXY_TTL, svcb.data(one)) for one in bindings],
        [record for target in targets for record in glue(zone, target, Seek(BOTH, work))],
    )


def _srv(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    if case.ours:
        answers = [Record(case.name, Type.SRV, ttl, rr.srv(says)) for ttl, says in case.ours.services]
        work.spend(min(len(answers), MAX_FOUND))
        targets = itertools.islice(dict.fromkeys(says.target for _, says in case.ours.services), MAX_GLUED)
        return Says(answers, [one for target in targets for one in glue(zone, target, Seek(BOTH, work))])
    return _foreign_srv(zone, case, work)


# Records without a host are for TXT: they point nowhere, and count neither as services nor for weights.
def _foreign_srv(zone: Zone, case: Case, work: Work) -> Says:
    work.hostless |= case.foreign is not None and case.foreign.mixed
    weighed = zip(case.hosts, foreign.scaled(list(case.hosts)), strict=True)
    services = [(one.ttl, Service(one.priority, weight, one.said.port, case.target_of(one))) for one, weight in weighed]
    answers = [Record(case.name, Type.SRV, ttl, rr.srv(service)) for ttl, service in services]
    return Says(answers, _targets(zone, case, case.hosts, Seek(BOTH, work), own_names=False))


# SkyDNS's, which asks for no group here. It and CoreDNS give the address of a record at the record's own name even
# where targetstrip makes that no target; RFC 1035 §3.3.9 wants the target's.
def _mx(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    work.hostless |= case.foreign is not None and case.foreign.mails_nowhere
    mails = case.foreign.mails if case.foreign else ()
    answers = [Record(case.name, Type.MX, one.ttl, rr.mx(one.priority, case.target_of(one))) for one in mails]
    return Says(answers, _targets(zone, case, mails, Seek(BOTH, work), own_names=not work.strict))


def _targets(zone: Zone, case: Case, found: Sequence[Found], seek: Seek, *, own_names: bool) -> list[Record]:
    additional: list[Record] = []
    looked_up: set[bytes] = set()
    for one in found:
        target = case.target_of(one)
        if one.address:
            owner = one.name if own_names and not case.wild else target
            additional.append(Record(owner, one.address[0], one.ttl, one.address[1]))
        elif target.lower() not in looked_up:
            looked_up.add(target.lower())
            additional += glue(zone, target, seek)
    return additional


def _txt(_zone: Zone, case: Case, _work: Work, _authority: Authority) -> Says:
    texts = [one for one in (case.foreign.all if case.foreign else ()) if one.said.text]
    return Says([Record(case.name, Type.TXT, one.ttl, rr.text(one.said.text.encode())) for one in texts])


def _cname(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    if case.ours:
        return NOTHING
    found = case.alias(bare=False) if work.strict else next(iter(zone.foreign.at(case.stands)), None)
    if found is None or found.target is None:
        return NOTHING
    return Says([Record(case.name, Type.CNAME, found.ttl, rr.pointing(found.target))])


# What is kept as given belongs to the name that it stands at: who may issue for a name below says nothing of this one.
def _kept(zone: Zone, case: Case, kind: Type) -> Says:
    found = zone.foreign.at(case.stands)
    if case.apex:
        under = zone.foreign.under(APEX + case.lower)
        found += under.all if under else ()
    return Says([Record(case.name, kind, one.ttl, data) for one in found for its, data in one.kept if its == kind])


def _caa(zone: Zone, case: Case, _work: Work, _authority: Authority) -> Says:
    return _kept(zone, case, Type.CAA)


def _naptr(zone: Zone, case: Case, _work: Work, _authority: Authority) -> Says:
    return _kept(zone, case, Type.NAPTR)


def _ptr(zone: Zone, case: Case, _work: Work, _authority: Authority) -> Says:
    return Says(_pointers(zone, case.name, case.lower)) if case.domain and case.domain.reverse else NOTHING


# As in SkyDNS, name servers are the addresses under ns.dns; without any, they are where we answer, or our hosts.
def _ns(zone: Zone, case: Case, work: Work, _authority: Authority) -> Says:
    if case.domain is None or not case.apex:
        return NOTHING
    server = NS + case.domain.name
    work.depends.add(server)
    work.wholly.add(server)
    listed = zone.foreign.under(server)
    if listed is None:
        found = zone.case(server, work)
        ours = aliases.addresses(zone, found, Seek(BOTH, work)) if found.ours else []
        answers = [Record(case.name, Type.NS, PROXY_TTL, rr.pointing(server))] if ours else []
        return Says(answers, ours, name_error=not work.strict)
    if any(one.address is None for one in listed.hosts):
        return NOTHING
    servers = [(dname.without(one.name, one.said.targetstrip), one) for one in listed.hosts]
    return Says(
        [Record(case.name, Type.NS, one.ttl, rr.pointing(name)) for name, one in servers],
        [Record(name, *_typed(one)) for name, one in servers],
    )


def _typed(found: Found) -> tuple[int, int, rr.Data]:
    if found.address is None:
        raise TypeError(f"{found.key} has no address")
    return found.address[0], found.ttl, found.address[1]


def _soa(_zone: Zone, case: Case, work: Work, authority: Authority) -> Says:
    if case.domain is None or not case.apex:
        return NOTHING
    work.depends.add(case.domain.name)
    return Says([authority.record(case.domain)._replace(owner=case.name)])


# Everything at once over UDP is what amplifiers are made of; one small record that exists nowhere else says so.
def _any(_zone: Zone, case: Case, _work: Work, authority: Authority) -> Says:
    if not case.exists:
        return NOTHING
    return Says([Record(case.name, Type.HINFO, authority.negative_ttl, rr.hinfo(b"RFC8482", b""))])


Answerer = Callable[[Zone, Case, Work, Authority], Says]

ANSWERERS: dict[int, Answerer] = {
    Type.A: _a,
    Type.AAAA: _aaaa,
    Type.SRV: _srv,
    Type.TXT: _txt,
    Type.MX: _mx,
    Type.CAA: _caa,
    Type.NAPTR: _naptr,
    Type.CNAME: _cname,
    Type.PTR: _ptr,
    Type.HTTPS: _https,
    Type.NS: _ns,
    Type.SOA: _soa,
    Type.ANY: _any,
}


def tidy(records: Sequence[Record]) -> list[Record]:
    """Each record once, one alias an owner (RFC 2181 §10.1), aliases first, each RRset in one piece.

    Of several aliases, and of records that say the same with different TTLs, the last counts, as in SkyDNS. An owner is
    one however it is spelled (RFC 4343), and all records of a set have it as the first of them.
    """
    aliases: dict[bytes, Record] = {}
    sets: dict[tuple[bytes, int], dict[rr.Data, Record]] = {}
    owners: dict[bytes, bytes] = {}
    for record in records:
        lower = record.owner.lower()
        if record.type == Type.CNAME:
            aliases[lower] = record
            continue
        owner = owners.setdefault(lower, record.owner)
        kept = record if record.owner == owner else record._replace(owner=owner)
        sets.setdefault((lower, record.type), {})[record.data] = kept
    return [*aliases.values(), *(record for held in sets.values() for record in held.values())]


def one_ttl(records: Sequence[Record]) -> list[Record]:
    """All records with the lowest TTL among them, as SkyDNS gives them; so each RRset has one (RFC 2181 §5.2)."""
    lowest = min((record.ttl for record in records), default=0)
    return [record if record.ttl == lowest else record._replace(ttl=lowest) for record in records]


def one_ttl_a_set(records: Sequence[Record]) -> list[Record]:
    """The records of each RRset with the lowest TTL among them (RFC 2181 §5.2)."""
    lowest: dict[tuple[bytes, int], int] = {}
    for record in records:
        lowest[record[:2]] = min(record.ttl, lowest.get(record[:2], record.ttl))
    return [record._replace(ttl=lowest[record[:2]]) for record in records]
