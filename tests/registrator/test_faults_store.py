"""Faults of the store that the registrator survives: full (B7), a lease that ends (B11), slow (B14).

Each test proves that its fault has bitten before it looks at what came of it, and prints what it measured.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request

import pytest

from pilotfish.catalog.keys import node_key
from pilotfish.catalog.store import DeletePrefix, Put, StoreFull
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import connected
from tests.parts.fake_docker import FakeDocker
from tests.parts.late_store import LateStore
from tests.parts.lying_etcd import LyingEtcd
from tests.parts.toxic import ToxicProxy, latency
from tests.registrator import harness
from tests.registrator.harness import NODE, World, exports, records, web

CAUGHT_UP_S = 5.0
BACK_S = 2.0
QUOTA = 16 * 1024 * 1024
LEASE_S = 2
KEYS = 60  # of row B14's first 20 containers


def many(world, count, **how):
    return [world.engine.add(web(f"web-{n}", host_port=10_000 + n), **how) for n in range(count)]


async def passed(seconds):
    """Let time pass: a lease can only be waited for."""
    until = time.monotonic() + seconds
    await harness.until(lambda: time.monotonic() >= until, "that moment", seconds + harness.WAIT_S)


async def test_fault_B7(tmp_path):
    """At the quota: said loudly, reads and the lease go on, and what ended is taken away; afterwards all catches up."""
    with EtcdCluster(tmp_path / "etcd", options=("--quota-backend-bytes", str(QUOTA))) as etcd:
        [member] = etcd.members
        async with connected(etcd.urls) as store, FakeDocker(tmp_path / "docker.sock") as engine:
            world = World(store, engine)
            world.left_out = "/fill/"
            one = world.start(lease_ttl_s=LEASE_S)
            stays, goes = many(world, 2)
            await world.see("both are recorded", lambda found: records(found) == {stays, goes} and len(found) == 7)
            before = await world.entries()
            with pytest.raises(StoreFull):
                await _fill(store)
            assert "alarm:NOSPACE" in member.ctl("alarm", "list", "--write-out", "simple")
            injected = time.monotonic()
            late = engine.add(web("late-1", host_port=9000))
            await harness.until(
                lambda: "space exceeded" in one.telemetry.ready.missing.get("records", ""), "it is said"
            )
            said_s = time.monotonic() - injected
            engine.remove(goes)
            await world.see("what ended is taken away", lambda found: records(found) == {stays}, CAUGHT_UP_S)
            gone_s = time.monotonic() - injected
            await passed(LEASE_S + 1.5)
            during = await world.entries()
            assert {key: entry.create_revision for key, entry in during.items()} == {
                key: before[key].create_revision for key in during
            }
            assert len(during) == 4
            await store.commit([], [DeletePrefix("/fill/")])
            member.ctl("compact", str((await store.read("/none")).revision))
            member.ctl("defrag")
            healed = time.monotonic()
            member.ctl("alarm", "disarm")
            await world.see("the late one is there", lambda found: records(found) == {stays, late}, CAUGHT_UP_S)
            caught_up_s = time.monotonic() - healed
            await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
            await world.close()
    print(
        f"\nB7: full 0.00, said {said_s:.2f}, an ended container gone {gone_s:.2f} s; keys lost of what runs: 0 of 4"
        f" in {LEASE_S + 1.5:g} s (lease {LEASE_S} s); caught up {caught_up_s:.2f} s after the alarm was disarmed"
    )
    assert caught_up_s <= CAUGHT_UP_S


async def _fill(store):
    for n in range(1000):
        await store.commit([], [Put(f"/fill/{n}/{k}", b"x" * 250_000) for k in range(4)])


class _Full:
    """A store that takes no puts once it is told to, as etcd at its quota."""

    def __init__(self, inner):
        self._inner, self.full, self.refused = inner, False, 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def commit(self, conditions, operations):
        if self.full and any(isinstance(one, Put) for one in operations):
            self.refused += 1
            raise StoreFull("no space")
        return await self._inner.commit(conditions, operations)


async def test_what_ended_leaves_a_full_store_though_others_ask_for_routes(tmp_path):
    """Their claims are refused first, over and over; they are there when there is space again."""
    async with harness.world(tmp_path) as world:
        store = _Full(world.store)
        world.start(store)
        [goes] = many(world, 1)
        await world.see("it is recorded", lambda found: records(found) == {goes})
        store.full = True
        late = world.engine.add(web("late", host_port=9000, env={"SERVICE_NAME": "shop", "SERVICE_PROXY": "http"}))
        await harness.until(lambda: store.refused > 1, "the store is full")
        world.engine.remove(goes)
        await world.see("what ended is taken away", lambda found: not records(found) and not exports(found), 10.0)
        store.full = False
        await world.see("the late one is there", lambda found: records(found) == {late})


LIES = {"once: the lease lives after all": 1, "twice: it is dead": 2}


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
async def test_fault_B11(tmp_path, lies):
    """A renewal answered with TTL 0: all keys are under a living lease within two seconds, and none is left behind."""
    async with LyingEtcd() as etcd, connected((etcd.url,)) as store, FakeDocker(tmp_path / "docker.sock") as engine:
        world = World(store, engine)
        one = world.start(lease_ttl_s=LEASE_S)
        ids = many(world, 30)
        await world.see("written", lambda found: records(found) == set(ids) and len(exports(found)) == 60)
        before = await world.entries()
        old = before[node_key(NODE)].lease
        etcd.lies.dead_leases = lies
        await harness.until(lambda: etcd.told["dead_leases"] == lies, "the lie is told")
        injected = time.monotonic()
        if lies > 1:
            await world.see(
                "all hangs on another lease",
                lambda found: len(found) == 91 and old not in {entry.lease for entry in found.values()},
            )
        back_s = time.monotonic() - injected
        await passed(2 * LEASE_S + 1)  # whatever still hung on the old lease would be gone now
        after = await world.entries()
        await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
        await world.close()
    leases = {entry.lease for entry in after.values()}
    print(
        f"\nB11 {lies} renewals answered with TTL 0: all 91 keys under a living lease {back_s:.2f} s later, "
        f"{'another' if leases != {old} else 'the same'} one; left under the old one, or lost, after twice its time: 0"
    )
    assert {key: entry.create_revision for key, entry in after.items()} == {
        key: entry.create_revision for key, entry in before.items()
    }
    assert len(leases) == 1
    assert (leases == {old}) == (lies == 1)
    assert back_s <= BACK_S


SLOW = [
    pytest.param(200, id="200 ms a call"),
    pytest.param(2000, id="2 s a call", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("slow_ms", SLOW)
async def test_fault_B14(tmp_path, slow_ms):
    """A slow etcd is asked no more often than a quick one: nothing piles up, and all is right soon afterwards."""
    with EtcdCluster(tmp_path / "etcd") as etcd:
        [member] = etcd.members
        async with (
            ToxicProxy(member.url.removeprefix("http://"), seed=1) as proxy,
            connected((f"http://{proxy.address}",), call_timeout_s=5.0, watch_stall_s=10.0) as slow,
            connected(etcd.urls) as store,
            FakeDocker(tmp_path / "docker.sock") as engine,
        ):
            world = World(store, engine)
            toxic = proxy.add(latency(slow_ms))
            looks = _Counted(store)
            world.store = looks
            one = world.start(store=slow, lease_ttl_s=30)
            began = time.monotonic()
            early = many(world, 20)
            await world.see("the early ones are recorded", lambda found: records(found) == set(early), 60)
            first_s = time.monotonic() - began
            assert toxic.bitten
            calls, looks.made = _calls(member), 0
            tasks = len(asyncio.all_tasks())
            changed = time.monotonic()
            for n in range(50):  # 50 changes in the time of a few calls
                engine.pause(early[n % 20])
                engine.unpause(early[n % 20])
                await asyncio.sleep(0)
            more = [engine.add(web(f"more-{n}", host_port=20_000 + n)) for n in range(20)]
            await world.see("the others too", lambda found: records(found) == {*early, *more}, 60)
            second_s = time.monotonic() - changed
            await passed(5 * slow_ms / 1000)
            spent_s = time.monotonic() - changed
            asked = _calls(member) - calls - looks.made
            piled = len(asyncio.all_tasks()) - tasks
            proxy.remove(toxic)
            last = engine.add(web("last-1", host_port=30_000))
            healed = time.monotonic()
            await world.see("quick again", lambda found: last in records(found))
            quick_s = time.monotonic() - healed
            await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
            await world.close()
    print(
        f"\nB14 {slow_ms} ms a call: 20 containers recorded after {first_s:.1f} s, 20 more and 100 changes after "
        f"{second_s:.1f} s; {asked:.0f} calls in {spent_s:.1f} s, {piled} tasks more; quick again {quick_s:.2f} s after"
    )
    assert asked <= 2 * KEYS + 4 * spent_s * 1000 / slow_ms  # no key is read more than twice, whatever the time
    assert piled <= 5
    assert quick_s <= CAUGHT_UP_S


class _Counted:
    """A store that counts how often it is read: our own looks are not what is measured."""

    def __init__(self, inner):
        self.inner, self.made = inner, 0

    async def read(self, *prefixes):
        self.made += len(prefixes)
        return await self.inner.read(*prefixes)


def _calls(member):
    """How many calls and streams a member was asked for, our own looks at it included."""
    with urllib.request.urlopen(f"{member.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    started = [line for line in text.splitlines() if line.startswith("grpc_server_started_total")]
    return sum(float(line.split()[-1]) for line in started)


async def test_commits_that_come_late_are_mended_at_once(tmp_path):
    """A start and a change get lost on the way and arrive behind what came after: nothing of them stays."""
    store = LateStore()
    async with harness.world(tmp_path, store) as world:
        one = world.start()
        [stays] = many(world, 1)
        await world.see("it is recorded", lambda found: records(found) == {stays} and len(exports(found)) == 2)
        await world.see("and the key says so", lambda found: b'"listed":true' in found[node_key(NODE)].value)
        states = await world.states(stays)
        store.losing = True
        goes = world.engine.add(web("goes", host_port=9000))
        await harness.until(lambda: store.lost, "its start got lost")
        world.engine.health_status(stays, "unhealthy")
        await harness.until(lambda: any(about(stays, one) for _, one in store.lost), "a change got lost")
        world.engine.remove(goes)
        world.engine.health_status(stays, "healthy")
        store.losing = False
        await world.see_states(stays, states)
        await one.service.writer.settled()
        before = await world.entries()
        assert records(before) == {stays}
        assert any(await store.deliver())  # it has bitten
        await world.see("all is as before", lambda found: said(found) == said(before))


def about(container, operations):
    return any(isinstance(one, Put) and one.key.endswith(container) for one in operations)


def said(found):
    return {key: entry.value for key, entry in found.items() if key != node_key(NODE)}
