"""The etcd store on a real server: pages, fragments, limits, leases, a full disk; and beside another client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from pilotfish.catalog.commit import prefix_range
from pilotfish.catalog.etcd.channel import Ring, Tls, parse_endpoint
from pilotfish.catalog.etcd.client import EtcdClient
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.messages import CLASSES, METHODS
from pilotfish.catalog.store import (
    BadRequest,
    Put,
    StoreFull,
)
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import WAIT_S, connected, keep_trying, next_change


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


# --- reading


async def test_a_read_of_many_pages_is_of_one_revision(clean):
    """B15: 20,000 keys in 20 pages, while every commit changes a key of the first and one of the last page."""
    count = 20_000
    async with connected(clean.urls, call_timeout_s=10.0) as store:
        for start in range(0, count, 120):
            numbers = range(start, min(start + 120, count))
            await store.commit([], [Put(f"/n/{number:05}", b"x" * 300) for number in numbers])
        writing = True

        async def write() -> int:
            number = 0
            while writing:
                number += 1
                both = b"%d" % number
                await store.commit([], [Put("/n/00000", both), Put(f"/n/{count - 1:05}", both)])
            return number

        await store.commit([], [Put("/n/00000", b"0"), Put(f"/n/{count - 1:05}", b"0")])
        writer = asyncio.create_task(write())
        readings = [await store.read("/n/") for _ in range(5)]
        writing = False
        written = await writer

    assert written > 5
    assert [len(reading.entries) for reading in readings] == [count] * 5
    assert [reading.entries[0].value == reading.entries[-1].value for reading in readings] == [True] * 5
    assert [max(entry.mod_revision for entry in r.entries) for r in readings] == [r.revision for r in readings]


async def test_a_read_that_is_overtaken_by_compaction_is_repeated(clean):
    """The revision of the first page is compacted before the last: the store reads again, the client says why."""
    async with connected(clean.urls) as store:
        for start in range(0, 2400, 120):
            await store.commit([], [Put(f"/n/{number:05}", b"") for number in range(start, start + 120)])
        old = (await store.read("/none")).revision
        done = await store.commit([], [Put("/n/x", b"")])
        client = store._client
        await client.compact(done.revision)
        with pytest.raises(EtcdError, match="compacted"):
            await anext(client.get_prefix(*prefix_range("/n/"), revision=old))

        real, calls = client._read, 0

        async def compacting(request):
            nonlocal calls
            calls += 1
            if calls == 2:
                newer = await store.commit([], [Put("/n/x", b"newer")])
                await client.compact(newer.revision)
            return await real(request)

        client._read = compacting
        reading = await store.read("/n/")

    assert calls == 5  # one page, one that was too late, and three pages of the second attempt
    assert len(reading.entries) == 2401


async def test_fragments_are_sent_and_joined(clean):
    """A catch-up of 4 MB comes in fragments (seen on a bare stream), and as the transactions that were made."""
    async with connected(clean.urls) as store:
        start = await store.read("/")
        done = [
            await store.commit([], [Put(f"/f/{part}/{number}", b"x" * 100_000) for number in range(10)])
            for part in range(4)
        ]
        assert await fragments(clean.urls[0], start.revision + 1) > 0
        async with aclosing(store.watch("/f/", start.revision)) as watch:
            found = [await next_change(watch) for _ in done]

    assert [(change.revision, len(change.puts)) for change in found] == [(outcome.revision, 10) for outcome in done]


async def fragments(url: str, revision: int) -> int:
    """How many messages of a catch-up say that they are not the whole."""
    ring = Ring([parse_endpoint(url)], Tls())
    call = (await ring.ready()).stream("watch", (), timeout_s=WAIT_S)
    key, end = prefix_range("/f/")
    asked = CLASSES["WatchCreateRequest"](key=key, range_end=end, start_revision=revision, fragment=True)
    await call.write(METHODS["watch"].request(create_request=asked))
    messages = [await call.read()]
    while sum(len(message.events) for message in messages) < 40:
        messages.append(await call.read())
    call.cancel()
    await ring.close()
    return sum(message.fragment for message in messages)


async def test_what_etcd_itself_refuses_is_a_bad_request(clean):
    """Past our own check, etcd's words for too many operations and a key twice mean the same."""
    op = CLASSES["RequestOp"](request_put=CLASSES["PutRequest"](key=b"/a", value=b""))
    many = [CLASSES["RequestOp"](request_put=CLASSES["PutRequest"](key=b"/%d" % n)) for n in range(129)]
    large = [CLASSES["RequestOp"](request_put=CLASSES["PutRequest"](key=b"/l", value=b"x" * 1_600_000))]
    async with connected(clean.urls) as store:
        for operations in ([op, op], many, large):
            with pytest.raises(BadRequest), store._errors("a commit"):
                await store._client.transaction([], operations)


# --- leases


async def test_a_lease_is_as_long_as_the_server_says(clean):
    """etcd lengthens a lease of 1 s; what counts is what it answers."""  # noqa: D403
    async with connected(clean.urls) as store:
        short, long = await store.grant(1), await store.grant(60)

        assert (short.ttl_s, long.ttl_s) == (2.0, 60.0)
        assert await store.keep_alive(short.id) == 2.0


async def test_a_thousand_renewals_are_quick_enough_to_share_a_client(clean):
    """Renewals in flight together do not disturb each other."""
    async with connected(clean.urls) as store:
        leases = [await store.grant(60) for _ in range(20)]
        found = await asyncio.gather(*(store.keep_alive(leases[n % 20].id) for n in range(1000)))

    assert found == [60.0] * 1000


# --- a full store


async def test_a_full_store_reads_on_and_recovers(tmp_path):
    """B7: at the quota writes are StoreFull, reads and watches go on; after the alarm is off, so do writes."""
    with EtcdCluster(tmp_path, options=("--quota-backend-bytes", str(16 * 1024 * 1024))) as cluster:
        [member] = cluster.members
        async with connected(cluster.urls, call_timeout_s=5.0) as store:
            await store.commit([], [Put("/kept", b"1")])

            async def fill() -> None:
                for _ in range(1000):
                    await store.commit([], [Put(f"/fill/{n}", b"x" * 250_000) for n in range(5)])

            with pytest.raises(
                StoreFull, match=f"{cluster.urls[0]}, the commit of '/fill/0' and 4 more.*space exceeded"
            ):
                await fill()
            assert "alarm:NOSPACE" in member.ctl("alarm", "list", "--write-out", "simple")
            full = await store.read("/kept")
            async with aclosing(store.watch("/kept", full.revision)) as watch:
                await anext(watch)
                member.ctl("compact", str(full.revision))
                member.ctl("defrag")
                member.ctl("alarm", "disarm")
                done = await keep_trying(lambda: store.commit([], [Put("/kept", b"2")]))
                assert (await next_change(watch)).revision == done.revision

    assert [entry.value for entry in full.entries] == [b"1"]


# --- beside another client


async def test_another_client_sees_and_does_the_same(clean):
    """The same operations through ours and through python-etcd3's successor have the same results on one server."""
    from etcd3.client import Etcd3Client  # cslab-etcd3; nothing of ours imports it

    host, _, port = clean.urls[0].rpartition("/")[2].rpartition(":")
    theirs = Etcd3Client(host=host, port=int(port))
    ours = EtcdClient(clean.urls)

    revision = await ours.put(b"/x/1", b"ours")
    value, meta = await asyncio.to_thread(theirs.get, "/x/1")
    assert (value, meta.create_revision, meta.mod_revision) == (b"ours", revision, revision)
    await asyncio.to_thread(theirs.put, "/x/1", "theirs")
    [kv] = (await ours.get(b"/x/1")).kvs
    assert (kv.key, kv.value, kv.create_revision, kv.mod_revision) == (b"/x/1", b"theirs", revision, revision + 1)

    [mine, _ttl] = await ours.lease(60)
    lease = await asyncio.to_thread(theirs.lease, 60)
    await ours.put(b"/x/2", b"", mine)
    await asyncio.to_thread(theirs.put, "/x/3", "", lease)
    listed = await asyncio.to_thread(lambda: list(theirs.get_prefix("/x/")))
    [found] = [page async for page in ours.get_prefix(*prefix_range("/x/"))]
    assert [(meta.key, value, meta.create_revision, meta.mod_revision, meta.lease_id) for value, meta in listed] == [
        (kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease) for kv in found.kvs
    ]
    assert {kv.lease for kv in found.kvs} == {0, mine, lease.id}
    assert await ours.refresh_lease(lease.id) == (await asyncio.to_thread(lease.refresh))[0].TTL == 60

    compare = [CLASSES["Compare"](key=b"/x/1", target=1, create_revision=revision)]
    put = [CLASSES["RequestOp"](request_put=CLASSES["PutRequest"](key=b"/x/4", value=b"t"))]
    mine_done = (await ours.transaction(compare, put)).succeeded
    theirs_done, _ = await asyncio.to_thread(
        theirs.transaction,
        compare=[theirs.transactions.create("/x/1") == revision],
        success=[theirs.transactions.put("/x/5", "t")],
        failure=[],
    )
    assert mine_done is theirs_done is True

    events, cancel = await asyncio.to_thread(theirs.watch_prefix, "/x/", start_revision=revision)
    want = 6
    their_events = await asyncio.to_thread(lambda: [next(events) for _ in range(want)])
    await asyncio.to_thread(cancel)
    our_events = []
    async with (
        asyncio.timeout(WAIT_S),
        aclosing(ours.watch_prefix(*prefix_range("/x/"), start_revision=revision)) as watch,
    ):
        async for response in watch:
            our_events += response.events
            if len(our_events) >= want:
                break
    assert [(e.key, e.value, e.mod_revision) for e in their_events] == [
        (e.kv.key, e.kv.value, e.kv.mod_revision) for e in our_events
    ]

    assert await ours.delete(b"/x/5") == 1
    assert await asyncio.to_thread(theirs.delete, "/x/5") is False
    assert (await asyncio.to_thread(theirs.delete_prefix, "/x/")).deleted == 4
    assert await ours.delete_prefix(*prefix_range("/x/")) == 0
    await ours.revoke_lease(lease.id)
    assert (await asyncio.to_thread(lease.refresh))[0].TTL == await ours.refresh_lease(lease.id) == 0
    await asyncio.to_thread(theirs.close)
    await ours.close()
