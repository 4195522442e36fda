"""Hosts: one name however they are spelled, one pointer however an address is written."""

from __future__ import annotations

import pytest

from dnsserver.message import dname
from tests.dnsserver.kit import World, node

ONE_AND_SAME = ["fd00::1", "fd00:0::1", "fd00:0:0:0:0:0:0:1"]
REVERSE = dname.to_text(dname.reverse("fd00::1"))


@pytest.mark.parametrize("before", ONE_AND_SAME)
@pytest.mark.parametrize("after", ONE_AND_SAME)
def test_an_address_that_is_written_otherwise_keeps_its_pointer(before, after):
    """It has one reverse name, whatever its text, and loses it with the host."""
    world = World()
    world.put(node("h1", before))
    world.put(node("h1", after, "10.0.0.1"))
    assert [row.split(" ")[-1] for row in world.ask(REVERSE, "PTR").answer] == ["h1.node.svc.internal."]
    world.put(node("h1", "10.0.0.1"))
    assert world.ask(REVERSE, "PTR").answer == []


def test_hosts_that_differ_in_case_only_are_one_name():
    """It has the addresses of both, and those of one of them when the other goes."""
    world, lives, goes = World(), node("h1", "10.0.0.2"), node("H1", "10.0.0.1")
    world.put(goes)
    world.put(lives)
    assert [row.split(" ")[-1] for row in world.ask("h1.node.svc.internal").sorted] == ["10.0.0.1", "10.0.0.2"]
    world.remove(goes)
    assert [row.split(" ")[-1] for row in world.ask("h1.node.svc.internal").answer] == ["10.0.0.2"]
    assert world.ask("1.0.0.10.in-addr.arpa", "PTR").answer == []
    assert len(world.ask("2.0.0.10.in-addr.arpa", "PTR").answer) == 1
    world.remove(lives)
    assert world.ask("h1.node.svc.internal").rcode == "NXDOMAIN"
