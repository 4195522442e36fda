"""What must be written so that the store says what is wanted: (wanted, recorded) -> the least commits.

Pure. Invariants, held by property tests: performing the plan makes the store say what is wanted; planning again then
plans nothing; nobody else's key is touched; every commit stands on the node's fence, so that a stale process changes
nothing. A container's record stands first and lists the keys exported for it, so that they are found again after any
crash; when it leaves, the exports go first. A container's operations share one commit wherever they fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from pilotfish.catalog.keys import ROOT, container_key
from pilotfish.catalog.record import BadRecord, Container, decode, encode, same
from pilotfish.catalog.store import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Absent,
    Condition,
    Delete,
    Entry,
    Operation,
    Put,
    ValueIs,
)
from pilotfish.catalog.values import quoted

UNIT = MAX_OPERATIONS - 1  # operations of one commit: each may need a condition, and the fence is one more
MAX_BYTES = 1_000_000  # octets of values in one commit; the store takes 1.4 million, keys included


class Ground(NamedTuple):
    """What all writes of a node stand on.

    Attributes:
        node: its name.
        lease: that everything hangs on.
        fence: holds as long as this process may write.
        leases: every lease that has been this node's: what hangs on one of them was written by us.
    """

    node: str
    lease: int
    fence: Condition
    leases: frozenset[int]


class Desired(msgspec.Struct, frozen=True):
    """A container as it is to stand in the store; the record's own list of exports is made by the plan.

    Attributes:
        record: without its exports.
        exports: key -> value, for others' eyes.
    """

    record: Container
    exports: dict[str, bytes] = {}


def started(one: Desired | None) -> float:
    """When a container was started, UNIX time in seconds: who came first has an export key that several ask for."""
    return one.record.started if one else 0.0


class Commit(NamedTuple):
    """One transaction: all of it or nothing.

    Attributes:
        conditions: the fence first.
        operations: in the order in which they would be made one by one.
        containers: ids of the containers that it is about.
    """

    conditions: tuple[Condition, ...]
    operations: tuple[Operation, ...]
    containers: tuple[str, ...]


class Plan(NamedTuple):
    """What is to be done, and what cannot be.

    Attributes:
        commits: in this order.
        blocked: export key -> why it is not written.
        refused: container id -> why it is not recorded at all.
    """

    commits: tuple[Commit, ...]
    blocked: dict[str, str]
    refused: dict[str, str]


class _Step(NamedTuple):
    operation: Operation
    condition: Condition | None = None


class Owners:
    """Which container of this node an export key belongs to; the first that asked keeps it until it goes."""

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}
        self._keys: dict[str, set[str]] = {}

    def release(self, container: str, keeping: Iterable[str] = ()) -> None:
        """The container lets go of its keys, but for those to keep."""
        held = self._keys.pop(container, set())
        kept = held.intersection(keeping)
        for key in held - kept:
            del self._owner[key]
        if kept:
            self._keys[container] = kept

    def take(self, container: str, exports: Mapping[str, bytes]) -> dict[str, bytes]:
        """Those of the exports that the container may write; what it no longer asks for is free for others."""
        self.release(container)
        granted = {key: value for key, value in exports.items() if key not in self._owner}
        self._owner.update(dict.fromkeys(granted, container))
        self._keys[container] = set(granted)
        return granted

    def owner(self, key: str) -> str:
        """Id of the container that a key belongs to; empty for none."""
        return self._owner.get(key, "")


def plan(
    desired: Mapping[str, Desired | None],
    records: Mapping[str, Entry],
    held: Mapping[str, Entry],
    ground: Ground,
    *,
    apart: bool = False,
) -> Plan:
    """Plan the least commits for some containers of a node.

    Args:
        desired: by container id; None: it is to go.
        records: what is recorded of them, by container id.
        held: export keys that stand in the store; a key that is not here is taken for absent, and the commit checks it.
        ground: what the writes stand on.
        apart: those who leave get commits of their own; a full store takes these, and only these.
    """
    blocked: dict[str, str] = {}
    refused: dict[str, str] = {}
    wanted = {key for one in desired.values() if one for key in one.exports}
    leaving: list[tuple[str, list[_Step]]] = []
    staying: list[tuple[str, list[_Step]]] = []
    for container, asked in sorted(desired.items(), key=_first_who_leave):
        entry = records.get(container)
        one, why = _fitting(asked, held, ground, blocked)
        if why:
            refused[container] = why
        steps = _leave(entry, held, ground, wanted) if one is None else _stay(one, entry, held, ground, wanted)
        if steps:
            (leaving if one is None else staying).append((container, steps))
    parts = (leaving, staying) if apart else (leaving + staying,)
    return Plan(tuple(commit for part in parts for commit in _pack(part, ground.fence)), blocked, refused)


def _first_who_leave(item: tuple[str, Desired | None]) -> tuple[bool, str]:
    return item[1] is not None, item[0]


def _fitting(
    one: Desired | None, held: Mapping[str, Entry], ground: Ground, blocked: dict[str, str]
) -> tuple[Desired | None, str]:
    """What may be written of what is desired, with its export keys listed in the record."""
    if one is None:
        return None, ""
    exports = {}
    for key, value in one.exports.items():
        why = _obstacle(key, value, held.get(key), ground)
        if why:
            blocked[key] = why
        else:
            exports[key] = value
    record = msgspec.structs.replace(one.record, exports=tuple(sorted(exports)))
    size = len(encode(record))
    if size > MAX_VALUE_BYTES:
        return None, f"its record would have {size} octets, over the limit of {MAX_VALUE_BYTES}: fewer or shorter tags"
    return Desired(record, exports), ""


def _obstacle(key: str, value: bytes, entry: Entry | None, ground: Ground) -> str:
    if key.startswith(ROOT):
        return f"{quoted(key)} is under {ROOT}, which is not for exports"
    if len(value) > MAX_VALUE_BYTES:
        return f"{quoted(key)} has {len(value)} octets, over the limit of {MAX_VALUE_BYTES}"
    if entry is not None and entry.lease not in ground.leases:
        return f"{quoted(key)} is somebody else's; it is written when they let go of it"
    return ""


def _stay(
    one: Desired, entry: Entry | None, held: Mapping[str, Entry], ground: Ground, wanted: set[str]
) -> list[_Step]:
    recorded = _recorded(entry)
    steps = _removals(recorded, held, ground, wanted | one.exports.keys())
    if entry is None or entry.lease != ground.lease or recorded is None or not same(recorded, one.record):
        value = encode(one.record, keeping=entry.value if entry else b"")
        steps.append(_Step(Put(container_key(ground.node, one.record.id), value, ground.lease)))
    for key, value in sorted(one.exports.items()):
        there = held.get(key)
        if there is None:
            steps.append(_Step(Put(key, value, ground.lease), Absent(key)))
        elif there.value != value or there.lease != ground.lease:
            steps.append(_Step(Put(key, value, ground.lease), ValueIs(key, there.value)))
    return steps


def _leave(entry: Entry | None, held: Mapping[str, Entry], ground: Ground, wanted: set[str]) -> list[_Step]:
    if entry is None:
        return []
    return [*_removals(_recorded(entry), held, ground, wanted), _Step(Delete(entry.key))]


def _recorded(entry: Entry | None) -> Container | None:
    """The record of an entry; one that cannot be read says nothing, and is written anew."""
    if entry is None:
        return None
    try:
        return decode(Container, entry.value)
    except BadRecord:
        return None


def _removals(
    recorded: Container | None, held: Mapping[str, Entry], ground: Ground, keeping: Iterable[str]
) -> list[_Step]:
    """Remove the export keys of a record, but for those to keep and those that others have written over."""
    stale = sorted(set(recorded.exports if recorded else ()) - set(keeping), reverse=True)
    ours = [held[key] for key in stale if key in held and held[key].lease in ground.leases]
    return [_Step(Delete(entry.key), ValueIs(entry.key, entry.value)) for entry in ours]


def _pack(units: Iterable[tuple[str, list[_Step]]], fence: Condition) -> Iterable[Commit]:
    """As few commits as the limits allow; a container is cut only if it is too large for one."""
    steps: list[_Step] = []
    containers: list[str] = []
    for container, unit in units:
        for piece in _pieces(unit):
            if steps and (len(steps) + len(piece) > UNIT or _octets(steps) + _octets(piece) > MAX_BYTES):
                yield _commit(steps, containers, fence)
                steps, containers = [], []
            steps += piece
            containers.append(container)
    if steps:
        yield _commit(steps, containers, fence)


def _pieces(unit: list[_Step]) -> Iterable[list[_Step]]:
    piece: list[_Step] = []
    for step in unit:
        if piece and (len(piece) == UNIT or _octets(piece) + _octets([step]) > MAX_BYTES):
            yield piece
            piece = []
        piece.append(step)
    yield piece


def _octets(steps: Iterable[_Step]) -> int:
    return sum(len(step.operation.value) for step in steps if isinstance(step.operation, Put))


def _commit(steps: Iterable[_Step], containers: Iterable[str], fence: Condition) -> Commit:
    listed = tuple(steps)
    conditions = tuple(step.condition for step in listed if step.condition is not None)
    return Commit((fence, *conditions), tuple(step.operation for step in listed), tuple(dict.fromkeys(containers)))
