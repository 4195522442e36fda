"""The etcd store against an etcd that lies: what is noticed, what is borne, and that each lie was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import (
    Absent,
    AccessRefused,
    Change,
    LeaseGone,
    Put,
    Quiet,
    StartOver,
    StoreUnavailable,
)
from tests.parts.lying_etcd import LyingEtcd

WAIT_S = 20.0
STALL_S = 1.2


@pytest.fixture
async def server() -> AsyncIterator[LyingEtcd]:
    async with LyingEtcd() as server:
        yield server


@pytest.fixture
async def store(server: LyingEtcd) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(endpoints=(server.url,), watch_stall_s=STALL_S, call_timeout_s=2))
    yield store
    await store.close()


async def seen(store: EtcdStore, revision: int, number: int) -> list[Change]:
    """The next `number` changes under /w/."""
    found: list[Change] = []
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/w/", revision)) as watch:
        async for item in watch:
            found += [item] if isinstance(item, Change) else []
            if len(found) == number:
                break
    return found


async def not_quiet(watch: AsyncIterator[Change | Quiet]) -> Change:
    """The next change; signs of life are skipped."""
    while isinstance(item := await anext(watch), Quiet):
        pass
    return item


async def test_without_lies_it_is_an_etcd(server, store):
    """Reads, commits, leases and watches work, so that what the other tests see is the lie."""
    start = await store.read("/")
    lease = await store.grant(5)
    done = await store.commit([Absent("/w/1")], [Put("/w/1", b"1", lease.id), Put("/w/2", b"2")])
    [change] = await seen(store, start.revision, 1)
    renewed = await store.keep_alive(lease.id)
    await store.revoke(lease.id)

    assert done.succeeded
    assert [entry.key for entry in change.puts] == ["/w/1", "/w/2"]
    assert renewed == lease.ttl_s
    assert [entry.key for entry in (await store.read("/")).entries] == ["/w/2"]
    assert not server.told.total()


async def test_a_commit_whose_reply_is_lost_is_unavailable_and_may_have_happened(server, store):
    """The error leaves it open; a fenced repetition neither doubles nor removes anything, and tells it was done."""
    server.lies.lose_replies = 1
    with pytest.raises(StoreUnavailable):
        await store.commit([Absent("/a")], [Put("/a", b"mine")])
    again = await store.commit([Absent("/a")], [Put("/a", b"mine")])
    [entry] = (await store.read("/a")).entries

    assert server.told["lose_replies"] == 1
    assert not again.succeeded
    assert (entry.value, entry.create_revision) == (b"mine", entry.mod_revision)


async def test_a_commit_is_sent_once(server, store):
    """The client repeats no write by itself: three lost replies are three errors and three commits."""
    server.lies.lose_replies = 3
    for number in range(3):
        with pytest.raises(StoreUnavailable):
            await store.commit([], [Put("/a", b"%d" % number)])

    assert server.told["lose_replies"] == 3
    assert (await store.read("/a")).revision == 1 + 3


async def test_a_change_told_twice_is_told_once(server, store):
    """A late or doubled response adds nothing."""
    start = await store.read("/")
    server.lies.repeat_events = 1
    done = [await store.commit([], [Put(f"/w/{number}", b"")]) for number in range(3)]
    found = await seen(store, start.revision, 3)

    assert server.told["repeat_events"] == 1
    assert [change.revision for change in found] == [outcome.revision for outcome in done]


async def test_a_lost_change_is_beyond_a_watch(server, store):
    """The one lie that a watch cannot see: later changes come, the lost one does not; only a comparison finds it."""
    start = await store.read("/")
    server.lies.lose_events = 1
    done = [await store.commit([], [Put(f"/w/{number}", b"")]) for number in range(3)]
    found = await seen(store, start.revision, 2)

    assert server.told["lose_events"] == 1
    assert [change.revision for change in found] == [done[1].revision, done[2].revision]


async def test_a_watch_that_falls_silent_is_given_up(server, store):
    """Created, then nothing, not even an answer to a question: StoreUnavailable, so that the caller comes again."""
    start = await store.read("/")
    server.lies.silent_watches = True
    with pytest.raises(StoreUnavailable, match=r"'/w/'.*silent for 1\.2 s"):
        await seen(store, start.revision, 1)
    assert server.told["silent_watches"]

    server.lies.silent_watches = False
    done = await store.commit([], [Put("/w/1", b"")])
    assert [change.revision for change in await seen(store, start.revision, 1)] == [done.revision]


async def test_fragments_become_whole_transactions(server, store):
    """Ten keys of one commit, sent two at a time, are one change."""
    start = await store.read("/")
    server.lies.fragment_events = 2
    await store.commit([], [Put(f"/w/{number}", b"") for number in range(10)])
    [change] = await seen(store, start.revision, 1)

    assert server.told["fragment_events"] == 4
    assert len(change.puts) == 10


async def test_a_refused_watch_is_told_by_user_and_prefix(server, store):
    """Created and canceled in one message, on a stream that stays open, is AccessRefused at once."""
    server.lies.refuse_watches = 1
    with pytest.raises(AccessRefused, match="watch of '/w/', without a user: etcdserver: permission denied"):
        await seen(store, 1, 1)
    assert server.told["refuse_watches"] == 1


async def test_a_compacted_watch_starts_over(server, store):
    """compact_revision, with no reason given and the stream left open, is StartOver."""
    server.lies.compacted = 17
    with pytest.raises(StartOver, match="known are revisions from 17"):
        await seen(store, 1, 1)
    assert server.told["compacted"] == 1


async def test_a_revision_that_goes_back_during_a_watch_starts_over(server, store):
    """A server that says it is at an older revision than the last change it sent is not the one we followed."""
    start = await store.read("/")
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/w/", start.revision)) as watch:
        await anext(watch)
        await store.commit([], [Put("/w/1", b"")])
        await not_quiet(watch)
        server.lies.behind = 1
        with pytest.raises(StartOver, match="restored or wiped"):
            await not_quiet(watch)
    assert server.told["behind"]


async def test_a_member_that_lags_is_waited_for(server, store):
    """A member behind its cluster shows an old revision too; a read tells that nothing was lost."""
    for number in range(3):
        await store.commit([], [Put(f"/w/{number}", b"")])
    start = await store.read("/")
    server.lies.lagging = 2
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/w/", start.revision)) as watch:
        quiet = [await anext(watch) for _ in range(3)]
        server.lies.lagging = 0
        done = await store.commit([], [Put("/w/9", b"")])
        change = await not_quiet(watch)

    assert server.told["lagging"] >= 3
    assert quiet == [Quiet(start.revision), Quiet(0), Quiet(0)]
    assert change.revision == done.revision


async def test_a_revision_that_went_back_while_away_starts_over(server, store):
    """An etcd that was wiped has the same cluster id: the revision tells, when the watch is created."""
    for number in range(5):
        await store.commit([], [Put(f"/w/{number}", b"")])
    known = await store.read("/")
    await server.wipe()
    with pytest.raises(StartOver, match=f"at revision 1, before {known.revision}"):
        await seen(store, known.revision, 1)
    anew = await store.read("/")

    assert (anew.cluster, anew.revision, anew.entries) == (known.cluster, 1, ())


async def test_a_watch_breaks_when_the_server_is_wiped_under_it(server, store):
    """The stream ends with the old store; the next watch starts over."""
    done = await store.commit([], [Put("/w/1", b"")])
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/w/", done.revision)) as watch:
        await anext(watch)
        await server.wipe()
        with pytest.raises(StoreUnavailable):
            await not_quiet(watch)
    with pytest.raises(StartOver):
        await seen(store, done.revision, 1)


async def test_another_cluster_starts_over(server, store):
    """A watch answered by another cluster than the last read is StartOver; after a new read it is the one we know."""
    start = await store.read("/")
    server.lies.cluster_id = 0xC2
    with pytest.raises(StartOver, match="cluster c2 is not the one read before, c1"):
        await seen(store, start.revision, 1)
    anew = await store.read("/")
    done = await store.commit([], [Put("/w/1", b"")])

    assert (start.cluster, anew.cluster) == ("00000000000000c1", "00000000000000c2")
    assert [change.revision for change in await seen(store, anew.revision, 1)] == [done.revision]


async def test_a_renewal_answered_with_nothing_left_is_a_dead_lease(server, store):
    """TTL 0 is how etcd says that a lease has ended."""
    lease = await store.grant(60)
    server.lies.dead_leases = 1
    with pytest.raises(LeaseGone, match=f"{lease.id:x} has ended"):
        await store.keep_alive(lease.id)
    assert server.told["dead_leases"] == 1


PROGRESS = {"3.4.23": False, "3.4.25": True, "3.5.16": True, "3.6.0": True, "3.5.0-rc.1": False}


@pytest.mark.parametrize(("version", "believed"), PROGRESS.items())
async def test_a_progress_reply_moves_nothing_where_it_may_overtake_events(server, store, version, believed):
    """Quiet names a revision only from the releases on that keep progress behind events; before, it says 0."""
    server.lies.version = version
    start = await store.read("/")
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/w/", start.revision)) as watch:
        first = await anext(watch)
        done = await store.commit([], [Put("/beside", b"")])
        found = await anext(watch)

    assert first == Quiet(start.revision)
    assert found == Quiet(done.revision if believed else 0)
