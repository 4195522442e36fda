"""Containers that an engine describes in a way that we can read in part, or not at all."""

from __future__ import annotations

import pytest

from tests.registrator import harness
from tests.registrator.builders import decide, reasons
from tests.registrator.harness import web


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


def of_a_range(document):
    document["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostIp": "", "HostPort": "8000-8100"}]}


def without_a_name(document):
    document["Name"] = ""


def with_a_label_that_is_none(document):
    document["Config"]["Labels"] = {"SERVICE_NAME": 7}


ENDS = {
    "published from a range": of_a_range,
    "a name that cannot be read": without_a_name,
    "tags that cannot be read": with_a_label_that_is_none,
}


@pytest.mark.parametrize("spoil", ENDS.values(), ids=ENDS)
async def test_what_ended_goes_whatever_its_document_says(world, spoil):
    """That it does not run is read even where nothing else can be."""
    await harness.listening(world)
    one = world.engine.add(web("web-1"))
    await world.see_states(one, {80: "passing"})
    spoil(world.engine.containers[one])
    world.engine.die(one, 1)
    await world.see_states(one, {})


async def test_what_runs_and_cannot_be_read_stays(world):
    """Nothing is concluded from a document that cannot be read, but that it runs."""
    registrator = await harness.listening(world)
    one = world.engine.add(web("web-1"))
    await world.see_states(one, {80: "passing"})
    without_a_name(world.engine.containers[one])
    looks = registrator.metric("pilotfish_registrator_inspections_total")
    world.engine.update(one)
    await harness.until(
        lambda: registrator.metric("pilotfish_registrator_inspections_total") > looks, "it was looked at"
    )
    await registrator.service.writer.settled()
    assert await world.states(one) == {80: "passing"}


ODD = {
    "a range": ({"expose": ["8000-8010/tcp"]}, {"8000-8010/tcp": "unreadable"}),
    "port 0": ({"expose": ["0/tcp"]}, {"0/tcp": "unreadable"}),
    "a binding of no address": ({"ports": {"80/tcp": 8080, "81/tcp": ("x", 8081)}}, {"81/tcp": "unreadable"}),
    "and a tag for it": (
        {"ports": {"80/tcp": 8080, "81/tcp": ("x", 8081)}, "env": ["SERVICE_81_NAME=a"]},
        {"81/tcp": "unreadable"},
    ),
}


@pytest.mark.parametrize(("odd", "expected"), ODD.values(), ids=ODD)
def test_an_odd_port_costs_itself(odd, expected):
    """It has a row with the reason; the other port is registered as if it were not there."""
    decided = decide(**{"ports": {"80/tcp": 8080}, "env": ["SERVICE_NAME=web"], **odd})
    assert reasons(decided) == expected
    assert [one.port for one in decided.container.endpoints] == [80]


def test_an_odd_port_alone():
    """There is a port, after all: only its row is said."""
    decided = decide(expose=["0/tcp"], env=["SERVICE_NAME=web"])
    assert reasons(decided) == {"0/tcp": "unreadable"}
    assert decided.notices == ()
