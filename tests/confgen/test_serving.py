"""A real nginx, old and new, serves what the store says, by the rules that docs/nginx.md gives."""

from __future__ import annotations

import asyncio
import json
import os
import re

import pytest

from confgen.applying.io_nginx import HUGE_PAGES
from pilotfish.catalog.record import Address
from tests.confgen.kit import DOMAIN, NODE, Backend, Running, claim, container, endpoint, get, key_of, put, until
from tests.parts.ports import free_port

WEB = f"web.{DOMAIN}"


def web(*ports, node=NODE, **more):
    """A service `web` with one endpoint for each port, on this host or on another."""
    found = [at(node, port, 80 + turn, **more) for turn, port in enumerate(ports)]
    return put(container("web", *found, node=node))


def at(node, to, port=80, **more):
    """An endpoint of `web` on a host, that listens here."""
    there = {} if node == NODE else {"addresses": (Address("127.0.0.1", to, "lan"),)}
    return endpoint("web", port, to=to, node=node, **there, **more)


# To another host no connection is kept, and what is served there needs one group of servers and two places less.
WHERE = pytest.mark.parametrize("node", [NODE, "far"], ids=["here", "elsewhere"])


async def test_a_tagged_container_is_served_by_its_host_name_and_goes_with_it(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        answer = await get(running.port, WEB, "/a?b=c")
        assert (answer.status, answer.body) == (200, "one GET /a?b=c")
        await running.settle(deletes=[key_of(container("web"))])
        answer = await get(running.port, WEB)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert f"pilotfish explain {WEB}" in answer.body
        await running.settle(deletes=[claim("web", WEB).key])
        answer = await get(running.port, WEB)
        assert answer.status == 404
        assert answer.body.count("\n") == 1
        assert f"pilotfish explain {WEB}" in answer.body


ENVIRONMENTS = {
    "none": {},
    "our tunables alone": HUGE_PAGES,
    "other tunables": {"GLIBC_TUNABLES": "glibc.malloc.check=0"},
    "a short one": {"A": "b", **HUGE_PAGES},
}


@pytest.mark.parametrize("variables", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
async def test_nginx_is_known_for_ours_whatever_the_environment(one_nginx, folder, monkeypatch, variables):
    """A title has the room of the command and the environment: it names the configuration all the same."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", f"web.{DOMAIN}"))
        assert running.pid
        await until(lambda: running.telemetry.ready.missing == {}, "it is ready")


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("nobody.test", "nobody.test"),
        ("$(id).test", "HOST"),
        ("<script>", "HOST"),
        ("10.0.0.1:8080", "10.0.0.1"),
        (f"console.{DOMAIN}", f"console.{DOMAIN}"),
    ],
    ids=["unknown", "shell", "markup", "address", "reserved, although a wildcard covers it"],
)
async def test_an_unknown_host_gets_one_line_that_is_safe_to_paste(one_nginx, folder, host, shown):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port, hosts=(f"*.{DOMAIN}",)), claim("web", f"*.{DOMAIN}"))
        answer = await get(running.port, host)
        assert answer.status == 404
        assert answer.body == f"404: nothing is served at {shown} here; to see why: pilotfish explain {shown}\n"
        assert answer.headers["content-type"] == "text/plain"
        assert (await get(running.port, f"other.{DOMAIN}")).body == "one GET /"


async def test_hosts_paths_and_wildcards_go_to_their_owners(nginx, folder):
    async with Backend("a") as a, Backend("b") as b, Backend("c") as c, Running(folder, nginx) as running:
        await running.settle(
            put(container("a", endpoint("a", to=a.port, hosts=("www.test",)))),
            put(container("b", endpoint("b", to=b.port, hosts=("www.test",), path="/api", strip=True))),
            put(container("c", endpoint("c", to=c.port, hosts=("*.test",)))),
            claim("a", "www.test"),
            claim("b", "www.test", "/api"),
            claim("c", "*.test"),
        )
        rows = [
            ("www.test", "/x", "a GET /x"),
            ("WWW.test", "/x", "a GET /x"),
            ("www.test:80", "/apiary", "a GET /apiary"),
            ("www.test", "/api", "b GET /"),
            ("www.test", "/api/y?z=1", "b GET /y?z=1"),
            ("other.test", "/api", "c GET /api"),
            ("deep.other.test", "/", "c GET /"),
        ]
        assert [(await get(running.port, host, path)).body for host, path, _ in rows] == [row[2] for row in rows]


async def test_the_application_sees_the_client_and_its_own_name(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        sent = [
            ("X-Request-ID", "abc-1"),
            ("Proxy", "http://evil"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", "9.9.9.9"),
        ]
        await get(running.port, f"{WEB}:{running.port}", headers=sent)
        seen = one.requests[-1][2]
        expected = {
            "host": f"{WEB}:{running.port}",
            "x-real-ip": "127.0.0.1",
            "x-forwarded-for": "9.9.9.9, 127.0.0.1",
            "x-forwarded-proto": "http",
            "x-forwarded-host": f"{WEB}:{running.port}",
            "x-forwarded-port": str(running.port),
            "x-request-id": "abc-1",
        }
        assert {name: seen.get(name) for name in expected} == expected
        assert "proxy" not in seen
        assert "upgrade" not in seen
        trace = 'b" }' * 3  # whatever a client says
        await get(running.port, WEB, headers=[("X-Request-ID", "a" * 201), ("traceparent", trace)])
        assert len(one.requests[-1][2]["x-request-id"]) < 100
        await get(running.port, WEB, headers=[("X-Request-ID", "a b;c"), ("traceparent", TRACE)])
        made = one.requests[-1][2]["x-request-id"]
        assert re.fullmatch(r"[A-Za-z0-9._-]+-[0-9]+-[0-9]+-[0-9]+-[0-9.]+", made)
        line = await until(lambda: logged(folder, made), "the request is in the access log")
        assert line["traceparent"] == one.requests[-1][2]["traceparent"] == TRACE
        assert (line["host"], line["upstream"], line["server"], line["status"]) == (
            WEB,
            "web--1--once",
            f"127.0.0.1:{one.port}",
            200,
        ) or (line["upstream"] == "web--1")


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of W3C Trace Context


def logged(folder, request_id):
    lines = (folder / "logs" / "access.log").read_text().splitlines()
    return next((entry for entry in map(json.loads, lines) if entry["request_id"] == request_id), None)


async def test_a_dead_server_costs_a_get_nothing(nginx, folder):
    async with Backend("live") as live, Backend("dead", mood="drop") as dead, Running(folder, nginx) as running:
        await running.settle(web(live.port, dead.port), claim("web", WEB))
        answers = [await get(running.port, WEB, f"/{turn}") for turn in range(20)]
        assert [answer.status for answer in answers] == [200] * 20
        assert len(dead.requests) > 0  # the fault was met


async def test_a_server_that_refuses_connections_costs_a_post_nothing(nginx, folder):
    async with Backend("gone") as gone:
        port = gone.port
    async with Backend("live") as live, Running(folder, nginx) as running:
        await running.settle(web(live.port, port), claim("web", WEB))
        answers = [await get(running.port, WEB, method="POST", body="x") for _ in range(20)]
        assert [answer.status for answer in answers] == [200] * 20
        assert len(live.requests) == 20
        refused = (folder / "logs" / "requests-error.log").read_text()
        assert "Connection refused" in refused  # the fault was met


@WHERE
@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
async def test_what_must_not_be_sent_twice_is_not(nginx, folder, method, node):
    async with Backend("a", mood="drop") as a, Backend("b", mood="drop") as b, Running(folder, nginx) as running:
        await running.settle(web(a.port, b.port, node=node), claim("web", WEB))
        answers = [await get(running.port, WEB, f"/{turn}", method=method, body="x") for turn in range(6)]
        assert [answer.status for answer in answers] == [502] * 6
        paths = [request[1] for request in a.requests + b.requests]
        assert len(paths) == len(set(paths)) > 0


async def test_gets_reuse_connections_and_posts_never_do(nginx, folder):
    async with Backend("one", mood="drop reused") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        statuses = [(await get(running.port, WEB, method="POST", body=str(turn))).status for turn in range(6)]
        assert statuses == [200] * 6  # on a reused connection the second would have been a 502
        assert one.connections == 6
        one.mood = "answer"
        for _ in range(6):
            assert (await get(running.port, WEB)).status == 200
        assert one.connections < 12


@WHERE
async def test_a_websocket_is_upgraded_and_echoes_and_outlives_a_reload(nginx, folder, node):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port, node=node), claim("web", WEB))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET /ws HTTP/1.1\r\nHost: {WEB}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        for turn in range(3):
            writer.write(b"ping%d" % turn)
            assert await reader.readexactly(5) == b"ping%d" % turn
            before = running.state["generation"]
            await running.settle(web(one.port, node=node, weight=turn + 1), claim("web", WEB))
            assert running.state["generation"] != before
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.close()


async def test_an_upgrade_to_http2_in_the_clear_is_not_passed_on(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        headers = [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]
        assert (await get(running.port, WEB, headers=headers)).status == 200
        assert "upgrade" not in one.requests[-1][2]


async def test_a_large_body_arrives_whole(one_nginx, folder):
    body = "x" * 3_000_000
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        assert (await get(running.port, WEB, method="PUT", body=body)).status == 200
        assert one.requests[-1][3] == body


async def test_the_generation_is_told_on_the_private_socket_only(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        assert (await get(running.port, "generation.invalid")).status == 404
        assert (folder / "run").stat().st_mode & 0o077 == 0
        served = await running.service._nginx.served()
        assert served.generation == running.state["generation"] == (folder / "current").readlink().name


async def test_the_longest_names_are_served(nginx, folder):
    service = ".".join(["s" * 63, "t" * 63, "u" * 63, "v" * 40])
    host = f"{service}.{DOMAIN}"
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(put(container("long", endpoint(service, to=one.port, name="long"))), claim(service, host))
        assert (await get(running.port, host)).body == "one GET /"


async def test_many_services_are_served_at_once(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        names = [f"s{number}" for number in range(300)]
        for group in (names[start : start + 50] for start in range(0, 300, 50)):
            await running.write(*(put(container(name, endpoint(name, to=one.port))) for name in group))
            await running.write(*(claim(name, f"{name}.{DOMAIN}") for name in group))
        await running.settle(put(container("last", endpoint("last", to=one.port))), claim("last", f"last.{DOMAIN}"))
        assert (await get(running.port, f"s299.{DOMAIN}")).body == "one GET /"
        assert len(running.state["routes"]) == 301


PORTS = {":8080": ":8080", "": "", ".:80": ":80", ":": "", ":123456": "", ":1:443": "", ":abc": ""}


@pytest.mark.parametrize(("said", "heard"), PORTS.items(), ids=[ascii(one) for one in PORTS])
async def test_the_application_hears_the_port_that_the_client_named_if_it_is_one(nginx, folder, said, heard):
    """Newer nginx refuses what is none; of either the application hears nothing that no URL can be made of."""
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        answer = await get(running.port, f"{WEB}{said}")
        headers = one.requests[-1][2] if one.requests else {}
        assert answer.status == 200 or (answer.status, heard) == (400, "")
        assert {headers.get(name, WEB) for name in ("host", "x-forwarded-host")} == {f"{WEB}{heard}"}


BODIES = [
    ("chunked", "POST", "Transfer-Encoding: chunked\r\n", "/", {}, True),
    ("large", "POST", "Content-Length: 1000000\r\n", "/", {}, True),
    ("large and idempotent", "PUT", "Content-Length: 30000000\r\n", "/", {}, True),
    ("large and stripped", "POST", "Content-Length: 30000000\r\n", "/", {"strip": True, "path": "/s"}, True),
    ("small", "POST", "Content-Length: 999999\r\n", "/", {}, False),
]


@WHERE
@pytest.mark.parametrize("row", [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
async def test_large_bodies_flow_to_the_application_as_they_come(nginx, folder, row, node):
    """What is small is read whole first, so that a slow client occupies nobody."""
    method, length, path, more, flows = row
    seen = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        seen.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Running(folder, nginx) as running:
        path = more.get("path", path)
        port = server.sockets[0].getsockname()[1]
        await running.settle(web(port, node=node, **more), claim("web", f"web.{DOMAIN}", path))
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: web.{DOMAIN}\r\n{length}\r\n".encode())
        writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" if "chunked" in length else b"x" * 0x4000)
        await writer.drain()
        try:
            await asyncio.wait_for(seen.wait(), 10.0 if flows else 0.5)
        except TimeoutError:
            assert not flows
        else:
            assert flows
        writer.close()


@WHERE
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "POST", "LOCK"])
async def test_a_body_of_http2_that_says_no_length_never_goes_to_the_proxys_disk(nginx, folder, method, node):
    """HTTP/2 has no chunks: any request may have a body without an end, and would fill everybody's disk."""
    seen = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1000)
        seen.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    h2c = free_port()
    async with server, Running(folder, nginx, h2c_port=h2c) as running:
        await running.settle(web(server.sockets[0].getsockname()[1], node=node), claim("web", WEB))
        ask = ["curl", "-s", "--http2-prior-knowledge", "-H", f"Host: {WEB}", "-X", method, "-T", "-"]
        client = await asyncio.create_subprocess_exec(
            *ask, f"http://127.0.0.1:{h2c}/", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        client.stdin.write(b"x" * 100_000)  # and no end
        await client.stdin.drain()
        try:
            async with asyncio.timeout(10.0):
                await seen.wait()
        finally:
            client.kill()
            await client.wait()


@WHERE
async def test_a_small_body_is_tried_again_where_it_may_be(nginx, folder, node):
    """A PUT whose server dies before it answers goes to another, with its whole body."""
    async with Backend("dead", mood="drop") as dead, Backend("live") as live, Running(folder, nginx) as running:
        await running.settle(web(dead.port, live.port, node=node), claim("web", WEB))
        answers = [await get(running.port, WEB, method="PUT", body="all of it") for _ in range(6)]
        assert [one.body for one in answers] == ["live PUT /"] * 6
        assert dead.requests
        assert {body for _, _, _, body in live.requests} == {"all of it"}


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_a_dead_server_costs_an_http2_request_without_a_body_nothing(nginx, folder, method):
    h2c = free_port()
    async with (
        Backend("dead", mood="drop") as dead,
        Backend("live") as live,
        Running(folder, nginx, h2c_port=h2c) as running,
    ):
        both = [endpoint("web", 80 + turn, to=one.port) for turn, one in enumerate((dead, live))]
        await running.settle(put(container("web", *both)), claim("web", WEB))
        ask = ["curl", "-s", "--http2-prior-knowledge", "-H", f"Host: {WEB}", "-X", method, f"http://127.0.0.1:{h2c}/"]
        for _ in range(4):
            client = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
            assert await client.communicate() == (f"live {method} /".encode(), None)
        assert dead.requests
