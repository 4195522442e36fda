"""An etcd whose every answer takes long: it is reached all the same, and many keys cost no more than a few answers."""

from __future__ import annotations

import time

import pytest

from pilotfish.catalog.etcd.channel import CONNECT_S
from pilotfish.catalog.store import Put
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import connected, keep_trying
from tests.parts.toxic import ToxicProxy, latency

SLOW_MS = 200
KEYS = 100


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


async def test_a_connection_that_takes_longer_than_a_quick_one_may(etcd):
    """The first frame comes after a quick connection was given up: a patient one gets through, and is kept."""
    async with ToxicProxy(etcd.members[0].url.removeprefix("http://")) as proxy:
        toxic = proxy.add(latency(CONNECT_S * 1200))
        async with connected((f"http://{proxy.address}",), call_timeout_s=5.0) as store:
            await keep_trying(lambda: store.read("/none"))
            assert toxic.bitten > 1
            accepted = proxy.accepted
            assert accepted > 1  # quick ones were tried before
            await store.read("/none")
            assert proxy.accepted == accepted
            proxy.remove(toxic)
            proxy.reset_all()
            healed = time.monotonic()
            await keep_trying(lambda: store.read("/none"))
            assert time.monotonic() - healed < 5


async def test_many_keys_are_read_together(etcd):
    """A hundred keys of one revision, in the time of a few answers."""
    keys = [f"/many/{n:03}" for n in range(KEYS)]
    async with connected(etcd.urls) as quick:
        done = await quick.commit([], [Put(key, b"x") for key in keys])
    async with ToxicProxy(etcd.members[0].url.removeprefix("http://")) as proxy:
        toxic = proxy.add(latency(SLOW_MS))
        async with connected((f"http://{proxy.address}",), call_timeout_s=5.0) as store:
            await keep_trying(lambda: store.read("/none"))
            began = time.monotonic()
            reading = await store.read(*keys)
            took_s = time.monotonic() - began
            assert toxic.bitten
    assert [entry.key for entry in reading.entries] == keys
    assert {entry.mod_revision for entry in reading.entries} == {done.revision}
    assert took_s < KEYS * SLOW_MS / 1000 / 4
