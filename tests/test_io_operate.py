"""What operators ask for, done on a real store: embedded, and behind a feed as the command line reaches `up`."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from pilotfish import io_operate, io_reach, operate
from pilotfish.catalog import keys
from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_feed import FeedServer
from pilotfish.catalog.record import Drain, Shift, decode, encode
from pilotfish.catalog.store import Delete, Put
from pilotfish.io_operate import Asked
from pilotfish.operate import NotMeant, Refused
from pilotfish.settings import UpSettings
from tests.operate_kit import claimed, container, drained, key_of, pairs, proxy, shifted

WAIT_S = 30.0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What is waited for DNS, in tests: long enough to be seen."""
    monkeypatch.setattr(operate, "HEARD_S", 0.0)
    monkeypatch.setattr(operate, "PROXY_OUT_S", 0.3)
    monkeypatch.setattr(operate, "ENDPOINT_TTL", 0.2)


@pytest.fixture
async def store():
    one = EmbeddedStore()
    yield one
    await one.close()


async def put(store, *things):
    done = await store.commit([], [Put(key, value) for key, value in pairs(*things)])
    return done.revision


async def wishes(store):
    return {entry.key: entry.value for entry in (await store.read(keys.WISHES)).entries}


async def until(store, true):
    async with asyncio.timeout(WAIT_S):
        while not true(await wishes(store)):
            await asyncio.sleep(0.01)


async def test_a_drain_ends_when_every_proxy_has_applied_it(store):
    """Not before; then what was said says so."""
    await put(store, container("a"), container("b", "h2"), proxy("h1", 1), proxy("h2", 1))
    said = []
    task = asyncio.create_task(io_operate.drain(store, "a", Asked(said.append, timeout_s=WAIT_S)))
    await until(store, bool)
    wished = (await store.read(keys.WISHES)).entries[0].mod_revision
    await put(store, proxy("h1", wished))
    done, _ = await asyncio.wait([task], timeout=0.6)  # longer than DNS takes here
    assert not done
    await put(store, proxy("h2", wished + 5))
    async with asyncio.timeout(WAIT_S):
        await task
    assert said[-1].endswith("is out: it is safe to stop it")
    [value] = (await wishes(store)).values()
    assert decode(Drain, value).by.count("@") == 1


async def test_a_drain_that_is_not_safe_in_time_says_what_is_missing(store):
    """And the wish stands."""
    await put(store, container("a"), proxy("h1", 1), proxy("h2", 999))
    with pytest.raises(CannotStart, match=r"not safe after 0\.1 s: the proxy on h1 has not applied it") as caught:
        await io_operate.drain(store, "service:web", Asked(str, timeout_s=0.1))
    assert caught.value.exit_code == 1
    assert set(await wishes(store)) == {keys.wish_key("drain", "service:web")}


async def test_what_is_drained_already_is_waited_for_again(store):
    """The wish is left as it is."""
    await put(store, container("a"), container("b", "h2"), drained("node:h1"))
    before = await wishes(store)
    await io_operate.drain(store, "h1", Asked(str, timeout_s=WAIT_S))
    assert await wishes(store) == before


async def test_a_node_that_is_needed_is_drained_by_force_only(store):
    """Otherwise nothing is written."""
    await put(store, container("a"))
    with pytest.raises(Refused, match="nothing would be left of web"):
        await io_operate.drain(store, "h1", Asked(str))
    assert await wishes(store) == {}
    await io_operate.drain(store, "h1", Asked(str, force=True))
    assert set(await wishes(store)) == {keys.wish_key("drain", "node:h1")}


async def test_what_was_drained_by_force_is_waited_for_without(store):
    """It stands already: there is nothing to refuse."""
    await put(store, container("a"), drained("node:h1"))
    said = []
    await io_operate.drain(store, "h1", Asked(said.append, timeout_s=WAIT_S))
    assert said[-1] == "node:h1 is out: it is safe to stop it"


async def test_a_drain_that_nobody_can_read_is_no_drain(store):
    """So it is put anew."""
    key = keys.wish_key("drain", "service:web")
    await put(store, container("a"), (key, b"{}"))
    await io_operate.drain(store, "service:web", Asked(str))
    assert decode(Drain, (await wishes(store))[key])


class Between:
    """A store in which something happens right before the first commit of a wish."""

    def __init__(self, store, happening):
        self._store, self._happening = store, happening

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit(self, conditions, operations):
        happening, self._happening = self._happening, None
        if happening:
            await put(self._store, happening)
        return await self._store.commit(conditions, operations)


async def test_two_nodes_that_are_drained_in_one_moment_do_not_empty_a_service(store):
    """Who comes second takes it back."""
    await put(store, container("a"), container("b", "h2"))
    with pytest.raises(Refused, match="nothing would be left of web"):
        await io_operate.drain(Between(store, drained("node:h2")), "h1", Asked(str))
    assert set(await wishes(store)) == {keys.wish_key("drain", "node:h2")}


async def test_a_drain_that_is_taken_back_meanwhile_is_not_safe(store):
    """Whoever waits is told."""
    await put(store, container("a"), proxy("h1", 1))
    task = asyncio.create_task(io_operate.drain(store, "a", Asked(str, timeout_s=WAIT_S)))
    await until(store, bool)
    [key] = await wishes(store)
    await store.commit([], [Delete(key)])
    with pytest.raises(CannotStart, match="took it back"):
        await task


WEB = keys.wish_key("shift", "web")
MEANWHILE = {
    "another shift": (io_operate.shift, lambda wish: replace(wish, percents={"v2": 100}), "else replaced it"),
    "the same shift, anew": (io_operate.shift, lambda wish: replace(wish, since=1.0), "else replaced it"),
    "a mark of a registrator": (io_operate.shift, lambda wish: replace(wish, gone_since=9.0), "not safe after"),
    "shifted again": (io_operate.unshift, lambda _: Shift(since=1.0, percents={"v2": 100}), "else shifted it again"),
}


@pytest.mark.parametrize(("ask", "then", "said"), MEANWHILE.values(), ids=MEANWHILE)
async def test_a_shift_that_is_replaced_meanwhile_has_not_come_about(store, ask, then, said):
    """Whoever waits for the first one is told; what a registrator notes on it is nothing."""
    await put(store, container("a", version="v1"), container("b", version="v2"), proxy("h1", 1))
    if ask is io_operate.unshift:
        await put(store, shifted("web", v2=10))
    percents = [{"v2": 10}] if ask is io_operate.shift else []
    before = await wishes(store)
    task = asyncio.create_task(ask(store, "web", *percents, Asked(str, timeout_s=2.0)))
    await until(store, lambda found: found != before)
    value = (await wishes(store)).get(WEB)
    await put(store, (WEB, encode(then(value and decode(Shift, value)))))
    with pytest.raises(CannotStart, match=said):
        await task


async def test_who_stops_waiting_is_told_what_stands(store):
    """A Ctrl-C ends the command, not the drain."""
    await put(store, container("a"), container("b"), proxy("h1", 1))
    said = []
    task = asyncio.create_task(io_operate.drain(store, "a", Asked(said.append, timeout_s=WAIT_S)))
    await until(store, lambda _: said)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said[1:] == ["not waited for any longer: the drain stands all the same"]
    assert len(await wishes(store)) == 1


async def test_undrain_brings_back_and_waits(store):
    """The wish goes; the proxies have to have applied that."""
    await put(store, container("a"), proxy("h1", 1), drained("service:web"))
    said = []
    task = asyncio.create_task(io_operate.undrain(store, "web", Asked(said.append, timeout_s=WAIT_S)))
    await until(store, lambda found: not found)
    await put(store, proxy("h1", 1000))
    async with asyncio.timeout(WAIT_S):
        await task
    assert said[-1].startswith("service:web is back")


async def test_what_comes_back_to_a_service_that_is_drained_is_not_back(store):
    """The drain is gone, and nobody is told that it is served."""
    await put(store, container("a"), container("b"), drained("service:web"))
    await io_operate.drain(store, "a", Asked(str))
    said = []
    with pytest.raises(CannotStart, match="still out: drained: an operator took service:web out"):
        await io_operate.undrain(store, "a", Asked(said.append, timeout_s=WAIT_S))
    assert said == ["a on h1 (610000000000) is not drained any more"]
    assert set(await wishes(store)) == {keys.wish_key("drain", "service:web")}


async def test_a_running_up_is_reached_over_its_feed(tmp_path, store):
    """Without --etcd, by --data; the store behind is changed."""
    await put(store, container("a"), container("b"))
    (tmp_path / "run").mkdir()
    async with (
        FeedServer(store, tmp_path / "run" / "feed.sock", {}).serving(),
        io_reach.reached(UpSettings(data=str(tmp_path))) as reached,
    ):
        await io_operate.drain(reached, "a", Asked(str, timeout_s=WAIT_S))
    assert len(await wishes(store)) == 1


async def test_nobody_there_is_said_with_what_to_name(tmp_path):
    """Exit code 3."""
    with pytest.raises(CannotReach, match="--etcd, or the folder of `pilotfish up` with --data"):
        async with io_reach.reached(UpSettings(data=str(tmp_path))) as reached:
            await io_operate.drain(reached, "a", Asked(str))


async def test_a_proxy_whose_record_cannot_be_read_is_waited_for(store):
    """It lives, and nobody knows what it serves."""
    await put(store, container("a"), (key_of(proxy("h1")), b"{}"), (key_of(proxy("h2")), encode(proxy("h2", 999))))
    with pytest.raises(CannotStart, match="the proxy on h1 has not applied it"):
        await io_operate.drain(store, "a", Asked(str, timeout_s=0.1))


async def test_a_shift_is_put_replaced_and_taken_back(store):
    """Each waits for the proxies; the last one leaves nothing."""
    await put(store, container("a", version="v1"), container("b", version="v2"), proxy("h1", 999))
    key, said = keys.wish_key("shift", "web"), []
    await io_operate.shift(store, "web", {"v2": 10}, Asked(said.append, timeout_s=WAIT_S))
    assert decode(Shift, (await wishes(store))[key]).percents == {"v2": 10}
    await io_operate.shift(store, "web", {"v2": 50}, Asked(said.append, timeout_s=WAIT_S))
    assert decode(Shift, (await wishes(store))[key]).percents == {"v2": 50}
    await io_operate.unshift(store, "WEB", Asked(said.append, timeout_s=WAIT_S))
    assert await wishes(store) == {}
    assert said[0] == "service:web is shifted: v1 90 %, v2 10 %"
    with pytest.raises(NotMeant, match="service web is not shifted"):
        await io_operate.unshift(store, "web", Asked(str, timeout_s=WAIT_S))


async def test_a_claim_that_changes_meanwhile_is_not_released(store):
    """Whoever asked looks again."""
    key, value = claimed("shop", "www.example.com")
    await put(store, (key, value))
    with pytest.raises(CannotStart, match="somebody else has just changed the same"):
        await io_operate.release(
            Between(store, claimed("shop", "www.example.com", idle_since=5.0)), "www.example.com", Asked(str)
        )
