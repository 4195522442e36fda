"""Whose is the node's key: every case of what is found under one's own name; and what stands on it in the end."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.keys import node_key
from pilotfish.catalog.record import Node, decode, encode
from pilotfish.catalog.store import Entry
from pilotfish.catalog.telemetry import Telemetry
from registrator.writing.io_node import Tenure
from registrator.writing.node import Adopt, Fresh, Ours, Refuse, StandBy, judge_node

ME = Node(node="h1", addresses=("10.0.0.1",), boot="b", engine="E1", instance="me", version="1")
FENCE = 10


def found(revision: int = FENCE, **changes: object) -> Entry:
    return Entry("/pilotfish/v1/nodes/h1", encode(msgspec.structs.replace(ME, **changes)), 1, revision, 7)


ROWS = {
    "nothing": (None, 0, Fresh),
    "nothing, and we had it": (None, FENCE, Fresh),
    "an earlier run of ours": (found(instance="before"), 0, Adopt),
    "an earlier run, before a reboot": (found(instance="before", boot="a"), 0, Adopt),
    "ours, as we put it": (found(), FENCE, Ours),
    "ours, put again by us in between": (found(12), FENCE, Adopt),
    "a later run has taken over": (found(12, instance="later"), FENCE, StandBy),
    "the store was restored to an earlier run": (found(5, instance="before"), FENCE, Adopt),
    "the store was restored to an earlier put of ours": (found(5), FENCE, Adopt),
    "another engine": (found(instance="they", engine="E2"), 0, Refuse),
    "another engine took the name from us": (found(12, instance="they", engine="E2"), FENCE, Refuse),
    "our engine has got another id": (found(engine="E0"), FENCE, Ours),
    "another engine's registrator has left": (found(instance="they", engine="E2", leaving=True), 0, Adopt),
    "a later run has left": (found(12, instance="later", leaving=True), FENCE, Adopt),
    "no record at all": (Entry("/pilotfish/v1/nodes/h1", b"{", 1, FENCE, 7), 0, Adopt),
}


@pytest.mark.parametrize(("entry", "fence", "kind"), ROWS.values(), ids=ROWS)
def test_whose_is_the_key(entry, fence, kind):
    """The table of what is found, against what we know."""
    assert isinstance(judge_node(entry, ME, fence), kind)


def test_another_engine_is_refused_with_a_sentence():
    """Who has the name, where, and what to do."""
    judged = judge_node(found(instance="they", engine="ABCDEF123456789"), ME, 0)
    assert judged.why == (
        "the node name h1 belongs to another Docker engine (ABCDEF123456 at 10.0.0.1): "
        "give this host its own --node-name, or wait until that one's lease ends"
    )


class Slow:
    """A store that lets somebody do something while a commit is under way."""

    def __init__(self, inner):
        self._inner, self.meanwhile = inner, lambda: None

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def commit(self, *what):
        done = await self._inner.commit(*what)
        self.meanwhile()
        return done


@pytest.mark.parametrize("listed", [False, True], ids=["while it is put", "while it is put as listed"])
async def test_an_address_that_changes_while_the_key_is_put_is_on_it_in_the_end(listed):
    """What is put is not what is wanted any more: it is put once more."""
    inner = EmbeddedStore(quiet_s=1.0)
    store = Slow(inner)
    me = Node(node="h1", addresses=("192.0.2.1",), boot="b", engine="e", instance="i", version="1")
    tenure = Tenure(store, Telemetry("registrator", time.time), me, 30)

    def change():
        store.meanwhile = lambda: None
        tenure.serves("e", ("192.0.2.2",))

    if not listed:
        store.meanwhile = change
    running = asyncio.create_task(tenure.run())
    try:
        await tenure.held()
        if listed:
            store.meanwhile = change
            await tenure.listed(tenure.epoch)
        deadline = time.monotonic() + 10.0
        while decode(Node, (await inner.read(node_key("h1"))).entries[0].value).addresses != ("192.0.2.2",):
            assert time.monotonic() < deadline, "the key has the old address"
            await asyncio.sleep(0.005)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await inner.close()
