"""The Store protocol: what every part may ask of the one store, and how it can fail.

Two stores implement it (`io_etcd`, `io_embedded`), and the feed hands it on to other processes (`io_feed`).
The protocol knows keys and bytes only; what they mean is known to `keys` and `record`.

Invariants that every implementation holds and `tests/contract/test_store.py` checks:

- revisions grow by one or more for each commit that changed something, over the whole store;
- a read is consistent: all its entries are of the one revision that it names;
- a watch from revision R delivers every change after R exactly once, in order, a whole transaction at a time;
- a commit is all or nothing, and tells which;
- keys under a lease go together, in one revision, when it ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeAlias

import msgspec

MAX_OPERATIONS = 120  # operations in one commit: etcd refuses more than 128 by default; conditions count apart
MAX_VALUE_BYTES = 1_000_000  # etcd refuses requests over 1.5 MiB; our largest record has 600 kB, a usual one 2


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One key of the store as it stands at some revision.

    Attributes:
        key: the whole key, "/pilotfish/v1/nodes/h1".
        value: its bytes, never interpreted here.
        create_revision: revision at which the key came into being; a key that was deleted and put again has a new one.
        mod_revision: revision of its last put.
        lease: id of the lease it hangs on, 0 for none.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class Reading(msgspec.Struct, frozen=True):
    """Everything under some prefixes at one revision.

    Attributes:
        cluster: identity of the store; another one means that nothing known before is true any more.
        revision: the store's revision at which all entries were read.
        entries: sorted by key.
    """

    cluster: str
    revision: int
    entries: tuple[Entry, ...]

    def entry(self, key: str) -> Entry | None:
        """The entry of one key, which was read as a prefix and may have longer ones beside it; None: there is none."""
        return next((one for one in self.entries if one.key == key), None)

    def unchanged(self, key: str) -> Condition:
        """Holds as long as nobody has touched a key since it was read."""
        found = self.entry(key)
        return ModifiedAt(key, found.mod_revision) if found else Absent(key)


class Survey(msgspec.Struct, frozen=True):
    """What is under a prefix at one revision, without values.

    Attributes:
        cluster: identity of the store, as in Reading.
        revision: the store's revision at which it was taken.
        count: how many keys there are.
        keys: each key's mod_revision; empty when only the count was asked for.
    """

    cluster: str
    revision: int
    count: int
    keys: dict[str, int] = {}


class Change(msgspec.Struct, frozen=True):
    """One transaction as a watch sees it: what one revision changed under the watched prefix.

    Attributes:
        revision: the revision that made it.
        puts: keys created or changed, sorted by key; at most one per key.
        deletes: keys that went, sorted.
    """

    revision: int
    puts: tuple[Entry, ...] = ()
    deletes: tuple[str, ...] = ()


class Put(msgspec.Struct, frozen=True, tag=True):
    """Set `key` to `value`, under `lease` (0: under none)."""

    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Remove `key`; nothing happens when it is absent."""

    key: str


class DeletePrefix(msgspec.Struct, frozen=True, tag=True):
    """Remove every key that starts with `prefix`."""

    prefix: str


Operation: TypeAlias = Put | Delete | DeletePrefix


class Absent(msgspec.Struct, frozen=True, tag=True):
    """Holds when `key` does not exist."""

    key: str


class CreatedAt(msgspec.Struct, frozen=True, tag=True):
    """Holds when `key` exists and was created at `revision` (1 or more): the fence that a stale process cannot pass."""

    key: str
    revision: int


class ModifiedAt(msgspec.Struct, frozen=True, tag=True):
    """Holds when `key` exists and was last put at `revision` (1 or more)."""

    key: str
    revision: int


class ValueIs(msgspec.Struct, frozen=True, tag=True):
    """Holds when `key` exists and has exactly this value."""

    key: str
    value: bytes


Condition: TypeAlias = Absent | CreatedAt | ModifiedAt | ValueIs


class Committed(msgspec.Struct, frozen=True):
    """What became of a commit.

    Attributes:
        succeeded: False when a condition did not hold; then nothing was changed.
        revision: the store's revision after the commit.
    """

    succeeded: bool
    revision: int


class StoreError(Exception):
    """The store could not do what was asked. `retry` says whether asking again later can help."""

    retry: bool = True


class StoreUnavailable(StoreError):
    """The store cannot be reached, has no leader, or did not answer in time."""


class StartOver(StoreError):
    """The watch cannot go on from where it was (compacted, or another cluster): read everything anew."""


class LeaseGone(StoreError):
    """The lease has ended: grant a new one and put everything under it again."""


class StoreFull(StoreError):
    """The store takes no writes (etcd: NOSPACE alarm); reads go on."""


class AccessRefused(StoreError):
    """The store knows us and says no: wrong user, password or role.

    The message names user and prefix, never the password.
    """


class BadRequest(StoreError):
    """The store refuses what was asked (too large, too many operations): asking again changes nothing."""

    retry = False


class Store(Protocol):
    """One consistent key-value store with leases and watches.

    Every method may raise StoreUnavailable or AccessRefused, has a timeout of its own, and may be called concurrently.
    """

    async def read(self, *prefixes: str) -> Reading:
        """Read everything under the prefixes, at one revision.

        Linearizable: what was committed before is seen.
        """
        ...

    async def survey(self, prefix: str, *, keys: bool) -> Survey:
        """Count what is under the prefix, or list its keys with their revisions, without reading values.

        A watch is not believed alone: the mirror compares itself with this from time to time.
        """
        ...

    def watch(self, prefix: str, revision: int) -> AsyncGenerator[Change | Quiet, None]:
        """Follow one prefix from just after `revision`, for ever.

        Close it (contextlib.aclosing) when it is left before its end.

        Yields:
            Quiet as soon as the watch stands; Change for each transaction, whole and in order; Quiet at least every
            10 s while nothing changes, as the sign that the watch is alive.

        Raises:
            StartOver: the changes after `revision` are no longer known.
            StoreUnavailable: the watch broke or fell silent; watch again from the last revision that was applied.
        """
        ...

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Committed:
        """Apply all operations if all conditions hold; otherwise nothing.

        At most MAX_OPERATIONS operations, and no key twice. A StoreUnavailable leaves it open whether it happened.

        Raises:
            LeaseGone: an operation names a lease that has ended.
            StoreFull: no space.
            BadRequest: too many operations, or a value too large.
        """
        ...

    async def grant(self, ttl_s: int) -> Lease:
        """Begin a lease of about `ttl_s` seconds; the store may lengthen it."""
        ...

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease; returns the seconds it now has.

        Raises:
            LeaseGone: it has ended; its keys are gone or going.
        """
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease at once, with all its keys. Nothing happens when it has ended before."""
        ...

    async def close(self) -> None:
        """Let go of sockets, files and tasks. Leases live on until they run out."""
        ...


class Lease(msgspec.Struct, frozen=True):
    """A lease as granted: `id` for operations and renewals, `ttl_s` seconds without a renewal until it ends."""

    id: int
    ttl_s: float


class Quiet(msgspec.Struct, frozen=True):
    """A sign of life of a watch. `revision`: nothing under the prefix has changed up to here (0: not known)."""

    revision: int = 0
