"""How containers leave: pauses, signals by name, and what --deregister on-success keeps."""

from __future__ import annotations

import socket
import time

import pytest

from pilotfish.catalog.keys import container_key
from pilotfish.catalog.record import Container, decode
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.catalog.verdict import PANIC_FROM, judge, situation
from pilotfish.catalog.wishes import Wishes
from registrator import service
from registrator.io_asking import OLDER_S
from registrator.rules.signals import parse_signal
from tests.registrator import harness
from tests.registrator.harness import NODE, exports, records, web


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


def _started(found, container):
    key = container_key(NODE, container)
    return decode(Container, found[key].value).started if key in found else 0.0


async def passing(world, **changes):
    """A registrator, and a container that it has recorded as passing."""
    one = await harness.listening(world, **changes)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    return one, web_1


async def test_a_paused_container_is_out_until_it_goes_on(world):
    """Its record says why; its exports are gone, and come back."""
    _, web_1 = await passing(world)
    before = exports(await world.entries())
    for _ in range(2):
        world.engine.pause(web_1)
        await world.see_states(web_1, {80: "failing"})
        [endpoint] = (await world.record(web_1)).endpoints
        assert (endpoint.why, endpoint.passed) == ("its container is paused", False)
        assert exports(await world.entries()) == {}
        world.engine.unpause(web_1)
        await world.see_states(web_1, {80: "passing"})
        assert [one.why for one in (await world.record(web_1)).endpoints] == [""]
        assert exports(await world.entries()) == before


async def test_a_stop_of_a_paused_container_drains(world):
    """`docker stop` thaws it first; until then the signal has the last word."""
    _, web_1 = await passing(world)
    world.engine.pause(web_1)
    await world.see_states(web_1, {80: "failing"})
    world.engine.kill(web_1, signal=15)
    await world.see_states(web_1, {80: "draining"})


@pytest.mark.parametrize("recorded", [True, False], ids=["another registrator had recorded it", "it is new"])
async def test_a_stop_that_began_while_no_registrator_listened(world, recorded):
    """As at an upgrade of the registrator: the next one hears of the signal too."""
    web_1 = world.engine.add(web("web-1", stop_timeout=600), quiet=True)
    if recorded:
        one = world.start()
        await world.see_states(web_1, {80: "passing"})
        await one.stop()
        world.running.remove(one)
        await harness.until(lambda: not world.engine.listeners, "nobody listens")
    world.engine.kill(web_1, signal=1)
    world.engine.kill(web_1, signal=15)
    world.start()
    await world.see_states(web_1, {80: "draining"})


APART = {"behind": -60.0, "ahead": 60.0, "an hour behind": -3600.0}


@pytest.mark.parametrize("ahead_s", APART.values(), ids=APART)
async def test_a_stop_on_an_engine_whose_clock_is_another(world, ahead_s):
    """It drains, to a deadline by our clock, as on any."""
    world.engine.set_clock(ahead_s)
    _, web_1 = await passing(world)
    began = time.time()
    world.engine.kill(web_1, signal=15)
    await world.see_states(web_1, {80: "draining"})
    record = await world.record(web_1)
    [endpoint] = record.endpoints
    assert began + 10 < endpoint.deadline < time.time() + 15.1
    assert began - 2 < record.observed <= time.time()


async def test_the_engines_clock_is_set_while_it_is_heard(world):
    """It is asked for its time when an event bears another."""
    _, web_1 = await passing(world)
    for ahead_s in (-3600.0, 3600.0):
        world.engine.set_clock(ahead_s)
        world.engine.restart_container(web_1)
        world.engine.health_status(web_1, "healthy")
        await world.see_states(web_1, {80: "passing"})
        world.engine.kill(web_1, signal=15)
        await world.see_states(web_1, {80: "draining"})


@pytest.mark.parametrize("ahead_s", APART.values(), ids=APART)
async def test_a_restart_that_is_seen_at_once_drains_nothing(world, ahead_s):
    """The signal belongs to the run before, also where the engine's clock is another: both times are the engine's."""
    world.engine.set_clock(ahead_s)
    registrator, web_1 = await passing(world)
    started = (await world.record(web_1)).started
    world.engine.restart_container(web_1)
    world.engine.health_status(web_1, "healthy")
    await world.see("it runs anew", lambda found: _started(found, web_1) != started)
    await registrator.service.writer.settled()
    assert await world.states(web_1) == {80: "passing"}
    assert {one.deadline for one in registrator.service.book.pages[web_1].conditions.values()} == {0.0}


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
async def test_a_clock_that_is_set_is_nothing_that_events_should_have_told(world, monkeypatch, by_s):
    """What drains is postponed in the middle of a look: the engine's events are not doubted for it."""
    set_by = [0.0]
    monkeypatch.setattr(service, "TICK_S", 3600.0)  # nobody but looks asks for the time
    monkeypatch.setattr(harness, "Telemetry", lambda part, now: Telemetry(part, lambda: now() + set_by[0]))
    one = await harness.listening(world, resync_s=0.2)
    web_1 = world.engine.add(web("web-1", stop_timeout=600))
    await world.see_states(web_1, {80: "passing"})
    world.engine.kill(web_1)
    await world.see_states(web_1, {80: "draining"})
    await one.service.writer.settled()
    [before] = (await world.record(web_1)).endpoints
    streams = world.engine.requests["events"]
    set_by[0] = by_s
    await world.see(
        "it is postponed", lambda found: _deadline(found, web_1) == pytest.approx(before.deadline + by_s, 1e-9)
    )
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 2, "it has compared again")
    assert world.engine.requests["events"] == streams


def _deadline(found, container):
    [endpoint] = decode(Container, found[container_key(NODE, container)].value).endpoints
    return endpoint.deadline


async def test_a_young_container_is_young_by_its_engines_clock(world):
    """Its first record does not wait for a check that hangs as that of an older one does."""
    world.engine.set_clock(-60.0)
    await harness.listening(world)
    with socket.create_server(("127.0.0.5", 0)) as silent:
        asked = {"SERVICE_NAME": "w", "SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_TIMEOUT": "30s"}
        place = {"port": silent.getsockname()[1], "networks": {"bridge": "127.0.0.5"}}
        one = world.engine.add(web("web-1", health=None, env=asked, **place), start=False)
        began = time.monotonic()
        world.engine.start(one)
        await world.see_states(one, {place["port"]: "starting"})
        assert time.monotonic() - began < OLDER_S


async def test_containers_that_are_paused_make_no_panic(world):
    """A panic serves what fails its checks; what an operator froze stays out."""
    world.start()
    names = [f"web-{number}" for number in range(PANIC_FROM + 1)]
    ids = [world.engine.add(web(name, host_port=8080 + number)) for number, name in enumerate(names)]
    for one in ids:
        await world.see_states(one, {80: "passing"})
    for one in ids[1:]:
        world.engine.pause(one)
        await world.see_states(one, {80: "failing"})
    held = [await world.record(one) for one in ids]
    members = [(one, one.endpoints[0]) for one in held]
    around = situation(members, "web", Wishes())
    assert [judge(*member, around).published for member in members] == [True] + [False] * PANIC_FROM


SIGNALS = {"a name": "SIGTERM", "a short name": "term", "a number": "15"}


@pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)
async def test_signals_are_known_however_the_engine_writes_them(world, signal):
    """Docker writes numbers, others write names."""
    assert parse_signal(signal) == 15
    _, web_1 = await passing(world)
    world.engine.kill(web_1, signal=signal)
    await world.see_states(web_1, {80: "draining"})


# What --deregister says, with which code the container ends, and what is left of it.
ENDS = {
    "always, with an error": ("always", 1, False),
    "on success, with success": ("on-success", 0, False),
    "on success, with an error": ("on-success", 1, True),
    "on success, with the highest code below signals": ("on-success", 127, True),
    "on success, killed": ("on-success", 137, False),
    "on success, stopped": ("on-success", 143, False),
    "on success, with -1 as code": ("on-success", 255, False),
}


@pytest.mark.parametrize(("deregister", "code", "stays"), ENDS.values(), ids=ENDS)
async def test_what_is_left_of_a_container_that_ended(world, deregister, code, stays):
    """Only what ended by itself, with an error, and only if it is wanted so: its record, failing, without exports."""
    _, web_1 = await passing(world, deregister=deregister)
    world.engine.die(web_1, code)
    if not stays:
        await world.see_states(web_1, {})
        return
    await world.see_states(web_1, {80: "failing"})
    record = await world.record(web_1)
    assert [(one.why, one.passed) for one in record.endpoints] == [
        (f"its container ended with exit code {code}", False)
    ]
    assert [address.port for address in record.endpoints[0].addresses]
    assert exports(await world.entries()) == {}


async def test_what_ended_and_was_kept_leaves_when_it_is_removed(world):
    """Nothing of it is left."""
    _, web_1 = await passing(world, deregister="on-success")
    world.engine.die(web_1, 1)
    await world.see_states(web_1, {80: "failing"})
    world.engine.remove(web_1)
    await world.see("nothing is left", lambda found: not records(found))


async def test_what_ended_and_was_kept_passes_when_it_is_started_again(world):
    """With its exports."""
    _, web_1 = await passing(world, deregister="on-success")
    before = exports(await world.entries())
    for _ in range(2):
        world.engine.stop(web_1, code=1)
        await world.see_states(web_1, {80: "failing"})
        world.engine.start(web_1)
        world.engine.health_status(web_1, "healthy")
        await world.see_states(web_1, {80: "passing"})
        assert exports(await world.entries()) == before


async def test_what_ended_is_kept_by_the_next_registrator_and_by_every_resync(world):
    """It is in no list of the engine; what it published is known from the record."""
    first, web_1 = await passing(world, deregister="on-success", resync_s=0.1)
    world.engine.die(web_1, 3)
    await world.see_states(web_1, {80: "failing"})
    kept = await world.record(web_1)
    await first.stop()
    world.running.remove(first)
    second = world.start(deregister="on-success", resync_s=0.1)
    await harness.until(lambda: not second.telemetry.ready.missing, "it is ready")
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 3, "it has compared several times")
    assert await world.record(web_1) == kept
    world.engine.start(web_1)
    world.engine.health_status(web_1, "healthy")
    await world.see_states(web_1, {80: "passing"})


async def test_what_ended_while_nobody_looked_is_kept_too(world):
    """And with --deregister always it is not."""
    first, web_1 = await passing(world, deregister="on-success")
    await first.stop()
    world.running.remove(first)
    world.engine.die(web_1, 3)
    second = world.start(deregister="on-success")
    await world.see_states(web_1, {80: "failing"})
    await second.stop()
    world.running.remove(second)
    world.start(deregister="always")
    await world.see_states(web_1, {})
