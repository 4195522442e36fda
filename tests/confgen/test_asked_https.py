"""What routes ask for besides https, seen by real clients over TLS: guards, limits, redirections, gRPC, balancers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from pilotfish.catalog.options import parse_networks, parse_rate, parse_redirect
from pilotfish.catalog.route import Hsts
from tests.confgen.asking import WEB, asking, hashed, login, statuses
from tests.confgen.kit import Backend, Running, claim, container, endpoint, get, put, until
from tests.confgen.test_backends import Greeter
from tests.confgen.test_faults_quarantine import spoiling
from tests.confgen.test_streams import echo
from tests.confgen.tls_kit import get_tls
from tests.parts.ports import free_port

BROKEN = "no_such_directive on;"
NET = ("127.0.0.1/32",)
TCP = [("Upgrade", "tcp"), ("Connection", "Upgrade")]


@pytest.fixture
def certs(folder, authority):
    """A folder with a certificate for `web`."""
    path = folder.parent / "certs"
    authority.write(path, WEB)
    return path


def tls_running(folder, nginx, certs, **more):
    return Running(folder, nginx, certs=str(certs), https_port=free_port(), **more)


async def secured(running, authority, count=1, path="/", **more):
    """Statuses over https."""
    port = running.settings.https_port
    return [(await get_tls(port, WEB, path, authority=authority, **more)).status for _ in range(count)]


async def test_auth_is_asked_over_https_alone(nginx, folder, certs, authority):
    users = folder.parent / "users"
    users.mkdir(mode=0o755)
    (users / "staff").write_text(f"bob:{hashed()}\n", encoding="utf-8")
    async with Backend("one") as one, tls_running(folder, nginx, certs, htpasswd=str(users)) as running:
        await running.settle(*asking(one.port, scheme="https", auth="staff"))
        assert await secured(running, authority) == [401]
        for method, status in (("GET", 301), ("POST", 308), ("LOCK", 308)):  # no password is asked for in the clear
            answer = await get(running.port, WEB, "/secret", method=method)
            assert (answer.status, "www-authenticate" in answer.headers) == (status, False)
        assert one.requests == []
        assert await statuses(running.port, 1, headers=login()) == [301]  # nor taken
        assert one.requests == []
        assert await secured(running, authority, headers=login()) == [200]
        before = running.state["generation"]
        (users / "staff").unlink()
        await until(lambda: running.state["generation"] != before, "the file is missed")
        assert await secured(running, authority, headers=login()) == [503]
        assert await statuses(running.port, 1, headers=login()) == [301]


async def test_hsts_is_said_for_every_method_body_and_upgrade(nginx, folder, certs, authority):
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        one.headers.append(("Strict-Transport-Security", "max-age=1"))
        await running.settle(*asking(one.port, scheme="https", hsts=Hsts(100)))
        for more in ({}, {"method": "POST"}, {"method": "POST", "body": "x" * 1_000_000}, {"headers": TCP}):
            answer = await get_tls(running.settings.https_port, WEB, authority=authority, **more)
            assert (answer.status, answer.headers["strict-transport-security"]) == (200, "max-age=100")


async def test_a_rate_counts_both_sides_and_redirects_cost_nothing(nginx, folder, certs, authority):
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        await running.settle(*asking(one.port, scheme="https", rate=parse_rate("3/m,burst=2")))
        assert await statuses(running.port, 6) == [301] * 6
        assert await secured(running, authority, 5) == [200, 200, 200, 429, 429]


async def test_allow_holds_at_a_part_of_a_host_that_another_service_leads(nginx, folder, certs, authority):
    async with Backend("one") as one, Backend("two") as two, tls_running(folder, nginx, certs) as running:
        part = put(container("api", endpoint("api", to=two.port, hosts=(WEB,), path="/api")))
        guarded = asking(one.port, scheme="https", allow=parse_networks("10.0.0.0/8"))
        await running.settle(*guarded, part, claim("api", WEB, "/api"))
        assert await secured(running, authority) == [403]
        assert await secured(running, authority, path="/api") == [200]
        assert await statuses(running.port, 1) == [301]
        assert (await get(running.port, WEB, "/api")).body == "two GET /api"  # asks for http
        assert one.requests == []


async def test_a_redirect_is_followed_after_the_one_to_https_and_ends_there(nginx, folder, certs, authority):
    """From any host of a route, over http or https, to its one host over https, in no circle."""
    authority.write(certs, "old.test")
    authority.write(certs, "www.test")
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        hosts = {"hosts": ("old.test", "www.test"), "redirect": parse_redirect("www.test"), "scheme": "https"}
        claims = (claim("web", "old.test"), claim("web", "www.test"))
        await running.settle(*asking(one.port, claims=False, **hosts), *claims)
        answer = await get(running.port, f"old.test:{running.port}", "/a?b")
        assert (answer.status, answer.headers["location"]) == (301, f"https://old.test:{port}/a?b")
        answer = await get_tls(port, f"old.test:{port}", "/a?b", authority=authority, name="old.test")
        assert (answer.status, answer.headers["location"]) == (307, f"https://www.test:{port}/a?b")
        answer = await get_tls(port, f"www.test:{port}", "/a?b", authority=authority, name="www.test")
        assert (answer.status, answer.body) == (200, "one GET /a?b")
        hosts["redirect"] = parse_redirect(f"301:https://www.test:{port}")
        await running.settle(*asking(one.port, claims=False, **hosts), *claims)
        assert (await get_tls(port, f"www.test:{port}", authority=authority, name="www.test")).status == 200


async def test_maintenance_by_tag_and_by_page_is_shown_on_both_sides(nginx, folder, certs, authority):
    pages = folder.parent / "pages"
    pages.mkdir()
    async with Backend("one") as one, tls_running(folder, nginx, certs, pages=str(pages)) as running:
        port = running.settings.https_port
        await running.settle(*asking(one.port, scheme="https", maintenance=True, hsts=Hsts(60)))
        said = f"503: {WEB} is being worked on; please try again later\n"
        for answer in (await get(running.port, WEB), await get_tls(port, WEB, authority=authority)):
            assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, said, "60")
        before = running.state["generation"]
        (pages / f"{WEB}.html").write_text("<h1>back at noon</h1>", encoding="utf-8")
        await until(lambda: running.state["generation"] != before, "the page is there")
        for answer in (await get(running.port, WEB, "/x"), await get_tls(port, WEB, "/x", authority=authority)):
            assert (answer.status, answer.body) == (503, "<h1>back at noon</h1>")
        assert one.requests == []


async def test_snippets_stand_on_both_sides(nginx, folder, certs, authority):
    snippets = folder.parent / "snippets"
    snippets.mkdir()
    (snippets / f"{WEB}.conf").write_text("location /.well-known/acme-challenge/ { return 200 token; }\n")
    (snippets / f"{WEB}@.conf").write_text("add_header X-Path root always;\n")
    async with Backend("one") as one, tls_running(folder, nginx, certs, snippets=str(snippets)) as running:
        port = running.settings.https_port
        await running.settle(*asking(one.port, scheme="https", hsts=Hsts(60)))
        challenge = "/.well-known/acme-challenge/x"  # RFC 8555 §8.3: asked for over http
        assert (await get(running.port, WEB, challenge)).body == "token"
        assert (await get_tls(port, WEB, challenge, authority=authority)).body == "token"
        answer = await get_tls(port, WEB, authority=authority)
        assert (answer.headers["x-path"], answer.headers["strict-transport-security"]) == ("root", "max-age=60")
        assert (await get(running.port, WEB)).status == 301


# gRPC


@pytest.fixture
def secured_nginx(folder, nginx, certs):
    """Starts a config generator with a certificate for `web`."""
    return functools.partial(tls_running, folder, nginx, certs)


@pytest.fixture
def greeter():
    """A real gRPC server in the clear: its handler and its port."""
    server, handler = grpc.server(ThreadPoolExecutor(4)), Greeter()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, port
    server.stop(None).wait()


def talk(port, authority):
    """What a real client that verifies our certificate hears, with ALPN h2."""
    trusted = grpc.ssl_channel_credentials(authority.ca.cert_pem.bytes())
    options = [("grpc.ssl_target_name_override", WEB), ("grpc.default_authority", WEB)]
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted, options) as there:
        echo = there.unary_unary("/t.T/Echo")(b"hello", timeout=10)
        return echo, list(there.stream_stream("/t.T/Chat")(iter([b"a", b"b"]), timeout=10))


@pytest.mark.parametrize("scheme", ["https", "grpc"])
async def test_grpc_over_tls(secured_nginx, authority, greeter, scheme):
    """PROXY=https with gRPC servers, and PROXY=grpc once a certificate covers its host; no client is sent anywhere."""
    handler, port = greeter
    async with secured_nginx(h2c_port=free_port()) as running:
        await running.settle(*asking(port, scheme=scheme, backend="grpc"))
        https = running.settings.https_port
        assert await asyncio.to_thread(talk, https, authority) == (b"hello", [b"a!", b"b!"])
        assert (handler.metadata["x-real-ip"], handler.metadata["x-forwarded-proto"]) == ("127.0.0.1", "https")
        assert running.state["refused"] == []
        if scheme == "grpc":  # in the clear too: gRPC clients follow no redirect
            with grpc.insecure_channel(
                f"127.0.0.1:{running.settings.h2c_port}", [("grpc.default_authority", WEB)]
            ) as there:
                assert await asyncio.to_thread(there.unary_unary("/t.T/Echo"), b"hello", timeout=10) == b"hello"


# Balancers in front


async def spoken(port, client, context, name=WEB, said=b""):
    """The first line of an answer over TLS, behind a PROXY header that names a client."""
    request = said or f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
    return await asyncio.to_thread(_spoken, port, client, context, name, request)


def _spoken(port, client, context, name, request):
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as plain:
        plain.sendall(f"PROXY TCP4 {client} 127.0.0.1 5000 443\r\n".encode())
        with context.wrap_socket(plain, server_hostname=name) as tls, tls.makefile("rb") as answer:
            tls.sendall(request)
            return answer.readline()


@pytest.mark.parametrize("beside", ["alone", "beside a stream"])
async def test_the_proxy_protocol_names_the_client_of_https(nginx, folder, certs, authority, beside):
    """The client's own address counts, also where https stands behind the listener of streams."""
    async with (
        Backend("one") as one,
        echo("db", server_side(authority, "db.test")) as db,
        tls_running(folder, nginx, certs, trusted=NET, proxy_protocol=True) as running,
    ):
        port = running.settings.https_port
        named = put(container("db", endpoint("db", to=db, scheme="tcp", hosts=("db.test",))))
        more = [named, claim("db", "db.test:https", "/tcp")] if beside == "beside a stream" else []
        await running.settle(*asking(one.port, scheme="https", allow=parse_networks("9.9.9.0/24")), *more)
        context = authority.context()
        assert (await spoken(port, "9.9.9.9", context)).split()[1] == b"200"
        seen = one.requests[-1][2]
        assert (seen["x-real-ip"], seen["x-forwarded-proto"]) == ("9.9.9.9", "https")
        assert (await spoken(port, "8.8.8.8", context)).split()[1] == b"403"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await get_tls(port, WEB, authority=authority)
        if more:
            assert await spoken(port, "9.9.9.9", context, "db.test", b"hi\n") == b"db hi\n"
        assert running.state["refused"] == []


def server_side(authority, host):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.ca.issue_cert(host).configure_cert(context)
    return context


async def test_balancers_that_end_tls_are_not_sent_in_circles(nginx, folder, certs, authority):
    """Who came to a trusted balancer over https is served; over http, or on anybody else's word, he is sent away."""
    told = [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "https")]
    asked = {"scheme": "https", "allow": parse_networks("9.9.9.0/24"), "hsts": Hsts(60)}
    async with Backend("one") as one, tls_running(folder, nginx, certs, trusted=NET) as running:
        await running.settle(*asking(one.port, **asked))
        for method in ("GET", "POST"):
            answer = await get(running.port, WEB, method=method, headers=told)
            assert (answer.status, answer.headers["strict-transport-security"]) == (200, "max-age=60")
            answer = await get(running.port, WEB, method=method, headers=told[:1])
            assert answer.status == (301 if method == "GET" else 308)
        assert await statuses(running.port, 1, headers=[("X-Forwarded-For", "8.8.8.8"), told[1]]) == [403]
        assert await secured(running, authority, headers=told) == [200]
        assert await secured(running, authority) == [403]
    async with Backend("one") as one, tls_running(folder, nginx, certs, trusted=("10.0.0.0/8",)) as running:
        await running.settle(*asking(one.port, **asked))
        assert await statuses(running.port, 1, headers=told) == [301]


HTTPS_TOLD, HTTP_TOLD = ("https", "HTTPS", "wss", "https,http", "https, https"), ("http", "ws", "http,https")


@pytest.mark.parametrize("with_folder", [False, True], ids=["no --certs", "no certificate that covers it"])
async def test_balancers_that_have_the_only_certificate_say_who_is_sent_away(nginx, folder, authority, with_folder):
    """Only on their word: there may be no https but theirs, so whoever comes without it is served."""
    certs = folder.parent / "others"
    authority.write(certs, "other.test")
    more = {"certs": str(certs), "https_port": free_port()} if with_folder else {}
    async with Backend("one") as one, Running(folder, nginx, trusted=NET, **more) as running:
        await running.settle(*asking(one.port, scheme="https", hsts=Hsts(60)))
        for method, status in (("GET", 301), ("POST", 308)):
            for proto in HTTP_TOLD:
                answer = await get(running.port, WEB, "/a?b", method=method, headers=[("X-Forwarded-Proto", proto)])
                assert (answer.status, answer.headers["location"]) == (status, f"https://{WEB}/a?b"), proto
                assert "strict-transport-security" not in answer.headers
            for proto in HTTPS_TOLD:
                answer = await get(running.port, WEB, method=method, headers=[("X-Forwarded-Proto", proto)])
                assert (answer.status, answer.headers["strict-transport-security"]) == (200, "max-age=60"), proto
                assert one.requests[-1][2]["x-forwarded-proto"] == "https"
            answer = await get(running.port, WEB, method=method)
            assert answer.status == 200
            assert "strict-transport-security" not in answer.headers  # RFC 6797 §7.2
        said = [f"https is left to the balancers: no certificate in --certs covers {WEB}"] if with_folder else []
        assert [note["reason"] for note in running.state["refused"]] == said
    async with Backend("one") as one, Running(folder, nginx, trusted=("10.0.0.0/8",), **more) as running:
        await running.settle(*asking(one.port, scheme="https", hsts=Hsts(60)))
        answer = await get(running.port, WEB, headers=[("X-Forwarded-Proto", "http")])
        assert (answer.status, "strict-transport-security" in answer.headers) == (200, False)


PUBLIC = {
    "as it is": ({}, None),
    "a port that is given": ({"https_public_port": 8443}, ":8443"),
    "443 that is given": ({"https_public_port": 443}, ""),
    "behind balancers": ({"trusted": NET}, ""),
    "behind balancers at another port": ({"trusted": NET, "https_public_port": 9443}, ":9443"),
}


@pytest.mark.parametrize(("more", "port"), PUBLIC.values(), ids=PUBLIC)
async def test_who_is_sent_to_https_gets_the_port_that_clients_know(one_nginx, folder, certs, more, port):
    async with Backend("one") as one, tls_running(folder, one_nginx, certs, **more) as running:
        await running.settle(*asking(one.port, scheme="https"))
        port = f":{running.settings.https_port}" if port is None else port
        assert (await get(running.port, WEB, "/x")).headers["location"] == f"https://{WEB}{port}/x"


async def test_no_name_shares_the_port_of_https_with_balancers_that_speak_http(one_nginx, folder, certs):
    """Behind the streams' listener https would take each client for the balancer, and let him in."""
    async with Backend("one") as one, tls_running(folder, one_nginx, certs, trusted=NET) as running:
        named = put(container("db", endpoint("db", to=one.port, scheme="tcp", hosts=("db.test",))))
        await running.settle(*asking(one.port, scheme="https"), named, claim("db", "db.test:https", "/tcp"))
        (note,) = running.state["refused"]
        assert (note["subject"], "--trusted-proxies" in note["reason"]) == ("db.test:https/tcp", True)
        assert not (folder / "current" / "stream.conf").exists()


# Quarantine


async def test_a_refused_service_answers_503_over_https_and_its_streams_leave(nginx, folder, certs, authority):
    templates = spoiling(BROKEN)
    stream = free_port()
    async with (
        Backend("one") as one,
        echo("two") as two,
        tls_running(folder, nginx, certs, templates=templates) as running,
    ):
        port = running.settings.https_port
        wants = {"scheme": "https", "hosts": (WEB,)}
        good = put(container("web", endpoint("web", to=one.port, **wants)))
        tcp = endpoint("bad", 81, to=two, scheme="tcp", port_=stream)
        await running.settle(good, claim("web", WEB), put(container("bad", tcp)), claim("bad", f"*:{stream}", "/tcp"))
        assert await asyncio.to_thread(line, stream) == b"two hi\n"
        spoilt = endpoint("bad", to=two, path="/broken", scheme="https", hosts=(WEB, "bad.test"))  # a part, and a host
        claims = [claim("bad", host, "/broken") for host in (WEB, "bad.test")]
        await running.settle(put(container("bad", tcp, spoilt)), *claims)
        assert [entry["service"] for entry in running.state["quarantined"]] == ["bad"]
        answer = await get_tls(port, WEB, "/broken", authority=authority)
        assert (answer.status, "in quarantine" in answer.body) == (503, True)
        assert (await get(running.port, WEB, "/broken")).status == 503
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        assert (await get(running.port, WEB)).status == 301
        assert running.state["streams"] == []
        await until(lambda: _closed(stream), "nobody listens there")
        await running.settle(put(container("bad", tcp)), deletes=[one.key for one in claims])
        assert running.state["quarantined"] == []
        assert await asyncio.to_thread(line, stream) == b"two hi\n"


def line(port):
    """What a TCP server says to a line."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain, plain.makefile("rb") as answer:
        plain.sendall(b"hi\n")
        return answer.readline()


async def _closed(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_refused_service_that_leads_its_host_answers_503_over_https(nginx, folder, certs, authority):
    async with Backend("one") as one, tls_running(folder, nginx, certs, templates=spoiling(BROKEN)) as running:
        bad = put(container("web", endpoint("web", to=one.port, path="/broken", scheme="https")))
        part = put(container("part", endpoint("part", to=one.port, hosts=(WEB,), path="/broken/part", scheme="https")))
        await running.settle(bad, claim("web", WEB, "/broken"), part, claim("part", WEB, "/broken/part"))
        assert [entry["service"] for entry in running.state["quarantined"]] == ["web"]
        port = running.settings.https_port
        assert (await get_tls(port, WEB, "/broken", authority=authority)).status == 503
        assert (await get_tls(port, WEB, "/broken/part", authority=authority)).body == "one GET /broken/part"
        assert (await get(running.port, WEB, "/broken/part")).status == 301
