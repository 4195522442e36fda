"""Where aliases lead: as SkyDNS follows them, and, when there is a forwarder, as RFC 1034 does.

Pure. SkyDNS gives an alias only together with the addresses behind it, and beside other addresses of the same name.
With a forwarder, RFCs win: a name with one target and no address is an alias and nothing else, and what leads nowhere
says so (RFC 6604); any other name has the addresses behind its targets as its own. Names that are not ours are asked
of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from dnsserver.case import Case, Seek, Work, each_target
from dnsserver.message import dname, rr
from dnsserver.message.rr import ADDRESSES, Record, Type
from dnsserver.message.wire import Rcode, Reply
from dnsserver.skydns.record import Found
from dnsserver.zone import Zone

MAX_CHAIN = 8  # aliases in a row; SkyDNS's limit
PASSED_OVER = 16  # of the records that others said of a name, so many cost as much as one that is collected
LED_NOWHERE = Reply(Rcode.NOERROR)
UNWALKED = frozenset({Type.CNAME, Type.ANY})  # types that an alias itself answers


def addresses(zone: Zone, case: Case, seek: Seek, chain: tuple[bytes, ...] = ()) -> list[Record]:
    """Addresses of a name; without a forwarder behind the aliases that lead to them, else all as its own.

    Args:
        zone: what there is.
        case: the name.
        seek: what to look for.
        chain: targets of the aliases that led here.

    Raises:
        TooMuch: see Work.
    """
    if (seek.work.strict or case.flat) and not seek.into:
        seek = seek._replace(into=case.lower)
    if case.ours:
        return seek.work.collect((seek.into or case.lower, case.lower, seek.wanted), lambda: _own(case, seek))
    if case.foreign is not None and case.foreign.mixed:
        seek.work.hostless = True
    records: list[Record] = []
    for found in each_target(case.hosts):
        if found.address and found.address[0] in seek.wanted:
            records.append(Record(case.name, found.address[0], found.ttl, found.address[1]))
        elif found.target and found.target != dname.ROOT:  # as a target the root means "not available" (RFC 2782)
            records += _through(zone, case, found, seek, chain)
    return records


def _own(case: Case, seek: Seek) -> list[Record]:
    said = case.ours.addresses if case.ours else ()
    return [Record(case.name, kind, ttl, data) for kind, ttl, data in said if kind in seek.wanted]


def _through(zone: Zone, case: Case, found: Found, seek: Seek, chain: tuple[bytes, ...]) -> list[Record]:
    target = found.target or dname.ROOT
    lower = target.lower()
    if seek.work.strict or case.flat:
        behind = [] if lower in chain or len(chain) >= MAX_CHAIN else _behind(zone, target, seek, (*chain, lower))
        reached = [one for one in behind if one.type != Type.CNAME]
        return [one._replace(owner=case.name, ttl=min(one.ttl, found.ttl)) for one in reached]
    if lower in chain or lower == case.lower or len(chain) >= MAX_CHAIN:
        return []
    reached = addresses(zone, zone.case(target, seek.work), seek, (*chain, lower))
    return [Record(case.name, Type.CNAME, found.ttl, rr.pointing(target)), *reached] if reached else []


# The addresses that a target has in the end, whoever answers for it. What took part in finding them limits their TTL.
def _behind(zone: Zone, target: bytes, seek: Seek, chain: tuple[bytes, ...]) -> list[Record]:
    lower = target.lower()
    if not is_elsewhere(zone, lower, seek.work):
        return addresses(zone, zone.case(target, seek.work), seek, chain)
    found: list[Record] = []
    for kind in sorted(seek.wanted):
        theirs, last = _theirs(seek.work, lower, kind)
        lowest = min((one.ttl for one in theirs), default=0)
        given = [one for one in theirs if one.type == kind]
        one_kind = seek._replace(wanted=frozenset({kind}))
        if given:
            given = seek.work.collect((seek.into, lower, one_kind.wanted), partial(list, given))
        elif last not in chain and len(chain) < MAX_CHAIN and not is_elsewhere(zone, last, seek.work):
            given = _behind(zone, last, one_kind, (*chain, last))
        found += [one._replace(ttl=min(one.ttl, lowest)) for one in given]
    return found


def is_elsewhere(zone: Zone, lower: bytes, work: Work) -> bool:
    """True for a name in lower case that others answer for, or that nobody told us anything about."""
    work.depends.add(lower)
    work.wholly.add(lower)
    if zone.stub_of(lower):
        return True
    return zone.domain_of(lower) is None and (zone.is_above(lower) or not zone.foreign.exists(lower))


def _theirs(work: Work, name: bytes, rtype: int) -> tuple[list[Record], bytes]:
    found = _along(work.ask(name, rtype).answer, name, rtype)
    work.spend(len(found[0]) // PASSED_OVER)
    return found


# Records of a chain that begins at a name, and where it ends: what else an answer holds is not what was asked for.
def _along(records: Iterable[Record], name: bytes, rtype: int) -> tuple[list[Record], bytes]:
    kept = []
    for record in records:
        if record.owner.lower() == name and record.type in {rtype, Type.CNAME}:
            kept.append(record)
            if record.type == Type.CNAME != rtype:
                name = record.data.names[0].lower()
    return kept, name


class Walked(NamedTuple):
    """Where a chain of aliases ends.

    Attributes:
        steps: its records in order, and whether each is ours; with what others say at its end.
        end: the last name, if it is for us to answer; else what others say, or that the chain goes round.
    """

    steps: Sequence[tuple[Record, bool]]
    end: Case | Reply


def walk(zone: Zone, case: Case, rtype: int, work: Work) -> Walked:
    """Follow aliases from a name, RFC 1034 §4.3.2.

    For a type that is no address only a name without any other data is an alias: SRV and TXT records that stand beside
    a host name are still found.

    Raises:
        TooMuch: see Work.
    """
    steps: list[tuple[Record, bool]] = []
    seen = {case.lower}
    while rtype not in UNWALKED:
        found = case.alias(bare=rtype not in ADDRESSES)
        if found is None or found.target is None:
            break
        if len(steps) >= MAX_CHAIN:
            return Walked(steps, LED_NOWHERE)
        steps.append((Record(case.name, Type.CNAME, found.ttl, rr.pointing(found.target)), True))
        target, lower = found.target, found.target.lower()
        if lower not in seen and is_elsewhere(zone, lower, work):
            seen.add(lower)
            reply = work.ask(lower, rtype)
            theirs, target = _theirs(work, lower, rtype)
            theirs = work.collect((b"", lower, frozenset({rtype})), partial(list, theirs))
            steps += [(record, False) for record in theirs]
            lower = target
            answered = any(record.type == rtype for record in theirs)
            if answered or lower in seen or is_elsewhere(zone, lower, work):
                return Walked(steps, reply)
        if lower in seen:
            return Walked(steps, LED_NOWHERE)
        seen.add(lower)
        case = zone.case(target, work)
    return Walked(steps, case)


def glue(zone: Zone, target: bytes, seek: Seek) -> list[Record]:
    """What an additional section says of a target: its addresses, and the aliases that lead to them.

    Raises:
        TooMuch: see Work.
    """
    if not seek.work.glue or target == dname.ROOT:
        return []
    if not seek.work.strict:
        # Both look for targets in their own domain only; for aliases SkyDNS does among all records.
        inside = zone.domain_of(target.lower()) is not None
        return addresses(zone, zone.case(target, seek.work), seek) if inside else []
    found: list[Record] = []
    for kind in sorted(seek.wanted):
        found += _led(zone, target, Seek(frozenset({kind}), seek.work))
    return found


def _led(zone: Zone, target: bytes, seek: Seek) -> list[Record]:
    lower, (kind,) = target.lower(), seek.wanted
    if is_elsewhere(zone, lower, seek.work):
        theirs, _ = _theirs(seek.work, lower, kind)
        theirs = seek.work.collect((b"", lower, seek.wanted), partial(list, theirs))
        return theirs if any(record.type == kind for record in theirs) else []
    walked = walk(zone, zone.case(target, seek.work), kind, seek.work)
    records = [record for record, _ in walked.steps]
    if isinstance(walked.end, Case):
        records += addresses(zone, walked.end, seek)
    return records if any(record.type == kind for record in records) else []
