"""What every Store keeps to, on every implementation: embedded in memory and in a file, and a real etcd.

To add an implementation, write an async context manager that yields a `Place` and name it in FACTORIES.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from pilotfish.catalog.commit import MAX_COMMIT_BYTES
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.io_feed import FeedServer, FeedStore
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.store import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Absent,
    BadRequest,
    Change,
    CreatedAt,
    Delete,
    DeletePrefix,
    LeaseGone,
    ModifiedAt,
    Put,
    Quiet,
    StartOver,
    Store,
    StoreUnavailable,
    ValueIs,
)
from pilotfish.catalog.telemetry import Telemetry
from tests.parts.etcd_server import EtcdCluster

QUIET_S = 1.0  # asked of every implementation, so that a sign of life is awaited for seconds, not for ten
WAIT_S = 20.0  # for something that must come


class Place(msgspec.Struct):
    """A store, and how to make it forget its history up to now (compaction)."""

    store: Store
    forget: Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One real server for all tests of this module; it starts when the first one asks."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@asynccontextmanager
async def embedded(path: Path | None) -> AsyncIterator[Place]:
    history = 512
    store = EmbeddedStore(path, quiet_s=QUIET_S, history_changes=history)

    async def forget() -> None:
        for number in range(history + 1):
            await store.commit([], [Put("/elsewhere", b"%d" % number)])

    yield Place(store, forget)
    await store.close()


@asynccontextmanager
async def in_memory(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with embedded(None) as place:
        yield place


@asynccontextmanager
async def in_a_file(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with embedded(request.getfixturevalue("tmp_path") / "store.db") as place:
        yield place


@asynccontextmanager
async def on_etcd(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server: EtcdCluster = request.getfixturevalue("etcd")
    server.members[0].ctl("del", "", "--prefix")
    store = EtcdStore(EtcdSettings(endpoints=server.urls, watch_stall_s=3 * QUIET_S))

    async def forget() -> None:
        done = await store.commit([], [Put("/elsewhere", b"")])
        server.members[0].ctl("compact", str(done.revision))

    yield Place(store, forget)
    await store.close()


@asynccontextmanager
async def behind_a_feed(request: pytest.FixtureRequest, *, mirrored: bool) -> AsyncIterator[Place]:
    """An embedded store in one process, as another process sees it: passed through, or out of a mirror."""
    async with embedded(None) as behind:
        path = request.getfixturevalue("tmp_path") / "run" / "feed.sock"
        mirrors: dict[str, Follower] = {}
        server = FeedServer(behind.store, path, mirrors, beat_s=0.1, max_changes=512)
        follower = Follower(behind.store, "/", partial(server.publish, "/"), Telemetry("up", time.time))
        following = asyncio.create_task(follower.run())
        if mirrored:
            mirrors["/"] = follower
            await until(lambda: asyncio.sleep(0, follower.connected))
        await server.start()
        store = FeedStore(path)
        try:
            yield Place(store, behind.forget)
        finally:
            await store.close()
            await server.close()
            following.cancel()
            await asyncio.wait({following})


@asynccontextmanager
async def fed(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with behind_a_feed(request, mirrored=False) as place:
        yield place


@asynccontextmanager
async def fed_from_a_mirror(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with behind_a_feed(request, mirrored=True) as place:
        yield place


Factory = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Place]]
FACTORIES: dict[str, Factory] = {
    "embedded-memory": in_memory,
    "embedded-file": in_a_file,
    "etcd": on_etcd,
    "feed": fed,
    "feed-mirrored": fed_from_a_mirror,
}


@pytest.fixture(params=FACTORIES.values(), ids=FACTORIES.keys())
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with request.param(request) as place:
        yield place


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


async def changes(store: Store, prefix: str, revision: int, number: int) -> list[Change]:
    """The next `number` changes of a watch."""
    found: list[Change] = []
    async with asyncio.timeout(WAIT_S), aclosing(store.watch(prefix, revision)) as watch:
        async for item in watch:
            found += [item] if isinstance(item, Change) else []
            if len(found) == number:
                break
    return found


async def keys(store: Store, prefix: str = "/") -> list[str]:
    return [entry.key for entry in (await store.read(prefix)).entries]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():
            await asyncio.sleep(0.05)


# --- reading and committing


async def test_an_empty_store_has_a_revision_and_a_cluster(store):
    """A new store reads as empty, at revision 1 or later, in a cluster with a name."""
    reading = await store.read("/")

    assert reading.entries == ()
    assert reading.revision >= 1
    assert reading.cluster


async def test_what_was_put_is_read(store):
    """An entry comes back with its value and the revisions of its life."""
    first = await store.commit([], [Put("/a/1", b"one")])
    second = await store.commit([], [Put("/a/1", b"two")])
    reading = await store.read("/a/")

    assert first.succeeded
    assert second.revision == first.revision + 1
    assert [(e.key, e.value, e.create_revision, e.mod_revision, e.lease) for e in reading.entries] == [
        ("/a/1", b"two", first.revision, second.revision, 0)
    ]
    assert reading.revision == second.revision


async def test_a_key_put_again_after_its_deletion_is_a_new_one(store):
    """Create revisions tell a key that stayed from one that went and came."""
    await store.commit([], [Put("/a", b"")])
    await store.commit([], [Delete("/a")])
    again = await store.commit([], [Put("/a", b"")])

    assert [(e.create_revision, e.mod_revision) for e in (await store.read("/a")).entries] == [
        (again.revision, again.revision)
    ]


async def test_reading_several_prefixes_gives_each_key_once_sorted(store):
    """Overlapping prefixes are one reading, sorted by key, without what is beside them."""
    await store.commit([], [Put(key, b"") for key in ("/b/2", "/a/1", "/b/1", "/bb", "/c", "/a/ä", "/a/\U0001f41f")])

    reading = await store.read("/b/", "/a/", "/b/1")

    assert [e.key for e in reading.entries] == ["/a/1", "/a/ä", "/a/\U0001f41f", "/b/1", "/b/2"]


async def test_a_reading_is_of_one_revision(store):
    """Keys that are always written together are never read apart, however many pages and prefixes a read has."""
    names = [f"/{part}/{number}" for part in ("a", "b") for number in range(60)]
    writing = True

    async def write() -> None:
        number = 0
        while writing:
            number += 1
            await store.commit([], [Put(name, b"%d" % number) for name in names])

    await store.commit([], [Put(name, b"0") for name in names])
    writer = asyncio.create_task(write())
    readings = [await store.read("/a/", "/b/") for _ in range(30)]
    writing = False
    await writer

    assert [len(reading.entries) for reading in readings] == [len(names)] * 30
    assert [len({e.value for e in reading.entries}) for reading in readings] == [1] * 30
    assert len({reading.revision for reading in readings}) > 1


async def test_a_survey_counts_and_lists_without_values(store):
    """The count alone, or every key under the prefix with the revision of its last put."""
    await store.commit([], [Put("/p/a", b"1"), Put("/p/b", b"2"), Put("/q", b"3")])
    later = await store.commit([], [Put("/p/b", b"4")])
    read = await store.read("/p/")
    counted = await store.survey("/p/", keys=False)
    listed = await store.survey("/p/", keys=True)

    assert (counted.count, counted.keys, counted.cluster) == (2, {}, read.cluster)
    assert (listed.count, listed.revision) == (2, later.revision)
    assert listed.keys == {entry.key: entry.mod_revision for entry in read.entries}
    assert (await store.survey("/nothing/", keys=True)).keys == {}


async def test_a_value_may_be_any_octets(store):
    """Values are bytes, also empty ones, up to the limit."""
    values = {"/empty": b"", "/all": bytes(range(256)), "/large": b"x" * MAX_VALUE_BYTES}
    await store.commit([], [Put(key, value) for key, value in values.items()])

    assert {e.key: e.value for e in (await store.read("/")).entries} == values


async def test_a_commit_without_effect_makes_no_revision(store):
    """Deleting what is absent succeeds and changes nothing, not even the revision."""
    before = await store.read("/")
    done = await store.commit([], [Delete("/none"), DeletePrefix("/nothing/")])

    assert (done.succeeded, done.revision) == (True, before.revision)


async def test_a_prefix_is_deleted_whole_and_alone(store):
    """DeletePrefix takes every key that starts with it and none beside it."""
    await store.commit([], [Put(key, b"") for key in ("/a/1", "/a/2/3", "/ab", "/a", "/b")])
    await store.commit([], [DeletePrefix("/a/")])

    assert await keys(store) == ["/a", "/ab", "/b"]


CONDITIONS = {
    "absent, and it is": (lambda there: Absent("/none"), True),
    "absent, but it is there": (lambda there: Absent("/there"), False),
    "created then": (lambda there: CreatedAt("/there", there[0]), True),
    "created at another time": (lambda there: CreatedAt("/there", there[1]), False),
    "created, but absent": (lambda there: CreatedAt("/none", there[0]), False),
    "modified then": (lambda there: ModifiedAt("/there", there[1]), True),
    "modified since": (lambda there: ModifiedAt("/there", there[0]), False),
    "modified, but absent": (lambda there: ModifiedAt("/none", there[1]), False),
    "the value is": (lambda there: ValueIs("/there", b"2"), True),
    "the value was": (lambda there: ValueIs("/there", b"1"), False),
    "the value starts so": (lambda there: ValueIs("/there", b""), False),
    "no value, but absent": (lambda there: ValueIs("/none", b""), False),
}


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS.values(), ids=CONDITIONS.keys())
async def test_a_condition_decides_over_the_whole_commit(store, condition, holds):
    """A condition that does not hold leaves everything as it was; the outcome says which."""
    created = await store.commit([], [Put("/there", b"1")])
    changed = await store.commit([], [Put("/there", b"2")])
    asked = condition((created.revision, changed.revision))
    done = await store.commit([Absent("/other"), asked], [Put("/new", b""), Delete("/there")])

    assert done.succeeded == holds
    assert done.revision == changed.revision + (1 if holds else 0)
    assert await keys(store) == (["/new"] if holds else ["/there"])


async def test_a_fence_lets_one_of_many_through(store):
    """Of commits that race on one condition, exactly one succeeds."""
    done = await asyncio.gather(*(store.commit([Absent("/claim")], [Put("/claim", b"%d" % n)]) for n in range(20)))
    [claim] = (await store.read("/claim")).entries

    assert [outcome.succeeded for outcome in done].count(True) == 1
    assert claim.value == b"%d" % [outcome.succeeded for outcome in done].index(True)


async def test_concurrent_commits_all_count(store):
    """Nothing is lost among commits in flight together, and each has a revision of its own."""
    done = await asyncio.gather(*(store.commit([], [Put(f"/n/{n:03}", b"")]) for n in range(100)))

    assert len({outcome.revision for outcome in done}) == 100
    assert await keys(store, "/n/") == [f"/n/{n:03}" for n in range(100)]


MANY = [Put(f"/{number}", b"") for number in range(MAX_OPERATIONS + 1)]
REFUSED = {
    "121 operations": ([], MANY, "121 operations"),
    "121 conditions": ([Absent(put.key) for put in MANY], [], "121 conditions"),
    "a key put twice": ([], [Put("/twice", b"1"), Put("/twice", b"2")], "'/twice' is there twice"),
    "put and deleted": ([], [Put("/a/1", b""), DeletePrefix("/a/")], "'/a/1' is put and deleted"),
    "a value too large": ([], [Put("/big", b"x" * (MAX_VALUE_BYTES + 1))], f"'/big' has {MAX_VALUE_BYTES + 1} octets"),
    "too much together": ([], [Put(f"/{n}", b"x" * MAX_VALUE_BYTES) for n in range(6)], str(MAX_COMMIT_BYTES)),
    "an empty key": ([], [Put("", b"")], "empty key"),
    "a key too long": ([], [Put("/" * 5000, b"")], "5000 octets"),
    "a key that is no text": ([], [Put("/\ud800", b"")], "UTF-8"),
    "revision 0": ([CreatedAt("/a", 0)], [], "revision 0"),
}


@pytest.mark.parametrize(("conditions", "operations", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_no_store_takes_is_refused_by_name(store, conditions, operations, words):
    """The caller's mistakes are BadRequest, never to be tried again, with the key or the number; nothing changes."""
    before = await store.read("/")
    with pytest.raises(BadRequest, match=words) as caught:
        await store.commit(conditions, operations)

    assert not caught.value.retry
    assert await store.read("/") == before


async def test_120_operations_are_taken(store):
    """As many operations as the limit says are one commit, with as many conditions."""
    most = MANY[:MAX_OPERATIONS]
    done = await store.commit([Absent(put.key) for put in most], most)

    assert done.succeeded
    assert len(await keys(store)) == MAX_OPERATIONS


# --- watching


async def test_a_watch_begins_with_a_sign_that_it_stands(store):
    """The first thing of a watch is a Quiet at the revision it starts from."""
    start = await store.read("/")
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/", start.revision)) as watch:
        assert await anext(watch) == Quiet(start.revision)


async def test_a_watch_is_quiet_aloud(store):
    """While nothing changes under the prefix, signs of life come, also while other things change."""
    start = await store.read("/")
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/a/", start.revision)) as watch:
        first, second = await anext(watch), await anext(watch)
        done = await store.commit([], [Put("/b/1", b"")])
        third = await anext(watch)

    assert {type(first), type(second), type(third)} == {Quiet}
    assert third.revision in {0, start.revision, done.revision}


async def test_a_watch_tells_transactions_whole_and_in_order(store):
    """Each commit is one Change with all its keys under the prefix, sorted; what is beside the prefix is left out."""
    start = await store.read("/")
    first = await store.commit([], [Put("/w/2", b"2"), Put("/w/1", b"1"), Put("/x", b"")])
    await store.commit([], [Put("/x", b"beside")])
    second = await store.commit([], [Put("/w/3", b"3"), Delete("/w/2"), Delete("/w/1")])

    found = await changes(store, "/w/", start.revision, 2)

    assert [change.revision for change in found] == [first.revision, second.revision]
    assert [[(e.key, e.value) for e in change.puts] for change in found] == [
        [("/w/1", b"1"), ("/w/2", b"2")],
        [("/w/3", b"3")],
    ]
    assert [change.deletes for change in found] == [(), ("/w/1", "/w/2")]
    assert list(found[1].puts) == [e for e in (await store.read("/w/")).entries if e.key == "/w/3"]


async def test_a_watch_from_the_middle_tells_only_what_came_after(store):
    """Watching again from the last revision applied gives each change exactly once."""
    start = await store.read("/")
    done = [await store.commit([], [Put("/w", b"%d" % number)]) for number in range(6)]
    early = await changes(store, "/w", start.revision, 3)
    late = await changes(store, "/w", early[-1].revision, 3)

    assert [change.revision for change in early + late] == [outcome.revision for outcome in done]


async def test_a_watch_follows_while_things_change(store):
    """Changes made during the watch arrive, all of them, in order, and make up what a read then says."""
    start = await store.read("/")
    watching = asyncio.create_task(changes(store, "/n/", start.revision, 200))
    await asyncio.gather(*(store.commit([], [Put(f"/n/{n % 7}", b"%d" % n)]) for n in range(200)))
    found = await watching
    held = {entry.key: entry for change in found for entry in change.puts}

    assert [c.revision for c in found] == sorted({c.revision for c in found})
    assert tuple(held[key] for key in sorted(held)) == (await store.read("/n/")).entries


async def test_a_commit_that_changes_nothing_is_no_change(store):
    """A failed condition and a deletion of nothing are not told."""
    start = await store.read("/")
    await store.commit([Absent("/w"), ValueIs("/none", b"x")], [Put("/w", b"no")])
    await store.commit([], [Delete("/w")])
    done = await store.commit([], [Put("/w", b"yes")])

    assert [change.revision for change in await changes(store, "/w", start.revision, 1)] == [done.revision]


async def test_many_watches_see_the_same(store):
    """Every watch of a prefix tells the same changes."""
    start = await store.read("/")
    watching = [asyncio.create_task(changes(store, "/m/", start.revision, 20)) for _ in range(5)]
    for number in range(20):
        await store.commit([], [Put(f"/m/{number}", b"")])
    first, *others = await asyncio.gather(*watching)

    assert others == [first] * 4


async def test_a_large_transaction_arrives_whole(store):
    """A commit of 1.2 MB is one Change, however the store sends it."""
    start = await store.read("/")
    await store.commit([], [Put(f"/l/{n:03}", b"x" * 10_000) for n in range(MAX_OPERATIONS)])
    [change] = await changes(store, "/l/", start.revision, 1)

    assert len(change.puts) == MAX_OPERATIONS


async def test_a_forgotten_past_means_start_over(place):
    """A watch from before the compaction ends with StartOver; from a new read on it works."""
    start = await place.store.read("/")
    await place.store.commit([], [Put("/w", b"1")])
    await place.forget()
    with pytest.raises(StartOver):
        await changes(place.store, "/w", start.revision, 1)
    anew = await place.store.read("/")
    done = await place.store.commit([], [Put("/w", b"2")])

    assert [change.revision for change in await changes(place.store, "/w", anew.revision, 1)] == [done.revision]


async def test_a_revision_that_the_store_has_not_reached_means_start_over(store):
    """Whoever knows a later revision than the store has knew another store."""
    start = await store.read("/")
    with pytest.raises(StartOver):
        await changes(store, "/", start.revision + 1000, 1)


# --- leases


async def test_keys_under_a_lease_go_together_when_it_ends(store):
    """A lease that is not renewed ends, all its keys in one revision; keys of others stay."""
    lease = await store.grant(1)
    start = await store.commit([], [Put("/l/1", b"", lease.id), Put("/l/2", b"", lease.id), Put("/l/3", b"")])
    [gone] = await changes(store, "/l/", start.revision, 1)

    assert gone.deletes == ("/l/1", "/l/2")
    assert await keys(store, "/l/") == ["/l/3"]
    assert lease.ttl_s >= 1


async def test_a_key_tells_its_lease(store):
    """Entries name their lease, in a read and in a watch; a put without one takes the key off it."""
    lease = await store.grant(30)
    start = await store.commit([], [Put("/l", b"", lease.id)])
    await store.commit([], [Put("/l", b"")])
    found = await changes(store, "/l", start.revision - 1, 2)
    await store.revoke(lease.id)

    assert [[e.lease for e in change.puts] for change in found] == [[lease.id], [0]]
    assert [e.lease for e in (await store.read("/l")).entries] == [0]


async def test_a_renewed_lease_lives(store):
    """Renewals carry a lease beyond its time, and write nothing."""
    lease = await store.grant(2)
    done = await store.commit([], [Put("/l", b"", lease.id)])
    for _ in range(8):
        await asyncio.sleep(lease.ttl_s / 4)
        assert await store.keep_alive(lease.id) == lease.ttl_s
    reading = await store.read("/l")

    assert (reading.revision, [e.lease for e in reading.entries]) == (done.revision, [lease.id])


async def test_a_dead_lease_is_told(store):
    """Renewing, or writing under, a lease that has ended is LeaseGone, and changes nothing; revoking it is nothing."""
    lease = await store.grant(30)
    await store.commit([], [Put("/l", b"", lease.id)])
    await store.revoke(lease.id)
    assert await keys(store) == []
    with pytest.raises(LeaseGone):
        await store.keep_alive(lease.id)
    with pytest.raises(LeaseGone):
        await store.commit([], [Put("/other", b""), Put("/l", b"", lease.id)])
    await store.revoke(lease.id)

    assert await keys(store) == []


async def test_leases_are_independent(store):
    """Ending one lease leaves the keys of another."""
    one, two = await store.grant(30), await store.grant(30)
    await store.commit([], [Put("/1", b"", one.id), Put("/2", b"", two.id)])
    await store.revoke(one.id)

    assert one.id != two.id
    assert await keys(store) == ["/2"]


# --- ending


async def test_closing_ends_watches_and_refuses_calls(store):
    """After close, a watch in progress and any new call end with StoreUnavailable; closing twice is nothing."""
    start = await store.read("/")
    watching = asyncio.create_task(changes(store, "/", start.revision, 1))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await watching
    with pytest.raises(StoreUnavailable):
        await store.read("/")
    await store.close()


async def test_a_watch_that_is_left_leaves_nothing_behind(store):
    """A task that stops watching, by breaking off or by being cancelled, leaves no task running."""
    start = await store.read("/")
    before = len(asyncio.all_tasks())
    async with asyncio.timeout(WAIT_S), aclosing(store.watch("/", start.revision)) as watch:
        await anext(watch)
    watching = asyncio.create_task(changes(store, "/", start.revision, 1))
    await asyncio.wait({watching}, timeout=0.2)
    watching.cancel()
    await asyncio.wait({watching})

    async def quiet() -> bool:
        return len(asyncio.all_tasks()) <= before

    await until(quiet)
