"""A store whose reads and watches come from mirrors: N readers cost the real store one watch.

Invariants:

- a read is as linearizable as the store's own: the mirror answers only when it is seen to have come as far as the
  store, otherwise the store itself is asked;
- a watch gives a sign of life only when the store itself was heard again, so that the age a reader shows is true;
- a reader that falls behind starts over; it holds up nobody, and no queue grows for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Protocol

from pilotfish.catalog.feed import Relay
from pilotfish.catalog.history import narrow
from pilotfish.catalog.mirror import Difference, Mirror
from pilotfish.catalog.store import (
    Change,
    Committed,
    Condition,
    Lease,
    Operation,
    Quiet,
    Reading,
    StartOver,
    Store,
    StoreUnavailable,
    Survey,
)

CATCH_UP_S = 0.25  # how long a read waits for the mirror before it asks the store itself
HEARD_S = 0.05  # two signs of life closer than this are one; more than the two clocks may be read apart


class Source(Protocol):
    """What keeps a mirror in step: a `Follower`."""

    mirror: Mirror
    connected: bool

    def age_s(self) -> float:
        """Seconds since the store was heard."""
        ...


class MirroredStore:
    """A `Store` in front of another one of the same process.

    Args:
        store: asked for what is not mirrored, and for everything that changes something; not closed by this.
        mirrors: by prefix, who keeps that prefix mirrored. It is looked up at each request, so it may be filled later;
            whoever fills it calls `publish` with every difference of that mirror.
        beat_s: how often a watch looks whether the store was heard.
        max_changes: how far a watch may be behind before it has to start over.
    """

    def __init__(self, store: Store, mirrors: Mapping[str, Source], *, beat_s: float, max_changes: int) -> None:
        self._store = store
        self._mirrors = mirrors
        self._beat_s = beat_s
        self._max_changes = max_changes
        self._relays: dict[str, Relay] = {}
        self._wakes: set[asyncio.Event] = set()

    def publish(self, prefix: str, difference: Difference) -> None:
        """Tell the watchers what changed in the mirror of `prefix`. Call it right after the mirror took it in."""
        relay = self._relays.get(prefix)
        if relay is None:
            self._relays[prefix] = Relay(difference.revision, max_changes=self._max_changes)
        else:
            relay.take(difference)
        for wake in self._wakes:
            wake.set()

    async def read(self, *prefixes: str) -> Reading:
        """Everything under the prefixes; from the mirror if one covers them all. See `Store.read`."""
        source = self._source(prefixes)
        if source is None or not await self._in_step(source):
            return await self._store.read(*prefixes)
        return _mirrored(source.mirror, prefixes)

    async def survey(self, prefix: str, *, keys: bool) -> Survey:
        """A count comes from the store itself, keys from the mirror. See `Store.survey`."""
        source = self._source((prefix,)) if keys else None
        if source is None or not await self._in_step(source):
            return await self._store.survey(prefix, keys=keys)
        reading = _mirrored(source.mirror, (prefix,))
        revisions = {entry.key: entry.mod_revision for entry in reading.entries}
        return Survey(reading.cluster, reading.revision, len(revisions), revisions)

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[Change | Quiet, None]:
        """Follow a prefix from just after `revision`. See `Store.watch`."""
        source = self._source((prefix,))
        relay = self._relays.get(source.mirror.prefix) if source else None
        if source is None or relay is None:
            news = self._store.watch(prefix, revision)
        else:
            await self._check(prefix, revision, source)
            news = self._relayed(prefix, revision, source, relay)
        async with contextlib.aclosing(news):
            async for one in news:
                yield one

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Committed:
        """Passed through. See `Store.commit`."""
        return await self._store.commit(conditions, operations)

    async def grant(self, ttl_s: int) -> Lease:
        """Passed through. See `Store.grant`."""
        return await self._store.grant(ttl_s)

    async def keep_alive(self, lease: int) -> float:
        """Passed through. See `Store.keep_alive`."""
        return await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        """Passed through. See `Store.revoke`."""
        await self._store.revoke(lease)

    async def close(self) -> None:
        """Nothing is held here: the store behind belongs to whoever made it."""

    def _source(self, prefixes: tuple[str, ...]) -> Source | None:
        for prefix, source in self._mirrors.items():
            if prefixes and all(one.startswith(prefix) for one in prefixes):
                return source
        return None

    # A count costs the store next to nothing, and tells how far it is.
    async def _in_step(self, source: Source) -> bool:
        mirror = source.mirror
        if not (mirror.complete and source.connected):
            return False
        now = await self._store.survey(mirror.prefix, keys=False)
        with self._waking() as wake, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S):
                while mirror.revision < now.revision:
                    wake.clear()
                    await wake.wait()
        return mirror.revision >= now.revision and mirror.cluster == now.cluster

    async def _relayed(
        self, prefix: str, revision: int, source: Source, relay: Relay
    ) -> AsyncGenerator[Change | Quiet, None]:
        history = relay.history
        position, heard = min(revision, history.head), float("-inf")
        with self._waking() as wake:
            while True:
                wake.clear()
                if relay.history is not history:
                    raise StartOver("the mirror behind the feed was read anew or mended")
                for change in history.after(position):
                    position = change.revision
                    part = narrow(change, prefix)
                    if part is not None and position > revision:
                        yield part
                if position < history.head:
                    continue
                if not source.connected:
                    raise StoreUnavailable("the process that serves the feed has lost the store")
                if (now := _heard_at(source)) > heard + HEARD_S:
                    heard = now
                    yield Quiet(max(revision, relay.revision))
                else:
                    await _woken(wake, self._beat_s)

    # The first sign of life of a watch must come from the store itself, as all later ones do.
    async def _check(self, prefix: str, revision: int, source: Source) -> None:
        if not source.connected:
            raise StoreUnavailable("the process that serves the feed has lost the store")
        now = await self._store.survey(prefix, keys=False)
        if now.revision < revision:
            raise StartOver(f"revision {revision} is ahead of the store, which is at {now.revision}")

    @contextlib.contextmanager
    def _waking(self) -> Iterator[asyncio.Event]:
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)


def _mirrored(mirror: Mirror, prefixes: tuple[str, ...]) -> Reading:
    found = (entry for key, entry in mirror.entries.items() if key.startswith(prefixes))
    return Reading(mirror.cluster, mirror.revision, tuple(sorted(found, key=lambda entry: entry.key)))


def _heard_at(source: Source) -> float:
    return asyncio.get_running_loop().time() - source.age_s()


async def _woken(wake: asyncio.Event, within_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await wake.wait()
