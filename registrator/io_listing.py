"""Lists what the engine runs, and has everything that is known looked at and compared.

Events are hints; what counts is this: after every connection of the engine, whenever events may have been lost, and
every so often besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection

from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.telemetry import Telemetry
from registrator.engines.engine import Engine, EngineError, EngineInfo, ListAgain

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 2.0


class Listing:
    """The comparison of an engine with what is known of it.

    Args:
        engine: that is listed.
        telemetry: log.
        resync_s: how often it is listed at least, however often events ask for it besides.
        meet: takes in who the engine is; True when everything is to be looked at because of it.
        known: ids of containers that are known or recorded: they are looked at also when they do not run any more.
        look_at: called with every container that is to be looked at.
        tend: called every `resync_s`.

    Attributes:
        done: set as soon as there was one list.
    """

    def __init__(
        self,
        engine: Engine,
        telemetry: Telemetry,
        *,
        resync_s: float,
        meet: Callable[[EngineInfo], Awaitable[bool]],
        known: Callable[[], Collection[str]],
        look_at: Callable[[str], None],
        tend: Callable[[], None],
    ) -> None:
        self.done = asyncio.Event()
        self._engine, self._telemetry, self._resync_s = engine, telemetry, resync_s
        self._meet, self._known, self._look_at, self._tend = meet, known, look_at, tend
        self._again, self._dropped = asyncio.Event(), False
        self._untold: set[str] = set()
        self._unexplained = False

    def ask(self, news: ListAgain | None = None) -> None:
        """List as soon as possible, because of what the engine's events said, or of something else."""
        self._dropped |= news is not None and news.dropped
        self._again.set()

    def untold(self, container: str) -> bool:
        """True, once a list, for a container that is looked at because of a list that no event asked for."""
        found = container in self._untold
        self._untold.discard(container)
        return found

    def unexplained(self) -> bool:
        """True, once a list, for what an untold container shows: the events are silent, and nobody knows why.

        Where the engine is known to have dropped some, they are not.
        """
        found, self._unexplained = self._unexplained, False
        return found

    async def run(self) -> None:
        """List and compare: when asked to, and every `resync_s`; for ever."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        loop = asyncio.get_running_loop()
        due = loop.time() + self._period_s()
        while True:
            asked = await self._asked(due)
            try:
                running = await self._engine.running()
                info = await self._engine.info()
            except EngineError as error:
                self._telemetry.log.warning("docker: %s", error, extra={"cause": "list"})
                self._again.set()
                await backoff.wait()
                continue
            backoff.reset()
            asked |= await self._meet(info)
            if loop.time() >= due:
                due = loop.time() + self._period_s()
                self._tend()
            found = {*running, *self._known()}
            # What is found then, no event told.
            self._unexplained = not asked
            self._untold |= found if self._dropped or not asked else set()
            self._dropped = False
            for container in sorted(found):
                self._look_at(container)
            self.done.set()

    def _period_s(self) -> float:
        return self._resync_s * random.uniform(0.8, 1.0)  # noqa: S311  jitter

    async def _asked(self, due: float) -> bool:
        """Wait until a list is asked for, or due by the loop's clock; True when it was asked for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._again.wait()
        asked = self._again.is_set()
        self._again.clear()
        return asked
