"""nginx in three ways of hearing about endpoints, as configurations, and what is needed to run them on loopback.

Two are the config generator's own (`--nginx-endpoints`). The third resolves its servers by DNS, as nginx does by itself
since 1.27.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.machine import family
from confgen.service import ConfgenService
from confgen.settings import ConfgenSettings
from lab.tools import Tools
from lab.waiting import LabError, wait_until
from pilotfish.catalog import keys
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.record import Address, Claim, Container, Endpoint, encode
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.store import Put
from pilotfish.catalog.telemetry import Telemetry
from tests.parts.ports import free_port

DOMAIN, NODE = "svc.internal", "here"
SERVICES, BACKENDS = 1000, 20
PORTS = [21000 + number for number in range(BACKENDS)]
IN_A_ROW = 5
WITHIN_S = 20.0
STARTED_WITHIN_S = 300.0  # with ten thousand services
PLAIN = """
worker_processes 2; pid {folder}/pid; error_log {folder}/error.log warn; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server_names_hash_max_size 4096; keepalive_requests 100000;
{http}
}}
"""


def backends(ports: list[int]) -> str:
    """A server for each port that answers with its port."""
    return "\n".join(
        f"    server {{ listen 127.0.0.1:{port}; add_header X-Request $connection_requests; return 200 $server_port; }}"
        for port in ports
    )


RESOLVING = """
    resolver 127.0.0.1:{dns} valid=1s ipv6=off; resolver_timeout 2s;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
"""
RESOLVED = """
    upstream {name} {{ zone all 32m; server {target} resolve max_fails=1 fail_timeout=1s; keepalive 8; }}
    server {{ listen {port}; server_name {name}.svc.internal; location / {{ proxy_pass http://{name}; }} }}
"""


def resolving(services: list[str], port: int, dns: int, target: str) -> str:
    """A proxy whose upstreams are SRV names; `target` makes the server's name of a service's."""
    each = (RESOLVED.format(name=name, target=target.format(name=name), port=port) for name in services)
    return RESOLVING.format(dns=dns) + "".join(each)


def by_hand(port: int, servers: list[int]) -> str:
    """A proxy as somebody writes it for one service."""
    members = " ".join(f"server 127.0.0.1:{one};" for one in servers)
    return (
        f"    upstream web {{ {members} keepalive 16; }}\n"
        f"    server {{ listen {port}; location / {{ proxy_pass http://web; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; proxy_set_header Host $host; } }'
    )


class Master:
    """An nginx that was started on a configuration."""

    def __init__(self, program: Path | str, folder: Path, config: Path, pid_file: Path) -> None:
        self._program, self._folder, self._config, self._pid_file = program, folder, config, pid_file
        self.start()

    def start(self) -> None:
        """Start it; it becomes a daemon."""
        self._pid_file.unlink(missing_ok=True)
        errors = str(self._folder / "error.log")
        subprocess.run(
            [self._program, "-p", f"{self._folder}/", "-e", errors, "-c", self._config], check=True, timeout=30
        )
        wait_until(
            lambda: self._pid_file.exists() and bool(self._pid_file.read_text().strip()), within_s=10, what="a pid"
        )
        self.pid = int(self._pid_file.read_text())

    def end(self) -> None:
        """End it and all its workers."""
        end(self.pid)


def end(pid: int) -> None:
    """End a process and all that come from it."""
    for each in reversed(family(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), within_s=10, what="nginx ended")


def plain(program: Path | str, folder: Path, http: str) -> Master:
    """An nginx on a configuration that is written out here."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(PLAIN.format(folder=folder, http=http), encoding="utf-8")
    return Master(program, folder, config, folder / "pid")


def name_of(service: int) -> str:
    """Name of the n-th service."""
    return f"s{service:05}"


def record(service: int, *ports: int, proxied: bool = True) -> Put:
    """The container of a service, with an endpoint for each port."""
    endpoints = tuple(
        Endpoint(
            service=name_of(service),
            id=f"{NODE}:{name_of(service)}:{8080 + turn}",
            label=f"{NODE}-{name_of(service)}-{8080 + turn}",
            port=8080 + turn,
            addresses=(Address("127.0.0.1", port, "node"), Address("127.0.0.1", port, "lan")),
            route=Route("http") if proxied else None,
            state="passing",
        )
        for turn, port in enumerate(ports)
    )
    made = Container(NODE, f"{service:012x}", name_of(service), "image", 1.0, 1.0, endpoints)
    return Put(keys.container_key(made.node, made.id), encode(made))


async def filled(*, proxied: bool, two: int = -1, services: int = SERVICES) -> EmbeddedStore:
    """A store with all services, one endpoint each; the service `two` has two."""
    store = EmbeddedStore(quiet_s=1.0)
    for service in range(services):
        ports = PORTS[: 2 if service == two else 1]
        claim = encode(Claim(service=name_of(service), since=1.0))
        place = Place(f"{name_of(service)}.{DOMAIN}", "/")
        claims = [Put(keys.claim_key(place), claim)] if proxied else []
        await store.commit([], [record(service, *ports, proxied=proxied), *claims])
    return store


async def ask(port: int, host: str) -> tuple[int, str]:
    """Status and body of one request over a new connection; 0 for none."""
    try:
        async with asyncio.timeout(3.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            answer = (await reader.read()).decode(errors="replace")
            writer.close()
    except (OSError, TimeoutError):
        return 0, ""
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


async def until(port: int, host: str, body: str, within_s: float = WITHIN_S) -> float:
    """The moment of the monotonic clock from which new connections meet this answer; infinite: not in time."""
    begun, since, row = time.monotonic(), 0.0, 0
    while row < IN_A_ROW:
        if time.monotonic() - begun > within_s:
            return float("inf")
        _, found = await ask(port, host)
        row = row + 1 if found == body else 0
        since = time.monotonic() if row == 1 else since
        await asyncio.sleep(0.002)
    return since


class Generator:
    """A config generator with its nginx, over a store of its own.

    Attributes:
        port: where nginx serves.
    """

    def __init__(self, folder: Path, how: str, store: EmbeddedStore) -> None:
        self.folder, self.port, self.store = folder, free_port(), store
        self._tools = Tools(["lua" if how == "lua" else "lab"])
        self._settings = ConfgenSettings(
            node_name=NODE, domain=(DOMAIN,), nginx_dir=str(folder), nginx_bin=str(self._tools.find("nginx")),
            nginx_endpoints=how, nginx_modules=str(self._tools.nginx_modules), http_port=self.port, ip=("127.0.0.1",),
        )  # fmt: skip
        self.begin()

    def begin(self) -> None:
        """Start the config generator, which starts nginx or finds it."""
        service = ConfgenService(self._settings, self.store, Telemetry("confgen", time.time))
        self._task = asyncio.create_task(service.run())

    async def die(self) -> None:
        """End the config generator; nginx goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def pid(self) -> int:
        """Of nginx's master."""
        return int((self.folder / "run" / "nginx.pid").read_text())

    def start(self) -> None:
        """Start nginx as somebody does who knows nothing of the config generator."""
        subprocess.run(
            [self._tools.find("nginx"), "-p", f"{self.folder}/", "-e", self.folder / "logs" / "error.log",
             "-c", self.folder / "current" / "nginx.conf"],
            check=True, timeout=30,
        )  # fmt: skip

    def end(self) -> None:
        """End nginx and all its workers."""
        end(self.pid)


@contextlib.asynccontextmanager
async def generator(folder: Path, how: str, store: EmbeddedStore | None = None) -> AsyncIterator[Generator]:
    """A config generator that serves all services; what it started has ended afterwards, and its store is closed."""
    store = store or await filled(proxied=True)
    running = Generator(folder, how, store)
    try:
        if await until(running.port, f"{name_of(0)}.{DOMAIN}", str(PORTS[0]), STARTED_WITHIN_S) == float("inf"):
            raise LabError(f"nginx does not serve what it should: {folder}")
        yield running
    finally:
        await running.die()
        running.end()
        await store.close()
