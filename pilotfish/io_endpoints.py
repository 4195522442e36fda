"""Reads the catalog for `pilotfish endpoints`, once or for as long as it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.keys import ROOT
from pilotfish.catalog.mirror import Difference, Mirror
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.io_reach import reached
from pilotfish.run import run_until_signal
from pilotfish.settings import UpSettings

QUIET_S = 0.2  # changes that come together are shown together
Show = Callable[[Registry, float], None]


def run(settings: UpSettings, shown: Show, *, watch: bool) -> None:
    """As `show`, until it ends or a signal ends it."""
    run_until_signal(show(settings, shown, watch=watch))


async def show(settings: UpSettings, shown: Show, *, watch: bool) -> None:
    """Hand the catalog to `shown`, with the UNIX time in seconds; with `watch` after each change too, until cancelled.

    Args:
        settings: where the store is, as `reached` finds it.
        shown: shows it.
        watch: go on.

    Raises:
        CannotReach: the store does not answer; the message says what to name.
    """
    async with reached(settings) as store:
        registry = Registry()
        registry.apply(Mirror(ROOT).start(await store.read(ROOT)))
        shown(registry, time.time())
        if watch:
            await _follow(settings, store, shown)


async def _follow(settings: UpSettings, store: Store, shown: Show) -> None:
    registry, changed = Registry(), asyncio.Event()

    def apply(difference: Difference) -> None:
        registry.apply(difference)
        if not difference.started_over or difference.puts:
            changed.set()

    follower = Follower(store, ROOT, apply, Telemetry("endpoints", time.time), verify_s=settings.verify_s)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follower.run())
        while True:
            await changed.wait()
            await asyncio.sleep(QUIET_S)
            changed.clear()
            shown(registry, time.time())
