"""The etcd store on real servers: what a client has to get right, each from something that was measured.

Timers are settings here, so that what takes 10 s by default takes one or two; the tests marked soak keep the defaults.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from pilotfish.catalog.commit import prefix_range
from pilotfish.catalog.etcd.channel import Ring, Tls, parse_endpoint
from pilotfish.catalog.etcd.client import EtcdClient
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.messages import CLASSES, METHODS
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import (
    Absent,
    AccessRefused,
    BadRequest,
    Change,
    Put,
    Quiet,
    StartOver,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from tests.parts.etcd_server import EtcdCluster, EtcdMember, free_port

WAIT_S = 30.0  # for something that must come, on a busy machine


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


@asynccontextmanager
async def connected(urls: tuple[str, ...], **settings: object) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(endpoints=urls, **{"watch_stall_s": 2.0, "call_timeout_s": 2.0} | settings))
    try:
        yield store
    finally:
        await store.close()


async def next_change(watch: AsyncIterator[Change | Quiet]) -> Change:
    async with asyncio.timeout(WAIT_S):
        while isinstance(item := await anext(watch), Quiet):
            pass
    return item


async def keep_trying(work: Callable[[], Awaitable[object]]) -> object:
    """Do what a caller does: try again while the store is unavailable."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await work()
            except StoreUnavailable:
                await asyncio.sleep(0.1)


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

    assert await writer > 5
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
            await client.get_prefix(*prefix_range("/n/"), revision=old)

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
            start = await store.commit([], [Put("/kept", b"1")])

            async def fill() -> None:
                for _ in range(1000):
                    await store.commit([], [Put(f"/fill/{n}", b"x" * 250_000) for n in range(5)])

            with pytest.raises(
                StoreFull, match=f"{cluster.urls[0]}, the commit of '/fill/0' and 4 more.*space exceeded"
            ):
                await fill()
            assert "alarm:NOSPACE" in member.ctl("alarm", "list", "--write-out", "simple")
            async with aclosing(store.watch("/kept", start.revision)) as watch:
                await anext(watch)
                full = await store.read("/kept")
                member.ctl("compact", str(full.revision))
                member.ctl("defrag")
                member.ctl("alarm", "disarm")
                done = await keep_trying(lambda: store.commit([], [Put("/kept", b"2")]))
                assert (await next_change(watch)).revision == done.revision

    assert [entry.value for entry in full.entries] == [b"1"]


# --- users


PASSWORD = "p4ss-word-of-pilot"
ROOT = ("--user", "root:r00t")


def with_users(member: EtcdMember) -> None:
    """Authentication on: root, and a pilot who may write under /pilotfish/ only."""
    for command in (
        ("user", "add", "root:r00t"),
        ("user", "add", f"pilot:{PASSWORD}"),
        ("role", "add", "ours"),
        ("role", "grant-permission", "ours", "--prefix=true", "readwrite", "/pilotfish/"),
        ("user", "grant-role", "pilot", "ours"),
        ("user", "grant-role", "root", "root"),
        ("auth", "enable"),
    ):
        member.ctl(*command)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One server with users, whose tokens end after 3 s without use."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), options=("--auth-token-ttl", "3")) as cluster:
        with_users(cluster.members[0])
        yield cluster


def told(error: StoreError) -> str:
    """All that a log could show of an error."""
    parts = []
    cause: BaseException | None = error
    while cause is not None:
        parts += [str(cause), repr(cause), repr(vars(cause))]
        cause = cause.__cause__ or cause.__context__
    return " ".join(parts)


DENIED = {
    "read": lambda store: store.read("/other/"),
    "commit": lambda store: store.commit([], [Put("/other/a", b"")]),
    "watch": lambda store: anext(store.watch("/other/", 1)),
}


@pytest.mark.parametrize("call", DENIED.values(), ids=DENIED.keys())
async def test_what_a_role_does_not_allow_is_refused_by_name(guarded, call):
    """The error names endpoint, user and prefix; a denied watch does not look like a quiet one."""
    async with connected(guarded.urls, user="pilot", password=PASSWORD) as store:
        await store.commit([], [Put("/pilotfish/a", b"")])
        with pytest.raises(AccessRefused) as caught:
            await call(store)

    assert all(part in told(caught.value) for part in (guarded.urls[0], "'pilot'", "/other/", "permission denied"))
    assert PASSWORD not in told(caught.value)


LOGINS = {"wrong password": ("pilot", "wrong-secret"), "no such user": ("nobody", "wrong-secret"), "no user": ("", "")}


@pytest.mark.parametrize(("user", "password"), LOGINS.values(), ids=LOGINS.keys())
async def test_a_login_that_fails_is_refused_by_name(guarded, user, password):
    """Reads, commits and watches say who could not log in where; the password is in no part of the error."""
    async with connected(guarded.urls, user=user, password=password) as store:
        for call in (store.read("/pilotfish/"), store.commit([], [Put("/pilotfish/a", b"")])):
            with pytest.raises(AccessRefused) as caught:
                await call
            assert f"user {user!r}" in str(caught.value) or "without a user" in str(caught.value)
            assert "wrong-secret" not in told(caught.value)
        with pytest.raises(AccessRefused):
            await anext(store.watch("/pilotfish/", 1))


async def test_a_token_that_ran_out_is_renewed(guarded):
    """B8: after the token's end, reads, commits, leases, an open watch and a new one go on without an error."""
    async with connected(guarded.urls, user="pilot", password=PASSWORD) as store:
        lease = await store.grant(60)
        start = await store.commit([], [Put("/pilotfish/a", b"1", lease.id)])
        async with aclosing(store.watch("/pilotfish/", start.revision)) as old:
            await anext(old)
            stale = store._client._auth.metadata
            await expired(guarded.urls[0], stale)
            assert store._client._auth.metadata == stale  # not renewed yet
            calls = [store.read("/pilotfish/"), store.keep_alive(lease.id), store.read("/pilotfish/")]
            readings = await asyncio.gather(*calls)
            done = await store.commit([], [Put("/pilotfish/a", b"2")])
            async with aclosing(store.watch("/pilotfish/", start.revision)) as new:
                found = [await next_change(new), await next_change(old)]

    assert [entry.value for entry in readings[0].entries if entry.key == "/pilotfish/a"] == [b"1"]
    assert [change.revision for change in found] == [done.revision] * 2


async def expired(url: str, token: tuple[tuple[str, str], ...]) -> None:
    """Wait until etcd refuses a token. Asking too often would keep it alive."""
    ring = Ring([parse_endpoint(url)], Tls())
    link = await ring.ready()
    async with asyncio.timeout(WAIT_S):
        while True:
            await asyncio.sleep(4.5)
            try:
                await link.call("range", METHODS["range"].request(key=b"/pilotfish/a"), token, 5.0)
            except EtcdError as error:
                assert error.stale_login, error
                break
    await ring.close()


async def test_a_watch_begun_with_a_stale_token_stands(guarded):
    """A new watch logs in first: with a stale token it would be refused as if the role forbade it."""
    async with connected(guarded.urls, user="pilot", password=PASSWORD) as store:
        start = await store.read("/pilotfish/")
        await expired(guarded.urls[0], store._client._auth.metadata)
        async with aclosing(store.watch("/pilotfish/", start.revision)) as watch:
            done = await store.commit([], [Put("/pilotfish/b", b"")])
            assert (await next_change(watch)).revision == done.revision


async def test_a_server_that_forgot_all_tokens_is_logged_into_again(tmp_path):
    """etcd keeps tokens in memory: after its restart the first call logs in again."""  # noqa: D403
    with EtcdCluster(tmp_path) as cluster:
        with_users(cluster.members[0])
        async with connected(cluster.urls, user="pilot", password=PASSWORD) as store:
            await store.commit([], [Put("/pilotfish/a", b"")])
            cluster.members[0].kill()
            cluster.members[0].restart()
            await keep_trying(lambda: store.commit([], [Put("/pilotfish/a", b"")]))


async def test_a_password_that_was_changed_is_refused(tmp_path):
    """Changing users makes old tokens void; with the old password the next call is AccessRefused."""
    with EtcdCluster(tmp_path) as cluster:
        with_users(cluster.members[0])
        async with connected(cluster.urls, user="pilot", password=PASSWORD) as store:
            await store.commit([], [Put("/pilotfish/a", b"")])
            cluster.members[0].kill()
            cluster.members[0].restart()
            client = EtcdClient(cluster.urls, user="root", password="r00t")
            await client.close()
            change_password(cluster.members[0], "pilot", "another-one")
            with pytest.raises(AccessRefused, match="'pilot'") as caught:
                await store.commit([], [Put("/pilotfish/a", b"")])

    assert PASSWORD not in told(caught.value)


def change_password(member: EtcdMember, user: str, password: str) -> None:
    member.ctl(*ROOT, "user", "delete", user)
    member.ctl(*ROOT, "user", "add", f"{user}:{password}")
    member.ctl(*ROOT, "user", "grant-role", user, "ours")


async def test_a_user_where_authentication_is_off_is_let_in(clean):
    """Users may be configured before the switch is turned on."""
    async with connected(clean.urls, user="pilot", password=PASSWORD) as store:
        assert (await store.commit([], [Put("/a", b"")])).succeeded


# --- TLS and addresses


class Certificates:
    """A CA, and files for a server and a client of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def tls(self) -> dict[str, str]:
        return {"ca": str(self.ca), "cert": str(self.cert), "key": str(self.key)}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Certificates]]:
    """A server that speaks TLS only, and asks for a certificate; on 127.0.0.1 and ::1."""
    folder = tmp_path_factory.mktemp("etcd")
    files = Certificates(folder / "pems")
    port = free_port()
    urls = f"https://127.0.0.1:{port},https://[::1]:{port}"
    options = (
        "--listen-client-urls", urls, "--cert-file", str(files.cert), "--key-file", str(files.key),
        "--trusted-ca-file", str(files.ca), "--client-cert-auth",
    )  # fmt: skip
    member = EtcdMember(folder, "tls", (port, free_port()), options, scheme="https")
    member.start()
    try:
        member.wait_ready()
        yield port, files
    finally:
        member.kill()


@pytest.mark.parametrize("host", ["https://127.0.0.1", "https://localhost", "https://[::1]", "localhost"])
async def test_tls_with_certificates_by_name_and_address(secured, host):
    """IPv4, IPv6 and a host name, with our certificate, also without a scheme."""
    port, files = secured
    async with connected((f"{host}:{port}",), **files.tls()) as store:
        done = await store.commit([], [Put("/a", b"")])
        async with aclosing(store.watch("/a", done.revision - 1)) as watch:
            assert (await next_change(watch)).revision == done.revision


async def test_tls_that_does_not_fit_is_unavailable(secured, tmp_path):
    """An unknown CA, no certificate of ours, or no TLS at all: an error with the address, not a hang."""
    port, files = secured
    other = Certificates(tmp_path / "other")
    for url, settings in (
        (f"https://localhost:{port}", {"ca": str(other.ca)}),
        (f"https://localhost:{port}", {"ca": str(files.ca)}),
        (f"http://localhost:{port}", {}),
    ):
        async with connected((url,), **settings) as store:
            with pytest.raises(StoreUnavailable, match=url):
                await store.read("/")


async def test_certificates_that_change_on_disk_are_read_again(secured, tmp_path):
    """A renewed certificate is used at the next connection attempt, without a restart of ours."""
    port, files = secured
    mine = Certificates(tmp_path / "mine")
    async with connected((f"https://localhost:{port}",), **mine.tls()) as store:
        with pytest.raises(StoreUnavailable):
            await store.read("/")
        for name in ("ca", "cert", "key"):
            shutil.copy(getattr(files, name), getattr(mine, name))
        await keep_trying(lambda: store.read("/"))


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
    found = await ours.get_prefix(*prefix_range("/x/"))
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
