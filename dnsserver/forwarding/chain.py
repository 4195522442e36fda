"""Which records of a reply belong to the name that was asked for: the aliases from it, and what proves their end.

Pure. A name server elsewhere may say whatever it likes about the name it was asked for; about every other name it is
not believed (RFC 5452 §6, RFC 2181 §5.4.1). Aliases come before what they point at, whatever order they came in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dnsserver.message.dname import is_under, suffixes
from dnsserver.message.rr import Record, Type
from dnsserver.outside import Asked

MAX_ALIASES = 16  # CNAME records that are followed; others stop at 8 to 16

_NSEC3 = 50
_PROOFS = frozenset({Type.NSEC, _NSEC3})


class Sections(NamedTuple):
    """Records that belong together.

    Attributes:
        answer: aliases, then what the last name has.
        authority: the SOA of a negative answer; what proves it when DNSSEC records are wanted.
        aliases: how many records of `answer` come before what the last name has.
        last: the name at the end of the chain.
    """

    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    aliases: int = 0
    last: bytes = b""

    @property
    def found(self) -> bool:
        """True when the last name has what was asked for."""
        return len(self.answer) > self.aliases


def on_the_chain(asked: Asked, answer: list[Record], authority: list[Record]) -> Sections:
    """What of a reply's records belongs to the name that was asked for."""
    if len(answer) == 1 and not authority and answer[0][0] == asked.name and answer[0][1] == asked.type:
        return Sections(tuple(answer), (), 0, asked.name)  # most replies
    aliases, found, last = _Chain(asked, answer).walk()
    leading = _even(aliases)
    proof = _even(_authority(asked, authority, last, negative=not found))
    return Sections((*leading, *_even(found)), proof, len(leading), last)


class _Chain:
    def __init__(self, asked: Asked, answer: list[Record]) -> None:
        self._asked = asked
        self._at: dict[bytes, list[Record]] = {}
        for record in answer:
            self._at.setdefault(record.owner, []).append(record)

    def walk(self) -> tuple[list[Record], list[Record], bytes]:
        """Aliases, what the last name has, and the last name."""
        aliases: list[Record] = []
        name, seen = self._asked.name, set[bytes]()
        while True:
            seen.add(name)
            here = self._at.get(name, [])
            found = self._wanted(here)
            if found:
                return aliases + self._explained(name, found), found, name
            alias = self._of_type(here, Type.CNAME)[:1]  # there is never a second one; RFC 2181 §10.1
            target = alias[0].data.names[0].lower() if alias else name
            if target in seen or len(seen) > MAX_ALIASES:
                return aliases, [], name
            aliases += self._redirection(name, target) + alias + self._signatures(here, Type.CNAME)
            name = target

    def _wanted(self, here: list[Record]) -> list[Record]:
        if self._asked.type == Type.ANY:
            return here
        found = self._of_type(here, self._asked.type)
        return found + self._signatures(here, self._asked.type) if found else []

    def _of_type(self, records: Iterable[Record], rtype: int) -> list[Record]:
        return [record for record in records if record.type == rtype]

    def _signatures(self, records: Iterable[Record], over: int) -> list[Record]:
        if not self._asked.do or over == Type.RRSIG:
            return []
        return [record for record in records if record.type == Type.RRSIG and covered(record) == over]

    # An alias that was asked for may itself come from a DNAME, and is signed only there.
    def _explained(self, name: bytes, found: list[Record]) -> list[Record]:
        alias = found[0] if self._asked.type == Type.CNAME else None
        return [] if alias is None else self._redirection(name, alias.data.names[0].lower())

    # A DNAME above the name explains the CNAME at it, when it leads to the same target (RFC 6672 §2.2).
    def _redirection(self, name: bytes, target: bytes) -> list[Record]:
        for above in suffixes(name[1 + name[0] :]):
            here = self._at.get(above, ())
            for record in self._of_type(here, Type.DNAME):
                if name[: len(name) - len(above)] + record.data.names[0].lower() == target:
                    return [record, *self._signatures(here, Type.DNAME)]
        return []


def covered(signature: Record) -> int:
    """The type that an RRSIG record is over (RFC 4034 §3.1.1)."""
    return int.from_bytes(signature.data.head[:2])


def _authority(asked: Asked, records: list[Record], last: bytes, *, negative: bool) -> list[Record]:
    kept: list[Record] = []
    has_soa = False
    signed = _PROOFS | {Type.SOA} if negative else _PROOFS
    for record in records:
        if record.type == Type.SOA:
            if negative and not has_soa and is_under(last, record.owner):
                kept.insert(0, record)
                has_soa = True
        elif asked.do and (record.type in _PROOFS or (record.type == Type.RRSIG and covered(record) in signed)):
            kept.append(record)
    return kept


# One TTL for all records of a set, the least (RFC 2181 §5.2); each record once (§5).
def _even(records: list[Record]) -> tuple[Record, ...]:
    if len({record.ttl for record in records}) < 2:
        return tuple(dict.fromkeys(records))
    least: dict[tuple[bytes, int, int], int] = {}
    for record in records:
        kind = _kind(record)
        least[kind] = min(record.ttl, least.get(kind, record.ttl))
    return tuple(dict.fromkeys(record._replace(ttl=least[_kind(record)]) for record in records))


def _kind(record: Record) -> tuple[bytes, int, int]:
    return record.owner, record.type, covered(record) if record.type == Type.RRSIG else 0
