"""`pilotfish lint`: what is wrong with the tags of containers that need not run.

Pure. It decides nothing itself: it asks `wanted`, as the registrator does, and judges what that says. A finding is what
somebody asked for and does not get, or what two ask for; a notice is what is worth knowing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pilotfish.catalog.record import Endpoint
from pilotfish.catalog.values import quoted
from pilotfish.catalog.verdict import How, names_of
from registrator.explaining.contested import contested
from registrator.explaining.inspect import finder
from registrator.rules.address import Host
from registrator.rules.container import Facts
from registrator.rules.wanted import LeftOut, Wanted, wanted
from registrator.settings import RegistratorSettings

Severity = Literal["finding", "notice"]

# What `wanted` says without anything being wrong; every other sentence of its is a finding.
MERELY = re.compile(
    r"no tag of ours, kept for templates as '[^']*'\Z"
    r"|not yet acted on, kept for templates\Z"
    r"|no SERVICE_ tag applies to it"
    r"|only the proxy on this host reaches it"
    r"|bound to an address of this host only"
    r"|no port is exposed, published or named by a tag\Z"
    r"|: --use-ip-from-label has no effect\Z"
)
# Rule of a sentence -> how it is told; the first that fits.
RULES = (
    ("unknown-tag", re.compile(r"no tag of ours")),
    ("no-such-port", re.compile(r"the container has no port")),
    ("proxy-port", re.compile(r"applies to none of")),
    ("names", re.compile(r"both DNS and PROXYDNS")),
    ("id", re.compile(r"another port has the id")),
    ("reserved", re.compile(r"is a reserved name")),
    ("route", re.compile(r"not proxied|has no effect")),
    ("value", re.compile(r"\((?:env|label)\): ")),
)
# Rules that leave a port out as its tags or the admin want it.
MEANT = frozenset({"ignored", "explicit", "filter"})


class Finding(NamedTuple):
    """One thing to say.

    Attributes:
        file: where the container came from.
        container: its name; empty where it is about the file.
        port: such as `80/tcp`; empty where it is about the container.
        rule: the one word for it.
        severity: `finding` or `notice`.
        text: in words, with what to do.
    """

    file: str
    container: str
    port: str
    rule: str
    severity: Severity
    text: str


class Seen(NamedTuple):
    """A container and the file that it came from."""

    file: str
    facts: Facts


def lint(seen: Sequence[Seen], host: Host, settings: RegistratorSettings) -> list[Finding]:
    """Say what is wrong with some containers, which are judged together, as if they ran on one host.

    Args:
        seen: the containers.
        host: that they are to run on; which addresses it has does not matter, only that it has some.
        settings: the registrator's.

    Returns:
        Findings and notices in the order of the containers, then what several of them share.
    """
    facts_of = finder([one.facts for one in seen])
    decided = [(one, wanted(one.facts, host, settings, facts_of)) for one in seen]
    found = [finding for one, what in decided for finding in _alone(one, what)]
    return list(dict.fromkeys([*found, *_doubled_ids(decided), *_routes(decided, settings), *_names(decided)]))


def _alone(one: Seen, what: Wanted) -> Iterator[Finding]:
    tagged = bool(one.facts.env or one.facts.virtual) or any(key.startswith("SERVICE_") for key in one.facts.labels)
    for left in what.left_out:
        how = _severity(left, what, one.facts, tagged=tagged)
        yield Finding(one.file, one.facts.name, left.port, left.rule, how, left.reason)
    for text in what.notices if tagged else ():  # who tags nothing asks for nothing
        rule = next((rule for rule, sign in RULES if sign.search(text)), "notice")
        severity: Severity = "notice" if MERELY.search(text) else "finding"
        yield Finding(one.file, one.facts.name, "", rule, severity, text)


def _severity(left: LeftOut, what: Wanted, facts: Facts, *, tagged: bool) -> Severity:
    """A port left out is a finding if it was asked for: by a tag of its own, or by tags that no port is left for."""
    unknown = left.rule == "tag" and "is none of the container's networks" in left.reason and _by_cidr(facts)
    if left.rule in MEANT or unknown:
        return "notice"
    if left.rule not in {"unpublished", "protocol", "unreadable"}:
        return "finding"
    number = left.port.partition("/")[0]
    own = any(name.startswith(f"SERVICE_{number}_") for name in (*(name for name, _ in facts.env), *facts.labels))
    return "finding" if own or (tagged and not what.container.endpoints) else "notice"


def _by_cidr(facts: Facts) -> bool:
    """True when NETWORK is given by addresses, which a file does not know."""
    given = [*facts.env, *facts.labels.items()]
    return any(name.endswith("NETWORK") and name.startswith("SERVICE_") and "/" in value for name, value in given)


Decided = Sequence[tuple[Seen, Wanted]]


def _endpoints(decided: Decided) -> Iterator[tuple[Seen, Endpoint]]:
    return ((one, endpoint) for one, what in decided for endpoint in what.container.endpoints)


def _about(one: Seen, endpoint: Endpoint, rule: str, text: str) -> Finding:
    return Finding(one.file, one.facts.name, f"{endpoint.port}/{endpoint.protocol}", rule, "finding", text)


def _doubled_ids(decided: Decided) -> Iterator[Finding]:
    counted = Counter(endpoint.id for _, endpoint in _endpoints(decided))
    for one, endpoint in _endpoints(decided):
        if counted[endpoint.id] > 1:
            yield _about(one, endpoint, "id", f"id {quoted(endpoint.id)} is used by {counted[endpoint.id]} ports")


def _routes(decided: Decided, settings: RegistratorSettings) -> Iterator[Finding]:
    """Two services that ask for one route: only the first gets it."""
    listed = ((number, one) for number, (_, what) in enumerate(decided) for one in what.container.endpoints)
    for one in contested(listed, settings.domain):
        yield _about(decided[one.number][0], one.endpoint, "route", str(one))


def _names(decided: Decided) -> Iterator[Finding]:
    """A name that one container tags for itself and another for the proxies."""
    ways: dict[str, set[How]] = {}
    for _, endpoint in _endpoints(decided):
        for name, how in names_of(endpoint).items():
            ways.setdefault(name, set()).add(how)
    for one, endpoint in _endpoints(decided):
        for name, how in names_of(endpoint).items():
            if how is How.TAGGED and How.PROXIED in ways[name]:
                yield _about(one, endpoint, "names", f"DNS names {name}, which leads to the proxies: the proxies win")


def report(found: Sequence[Finding]) -> str:
    """Findings for human eyes, one a line: `FILE: CONTAINER PORT: RULE: TEXT`; a notice says that it is one.

    Nothing that came from a file can leave its line: it was checked or quoted where it was made, or is here.
    """
    return "\n".join(
        f"{ascii(one.file)[1:-1]}: {_where(one)}{'note: ' if one.severity == 'notice' else ''}{one.rule}: {one.text}"
        for one in found
    )


def _where(one: Finding) -> str:
    """Container and port, with the colon behind; nothing for what is about the file."""
    where = f"{ascii(one.container)[1:-1]} {one.port}".strip()
    return f"{where}: " if where else ""
