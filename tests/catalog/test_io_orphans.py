"""Orphans on real sockets and a real store: kept while they answer, over a restart too, and let go when they do not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time

import pytest

from pilotfish.catalog import keys
from pilotfish.catalog.dialling import PERIOD_S, Answer
from pilotfish.catalog.guard import Guard, Limit
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.io_keeper import Keeper
from pilotfish.catalog.io_orphans import OrphanCare, dial
from pilotfish.catalog.record import Address, Claim, Container, Endpoint, Node, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.snapshot import Orphan
from pilotfish.catalog.store import Put, Quiet, Reading, Survey
from pilotfish.catalog.telemetry import Telemetry

CONTAINER = "0" * 12
GONE_S = 10.0
NO_GUARD = Limit()


@contextlib.asynccontextmanager
async def listening():
    """A port that takes connections, and a way to close it."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], server.close


@contextlib.contextmanager
def refusing():
    """A port that is taken, and at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def silent():
    """A port whose queue is full: the kernel drops what comes then, as a host does that is dead."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()[1]


async def test_what_comes_of_a_dial():
    async with listening() as (port, _):
        with refusing() as closed, silent() as full:
            taken, refused, nobody = ("127.0.0.1", port), ("127.0.0.1", closed), ("127.0.0.1", full)
            for where, expected in {
                (taken,): Answer.TAKEN,
                (refused,): Answer.REFUSED,
                (nobody,): Answer.SILENT,
                (refused, taken): Answer.TAKEN,
                (nobody, taken): Answer.TAKEN,
                (nobody, refused): Answer.REFUSED,
            }.items():
                assert await dial(where, 0.2) is expected, where


V4, V6 = ("192.0.2.1", 80), ("2001:db8::1", 80)
FAILED = {
    "no IPv6 here, IPv4 refuses": ({V4: errno.ECONNREFUSED, V6: errno.EADDRNOTAVAIL}, Answer.REFUSED),
    "no IPv6 here, no way by IPv4": ({V4: errno.EHOSTUNREACH, V6: errno.EADDRNOTAVAIL}, Answer.SILENT),
    "no IPv6 here, and nothing else": ({V6: errno.EADDRNOTAVAIL}, Answer.SILENT),
    "no port of ours is free": ({V4: errno.EADDRNOTAVAIL}, Answer.UNKNOWN),
    "no IPv6 here, no port of ours is free": ({V4: errno.EADDRNOTAVAIL, V6: errno.EADDRNOTAVAIL}, Answer.UNKNOWN),
    "no memory for one, the other refuses": ({V4: errno.ECONNREFUSED, V6: errno.ENOBUFS}, Answer.UNKNOWN),
}


@pytest.mark.parametrize(("errors", "expected"), FAILED.values(), ids=FAILED)
async def test_what_comes_of_a_dial_that_fails_here(monkeypatch, errors, expected):
    """Whether a failure says something of the other side."""

    async def failing(_, address):
        raise OSError(errors[address], "failed")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", failing)
    assert await dial(tuple(errors), 0.2) is expected


class Reader:
    """A registry that follows a store, with orphans."""

    def __init__(self, store, file="", *, at_once=True, keep_s=60.0, limit=NO_GUARD):
        self.telemetry = Telemetry("dns", time.time)
        self.registry = Registry()
        self.care = OrphanCare("h9", keep_s, self.telemetry, Guard(limit, lambda: self.registry))
        self.follower = Follower(store, keys.ROOT, self.registry.apply, self.telemetry, care=self.care)
        followers = {keys.ROOT: self.follower}
        self.keeper = Keeper(file, followers, self.telemetry, self.follower.age_s, 60.0, at_once=at_once)

    @property
    def served(self):
        return [one.endpoint.id for one in self.registry.service("web") if one.verdict.published]

    @property
    def count(self):
        return self.telemetry.registry.get_sample_value("pilotfish_orphans", {"part": "dns"})


@contextlib.asynccontextmanager
async def reading(store, *args, **options):
    reader = Reader(store, *args, **options)
    if args:
        await reader.keeper.load()
    task = asyncio.create_task(reader.follower.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def registered(store, port):
    """Register a host with a container as a registrator does; returns the lease."""
    # Loopback is no address for others to reach; it stands for one here.
    one = Endpoint(
        service="web", id="e", label="e", port=80, addresses=(Address("127.0.0.1", port, "lan"),), state="passing"
    )
    record = Container(node="h1", id=CONTAINER, name="c", image="i", started=0.0, observed=0.0, endpoints=(one,))
    node = Node(node="h1", addresses=(), boot="b", engine="e", instance="i", version="1")
    lease = (await store.grant(60)).id
    puts = [
        Put(keys.node_key("h1"), encode(node), lease),
        Put(keys.container_key("h1", CONTAINER), encode(record), lease),
    ]
    assert (await store.commit([], puts)).succeeded
    return lease


async def until(true, within_s=GONE_S):
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


async def test_an_orphan_stays_while_it_answers_and_goes_when_it_does_not():
    store = EmbeddedStore()
    async with listening() as (port, close), reading(store) as reader:
        lease = await registered(store, port)
        await until(lambda: reader.served == ["e"])
        await store.revoke(lease)
        await until(lambda: reader.count == 1)
        dialled = time.monotonic()
        while time.monotonic() < dialled + 1.5 * PERIOD_S:
            assert reader.served == ["e"]
            await asyncio.sleep(0.05)
        [shown] = reader.care.state()["orphans"]
        assert (shown["node"], shown["container"], list(shown["endpoints"])) == ("h1", "c", ["e"])
        close()
        closed = time.monotonic()
        await until(lambda: reader.served == [])
        assert time.monotonic() - closed <= PERIOD_S * 1.25 + 3.0
        assert reader.count == 0
    await store.close()


@pytest.mark.parametrize("how", [silent, refusing])
async def test_what_does_not_answer_goes_within_three_seconds(how):
    store = EmbeddedStore()
    with how() as port:
        async with reading(store) as reader:
            lease = await registered(store, port)
            await until(lambda: reader.served == ["e"])
            await store.revoke(lease)
            gone = time.monotonic()
            await until(lambda: reader.served == [])
            assert time.monotonic() - gone <= 3.0
    await store.close()


@pytest.mark.parametrize(("how", "left"), [(silent, 1), (refusing, 0)])
async def test_silence_means_nothing_while_the_store_is_away(how, left):
    """It may be us who are cut off; a refusal comes from the host itself."""
    store = EmbeddedStore()
    with how() as port:
        async with reading(store) as reader:
            lease = await registered(store, port)
            await until(lambda: reader.served == ["e"])
            await store.revoke(lease)
            await until(lambda: reader.count == 1)
            reader.follower.connected = False
            noticed = time.monotonic()
            await until(lambda: reader.count == 0 or time.monotonic() > noticed + 4)
            assert reader.count == left
    await store.close()


class Severed:
    """A store whose network can go: its watch says nothing any more, which is known only much later."""

    def __init__(self, store):
        self._store, self.cut = store, asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def watch(self, prefix, revision):
        async for news in self._store.watch(prefix, revision):
            if self.cut.is_set():
                await asyncio.Event().wait()
            yield news

    async def survey(self, prefix, *, keys):
        if self.cut.is_set():
            await asyncio.Event().wait()
        return await self._store.survey(prefix, keys=keys)


async def test_silence_means_nothing_before_it_is_known_that_the_store_is_away():
    store = Severed(EmbeddedStore())
    with silent() as port:
        async with reading(store) as reader:
            lease = await registered(store, port)
            await until(lambda: reader.served == ["e"])
            await store.revoke(lease)
            await until(lambda: reader.count == 1)
            store.cut.set()
            noticed = time.monotonic()
            await until(lambda: reader.count == 0 or time.monotonic() > noticed + 4)
            assert (reader.follower.connected, reader.count) == (True, 1)
    await store.close()


@pytest.mark.parametrize("when", ["kept already", "before it became one"])
@pytest.mark.parametrize("at_once", [True, False], ids=["known at once", "known beside the store"])
async def test_a_reader_that_starts_anew_knows_its_orphans(tmp_path, when, at_once):
    file, store = str(tmp_path / "known"), EmbeddedStore()
    async with listening() as (port, close):
        async with reading(store) as reader:
            lease = await registered(store, port)
            await until(lambda: reader.served == ["e"])
            if when == "kept already":
                await store.revoke(lease)
                await until(lambda: reader.count == 1)
            await Keeper(file, {keys.ROOT: reader.follower}, reader.telemetry, reader.follower.age_s, 60.0).last()
        if when != "kept already":
            await store.revoke(lease)
        async with reading(store, file, at_once=at_once) as reader:
            assert reader.served == (["e"] if at_once else [])
            await until(lambda: reader.follower.connected)
            assert (reader.served, reader.count) == (["e"], 1)
            close()
            await until(lambda: reader.served == [])
    await store.close()


class Lost:
    """A store that loses everything: another cluster, that begins at revision 1."""

    def __init__(self, entries):
        self.reading = Reading("c1", 5, entries)

    def lose(self):
        self.reading = Reading("c2", 1, ())

    async def read(self, *_):
        return self.reading

    async def survey(self, *_, **__):
        return Survey(self.reading.cluster, self.reading.revision, len(self.reading.entries), {})

    async def watch(self, *_):
        yield Quiet(self.reading.revision)
        await asyncio.Event().wait()


@pytest.mark.parametrize("at_once", [True, False], ids=["known at once", "known beside the store"])
async def test_a_reader_that_starts_anew_knows_the_claims_that_it_kept_beside_orphans(tmp_path, at_once):
    file, store, place = str(tmp_path / "known"), EmbeddedStore(), Place("www.example.com", "/")
    async with listening() as (port, _):
        await registered(store, port)
        claim = Put(keys.claim_key(place), encode(Claim(service="web", since=1.0)))
        assert (await store.commit([], [claim])).succeeded
        lost = Lost((await store.read(keys.ROOT)).entries)
        async with reading(lost, file) as reader:
            await until(lambda: reader.served == ["e"])
        await reader.keeper.last()
        lost.lose()
        async with reading(lost, file) as reader:
            await until(lambda: reader.count == 1)
        assert list(reader.registry.claims) == [place]
        await reader.keeper.last()
        async with reading(lost, file, at_once=at_once) as reader:
            await until(lambda: reader.follower.connected)
            assert (reader.served, list(reader.registry.claims)) == (["e"], [place])
    await store.close()


async def test_what_was_put_again_while_a_snapshot_was_taken_is_no_orphan():
    """A snapshot takes its orphans first, and its mirror a little later."""
    store = EmbeddedStore()
    await registered(store, 1)
    reading_ = await store.read(keys.ROOT)
    reader = Reader(store)
    record = next(one for one in reading_.entries if one.key.startswith(keys.CONTAINERS))
    reader.follower.restore(reading_, [Orphan(record, 0.0, ())])
    assert (reader.served, reader.count) == (["e"], 0)
    await store.close()
