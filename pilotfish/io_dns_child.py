"""The DNS server as a child process, or several of them at the same addresses.

A child reads the store through its parent's feed: one watch, many readers, and nothing else that the parent does holds
its answers. It lives no longer than its parent, and is started again when it dies. Its status is on a unix socket; the
parent shows all as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from dnsserver.transport import io_addresses
from pilotfish.catalog import io_status, keys
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_feed import FeedServer, FeedStore
from pilotfish.catalog.io_follow import Backoff, Comparing, Follower
from pilotfish.catalog.io_log import set_up
from pilotfish.catalog.io_stores import open_etcd
from pilotfish.catalog.settings import Shared
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.run import Reloadable, run_until_signal, status_server

CHILD_CANNOT_START = 78  # EX_CONFIG of sysexits.h: trying again changes nothing
RELOAD = b"reload\n"
CHILD_STOP_S = 5.0  # a DNS server that was asked to end and still runs after this is ended
PRIORITY = 5  # by which its niceness is less than its parent's
STEADY_S = 10.0  # a child that ran this long was started well; the next start waits only shortly


class ChildOrders(msgspec.Struct, frozen=True):
    """What the DNS child is told on its standard input, as one line of JSON; the input's end is its own end.

    Attributes:
        settings: of the DNS server.
        feed: socket to read the store from.
        status: socket to show itself at.
        first: of several, the one that writes the snapshot and tells secondaries.
    """

    settings: DnsSettings
    feed: str
    status: str
    first: bool = True


class DnsChild:
    """The DNS server as a child process.

    Args:
        settings: its settings.
        run: folder of the sockets.
        telemetry: where its absence shows.
        number: which of several.
    """

    def __init__(self, settings: DnsSettings, run: Path, telemetry: Telemetry, number: int = 0) -> None:
        status = run / f"dns{number or ''}.sock"
        orders = ChildOrders(settings, str(run / "feed.sock"), str(status), first=not number)
        self.source = io_status.ChildSource(f"dns{number or ''}", status)
        self._name = f"dns process{f' {number}' if number else ''}"
        self._orders = msgspec.json.encode(orders, enc_hook=str) + b"\n"
        self._telemetry = telemetry
        self._process: asyncio.subprocess.Process | None = None

    def reload(self) -> None:
        """Have it compare everything with the store; a signal could come before it is ready for one."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(RELOAD)

    async def run(self) -> None:
        """Keep the child running until cancelled.

        Raises:
            CannotStart: it says that it cannot start, and has said why on standard error.
        """
        backoff, proven = Backoff(0.1, 5.0), False
        while True:
            started = time.monotonic()
            code = await self._run_once()
            if time.monotonic() - started >= STEADY_S:
                proven = True
                backoff.reset()
            if not proven and code == CHILD_CANNOT_START:
                raise CannotStart("the DNS server could not start, for the reason given above")
            self._telemetry.ready.bad(self._name, f"ended with code {code}, starting again")
            self._telemetry.log.warning("the DNS server ended, starting it again", extra={"code": code})
            await backoff.wait()

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pilotfish", "dns-child", stdin=asyncio.subprocess.PIPE
        )
        self._process = process
        try:
            if process.stdin is None:  # never so with PIPE; the type cannot say it
                return 1
            process.stdin.write(self._orders)
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            self._telemetry.ready.good(self._name)
            return await process.wait()
        finally:
            await _end(process)


def dns_children(settings: DnsSettings, run: Path, telemetry: Telemetry) -> list[DnsChild]:
    """As many children as there are to be workers; their sockets stand at the same addresses (SO_REUSEPORT)."""
    shared = dataclasses.replace(
        settings,
        cookie_secret=settings.cookie_secret or secrets.token_hex(16),  # a client may reach any of them
        rate_limit=-(-settings.rate_limit // settings.workers),
        query_log_rate=-(-settings.query_log_rate // settings.workers),
    )
    return [DnsChild(shared, run, telemetry, number) for number in range(settings.workers)]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the child's life line, and end it if that does not help."""
    if process.returncode is not None:
        return
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(CHILD_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def dns_child(orders: bytes) -> None:
    """What the child does: serve from the feed until standard input ends.

    It exits with CHILD_CANNOT_START when an address is taken, or not this host's, having said so.
    """
    given = msgspec.json.decode(orders, type=ChildOrders)
    set_up(given.settings.log_level, given.settings.log_format)
    _hurry()
    try:
        run_until_signal(_serve_child(given))
    except CannotStart as error:
        sys.stderr.write(f"pilotfish: {error}\n")
        sys.exit(CHILD_CANNOT_START)


# Answers come before what its parent does meanwhile: rendering takes both cores of a small host for a second.
# It takes the right to (CAP_SYS_NICE); without it, it is one process among others.
def _hurry() -> None:
    with contextlib.suppress(OSError):
        os.nice(-PRIORITY)


async def _serve_child(given: ChildOrders) -> None:
    telemetry = Telemetry("dns", time.time)
    store = FeedStore(Path(given.feed))
    service = DnsService(given.settings, store, telemetry, first=given.first)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
    app = io_status.application(io_status.LocalSource(telemetry, service.state))
    try:
        async with io_status.serving(app, Path(given.status)):
            serving = asyncio.create_task(service.run())
            parent = asyncio.create_task(_obey(service))
            await asyncio.wait({serving, parent}, return_when=asyncio.FIRST_COMPLETED)
            parent.cancel()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
    finally:
        await store.close()


async def _obey(service: DnsService) -> None:
    """Do what standard input says, until it ends: then the parent has ended, whichever way."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while word := await reader.readline():
        if word == RELOAD:
            service.reload()


def feed_for_children(
    settings: Shared, store: Store, run: Path, telemetry: Telemetry
) -> tuple[FeedServer, list[Follower]]:
    """What children read the store from, and what has to run so that it is up to date."""
    mirrors: dict[str, Follower] = {}
    feed = FeedServer(store, run / "feed.sock", mirrors)
    for prefix in (keys.ROOT, f"{settings.skydns_prefix}/"):
        publish = functools.partial(feed.publish, prefix)
        mirrors[prefix] = Follower(store, prefix, publish, telemetry, verify_s=settings.verify_s)
    return feed, list(mirrors.values())


def reread_at_hangup(followers: Sequence[Follower], parts: Sequence[Reloadable], telemetry: Telemetry) -> None:
    """At SIGHUP compare what children read from with the store, and have all parts do what they do then."""
    comparing = Comparing(telemetry.log)

    def reread() -> None:
        for part in parts:
            part.reload()
        comparing.begin(followers)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reread)


def run_workers(settings: DnsSettings) -> None:
    """Run several DNS servers at the same addresses on etcd, until a signal ends them.

    Raises:
        CannotStart: an address to listen at cannot be had.
    """
    for ip, port in () if settings.beside else io_addresses.expanded(settings.listen):
        io_addresses.check_free(ip, port)  # the workers share theirs, and so would not see that another has it
    run_until_signal(_serve_workers(settings))


async def _serve_workers(settings: DnsSettings) -> None:
    telemetry = Telemetry("dns", time.time)
    store = open_etcd(settings)
    with _sockets() as run:
        feed, followers = feed_for_children(settings, store, run, telemetry)
        children = dns_children(settings, run, telemetry)
        reread_at_hangup(followers, children, telemetry)
        sources = [io_status.LocalSource(telemetry, lambda: {"workers": len(children)})]
        try:
            async with (
                status_server(io_status.application(*sources, *(child.source for child in children)), settings),
                feed.serving(),
                asyncio.TaskGroup() as tasks,
            ):
                for follower in followers:
                    tasks.create_task(follower.run())
                for child in children:
                    tasks.create_task(child.run())
        finally:
            await store.close()


@contextlib.contextmanager
def _sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pilotfish-dns-") as folder:
        yield Path(folder)
