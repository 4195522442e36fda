"""The follower keeps a mirror in step with its store through loss, compaction and lies."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence

import msgspec
import pytest

from pilotfish.catalog import io_follow
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import (
    Change,
    Delete,
    Entry,
    Put,
    Quiet,
    Reading,
    StartOver,
    StoreUnavailable,
    Survey,
)
from pilotfish.catalog.telemetry import Telemetry

PREFIX = "/p/"


@contextlib.asynccontextmanager
async def following(store, **options):
    """A running follower and the differences that it has given so far."""
    differences: list[Difference] = []
    follower = Follower(store, PREFIX, differences.append, Telemetry("test", time.time), **options)
    task = asyncio.create_task(follower.run())
    try:
        yield follower, differences
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition, seconds: float = 10.0) -> None:
    """Wait for a condition, polled; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_follows_the_embedded_store():
    """What is there, comes, changes and goes is in the mirror; other prefixes are not."""
    store = EmbeddedStore()
    await store.commit([], [Put("/p/a", b"1"), Put("/q/x", b"9")])
    async with following(store) as (follower, differences):
        await until(lambda: follower.mirror.complete)
        await store.commit([], [Put("/p/b", b"2"), Put("/p/a", b"3")])
        await store.commit([], [Delete("/p/a"), Put("/q/y", b"9")])
        await until(lambda: list(follower.mirror.entries) == ["/p/b"])
        assert [difference.deletes for difference in differences] == [(), (), ("/p/a",)]
        assert differences[0].started_over
        assert follower.connected
        assert follower.age_s() < 60
    await store.close()


class ScriptedStore:
    """A store that plays a script: each read and each watch takes the next step of its own list.

    A step that is an exception is raised; a watch step is a list of news, after which the watch stays silent.
    """

    def __init__(self, reads: Sequence[Reading | Exception], watches: Sequence[Sequence[Change | Quiet | Exception]]):
        self.reads, self.watches = list(reads), list(watches)
        self.asked_from: list[int] = []
        self.survey_answer = Survey("c", 99, 0)

    async def read(self, *_: str) -> Reading:
        step = self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]
        if isinstance(step, Exception):
            raise step
        return step

    async def survey(self, _: str, *, keys: bool) -> Survey:
        return self.survey_answer if keys else msgspec.structs.replace(self.survey_answer, keys={})

    async def watch(self, _: str, revision: int) -> AsyncGenerator[Change | Quiet]:
        self.asked_from.append(revision)
        for step in self.watches.pop(0) if self.watches else []:
            if isinstance(step, Exception):
                raise step
            yield step
        await asyncio.Event().wait()


def entry(key: str, revision: int, value: bytes = b"v") -> Entry:
    return Entry(key, value, revision, revision)


async def test_resumes_where_it_was():
    """A broken watch is taken up at the last applied revision, without reading again; nothing comes twice."""
    first = Change(5, (entry("/p/b", 5),))
    store = ScriptedStore(
        [Reading("c", 3, (entry("/p/a", 2),))],
        [[first, StoreUnavailable("cut")], [first, Change(6, (), ("/p/a",))]],
    )
    async with following(store) as (follower, differences):
        await until(lambda: list(follower.mirror.entries) == ["/p/b"])
        assert store.asked_from == [3, 5]
        assert [difference.started_over for difference in differences] == [True, False, False, False]
        assert differences[2].puts == ()


async def test_compaction_reads_anew_without_a_gap():
    """What existed before and after never vanishes; what went meanwhile goes in one difference."""
    kept, gone, new = entry("/p/kept", 1), entry("/p/gone", 2), entry("/p/new", 9)
    store = ScriptedStore([Reading("c", 3, (kept, gone)), Reading("c", 10, (kept, new))], [[StartOver("compacted")]])
    async with following(store) as (follower, differences):
        await until(lambda: len(differences) == 2)
        assert (differences[1].puts, differences[1].deletes) == ((new,), ("/p/gone",))
        assert follower.mirror.revision == 10


async def test_store_away_at_the_start():
    """It waits, says what is missing, and goes on as soon as the store is there."""
    store = ScriptedStore([StoreUnavailable("refused"), StoreUnavailable("refused"), Reading("c", 1, ())], [])
    async with following(store) as (follower, _):
        await until(lambda: follower.mirror.complete)
        assert follower._telemetry.ready.missing == {}


async def test_store_away_later_empties_nothing():
    """What is known stays known, marked as not connected."""
    store = ScriptedStore(
        [Reading("c", 1, (entry("/p/a", 1),))],
        [[StoreUnavailable("gone")], [StoreUnavailable("gone")], [StoreUnavailable("gone")]],
    )
    async with following(store) as (follower, _):
        await until(lambda: len(store.asked_from) >= 3)
        assert list(follower.mirror.entries) == ["/p/a"]


async def test_restored_cluster_is_read_whole(caplog):
    """A revision that went back replaces what was known, and says so."""
    store = ScriptedStore(
        [Reading("c", 9, (entry("/p/a", 9),)), Reading("c", 2, (entry("/p/b", 2),))], [[StartOver("went back")]]
    )
    async with following(store) as (follower, _):
        await until(lambda: list(follower.mirror.entries) == ["/p/b"])
        assert follower.mirror.revision == 2
    assert "the store's revision went back: it was restored" in caplog.text


async def test_another_cluster_is_seen_when_the_watch_is_taken_up():
    """After a break the store is asked who it is: another cluster's later revision is not taken for news."""
    store = ScriptedStore(
        [Reading("c", 9, (entry("/p/a", 9),)), Reading("d", 50, (entry("/p/b", 40),))], [[StoreUnavailable("cut")]]
    )
    store.survey_answer = Survey("d", 50, 1)
    async with following(store) as (follower, _):
        await until(lambda: list(follower.mirror.entries) == ["/p/b"])
        assert follower.mirror.cluster == "d"


async def test_lost_events_are_found_and_mended(monkeypatch):
    """A delete and a put that the watch never told are seen by a survey, read, counted and mended."""
    monkeypatch.setattr(io_follow, "SUSPICION_S", 0.0)
    stale, lost, fine = entry("/p/stale", 2), entry("/p/lost", 4), entry("/p/fine", 3)
    store = ScriptedStore([Reading("c", 5, (fine, stale)), Reading("c", 6, (fine, lost))], [[]])
    store.survey_answer = Survey("c", 99, 2, {"/p/fine": 3, "/p/lost": 4})
    async with following(store) as (follower, differences):
        await until(lambda: follower.mirror.complete)
        assert await follower.verify(keys=True) == 2
        assert sorted(follower.mirror.entries) == ["/p/fine", "/p/lost"]
        assert differences[-1].deletes == ("/p/stale",)
        assert await follower.verify(keys=True) == 0


async def test_a_count_that_agrees_costs_no_keys():
    """The frequent check reads one number."""
    store = ScriptedStore([Reading("c", 5, (entry("/p/a", 1),))], [[]])
    store.survey_answer = Survey("c", 99, 1, {"/p/other": 1})
    async with following(store) as (follower, _):
        await until(lambda: follower.mirror.complete)
        assert await follower.verify(keys=False) == 0


@pytest.mark.parametrize("verify_s", [0.02])
async def test_checks_by_itself(monkeypatch, verify_s):
    """The check runs on a timer, without anybody asking."""
    monkeypatch.setattr(io_follow, "SUSPICION_S", 0.0)
    store = ScriptedStore([Reading("c", 5, (entry("/p/a", 1),)), Reading("c", 6, ())], [[Quiet()]])
    async with following(store, verify_s=verify_s) as (follower, _):
        await until(lambda: follower.mirror.complete and not follower.mirror.entries)


async def test_readings_that_lead_to_no_watch_get_rarer(monkeypatch):
    """A watch that is refused after each reading is no progress: whole readings are dear."""
    waits: list[float] = []

    class Recorded(io_follow.Backoff):
        async def wait(self) -> None:
            waits.append(self._next_s)
            self._next_s *= 2
            await asyncio.sleep(0)

    monkeypatch.setattr(io_follow, "retry_delays", lambda: Recorded(1.0, 100.0))
    refused = [StartOver("another cluster")]
    store = ScriptedStore([Reading("c", 3, ())], [refused, refused, [Quiet(), *refused], refused])
    async with following(store):
        await until(lambda: len(waits) == 4)
    assert waits == [1.0, 2.0, 1.0, 2.0]
