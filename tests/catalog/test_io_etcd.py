"""The etcd store on real servers that freeze, die, lose their leader or come back as others.

What takes 10 s by default takes two here (timers are settings); tests marked soak keep the defaults.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from pilotfish.catalog.io_etcd import EtcdStore
from pilotfish.catalog.store import (
    Absent,
    Change,
    Put,
    StartOver,
    StoreUnavailable,
)
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import WAIT_S, connected, keep_trying, next_change
from tests.parts.ports import free_port


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One server for the tests that leave it as it was."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def clean(shared: EtcdCluster) -> EtcdCluster:
    """The shared server, emptied."""
    shared.members[0].ctl("del", "", "--prefix")
    return shared


# --- silence and loss of the leader


async def test_a_frozen_server_is_noticed(tmp_path):
    """A server that stops without closing a connection ends watch and calls; when it goes on, so do we."""
    with EtcdCluster(tmp_path) as cluster:
        async with connected(cluster.urls) as store:
            start = await store.read("/")
            async with aclosing(store.watch("/", start.revision)) as watch:
                await anext(watch)
                cluster.members[0].pause()
                async with asyncio.timeout(15):
                    with pytest.raises(StoreUnavailable, match="silent for 2 s"):
                        await next_change(watch)
            with pytest.raises(StoreUnavailable, match=cluster.urls[0]):
                await store.commit([], [Put("/a", b"")])
            cluster.members[0].resume()
            await keep_trying(lambda: store.read("/"))


@pytest.mark.soak
async def test_a_frozen_server_is_noticed_with_the_default_timers(tmp_path):
    """With the settings that users have, a watch on a frozen server ends within 15 s."""
    with EtcdCluster(tmp_path) as cluster:
        async with connected(cluster.urls, watch_stall_s=10.0, call_timeout_s=5.0) as store:
            async with aclosing(store.watch("/", 0)) as watch:
                await anext(watch)
                cluster.members[0].pause()
                async with asyncio.timeout(15):
                    with pytest.raises(StoreUnavailable):
                        await next_change(watch)
            cluster.members[0].resume()


@pytest.mark.soak
async def test_a_frozen_server_is_noticed_by_the_connection_itself(tmp_path):
    """Also where nobody asks for progress: pings of the connection end a watch within 20 s."""
    with EtcdCluster(tmp_path) as cluster:
        async with connected(cluster.urls, watch_stall_s=100.0) as store, aclosing(store.watch("/", 0)) as watch:
            await anext(watch)
            cluster.members[0].pause()
            async with asyncio.timeout(20):
                with pytest.raises(StoreUnavailable, match="ping timeout"):
                    await next_change(watch)
            cluster.members[0].resume()


async def test_a_watch_on_a_member_without_leader_ends(tmp_path):
    """With two of three members gone the third one still answers connections; its watch must not sit silent."""
    with EtcdCluster(tmp_path, members=3) as cluster:
        one, *others = cluster.members
        async with connected((one.url,), watch_stall_s=60.0) as store:
            start = await store.read("/")
            async with aclosing(store.watch("/", start.revision)) as watch:
                await anext(watch)
                for member in others:
                    member.kill()
                with pytest.raises(StoreUnavailable, match="no leader"):
                    await next_change(watch)
            with pytest.raises(StoreUnavailable, match="no leader"):
                await store.read("/")
            for member in others:
                member.start()
            await keep_trying(lambda: store.commit([], [Put("/a", b"")]))


class Follower:
    """A reader that watches again from where it was, as the mirror does."""

    def __init__(self, store: EtcdStore, revision: int) -> None:
        self.store = store
        self.revision = revision
        self.changes: list[Change] = []
        self.breaks = 0
        self.grown = asyncio.Event()

    async def follow(self) -> None:
        while True:
            try:
                async with aclosing(self.store.watch("/", self.revision)) as watch:
                    async for item in watch:
                        if isinstance(item, Change):
                            self.revision = item.revision
                            self.changes.append(item)
                            self.grown.set()
            except StoreUnavailable:
                self.breaks += 1
                await asyncio.sleep(0.05 + 0.1 * random.random())


async def test_the_loss_of_the_leader_loses_nothing(tmp_path):
    """B1: the leader is killed under writes; the watch tells new ones within 5 s, every acknowledged put once."""
    with EtcdCluster(tmp_path, members=3) as cluster:
        async with connected(cluster.urls) as writer, connected(cluster.urls[::-1]) as reader:
            start = await writer.read("/")
            follower = Follower(reader, start.revision)
            following = asyncio.create_task(follower.follow())
            acknowledged: list[str] = []

            async def write(number: int) -> None:
                key = f"/{number:04}"
                await keep_trying(lambda: writer.commit([Absent(key)], [Put(key, b"")]))
                acknowledged.append(key)

            for number in range(50):
                await write(number)
            leader, term = cluster.leader(), cluster.members[0].status()["raftTerm"]
            leader.kill()
            await write(50)
            async with asyncio.timeout(5):
                while "/0050" not in {entry.key for change in follower.changes for entry in change.puts}:
                    follower.grown.clear()
                    await follower.grown.wait()
            for number in range(51, 100):
                await write(number)
            final = await reader.read("/")
            async with asyncio.timeout(WAIT_S):
                while follower.revision < final.revision:
                    follower.grown.clear()
                    await follower.grown.wait()
            following.cancel()
            await asyncio.wait({following})

        alive = next(member for member in cluster.members if member is not leader)
        assert alive.status()["raftTerm"] > term  # the fault has bitten
        assert [entry.key for entry in final.entries] == acknowledged == [f"/{number:04}" for number in range(100)]
        assert [entry for change in follower.changes for entry in change.puts] == sorted(
            final.entries, key=lambda entry: entry.mod_revision
        )


async def test_a_dead_first_endpoint_is_passed_over(clean):
    """Reads, commits and watches work with the first of two addresses dead; nothing but the address is known to be."""
    async with connected((f"http://127.0.0.1:{free_port()}", *clean.urls)) as store:
        start = await store.read("/")
        done = await store.commit([], [Put("/a", b"")])
        async with aclosing(store.watch("/", start.revision)) as watch:
            assert (await next_change(watch)).revision == done.revision


async def test_an_endpoint_that_swallows_everything_is_passed_over(clean):
    """A first address that accepts connections and never answers costs a moment, not the call."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with connected((url, *clean.urls)) as store:
            assert (await store.read("/")).entries == ()


async def test_no_endpoint_at_all_names_each_of_them():
    """With nobody there, the message has every address and the reason of each."""
    urls = (f"http://127.0.0.1:{free_port()}", f"http://localhost:{free_port()}")
    async with connected(urls) as store:
        with pytest.raises(StoreUnavailable) as caught:
            await store.read("/pilotfish/v1")

    assert all(url in str(caught.value) for url in urls)
    assert "/pilotfish/v1" in str(caught.value)
    assert "refused" in str(caught.value).lower()


async def test_a_server_that_comes_back_is_found_again(tmp_path):
    """SIGKILL and restart of a single etcd: the same store goes on; leases have their full time again."""
    with EtcdCluster(tmp_path) as cluster:
        async with connected(cluster.urls) as store:
            lease = await store.grant(60)
            done = await store.commit([], [Put("/a", b"1", lease.id)])
            async with aclosing(store.watch("/", done.revision)) as watch:
                await anext(watch)
                cluster.members[0].kill()
                with pytest.raises(StoreUnavailable):
                    await next_change(watch)
            with pytest.raises(StoreUnavailable):
                await store.read("/")
            cluster.members[0].restart()
            await keep_trying(lambda: store.keep_alive(lease.id))
            async with aclosing(store.watch("/", done.revision)) as watch:
                await anext(watch)
                after = await store.commit([], [Put("/a", b"2")])
                assert (await next_change(watch)).revision == after.revision


def test_loops_that_follow_each_other_and_run_beside_each_other(clean):
    """A store may be made in any event loop: in successive ones, and in several threads at once."""
    found: list[int] = []

    async def use(number: int) -> None:
        async with connected(clean.urls) as store:
            found.append((await store.commit([], [Put(f"/loop/{number}", b"")])).revision)

    for number in range(2):
        asyncio.run(use(number))
    threads = [threading.Thread(target=asyncio.run, args=(use(number),)) for number in range(2, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=WAIT_S)

    assert len(set(found)) == 5


# --- another time, another cluster


@pytest.mark.parametrize("token", ["etcd-cluster", "another"], ids=["same id", "other id"])
async def test_a_wiped_cluster_starts_over(tmp_path, token):
    """B13: data gone, revision back at 1; with the same flags the cluster id is the same. Both mean StartOver."""
    with EtcdCluster(tmp_path) as cluster:
        [member] = cluster.members
        async with connected(cluster.urls) as store:
            for number in range(5):
                await store.commit([], [Put("/a", b"%d" % number)])
            known = await store.read("/")
            member.kill()
            member.wipe()
            member.options += ("--initial-cluster-token", token)
            member.restart()
            with pytest.raises(StartOver, match="restored or wiped" if token == "etcd-cluster" else "cluster"):
                await keep_trying(lambda: anext(store.watch("/", known.revision)))
            anew = await store.read("/")
            done = await store.commit([], [Put("/a", b"new")])
            async with aclosing(store.watch("/", anew.revision)) as watch:
                assert (await next_change(watch)).revision == done.revision

    assert (anew.cluster == known.cluster) == (token == "etcd-cluster")
    assert anew.revision < known.revision


async def test_a_restored_older_state_starts_over(tmp_path):
    """B13: the data folder of an hour ago put back: the revision is lower than what was seen."""
    with EtcdCluster(tmp_path) as cluster:
        [member] = cluster.members
        async with connected(cluster.urls) as store:
            await store.commit([], [Put("/a", b"old")])
            member.kill()
            shutil.copytree(member.data, tmp_path / "backup")
            member.restart()
            for _ in range(5):
                await keep_trying(lambda: store.commit([], [Put("/a", b"new")]))
            known = await store.read("/")
            member.kill()
            member.wipe()
            shutil.copytree(tmp_path / "backup", member.data)
            member.restart()
            with pytest.raises(StartOver, match="restored or wiped"):
                await keep_trying(lambda: anext(store.watch("/", known.revision)))
