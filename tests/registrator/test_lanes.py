"""Who waits for whom when many containers are looked at."""

from __future__ import annotations

import asyncio
import time

import pytest

from pilotfish.catalog.telemetry import Telemetry
from registrator import io_lanes
from registrator.engines.engine import EngineUnavailable, Event, Kind
from registrator.io_asking import OLDER_S
from registrator.io_lanes import AT_ONCE, MAX_PILE, Lanes
from tests.registrator import harness
from tests.registrator.harness import web

LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


def ran_before(world, document):
    """A container that was started long ago."""
    one = world.engine.add(document, start=False)
    world.engine.containers[one]["State"].update(Running=True, Status="running", StartedAt=LONG_AGO)
    return one


async def test_checks_that_hang_hold_up_no_other_container(world):
    """More containers than are inspected at once wait for their checks; one that is well is written before they are."""

    async def hang(_reader, writer):
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    async with await asyncio.start_server(hang, "127.0.0.5", 0) as server:
        asked = {
            "port": server.sockets[0].getsockname()[1],
            "health": None,
            "env": {"SERVICE_NAME": "hang", "SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_TIMEOUT": "30s"},
            "networks": {"bridge": "127.0.0.5"},
        }
        for number in range(2 * AT_ONCE):
            ran_before(world, web(f"hang-{number}", host_port=9000 + number, container_id=f"{number:064x}", **asked))
        good = ran_before(world, web("good", container_id="f" * 64))
        registrator = world.start()
        await harness.until(lambda: len(registrator.service._asking.judging) == 2 * AT_ONCE, "all hang")
        began = time.monotonic()
        await world.see_states(good, {80: "passing"})
        assert time.monotonic() - began < OLDER_S
        await registrator.stop()


@pytest.mark.parametrize("fails", [False, True], ids=["the look before hangs", "the look with it fails"])
async def test_a_signal_is_kept_however_much_comes_behind_it(fails):
    """Of all events of a container it alone says what no inspection shows; the others are bounded without it."""
    looks, go_on = [], asyncio.Event()

    async def look(_container, events):
        looks.append(events)
        if len(looks) == 1:
            await go_on.wait()
            if fails:
                raise EngineUnavailable("away")

    lanes = Lanes(look, Telemetry("registrator", time.time))
    signal = Event(Kind.KILL, "0123456789ab", 1.0, "kill", "15")
    others = [Event(Kind.LOOK, "0123456789ab", 2.0 + number, "update") for number in range(2 * MAX_PILE)]
    lanes.put("0123456789ab", signal if fails else None)
    await harness.until(lambda: looks, "the first look")
    for event in others if fails else (signal, *others):
        lanes.put("0123456789ab", event)
    go_on.set()
    async with asyncio.timeout(harness.WAIT_S):
        await lanes.idle()
    assert looks[1] == [signal, *others[-MAX_PILE + 1 :]]


ONE, OTHER = "0123456789ab", "ba9876543210"
SIGNAL = Event(Kind.KILL, ONE, 1.0, "kill", "15")
LATER = Event(Kind.LOOK, ONE, 2.0, "update")


@pytest.mark.parametrize(
    ("spoken", "seen"),
    [((LATER, False), [SIGNAL, LATER]), ((None, True), [SIGNAL])],
    ids=["an event of it", "a list that has it"],
)
async def test_a_failed_look_is_tried_again_as_soon_as_the_engine_speaks(monkeypatch, spoken, seen):
    """What waits until later is looked at now; that the store wants a look says nothing of the engine."""
    monkeypatch.setattr(io_lanes, "FIRST_RETRY_S", 3600.0)
    looks: list[tuple[str, list[Event]]] = []

    async def look(container, events):
        looks.append((container, list(events)))
        if len(looks) == 1:
            raise EngineUnavailable("away")

    lanes = Lanes(look, Telemetry("registrator", time.time))
    lanes.put(ONE, SIGNAL)
    await harness.until(lambda: looks, "the look that fails")
    lanes.put(ONE)
    lanes.put(OTHER)
    await harness.until(lambda: len(looks) > 1, "the look at the other one")
    assert looks == [(ONE, [SIGNAL]), (OTHER, [])]
    event, listed = spoken
    lanes.put(ONE, event, listed=listed)
    async with asyncio.timeout(harness.WAIT_S):
        await lanes.idle()
    assert looks[2:] == [(ONE, seen)]


@pytest.mark.parametrize(
    ("failures", "looked_at"),
    [
        (1, [[SIGNAL], [SIGNAL]]),
        (2, [[SIGNAL], [SIGNAL]]),
    ],
    ids=["a defect that passes", "a defect that stays"],
)
async def test_a_defect_of_ours_costs_no_signal_its_look(failures, looked_at, caplog):
    """Its events are handed over once more, after a wait, and no oftener; each failure is said."""
    looks, began = [], []

    async def look(_container, events):
        looks.append(list(events))
        began.append(time.monotonic())
        if len(looks) <= failures:
            raise ValueError("a defect")

    lanes = Lanes(look, Telemetry("registrator", time.time))
    lanes.put(ONE, SIGNAL)
    async with asyncio.timeout(harness.WAIT_S):
        await lanes.idle()
    assert looks == looked_at
    assert began[1] - began[0] >= io_lanes.FIRST_RETRY_S / 2
    assert caplog.text.count("ValueError: a defect") == failures


async def test_what_came_behind_a_defect_has_a_second_look_of_its_own(monkeypatch):
    """Events of a container whose looks all fail are looked at twice each, never in a loop."""
    monkeypatch.setattr(io_lanes, "FIRST_RETRY_S", 0.01)
    looks = []

    async def look(_container, events):
        looks.append(list(events))
        if len(looks) == 1:
            lanes.put(ONE, LATER)
        raise ValueError("a defect")

    lanes = Lanes(look, Telemetry("registrator", time.time))
    lanes.put(ONE, SIGNAL)
    async with asyncio.timeout(harness.WAIT_S):
        await lanes.idle()
    assert looks == [[SIGNAL], [SIGNAL, LATER], [LATER]]
