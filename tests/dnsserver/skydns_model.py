"""SkyDNS and CoreDNS's etcd plugin as models: what each answers to a question about a set of records, without servers.

Small, slow and literal, after what the two do, mistakes included; nothing of ours is used. How good they are is tested
with the recorded answers; then they say what the two would answer to record sets that nobody recorded.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

ZONE = "skydns.test."
WILD = ("*", "any")
MAX_BEFORE = 7  # aliases that may have led to a name whose aliases are followed


class Row(NamedTuple):
    owner: str
    ttl: int
    type: str
    data: str


class Model(NamedTuple):
    """An answer: sections as sets of rows."""

    rcode: str
    answer: tuple[Row, ...] = ()
    additional: tuple[Row, ...] = ()

    def plain(self) -> tuple[str, frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
        """Without TTLs, in lower case."""
        answer, additional = (
            frozenset((row.owner.lower(), row.type, row.data.lower()) for row in rows)
            for rows in (self.answer, self.additional)
        )
        return self.rcode, answer, additional


class NoSuchKey(Exception):
    """There is nothing at or below a path."""


@dataclass(frozen=True)
class Service:
    """One record, with the defaults that both give it."""

    key: str
    host: str
    port: int
    priority: int
    weight: int
    text: str
    mail: bool
    ttl: int
    targetstrip: int
    group: str

    @classmethod
    def of(cls, key: str, value: Mapping[str, Any]) -> Service:
        fields = {name: value.get(name, kind()) for name, kind in cls.__annotations_of()}
        return cls(key, **{**fields, "ttl": fields["ttl"] or 3600, "priority": fields["priority"] or 10})

    @staticmethod
    def __annotations_of() -> Iterable[tuple[str, type]]:
        numbers = ("port", "priority", "weight", "ttl", "targetstrip")
        return [*((one, int) for one in numbers), ("host", str), ("text", str), ("group", str), ("mail", bool)]

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def kind(self) -> str:
        return "" if self.ip is None else "A" if self.ip.version == 4 else "AAAA"

    @property
    def name(self) -> str:
        return ".".join(reversed(self.key.strip("/").split("/")[1:])) + "."

    @property
    def host_name(self) -> str:
        return self.host.rstrip(".") + "."

    def target(self) -> str:
        return stripped(self.host_name if self.ip is None else self.name, self.targetstrip)

    def said(self) -> tuple[object, ...]:
        return self.host, self.port, self.priority, self.weight, self.text


def stripped(name: str, count: int) -> str:
    labels = name.rstrip(".").split(".")
    return name if count >= len(labels) else ".".join(labels[count:]) + "."


def is_under(zone: str, name: str) -> bool:
    zone, name = zone.lower().rstrip("."), name.lower().rstrip(".")
    return not zone or name == zone or name.endswith(f".{zone}")


def grouped(services: list[Service]) -> list[Service]:
    """Both keep the records of the group that the record with the fewest labels has, and those without one."""
    if not services:
        return services
    group, depth = services[0].group, services[0].key.count("/")
    looked_at = []
    for one in services:
        looked_at.append(one)
        if one.key.count("/") < depth:
            if not one.group:
                break
            group, depth = one.group, one.key.count("/")
    if not group:
        return services
    if any(one.group not in {"", group} and one.key.count("/") == depth for one in looked_at):
        return services
    return [one for one in services if one.group in {"", group}]


class Records:
    """The tree of keys, as both look into it."""

    def __init__(self, records: Iterable[Mapping[str, Any]], order: Mapping[str, float] | None = None) -> None:
        made = [Service.of(record["key"], record["value"]) for record in records]
        self.services = sorted(made, key=lambda one: order[one.key] if order else one.key)

    def at(self, name: str) -> tuple[list[Service], list[Service], list[str]]:
        """Records at the path of a name, those below it, and what a key must match when the name has wildcards."""
        path = ["skydns", *reversed(name.lower().rstrip(".").split("."))] if name != "." else ["skydns"]
        cut = next((at for at, label in enumerate(path) if label in WILD), len(path))
        prefix = "/" + "/".join(path[:cut])
        here = [one for one in self.services if one.key == prefix]
        below = [one for one in self.services if one.key.startswith(prefix + "/")]
        return here, below, path if cut < len(path) else []


def matches(key: str, pattern: list[str]) -> bool:
    parts = key.strip("/").split("/")
    return len(parts) >= len(pattern) and all(
        want in WILD or want == part for want, part in zip(pattern, parts, strict=False)
    )


class SkyDns:
    """SkyDNS 2.5.3a on etcd v2, which sorts nothing: `order` says in which order it meets the keys."""

    def __init__(self, records: Iterable[Mapping[str, Any]], order: Mapping[str, float] | None = None) -> None:
        self._records = Records(records, order)

    def ask(self, name: str, rtype: str) -> Model:
        try:
            answer, additional = getattr(self, f"_{rtype.lower()}", self._other)(name)
        except NoSuchKey:
            return Model("NXDOMAIN")
        answer = tuple(_once(answer))
        lowest = min((row.ttl for row in answer), default=0)
        return Model("NOERROR", tuple(row._replace(ttl=lowest) for row in answer), tuple(_once(additional)))

    def _found(self, name: str) -> list[Service]:
        here, below, pattern = self._records.at(name)
        if not here and not below:
            raise NoSuchKey
        found: dict[tuple[object, ...], Service] = {}
        for one in below or here:
            if not pattern or not below or matches(one.key, pattern):
                found.setdefault(one.said(), one)
        return list(found.values())

    def _addresses(self, owner: str, kinds: tuple[str, ...], before: tuple[str, ...] = ()) -> list[Row]:
        rows: list[Row] = []
        for one in grouped(self._found(owner)):
            if one.kind in kinds:
                rows.append(Row(owner, one.ttl, one.kind, str(one.ip)))
            elif not one.kind:
                target = one.host_name  # the root when there is no host
                if target == owner or len(before) > MAX_BEFORE or target in before:
                    continue
                try:
                    reached = self._addresses(target, kinds, (*before, target))
                except NoSuchKey:
                    continue
                rows += [Row(owner, one.ttl, "CNAME", target), *reached] if reached else []
        return rows

    def _a(self, name: str) -> tuple[list[Row], list[Row]]:
        return self._addresses(name, ("A",)), []

    def _aaaa(self, name: str) -> tuple[list[Row], list[Row]]:
        return self._addresses(name, ("AAAA",)), []

    def _txt(self, name: str) -> tuple[list[Row], list[Row]]:
        return [Row(name, one.ttl, "TXT", one.text) for one in grouped(self._found(name)) if one.text], []

    def _cname(self, name: str) -> tuple[list[Row], list[Row]]:
        found = self._found(name)
        if self._records.at(name)[1] or not found or found[0].kind:
            return [], []
        return [Row(name, found[0].ttl, "CNAME", found[0].host_name)], []

    def _ns(self, name: str) -> tuple[list[Row], list[Row]]:
        if name.lower() != ZONE:
            return [], []
        found = grouped(self._found(f"ns.dns.{ZONE}"))
        if any(not one.kind for one in found):
            return [], []
        return (
            [Row(name, one.ttl, "NS", one.target()) for one in found],
            [Row(one.name, one.ttl, one.kind, str(one.ip)) for one in found],
        )

    def _soa(self, name: str) -> tuple[list[Row], list[Row]]:
        return [Row(name, 0, "SOA", f"ns.dns.{ZONE}")], []

    def _mx(self, name: str) -> tuple[list[Row], list[Row]]:
        found = [one for one in self._found(name) if one.mail]
        return [Row(name, one.ttl, "MX", f"{one.priority} {one.target()}") for one in found], self._glue(found, mx=True)

    def _srv(self, name: str) -> tuple[list[Row], list[Row]]:
        found = grouped(self._found(name))
        rows = [Row(name, one.ttl, "SRV", f"{one.priority} {share} {one.port} {one.target()}")
                for one, share in zip(found, shares(found), strict=True)]  # fmt: skip
        return rows, self._glue(found)

    def _glue(self, found: list[Service], *, mx: bool = False) -> list[Row]:
        rows: list[Row] = []
        looked_up: set[str] = set()
        for one in found:
            target = one.target()
            if one.kind:
                rows.append(Row(one.name if mx else target, one.ttl, one.kind, str(one.ip)))
            elif target not in looked_up and is_under(ZONE, target):
                looked_up.add(target)
                try:
                    rows += self._addresses(target, ("A", "AAAA"))
                except NoSuchKey:
                    continue
        return rows

    def _other(self, name: str) -> tuple[list[Row], list[Row]]:
        self._found(name)
        return [], []


class CoreDns:
    """The etcd plugin of 2026-08 without an upstream: names below those of a key alone are met, keys are sorted."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._records = Records(records)

    def ask(self, name: str, rtype: str) -> Model:
        try:
            if rtype == "NS" and name.lower() == ZONE:
                return self._servers(name)
            rows = getattr(self, f"_{rtype.lower()}", self._other)(name)
        except NoSuchKey:
            return Model("NXDOMAIN")
        return Model("NOERROR", tuple(rows[0]), tuple(rows[1]))

    def _found(self, name: str, *, exact: bool = False, text: bool = False) -> list[Service]:
        here, below, pattern = self._records.at(name)
        found = here if exact else below or here
        if not found:
            raise NoSuchKey
        met = [one for one in found if not pattern or matches(one.key, pattern)]
        return grouped([one for one in met if one.host or (text and one.text)])

    def _at_apex(self, name: str) -> list[Service]:
        if name.lower() == ZONE:
            try:
                return self._found(f"apex.dns.{ZONE}")
            except NoSuchKey:
                pass
        return self._found(name)

    def _addresses(self, owner: str, kind: str, before: tuple[str, ...] = ()) -> list[Row]:
        rows: list[Row] = []
        for one in self._at_apex(owner):
            if one.kind == kind:
                rows.append(Row(owner, one.ttl, kind, str(one.ip)))
            elif not one.kind and not one.text:
                rows += self._through(owner, one, before, lambda target, led: self._addresses(target, kind, led))
        return rows

    @staticmethod
    def _through(owner: str, one: Service, before: tuple[str, ...], reach: Any) -> list[Row]:
        target = one.host_name
        if is_under(owner, target) or len(before) > MAX_BEFORE or target in before or not is_under(ZONE, target):
            return []
        try:
            reached = reach(target, (*before, target))
        except NoSuchKey:
            return []
        return [Row(owner, one.ttl, "CNAME", target), *reached] if reached else []

    def _texts(self, owner: str, before: tuple[str, ...] = ()) -> list[Row]:
        rows: list[Row] = []
        for one in self._found(owner, text=True):
            if not one.kind and one.text:
                rows.append(Row(owner, one.ttl, "TXT", one.text))
            elif not one.kind:
                rows += self._through(owner, one, before, self._texts)
        return rows

    def _a(self, name: str) -> tuple[list[Row], list[Row]]:
        return self._addresses(name, "A"), []

    def _aaaa(self, name: str) -> tuple[list[Row], list[Row]]:
        return self._addresses(name, "AAAA"), []

    def _txt(self, name: str) -> tuple[list[Row], list[Row]]:
        return self._texts(name), []

    def _cname(self, name: str) -> tuple[list[Row], list[Row]]:
        found = self._found(name, exact=True)
        return [Row(name, one.ttl, "CNAME", one.host_name) for one in found[:1] if not one.kind], []

    def _soa(self, name: str) -> tuple[list[Row], list[Row]]:
        return [Row(name, 0, "SOA", f"ns.dns.{ZONE}")], []

    def _servers(self, name: str) -> Model:
        found = self._found(f"ns.dns.{ZONE}")
        if any(not one.kind for one in found):
            return Model("SERVFAIL")
        rows = dict.fromkeys(Row(name, one.ttl, "NS", one.target()) for one in found)
        return Model("NOERROR", tuple(rows), tuple(Row(one.target(), one.ttl, one.kind, str(one.ip)) for one in found))

    def _srv(self, name: str) -> tuple[list[Row], list[Row]]:
        found = self._found(name)
        rows = [(one, one.port, Row(name, one.ttl, "SRV", f"{one.priority} {share or 1} {one.port} {one.target()}"))
                for one, share in zip(found, shares(found), strict=True)]  # fmt: skip
        return self._pointing(rows)

    def _mx(self, name: str) -> tuple[list[Row], list[Row]]:
        found = [one for one in self._found(name) if one.mail]
        return self._pointing(
            [(one, one.priority, Row(name, one.ttl, "MX", f"{one.priority} {one.target()}")) for one in found]
        )

    def _pointing(self, rows: list[tuple[Service, int, Row]]) -> tuple[list[Row], list[Row]]:
        answer: list[Row] = []
        additional: list[Row] = []
        seen: set[tuple[str, int]] = set()
        for one, number, row in rows:
            target = one.target()
            if not one.kind and one.text:
                continue
            if one.kind:
                if (target, number) not in seen:
                    answer.append(row)
                additional.append(Row(one.name if row.type == "MX" else target, one.ttl, one.kind, str(one.ip)))
            else:
                answer.append(row)
                additional += self._looked_up(target) if (target, -1) not in seen else []
            seen.add((target, number if one.kind else -1))
        return answer, additional

    def _looked_up(self, target: str) -> list[Row]:
        try:
            return self._addresses(target, "A") if is_under(ZONE, target) else []
        except NoSuchKey:
            return []

    def _other(self, name: str) -> tuple[list[Row], list[Row]]:
        self._at_apex(name)
        return [], []


def shares(found: list[Service]) -> list[int]:
    """Weights as both scale them: of a hundred for each priority, rounded down."""
    total: dict[int, int] = {}
    for one in found:
        total[one.priority] = total.get(one.priority, 0) + (one.weight or 100)
    return [math.floor(100.0 / total[one.priority] * (one.weight or 100)) for one in found]


def _once(rows: list[Row]) -> list[Row]:
    """Each record once, of an owner's aliases the last."""
    kept: dict[tuple[str, ...], Row] = {}
    for row in rows:
        kept[(row.owner, row.type) if row.type == "CNAME" else (row.owner, row.type, row.data)] = row
    return list(kept.values())
