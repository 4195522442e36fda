"""What would be written, printed instead of written: `--dry-run`.

Reads the engine and the store once, dials what would be dialled, plans as the writer does, and changes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import msgspec

from pilotfish.catalog.keys import ROOT, containers_of, node_key
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.route import Place, Reserved
from pilotfish.catalog.store import Absent, Delete, Entry, Operation, Put, Store
from pilotfish.catalog.values import quoted
from registrator.book import Book, Look
from registrator.engines.engine import Engine
from registrator.health.io_checks import DIAL_TIMEOUT_S, answers
from registrator.health.io_probe import ask
from registrator.rules.container import BadDocument, facts, runs
from registrator.settings import RegistratorSettings
from registrator.writing.around import Around
from registrator.writing.claims import Held, plan_claims
from registrator.writing.plan import Desired, Ground, Owners, plan, started
from registrator.writing.recorded import Recorded

READ_AT_ONCE = 100  # keys in one read
SHOWN = 2000  # characters of a value


async def rehearse(engine: Engine, store: Store, book: Book, around: Around, settings: RegistratorSettings) -> None:
    """Print what a registrator would write now, one line a key, on standard output.

    Raises:
        EngineError: the engine cannot be read.
        StoreError: the store cannot be read.
    """
    node, mirror = book.host.node, Mirror(ROOT)
    around.apply(mirror.start(await store.read(ROOT)), mirror.entries)
    recorded = await _recorded(store, node)
    book.host = msgspec.structs.replace(book.host, swarm=around.swarm and settings.swarm != "off")
    for container in sorted({*await engine.running(), *recorded.records}):
        if not await _look(engine, book, container, recorded, settings.check_dir):
            recorded.records.pop(container, None)  # what cannot be read stays as it is
    _print(_operations(book, recorded, mirror.entries.get(node_key(node)), around.claims, settings.reserved))


async def _look(engine: Engine, book: Book, container: str, recorded: Recorded, check_dir: str) -> bool:
    """Look at a container and dial its ports; False when it cannot be read."""
    document = await engine.inspect(container)
    try:
        seen = facts(document) if document else None
    except BadDocument as error:
        sys.stdout.write(f"container {container[:12]} cannot be read: {error}\n")
        if runs(document):
            return False
        seen = None
    for one in book.look(Look(container, seen, (), time.time()), recorded.container(container)):
        await _dial(book, one)
        for spec, (progress, targets) in book.probes(one).items():
            book.checked(one, spec, await ask(progress.probe, targets, check_dir) or "", time.time())
    return True


async def _recorded(store: Store, node: str) -> Recorded:
    recorded = Recorded(node)
    recorded.start((await store.read(containers_of(node))).entries)
    keys = sorted(recorded.listed())
    for at in range(0, len(keys), READ_AT_ONCE):
        batch = keys[at : at + READ_AT_ONCE]
        recorded.read(batch, {entry.key: entry for entry in (await store.read(*batch)).entries})
    return recorded


async def _dial(book: Book, container: str) -> None:
    for spec, targets in book.dials(container).items():
        for target in targets:
            if await answers(target, DIAL_TIMEOUT_S):
                book.answered(container, spec, time.time())
                break


def _operations(
    book: Book, recorded: Recorded, node: Entry | None, held: Mapping[Place, Held], reserved: Reserved
) -> list[Operation]:
    leases = {entry.lease for entry in recorded.records.values()} | ({node.lease} if node else set())
    ground = Ground(recorded.node, node.lease if node else 0, Absent("-"), frozenset(leases))
    desired = {container: book.desired(container) for container in book.pages.keys() | recorded.records.keys()}
    owners = Owners()
    granted = {
        container: Desired(one.record, owners.take(container, one.exports)) if one else None
        for container, one in sorted(desired.items(), key=lambda item: (started(item[1]), item[0]))
    }
    endpoints = [endpoint for one in desired.values() if one for endpoint in one.record.endpoints]
    steps, _ = plan_claims(endpoints, held, reserved, time.time())
    planned = plan(granted, recorded.records, recorded.held, ground)
    return [step.operation for step in steps] + [one for commit in planned.commits for one in commit.operations]


def _print(operations: list[Operation]) -> None:
    for operation in operations:
        if isinstance(operation, Put):
            text = quoted(operation.value.decode(errors="replace"), SHOWN)
            sys.stdout.write(f"put    {operation.key} {text}\n")
        elif isinstance(operation, Delete):
            sys.stdout.write(f"delete {operation.key}\n")
    sys.stdout.write(f"{len(operations)} keys would be written\n")
