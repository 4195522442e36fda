"""Faults of engines, stores and of ourselves that the registrator survives, on parts that fail on demand.

Each test proves that its fault has bitten before it looks at what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import statistics
import sys
import time

import pytest

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.keys import CONTAINERS, container_key, containers_of, node_key
from pilotfish.catalog.record import Container, decode
from pilotfish.catalog.store import Change, Delete, StoreUnavailable
from registrator.engines.io_docker import THREADS
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import connected
from tests.parts.fake_docker import FakeDocker, container, dropped
from tests.registrator import harness
from tests.registrator.harness import NODE, exports, listening, records, web


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


def many(world, count, **how):
    return [world.engine.add(web(f"web-{n}", host_port=10_000 + n), **how) for n in range(count)]


class Losses:
    """Watches a prefix and notes every key that goes."""

    def __init__(self, store, prefix):
        self.store, self.prefix, self.lost = store, prefix, []

    async def __aenter__(self):
        revision = (await self.store.read(self.prefix)).revision
        self.watch = self.store.watch(self.prefix, revision)
        await anext(self.watch)
        self.task = asyncio.create_task(self.follow())
        return self

    async def follow(self):
        async for one in self.watch:
            if isinstance(one, Change):
                self.lost += one.deletes

    async def __aexit__(self, *_):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.watch.aclose()


class Breakable:
    """A store that can be cut off, or exchanged for another one, under a running registrator."""

    def __init__(self, inner):
        self.inner, self.broken, self.bitten = inner, asyncio.Event(), 0

    def cut(self):
        self.broken.set()

    def heal(self, inner=None):
        self.inner, self.broken = inner or self.inner, asyncio.Event()

    def __getattr__(self, name):
        async def call(*arguments, **named):
            if self.broken.is_set():
                self.bitten += 1
                raise StoreUnavailable("cut off")
            return await getattr(self.inner, name)(*arguments, **named)

        return call

    async def watch(self, prefix, revision):
        if self.broken.is_set():
            self.bitten += 1
            raise StoreUnavailable("cut off")
        cut = asyncio.ensure_future(self.broken.wait())
        async with contextlib.aclosing(self.inner.watch(prefix, revision)) as inner:
            try:
                while True:
                    step = asyncio.ensure_future(anext(inner))
                    try:
                        await asyncio.wait({step, cut}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        if not step.done():
                            step.cancel()
                            await asyncio.gather(step, return_exceptions=True)
                    if cut.done():
                        raise StoreUnavailable("cut off")
                    yield step.result()
            finally:
                cut.cancel()


async def test_fault_A1_engine_restarts(world):
    """While the engine is away nothing living is lost, whatever the lease; afterwards, what went meanwhile goes."""
    one = await listening(world, lease_ttl_s=2)
    stays, goes = many(world, 2)
    await world.see("both are recorded", lambda found: records(found) == {stays, goes})
    lease = (await world.entries())[node_key(NODE)].lease
    async with Losses(world.store, CONTAINERS) as losses:
        await world.engine.down()
        await harness.until(lambda: "docker" in one.telemetry.ready.missing, "it is noticed")
        world.engine.containers.pop(goes)
        renewed = time.monotonic() + 3  # longer than the lease
        await harness.until(lambda: time.monotonic() > renewed, "the lease would have ended")
        assert losses.lost == []
        world.engine.history.clear()
        await world.engine.up()
        await world.see_states(goes, {})
        await harness.until(lambda: not one.telemetry.ready.missing, "it is ready again")
        assert losses.lost == [container_key(NODE, goes)]
    assert (await world.entries())[node_key(NODE)].lease == lease


async def test_fault_A2_engine_hangs_half_open(world):
    """A stream that says nothing and an engine that does not answer: noticed by a ping, and all is made up for."""
    one = await listening(world, docker_timeout_s=1.0, resync_s=60.0)
    await world.see("started", lambda found: found)
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
    ping = world.engine.disturb("ping", hang=True)
    world.engine.freeze_streams()
    hidden = world.engine.add(web("web-1"))
    await harness.until(lambda: "docker" in one.telemetry.ready.missing, "it is noticed")
    assert world.engine.bitten["frozen"]
    assert ping.bitten
    ping.end()
    await world.see_states(hidden, {80: "passing"})


async def test_fault_A2_stream_is_dead_and_the_engine_is_well(world):
    """Pings say that all is well, and events do not come: what the comparison finds makes us listen anew."""
    one = await listening(world, resync_s=0.3)
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
    world.engine.freeze_streams()
    hidden = world.engine.add(web("web-1"))
    await world.see_states(hidden, {80: "passing"})
    assert world.engine.bitten["frozen"]
    before = world.engine.requests["events"]
    assert before >= 1
    await harness.until(lambda: world.engine.requests["events"] >= 2, "it listens on a fresh stream")
    assert one.metric("pilotfish_registrator_reconcile_fixed_total") == 1


async def lose_all(world, count, **how):
    one = await listening(world, **how)
    ids = many(world, count)
    await world.see("all are recorded", lambda found: records(found) == set(ids), wait_s=90)
    await harness.until(lambda: not one.service._engine._burst, "the burst of starts is over, and listed after")
    await harness.until(lambda: not one.service._lanes.waiting, "every event was looked after")
    fixed = one.metric("pilotfish_registrator_reconcile_fixed_total")
    world.engine.tamper = dropped
    for each in ids:
        world.engine.die(each)
    assert world.engine.bitten["tampered"] >= count
    await world.see("none is recorded", lambda found: not records(found) and not exports(found), wait_s=90)
    assert one.metric("pilotfish_registrator_reconcile_fixed_total") - fixed == count


async def test_fault_A3_events_are_lost(world):
    """What no event told is found by listing, and counted."""
    await lose_all(world, 100, resync_s=1.0)


@pytest.mark.soak
async def test_fault_A3_a_thousand_events_are_lost(world):
    """The same with more than the engine itself remembers."""
    await lose_all(world, 1000, resync_s=15.0, ping_s=5.0)


async def test_fault_A3_more_events_than_the_engine_keeps(world):
    """A burst of starts beyond every buffer, read in odd pieces, ends with all of them recorded."""
    await listening(world, resync_s=1.0)
    world.engine.chunk = 700
    ids = many(world, 300)
    await world.see("all are recorded", lambda found: records(found) == set(ids), wait_s=90)


class Program:
    """The registrator as a process of its own, on a fake engine and a real etcd."""

    def __init__(self, engine: FakeDocker, etcd: EtcdCluster, *flags: str) -> None:
        self.command = [
            sys.executable, "-m", "pilotfish", "registrator", "--docker", engine.url, "--etcd", etcd.urls[0],
            "--node-name", NODE, "--ip", harness.HOST_IP, "--lease-ttl", "5", "--status", "127.0.0.1:0", *flags,
        ]  # fmt: skip
        self.process = None

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(*self.command, stderr=asyncio.subprocess.DEVNULL)
        return self

    async def __aexit__(self, *_):
        await self.end(signal.SIGKILL)

    async def end(self, how: signal.Signals) -> float:
        """Send a signal and wait; returns the seconds that it took."""
        began = time.monotonic()
        if self.process.returncode is None:
            os.kill(self.process.pid, how)
            async with asyncio.timeout(harness.WAIT_S):
                await self.process.wait()
        return time.monotonic() - began


@pytest.fixture
async def etcd_world(tmp_path):
    with EtcdCluster(tmp_path / "etcd") as etcd:
        async with connected(etcd.urls) as store, FakeDocker(tmp_path / "docker.sock") as engine:
            there = harness.World(store, engine)
            there.etcd = etcd
            yield there
            await there.close()


async def test_fault_A4_killed_and_back(etcd_world):
    """Killed and back within its lease, nothing goes; away for longer, everything goes once and comes back."""
    world = etcd_world
    web_1 = world.engine.add(web("web-1"), quiet=True)
    async with Losses(world.store, "/") as losses:
        async with Program(world.engine, world.etcd) as first:
            await world.see("written", lambda found: web_1 in records(found) and len(exports(found)) == 2)
            lease = (await world.entries())[node_key(NODE)].lease
            await first.end(signal.SIGKILL)
            assert first.process.returncode == -signal.SIGKILL
        instance = (await world.node()).instance
        async with Program(world.engine, world.etcd) as second:
            deadline = time.monotonic() + harness.WAIT_S
            while (await world.node()).instance == instance and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            renewed = time.monotonic() + 6  # longer than the lease
            await harness.until(lambda: time.monotonic() > renewed, "the lease would have ended")
            assert losses.lost == []
            assert (await world.entries())[node_key(NODE)].lease == lease
            await second.end(signal.SIGKILL)
        await world.see("all is gone with the lease", lambda found: not found)
        assert sorted(losses.lost) == sorted({*losses.lost})
    async with Program(world.engine, world.etcd):
        await world.see("written again", lambda found: web_1 in records(found) and len(exports(found)) == 2)


@pytest.mark.parametrize("on_exit", ["keep", "remove"])
async def test_fault_A5_terminated(etcd_world, on_exit):
    """SIGTERM: it is gone within two seconds; its keys stay for the next one, or go with it."""
    world = etcd_world
    web_1 = world.engine.add(web("web-1"), quiet=True)
    async with Program(world.engine, world.etcd, "--on-exit", on_exit) as program:
        await world.see("written", lambda found: web_1 in records(found) and len(exports(found)) == 2)
        took_s = await program.end(signal.SIGTERM)
        assert program.process.returncode == 0
    found = await world.entries()
    assert bool(found.keys() - {node_key(NODE)}) == (on_exit == "keep")
    assert took_s < harness.WAIT_S


async def test_a_hangup_compares_everything_and_ends_nothing(etcd_world):
    """SIGHUP: an export that somebody deleted is back long before the next comparison."""
    world = etcd_world
    web_1 = world.engine.add(web("web-1"), quiet=True)
    async with Program(world.engine, world.etcd, "--resync", "1h") as program:
        await world.see("written", lambda found: web_1 in records(found) and len(exports(found)) == 2)
        await world.see("all of it", lambda found: b'"listed":true' in found[node_key(NODE)].value)
        lists = world.engine.requests["list"]
        await world.store.commit([], [Delete("/reg/all/web/h1:web-1:80")])
        os.kill(program.process.pid, signal.SIGHUP)
        await world.see("it is back", lambda found: len(exports(found)) == 2)
        await harness.until(lambda: world.engine.requests["list"] > lists, "it has listed")
        assert program.process.returncode is None


async def test_fault_A7_one_inspection_hangs(world):
    """A container that the engine cannot describe is tried again; the others do not wait for it."""
    await listening(world, docker_timeout_s=5.0)
    slow = container("slow-1", env={"SERVICE_NAME": "slow"}, ports={80: 9000}, health="healthy")
    hang = world.engine.disturb("inspect", container=slow["Id"], hang=True)
    world.engine.add(slow)
    await harness.until(lambda: hang.bitten, "its inspection hangs")
    others = many(world, 20)
    await world.see("the others are recorded", lambda found: records(found) == set(others))
    hang.end()
    await world.see_states(slow["Id"], {80: "passing"})


async def seconds_until_recorded(world, numbers):
    """How long each of some containers takes from its start to its record, one after another."""
    took = []
    for number in numbers:
        began = time.monotonic()
        one = world.engine.add(web(f"web-{number}", host_port=10_000 + number))
        await world.see("it is recorded", lambda found, one=one: one in records(found))
        took.append(time.monotonic() - began)
    return took


async def test_fault_A7_others_are_not_delayed(world):
    """While inspections of three containers take 10 s each, the others take at most 100 ms longer than before."""
    await listening(world, docker_timeout_s=15.0)
    before = await seconds_until_recorded(world, range(15))
    slow = [container(f"slow-{n}", env={"SERVICE_NAME": "s"}, ports={80: 9000 + n}, health="healthy") for n in range(3)]
    delays = [world.engine.disturb("inspect", container=one["Id"], delay_s=10.0) for one in slow]
    for one in slow:
        world.engine.add(one)
    await harness.until(lambda: all(delay.bitten for delay in delays), "all three hang")
    meanwhile = await seconds_until_recorded(world, range(15, 30))
    assert not records(await world.entries()) & {one["Id"] for one in slow}  # they hung all the while
    delayed_s = statistics.median(meanwhile) - statistics.median(before)
    print(f"A7: others delayed by {delayed_s * 1000:.0f} ms")
    assert delayed_s <= 0.1
    for delay in delays:
        delay.end()
    for one in slow:
        await world.see_states(one["Id"], {80: "passing"})


ODD = {
    "an error": {"status": 500},
    "no JSON": {"body": b"<html>"},
    "null": {"body": b"null"},
    "fields that are null": {"body": b'{"Id": null, "Name": null}'},
    "not there, for a moment": {"status": 404},
}


@pytest.mark.parametrize("how", ODD.values(), ids=ODD)
async def test_fault_A7_an_inspection_is_answered_with(world, how):
    """One bad answer about one container disturbs nobody and is made up for."""
    await listening(world, resync_s=0.3)
    odd = container("odd-1", env={"SERVICE_NAME": "odd"}, ports={80: 9000}, health="healthy")
    disturbance = world.engine.disturb("inspect", container=odd["Id"], times=1, **how)
    world.engine.add(odd)
    await harness.until(lambda: disturbance.bitten, "it is answered so")
    [other] = many(world, 1)
    await world.see_states(other, {80: "passing"})
    await world.see_states(odd["Id"], {80: "passing"})


async def test_fault_A8_many_start_at_once(world):
    """Starts that come together are written together."""
    one = await listening(world)
    ids = many(world, 200)
    await world.see("all are recorded", lambda found: records(found) == set(ids) and len(exports(found)) == 400)
    assert one.metric("pilotfish_registrator_operations_total") == 3 * 200
    assert one.metric("pilotfish_registrator_commits_total") <= 50


async def storm(world, containers, seconds):
    """Containers start at once; then 1,000 events a second for some time; returns when all is right again.

    Returns:
        Commits for the starts, and seconds from the storm's last event until every key is right.
    """
    one = await listening(world)
    ids = many(world, containers)
    await world.see("all are recorded", lambda found: records(found) == set(ids), wait_s=90)
    commits = one.metric("pilotfish_registrator_commits_total")
    assert one.metric("pilotfish_registrator_operations_total") == 3 * containers
    told, began = world.engine.told, time.monotonic()
    chance = random.Random(8)
    paused = set()
    while (passed := time.monotonic() - began) < seconds:
        while world.engine.told - told < passed * 1000:
            each = chance.choice(ids)
            (world.engine.unpause if each in paused else world.engine.pause)(each)
            paused ^= {each}
        await asyncio.sleep(0.01)
    rate = (world.engine.told - told) / (time.monotonic() - began)
    ended = time.monotonic()
    assert rate > 900, "the storm was none"
    expected = {each: "failing" if each in paused else "passing" for each in ids}

    def right(found):
        seen = {each: decode(Container, found[container_key(NODE, each)].value) for each in ids}
        return {each: record.endpoints[0].state for each, record in seen.items()} == expected

    while not right(await world.entries()):
        assert time.monotonic() - ended < harness.WAIT_S, "not all keys are right"
        await asyncio.sleep(0.1)  # looking at everything all the time would be what is measured
    took_s = time.monotonic() - ended
    looks = one.metric("pilotfish_registrator_inspections_total")
    print(f"A8: {commits:.0f} commits for {containers} starts; {rate:.0f} events a second for {seconds} s cost "
          f"{looks - containers:.0f} inspections; right {took_s:.2f} s after the end")  # fmt: skip
    return commits, took_s


async def test_fault_A8_a_storm_of_events(world):
    """What happens to one container again and again costs few looks, and everything is right soon after its end."""
    commits, took_s = await storm(world, 100, 2)
    assert commits <= 50
    assert took_s <= 5


@pytest.mark.soak
async def test_fault_A8_a_thousand_containers_and_ten_seconds(world):
    """The row as it stands: 1,000 starts in 50 transactions, 1,000 events a second for 10 s, right within 5 s."""
    commits, took_s = await storm(world, 1000, 10)
    assert commits <= 50
    assert took_s <= 5


async def test_a_resync_writes_nothing_when_nothing_differs(world):
    """Many containers, several comparisons: the store's revision stays."""
    first = await listening(world, resync_s=2.0)
    ids = many(world, 200)
    await world.see("all are recorded", lambda found: records(found) == set(ids) and len(exports(found)) == 400)
    await harness.until(lambda: not first.service._lanes.waiting, "every event was looked after")
    await first.service.writer.settled()
    await world.see("its key says so", lambda found: b'"listed":true' in found[node_key(NODE)].value)
    before, lists = (await world.store.read("/")).revision, world.engine.requests["list"]
    looks = first.metric("pilotfish_registrator_inspections_total")
    await harness.until(lambda: world.engine.requests["list"] >= lists + 3, "it has compared several times")
    assert first.metric("pilotfish_registrator_inspections_total") > looks + 200  # it did look
    assert (await world.store.read("/")).revision == before


async def test_at_the_start_containers_are_inspected_side_by_side_within_a_bound(world):
    """A hundred that take 0.1 s each are done in far less than 10 s; never more than the bound at once."""
    ids = many(world, 100, quiet=True)
    slow = world.engine.disturb("inspect", delay_s=0.1)
    began = time.monotonic()
    await listening(world, docker_timeout_s=5.0)
    await world.see("all are recorded", lambda found: records(found) == set(ids))
    took_s = time.monotonic() - began
    assert slow.bitten >= 100
    assert took_s < 6  # one after another they would take 10 s
    assert world.engine.most_at_once <= THREADS


async def test_fault_A9_two_registrators_of_one_engine(world):
    """The later one takes over, the earlier one stands by and says so; nobody fights."""
    first = await listening(world, resync_s=0.1)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    second = world.start(resync_s=0.1)
    await harness.until(
        lambda: "end one of the two" in first.telemetry.ready.missing.get("node", ""), "the first says so"
    )
    await harness.until(lambda: not second.telemetry.ready.missing, "the second is ready")
    before = (await world.store.read("/")).revision
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 10, "both have compared several times")
    assert (await world.store.read("/")).revision == before
    await second.stop()
    world.running.remove(second)
    world.engine.pause(web_1)
    await world.store.revoke((await world.entries())[node_key(NODE)].lease)
    await world.see_states(web_1, {80: "failing"})
    await harness.until(lambda: not first.telemetry.ready.missing, "the first has taken over again")


async def test_fault_A9_two_engines_under_one_name(world, tmp_path):
    """Another host with the same name is refused with a sentence, until the first one's lease ends."""
    first = await listening(world, lease_ttl_s=2)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    async with FakeDocker(tmp_path / "other.sock", seed=1) as other:
        shop = other.add(web("shop-1"), quiet=True)
        second = world.start(engine=other)
        await harness.until(
            lambda: "own --node-name" in second.telemetry.ready.missing.get("node", ""), "it is refused"
        )
        assert records(await world.entries()) == {web_1}
        await first.stop()
        await world.see("the second has the name", lambda found: records(found) == {shop})
        await second.stop()


async def test_fault_B10_cut_off_for_longer_than_the_lease(world):
    """The lease ends behind our back: afterwards everything is there again, once, under one lease."""
    cut = Breakable(world.store)
    one = world.start(store=cut, lease_ttl_s=2)
    ids = many(world, 30)
    await world.see("written", lambda found: records(found) == set(ids) and len(exports(found)) == 60)
    before = await world.entries()
    cut.cut()
    await world.see("everything went with the lease", lambda found: not found)
    assert cut.bitten
    gone = ids.pop()
    world.engine.remove(gone)
    cut.heal()
    await world.see("everything is back", lambda found: records(found) == set(ids) and len(exports(found)) == 58)
    after = await world.entries()
    assert len({entry.lease for entry in after.values()}) == 1
    assert after[node_key(NODE)].lease != before[node_key(NODE)].lease
    assert {key: entry.value for key, entry in after.items() if key not in {node_key(NODE)}}.items() <= {
        key: entry.value for key, entry in before.items()
    }.items()
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")


async def test_fault_B10_a_lease_that_is_revoked(world):
    """Somebody ends our lease while all is well: the watch tells, and everything is registered anew."""
    world.start()
    ids = many(world, 5)
    await world.see("written", lambda found: records(found) == set(ids) and len(exports(found)) == 10)
    lease = (await world.entries())[node_key(NODE)].lease
    await world.store.revoke(lease)
    await world.see(
        "all is back",
        lambda found: records(found) == set(ids) and len(exports(found)) == 10 and found[node_key(NODE)].lease != lease,
    )


async def test_fault_B13_another_store(world):
    """The store is another one, at a lower revision and empty: everything is registered anew."""
    cut = Breakable(world.store)
    world.start(store=cut)
    ids = many(world, 5)
    await world.see("written", lambda found: records(found) == set(ids) and len(exports(found)) == 10)
    before = await world.store.read("/")
    cut.cut()
    fresh = EmbeddedStore(quiet_s=1.0)
    try:
        cut.heal(fresh)
        old, world.store = world.store, fresh
        await world.see("all is there", lambda found: records(found) == set(ids) and len(exports(found)) == 10)
        assert (await fresh.read("/")).cluster != before.cluster
        await world.close()
        world.store = old
    finally:
        await fresh.close()


async def test_fault_B13_etcd_is_restored(etcd_world, tmp_path):
    """A real etcd comes back from an older snapshot: what was written since is written again."""
    world = etcd_world
    member = world.etcd.members[0]
    one = world.start()
    early, late = (web(name) for name in ("early-1", "late-1"))
    world.engine.add(early)
    await world.see("the early one is written", lambda found: records(found) == {early["Id"]})
    member.ctl("snapshot", "save", str(tmp_path / "snapshot.db"))
    revision = (await world.store.read("/")).revision
    world.engine.add(late)
    world.engine.remove(early["Id"])
    await world.see("the late one is written", lambda found: records(found) == {late["Id"]})
    member.kill()
    member.wipe()
    member.ctl(
        "snapshot", "restore", str(tmp_path / "snapshot.db"), "--data-dir", str(member.data), "--name", member.name,
        "--initial-cluster", member.initial_cluster, "--initial-advertise-peer-urls", member.peer_url,
    )  # fmt: skip
    member.restart()
    restored = await connected_once(world.etcd.urls)
    assert restored.revision <= revision + 3  # it went back
    await world.see(
        "only the late one is there",
        lambda found: records(found) == {late["Id"]} and len(exports(found)) == 2 and late["Id"] in str(found),
    )
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")


async def connected_once(urls):
    async with connected(urls) as store:
        return await store.read(containers_of(NODE))
