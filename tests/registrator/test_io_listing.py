"""When an engine is listed, and what is done besides."""

from __future__ import annotations

import asyncio
import time

from pilotfish.catalog.telemetry import Telemetry
from registrator.engine import EngineInfo, ListAgain
from registrator.io_listing import Listing
from tests.registrator.harness import until

ID = "c0" * 32


class Engine:
    """An engine that runs one container."""

    async def running(self):
        return (ID,)

    async def info(self):
        return EngineInfo("ID", "h1", "20.10.24", "1.41")


async def test_who_is_asked_to_list_again_and_again_looks_after_the_rest_too():
    """Our keys in the store are compared, and claims looked after, however often events ask for a list."""
    tended, looked = [], []

    async def met(_):
        return False

    listing = Listing(
        Engine(),
        Telemetry("registrator", time.time),
        resync_s=0.2,
        meet=met,
        known=tuple,
        look_at=looked.append,
        tend=lambda: tended.append(len(looked)),
    )
    running = asyncio.create_task(listing.run())

    def asks():
        listing.ask(ListAgain("a burst"))
        return len(tended) > 2

    try:
        await until(asks, "it looks after the rest", 10.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(looked) > len(tended)
