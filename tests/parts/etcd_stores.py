"""Connections to an etcd for tests, and the patience of a caller: short timers, bounded waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import Change, Quiet, StoreUnavailable

WAIT_S = 30.0  # for something that must come, on a busy machine
SHORT: dict[str, Any] = {"watch_stall_s": 2.0, "call_timeout_s": 2.0}  # what takes 10 s by default takes two


@asynccontextmanager
async def connected(urls: tuple[str, ...], **settings: object) -> AsyncIterator[EtcdStore]:
    """A store on these endpoints, with short timers unless told otherwise; closed at the end."""
    store = EtcdStore(EtcdSettings(endpoints=urls, **SHORT | settings))
    try:
        yield store
    finally:
        await store.close()


async def next_change(watch: AsyncIterator[Change | Quiet]) -> Change:
    """The next change of a watch; signs of life are skipped."""
    async with asyncio.timeout(WAIT_S):
        while not isinstance(item := await anext(watch), Change):
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
