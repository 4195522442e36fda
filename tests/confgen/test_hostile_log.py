"""What clients write into nginx's log, on a real nginx: none of it is taken for nginx's own word."""

from __future__ import annotations

import asyncio
import base64
import contextlib

import pytest

from pilotfish.catalog.options import Options
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put
from tests.confgen.test_faults import WEB, web
from tests.parts.ports import free_port

DEAD, SHUT, VICTIM = f"dead.{DOMAIN}", f"shut.{DOMAIN}", f"victim.{DOMAIN}"


def basic(user):
    return "Authorization", f"Basic {base64.b64encode(f'{user}:word'.encode()).decode()}"


TELLING = f"telling.{DOMAIN}"
FORGED = [
    "[emerg] {pid}#{pid}: boo in /n/generations/aa/services/victim.conf:1",
    "[alert] {pid}#{pid}: worker process 1 exited with fatal code 2 and cannot be respawned",
]
# Host asked; a header; what of it must be in the log.
ATTACKS = {
    "an emergency in a referrer": (DEAD, ("Referer", "[emerg] 1#1: go away"), "[emerg] 1#1: go away"),
    "a file of another service in a referrer": (
        DEAD,
        # nginx cuts a line at 2,048 octets, so that it ends with what the client wants.
        ("Referer", f"{'A' * 1500}[emerg] 1#1: boo in /n/generations/aa/services/victim.conf:{'1' * 1500}"),
        "services/victim.conf:11",
    ),
    "a referrer that looks like a line": (
        DEAD,
        ("Referer", "2026/11/21 10:01:10 [emerg] 1#1: boo in /n/generations/aa/services/victim.conf:1"),
        "[emerg] 1#1: boo",
    ),
    "a user's name": (SHUT, basic("[emerg] 1#1\n[emerg] boo in /n/generations/aa/services/victim.conf"), "[emerg] 1#1"),
}  # fmt: skip


@contextlib.asynccontextmanager
async def hearing(running, host, header, words):
    """Every proof begins after a client's words stand in the log; yields how often."""
    nginx, heard = running.service._nginx, []
    original, logs = nginx.prove, running.folder / "logs"

    async def prove(*args, **more):
        # The log is no place to wait for: a worker writes there before it answers.
        before = {one: one.stat().st_size for one in logs.glob("*error.log")}
        await get(running.port, host, headers=[header])
        new = "".join(one.read_bytes()[size:].decode() for one, size in before.items())
        heard.append(words in new)
        await original(*args, **more)

    nginx.prove = prove
    try:
        yield heard
    finally:
        nginx.prove = original


@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_word_of_a_client_stops_a_change_or_blames_a_service(nginx, folder, users, attack):
    host, header, words = ATTACKS[attack]
    async with Backend("one") as one, Backend("two") as two, Running(folder, nginx, htpasswd=str(users)) as running:
        await running.settle(
            *(web(one.port), claim("web", WEB)),
            *(put(container("dead", endpoint("dead", to=free_port()))), claim("dead", DEAD)),
            *(
                put(container("shut", endpoint("shut", to=one.port, options=Options(auth="staff")))),
                claim("shut", SHUT),
            ),
            *(put(container("victim", endpoint("victim", to=one.port))), claim("victim", VICTIM)),
        )
        async with hearing(running, host, header, words) as heard:
            await running.settle(web(two.port))
        assert heard == [True]  # it was met, and one proof was enough
        assert running.state["quarantined"] == []
        assert (await get(running.port, WEB)).body == "two GET /"
        assert (await get(running.port, VICTIM)).body == "one GET /"


def frame(kind, flags, stream, payload=b""):
    """A frame of HTTP/2 (RFC 9113 §4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def telling(words, reader, writer):
    """An application that answers every call with a header that holds line ends."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readexactly(24)  # the preface
        writer.write(frame(4, 0, 0))
        kind = stream = 0
        while kind != 1:
            head = await reader.readexactly(9)
            kind, stream = head[3], int.from_bytes(head[5:], "big")
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        # :status 200, and a literal without an index (RFC 7541 §6.2.2); a length from 127 on takes further octets.
        rest = len(words) - 127
        field = b"\x88\x00\x03x-a\x7f" + bytes([rest % 128 | 128, rest // 128]) + words
        writer.write(frame(1, 5, stream, field))
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("forged", FORGED)
async def test_no_line_of_an_application_is_taken_for_one_of_nginx(nginx, folder, forged):
    """It can write whole lines into the log of requests; what nginx says itself stands elsewhere."""
    said = [b""]
    server = await asyncio.start_server(lambda *pipe: telling(said[0], *pipe), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Backend("one") as one, Backend("two") as two, Running(folder, nginx) as running:
        await running.settle(
            *(web(one.port), claim("web", WEB)),
            *(put(container("telling", endpoint("telling", to=port, backend="grpc"))), claim("telling", TELLING)),
            *(put(container("victim", endpoint("victim", to=one.port))), claim("victim", VICTIM)),
        )
        line = f"2026/11/21 10:01:10 {forged.format(pid=running.pid)}"
        said[0] = f"x\n{line}\nx{' ' * 100}y".encode()
        async with hearing(running, TELLING, ("Accept", "*/*"), f"\n{line}\n") as heard:
            await running.settle(web(two.port))
        assert heard == [True]
        assert running.state["quarantined"] == []
        assert (await get(running.port, WEB)).body == "two GET /"
