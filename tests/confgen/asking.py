"""A service that asks nginx for something, and the clients that see whether it gets it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from base64 import b64encode

from pilotfish.catalog.options import Options
from tests.confgen.kit import DOMAIN, claim, container, endpoint, get, put

WEB = f"web.{DOMAIN}"


def asking(*ports, started=1.0, claims=True, path="/", **more):
    """A service `web` that asks for something, with one endpoint for each port."""
    options = Options(**{key: more.pop(key) for key in list(more) if key in Options.__struct_fields__})
    members = [
        endpoint("web", 80 + turn, to=port, options=options, path=path, **more) for turn, port in enumerate(ports)
    ]
    return [put(container("web", *members)), *([claim("web", WEB, path)] if claims else [])]


async def statuses(port, count, host=WEB, **more):
    return [(await get(port, host, **more)).status for _ in range(count)]


def hashed():
    """`secret`, as htpasswd writes it and every nginx reads it."""
    return subprocess.run(
        ["openssl", "passwd", "-apr1", "-salt", "pilotfis", "secret"], check=True, capture_output=True, text=True
    ).stdout.strip()


def login(user="bob", password="secret"):
    return [("Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")]


@contextlib.asynccontextmanager
async def websocket(port, more="", word="websocket", path="/"):
    """What an upgrade is answered with, and its two ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {WEB}\r\nConnection: Upgrade\r\nUpgrade: {word}\r\n{more}\r\n".encode()
        )
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        yield int(head.split()[1]), reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
