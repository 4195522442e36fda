"""A DNS server on real sockets over the embedded store."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.record import Record, encode
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Delete, Put, Store
from pilotfish.catalog.telemetry import Telemetry
from tests.dnsserver.kit import Said, key_of, question, said

DEADLINE_S = 20.0


async def until(true: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait for a condition; fail with its name when it does not come true in time."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(what)


class Running:
    """A DNS service that runs, and a client of it."""

    def __init__(self, service: DnsService, store: Store, telemetry: Telemetry) -> None:
        self.service, self.store, self.telemetry = service, store, telemetry
        self.task: asyncio.Task[None] | None = None

    @property
    def at(self) -> tuple[str, int]:
        return self.service.listening[0]

    async def start(self) -> None:
        self.task = asyncio.create_task(self.service.run())
        await until(lambda: bool(self.service.listening) or self.ended, "sockets are open")

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, CannotStart):
                await self.task

    async def put(self, *records: Record, place: Place | None = None) -> None:
        done = await self.store.commit([], [Put(key_of(record, place), encode(record)) for record in records])
        await self.seen(done.revision)

    async def put_raw(self, key: str, value: bytes) -> None:
        await self.seen((await self.store.commit([], [Put(key, value)])).revision)

    async def remove(self, record: Record) -> None:
        await self.seen((await self.store.commit([], [Delete(key_of(record))])).revision)

    async def seen(self, revision: int) -> None:
        await until(lambda: self.service.responder.serial >= revision, f"revision {revision} is applied")

    async def udp(self, message: bytes, at: tuple[str, int] | None = None) -> bytes:
        loop = asyncio.get_running_loop()
        where = at or self.at
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            await loop.sock_connect(client, where)
            await loop.sock_sendall(client, message)
            async with asyncio.timeout(DEADLINE_S):
                return await loop.sock_recv(client, 65535)

    async def ask(self, name: str, rtype: str = "A", **options: Any) -> Said:
        return said(await self.udp(question(name, rtype, **options)))


@pytest.fixture
async def store() -> AsyncIterator[EmbeddedStore]:
    made = EmbeddedStore(quiet_s=0.2)
    yield made
    await made.close()


@pytest.fixture
async def run(store: EmbeddedStore) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    started: list[Running] = []

    async def starting(*, use: Store | None = None, **options: Any) -> Running:
        options.setdefault("listen", (("127.0.0.1", 0),))
        telemetry = Telemetry("dns", time.time)
        running = Running(DnsService(DnsSettings(**options), use or store, telemetry), use or store, telemetry)
        started.append(running)
        await running.start()
        return running

    yield starting
    for running in started:
        await running.stop()
