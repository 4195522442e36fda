"""What a route asks of nginx besides being served, seen by a real client of a real nginx, old and new."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
import subprocess
from base64 import b64encode

import grpc
import pytest
import trustme

from pilotfish.catalog.options import Options, parse_networks, parse_rate, parse_redirect
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, free_port, get, put, until

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


# Guards


def hashed():
    """`secret`, as htpasswd writes it and every nginx reads it."""
    return subprocess.run(
        ["openssl", "passwd", "-apr1", "-salt", "pilotfis", "secret"], check=True, capture_output=True, text=True
    ).stdout.strip()


def login(user="bob", password="secret"):
    return [("Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")]


@pytest.fixture
def users(folder):
    """A folder with one file of users, that nginx's workers can read."""
    path = folder.parent / "users"
    path.mkdir(mode=0o755)
    (path / "staff").write_text(f"bob:{hashed()}\n", encoding="utf-8")
    return path


async def test_auth_lets_in_who_knows_the_password_by_every_method_and_upgrade(nginx, folder, users):
    async with Backend("one") as one, Running(folder, nginx, htpasswd=str(users)) as running:
        await running.settle(*asking(one.port, auth="staff"))
        upgrade = [("Upgrade", "websocket")]
        for method, extra in [("GET", []), ("POST", []), ("LOCK", []), ("GET", upgrade)]:
            for headers, status in [([], 401), (login("bob", "wrong"), 401), (login("eve"), 401)]:
                answer = await get(running.port, WEB, method=method, headers=[*headers, *extra])
                assert (method, answer.status) == (method, status)
                assert answer.headers["www-authenticate"] == 'basic realm="restricted"'
        assert one.requests == []
        for method in ("GET", "POST", "LOCK"):
            assert (await get(running.port, WEB, method=method, headers=login())).status == 200
        assert [request[0] for request in one.requests] == ["GET", "POST", "LOCK"]


async def test_auth_without_its_file_lets_nobody_in_until_it_is_there(one_nginx, folder, users):
    async with Backend("one") as one, Running(folder, one_nginx, htpasswd=str(users)) as running:
        await running.settle(*asking(one.port, auth="others"))
        assert await statuses(running.port, 2, headers=login()) == [503, 503]
        assert running.state["refused"][0]["reason"].startswith("PROXY_AUTH: no file others lies in ")
        closed = running.state["generation"]
        (users / "others").write_text(f"bob:{hashed()}\n", encoding="utf-8")
        await until(lambda: running.state["generation"] != closed, "the new file counts")
        assert await statuses(running.port, 1, headers=login()) == [200]
        assert await statuses(running.port, 1) == [401]
        (users / "others").unlink()
        await until(lambda: running.state["generation"] == closed, "the file is missed")
        assert await statuses(running.port, 1, headers=login()) == [503]
    assert all(request[2].get("authorization") for request in one.requests)


async def test_auth_without_a_folder_lets_nobody_in(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(*asking(one.port, auth="staff"))
        assert await statuses(running.port, 1, headers=login()) == [503]
        assert "give it with --htpasswd" in running.state["refused"][0]["reason"]


ALLOW = [
    ("an address", "127.0.0.1", 200),
    ("a network", "10.0.0.0/8,127.0.0.0/8", 200),
    ("others", "10.0.0.0/8,fd00::/8", 403),
]


@pytest.mark.parametrize(("allow", "status"), [row[1:] for row in ALLOW], ids=[row[0] for row in ALLOW])
async def test_allow(nginx, folder, allow, status):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, allow=parse_networks(allow)))
        assert await statuses(running.port, 2) == [status] * 2
        assert await statuses(running.port, 1, method="POST") == [status]
        if status == 403:
            assert await statuses(running.port, 1, headers=[("Upgrade", "websocket")]) == [status]
            assert one.requests == []


async def test_rate_and_burst(nginx, folder):
    """Three of a minute at once, and no more; another client's count is its own, and so is another service's."""
    async with Backend("one") as one, Running(folder, nginx) as running:
        other = [put(container("b", endpoint("b", to=one.port))), claim("b", f"b.{DOMAIN}")]
        await running.settle(*asking(one.port, rate=parse_rate("3/m,burst=2")), *other)
        assert await statuses(running.port, 5) == [200, 200, 200, 429, 429]
        assert await statuses(running.port, 1, method="POST") == [429]
        assert await statuses(running.port, 1, host=f"b.{DOMAIN}") == [200]
        assert await statuses_from("127.0.0.2", running.port, 4) == [200, 200, 200, 429]


async def statuses_from(source, port, count):
    """Statuses that a client at another address of this machine gets."""
    found = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.write(f"GET / HTTP/1.1\r\nHost: {WEB}\r\nConnection: close\r\n\r\n".encode())
        found.append(int((await reader.read()).split()[1]))
        writer.close()
    return found


async def test_connections(nginx, folder):
    """Two WebSockets of a client are open; the third is refused, until one is closed."""
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, rate=parse_rate("connections=2")))
        async with websocket(running.port) as first:
            async with websocket(running.port) as second, websocket(running.port) as third:
                assert (first[0], second[0], third[0]) == (101, 101, 429)
            await until(lambda: opens(running.port), "there is room again")


async def opens(port):
    async with websocket(port) as (status, _, _):
        return status == 101


@contextlib.asynccontextmanager
async def websocket(port, host=WEB, path="/"):
    """What an upgrade is answered with, and its two ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        yield int(head.split()[1]), reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# Convenience


async def test_body(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, body=1024))
        assert await statuses(running.port, 1, method="POST", body="x" * 1024) == [200]
        assert await statuses(running.port, 1, method="POST", body="x" * 1025) == [413]
        assert len(one.requests) == 1


async def test_timeout(nginx, folder):
    """A server that says nothing costs its client as long as the tag says, also behind an upgrade."""
    async with Backend("one", mood="silent") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, timeout_s=0.2))
        assert await statuses(running.port, 1, method="POST") == [504]
        async with websocket(running.port) as (status, _, _):
            assert status == 504
        one.mood = "answer"
        async with websocket(running.port) as (status, reader, _):
            assert (status, await asyncio.wait_for(reader.read(1), 5)) == (101, b"")


async def test_compress(nginx, folder):
    async with Backend("one", body="text " * 1000) as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, compress=True))
        raw = await fetch(running.port, "Accept-Encoding: gzip")
        assert (raw.headers["content-encoding"], raw.headers["vary"]) == ("gzip", "accept-encoding")
        assert gzip.decompress(dechunked(raw.body)).decode() == "text " * 1000
        assert "content-encoding" not in (await fetch(running.port, "X-Nothing: 1")).headers


async def fetch(port, header):
    """An answer with its body as octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET / HTTP/1.1\r\nHost: {WEB}\r\nConnection: close\r\n{header}\r\n\r\n".encode())
    top, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = top.decode().split("\r\n")[1:]
    return Fetched(dict(line.lower().split(": ", 1) for line in lines), body)


class Fetched:
    def __init__(self, headers, body):
        self.headers, self.body = headers, body


def dechunked(body):
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


async def test_security_headers_where_the_application_has_none(nginx, folder):
    async with Backend("one", headers=[("X-Frame-Options", "DENY")]) as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, security=True))
        raw = await fetch(running.port, "X-Nothing: 1")
        assert {name: raw.headers.get(name) for name in ("x-frame-options", "x-content-type-options")} == {
            "x-frame-options": "deny",
            "x-content-type-options": "nosniff",
        }
        assert raw.headers["referrer-policy"] == "strict-origin-when-cross-origin"
        one.headers.clear()
        assert (await fetch(running.port, "X-Nothing: 1")).headers["x-frame-options"] == "sameorigin"


async def test_sticky(nginx, folder):
    """A client with its cookie stays where it is, by GET, POST and upgrade; a new one may come anywhere."""
    async with Backend("a") as a, Backend("b") as b, Backend("c") as c, Running(folder, nginx) as running:
        await running.settle(*asking(a.port, b.port, c.port, sticky=True))
        seen = set()
        for _ in range(20):
            first = await get(running.port, WEB)
            cookie = first.headers["set-cookie"].partition(";")[0]
            assert "httponly" in first.headers["set-cookie"]
            seen.add(first.body[0])
            again = [
                await get(running.port, WEB, method=method, headers=[("Cookie", cookie)]) for method in ["GET", "POST"]
            ]
            assert [answer.body[0] for answer in again] == [first.body[0]] * 2
        assert seen == {"a", "b", "c"}
        victim = {"a": a, "b": b, "c": c}[first.body[0]]
        victim.mood = "drop"
        assert (await get(running.port, WEB, headers=[("Cookie", cookie)])).status == 200  # elsewhere, rather than not


# Elsewhere

REDIRECTS = [
    ("host of the route", "www.test", "old.test", "/a?b=1", 307, "http://www.test{port}/a?b=1"),
    ("host of the route, there already", "www.test", "www.test", "/a", 200, None),
    ("address", "301:https://new.test", "www.test", "/a?b=1", 301, "https://new.test/a?b=1"),
    ("address with port and path", "308:http://new.test:81/x", "www.test", "/a?b=1", 308, "http://new.test:81/x"),
]


@pytest.mark.parametrize("row", [row[1:] for row in REDIRECTS], ids=[row[0] for row in REDIRECTS])
async def test_redirect(nginx, folder, row):
    tag, host, path, status, location = row
    async with Backend("one") as one, Running(folder, nginx) as running:
        options = Options(redirect=parse_redirect(tag))
        members = endpoint("web", to=one.port, hosts=("www.test", "old.test"), options=options)
        await running.settle(put(container("web", members)), claim("web", "www.test"), claim("web", "old.test"))
        for method in ("GET", "POST"):
            answer = await get(running.port, f"{host}:{running.port}", path, method=method)
            assert answer.status == status
            assert answer.headers.get("location") == (location.format(port=f":{running.port}") if location else None)


async def test_a_redirect_to_a_host_that_a_wildcard_covers_does_not_turn_in_circles(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        redirect = Options(redirect=parse_redirect("www.test"))
        await running.settle(
            put(container("web", endpoint("web", to=one.port, hosts=("*.test",), options=redirect))),
            claim("web", "*.test"),
        )
        assert (await get(running.port, "a.test")).status == 307
        assert (await get(running.port, "www.test")).status == 200


async def test_maintenance_by_tag(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, maintenance=True, security=True))
        answer = await get(running.port, WEB)
        assert (answer.status, answer.headers["retry-after"]) == (503, "60")
        assert answer.body == f"503: {WEB} is being worked on; please try again later\n"
        assert one.requests == []


async def test_maintenance_by_a_page_begins_and_ends_with_the_file(nginx, folder):
    pages = folder.parent / "pages"
    pages.mkdir()
    page = pages / f"{WEB}.html"
    async with Backend("one") as one, Running(folder, nginx, pages=str(pages)) as running:
        await running.settle(*asking(one.port))
        assert (await get(running.port, WEB)).status == 200
        before = running.state["generation"]
        page.write_text("<h1>back at noon</h1>", encoding="utf-8")
        await until(lambda: running.state["generation"] != before, "the page is there")
        for method in ("GET", "POST"):
            answer = await get(running.port, WEB, "/any/path", method=method)
            assert (answer.status, answer.body) == (503, "<h1>back at noon</h1>")
            assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/html", "60")
        page.unlink()
        await until(lambda: running.state["generation"] == before, "the page is gone")
        assert (await get(running.port, WEB, "/.pilotfish-page")).status == 200


async def test_snippets_of_a_host_and_of_a_path(nginx, folder):
    snippets = folder.parent / "snippets"
    snippets.mkdir()
    (snippets / f"{WEB}.conf").write_text("location = /robots.txt { return 200 'no robots'; }\n", encoding="utf-8")
    (snippets / f"{WEB}@.conf").write_text("add_header X-Path root always;\n", encoding="utf-8")
    (snippets / "no host;.conf").write_text("}", encoding="utf-8")
    async with Backend("one") as one, Running(folder, nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port))
        assert (await get(running.port, WEB, "/robots.txt")).body == "no robots"
        assert (await get(running.port, WEB)).headers["x-path"] == "root"
        (snippets / f"{WEB}.conf").write_text("nonsense;\n", encoding="utf-8")
        await until(lambda: running.state["quarantined"], "the snippet is refused")
        [out] = running.state["quarantined"]
        assert (out["service"], "nonsense" in out["reason"]) == ("web", True)
        await until(lambda: _says(running.port, "/", "503: the configuration of"), "503 is served")
        (snippets / f"{WEB}.conf").unlink()
        await until(lambda: not running.state["quarantined"], "it is mended")
        await until(lambda: _says(running.port, "/robots.txt", "one GET /robots.txt"), "it is served")


async def _says(port, path, body):
    return (await get(port, WEB, path)).body.startswith(body)


# Backends


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    trustme.CA().issue_cert(WEB).private_key_and_cert_chain_pem.write_to_path(folder / "pair.pem")
    return folder / "pair.pem"


async def test_an_https_backend_is_spoken_to_in_tls_with_the_clients_host(nginx, folder, certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    names = []
    context.sni_callback = lambda _, name, __: names.append(name)
    async with Backend("one", tls=context) as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, backend="https"))
        assert [(await get(running.port, WEB, method=method)).status for method in ("GET", "POST")] == [200, 200]
        assert set(names) == {WEB}
        async with websocket(running.port) as (status, reader, writer):
            writer.write(b"ping")
            assert (status, await reader.readexactly(4)) == (101, b"ping")


class Greeter(grpc.GenericRpcHandler):
    """Echoes one message, counts up as a stream, and tells what it was sent."""

    def __init__(self):
        self.metadata = {}

    def service(self, handler_call_details):
        self.metadata = dict(handler_call_details.invocation_metadata)
        if handler_call_details.method == "/t.T/Echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        if handler_call_details.method == "/t.T/Chat":
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: (one + b"!" for one in requests))
        return None


@pytest.fixture(params=["grpc", "grpcs"])
def greeter(request, certificate):
    """A real gRPC server, in the clear and over TLS: its handler, its port, its language."""
    from concurrent.futures import ThreadPoolExecutor

    server, handler = grpc.server(ThreadPoolExecutor(4)), Greeter()
    server.add_generic_rpc_handlers((handler,))
    if request.param == "grpc":
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pem = certificate.read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
    server.start()
    yield handler, port, request.param
    server.stop(None).wait()


async def test_grpc_without_tls(nginx, folder, greeter):
    """On a port of its own with every nginx, and on the shared one where nginx can: docs/nginx.md."""
    handler, port, backend = greeter
    h2c = free_port()
    async with Running(folder, nginx, h2c_port=h2c) as running:
        await running.settle(*asking(port, scheme="grpc", backend=backend))
        shares = running.service._publisher._renderer._machine.can.h2c_shares
        for where in (h2c, running.port) if shares else (h2c,):
            assert await asyncio.to_thread(talk, where) == (b"hello", [b"a!", b"b!"])
            assert handler.metadata["x-real-ip"] == "127.0.0.1"
            assert handler.metadata["x-forwarded-for"] == "127.0.0.1"
        assert running.state["refused"] == []
        assert await asyncio.to_thread(refusal, h2c, "nobody.test") == grpc.StatusCode.UNIMPLEMENTED


def channel(port, authority=WEB):
    return grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", authority)])


def talk(port):
    with channel(port) as there:
        echo = there.unary_unary("/t.T/Echo")(b"hello", timeout=10)
        chat = list(there.stream_stream("/t.T/Chat")(iter([b"a", b"b"]), timeout=10))
    return echo, chat


def refusal(port, authority):
    with channel(port, authority) as there, pytest.raises(grpc.RpcError) as caught:
        there.unary_unary("/t.T/Echo")(b"hello", timeout=10)
    return caught.value.code()


async def test_grpc_without_a_port_for_it_is_said(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(*asking(one.port, scheme="grpc", backend="grpc"))
        assert "give --h2c-port" in running.state["refused"][0]["reason"]


# Balancers in front


async def test_trusted_balancers_say_who_the_client_is(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx, trusted=("127.0.0.1/32",)) as running:
        await running.settle(*asking(one.port, allow=parse_networks("9.9.9.0/24")))
        told = [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443")]
        assert await statuses(running.port, 1, headers=told) == [200]
        seen = one.requests[-1][2]
        assert (seen["x-real-ip"], seen["x-forwarded-for"]) == ("9.9.9.9", "9.9.9.9, 127.0.0.1")
        assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == ("https", "443")
        assert await statuses(running.port, 1) == [403]
        lies = [("X-Forwarded-For", "9.9.9.9, 8.8.8.8")]
        assert await statuses(running.port, 1, headers=lies) == [403]


async def test_nobody_else_says_who_the_client_is(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx, trusted=("10.0.0.0/8",)) as running:
        await running.settle(*asking(one.port))
        told = [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "https")]
        assert await statuses(running.port, 1, headers=told) == [200]
        seen = one.requests[-1][2]
        assert (seen["x-real-ip"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")
        assert seen["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"


async def test_the_proxy_protocol(nginx, folder):
    trusted = ("127.0.0.1/32",)
    async with Backend("one") as one, Running(folder, nginx, trusted=trusted, proxy_protocol=True) as running:
        await running.settle(*asking(one.port, allow=parse_networks("9.9.9.0/24")))
        for client, status in [("9.9.9.9", 200), ("8.8.8.8", 403)]:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(f"PROXY TCP4 {client} 127.0.0.1 5000 80\r\nGET / HTTP/1.1\r\nHost: {WEB}\r\n\r\n".encode())
            assert int((await reader.readline()).split()[1]) == status
            writer.close()
        assert [request[2]["x-forwarded-for"] for request in one.requests] == ["9.9.9.9"]
