"""The feed over a real socket: readers of a mirror, passed calls, and every way in which one side can be gone."""

import asyncio
import contextlib
import socket
import stat
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from pilotfish.catalog import feed, io_feed, io_feed_store, io_mirrored
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_feed import CannotServe, FeedServer, FeedStore
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.store import (
    AccessRefused,
    Change,
    Delete,
    Entry,
    Put,
    Quiet,
    Reading,
    StartOver,
    StoreUnavailable,
)
from pilotfish.catalog.telemetry import Telemetry

WAIT_S = 20.0  # for something that must come
P = "/p/"


class CountedStore:
    """A store that counts what is asked of it."""

    def __init__(self, store):
        self._store = store
        self.asked = Counter()

    def __getattr__(self, name):
        self.asked[name] += 1
        return getattr(self._store, name)


class Source:
    """A mirror whose state a test sets; counts how often its age is asked for."""

    def __init__(self, prefix=P):
        self.mirror = Mirror(prefix)
        self.connected = True
        self.heard = time.monotonic()
        self.looks = 0

    def age_s(self):
        self.looks += 1
        return time.monotonic() - self.heard


def descriptors_open():
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(work):
    """Something that runs until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def serving(store, path, mirrors=None, **options):
    server = FeedServer(store, path, mirrors, beat_s=0.02, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "feed.sock"


@pytest.fixture
async def store():
    store = EmbeddedStore(quiet_s=0.2)
    yield store
    await store.close()


@asynccontextmanager
async def mirroring(store, path, **options):
    """A server whose prefix P is mirrored by a real follower, as `up` has it."""
    mirrors = {}
    async with serving(store, path, mirrors, **options) as server:
        follower = Follower(store, P, partial(server.publish, P), Telemetry("up", time.time), verify_s=1e6)
        mirrors[P] = follower
        async with running(follower.run()):
            await until(lambda: follower.connected)
            yield server, follower


async def collected(store, revision, into, prefix=P):
    async with aclosing(store.watch(prefix, revision)) as watch:
        async for item in watch:
            into.append(item)


# One watch, many readers.


async def test_many_readers_cost_the_store_one_watch(store, path):
    counted = CountedStore(store)
    async with mirroring(counted, path) as (_, follower):
        readers = [FeedStore(path) for _ in range(5)]
        start = [await reader.read(P) for reader in readers]
        found = [[] for _ in readers]
        async with contextlib.AsyncExitStack() as stack:
            for reader, reading, into in zip(readers, start, found, strict=True):
                await stack.enter_async_context(running(collected(reader, reading.revision, into)))
            await until(lambda: all(found))
            done = await readers[0].commit([], [Put("/p/a", b"1"), Put("/q/b", b"2")])
            await until(lambda: all(isinstance(into[-1], Change) for into in found))

        changes = [[one for one in into if isinstance(one, Change)] for into in found]
        assert changes == [[Change(done.revision, (follower.mirror.entries["/p/a"],))]] * 5
        assert (counted.asked["watch"], counted.asked["read"]) == (1, 1)


async def test_a_read_sees_what_was_committed_before_by_anyone(store, path):
    """Through this feed, through another, or beside it: the mirror is waited for."""
    async with mirroring(store, path):
        one, other = FeedStore(path), FeedStore(path)
        for number in range(50):
            await (store, one, other)[number % 3].commit([], [Put("/p/a", b"%d" % number)])

            assert [b"%d" % number] == [entry.value for entry in (await one.read(P)).entries]
            assert {"/p/a": number + 1 + 1} == (await other.survey(P, keys=True)).keys


async def test_a_mirror_that_is_behind_is_not_read(store, path):
    """A stuck watch of the parent must not make the children read the past."""
    source = Source()
    source.mirror.start(await store.read(P))
    done = await store.commit([], [Put("/p/a", b"1")])
    async with serving(store, path, {P: source}):
        reading = await FeedStore(path).read(P)

    assert reading == Reading(reading.cluster, done.revision, (Entry("/p/a", b"1", done.revision, done.revision),))


async def test_a_mirror_without_the_store_is_not_read(store, path):
    """While the parent has lost the store, a read tells so instead of showing what was."""
    source = Source()
    source.mirror.start(await store.read(P))
    source.connected = False
    await store.close()
    async with serving(store, path, {P: source}):
        with pytest.raises(StoreUnavailable, match="closed"):
            await FeedStore(path).read(P)
        with pytest.raises(StoreUnavailable, match="closed"):
            await FeedStore(path).survey(P, keys=True)


async def test_a_read_of_several_mirrors_is_passed_through(store, path):
    """Two mirrors are of two revisions; a reading is of one."""
    sources = {prefix: Source(prefix) for prefix in (P, "/q/")}
    for prefix, source in sources.items():
        source.mirror.start(await store.read(prefix))
    done = await store.commit([], [Put("/p/a", b""), Put("/q/a", b"")])
    async with serving(store, path, sources):
        reading = await FeedStore(path).read(P, "/q/")

    assert (done.revision, ["/p/a", "/q/a"]) == (reading.revision, [entry.key for entry in reading.entries])


async def test_a_part_of_a_mirror_is_read_and_watched(store, path):
    async with mirroring(store, path):
        reader = FeedStore(path)
        first = await reader.commit([], [Put("/p/a/1", b""), Put("/p/b/1", b"")])
        await reader.commit([], [Put("/p/b/1", b"x")])
        third = await reader.commit([], [Delete("/p/a/1"), Delete("/p/b/1")])
        found = []
        async with running(collected(reader, first.revision, found, "/p/a/")):
            await until(lambda: any(isinstance(one, Change) for one in found))

        assert [Change(third.revision, (), ("/p/a/1",))] == [one for one in found if isinstance(one, Change)]
        assert (await reader.read("/p/a/")).entries == ()


async def test_a_large_reading_comes_through(store, path):
    """Many frames, in order."""
    values = {f"/p/{number:04}": b"%d" % number * 500 for number in range(1000)}
    for first in range(0, 1000, 100):
        await store.commit([], [Put(key, value) for key, value in list(values.items())[first : first + 100]])
    async with mirroring(store, path):
        reading = await FeedStore(path).read(P)
        survey = await FeedStore(path).survey(P, keys=True)

    assert values == {entry.key: entry.value for entry in reading.entries}
    assert list(values) == [entry.key for entry in reading.entries]
    assert survey.count == 1000
    assert survey.keys == {entry.key: entry.mod_revision for entry in reading.entries}


# What a watch is told.


async def test_a_mirror_that_was_read_anew_means_start_over(store, path):
    async with mirroring(store, path) as (server, follower):
        watching = asyncio.create_task(collected(FeedStore(path), follower.mirror.revision, []))
        await until(lambda: server.clients == 1)
        follower.restore(await store.read(P))

        with pytest.raises(StartOver, match="read anew or mended"):
            await watching


async def test_a_mended_mirror_mends_the_mirrors_behind_it(store, path):
    """A change that the parent's watch lost reaches the children, although no revision is left to tell it in."""
    await store.commit([], [Put("/p/a", b"1")])
    async with mirroring(store, path) as (_, follower):
        child = Follower(FeedStore(path), P, lambda _: None, Telemetry("dns", time.time), verify_s=1e6)
        async with running(child.run()):
            await until(lambda: child.connected and "/p/a" in child.mirror.entries)
            lost = Entry("/p/a", b"2", 2, 3)
            follower._on_difference(follower.mirror.repair(["/p/a"], Reading(follower.mirror.cluster, 3, (lost,))))

            await until(lambda: child.mirror.entries["/p/a"] == lost)


async def test_another_store_means_start_over(store, path):
    """A parent that was started anew over another store, whose revisions mean something else."""
    other = EmbeddedStore()
    await other.commit([], [Put("/p/b", b"")])
    await other.commit([], [Put("/p/b", b"")])
    reader = FeedStore(path)
    for mirrored in (serving, mirroring):
        async with serving(store, path):
            reading = await reader.read(P)
        async with mirrored(other, path):
            with pytest.raises(StartOver, match="another store"):
                await collected(reader, reading.revision, [])
    await other.close()


async def test_a_slow_reader_starts_over_and_holds_up_nobody(store, path):
    """Its changes are forgotten, not queued; the other reader gets each in time."""
    async with mirroring(store, path, max_changes=3) as (server, follower):
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(bytes(path))
        start = follower.mirror.revision
        slow.sendall(feed.request_frame(feed.Watch(P, start)))
        await until(lambda: server.clients == 1)
        quick = []
        async with running(collected(FeedStore(path), start, quick)):
            await until(lambda: quick)
            for number in range(20):  # far more octets than the sockets between them hold
                done = await store.commit([], [Put("/p/a", b"%d" % number * 100_000)])
                await until(partial(is_told, quick, done.revision))
        changes, failure = await asyncio.to_thread(read_all, slow)

    assert list(range(start + 1, start + 21)) == [one.revision for one in quick if isinstance(one, Change)]
    assert changes == list(range(start + 1, start + 1 + len(changes)))
    assert 0 < len(changes) < 20
    assert (failure.error, "forgotten" in failure.message) == ("StartOver", True)


def is_told(found, revision):
    return any(one.revision == revision for one in found)


def read_all(slow):
    """Everything that comes until the other side ends: revisions of whole changes, and the last answer."""
    changes, answer = [], None
    with slow, slow.makefile("rb") as file:
        slow.settimeout(WAIT_S)
        while head := file.read(feed.HEAD_SIZE):
            answer = feed.parse_answer(file.read(feed.body_size(head, feed.MAX_ANSWER_BYTES)))
            if isinstance(answer, feed.Changed) and not answer.more:
                changes.append(answer.revision)
    return changes, answer


async def test_a_sign_of_life_comes_only_when_the_store_was_heard_again(store, path):
    """The parent's own life is no news: the child's data gets older while the store is silent."""
    source = Source()
    async with serving(store, path, {P: source}) as server:
        server.publish(P, source.mirror.start(await store.read(P)))
        start, found = source.mirror.revision, []
        async with running(collected(FeedStore(path), start, found)):
            await until(lambda: source.looks > 20)
            assert found == [Quiet(start)]

            source.heard = time.monotonic()
            looks = source.looks
            await until(lambda: source.looks > looks + 20)
            assert found == [Quiet(start)] * 2


async def test_a_watch_ends_when_the_parent_loses_the_store(store, path):
    source = Source()
    async with serving(store, path, {P: source}) as server:
        server.publish(P, source.mirror.start(await store.read(P)))
        watching = asyncio.create_task(collected(FeedStore(path), source.mirror.revision, []))
        await until(lambda: source.looks > 2)
        source.connected = False

        with pytest.raises(StoreUnavailable, match="has lost the store"):
            await watching
        with pytest.raises(StoreUnavailable, match="has lost the store"):
            await collected(FeedStore(path), source.mirror.revision, [])


async def test_a_child_outlives_its_parent(store, path):
    """The server goes and comes on the same path; the child catches up and hears what it missed."""
    child = Follower(FeedStore(path), P, lambda _: None, Telemetry("dns", time.time), verify_s=1e6)
    async with running(child.run()):
        async with mirroring(store, path):
            await store.commit([], [Put("/p/a", b"1")])
            await until(lambda: child.connected and "/p/a" in child.mirror.entries)
        await until(lambda: not child.connected)
        await store.commit([], [Put("/p/b", b"2"), Delete("/p/a")])
        async with mirroring(store, path):
            await until(lambda: list(child.mirror.entries) == ["/p/b"])
            await until(lambda: child.connected)


# Bad clients.


def watch_then_more(sock):
    sock.sendall(feed.request_frame(feed.Watch(P, 0)) + b"more")


BAD_CLIENTS = {
    "nothing": lambda sock: None,
    "half a length": lambda sock: sock.sendall(b"\0\0"),
    "half a frame": lambda sock: sock.sendall(feed.request_frame(feed.Read((P,)))[:-1]),
    "a huge length": lambda sock: sock.sendall(b"\xff\xff\xff\xff"),
    "length zero": lambda sock: sock.sendall(b"\0\0\0\0"),
    "garbage": lambda sock: sock.sendall(b"\0\0\0\4junk"),
    "http": lambda sock: sock.sendall(b"GET / HTTP/1.1\r\n\r\n"),
    "gone after asking": lambda sock: sock.sendall(feed.request_frame(feed.Read((P,)))),
    "gone while watching": lambda sock: sock.sendall(feed.request_frame(feed.Watch(P, 1))),
    "more than was asked for": watch_then_more,
}


@pytest.mark.parametrize("misbehave", BAD_CLIENTS.values(), ids=BAD_CLIENTS)
async def test_a_bad_client_is_let_go(store, path, misbehave):
    """It leaves no connection, task or descriptor, and the next client is served."""
    async with mirroring(store, path) as (server, _):
        await FeedStore(path).read(P)
        await until(lambda: server.clients == 0)
        tasks, descriptors = len(asyncio.all_tasks()), descriptors_open()
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(bytes(path))
                misbehave(sock)
                await asyncio.sleep(0)

        assert (await FeedStore(path).read(P)).entries == ()
        await until(lambda: server.clients == 0)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: descriptors_open() <= descriptors)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        pytest.param(b"\xff\xff\xff\xff", "4294967295 octets", id="a huge length"),
        pytest.param(b"\0\0\0\4junk", "no request", id="garbage"),
    ],
)
async def test_a_bad_request_is_answered(store, path, sent, words):
    """Whoever speaks another language is told so."""
    async with serving(store, path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    failure = feed.parse_answer(answer[feed.HEAD_SIZE :])
    assert (failure.error, words in failure.message, failure.retry) == ("BadRequest", True, False)


async def test_a_client_that_never_asks_is_let_go(store, path, monkeypatch):
    monkeypatch.setattr(io_feed, "REQUEST_TIMEOUT_S", 0.05)
    async with serving(store, path):
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_takes_nothing_is_let_go(store, path, monkeypatch):
    monkeypatch.setattr(io_feed, "SEND_TIMEOUT_S", 0.05)
    for number in range(30):
        await store.commit([], [Put(f"/p/{number}", b"x" * 100_000)])
    async with serving(store, path) as server:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(bytes(path))
            sock.sendall(feed.request_frame(feed.Read((P,))))
            await until(lambda: server.clients == 1)
            await until(lambda: server.clients == 0)


async def test_connections_are_bounded(store, path, monkeypatch):
    monkeypatch.setattr(io_feed, "MAX_CLIENTS", 2)
    async with serving(store, path) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(bytes(path))
            await until(lambda: server.clients == 2)
            with pytest.raises(StoreUnavailable, match="2 connections are open already"):
                await FeedStore(path).read(P)
        await until(lambda: server.clients == 0)

        assert (await FeedStore(path).read(P)).entries == ()


async def test_more_calls_than_the_backlog_wait(store, path):
    """500 at once: none fails, and each is done."""
    async with serving(store, path):
        reader = FeedStore(path)
        await asyncio.gather(*(reader.commit([], [Put(f"/p/{number}", b"")]) for number in range(500)))

    assert (await store.survey(P, keys=False)).count == 500


# Bad servers.


async def test_no_server_is_a_store_that_is_away(path):
    with pytest.raises(StoreUnavailable, match=r"nobody serves the feed .*: is `pilotfish up` running"):
        await FeedStore(path).read(P)


async def test_a_dead_socket_is_a_store_that_is_away(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(bytes(path))

    with pytest.raises(StoreUnavailable, match="nobody serves the feed"):
        await FeedStore(path).grant(5)


async def test_a_socket_that_is_not_ours_is_access_refused(path, monkeypatch):
    async def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io_feed_store, "connect", refuse)
    with pytest.raises(AccessRefused, match="be the user who runs it"):
        await FeedStore(path).read(P)


BAD_SERVERS = {
    "ends at once": (b"", "ended in the middle"),
    "half a length": (b"\0\0", "ended in the middle"),
    "half a frame": (feed.answer_frame(feed.ReadDone("c", 1))[:-1], "ended in the middle"),
    "a part and no end": (feed.answer_frame(feed.Entries(())), "ended in the middle"),
    "a huge length": (b"\xff\xff\xff\xff", "4294967295 octets"),
    "garbage": (b"\0\0\0\4junk", "no answer"),
    "the answer to something else": (feed.answer_frame(feed.Revoked()), "answers Revoked where ReadDone is due"),
}


@asynccontextmanager
async def answering(path, data, *, hang=False):
    """A server that takes a request and sends `data`."""
    released = asyncio.Event()

    async def serve(reader, writer):
        await reader.readexactly(feed.HEAD_SIZE)
        writer.write(data)
        if hang:
            await released.wait()
        writer.close()

    path.parent.mkdir(exist_ok=True)
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        released.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(("data", "words"), BAD_SERVERS.values(), ids=BAD_SERVERS)
async def test_a_bad_server_is_a_store_that_is_away(path, data, words):
    async with answering(path, data):
        with pytest.raises(StoreUnavailable, match=words):
            await FeedStore(path).read(P)


async def test_a_watch_that_is_answered_otherwise_is_a_store_that_is_away(path):
    async with answering(path, feed.answer_frame(feed.Still(7)) + feed.answer_frame(feed.ReadDone("c", 1))):
        found = []
        with pytest.raises(StoreUnavailable, match="answers ReadDone where Changed is due"):
            await collected(FeedStore(path), 7, found)

    assert found == [Quiet(7)]


async def test_a_silent_server_is_a_store_that_is_away(path, monkeypatch):
    monkeypatch.setattr(io_feed_store, "ANSWER_TIMEOUT_S", 0.05)
    async with answering(path, b"\0\0", hang=True):
        with pytest.raises(StoreUnavailable, match="open and silent"):
            await FeedStore(path).read(P)


async def test_a_server_that_closes_ends_what_is_going_on(store, path, caplog):
    server = FeedServer(store, path)
    await server.start()
    watching = asyncio.create_task(collected(FeedStore(path), 1, []))
    await until(lambda: server.clients == 1)
    await server.close()

    with pytest.raises(StoreUnavailable):
        await watching
    assert not path.exists()
    assert caplog.messages == []
    await server.close()


async def test_a_server_runs_until_cancelled(store, path):
    async with running(FeedServer(store, path).run()):
        await until(path.exists)
        assert (await FeedStore(path).read(P)).entries == ()

    assert not path.exists()


# The socket's place.


async def test_only_its_owner_reaches_the_socket(store, path):
    async with serving(store, path):
        modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)]

    assert modes == [0o600, 0o700]


async def test_a_socket_that_nobody_answers_is_replaced(store, path):
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(bytes(path))
    async with serving(store, path):
        assert (await FeedStore(path).read(P)).entries == ()


async def test_a_second_server_is_refused_and_the_first_stays(store, path):
    async with serving(store, path):
        with pytest.raises(CannotServe, match="another process serves the feed"):
            await FeedServer(store, path).start()

        assert (await FeedStore(path).read(P)).entries == ()


async def test_a_socket_that_somebody_answers_is_not_replaced(store, path):
    """Also when whoever answers keeps no lock."""
    async with answering(path, b""):
        path.parent.chmod(0o700)
        with pytest.raises(CannotServe, match="another process answers at"):
            await FeedServer(store, path).start()

        assert path.exists()


def as_file(path):
    path.parent.mkdir()
    path.write_text("kept")


def as_open_folder(path):
    path.parent.mkdir()
    path.parent.chmod(0o777)


def as_blocked(path):
    path.parent.write_text("no folder")


PLACES = {
    "a file is there": (as_file, "no socket"),
    "others may write the folder": (as_open_folder, "others may write into"),
    "no folder can be made": (as_blocked, "File exists"),
}


@pytest.mark.parametrize(("spoil", "words"), PLACES.values(), ids=PLACES)
async def test_a_bad_place_is_refused_and_left_alone(store, path, spoil, words):
    spoil(path)
    before = sorted(path.parent.parent.rglob("*"))
    with pytest.raises(CannotServe, match=words):
        await FeedServer(store, path).start()

    assert before == [one for one in sorted(path.parent.parent.rglob("*")) if one.suffix != ".lock"]


async def test_a_path_too_long_for_a_socket_is_named(store, tmp_path):
    path = tmp_path / ("x" * 100) / "feed.sock"
    with pytest.raises(CannotServe, match="too long for a socket: 107 octets at most"):
        await FeedServer(store, path).start()


async def test_a_refused_server_may_start_later(store, path):
    """What was refused holds no lock."""
    as_file(path)
    server = FeedServer(store, path)
    with pytest.raises(CannotServe):
        await server.start()
    path.unlink()
    async with serving(store, path):
        assert path.is_socket()


async def test_catching_up_is_bounded(store, path, monkeypatch):
    """Changes elsewhere move the store on and the mirror not: the read then costs a read, and is right."""
    monkeypatch.setattr(io_mirrored, "CATCH_UP_S", 0.01)
    async with mirroring(store, path) as (_, follower):
        before = follower.mirror.revision
        done = await store.commit([], [Put("/elsewhere", b"")])
        reading = await FeedStore(path).read(P)

    assert (before, done.revision) == (follower.mirror.revision, reading.revision)
