"""`pilotfish up`: every part together on one host, over the embedded store or etcd.

The registrator and the config generator run in this process; the DNS server is a child, or several, so that rendering
never holds its answers (`io_dns_child`). Status, readiness and metrics of all are shown as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

from confgen.io_beside import confgen_service
from pilotfish.catalog import io_status
from pilotfish.catalog.io_stores import open_embedded, open_etcd
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.io_dns_child import dns_children, feed_for_children, reread_at_hangup
from pilotfish.run import run_until_signal, status_server
from pilotfish.settings import Everything
from pilotfish.welcome import welcome
from registrator.io_fleet import registrator as make_registrator

ANNOUNCE_S = 10.0  # after this the greeting is printed, with what is missing


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
        registrator = make_registrator(everything.registrator, store, registrator_telemetry)
        confgen = confgen_service(everything.confgen, store, confgen_telemetry)
        feed, followers = feed_for_children(everything.up, store, run, up)
        children = dns_children(everything.dns, run, up)
        reread_at_hangup(followers, [*children, registrator, confgen], up)
        sources: list[io_status.Source] = [
            io_status.LocalSource(up, lambda: {"node": everything.up.node_name, "data": str(everything.data)}),
            io_status.LocalSource(registrator_telemetry, registrator.state),
            io_status.LocalSource(confgen_telemetry, confgen.state),
            *(child.source for child in children),
        ]
        # The feed ends after everything that reads it.
        async with (
            status_server(io_status.application(*sources), everything.up),
            feed.serving(),
            asyncio.TaskGroup() as tasks,
        ):
            for follower in followers:
                tasks.create_task(follower.run())
            for child in children:
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
