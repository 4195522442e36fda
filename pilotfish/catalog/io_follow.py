"""Keeps a mirror in step with the store: read, watch, resume, read anew, and check now and then.

The loop never gives up and never empties the mirror because the store is away: what is known stays, and gets older.
Readings are taken in whole by the loop alone, and only while no watch stands: beside one, the mirror could go back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence

from pilotfish.catalog.io_orphans import OrphanCare
from pilotfish.catalog.mirror import Difference, Mirror
from pilotfish.catalog.snapshot import Orphan
from pilotfish.catalog.store import Change, Reading, StartOver, Store, StoreError, StoreUnavailable, Survey
from pilotfish.catalog.telemetry import Telemetry

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 2.0  # a store that is back is found again within this time
MOST_SINGLE = 100  # keys that are read one by one; beyond it the whole prefix is read
KEYS_EVERY = 10  # every n-th check compares keys and revisions, the others only counts
ASK_S = 0.5  # how long a silence of others waits for the store's word that it is not ours
SUSPICION_S = 2.0  # what a survey sees otherwise may still be on its way; wrong is what stays so for this long


def retry_delays() -> Backoff:
    """A fresh backoff from FIRST_RETRY_S to LAST_RETRY_S."""
    return Backoff(FIRST_RETRY_S, LAST_RETRY_S)


class Backoff:
    """Growing waits with full jitter, so that many processes do not come back at one moment."""

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._next_s = first_s

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next_s = self._first_s

    async def wait(self, woken: asyncio.Event | None = None) -> None:
        """Sleep for the next wait: between half of it and all of it, or until `woken` is set."""
        delay_s = self._next_s * random.uniform(0.5, 1.0)  # noqa: S311  jitter, no secret
        self._next_s = min(self._last_s, self._next_s * 2)
        if woken is None:
            await asyncio.sleep(delay_s)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await woken.wait()


class Follower:
    """Follows one prefix of the store for ever.

    Args:
        store: where to read and watch.
        prefix: what to follow, "/pilotfish/v1/".
        on_difference: called in the loop with every difference, also the first one; must not block.
        telemetry: readiness under the name "store PREFIX", log and metrics.
        verify_s: how often the mirror is compared with the store.
        care: keeps orphans between the mirror and `on_difference`; None: they go at once.

    Attributes:
        connected: the store was heard since it was last lost, also while everything is read anew.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        on_difference: Callable[[Difference], None],
        telemetry: Telemetry,
        *,
        verify_s: float = 60.0,
        care: OrphanCare | None = None,
    ) -> None:
        self.mirror = Mirror(prefix)
        self.connected = False
        self.care = care
        self._store, self._told, self._telemetry = store, on_difference, telemetry
        self._verify_s = verify_s
        self._heard = self._counted = self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._watching: asyncio.Timeout | None = None  # the watch that keeps the mirror in step; its expiry ends it
        self._remembered: tuple[Reading, Sequence[Orphan]] | None = None
        self._name = f"store {prefix}"
        telemetry.mirrors.show(prefix, self.age_s, lambda: (len(self.mirror.entries), self.mirror.revision))
        telemetry.ready.bad(self._name, "not read yet")

    @property
    def current(self) -> bool:
        """True while a watch keeps the mirror in step; not before it was read, nor while the store is away."""
        return self.connected and self._watching is not None

    def age_s(self) -> float:
        """Seconds since the store last gave a sign of life for this prefix; infinite before the first."""
        return time.monotonic() - self._heard

    async def heard_since(self, moment: float) -> bool:
        """Whether the store was heard after a moment of the monotonic clock.

        A quiet watch says nothing for seconds, so the store is asked for a count: once for all who want to know.
        """
        if self.connected and self._heard < moment:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(ASK_S):
                    await self._ask(moment)
        return self.connected and max(self._heard, self._counted) >= moment

    async def _ask(self, moment: float) -> None:
        async with self._asking:
            if max(self._counted, self._asked) >= moment:
                return
            self._asked = time.monotonic()
            await self._store.survey(self.mirror.prefix, keys=False)
            self._counted = time.monotonic()

    def _on_difference(self, difference: Difference) -> None:
        self._told(self.care.take(difference) if self.care else difference)

    def restore(self, reading: Reading, orphans: Sequence[Orphan] = (), *, at_once: bool = True) -> None:
        """Begin from a snapshot: known, but not yet confirmed by the store.

        Args:
            reading: what the store held.
            orphans: what was kept besides.
            at_once: tell it now; else together with the first reading, which then says what went meanwhile.
        """
        if not at_once:
            self._remembered = reading, orphans
            return
        self._on_difference(self.mirror.start(reading))
        # Some may have been put again between the two parts of a snapshot: they are no orphans.
        kept = [one for one in orphans if one.entry.key not in self.mirror.entries]
        if self.care is not None and kept:
            self._told(self.care.restore(kept, self.mirror.revision))

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._verify())
            if self.care is not None:
                tasks.create_task(self.care.run(self._told, lambda: self.mirror.revision, self.heard_since))

    async def _follow(self) -> None:
        backoff, must_read = retry_delays(), True
        while True:
            try:
                if must_read:
                    # The waits stay as they are until a watch stands: a whole reading is dear.
                    self._take(await self._store.read(self.mirror.prefix))
                    must_read = False
                elif await self._is_another():
                    must_read = True
                    continue
                await self._watch(backoff)
            except StartOver as error:
                self._telemetry.log.info("reading everything anew", extra={"prefix": self.mirror.prefix, "why": error})
                must_read = True
            except StoreError as error:
                self._lost(error)
            await backoff.wait()

    async def _is_another(self) -> bool:
        """True when the store is not the one that was read: another cluster, or one that was restored.

        A watch cannot tell when the other one's revision is higher already.
        """
        now = await self._store.survey(self.mirror.prefix, keys=False)
        return now.cluster != self.mirror.cluster or now.revision < self.mirror.revision

    async def _watch(self, backoff: Backoff) -> None:
        watching = self._watching = asyncio.timeout(None)
        news_of = self._store.watch(self.mirror.prefix, self.mirror.revision)
        try:
            async with watching, contextlib.aclosing(news_of) as watch:
                async for news in watch:
                    self._alive()
                    backoff.reset()
                    if isinstance(news, Change):
                        self._on_difference(self.mirror.apply(news))
                        await asyncio.sleep(0)  # many may be there already: others have their turn between two
        except TimeoutError:
            if not watching.expired():
                raise
            raise StartOver("a comparison found another cluster") from None
        finally:
            self._watching = None

    def _take(self, reading: Reading) -> None:
        if self.mirror.complete and reading.cluster != self.mirror.cluster:
            self._telemetry.log.warning("the store is another cluster than before", extra={"cluster": reading.cluster})
        elif reading.revision < self.mirror.revision:
            self._telemetry.log.warning(
                "the store's revision went back: it was restored",
                extra={"was": self.mirror.revision, "is": reading.revision},
            )
        if self._remembered is not None:
            (before, orphans), self._remembered = self._remembered, None
            self.restore(before, orphans)
        self._alive()
        self._on_difference(self.mirror.start(reading))

    def _alive(self) -> None:
        self._heard = time.monotonic()
        self.connected = True
        self._telemetry.ready.good(self._name)

    def _lost(self, error: StoreError) -> None:
        self.connected = False
        self._telemetry.ready.bad(self._name, str(error))
        self._telemetry.log.warning("store: %s", error, extra={"cause": self._name})

    async def _verify(self) -> None:
        rounds = 0
        while True:
            # Jitter, and no more than verify_s with the suspicion after it.
            await asyncio.sleep(self._verify_s * random.uniform(0.7, 0.95))  # noqa: S311  no secret
            rounds += 1
            if not self.current:
                continue
            try:
                await self.verify(keys=rounds % KEYS_EVERY == 0)
            except StoreError as error:
                self._telemetry.log.info("the check of the mirror failed: %s", error)

    async def verify(self, *, keys: bool) -> int:
        """Compare the mirror with the store once, and mend it; returns how many entries were mended.

        What the store says counts only while the watch stands beside which it was asked: afterwards the mirror may
        have been read anew, from another cluster or from a backup, and the answer is of the one before.

        Raises:
            StoreError: it was not compared, since no watch stands, or not until the end, or the store did not answer.
            StartOver: the store is another cluster; everything is read anew.
        """
        watching = self._standing()
        survey = await self._survey(watching, keys=keys)
        if not keys and survey.count == len(self.mirror.entries):
            return 0
        first = self.mirror.suspects(survey if keys else await self._survey(watching, keys=True))
        if not first:
            return 0
        await asyncio.sleep(SUSPICION_S)
        again = self.mirror.suspects(await self._survey(watching, keys=True))
        wrong = sorted(key for key, revision in again.items() if first.get(key) == revision)
        if not wrong:
            return 0
        reading = await self._store.read(*(wrong if len(wrong) <= MOST_SINGLE else [self.mirror.prefix]))
        self._standing(watching)
        return self._repair(wrong, reading)

    async def _survey(self, watching: asyncio.Timeout, *, keys: bool) -> Survey:
        survey = await self._store.survey(self.mirror.prefix, keys=keys)
        self._standing(watching)
        if survey.cluster != self.mirror.cluster:
            watching.reschedule(asyncio.get_running_loop().time())
            self._watching = None  # at once: it takes a moment to end
            raise StartOver("the store is another cluster than before")
        return survey

    def _standing(self, watching: asyncio.Timeout | None = None) -> asyncio.Timeout:
        """The watch that stands; raises StoreUnavailable if none does, or another one than `watching`."""
        if self._watching is None or watching not in (None, self._watching):
            raise StoreUnavailable("no watch of it stands, or not the one of before")
        return self._watching

    def _repair(self, wrong: list[str], reading: Reading) -> int:
        before = self.mirror.repaired
        self._on_difference(self.mirror.repair(wrong, reading))
        mended = self.mirror.repaired - before
        self._telemetry.mirrors.repaired(self.mirror.prefix, mended)
        self._telemetry.log.warning("the mirror was wrong and is mended", extra={"entries": mended, "first": wrong[0]})
        return mended


class Comparing:
    """Compares with the store whenever it is asked to (SIGHUP), one comparison at a time.

    Nothing that was asked for is lost: what is not in step with the store is compared when it is again, and without
    keeping the others waiting; what is asked for during its comparison is compared once more, for the store may have
    spoken before.

    Args:
        log: gets what came of it.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._asked: dict[Follower, None] = {}  # in the order in which they are compared
        self._running: asyncio.Task[None] | None = None
        self._more = asyncio.Event()

    def begin(self, followers: Iterable[Follower]) -> None:
        """Have these compared key by key, and mended; inside a running event loop."""
        for follower in followers:
            self._asked[follower] = None
            self._more.set()
            if not follower.current:
                self._log.warning(
                    "the comparison with the store is put off: it is away, or being read",
                    extra={"prefix": follower.mirror.prefix},
                )
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while self._asked:
            self._more.clear()
            done = [await self._compare(follower) for follower in list(self._asked) if follower.current]
            mended = [entries for entries in done if entries is not None]
            if mended:
                self._log.info("compared with the store", extra={"mended": sum(mended)})
            if self._asked:
                await backoff.wait(self._more)

    async def _compare(self, follower: Follower) -> int | None:
        del self._asked[follower]  # first: who asks from now on asks for what is true from now on
        try:
            return await follower.verify(keys=True)
        except StoreError as error:
            self._asked[follower] = None
            self._log.warning(
                "the comparison with the store has to be made again: %s",
                error,
                extra={"cause": f"compare {type(error).__name__}"},
            )
        except Exception:  # noqa: BLE001  a defect of ours must not cost the others their comparison
            self._log.exception("the comparison with the store broke", extra={"prefix": follower.mirror.prefix})
        return None
