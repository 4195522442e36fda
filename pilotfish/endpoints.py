"""`pilotfish endpoints`: what is registered and whether it is served, as rows, a table or plain values.

Pure: a registry in, rows out; the verdict is the one that DNS and proxies act on.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from pilotfish.catalog.registry import Registry
from pilotfish.catalog.values import join_host_port, quoted
from pilotfish.catalog.verdict import Placed, names_of


class Row(NamedTuple):
    """One endpoint.

    Attributes:
        service: its service.
        names: all names that it stands behind, absolute, under the first domain.
        addresses: where it is reached, preferred first; `(this host only)` where only its own host does.
        state: `starting`, `passing`, `failing` or `draining`.
        weight: with which it is served; 0: it is not.
        reason: of the verdict, in words.
        node: host that it runs on.
        container: name of its container.
        id: its id.
        since: UNIX time in seconds at which its container was started.
    """

    service: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    state: str
    weight: int
    reason: str
    node: str
    container: str
    id: str
    since: float


class UnknownService(LookupError):
    """No endpoint is of this service; the message names the nearest."""


def rows(registry: Registry, service: str | None, domain: str) -> list[Row]:
    """All endpoints, or those of one service, sorted by service and id.

    Raises:
        UnknownService: there is no such service.
    """
    known = registry.services()
    if service is None:
        chosen = known
    elif service.lower() in known:
        chosen = (service.lower(),)
    else:
        near = difflib.get_close_matches(service.lower(), known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UnknownService(f"no endpoint is of service {quoted(service)}{hint}")
    return [_row(placed, domain) for name in chosen for placed in registry.service(name)]


def unlisted(registry: Registry) -> str:
    """What is served and not listed, in words; empty for nothing."""
    if not registry.away:
        return ""
    return f"not listed is what runs on {', '.join(registry.away)}: away, and served as long as it answers"


def _row(placed: Placed, domain: str) -> Row:
    endpoint = placed.endpoint
    return Row(
        service=endpoint.service,
        names=tuple(f"{name}.{domain}" for name in names_of(endpoint)),
        addresses=tuple(
            f"{join_host_port(one.ip, one.port)}{' (this host only)' * (one.scope == 'node')}"
            for one in endpoint.addresses
        ),
        state=endpoint.state,
        weight=placed.verdict.weight,
        reason=placed.verdict.reason,
        node=placed.node,
        container=placed.container.name,
        id=endpoint.id,
        since=placed.container.started,
    )


HEAD = ("SERVICE", "NAME", "ADDRESS", "HEALTH", "NODE", "AGE")


def table(listed: Sequence[Row], now: float) -> str:
    """The rows for human eyes, in columns; the widest decides.

    Nothing in a record can leave its line: reasons are free text, and are printed as ASCII.
    """
    cells = [HEAD, *(_cells(row, now) for row in listed)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: Row, now: float) -> tuple[str, ...]:
    address = row.addresses[0] if row.addresses else "-"
    health = f"{ascii(row.reason)[1:-1]}{f', weight {row.weight}' if row.weight else ''}"
    return (row.service, ",".join(row.names) or "-", address, health, row.node, age(now - row.since))


def age(seconds: float) -> str:
    """A time in its two largest units.

    >>> age(59), age(3 * 3600 + 125), age(2 * 86400 + 3600), age(-1)
    ('59s', '3h2m', '2d1h', '0s')
    """
    left = max(0, int(seconds))
    found: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size or (unit == "s" and not found):
            found.append(f"{left // size}{unit}")
        left %= size
    return "".join(found[:2])


def plain(listed: Sequence[Row], now: float) -> dict[str, object]:
    """The rows for JSON: `{"endpoints": [...]}`, each as `Row` with `published` and `age_s`."""
    shown = (
        {**row._asdict(), "published": row.weight > 0, "age_s": round(max(0.0, now - row.since), 3)} for row in listed
    )
    return {"endpoints": list(shown)}
