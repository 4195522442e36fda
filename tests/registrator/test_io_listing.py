"""When an engine is listed, and what is done besides."""

from __future__ import annotations

import asyncio
import time

import pytest

from pilotfish.catalog.telemetry import Telemetry
from registrator.engines.engine import EngineInfo, ListAgain
from registrator.io_listing import Listing
from tests.registrator.harness import until

ID = "c0" * 32


class Engine:
    """An engine that runs one container."""

    async def running(self):
        return (ID,)

    async def info(self):
        return EngineInfo("ID", "h1", "20.10.24", "1.41")


def listed(*, resync_s, tend=lambda: None, look_at=lambda _: None):
    async def met(_):
        return False

    telemetry = Telemetry("registrator", time.time)
    return Listing(Engine(), telemetry, resync_s=resync_s, meet=met, known=tuple, look_at=look_at, tend=tend)


async def ended(running):
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_is_asked_to_list_again_and_again_looks_after_the_rest_too():
    """Our keys in the store are compared, and claims looked after, however often events ask for a list."""
    tended, looked = [], []

    listing = listed(resync_s=0.2, tend=lambda: tended.append(len(looked)), look_at=looked.append)
    running = asyncio.create_task(listing.run())

    def asks():
        listing.ask(ListAgain("a burst"))
        return len(tended) > 2

    try:
        await until(asks, "it looks after the rest", 10.0)
    finally:
        await ended(running)
    assert len(looked) > len(tended)


LISTS = [
    pytest.param(0.1, None, True, True, id="by the clock: the events are silent"),
    pytest.param(60.0, ListAgain("a burst", dropped=True), True, False, id="events were dropped: known already"),
    pytest.param(60.0, ListAgain("listening"), False, False, id="asked for by an event"),
]


@pytest.mark.parametrize(("resync_s", "news", "untold", "unexplained"), LISTS)
async def test_what_no_event_told_casts_doubt_on_the_events_once(resync_s, news, untold, unexplained):
    looked = []
    listing = listed(resync_s=resync_s, look_at=looked.append)
    if news:
        listing.ask(news)
    running = asyncio.create_task(listing.run())
    try:
        await until(lambda: looked, "it listed", 10.0)
    finally:
        await ended(running)
    assert listing.untold(ID) == untold
    assert [listing.unexplained(), listing.unexplained()] == [unexplained, False]
