"""`pilotfish inspect`: what would be registered of these containers, with the reason for everything that would not.

Pure, so that it works offline on saved `docker inspect` output. Every endpoint is treated as ready, and the containers
given are all there are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pilotfish.catalog.record import Address, Endpoint
from pilotfish.catalog.values import join_host_port, quoted
from pilotfish.catalog.verdict import How, Verdict
from registrator.explaining.contested import contested
from registrator.rules import templates
from registrator.rules.address import FactsOf, Host
from registrator.rules.container import BadDocument, Facts, PortSpec, facts
from registrator.rules.exports import highest, judge_exports, lan_address
from registrator.rules.reasons import Decision, decisions
from registrator.rules.templates import KeyTemplate
from registrator.rules.wanted import Wanted, explained
from registrator.settings import RegistratorSettings


class Read(NamedTuple):
    """A document as far as it could be read.

    Attributes:
        document: as it was given.
        facts: None: it cannot be used.
        notice: why not, or what was made up; else empty.
    """

    document: object
    facts: Facts | None
    notice: str

    def name(self) -> str:
        """What the document calls its container; empty where it does not say."""
        held = self.document if isinstance(self.document, dict) else {}
        return held["Name"].removeprefix("/") if isinstance(held.get("Name"), str) else ""


def inspect(documents: Sequence[object], host: Host, settings: RegistratorSettings) -> dict[str, Any]:
    """Say what would be registered of each container.

    Args:
        documents: what the engine answers for each container (ContainerInspect), or `docker inspect` prints.
        host: that they run on.
        settings: the registrator's.

    Returns:
        `{"containers": [{"id", "name", "endpoints", "left_out", "notices"}]}` in order. A document that cannot
        be used has a notice that names the field, and nothing else. `address` is null where no other host reaches it.

    Raises:
        BadSettings: a key template is none.
    """
    parsed = templates.parse(settings.etcd_tmpl)
    read = [read_document(document, number) for number, document in enumerate(documents, 1)]
    facts_of = finder([one.facts for one in read if one.facts])
    looked = [_decide(one.facts, host, settings, facts_of) if one.facts else None for one in read]
    decided = [one.wanted if one else None for one in looked]
    how = highest([endpoint for one in decided if one for endpoint in one.container.endpoints])
    doubled = _doubled(one for one in decided if one)
    late = _late(decided, settings)
    listed = [
        _container(one, what, _keys(what.wanted, how, settings, parsed), doubled, late.get(number, []))
        if what
        else _unusable(one)
        for number, (one, what) in enumerate(zip(read, looked, strict=True))
    ]
    return {"containers": listed}


def any_usable(documents: Sequence[object]) -> bool:
    """True if `inspect` could decide about one of these documents at least."""
    return any(read_document(document, number).facts for number, document in enumerate(documents, 1))


class _Decided(NamedTuple):
    """What is wanted of a container, and why each of its endpoints is as it is."""

    wanted: Wanted
    why: tuple[tuple[Decision, ...], ...]


def _decide(seen: Facts, host: Host, settings: RegistratorSettings, facts_of: FactsOf) -> _Decided:
    what, bases = explained(seen, host, settings, facts_of)
    why = (
        decisions(one, bases[PortSpec(one.port, one.protocol)], seen, settings, facts_of)
        for one in what.container.endpoints
    )
    return _Decided(what, tuple(why))


def finder(known: Sequence[Facts]) -> FactsOf:
    """Look containers up as the engine does: by id, then by name, then by the beginning of an id."""
    by_id = {one.id: one for one in known}
    by_name = {one.name: one for one in known}

    def find(reference: str) -> Facts | None:
        found = by_id.get(reference) or by_name.get(reference.removeprefix("/"))
        return found or next((one for one in known if reference and one.id.startswith(reference)), None)

    return find


def read_document(document: object, number: int, file: str = "") -> Read:
    """Facts of a document. A hand-written one may lack what only the engine needs, its id: another stands for it.

    Args:
        document: of a container (ContainerInspect).
        number: of the document in its file, from 1.
        file: where there are several.
    """
    try:
        return Read(document, facts(document), "")
    except BadDocument as error:
        if not isinstance(document, dict) or not str(error).startswith("Id "):
            return Read(document, None, f"document {number} cannot be used: {error}")
        notice = f"{error}: another stands for it here"
    stand_in = hashlib.sha256(f"document {number} {file}".encode("utf-8", "replace")).hexdigest()
    try:
        return Read(document, facts({**document, "Id": stand_in}), notice)
    except BadDocument as error:
        return Read(document, None, f"document {number} cannot be used: {error}")


def _keys(
    what: Wanted, how: dict[str, How], settings: RegistratorSettings, parsed: Sequence[KeyTemplate]
) -> list[tuple[dict[str, str], tuple[str, ...]]]:
    """The exports of each endpoint, and what went wrong with them."""

    def of(endpoint: Endpoint) -> tuple[dict[str, str], tuple[str, ...]]:
        made = judge_exports(
            what.container,
            lambda one: Verdict(one.weight if one is endpoint else 0, "as if it passed"),
            lambda name: how.get(name) is How.PROXIED,
            settings,
            parsed,
            is_tagged=lambda name: how.get(name) is How.TAGGED,
        )
        return made.keys, made.problems

    return [of(endpoint) for endpoint in what.container.endpoints]


def _doubled(all_wanted: Iterable[Wanted]) -> frozenset[str]:
    """Ids that more than one container would use: their keys overwrite each other."""
    counted = Counter(endpoint.id for what in all_wanted for endpoint in what.container.endpoints)
    return frozenset(text for text, times in counted.items() if times > 1)


def _late(decided: Sequence[Wanted | None], settings: RegistratorSettings) -> dict[int, list[str]]:
    """By the number of a container, which routes it asks for that a service before it gets."""
    found: dict[int, list[str]] = {}
    listed = ((number, one) for number, what in enumerate(decided) if what for one in what.container.endpoints)
    for one in contested(listed, settings.domain):
        found.setdefault(one.number, []).append(str(one))
    return found


def _container(
    read: Read,
    what: _Decided,
    keys: Sequence[tuple[dict[str, str], tuple[str, ...]]],
    doubled: frozenset[str],
    late: Sequence[str],
) -> dict[str, Any]:
    container = what.wanted.container
    notices = [read.notice, *what.wanted.notices, *(problem for _, problems in keys for problem in problems)]
    notices += [
        f"id {quoted(one.id)} is used by another container too" for one in container.endpoints if one.id in doubled
    ]
    notices += late
    return {
        "id": container.id,
        "name": container.name,
        "endpoints": [
            _endpoint(one, made, why) for one, (made, _), why in zip(container.endpoints, keys, what.why, strict=True)
        ],
        "left_out": [left._asdict() for left in what.wanted.left_out],
        "notices": [notice for notice in dict.fromkeys(notices) if notice],
    }


def _endpoint(endpoint: Endpoint, keys: dict[str, str], why: Sequence[Decision]) -> dict[str, Any]:
    lan = lan_address(endpoint)
    return {
        "service": endpoint.service,
        "id": endpoint.id,
        "label": endpoint.label,
        "address": lan.ip if lan else None,
        "addresses": [{"ip": one.ip, "port": one.port, "scope": one.scope} for one in endpoint.addresses],
        "port": (lan or endpoint.addresses[0]).port,
        "protocol": endpoint.protocol,
        "container_port": f"{endpoint.port}/{endpoint.protocol}",
        "tags": list(endpoint.tags),
        "attrs": dict(endpoint.attrs),
        "weight": endpoint.weight,
        "exports": keys,
        "why": [decision._asdict() for decision in why],
    }


def _unusable(read: Read) -> dict[str, Any]:
    held = read.document if isinstance(read.document, dict) else {}
    return {
        "id": held["Id"] if isinstance(held.get("Id"), str) else "",
        "name": read.name(),
        "endpoints": [],
        "left_out": [],
        "notices": [read.notice],
    }


def report(result: dict[str, Any]) -> str:
    """The result of `inspect` for human eyes: one paragraph a container, one line an endpoint, key, port or notice.

    Nothing that came from a container can leave its line: it was checked or quoted where it was made, or is here.
    """
    return "\n".join(line for container in result["containers"] for line in _paragraph(container))


def _paragraph(container: dict[str, Any]) -> list[str]:
    name, engine_id = (ascii(container[key])[1:-1] for key in ("name", "id"))
    lines = [f"{name or 'a container without a name'} ({engine_id[:12] or 'no id'})"]
    for one in container["endpoints"]:
        lines.append(f"  {one['service']}  {_where(one)}  id {one['id']}  weight {one['weight']}")
        lines += [f"      {key} = {ascii(value)[1:-1]}" for key, value in one["exports"].items()]
        lines += [f"      {why['about']}: {why['rule']}: {why['reason']}" for why in one["why"]]
    lines += [f"  left out {left['port']}: {left['rule']}: {left['reason']}" for left in container["left_out"]]
    lines += [f"  note: {notice}" for notice in container["notices"]]
    if not container["endpoints"] and not container["left_out"]:
        lines.insert(1, "  nothing to register")
    return lines


def _where(one: dict[str, Any]) -> str:
    listed = (Address(**address) for address in one["addresses"])
    places = (f"{join_host_port(each.ip, each.port)}{' (this host only)' * (each.scope == 'node')}" for each in listed)
    return f"{one['protocol']} {', '.join(places)}"
