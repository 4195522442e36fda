"""The in-memory copy of one prefix of the store, fed in whole revisions.

Pure: readings, changes and surveys go in, differences come out; `io_follow` does the asking. Invariants:

- applying a reading and then every change after it gives the same entries as a later reading;
- nothing older than what is held is ever taken: a change that comes twice, late or after a repair changes nothing;
- records that go together with their node's key are marked as orphans, whether they went in one transaction (the lease
  ended) or while nobody watched.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pilotfish.catalog import keys
from pilotfish.catalog.store import Change, Entry, Reading, Survey


class Difference(msgspec.Struct, frozen=True):
    """What changed in the mirror.

    Attributes:
        revision: the mirror's revision after it.
        puts: entries new or changed, sorted by key.
        deletes: keys that went, sorted.
        orphans: those of `deletes` that went together with their node's key: the host or its registrator may have died.
        started_over: True when it comes from a whole reading, not from a change.
    """

    revision: int
    puts: tuple[Entry, ...] = ()
    deletes: tuple[str, ...] = ()
    orphans: frozenset[str] = frozenset()
    started_over: bool = False


def orphaned(deletes: Iterable[str]) -> frozenset[str]:
    """Which of the deleted keys are container records whose node's key went with them.

    >>> sorted(orphaned(["/pilotfish/v1/nodes/h1", "/pilotfish/v1/containers/h1/0a", "/pilotfish/v1/containers/h2/0b"]))
    ['/pilotfish/v1/containers/h1/0a']
    """
    parsed = {key: keys.parse(key) for key in deletes}
    nodes = {found.node for found in parsed.values() if isinstance(found, keys.NodeKey)}
    return frozenset(
        key for key, found in parsed.items() if isinstance(found, keys.ContainerKey) and found.node in nodes
    )


class Mirror:
    """Copy of everything under `prefix`; empty and at revision 0 until the first reading."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.cluster = ""
        self.revision = 0
        self.entries: dict[str, Entry] = {}
        self.repaired = 0  # entries that a survey found wrong and that were mended

    @property
    def complete(self) -> bool:
        """True once a whole reading (or a snapshot) was taken in."""
        return self.cluster != ""

    def start(self, reading: Reading) -> Difference:
        """Take in a whole reading; the difference says what is not as it was.

        Used at the first start, after compaction or loss, and for another cluster, whose revisions may be lower.
        """
        fresh = {entry.key: self._shared(entry) for entry in reading.entries if entry.key.startswith(self.prefix)}
        puts = tuple(entry for key, entry in fresh.items() if not _same(self.entries.get(key), entry))
        deletes = tuple(sorted(self.entries.keys() - fresh.keys()))
        self.entries, self.cluster, self.revision = fresh, reading.cluster, reading.revision
        return Difference(self.revision, puts, deletes, orphaned(deletes), started_over=True)

    # What is read again is equal to what is held, and others hold on to that: the same octets are not kept twice.
    def _shared(self, entry: Entry) -> Entry:
        held = self.entries.get(entry.key)
        if held is None or held.value != entry.value:
            return entry
        return held if held == entry else msgspec.structs.replace(entry, key=held.key, value=held.value)

    def apply(self, change: Change) -> Difference:
        """Take in one transaction, whole. What is not newer than what is held is left out."""
        if change.revision <= self.revision:
            return Difference(self.revision)
        puts = tuple(entry for entry in change.puts if self._is_news(entry))
        deletes = tuple(key for key in change.deletes if self._held_before(key, change.revision))
        self.entries.update((entry.key, entry) for entry in puts)
        for key in deletes:
            del self.entries[key]
        self.revision = change.revision
        return Difference(self.revision, puts, deletes, orphaned(deletes))

    def _is_news(self, entry: Entry) -> bool:
        held = self.entries.get(entry.key)
        return entry.key.startswith(self.prefix) and (held is None or held.mod_revision < entry.mod_revision)

    def _held_before(self, key: str, revision: int) -> bool:
        held = self.entries.get(key)
        return held is not None and held.mod_revision < revision

    def suspects(self, survey: Survey) -> dict[str, int]:
        """Keys that a survey sees otherwise than the mirror, with the mod revision that the mirror holds (0: none).

        One difference proves nothing: the watch may be about to deliver it. What is still the same later is wrong.
        """
        held = {key: entry.mod_revision for key, entry in self.entries.items()}
        differing = {key for key, _ in held.items() ^ survey.keys.items()}
        return {key: held.get(key, 0) for key in differing}

    def repair(self, suspects: Iterable[str], reading: Reading) -> Difference:
        """Mend the keys under suspicion from a reading that is newer than the survey.

        What the watch brought while the reading was under way stays.
        """
        if reading.cluster != self.cluster:
            return Difference(self.revision)
        wrong = [key for key in sorted(suspects) if self._may_mend(key, reading.revision)]
        read = {entry.key: entry for entry in reading.entries}
        fresh = [read[key] for key in wrong if key in read and self.entries.get(key) != read[key]]
        puts = tuple(entry for entry in fresh if not _same(self.entries.get(entry.key), entry))
        deletes = tuple(key for key in wrong if key not in read and key in self.entries)
        self.entries.update((entry.key, entry) for entry in fresh)
        for key in deletes:
            del self.entries[key]
        self.repaired += len(fresh) + len(deletes)
        return Difference(self.revision, puts, deletes, orphaned(deletes))

    # What is not held may have been deleted after the reading; only a mirror that is not ahead of it can tell.
    def _may_mend(self, key: str, revision: int) -> bool:
        held = self.entries.get(key)
        return self.revision <= revision if held is None else held.mod_revision <= revision


def _same(held: Entry | None, entry: Entry) -> bool:
    return held is not None and held.value == entry.value and held.lease == entry.lease
