"""The proxy's own record: there while nginx serves, gone when it does not, written rarely, back after a lost lease."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import msgspec
import pytest

from confgen.io_lease import ProxyRecord
from pilotfish.catalog import keys
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.record import Node, Proxy, decode, encode
from pilotfish.catalog.store import Put, StoreUnavailable
from pilotfish.catalog.telemetry import Telemetry
from tests.confgen.kit import (
    DOMAIN,
    NODE,
    Backend,
    Running,
    all_workers,
    claim,
    container,
    endpoint,
    kill_nginx,
    put,
    until,
)
from tests.parts.late_store import LateStore

RECORD = Proxy(node=NODE, addresses=("10.0.0.1",), http_port=80, generation="aa", revision=1)


class CountingStore(EmbeddedStore):
    """Counts commits and renewals, and fails while `away`."""

    commits = renewals = 0
    away = False

    async def commit(self, conditions, operations):
        if self.away:
            raise StoreUnavailable("nobody answers")
        self.commits += 1
        return await super().commit(conditions, operations)

    async def keep_alive(self, lease):
        self.renewals += 1
        return await super().keep_alive(lease)


async def stored(store, node=NODE):
    reading = await store.read(keys.PROXIES)
    found = {entry.key: decode(Proxy, entry.value) for entry in reading.entries}
    return found.get(keys.proxy_key(node))


@pytest.fixture
async def kept():
    store = CountingStore()
    record = ProxyRecord(store, NODE, 3, Telemetry("confgen", time.time))
    task = asyncio.create_task(record.run())
    yield store, record
    task.cancel()
    await asyncio.wait({task})
    await store.close()


async def test_the_record_stands_as_set_and_goes_at_once(kept):
    store, record = kept
    record.set(RECORD)
    assert await until(lambda: stored(store)) == RECORD
    record.set(None)
    await until(lambda: gone(store), "the record is gone")


async def gone(store):
    return await stored(store) is None


async def test_many_changes_are_few_writes_and_the_last_one_stands(kept):
    store, record = kept
    began = time.monotonic()
    for revision in range(1, 200):
        record.set(Proxy(node=NODE, addresses=("10.0.0.1",), revision=revision))
        await asyncio.sleep(0.005)
    await until(lambda: is_at(store, 199), "the last one stands")
    assert store.commits <= 2 + (time.monotonic() - began)


async def is_at(store, revision):
    found = await stored(store)
    return found is not None and found.revision == revision


async def test_fault_B10_a_lost_lease_is_taken_anew_with_the_record(kept):
    store, record = kept
    record.set(RECORD)
    await until(lambda: stored(store))
    lease = record._lease
    await store.revoke(lease)
    assert await gone(store)  # the fault was met
    assert await until(lambda: stored(store)) == RECORD
    assert record._lease != lease


async def test_an_absent_store_is_said_and_the_record_is_written_when_it_is_back(kept):
    store, record = kept
    store.away = True
    record.set(RECORD)
    await until(lambda: "nobody answers" in str(record._telemetry.ready.missing), "it is said")
    store.away = False
    assert await until(lambda: stored(store)) == RECORD
    assert record._telemetry.ready.missing == {}


@contextlib.asynccontextmanager
async def losing(ttl_s=60):
    """A record whose store can lose commits, with a lease that outlives the test."""
    store = LateStore()
    record = ProxyRecord(store, NODE, ttl_s, Telemetry("confgen", time.time))
    task = asyncio.create_task(record.run())
    try:
        yield store, record, task
    finally:
        task.cancel()
        await asyncio.wait({task})
        await store.close()


async def put_late(store, record):
    """The first put gets lost, and the next one stands."""
    store.losing = True
    record.set(RECORD)
    await until(lambda: store.lost, "one got lost")
    store.losing = False
    newer = msgspec.structs.replace(RECORD, generation="bb")
    record.set(newer)
    assert await until(lambda: stored(store)) == newer
    await until(lambda: not record._given_up, "leases of before are ended")
    return newer


async def test_a_record_that_comes_late_does_not_take_the_place_of_a_newer_one():
    """It hangs on a lease that nobody renews: the newer one would go with it, and the names of what is served."""
    async with losing() as (store, record, _):
        newer = await put_late(store, record)
        assert not any(await store.deliver())
        assert await stored(store) == newer


async def test_a_record_that_comes_late_brings_nothing_back_that_was_withdrawn():
    async with losing() as (store, record, _):
        await put_late(store, record)
        record.set(None)
        await until(lambda: gone(store), "the record is gone")
        assert not any(await store.deliver())
        assert await gone(store)


async def test_a_record_that_comes_after_our_end_is_none():
    async with losing() as (store, record, task):
        await put_late(store, record)
        task.cancel()
        await asyncio.wait({task})
        await record.withdraw()
        assert await gone(store)
        assert not any(await store.deliver())
        assert await gone(store)


async def test_what_is_set_while_leases_of_before_are_ended_is_written_at_once():
    """That may take seconds, behind a cut that has just healed."""
    async with losing(ttl_s=3600) as (store, record, _):
        revoke, revoked = store.revoke, []

        async def revoking(lease):
            revoked.append(lease)
            record.set(None)
            await revoke(lease)

        store.revoke = revoking
        store.losing = True
        record.set(RECORD)
        await until(lambda: store.lost, "one got lost")
        store.losing = False
        await until(lambda: revoked, "its lease is ended")
        await until(lambda: gone(store), "the record is gone")


async def test_a_withdrawal_that_got_lost_is_made_again():
    """The record hangs on the lease of before, which nobody has to wait for."""
    async with losing() as (store, record, _):
        record.set(RECORD)
        assert await until(lambda: stored(store)) == RECORD
        store.losing = True
        record.set(None)
        await until(lambda: store.lost, "it got lost")
        store.losing = False
        await until(lambda: gone(store), "the record is gone")


async def test_what_a_process_before_left_stays_until_this_one_serves(kept):
    """The nginx of before serves on while we begin."""
    store, record = kept
    before = msgspec.structs.replace(RECORD, generation="before")
    await store.commit([], [Put(keys.proxy_key(NODE), encode(before))])
    record.set(None)  # it does not serve yet
    await until(lambda: store.renewals, "it has looked, and waits")
    assert await stored(store) == before
    record.set(RECORD)
    await until(lambda: is_generation(store, RECORD.generation), "it serves")


async def is_generation(store, generation):
    found = await stored(store)
    return found is not None and found.generation == generation


async def test_a_serving_proxy_registers_itself_and_its_own_record_does_not_wake_it_for_ever(one_nginx, folder):
    store = CountingStore(quiet_s=1.0)
    async with Backend("one") as one, Running(folder, one_nginx, store=store, proxy_ttl_s=3) as running:
        await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", f"web.{DOMAIN}"))
        await until(lambda: is_at(store, running.state["revision"]), "registered with the applied revision")
        record = await stored(store)
        assert (record.addresses, record.http_port) == (("10.0.0.1",), running.port)
        assert record.generation == running.state["generation"]
        commits, renewed = store.commits, (await store.read(keys.PROXIES)).entries[0].mod_revision
        await asyncio.sleep(2.5)  # more than one update interval, and two renewals: nothing may be written
        assert (await store.read(keys.PROXIES)).entries[0].mod_revision == renewed
        assert store.commits == commits
    assert await gone(store)  # nginx was ended with us
    await store.close()


async def test_a_proxy_whose_nginx_is_gone_withdraws(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", f"web.{DOMAIN}"))
        await until(lambda: stored(running.store))
        program = running.service._nginx
        program._program = "/nonexistent/nginx"  # it cannot be started again
        kill_nginx(folder)
        await until(lambda: gone(running.store), "withdrawn", seconds=5)
        assert "nginx" in running.telemetry.ready.missing
        program._program = str(one_nginx)
        await until(lambda: stored(running.store), "registered again")
        await until(lambda: running.telemetry.ready.missing == {}, "ready again")


async def test_a_frozen_nginx_counts_as_gone_until_it_answers(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", f"web.{DOMAIN}"))
        await until(lambda: stored(running.store))
        frozen = [running.pid, *await all_workers(running)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: gone(running.store), "withdrawn", seconds=10)
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: stored(running.store), "registered again")


async def test_the_host_record_gives_the_addresses_when_no_flag_does(one_nginx, folder):
    async with Running(folder, one_nginx, ip=()) as running:
        node = Node(node=NODE, addresses=("10.9.9.9",), boot="b", engine="e", instance="i", version="1")
        await running.settle(put(node), put(container("web", endpoint("web"))), claim("web", f"web.{DOMAIN}"))
        record = await until(lambda: stored(running.store))
        assert record.addresses == ("10.9.9.9",)
