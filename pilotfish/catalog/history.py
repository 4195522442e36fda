"""The last changes of a store, from which any number of watches read at their own pace.

Bounded in changes and in octets: the oldest are forgotten, and whoever still needed them must start over. So a watch
that falls behind costs no memory, and no watch has a queue of its own. Knows no clock and no task.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from pilotfish.catalog.store import Change, StartOver

BATCH = 256  # changes handed out at once, so that a slow reader does not keep forgotten ones alive


class History:
    """Changes in order of revision, the newest last.

    Args:
        revision: the store's revision now; changes up to here are not known.
        max_changes: how many are kept at most.
        max_bytes: octets of values kept at most, except that the newest change always is.
    """

    def __init__(self, revision: int, *, max_changes: int, max_bytes: int) -> None:
        self.floor = revision  # everything after this revision is known
        self.head = revision  # the newest revision
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._changes: list[Change] = []
        self._bytes = 0

    def append(self, change: Change) -> None:
        """Add the newest change and forget what is over the bounds."""
        self._changes.append(change)
        self._bytes += _octets(change)
        self.head = change.revision
        self._forget()

    def after(self, revision: int) -> list[Change]:
        """The next changes after `revision`, oldest first, at most BATCH; empty when there are none.

        Raises:
            StartOver: some of them are forgotten, or the store has not come as far as `revision`.
        """
        if revision < self.floor:
            raise StartOver(f"changes after revision {revision} are forgotten, known are those after {self.floor}")
        if revision > self.head:
            raise StartOver(f"revision {revision} is ahead of the store, which is at {self.head}")
        first = bisect_right(self._changes, revision, key=_revision)
        return self._changes[first : first + BATCH]

    def _forget(self) -> None:
        gone = max(0, len(self._changes) - self._max_changes)
        spare = sum(map(_octets, self._changes[:gone]))
        while self._bytes - spare > self._max_bytes and gone < len(self._changes) - 1:
            spare += _octets(self._changes[gone])
            gone += 1
        if gone:
            self.floor = self._changes[gone - 1].revision
            self._bytes -= spare
            del self._changes[:gone]


def narrow(change: Change, prefix: str) -> Change | None:
    """What a change did under one prefix; None when it did nothing there.

    >>> narrow(Change(7, deletes=("/a/1", "/b/1")), "/b/")
    Change(revision=7, puts=(), deletes=('/b/1',))
    """
    puts = tuple(entry for entry in change.puts if entry.key.startswith(prefix))
    deletes = tuple(key for key in change.deletes if key.startswith(prefix))
    return msgspec.structs.replace(change, puts=puts, deletes=deletes) if puts or deletes else None


def _revision(change: Change) -> int:
    return change.revision


def _octets(change: Change) -> int:
    return sum(len(entry.value) for entry in change.puts)
