"""CHECK_* and HEALTHCHECK as a whole: a registrator on a fake engine, applications on real sockets."""

from __future__ import annotations

import asyncio

import pytest

from pilotfish.catalog.keys import node_key
from tests.parts.fake_docker import container
from tests.registrator import harness
from tests.registrator.applications import BAD, ELSEWHERE, ENDLESS, HANG, OK, application
from tests.registrator.harness import NODE, exports

QUICK = {"SERVICE_CHECK_INTERVAL": "100ms", "SERVICE_CHECK_TIMEOUT": "100ms"}


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


@pytest.fixture
async def app():
    async with application() as one:
        yield one


def checked(app, name="web-1", **changes):
    """A container of an application, checked over HTTP."""
    env = {"SERVICE_NAME": "web", "SERVICE_CHECK_HTTP": "/health", **QUICK, **changes.pop("env", {})}
    return container(name, env=env, ports={app.port: 8080}, networks={"bridge": app.ip}, **changes)


async def why(world, one):
    return (await world.record(one)).endpoints[0].why


async def test_an_endpoint_fails_and_comes_back(world, app):
    """Three bad answers take it out of the exports, with the reason; one good one brings it back."""
    world.start()
    one = world.engine.add(checked(app))
    await world.see_states(one, {app.port: "passing"})
    assert app.asked[0] == "GET /health HTTP/1.1"
    app.answer = BAD
    await world.see_states(one, {app.port: "failing"})
    assert await why(world, one) == "GET /health: 500"
    assert not exports(await world.entries())
    app.answer = OK
    await world.see_states(one, {app.port: "passing"})
    assert (await world.record(one)).endpoints[0].passed
    assert await why(world, one) == ""


async def test_one_that_starts_slowly_is_published_when_it_passes(world, app):
    """Until then it is starting, with the reason; found long before its interval is over."""
    world.start()
    app.answer = BAD
    one = world.engine.add(checked(app, env={"SERVICE_CHECK_INTERVAL": "1h"}))
    await world.see("the reason is told", lambda found: any(b"GET /health: 500" in one.value for one in found.values()))
    assert await world.states(one) == {app.port: "starting"}
    assert not (await world.record(one)).endpoints[0].passed
    app.answer = OK
    await world.see_states(one, {app.port: "passing"})


async def test_one_that_is_trusted_from_the_start(world, app):
    """CHECK_INITIAL_STATUS=passing: published before its first check, out after three bad ones."""
    app.answer = HANG
    world.start()
    one = world.engine.add(checked(app, env={"SERVICE_CHECK_INITIAL_STATUS": "passing"}))
    await world.see_states(one, {app.port: "passing"})
    await world.see_states(one, {app.port: "failing"})
    assert await why(world, one) == "GET /health: no answer within 0.1 s"


async def test_a_check_that_hangs_holds_nobody_up(world, app):
    """With one check at once, the one that hangs ends with its timeout, and the other endpoint is found."""
    async with application("127.0.0.79") as silent:
        silent.answer = HANG
        world.start(checks_at_once=1)
        hung = world.engine.add(checked(silent, "web-2"))
        await harness.until(lambda: silent.open, "the check hangs")
        one = world.engine.add(checked(app))
        await world.see_states(one, {app.port: "passing"})
        await world.see_states(hung, {silent.port: "starting"})
        await harness.until(lambda: len(silent.asked) > 2, "it is asked again")
        assert silent.open <= 1


async def test_a_redirect_is_an_answer_and_is_not_followed(world, app):
    """The application is there; where it sends a browser is none of our business."""
    async with application("127.0.0.78") as other:
        app.answer = ELSEWHERE.replace(b"127.0.0.78:1", f"127.0.0.78:{other.port}".encode())
        world.start()
        one = world.engine.add(checked(app))
        await world.see_states(one, {app.port: "passing"})
        await harness.until(lambda: len(app.asked) > 2, "it is asked again and again")
        assert other.asked == []


async def test_a_body_without_an_end_is_left(world, app):
    """The status decides; a few KiB are read, and the connection is closed."""
    app.answer = ENDLESS
    world.start()
    one = world.engine.add(checked(app))
    await world.see_states(one, {app.port: "passing"})
    await harness.until(lambda: len(app.asked) > 2 and app.open <= 1, "each connection is closed")
    # What fits into both ends' buffers of a socket is taken, whoever reads it.
    assert app.sent / len(app.asked) < 8_000_000


async def test_one_that_flaps_needs_longer_to_come_back(world, app):
    """At the fourth fall it passes its checks, and is held back; the record says so, and stays the same meanwhile."""
    world.start()
    one = world.engine.add(checked(app, env={"SERVICE_CHECK_FALL": "1"}))
    for _ in range(3):
        await world.see_states(one, {app.port: "passing"})
        app.answer = BAD
        await world.see_states(one, {app.port: "failing"})
        app.answer = OK
    await world.see_states(one, {app.port: "passing"})
    app.answer = BAD
    await world.see_states(one, {app.port: "failing"})
    asked, app.answer = len(app.asked), OK
    await harness.until(lambda: len(app.asked) > asked + 3, "it passes its checks")
    assert await world.states(one) == {app.port: "failing"}
    assert await why(world, one) == "flaps, so it has to pass for longer: GET /health: 500"
    revision = (await world.store.read("/")).revision
    for answer in (BAD, OK, BAD, OK):
        asked, app.answer = len(app.asked), answer
        await harness.until(lambda asked=asked: len(app.asked) > asked + 2, "it turns")
    assert (await world.store.read("/")).revision == revision


async def test_reasons_that_alternate_write_nothing(world, app):
    """Whether it is 500 or 503 this time is not worth a commit every time."""
    world.start()
    app.answer = BAD
    one = world.engine.add(checked(app))
    await world.see("the reason is told", lambda found: any(b"GET /health: 500" in one.value for one in found.values()))
    await world.see("the key says so", lambda found: b'"listed":true' in found[node_key(NODE)].value)
    revision = (await world.store.read("/")).revision
    app.answer = [BAD.replace(b"500", status) for status in (b"503", b"500") * 5] + [HANG] * 1000
    await harness.until(lambda: len(app.answer) < 1000, "it was asked")
    assert (await world.store.read("/")).revision == revision
    assert await world.states(one) == {app.port: "starting"}


BOTH = {
    "both well": ("healthy", OK, "passing"),
    "only the HEALTHCHECK": ("healthy", BAD, "starting"),
    "only the CHECK_HTTP": ("unhealthy", OK, "failing"),
    "the HEALTHCHECK not yet": ("starting", OK, "starting"),
}


@pytest.mark.parametrize(("health", "answer", "state"), BOTH.values(), ids=BOTH)
async def test_passing_needs_both(world, app, health, answer, state):
    """What the image says of itself, and what we find from outside."""
    world.start()
    app.answer = answer
    one = world.engine.add(checked(app, health=health))
    await harness.until(lambda: len(app.asked) > 2, "it was asked")
    await world.see_states(one, {app.port: state})


async def test_health_that_is_ignored(world, app):
    """HEALTH=ignore: the image's HEALTHCHECK counts for nothing."""
    world.start()
    one = world.engine.add(checked(app, health="unhealthy", env={"SERVICE_HEALTH": "ignore"}))
    await world.see_states(one, {app.port: "passing"})


async def test_no_check_at_all(world):
    """CHECK=none: published as soon as it runs, though nobody listens."""
    world.start()
    tags = {"SERVICE_NAME": "web", "SERVICE_CHECK": "none"}
    one = world.engine.add(container("web-1", env=tags, ports={80: 8080}, networks={"bridge": "127.0.0.80"}))
    await world.see_states(one, {80: "passing"})


async def test_pause_takes_out_and_is_not_asked(world, app):
    """A frozen application answers nothing: it is out at once, and its check does not run meanwhile."""
    world.start()
    one = world.engine.add(checked(app))
    await world.see_states(one, {app.port: "passing"})
    world.engine.pause(one)
    await world.see_states(one, {app.port: "failing"})
    assert await why(world, one) == "its container is paused"
    asked = len(app.asked)
    world.engine.unpause(one)
    await world.see_states(one, {app.port: "passing"})
    await harness.until(lambda: len(app.asked) > asked, "its check runs again")


@pytest.mark.parametrize("answer", [OK, BAD], ids=["passing", "failing"])
async def test_states_survive_a_restart(world, app, answer):
    """What passed is published by the next process without a check; what failed stays out until it passes."""
    first = world.start()
    one = world.engine.add(checked(app))
    await world.see_states(one, {app.port: "passing"})
    app.answer = answer
    state = "passing" if answer is OK else "failing"
    await world.see_states(one, {app.port: state})
    await first.stop()
    before = await world.record(one)
    app.answer = OK if answer is OK else HANG
    second = world.start()
    await harness.until(lambda: not second.telemetry.ready.missing, "it has looked at everything")
    assert await world.record(one) == before
    app.answer = OK
    await world.see_states(one, {app.port: "passing"})


async def test_a_script_of_the_admins(world, app, tmp_path):
    """CHECK_CMD runs what the folder holds, without a shell; without the folder nothing is run, and it is said."""
    folder = tmp_path / "checks"
    folder.mkdir()
    mark = tmp_path / "well"
    script = folder / "deep"
    script.write_text(f"#!/bin/sh\n[ -e {mark} ] && [ $1 = $SERVICE_IP ] && [ $2 = {app.port} ]\n")
    script.chmod(0o755)
    env = {"SERVICE_NAME": "web", "SERVICE_CHECK_CMD": "deep", "SERVICE_CHECK_INTERVAL": "100ms"}
    world.start(check_dir=str(folder))
    one = world.engine.add(container("web-1", env=env, ports={app.port: 8080}, networks={"bridge": app.ip}))
    await world.see("it fails", lambda found: any(b"script deep: exit code 1" in one.value for one in found.values()))
    mark.touch()
    await world.see_states(one, {app.port: "passing"})


def dependents(world, *apps):
    """Containers of one service, each an application of its own."""
    env = {"SERVICE_CHECK_FALL": "1"}
    return [world.engine.add(checked(app, f"web-{number}", env=env)) for number, app in enumerate(apps, 1)]


async def test_when_all_fail_at_once_all_are_kept(world, app, caplog):
    """A database behind three containers is away: they stay in the exports, and it is said once; then each counts."""
    async with application("127.0.0.78") as second, application("127.0.0.79") as third:
        apps = (app, second, third)
        caplog.set_level("INFO")
        one = world.start()
        ids = dependents(world, *apps)
        for container_id, its in zip(ids, apps, strict=True):
            await world.see_states(container_id, {its.port: "passing"})
        before = exports(await world.entries())
        assert len(before) == 6
        for its in apps:
            its.answer = BAD
        for container_id, its in zip(ids, apps, strict=True):
            await world.see_states(container_id, {its.port: "failing"})
        await world.see("all are exported", lambda found: exports(found) == before)
        assert one.metric("pilotfish_services_in_panic", part="registrator") == 1
        state = one.service.state()
        assert state["panic"] == ["web"]
        assert [port["verdict"] for its in state["containers"] for port in its["endpoints"]] == [
            "failing: GET /health: 500; kept, since most of its service fails"
        ] * 3
        assert sum("fail at once" in line for line in caplog.messages) == 1

        for its in apps[1:]:
            its.answer = OK
        await world.see("the one that still fails is out", lambda found: len(exports(found)) == 4)
        assert one.metric("pilotfish_services_in_panic", part="registrator") == 0
        assert one.service.state()["panic"] == []
        assert sum("most of it fails no longer" in line for line in caplog.messages) == 1


async def test_what_runs_for_long_is_judged_before_it_is_registered(world, app):
    """Whoever keeps it as an orphan loses it to a record that says "starting": the first one says how it is."""
    one = world.engine.add(checked(app, env={"SERVICE_CHECK_TIMEOUT": "2s"}), quiet=True)
    app.may_answer.clear()
    world.start()
    asyncio.get_running_loop().call_later(0.5, app.may_answer.set)
    await world.see_states(one, {app.port: "passing"})
    key = next(key for key in await world.entries() if "/containers/" in key)
    entry = (await world.entries())[key]
    assert entry.create_revision == entry.mod_revision


async def test_what_runs_for_long_is_judged_by_as_many_results_as_its_tags_ask_for(world, app):
    """Also when another port of it answers at once, and at long intervals."""
    tags = {"SERVICE_CHECK_RISE": "3", "SERVICE_CHECK_INTERVAL": "60s"}
    one = world.engine.add(checked(app, env=tags), quiet=True)
    world.start()
    await world.see_states(one, {app.port: "passing"})
    key = next(key for key in await world.entries() if "/containers/" in key)
    entry = (await world.entries())[key]
    assert entry.create_revision == entry.mod_revision
