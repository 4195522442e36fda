"""A registrator that starts writes nothing before it knows what others have registered, and what operators want."""

from __future__ import annotations

import asyncio
import time

import pytest

from pilotfish.catalog.keys import ROOT, node_key, wish_key
from pilotfish.catalog.record import Drain, Node, encode
from pilotfish.catalog.store import Put
from tests.registrator.harness import NODE, exports, until, web, world

HURRY_S = 0.7  # one that does not wait has written long before


class Slow:
    """A store whose answer to who asks for everything can be held back; it notes what is put."""

    def __init__(self, inner):
        self._inner, self.go, self.puts = inner, asyncio.Event(), []

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def read(self, *keys):
        if keys == (ROOT,):
            await self.go.wait()
        return await self._inner.read(*keys)

    async def commit(self, conditions, operations):
        self.puts += [one.key for one in operations if isinstance(one, Put) and one.key != node_key(NODE)]
        return await self._inner.commit(conditions, operations)

    async def answers_late(self):
        """Hold everything back until a registrator that did not wait would have written."""
        late = time.monotonic() + HURRY_S
        await until(lambda: self.puts or time.monotonic() > late, "its time")
        self.go.set()


async def drained(there):
    """A container that is published, drained, and left to the next registrator."""
    first = there.start()
    one = there.engine.add(web())
    await there.see_states(one, {80: "passing"})
    await there.store.commit([], [Put(wish_key("drain", f"container:{one}"), encode(Drain(since=1.0)), 0)])
    await there.see("it is drained", lambda found: not exports(found))
    await first.stop()
    there.running.clear()


async def of_a_swarm(there):
    """A task of a swarm whose own registrator is at work."""
    swarm = Node(node="swarm-x", addresses=(), boot="b", engine="swarm x", instance="i", version="1")
    await there.store.commit([], [Put(node_key("swarm-x"), encode(swarm), 0)])
    there.engine.add(web(labels={"com.docker.swarm.task.id": "t1"}))


@pytest.mark.parametrize("before", [drained, of_a_swarm], ids=lambda one: one.__name__)
async def test_nothing_is_written_before_the_store_was_read(tmp_path, before):
    """Not the exports of what is drained; not a task that is its swarm's."""
    async with world(tmp_path) as there:
        await before(there)
        store = Slow(there.store)
        one = there.start(store)
        await until(lambda: there.engine.listeners, "the engine is heard")
        await store.answers_late()
        await until(lambda: not one.telemetry.ready.missing, "it is ready")
    assert store.puts == []
