"""What the store holds of this node, as far as this process knows: its records, and the export keys that concern it.

Pure. Fed by readings, by commits that were performed and by the mirror's differences, in whatever order they arrive:
what is older than what is held changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilotfish.catalog.keys import ContainerKey, parse
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import BadRecord, Container, decode
from pilotfish.catalog.store import Delete, Entry, Operation, Put


class Recorded:
    """The model of one node's share of the store.

    Attributes:
        records: container id -> its entry.
        held: export key -> its entry, whoever wrote it; a key that is not here is taken for absent.
    """

    def __init__(self, node: str) -> None:
        self.records: dict[str, Entry] = {}
        self.held: dict[str, Entry] = {}
        self.node = node
        self._gone: dict[str, int] = {}  # container id -> revision at which its record was seen to go

    def start(self, entries: Iterable[Entry]) -> None:
        """Begin anew from a reading of the node's records; export keys are to be read next."""
        self.records = {id_: entry for entry in entries if (id_ := self._container(entry.key))}
        self.held = {}
        self._gone = {}

    def container(self, container: str) -> Container | None:
        """The record of a container; None when there is none that can be read."""
        entry = self.records.get(container)
        return _decoded(entry) if entry else None

    def listed(self, containers: Iterable[str] | None = None) -> set[str]:
        """Every export key that a record lists; where ids of containers are given, a record of theirs."""
        of = self.records if containers is None else self.records.keys() & set(containers)
        found = (_decoded(self.records[container]) for container in of)
        return {key for record in found if record for key in record.exports}

    def read(self, asked: Iterable[str], entries: Mapping[str, Entry]) -> set[str]:
        """Take in a reading of certain keys, records or exports; returns those that were not as they were held."""
        changed = set()
        for key in asked:
            entry, container = entries.get(key), self._container(key)
            known = self.records if container else self.held
            name = container or key
            before = known.get(name)
            if (before and before.mod_revision) != (entry and entry.mod_revision):
                changed.add(key)
            if entry is None:
                known.pop(name, None)
            else:
                known[name] = entry
        return changed

    def performed(self, operations: Iterable[Operation], revision: int) -> None:
        """Take in what was committed at a revision."""
        for operation in operations:
            match operation:
                case Put(key, value, lease):
                    entry = Entry(key, value, create_revision=revision, mod_revision=revision, lease=lease)
                    self._put(entry)
                case Delete(key):
                    self._delete(key, revision)

    def observe(self, difference: Difference) -> set[str]:
        """Take in what the watch saw; returns ids of containers whose records others changed."""
        changed = set()
        for entry in difference.puts:
            container = self._container(entry.key)
            if container and self._put(entry):
                changed.add(container)
        for key in difference.deletes:
            container = self._container(key)
            if container and self._delete(key, difference.revision):
                changed.add(container)
        return changed

    def elsewhere(self, lease: int) -> bool:
        """True when something of ours hangs on another lease still."""
        mine = self.listed()
        exports = (entry for key, entry in self.held.items() if key in mine)
        return any(entry.lease != lease for entry in [*self.records.values(), *exports])

    def _container(self, key: str) -> str:
        match parse(key):
            case ContainerKey(node, container) if node == self.node:
                return container
        return ""

    def _put(self, entry: Entry) -> bool:
        container = self._container(entry.key)
        known, name = (self.records, container) if container else (self.held, entry.key)
        before = known.get(name)
        if (before and before.mod_revision >= entry.mod_revision) or self._gone.get(name, 0) > entry.mod_revision:
            return False
        known[name] = entry
        return True

    def _delete(self, key: str, revision: int) -> bool:
        container = self._container(key)
        known, name = (self.records, container) if container else (self.held, key)
        before = known.get(name)
        if before and before.mod_revision > revision:
            return False
        if container:
            self._gone[container] = revision
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
        return known.pop(name, None) is not None


MAX_GONE = 1000  # remembered so that a late put of theirs is not taken for news


def _decoded(entry: Entry) -> Container | None:
    try:
        return decode(Container, entry.value)
    except BadRecord:
        return None
