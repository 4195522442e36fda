"""CHECK_* and HEALTHCHECK as a whole: a registrator on a fake engine, applications on real sockets."""

from __future__ import annotations

import pytest

from tests.parts.fake_docker import container
from tests.registrator import harness
from tests.registrator.applications import BAD, OK, application
from tests.registrator.harness import exports

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
