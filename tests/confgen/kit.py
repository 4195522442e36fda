"""Builders and real parts that the tests of confgen share."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

from confgen.applying.io_processes import everybody, look, workers_of
from confgen.nginx.layout import Machine
from confgen.nginx.render import Renderer, builtin_templates
from confgen.nginx.rights import ViewSettings
from confgen.nginx.view import Views
from confgen.service import ConfgenService
from confgen.settings import ConfgenSettings
from pilotfish.catalog import keys
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Address, Claim, Container, Endpoint, Node, Proxy, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place, Reserved, Route
from pilotfish.catalog.store import Delete, Entry, Put
from pilotfish.catalog.telemetry import Telemetry
from tests.parts.ports import free_port

DOMAIN = "svc.test"
NODE = "h1"
DEADLINE_S = 20.0


def endpoint(service, port=80, *, name=None, node=NODE, ip="127.0.0.1", to=None, scheme="http", route=True, **more):
    """A published endpoint of `service`, served at `<service>.svc.test`."""
    name = name or service
    known = {"hosts", "path", "strip", "backend", "options", "cert", "hsts", "http", "dest", "port_"}
    wishes = {key.rstrip("_"): value for key, value in more.items() if key in known}
    wish = Route(scheme=scheme, **wishes) if route else None
    rest = {key: value for key, value in more.items() if key not in known}
    rest.setdefault("state", "passing")
    rest.setdefault("addresses", (Address(ip=ip, port=to or port, scope="node"), Address("10.0.0.9", port, "lan")))
    return Endpoint(
        service=service,
        id=f"{node}:{name}:{port}",
        label=f"{node}-{name}-{port}".lower()[:60],
        port=port,
        route=wish,
        **rest,
    )


def container(name, *endpoints, node=NODE, observed=0.0):
    """A container record; its id is made of its name."""
    return Container(
        node=node, id=name.encode().hex().ljust(12, "0")[:64], name=name, image="i", started=1.0, observed=observed,
        endpoints=endpoints,
    )  # fmt: skip


def put(record, place=None, revision=1):
    key = key_of(record, place)
    return Entry(key, encode(record), revision, revision)


def key_of(record, place=None):
    match record:
        case Container():
            return keys.container_key(record.node, record.id)
        case Claim():
            return keys.claim_key(place)
        case Node():
            return keys.node_key(record.node)
        case Proxy():
            return keys.proxy_key(record.node)
    raise AssertionError(record)


def claim(service, host, path="/", since=1.0, revision=1):
    return put(Claim(service=service, since=since), Place(host, path), revision)


class Catalog:
    """A registry with views on top, fed entry by entry."""

    def __init__(self, node=NODE, domains=(DOMAIN,), reserved=()):
        self.registry = Registry()
        self.views = Views(ViewSettings(node, domains, Reserved(domains, tuple(reserved))))
        self.revision = 0

    def feed(self, *entries, deletes=()):
        self.revision += 1
        touched = self.registry.apply(Difference(self.revision, entries, tuple(deletes)))
        return self.views.update(self.registry, touched)

    def notes(self, service):
        view = self.views.services.get(service)
        return [(note.subject, note.reason) for note in view.notes] if view else []

    def places(self):
        """`host + path -> (service, sorted servers)`, as the configuration would route it."""
        found = {}
        for view in self.views.services.values():
            for site in (*view.sites, *(site for _, site in view.parts)):
                for host in site.hosts:
                    for location in site.locations:
                        servers = [one.address.text for one in location.upstream.servers] if location.upstream else []
                        assert host.text + location.path not in found
                        found[host.text + location.path] = (view.name, servers)
        return found


def machine(folder="/srv/nginx", port=8080, **more):
    facts = {"ipv6": False, "workers": 2, "files_limit": 1024, **more}
    return Machine(folder=str(folder), http_port=port, **facts)


@functools.lru_cache
def compiled(facts):
    """A renderer that nobody may render with: compiling the templates is most of what a small rendering costs."""
    return Renderer(facts, builtin_templates())


def tree_of(catalog, folder="/srv/nginx", port=8080, templates=None, **more):
    facts = machine(folder, port, **more)
    env = compiled(facts)._env
    renderer = Renderer(facts, templates) if templates else copy.deepcopy(compiled(facts), {id(env): env})
    views = catalog.views
    return renderer.render(views.services, views.services, views.host_count, views.longest_host)


async def until(holds, what="", seconds=DEADLINE_S):
    """Wait for a condition; what it returns when it holds."""
    deadline = time.monotonic() + seconds
    while True:
        value = holds()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or holds}")
        await asyncio.sleep(0.01)


def plain(name, *ports):
    """A service with an endpoint at each port of this host, and its claim to its own host."""
    ends = (endpoint(name, 80 + turn, to=port) for turn, port in enumerate(ports))
    return put(container(name, *ends)), claim(name, f"{name}.{DOMAIN}")


@dataclass
class Answer:
    status: int
    headers: dict
    body: str


async def get(port, host, path="/", *, method="GET", body="", headers=()):
    """One HTTP request on a connection of its own."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    )
    async with asyncio.timeout(10.0):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write((head + body).encode())
            raw = await reader.read()
        finally:
            writer.close()
    top, _, rest = raw.decode(errors="replace").partition("\r\n\r\n")
    first, *lines = top.split("\r\n")
    return Answer(int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), rest)


@dataclass
class Backend:
    """A small HTTP server that remembers its requests and can misbehave.

    Attributes:
        mood: "answer", "drop" (close after reading a request), "drop reused" (the same, on a connection's second) or
            "silent" (never answer).
        body: what it answers; empty: its name and the request.
        headers: further ones of its answers.
        tls: how it speaks TLS; None: it does not.
    """

    name: str
    mood: str = "answer"
    requests: list = field(default_factory=list)
    port: int = 0
    connections: int = 0
    body: str = ""
    headers: list = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self._writers = set()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        turn = 0
        try:
            while await self._one(reader, writer, turn):
                turn += 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader, writer, turn):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split()
        self.requests.append((method, path, headers, body.decode()))
        if self.mood == "drop" or (self.mood == "drop reused" and turn):
            return False
        if self.mood == "silent":
            await reader.read()
            return False
        if headers.get("upgrade") == "websocket":
            await self._upgraded(reader, writer)
            return False
        answer = (self.body or f"{self.name} {method} {path}").encode()
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        kind = "Content-Type: text/plain\r\n" if self.body else ""
        writer.write(f"HTTP/1.1 200 OK\r\n{kind}{more}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)
        await writer.drain()
        return True

    async def _upgraded(self, reader, writer):
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while piece := await reader.read(1024):
            writer.write(piece)
            await writer.drain()


def modules_of(program):
    """The loadable modules of an nginx that was unpacked, not installed; those of an installed one it knows itself."""
    beside = Path(program).parent.parent / "lib" / "nginx" / "modules"
    return str(beside) if beside.is_dir() else ""


class Running:
    """A config generator over an embedded store and a real nginx."""

    def __init__(self, folder: Path, program, *, port=None, templates=None, store=None, **settings):
        self.port = port or free_port()
        self.folder = folder
        self.store = store or EmbeddedStore(quiet_s=1.0)
        self._keep_store = store is not None
        self.settings = ConfgenSettings(
            node_name=NODE, domain=(DOMAIN,), nginx_dir=str(folder), nginx_bin=str(program),
            http_port=self.port,
            **{"nginx_modules": modules_of(program), "ip": ("10.0.0.1",), "wait_s": 0.05, "quiet_s": 0.05,
               "nginx_on_exit": "quit", **settings},
        )  # fmt: skip
        self.telemetry = Telemetry("confgen", time.time)
        self.service = ConfgenService(self.settings, self.store, self.telemetry, templates)
        self._own_templates = templates is None

    async def __aenter__(self):
        self.task = asyncio.create_task(self.service.run())
        return self

    async def __aexit__(self, failed, *_):
        await self.stop()
        if not self._keep_store:
            await self.store.close()
        if self._own_templates and failed is None:
            assert self.service._applier.in_vain == 0  # whatever is served, each excerpt of it stands for itself

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def write(self, *entries, deletes=()):
        done = await self.store.commit([], [*(Put(one.key, one.value) for one in entries), *map(Delete, deletes)])
        assert done.succeeded
        return done.revision

    async def applied(self, revision):
        """Wait until this revision is served."""
        await until(
            lambda: self._failed() or self.service.state()["revision"] >= revision, f"revision {revision} served"
        )

    async def settle(self, *entries, deletes=()):
        await self.applied(await self.write(*entries, deletes=deletes))

    def _failed(self):
        if self.task.done():
            self.task.result()
        return False

    @property
    def state(self):
        return self.service.state()

    @property
    def pid(self):
        return self.state["nginx"]["pid"]


async def all_workers(running):
    """The workers, once all are there: the first may answer before the last is forked."""
    count = len(os.sched_getaffinity(0))
    return await until(lambda: len(found := workers_of(running.pid)) == count and found, f"{count} workers")


def kill_nginx(folder: Path):
    """End whatever nginx a test left behind, by the pid in its folder."""
    pid_file = folder / "run" / "nginx.pid"
    if not pid_file.exists() or not pid_file.read_text().strip().isdigit():
        return
    master = int(pid_file.read_text())
    for process in everybody():
        if process.session == master and process.title.startswith("nginx:"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, 9)
    deadline = time.monotonic() + 5
    while look(master) and time.monotonic() < deadline:
        time.sleep(0.01)
