"""Names whose endpoints are all gone, and what is said of them later."""

from __future__ import annotations

import pytest

from dnsserver.own import index
from tests.dnsserver.kit import World, container, endpoint, http, lan, proxy

FOO, BAR = (container(at, endpoint(name, 80, lan("10.0.0.1"))) for at, name in enumerate(("foo", "bar"), 1))
ALL = container(3, endpoint("all", 80, lan("10.0.0.1"), route=http("*.svc.internal")))


@pytest.fixture
def world(monkeypatch):
    """A server that remembers one name that is gone."""
    monkeypatch.setattr(index, "MAX_REMEMBERED", 1)
    world = World()
    world.put(FOO, BAR, proxy("p", "10.0.0.9"))
    world.remove(FOO)
    return world


@pytest.mark.parametrize(
    ("wildcard", "then"), [(False, ("NXDOMAIN", [])), (True, ("NOERROR", ["foo.svc.internal. 10 A 10.0.0.9"]))]
)
def test_a_name_that_is_remembered_no_longer_is_as_one_that_never_was(world, wildcard, then):
    """What was held of it is let go of, also when a wildcard answers for it from now on."""
    if wildcard:
        world.put(ALL)
        world.claim("all", "*.svc.internal")
    for _ in range(3):
        said = world.ask("foo.svc.internal")
        assert (said.rcode, said.answer) == ("NOERROR", [])
    world.remove(BAR)
    said = world.ask("foo.svc.internal")
    assert (said.rcode, said.answer) == then
