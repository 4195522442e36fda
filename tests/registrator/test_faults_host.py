"""Row A10: the host's address, or its name, changes under a running registrator."""

from __future__ import annotations

import time

import pytest

from tests.registrator import harness
from tests.registrator.harness import exports, records, web

OLD, NEW = "192.0.2.77", "192.0.2.78"  # RFC 5737


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


async def test_fault_A10(world, monkeypatch):
    """Every port is published at the new address, the old one is in no key, and the node says the new one."""
    now = [OLD]
    monkeypatch.setattr("pilotfish.catalog.io_host.default_addresses", lambda: tuple(now))
    one = world.start(ip=(), resync_s=0.2)
    ids = [world.engine.add(web(f"web-{n}", host_port=10_000 + n)) for n in range(20)]
    await world.see("published", lambda found: records(found) == set(ids) and len(exports(found)) == 40)
    assert all(OLD in str(value) for value in exports(await world.entries()).values())
    now[0] = NEW
    changed = time.monotonic()
    await world.see("the new one", lambda found: all(NEW in str(value) for value in exports(found).values()))
    took_s = time.monotonic() - changed
    assert (await world.node()).addresses == (NEW,)  # it bit
    found = await world.entries()
    assert len(exports(found)) == 40
    assert not [key for key, entry in found.items() if OLD.encode() in entry.value]
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
    print(f"\nA10 another address, compared every 0.2 s: 60 keys published anew after {took_s:.2f} s, the old one in 0")


async def test_fault_A10_another_name(world, monkeypatch, caplog):
    """It stays what it is registered as, every key with it, and says once what to do; a new start takes the new one."""
    called = ["before"]
    monkeypatch.setattr("pilotfish.catalog.io_host.hostname", lambda: called[0])
    one = world.start(node_name="", resync_s=0.1)
    web_1 = world.engine.add(web("web-1"))
    await world.see("published", lambda found: len(exports(found)) == 2)
    called[0] = "after"
    await harness.until(lambda: "called 'after' now" in caplog.text, "it says so")  # it bit
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 2, "it compares some more times")
    assert caplog.text.count("called 'after' now") == 1
    assert (await world.node("before")) is not None
    assert (await world.node("after")) is None
    await one.stop()
    world.start(node_name="")
    await world.see("the new name", lambda found: any("/containers/after/" in key for key in found))
    assert (await world.record(web_1, "after")).endpoints[0].id.startswith("after:")
