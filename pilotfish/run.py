"""Runs one part in this process: store, status server, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from aiohttp import web

from pilotfish.catalog import io_status
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_stores import open_etcd
from pilotfish.catalog.settings import Shared
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry

S = TypeVar("S", bound=Shared)
ENOUGH_FILES = 16_384  # for the DNS server's TCP clients; nginx's workers have a limit of their own


class Service(Protocol):
    """What every part's service offers."""

    async def run(self) -> None:
        """Serve until cancelled; then let go of everything."""
        ...

    def state(self) -> Mapping[str, object]:
        """What /api/state shows."""
        ...


@runtime_checkable
class Reloadable(Protocol):
    """A service that can be told to look at everything anew (SIGHUP)."""

    def reload(self) -> None:
        """Do so, without waiting for it."""
        ...


class Once(Protocol):
    """A service that can do its work once and end."""

    async def once(self) -> None:
        """Do it."""
        ...


async def do_once(part: str, settings: S, make: Callable[[S, Store, Telemetry], Once]) -> None:
    """Let a part do its work once, on etcd, without a status server: the address may be that of one that stays."""
    store = open_etcd(settings)
    try:
        await make(settings, store, Telemetry(part, time.time)).once()
    finally:
        await store.close()


async def serve_part(part: str, settings: S, make: Callable[[S, Store, Telemetry], Service]) -> None:
    """Run one part on etcd until it ends or is cancelled."""
    telemetry = Telemetry(part, time.time)
    store = open_etcd(settings)
    try:
        service = make(settings, store, telemetry)
        if isinstance(service, Reloadable):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
        app = io_status.application(io_status.LocalSource(telemetry, service.state))
        async with status_server(app, settings):
            await service.run()
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def status_server(app: web.Application, settings: Shared) -> AsyncIterator[None]:
    """The status server at --status.

    Raises:
        CannotStart: the address is taken.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(io_status.serving(app, settings.status))
        except OSError as error:
            raise CannotStart(f"{error.strerror}; choose another address with --status") from error
        yield


def run_until_signal(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine until it ends, or SIGTERM or SIGINT cancels it.

    Raises:
        CannotStart: the first that the coroutine raised, also out of a group.
    """
    raise_file_limit()

    async def watched() -> None:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, lambda: None)  # a second one must not cut the orderly end short
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(watched())
    except BaseExceptionGroup as group:
        raise _cause(group) from group


def raise_file_limit() -> None:
    """Use more files if we may: a thousand TCP clients use up the usual soft limit of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < ENOUGH_FILES:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, ENOUGH_FILES), hard))


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception to report of a group: a reason not to start if there is one, else the first."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending += error.exceptions
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, CannotStart)), leaves[0])
