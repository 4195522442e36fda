"""The in-memory copy of one prefix of the store, fed in whole revisions.

Pure: readings, changes and surveys go in, differences come out; `io_follow` does the asking. Invariants:

- applying a reading and then every change after it gives the same entries as a later reading;
- nothing older than what is held is ever taken: a change that comes twice, late or after a repair changes nothing;
- records that go and whose node's key does not stay are marked as orphans, whether they went in one transaction (the
  lease ended), while nobody watched, or with the whole store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from pilotfish.catalog import keys
from pilotfish.catalog.record import BadRecord, Node, decode
from pilotfish.catalog.store import Change, Entry, Reading, Survey


class Difference(msgspec.Struct, frozen=True):
    """What changed in the mirror.

    Attributes:
        revision: the mirror's revision after it.
        puts: entries new or changed, sorted by key.
        deletes: keys that went, sorted.
        orphans: those of `deletes`, as they were, whose node's key does not stay: the host or its registrator may have
            died. In another cluster also claims and proxies.
        taken: container records among the other `deletes`, as they were: somebody took them away while their node's key
            stays. Those of a node that leaves are not among them.
        unclaimed: claims among the other `deletes`, as they were.
        started_over: True when it comes from a whole reading, not from a change.
        kept: what a reader keeps beyond its node's key (`orphans.Orphans`): key -> ids of its endpoints that do not
            answer. The mirror itself keeps nothing.
        held: those of `kept` that the guard holds (`guard`).
    """

    revision: int
    puts: tuple[Entry, ...] = ()
    deletes: tuple[str, ...] = ()
    orphans: Mapping[str, Entry] = {}
    taken: Mapping[str, Entry] = {}
    unclaimed: Mapping[str, Entry] = {}
    started_over: bool = False
    kept: Mapping[str, frozenset[str]] = {}
    held: frozenset[str] = frozenset()


class Gone(NamedTuple):
    """Container records and claims that went, as they were.

    Attributes:
        orphans: nobody took them away.
        taken: somebody did, while their node's key stays.
        unclaimed: claims.
    """

    orphans: dict[str, Entry]
    taken: dict[str, Entry]
    unclaimed: dict[str, Entry]


def gone(deletes: Iterable[str], before: Mapping[str, Entry], staying: Mapping[str, Entry]) -> Gone:
    """What became of the records among the deleted keys; what a node took along that left is in neither.

    Args:
        deletes: keys that go.
        before: all entries, before they go.
        staying: all entries afterwards, as far as they can be those of before.
    """
    found = Gone({}, {}, {})
    fates: dict[str, dict[str, Entry]] = {}
    for key in deletes:
        parsed = keys.parse(key)
        if isinstance(parsed, keys.ContainerKey):
            if parsed.node not in fates:
                node = keys.NODES + parsed.node
                fates[parsed.node] = _fate(before.get(node), staying.get(node), found)
            fates[parsed.node][key] = before[key]
        elif isinstance(parsed, keys.ClaimKey):
            found.unclaimed[key] = before[key]
    return found


def _fate(before: Entry | None, after: Entry | None, found: Gone) -> dict[str, Entry]:
    """Where the records of a node belong that go; `before` and `after`: its key."""
    stays = before is None or (after is not None and after.create_revision == before.create_revision)
    if any(_leaves(one) for one in (before, after if stays else None) if one is not None):
        return {}
    return found.taken if stays else found.orphans


def _leaves(node: Entry) -> bool:
    try:
        return decode(Node, node.value).leaving
    except BadRecord:
        return False


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
        went = self._gone_from(deletes, fresh, another=reading.cluster != self.cluster)
        self.entries, self.cluster, self.revision = fresh, reading.cluster, reading.revision
        return Difference(self.revision, puts, deletes, *went, started_over=True)

    # In another cluster equal revisions mean nothing, and nobody gave back the claims, or ended the proxies, that are
    # not there.
    def _gone_from(self, deletes: tuple[str, ...], fresh: Mapping[str, Entry], *, another: bool) -> Gone:
        if not another:
            return gone(deletes, self.entries, fresh)
        others = {key: self.entries[key] for key in deletes if key.startswith((keys.CLAIMS, keys.PROXIES))}
        found = gone(deletes, self.entries, {})
        return Gone(found.orphans | others, found.taken, {})

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
        self.revision = change.revision
        return Difference(self.revision, puts, deletes, *self._alter(puts, deletes))

    def _alter(self, puts: Iterable[Entry], deletes: tuple[str, ...]) -> Gone:
        """Put and delete; returns what became of containers."""
        went = {key: self.entries.pop(key) for key in deletes}
        before = {**went, **{key: self.entries[key] for key in _nodes_of(went) if key in self.entries}}
        self.entries.update((entry.key, entry) for entry in puts)
        return gone(deletes, before, self.entries)

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
        self.repaired += len(fresh) + len(deletes)
        return Difference(self.revision, puts, deletes, *self._alter(fresh, deletes))

    # What is not held may have been deleted after the reading; only a mirror that is not ahead of it can tell.
    def _may_mend(self, key: str, revision: int) -> bool:
        held = self.entries.get(key)
        return self.revision <= revision if held is None else held.mod_revision <= revision


def _nodes_of(container_keys: Iterable[str]) -> set[str]:
    found = (keys.parse(key) for key in container_keys)
    return {keys.NODES + one.node for one in found if isinstance(one, keys.ContainerKey)}


def _same(held: Entry | None, entry: Entry) -> bool:
    return held is not None and held.value == entry.value and held.lease == entry.lease
