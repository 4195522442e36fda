"""Containers as nginx-proxy's own tests have them, with its variables, and what those tests ask and expect.

A case is one of its test folders: containers with its tags, what its proxy is told, and a row for each expectation. Our
containers go the whole way: variables, record, store, configuration, answer. Their web server is written anew here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from pilotfish.catalog.record import Address
from pilotfish.catalog.route import places_of
from tests.confgen.asking import hashed
from tests.confgen.kit import DOMAIN, NODE, Running, claim, put
from tests.parts.ports import free_port
from tests.registrator.builders import decide

CHALLENGE = "/.well-known/acme-challenge/test-filename"
REFUSED = "refused"  # instead of a status: the TLS handshake is

# Cases


@dataclass(frozen=True)
class Web:
    """A container: what it listens on, nginx-proxy's variables, ours for its files and labels, its network's mode."""

    name: str
    ports: tuple[int, ...]
    env: Mapping[str, str]
    ours: tuple[str, ...] = ()
    mode: str = "default"

    @property
    def tags(self):
        theirs = (f"{name}={value}" for name, value in self.env.items())
        return [f"SERVICE_NAME={self.name}", *theirs, *self.ours]


def web(name, *ports, ours=(), mode="default", **env):
    """A container that listens on these ports."""
    return Web(name, ports, env, tuple(ours), mode)


class Row(NamedTuple):
    """One expectation.

    Attributes:
        name: their test, with its parameters.
        url: what is asked; ports stand in no address here, as there.
        status: of the answer, or REFUSED.
        text: stands in its body; `{http}` and `{https}` are our ports.
        lacks: does not stand there.
        has: headers of the answer; None: it is not there.
        send: headers of the request.
        method: of the request.
        theirs: what nginx-proxy expects, where we decided otherwise.
        why: we did.
    """

    name: str
    url: str
    status: int | str = 200
    text: str = ""
    lacks: str = ""
    has: Mapping[str, str | None] = {}
    send: Mapping[str, str] = {}
    method: str = "GET"
    theirs: str = ""
    why: str = ""


@dataclass(frozen=True)
class Case:
    """One folder of their tests.

    Attributes:
        name: of the folder, with the file where it has several.
        webs: containers, in the order in which they are started.
        rows: what is asked.
        certs: name of a certificate -> hosts that it covers.
        snippets: file -> directives; `{folder}` is a folder of the case's own.
        users: file -> those who may; `{hashed}` is the password `secret`.
        pages: file -> page.
        flags: further ones of the config generator.
    """

    name: str
    webs: tuple[Web, ...]
    rows: tuple[Row, ...]
    certs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    snippets: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)


def port(number):
    """What their web server says on a port."""
    return f"answer from port {number}\n"


async def served(case, folder, nginx, authority, stack):
    """A config generator that serves a case until the stack ends; and its records."""
    flags = {"https_public_port": 443, **_folders(case, folder.parent, authority), **case.flags}
    records = [await _started(web, stack) for web in case.webs]
    running = await stack.enter_async_context(Running(folder, nginx, https_port=free_port(), **flags))
    entries = [put(record) for record in records]
    await running.settle(*entries, *_claims(records))
    return running, records


async def wrong_in(case, folder, nginx, authority):
    """Name of each row that was answered otherwise, and how."""
    async with contextlib.AsyncExitStack() as stack:
        running, _ = await served(case, folder, nginx, authority, stack)
        answers = {row.name: await asked(row, running, authority) for row in case.rows}
        assert len(answers) == len(case.rows), "two rows have one name"
        return {row.name: why for row in case.rows if (why := _difference(row, answers[row.name], running))}


def _folders(case, base, authority):
    flags = {}
    for name, files in (("snippets", case.snippets), ("htpasswd", case.users), ("pages", case.pages)):
        if files:
            (base / name).mkdir(mode=0o755)
            flags[name] = str(base / name)
            for file, text in files.items():
                (base / name / file).write_text(
                    text.replace("{folder}", str(base)).replace("{hashed}", hashed()), encoding="utf-8"
                )
    if case.certs:
        flags["certs"] = str(base / "certs")
        for name, hosts in case.certs.items():
            authority.write(base / "certs", name, *hosts)
    return flags


_ids = count(1)


async def _started(web, stack):
    """Its servers run; its record, made of its variables by the registrator's own reader."""
    there = {}
    for number in web.ports:
        server = await asyncio.start_server(Server(web.name, number).serve, "127.0.0.1", 0)
        await stack.enter_async_context(server)
        there[number] = server.sockets[0].getsockname()[1]
    ports = {f"{number}/tcp": 20000 + number for number in web.ports if web.mode == "default"}
    record = decide(ports=ports, env=web.tags, name=web.name, mode=web.mode, id_=f"{next(_ids):064x}").container
    ready = [  # where nothing listens, the registrator's first dial would not pass
        msgspec.structs.replace(one, addresses=(Address("127.0.0.1", there[one.port], "lan"),), state="passing")
        if one.port in there
        else one
        for one in record.endpoints
    ]
    return msgspec.structs.replace(record, node=NODE, endpoints=tuple(ready))


def _claims(records):
    """Each place for the service that asks first."""
    found = {}
    for one in (endpoint for record in records for endpoint in record.endpoints if endpoint.route):
        for place in places_of(one.route, one.service, (), (DOMAIN,)):
            found.setdefault(place, claim(one.service, place.host, place.path, since=float(len(found) + 1)))
    return found.values()


class Server:
    """Their web server: its port, the headers of a request, a status, its container."""

    def __init__(self, name, number):
        self._name, self._number = name, number

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                status, body = self._answer(first.split()[1].partition("?")[0], lines)
                writer.write(f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()

    def _answer(self, path, lines):
        if path == "/":
            return 200, f"I'm {self._name}\n"
        if path == "/headers":
            return 200, "".join(f"{line}\n" for line in lines)
        if path == "/port":
            return 200, port(self._number)
        if path == CHALLENGE:
            return 200, "challenge-teststring\n"
        if path.startswith("/status/"):
            return int(path.rpartition("/")[2]), f"answer with response code {path.rpartition('/')[2]}\n"
        return 404, "No route for this path!\n"


class Answer(NamedTuple):
    """Status, headers by name in lower case, body."""

    status: int | str
    headers: Mapping[str, str]
    body: str


async def asked(row, running, authority, context=None):
    """What a row is answered; over https with a TLS client of its own, if given."""
    url = urlsplit(row.url)
    where = {"port": running.port}
    if url.scheme == "https":
        where = {
            "port": running.settings.https_port,
            "ssl": context or authority.context(),
            "server_hostname": url.hostname,
        }
    lines = "".join(f"{name}: {value}\r\n" for name, value in row.send.items())
    length = "Content-Length: 0\r\n" if row.method in {"POST", "PUT", "PATCH"} else ""
    head = f"{row.method} {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n{length}{lines}\r\n"
    try:
        async with asyncio.timeout(10.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", **where)
            writer.write(head.encode())
            raw = (await reader.read()).decode(errors="replace")
            writer.close()
    except ssl.SSLError as error:
        return Answer(REFUSED, {}, error.reason or "")
    top, _, body = raw.partition("\r\n\r\n")
    first, *rest = top.split("\r\n")
    pairs = (line.split(": ", 1) for line in rest)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)


def _difference(row, answer, running):
    ports = {"{http}": str(running.port), "{https}": str(running.settings.https_port)}
    text = row.text
    for name, number in ports.items():
        text = text.replace(name, number)
    found = [] if answer.status == row.status else [f"status {answer.status}"]
    if text not in answer.body or (row.lacks and row.lacks in answer.body):
        found.append(f"body {answer.body!r}")
    found += [
        f"{name}: {answer.headers.get(name.lower())}"
        for name, value in row.has.items()
        if answer.headers.get(name.lower()) != value
    ]
    return ", ".join(found)
