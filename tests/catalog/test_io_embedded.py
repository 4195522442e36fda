"""The embedded store beyond the contract: kill -9, one process at a time, broken files, full disks, slow watches."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from pilotfish.catalog.io_embedded import MAX_WAITING, EmbeddedStore
from pilotfish.catalog.io_sqlite import BrokenStore
from pilotfish.catalog.store import (
    Change,
    DeletePrefix,
    LeaseGone,
    Put,
    StartOver,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

WAIT_S = 20.0

WRITER = """
import asyncio, sys
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import Put

async def main():
    store = EmbeddedStore(sys.argv[1])
    for number in range(1_000_000):
        done = await store.commit([], [Put(f"/{number}/{part}", b"x" * 1000) for part in range(3)])
        print(done.revision, flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def opened(path: Path | None, **options: float) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(path, **options)
    try:
        yield store
    finally:
        await store.close()


def killed_writer(path: Path, after: int) -> tuple[list[int], int]:
    """The revisions that a writing process told before it was killed, at `after` of them or a little later."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        revisions = [int(writer.stdout.readline()) for _ in range(after)]
        os.kill(writer.pid, signal.SIGKILL)
        revisions += [int(line) for line in writer.stdout if line.endswith("\n")]
    return revisions, writer.returncode


@pytest.mark.parametrize("after", [1, 20, 150])
async def test_what_was_committed_survives_kill_9(tmp_path, after):
    """Every commit that was acknowledged before SIGKILL is there afterwards, whole, and the lock is free."""
    path = tmp_path / "store.db"
    revisions, ending = killed_writer(path, after)
    async with opened(path) as store:
        reading = await store.read("/")

    assert ending == -signal.SIGKILL
    assert reading.revision in {revisions[-1], revisions[-1] + 1}  # one may be done and not yet told
    assert len(reading.entries) == 3 * (reading.revision - 1)


async def test_the_identity_of_a_store_is_kept_in_its_file(tmp_path):
    """Cluster id, revision and entries are the same after opening again; another file has another id."""
    async with opened(tmp_path / "a.db") as store:
        await store.commit([], [Put("/a", b"1")])
        before = await store.read("/")
    async with opened(tmp_path / "a.db") as again, opened(tmp_path / "b.db") as other, opened(None) as memory:
        assert await again.read("/") == before
        clusters = {before.cluster, (await other.read("/")).cluster, (await memory.read("/")).cluster}

    assert len(clusters) == 3


async def test_a_watch_goes_on_after_a_restart_without_changes(tmp_path):
    """A reader that knows the store's last revision need not start over when the store opens again; an older must."""
    async with opened(tmp_path / "a.db") as store:
        old = (await store.read("/")).revision
        known = (await store.commit([], [Put("/a", b"1")])).revision
    async with opened(tmp_path / "a.db") as again:
        done = await again.commit([], [Put("/a", b"2")])
        async with asyncio.timeout(WAIT_S), aclosing(again.watch("/", known)) as watch:
            items = [await anext(watch), await anext(watch)]
        with pytest.raises(StartOver, match=f"after revision {old} are forgotten"):
            await anext(again.watch("/", old))

    assert isinstance(items[1], Change)
    assert items[1].revision == done.revision


async def test_only_the_user_can_read_the_file(tmp_path):
    """The store may hold what applications put into their tags: every file of it is mode 0600."""
    async with opened(tmp_path / "new" / "store.db") as store:
        await store.commit([], [Put("/a", b"1")])
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}

    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600)


async def test_one_process_at_a_time(tmp_path):
    """A second one is told the path and the process that has it, and gets in when that one is gone."""
    path = tmp_path / "store.db"
    async with opened(path):
        with pytest.raises(StoreUnavailable, match=f"{path} is in use by process {os.getpid()}: stop it"):
            EmbeddedStore(path)
    async with opened(path) as store:
        assert (await store.read("/")).entries == ()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, but long enough to be looked at" * 100)


def of_another(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url)")
    other.close()


def of_the_future(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA application_id = {0x50494C46}")
        other.execute("PRAGMA user_version = 99")
    other.close()


def damaged(path: Path) -> None:
    async def fill() -> None:
        async with opened(path) as store:
            for number in range(20):
                await store.commit([], [Put(f"/{number}/{part}", b"x" * 1000) for part in range(100)])

    asyncio.run(fill())
    with path.open("r+b") as file:
        for page in range(20, 120):
            file.seek(page * 4096)
            file.write(os.urandom(64))


BROKEN = {
    "no database": (garbage, "not a database"),
    "another program's": (of_another, "another program or version"),
    "of a newer version": (of_the_future, "format 99"),
    "damaged inside": (damaged, ""),
}


@pytest.mark.parametrize(("spoil", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_and_left_alone(tmp_path, spoil, words):
    """A file that cannot be used gives its path, the reason and what to do; it is not touched, nor kept locked."""
    path = tmp_path / "store.db"
    spoil(path)
    before = path.read_bytes()

    async def open_it() -> None:
        EmbeddedStore(path)

    for _ in range(2):
        with pytest.raises(BrokenStore, match=f"{path}.*{words}.*move it away"):
            asyncio.run(open_it())
    assert path.read_bytes() == before


async def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """A path below a file, or a folder in its place, is a clear error."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "store.db", tmp_path):
        with pytest.raises(StoreUnavailable, match=f"{path} cannot be opened for writing"):
            EmbeddedStore(path)


async def test_a_full_store_refuses_writes_and_goes_on_reading(tmp_path):
    """At the quota, commits fail whole with StoreFull; reads go on; after a deletion, commits go on."""
    async with opened(tmp_path / "store.db", quota_bytes=400_000) as store:
        number = 0

        async def fill() -> None:
            nonlocal number
            while number < 1000:
                await store.commit([], [Put(f"/{number}/{part}", b"x" * 3000) for part in range(10)])
                number += 1

        with pytest.raises(StoreFull, match="no space left"):
            await fill()
        full = await store.read("/")
        await store.commit([], [DeletePrefix("/0/")])
        done = await store.commit([], [Put("/after", b"x")])

    assert len(full.entries) == 10 * number > 0
    assert full.revision == 1 + number
    assert done.revision == full.revision + 2


async def test_leases_get_their_full_time_after_a_restart(tmp_path):
    """As with etcd: who restarts the store does not end leases; one that nobody renews then ends, with its keys."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        short, long = await store.grant(1), await store.grant(60)
        await store.commit([], [Put("/short", b"", short.id), Put("/long", b"", long.id)])
    await asyncio.sleep(1.5)  # the time that the store is away, more than the shorter lease
    async with opened(path) as store:
        back = await store.read("/")
        renewed = await store.keep_alive(short.id)
        async with asyncio.timeout(WAIT_S), aclosing(store.watch("/", back.revision)) as watch:
            [gone] = [item async for item in _first_change(watch)]
        with pytest.raises(LeaseGone):
            await store.keep_alive(short.id)
        left = await store.read("/")

    assert [entry.key for entry in back.entries] == ["/long", "/short"]
    assert renewed == 1.0
    assert gone.deletes == ("/short",)
    assert [(entry.key, entry.lease) for entry in left.entries] == [("/long", long.id)]


async def _first_change(watch) -> AsyncIterator[Change]:
    async for item in watch:
        if isinstance(item, Change):
            yield item
            return


async def test_a_stopped_process_does_not_lose_its_leases():
    """A process that was stopped past the end of a lease could renew nothing: the lease gets that time on top."""
    async with opened(None) as store:
        lease = await store.grant(1)
        await store.commit([], [Put("/a", b"", lease.id)])
        time.sleep(3)  # noqa: ASYNC251 - the whole process stands still, as under SIGSTOP
        await asyncio.sleep(0.1)
        renewed = await store.keep_alive(lease.id)
        left = await store.read("/")

    assert renewed == 1.0
    assert [entry.key for entry in left.entries] == ["/a"]


async def test_a_watch_that_falls_behind_starts_over():
    """A reader that does not read costs no memory: it is told to start over when its changes are forgotten."""
    async with opened(None, history_changes=100) as store:
        start = await store.read("/")
        async with (
            aclosing(store.watch("/", start.revision)) as slow,
            aclosing(store.watch("/", start.revision)) as fast,
        ):
            await anext(slow)
            seen = 0
            for number in range(300):
                await store.commit([], [Put("/a", b"%d" % number)])
                while not isinstance(await anext(fast), Change):
                    pass
                seen += 1
            with pytest.raises(StartOver):
                await anext(slow)

    assert seen == 300


async def test_too_many_calls_in_line_are_refused():
    """The queue to the file is bounded; who is over the bound is told so and can come again."""
    async with opened(None) as store:
        calls = [store.commit([], [Put(f"/{number}", b"")]) for number in range(MAX_WAITING + 50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
        entries = (await store.read("/")).entries

    assert len(refused) == 50
    assert {str(error) for error in refused} == {
        f"the store in memory does not keep up: {MAX_WAITING} calls are waiting"
    }
    assert len(entries) == MAX_WAITING


async def test_a_commit_whose_caller_left_is_still_told_to_watches():
    """A cancelled caller does not tear the history: what was committed reaches every watch."""
    async with opened(None) as store:
        start = await store.read("/")
        leaving = asyncio.create_task(store.commit([], [Put("/a", b"1")]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        async with asyncio.timeout(WAIT_S), aclosing(store.watch("/", start.revision)) as watch:
            [change] = [item async for item in _first_change(watch)]

    assert leaving.cancelled()
    assert [entry.key for entry in change.puts] == ["/a"]
