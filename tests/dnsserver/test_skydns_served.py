"""The recorded answers once more, from sockets: after a restart, after a gap, while other records come and go."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dnsserver.responder import Data
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import Change, Delete, Put, Quiet, StoreUnavailable
from tests.dnsserver.conftest import Running, until
from tests.dnsserver.kit import Said, question, said
from tests.dnsserver.test_service import Away
from tests.dnsserver.test_skydns import sets, theirs, told

SETS = range(0, 30, 7)
OPTIONS = {"domain": ("skydns.test",), "ttl": 3600, "negative_ttl": 60}
STALE_S = "30"


async def fill(running: Running, records: list[dict[str, Any]]) -> None:
    """Put records as they stand in a set."""
    await running.seen((await running.store.commit([], puts(records))).revision)


def puts(records: list[dict[str, Any]]) -> list[Put]:
    return [Put(record["key"], json.dumps(record["value"]).encode()) for record in records]


async def over_tcp(running: Running, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*running.at)
    writer.write(len(message).to_bytes(2) + message)
    reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    writer.close()
    await writer.wait_closed()
    return reply


async def differences(running: Running, cases: list[dict[str, Any]], *, stale: bool = False) -> list[str]:
    """Questions whose answer is another one, over UDP or TCP, with or without EDNS."""
    wrong = []
    for case in cases:
        for options in ({}, {"use_edns": 0, "payload": 1232}):
            message = question(case["qname"], case["qtype"], **options)
            found = said(await running.udp(message))
            if "TC" in found.flags or found.size > 480:
                found = said(await over_tcp(running, message))
            if not _same(found, case, stale=stale):
                wrong.append(f"{case['qname']} {case['qtype']}: {found}")
    return wrong


def _same(found: Said, case: dict[str, Any], *, stale: bool) -> bool:
    sections = (found.answer, found.authority, found.additional)
    if stale and any(row.split()[1] != STALE_S for row in found.answer):
        return False
    return (found.rcode, *(told(rows, ttl=not stale) for rows in sections)) == theirs(case, ttl=not stale)


def agreed(number: int) -> list[dict[str, Any]]:
    return [case for case in sets()[number]["cases"] if case["agree"]]


@pytest.mark.parametrize("number", SETS)
async def test_from_sockets_and_after_a_restart_without_the_store(run, tmp_path, number):
    """The same from the store, and from the snapshot with the store away: then with TTLs of 30 s."""
    path = str(tmp_path / "zone")
    first = await run(**OPTIONS, snapshot=path)
    await fill(first, sets()[number]["records"])
    assert await differences(first, agreed(number)) == []
    await first.stop()
    second = await run(**OPTIONS, snapshot=path, use=Away())
    await until(lambda: second.service.responder.data is Data.STALE, "the snapshot is read")

    assert await differences(second, agreed(number), stale=True) == []


@pytest.mark.parametrize("number", SETS)
async def test_while_other_records_come_and_go(run, number):
    """Changes that have nothing to do with a name change nothing of its answers, however many there are."""
    running = await run(**OPTIONS)
    await fill(running, sets()[number]["records"])
    written = 0

    async def others() -> None:
        nonlocal written
        for turn in itertools.count():
            many = [Put(f"/skydns/test/other/n{one}/i{turn % 3}", b'{"host": "10.9.9.9"}') for one in range(50)]
            one = Put(f"/skydns/test/skydns/unrelated/{turn % 7}", b'{"text": "%d"}' % turn)
            await running.store.commit([], [*many, one])
            written += len(many) + 1

    task = asyncio.create_task(others())
    cases = [case for case in agreed(number) if "*" not in case["qname"] and "any" not in case["qname"].lower()]
    cases = [case for case in cases if case["qname"].lower() != "skydns.test." or case["qtype"] in {"SOA", "NS"}]
    wrong = await differences(running, cases)
    while not wrong and written < 500 and not task.done():
        wrong = await differences(running, cases)
    task.cancel()
    await asyncio.wait([task])

    assert wrong == []
    assert written >= 500  # it bit


class Breaking:
    """A store whose watches break as long as it is told."""

    def __init__(self, inner: EmbeddedStore) -> None:
        self._inner, self.broken, self.breaks = inner, asyncio.Event(), 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[Change | Quiet, None]:
        if self.broken.is_set():
            self.breaks += 1
            raise StoreUnavailable("it is told to break")
        async for news in self._inner.watch(prefix, revision):
            if self.broken.is_set():
                raise StoreUnavailable("it is told to break")
            yield news


async def test_after_the_store_forgot_what_happened(run):
    """One set in the place of another while nothing was heard, and more than the store remembers: all is read anew."""
    inner = EmbeddedStore(quiet_s=0.1, history_changes=16)
    store = Breaking(inner)
    running = await run(**OPTIONS, use=store)
    before, after = sets()[7], sets()[14]
    await fill(running, before["records"])
    assert await differences(running, agreed(7)) == []
    store.broken.set()
    await until(lambda: store.breaks > 0, "the watch is broken")
    gone = {record["key"] for record in before["records"]} - {record["key"] for record in after["records"]}
    await inner.commit([], [Delete(key) for key in sorted(gone)])
    read = await inner.commit([], puts(after["records"]))
    for number in range(40):
        await inner.commit([], [Put("/elsewhere", b"%d" % number)])
    store.broken.clear()
    await until(lambda: running.service.responder.serial >= read.revision, "it is read anew")

    assert await differences(running, agreed(14)) == []
    await running.stop()
    await inner.close()
