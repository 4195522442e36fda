"""Steady load and open WebSockets through nginx, while endpoints come and go and nginx is told again and again.

A real confgen on a real etcd and nginx; one service of ten servers, which all live all the time: whatever fails is our
doing. Requests come at a steady rate, each on a connection of its own and by GET and POST in turn; the WebSockets stay
open and are spoken to once a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp

from bench.estate import DOMAIN, Estate, container_here
from bench.figures import percentile, table
from bench.machine import family, memory_mb
from bench.parts import LOCAL, Folder, Part, etcd, folder
from lab.waiting import wait_until
from pilotfish.catalog import keys
from pilotfish.catalog.io_stores import open_etcd
from pilotfish.catalog.record import Claim, encode
from pilotfish.catalog.route import Place
from pilotfish.catalog.settings import EtcdOptions
from pilotfish.catalog.store import Delete, Put, Store
from tests.parts import checker
from tests.parts.aside import Aside
from tests.parts.checker import Sent
from tests.parts.ports import free_port

ESTATE = Estate(services=100, each=10, proxied=True)  # beside the one that is asked
SERVERS, FEWEST = 10, 5
CHANGES = 1000
SECONDS = 80.0
RATE = 300
SOCKETS = 50
ANSWER_WITHIN_S = 5.0
NODE = "here"
HOST = f"shop.{DOMAIN}"
APP = Path(__file__).parents[1] / "lab/app.py"
HEADS = (
    "requests", "failed", "p50 ms", "p99 ms", "longest ms", "WebSockets", "broken", "echoes", "most workers",
    "nginx MB", "changes", "reloads",
)  # fmt: skip


class Nginx(NamedTuple):
    """Its processes at a moment: how many workers, and 10^6 octets of all."""

    workers: int
    memory: float


def run(changes: int = CHANGES, seconds: float = SECONDS) -> None:
    """Measure, and print a table of one row."""
    with folder("lab") as place:
        place.path.chmod(0o755)
        row = asyncio.run(_measured(place, changes, seconds))
    title = f"nginx under {RATE} requests/s while {changes:,} endpoint changes come in {seconds:g} s"
    print(table(title, HEADS, [row]), flush=True)


async def _measured(place: Folder, changes: int, seconds: float) -> tuple[str, ...]:
    url, ports = await asyncio.to_thread(etcd, place, ESTATE), [free_port() for _ in range(SERVERS)]
    await asyncio.to_thread(_servers, place, ports)
    store, port = open_etcd(EtcdOptions(etcd=(url,))), free_port()
    shop = _Shop(store, ports)
    try:
        await shop.open()
        part = Part(
            place, "confgen", "--etcd", url, "--node-name", NODE, "--ip", LOCAL, "--http-port", str(port),
            "--nginx-dir", str(place.path / "nginx"), "--nginx-bin", str(place.tools.find("nginx")),
            "--nginx-on-exit", "quit",
        )  # fmt: skip
        await asyncio.to_thread(part.wait_ready)
        before = await asyncio.to_thread(_reloads, part)
        row = await _under_load(place.path, port, shop.change(changes, seconds))
        reloads = await asyncio.to_thread(_reloads, part) - before
        return (*row, f"{changes:,}", f"{reloads:.0f}")
    finally:
        await store.close()


async def _under_load(path: Path, port: int, change: Coroutine[None, None, None]) -> tuple[str, ...]:
    """Let changes happen under load, and what came of it; of a row, all but the changes."""
    load = Aside(
        checker.__name__,
        ["--proxy", f"{LOCAL}:{port}", "--host", HOST, "--rate", str(RATE), "--workers", "32", "--method", "GET",
         "--method", "POST", "--seconds", "3600"],
        path / "load.log",
    )  # fmt: skip
    sockets = [_Socket(port) for _ in range(SOCKETS)]
    looks: list[Nginx] = []
    async with load, aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        talks = [tasks.create_task(one.talk(session)) for one in sockets]
        await load.until_answered(RATE)
        talks.append(tasks.create_task(_watch(path / "nginx/run/nginx.pid", looks)))
        await change
        await load.until_answered(2 * RATE)
        for task in talks:
            task.cancel()
    rows = load.rows(Sent)
    times = [row.took_s * 1000 for row in rows if row.status == 200]
    broken = [one.broken for one in sockets if one.broken]
    if broken:
        print(f"WebSockets: {broken[:5]}", file=sys.stderr)
    return (
        f"{len(rows):,}", str(len(rows) - len(times)), f"{percentile(times, 50):.1f}", f"{percentile(times, 99):.1f}",
        f"{max(times):.0f}", str(SOCKETS), str(len(broken)), f"{sum(one.echoes for one in sockets):,}",
        str(max(one.workers for one in looks)), f"{max(one.memory for one in looks):.0f}",
    )  # fmt: skip


class _Shop:
    """The service that is asked: its records in the store, and who of its servers is in."""

    def __init__(self, store: Store, ports: list[int]) -> None:
        self._store, self._ports = store, ports
        self._there, self._out = list(range(SERVERS)), list[int]()

    async def open(self) -> None:
        """Claim its host and write its records."""
        await self._store.commit([], [Put(keys.claim_key(Place(HOST, "/")), encode(Claim(service="shop", since=1.0)))])
        await self._store.commit([], [Put(_key(one), _record(one, self._ports[one])) for one in self._there])

    async def change(self, changes: int, seconds: float) -> None:
        """Take the oldest that is in out, put the oldest that is out back, and so on; at least half are in."""
        began = time.monotonic()
        for number in range(changes):
            await asyncio.sleep(max(0.0, began + number * seconds / changes - time.monotonic()))
            if len(self._there) > FEWEST and (number % 2 == 0 or not self._out):
                self._out.append(self._there.pop(0))
                await self._store.commit([], [Delete(_key(self._out[-1]))])
            else:
                self._there.append(self._out.pop(0))
                back = self._there[-1]
                await self._store.commit([], [Put(_key(back), _record(back, self._ports[back]))])


class _Socket:
    """One WebSocket, spoken to once a second.

    Attributes:
        echoes: answers that came back as they were sent.
        broken: why it ended before its time; "" while it lives.
    """

    def __init__(self, port: int) -> None:
        self.echoes, self.broken = 0, ""
        self._url = f"http://{LOCAL}:{port}/socket"

    async def talk(self, session: aiohttp.ClientSession) -> None:
        """For ever, or until it breaks."""
        try:
            async with session.ws_connect(self._url, headers={"Host": HOST}, timeout=_PATIENCE) as socket:
                while not self.broken:
                    await socket.send_str(f"{self.echoes}")
                    said = await socket.receive_str(timeout=ANSWER_WITHIN_S)
                    self.broken = "" if said == f"{self.echoes}" else f"{said} came back instead of {self.echoes}"
                    self.echoes += 1
                    await asyncio.sleep(1.0)
        except (aiohttp.ClientError, TimeoutError, TypeError, OSError) as error:
            self.broken = f"{type(error).__name__}: {error}"


_PATIENCE = aiohttp.ClientWSTimeout(ws_close=0.2)


async def _watch(pid_file: Path, looks: list[Nginx]) -> None:
    """Look at nginx's processes twice a second, until cancelled."""
    while True:
        looks.append(await asyncio.to_thread(_look, pid_file))
        await asyncio.sleep(0.5)


def _look(pid_file: Path) -> Nginx:
    processes = family(int(pid_file.read_text(encoding="ascii")))
    return Nginx(len(processes) - 1, sum(_memory(processes)))


def _memory(processes: list[int]) -> Iterator[float]:
    for pid in processes:
        try:
            yield memory_mb(pid)[0]
        except (OSError, KeyError):  # it has just ended
            continue


def _reloads(part: Part) -> float:
    """Configurations that were applied, or tried, so far."""
    lines = [
        line for line in part.get("/metrics").splitlines() if line.startswith("pilotfish_confgen_configurations_t")
    ]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def _servers(place: Folder, ports: list[int]) -> None:
    env = ["env", f"PORTS={','.join(map(str, ports))}", "NAME=shop"]
    process = place.start("servers", [*env, sys.executable, str(APP)])
    wait_until(lambda: '"listening"' in process.text(), within_s=10, what="the servers to listen")


def _key(number: int) -> str:
    return keys.container_key(NODE, f"{number:064x}")


def _record(number: int, port: int) -> bytes:
    return encode(container_here(NODE, "shop", number, port))
