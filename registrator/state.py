"""The registrator's state as plain values, for /api/state. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from pilotfish.catalog.record import Container, Endpoint
from pilotfish.catalog.verdict import Verdict
from registrator.book import Book, Page
from registrator.engines.engine import EngineInfo
from registrator.remarks import Remarks
from registrator.rules.address import Host
from registrator.writing.claims import Conflict
from registrator.writing.plan import Ground


def show(
    *,
    host: Host,
    engine: EngineInfo | None,
    ground: Ground | None,
    book: Book,
    remarks: Remarks,
    judge: Callable[[Container, Endpoint], Verdict],
    panics: Sequence[str],
    claimant_conflicts: Mapping[str, tuple[Conflict, ...]],
    blocked: Mapping[str, str],
    refused: Mapping[str, str],
) -> dict[str, object]:
    """What is known of the node, its engine and its containers, and what is in the way."""
    return {
        "node": host.node,
        "addresses": host.addresses,
        "engine": engine._asdict() if engine else None,
        "lease": f"{ground.lease:x}" if ground else None,
        "containers": [
            _container(page, remarks.of_templates.get(container, ()), judge)
            for container, page in sorted(book.pages.items(), key=lambda item: item[1].facts.name)
        ],
        "panic": list(panics),
        "conflicts": [
            {"endpoint": one.endpoint, "service": one.service, "owner": one.owner, "host": one.place.host,
             "path": one.place.path, "text": str(one)}
            for conflicts in claimant_conflicts.values()
            for one in conflicts
        ],
        "blocked_exports": dict(blocked),
        "refused_containers": dict(refused),
    }  # fmt: skip


def _container(
    page: Page, problems: tuple[str, ...], judge: Callable[[Container, Endpoint], Verdict]
) -> dict[str, object]:
    record = page.record()
    return {
        "id": record.id,
        "name": record.name,
        "image": record.image,
        "started": record.started,
        "endpoints": [
            {**msgspec.to_builtins(endpoint), "verdict": judge(record, endpoint).reason}
            for endpoint in record.endpoints
        ],
        "left_out": [left._asdict() for left in page.wanted.left_out],
        "notices": [*page.wanted.notices, *problems],
    }
