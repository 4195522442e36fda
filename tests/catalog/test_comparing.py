"""Comparisons of a mirror with its store beside the watch: late answers, other clusters, and what SIGHUP asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from pilotfish.catalog import io_follow
from pilotfish.catalog.io_follow import Comparing
from pilotfish.catalog.store import Change, Quiet, Reading, StartOver, StoreError, StoreUnavailable, Survey
from tests.catalog.test_io_follow import ScriptedStore, entry, following, until

COMPARED = "compared with the store"


class TurningStore(ScriptedStore):
    """A store that becomes another one when it is told to; what is read beside a watch arrives late, when it is let."""

    def __init__(self, before: Reading, late: list[Reading], now: Reading) -> None:
        super().__init__([before, *late, now], [])
        self.turned, self.arrives, self.last = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.standing = self.beside = 0

    async def read(self, *prefixes: str) -> Reading:
        step = await super().read(*prefixes)
        if self.standing:
            self.beside += 1
            await self.arrives.wait()
        return step

    async def watch(self, _: str, revision: int) -> AsyncGenerator[Change | Quiet]:
        self.standing += 1
        try:
            yield Quiet()
            if not self.turned.is_set() and not self.asked_from:
                self.asked_from.append(revision)
                await self.turned.wait()
                raise StartOver("another store")
            yield Change(11, (entry("/p/new", 11),))
            await self.last.wait()
            yield Change(12, (entry("/p/last", 12),))
            await asyncio.Event().wait()
        finally:
            self.standing -= 1


A, LOST, KEPT = entry("/p/a", 4), entry("/p/lost", 95), entry("/p/kept", 4)
TURNS = {
    "another cluster": (Reading("c", 5, (A,)), [], Reading("d", 10, (KEPT,)), Survey("d", 10, 1, {"/p/kept": 4})),
    "a backup of the same cluster": (
        Reading("c", 100, (A,)),
        [Reading("c", 101, (A, LOST))],
        Reading("c", 10, (KEPT,)),
        Survey("c", 101, 2, {"/p/a": 4, "/p/lost": 95}),
    ),
}


@pytest.mark.parametrize("case", TURNS)
async def test_a_late_answer_takes_no_mirror_back(case, monkeypatch):
    """What a comparison was told of the store of before is thrown away: what the watch brought since then stays."""
    monkeypatch.setattr(io_follow, "SUSPICION_S", 0.0)
    before, late, now, survey = TURNS[case]
    store = TurningStore(before, late, now)
    store.survey_answer = survey
    async with following(store) as (follower, _):
        await until(lambda: follower.connected)
        comparison = asyncio.create_task(follower.verify(keys=True))
        await until(lambda: store.beside or comparison.done())
        store.turned.set()
        await until(lambda: "/p/new" in follower.mirror.entries)
        store.arrives.set()
        await asyncio.wait({comparison})
        store.last.set()
        await until(lambda: "/p/last" in follower.mirror.entries)
        assert sorted(follower.mirror.entries) == ["/p/kept", "/p/last", "/p/new"]
        assert (follower.mirror.cluster, follower.mirror.revision) == (now.cluster, 12)
        assert isinstance(comparison.exception(), StoreError)


async def test_another_cluster_that_a_check_finds_is_read_and_watched():
    """A watch that is silent beside another cluster is ended: the loop reads it, and watches from there."""
    store = ScriptedStore(
        [Reading("c", 5, (A,)), Reading("d", 50, (KEPT,))], [[Quiet()], [Quiet(), Change(51, (entry("/p/new", 51),))]]
    )
    store.survey_answer = Survey("d", 51, 2, {"/p/kept": 4, "/p/new": 51})
    async with following(store, verify_s=0.02) as (follower, _):
        await until(lambda: "/p/new" in follower.mirror.entries)
        assert store.asked_from == [5, 50]
        assert (follower.mirror.cluster, sorted(follower.mirror.entries)) == ("d", ["/p/kept", "/p/new"])


class LyingStore(ScriptedStore):
    """A store whose watch told nothing of one key; it is away as long as `away` is set, and then comes back.

    A survey of keys is answered as soon as `answers` is set, with what was true when it was asked.
    """

    def __init__(self, *, lies: bool) -> None:
        told = Reading("c", 100, (A,))
        super().__init__([told, Reading("c", 100, (A, LOST))] if lies else [told], [])
        keys = {"/p/a": 4, "/p/lost": 95} if lies else {"/p/a": 4}
        self.survey_answer = Survey("c", 100, len(keys), keys)
        self.away, self.answers = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.asked = self.asking = self.most = 0

    async def read(self, *prefixes: str) -> Reading:
        self._there()
        return await super().read(*prefixes)

    async def survey(self, prefix: str, *, keys: bool) -> Survey:
        self._there()
        if keys:
            self.asked, self.asking = self.asked + 1, self.asking + 1
            self.most = max(self.most, self.asking)
            await self.answers.wait()
            self.asking -= 1
        return await super().survey(prefix, keys=keys)

    async def watch(self, _: str, revision: int) -> AsyncGenerator[Change | Quiet]:
        self._there()
        yield Quiet(revision)
        await self.away.wait()
        self._there()

    def _there(self) -> None:
        if self.away.is_set():
            raise StoreUnavailable("away")


def mended(caplog) -> list[int]:
    """What the comparisons that are done have mended, in their order."""
    return [record.mended for record in caplog.records if record.message == COMPARED]


async def test_one_comparison_at_a_time(caplog):
    """Whatever is asked for during a comparison is one more after it: the store may have spoken before."""
    caplog.set_level("INFO", logger="pilotfish")
    store, comparing = LyingStore(lies=False), Comparing(logging.getLogger("pilotfish.test"))
    store.answers.clear()
    async with following(store) as (follower, _):
        await until(lambda: follower.connected)
        for _ in range(3):
            comparing.begin([follower])
        await until(lambda: store.asked == 1)
        for _ in range(3):
            comparing.begin([follower])
        store.answers.set()
        await until(comparing._running.done)
        assert (store.asked, store.most, mended(caplog)) == (2, 1, [0, 0])


@pytest.mark.parametrize("when", ["not read yet", "lost", "lost in the middle of it"])
async def test_what_is_away_is_compared_when_it_is_back(when, caplog, monkeypatch):
    """What was asked for is not forgotten, and keeps nobody else waiting; a watch that goes on mends nothing."""
    caplog.set_level("INFO", logger="pilotfish")
    monkeypatch.setattr(io_follow, "SUSPICION_S", 0.0)
    near, far, comparing = LyingStore(lies=False), LyingStore(lies=True), Comparing(logging.getLogger("pilotfish.test"))
    if when == "not read yet":
        far.away.set()
    async with following(near) as (here, _), following(far) as (there, told):
        await until(lambda: here.connected and (there.connected or far.away.is_set()))
        if when == "lost":
            far.away.set()
            await until(lambda: not there.connected)
        if when == "lost in the middle of it":
            far.answers.clear()
        comparing.begin([here, there])
        if when == "lost in the middle of it":
            await until(lambda: far.asked == 1)
            far.away.set()
            await until(lambda: not there.connected)
            far.answers.set()
        await until(lambda: mended(caplog) == [0])
        assert "/p/lost" not in there.mirror.entries
        far.away.clear()
        await until(lambda: mended(caplog) == [0, 1])
        assert sorted(there.mirror.entries) == ["/p/a", "/p/lost"]
        assert [difference.started_over for difference in told] == [True, False]
        said = "has to be made again" if when == "lost in the middle of it" else "is put off"
        lines = [record.message for record in caplog.records if record.message.startswith("the comparison with")]
        assert [line.partition(":")[0] for line in lines] == [f"the comparison with the store {said}"]
