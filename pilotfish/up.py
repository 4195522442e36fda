"""`pilotfish up`: every part together on one host, over the embedded store or etcd.

The registrator and the config generator run in this process; the DNS server is a child that reads the store through the
feed, so that rendering never holds its answers. The child lives no longer than its parent and is started again when it
dies. Status, readiness and metrics of all are shown as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from confgen.service import ConfgenService
from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from pilotfish.catalog import io_status, keys
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_feed import FeedServer, FeedStore
from pilotfish.catalog.io_follow import Backoff, Follower
from pilotfish.catalog.io_log import set_up
from pilotfish.catalog.io_stores import open_embedded, open_etcd
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.run import run_until_signal, status_server
from pilotfish.settings import Everything
from pilotfish.welcome import welcome
from registrator.service import RegistratorService

ANNOUNCE_S = 10.0  # after this the greeting is printed, with what is missing
CHILD_CANNOT_START = 78  # EX_CONFIG of sysexits.h: trying again changes nothing
CHILD_STOP_S = 3.0  # a DNS server that was asked to end and still runs after this is ended
STEADY_S = 10.0  # a child that ran this long was started well; the next start waits only shortly


class ChildOrders(msgspec.Struct, frozen=True):
    """What the DNS child is told on its standard input, as one line of JSON; the input's end is its own end."""

    settings: DnsSettings
    feed: str
    status: str


def run(everything: Everything, say: Callable[[str], None]) -> None:
    """Run all parts until a signal ends them.

    Args:
        everything: the settings.
        say: gets the lines that are printed once all are ready.

    Raises:
        CannotStart: a part cannot start; the message says which and why.
    """

    def announce(missing: Mapping[str, str]) -> None:
        say(welcome(everything, missing))

    run_until_signal(serve_everything(everything, announce))


async def serve_everything(everything: Everything, announce: Callable[[Mapping[str, str]], None]) -> None:
    """Run all parts until cancelled.

    Args:
        everything: the settings.
        announce: called once, when all parts are ready or after 10 s, with what is missing.

    Raises:
        CannotStart: a part cannot start; the message says which and why.
    """
    up = Telemetry("up", time.time)
    registrator_telemetry, confgen_telemetry = Telemetry("registrator", time.time), Telemetry("confgen", time.time)
    run = everything.data / "run"
    async with _opened(everything) as store:
        registrator = RegistratorService(everything.registrator, store, registrator_telemetry)
        confgen = ConfgenService(everything.confgen, store, confgen_telemetry)
        mirrors: dict[str, Follower] = {}
        feed = FeedServer(store, run / "feed.sock", mirrors)
        for prefix in (keys.ROOT, f"{everything.up.skydns_prefix}/"):
            publish = functools.partial(feed.publish, prefix)
            mirrors[prefix] = Follower(store, prefix, publish, up, verify_s=everything.up.verify_s)
        child = DnsChild(everything.dns, run, up)
        sources: list[io_status.Source] = [
            io_status.LocalSource(up, lambda: {"node": everything.up.node_name, "data": str(everything.data)}),
            io_status.LocalSource(registrator_telemetry, registrator.state),
            io_status.LocalSource(confgen_telemetry, confgen.state),
            io_status.ChildSource("dns", run / "dns.sock"),
        ]
        # The feed ends after everything that reads it.
        async with (
            status_server(io_status.application(*sources), everything.up),
            feed.serving(),
            asyncio.TaskGroup() as tasks,
        ):
            for follower in mirrors.values():
                tasks.create_task(follower.run())
            tasks.create_task(child.run())
            tasks.create_task(registrator.run())
            tasks.create_task(confgen.run())
            tasks.create_task(_announce(sources, announce))


@contextlib.asynccontextmanager
async def _opened(everything: Everything) -> AsyncIterator[Store]:
    store: Store = (
        open_etcd(everything.up) if everything.up.etcd else open_embedded(everything.data / "store" / "catalog.db")
    )
    try:
        yield store
    finally:
        await store.close()


async def _announce(sources: list[io_status.Source], announce: Callable[[Mapping[str, str]], None]) -> None:
    deadline = time.monotonic() + ANNOUNCE_S
    missing: dict[str, str] = {"everything": "just started"}
    while missing and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        found = [(source.name, await source.missing()) for source in sources]
        missing = {f"{part}: {what}": why for part, each in found for what, why in each.items()}
    announce(missing)


class DnsChild:
    """The DNS server as a child process.

    Args:
        settings: its settings.
        run: folder of the sockets.
        telemetry: where its absence shows.
    """

    def __init__(self, settings: DnsSettings, run: Path, telemetry: Telemetry) -> None:
        orders = ChildOrders(settings, str(run / "feed.sock"), str(run / "dns.sock"))
        self._orders = msgspec.json.encode(orders, enc_hook=str) + b"\n"
        self._telemetry = telemetry

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
            self._telemetry.ready.bad("dns process", f"ended with code {code}, starting again")
            self._telemetry.log.warning("the DNS server ended, starting it again", extra={"code": code})
            await backoff.wait()

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pilotfish", "dns-child", stdin=asyncio.subprocess.PIPE
        )
        try:
            if process.stdin is None:  # never so with PIPE; the type cannot say it
                return 1
            process.stdin.write(self._orders)
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            self._telemetry.ready.good("dns process")
            return await process.wait()
        finally:
            await _end(process)


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
    try:
        run_until_signal(_serve_child(given))
    except CannotStart as error:
        sys.stderr.write(f"pilotfish: {error}\n")
        sys.exit(CHILD_CANNOT_START)


async def _serve_child(given: ChildOrders) -> None:
    telemetry = Telemetry("dns", time.time)
    store = FeedStore(Path(given.feed))
    service = DnsService(given.settings, store, telemetry)
    app = io_status.application(io_status.LocalSource(telemetry, service.state))
    try:
        async with io_status.serving(app, Path(given.status)):
            serving = asyncio.create_task(service.run())
            parent = asyncio.create_task(_parent_gone())
            await asyncio.wait({serving, parent}, return_when=asyncio.FIRST_COMPLETED)
            parent.cancel()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
    finally:
        await store.close()


async def _parent_gone() -> None:
    """Wait for the end of standard input: the parent has ended, whichever way."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
