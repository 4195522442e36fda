"""Clients on a host of a lab: curl, TLS, WebSocket, gRPC and datagrams, and what they saw."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from lab.process import Process
from tests.lab.routes import Front, Town
from tests.parts import grpc_echo

PATIENCE_S = 15


@dataclass(frozen=True)
class Answer:
    """An answer as curl got it; header names in lower case."""

    version: str
    status: int
    headers: dict[str, str]
    text: str

    @property
    def seen(self) -> dict:
        """What the application says that it was asked."""
        return json.loads(self.text)


def curl(front: Front, url: str, *options: str, place=None) -> Answer:
    """Ask a proxy from its own host, or from `place`, for a URL without a port."""
    return parsed((place or front.host).run(command(front, url, *options), check=False).stdout)


def command(front: Front, url: str, *options: str) -> list[str]:
    """The command line of curl: whatever the URL's host is, it goes to the proxy."""
    port = (
        front.https if url.startswith("https:") else front.h2c if "--http2-prior-knowledge" in options else front.http
    )
    return ["curl", "-sS", "-i", "-m", str(PATIENCE_S), "--connect-to", f"::{front.host.address}:{port}", *options, url]


def parsed(output: str) -> Answer:
    """What curl -i printed; status 0 if there was no answer."""
    top, _, text = output.replace("\r\n", "\n").partition("\n\n")
    first, *lines = top.split("\n")
    if not first:
        return Answer("", 0, {}, output)
    version, status = first.removeprefix("HTTP/").split()[:2]
    return Answer(version, int(status), dict(_header(line) for line in lines), text)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def begun(front: Front, url: str, *options: str) -> Process:
    """A request that is under way; `ended` has its answer."""
    return front.host.popen(command(front, url, *options), name="curl")


def ended(process: Process, within_s: float = PATIENCE_S + 2) -> Answer:
    process.wait(within_s)
    return parsed(process.log.read_text())


def holder(town: Town, names: Sequence[str], number: str) -> str | None:
    """Which of the containers has the request with this number."""
    for name in names:
        if f'"n": "{number}"' in town.host.docker(["logs", name]).stdout:
            return name
    return None


def greeted(front: Front, name: str | None, context: ssl.SSLContext, port: int = 0, **more) -> ssl.SSLSocket:
    """A TLS connection to a proxy's port of https, or another one."""
    with front.host.inside():
        plain = socket.create_connection((front.host.address, port or front.https), timeout=PATIENCE_S)
    try:
        return context.wrap_socket(plain, server_hostname=name, **more)
    except OSError:
        plain.close()
        raise


def certificate(front: Front, name: str, context: ssl.SSLContext) -> bytes:
    """The certificate that is shown for a name, DER."""
    with greeted(front, name, context) as tls:
        return tls.getpeercert(binary_form=True)


def datagram(front: Front, port: int, text: bytes) -> bytes:
    """What comes back for a datagram."""
    with front.host.inside():
        client = socket.socket(type=socket.SOCK_DGRAM)
    with client:
        client.settimeout(PATIENCE_S)
        client.sendto(text, (front.host.address, port))
        return client.recv(2000)


def call(town: Town, port: int, name: str, *ca: str) -> dict:
    """What a gRPC client says of a proxy's port."""
    host = town.host
    program = [sys.executable, "-m", grpc_echo.__name__, "call", f"{host.address}:{port}", name, *ca]
    return json.loads(host.run(program).stdout)


@contextlib.asynccontextmanager
async def websocket(
    front: Front, url: str, headers: Mapping[str, str] | None = None, **more
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket through a proxy, under the name in the URL; must run `inside` the host."""
    port = front.https if url.startswith("wss:") else front.http
    scheme, _, rest = url.partition("://")
    name, slash, path = rest.partition("/")
    where, sent = f"{scheme}://{name}:{port}{slash}{path}", {"Host": name, **(headers or {})}
    async with asyncio.timeout(PATIENCE_S):
        connector = aiohttp.TCPConnector(resolver=Always(front.host.address))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(where, headers=sent, **more) as one,
        ):
            plain = one.get_extra_info("socket")
            yield one
        while plain.fileno() != -1:  # in TLS, closing takes longer than the session waits
            await asyncio.sleep(0.01)


class Always(aiohttp.abc.AbstractResolver):
    """Finds every name at one address."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def resolve(self, host, port=0, family=socket.AF_INET):
        known = {"hostname": host, "host": self.address, "port": port, "family": family, "proto": 0, "flags": 0}
        return [known]

    async def close(self) -> None:
        pass


async def echoed(front: Front, url: str, **more) -> str:
    """What a WebSocket's application sends back for a word."""
    async with websocket(front, url, **more) as one:
        await one.send_str("ping")
        return (await one.receive(timeout=PATIENCE_S)).data
