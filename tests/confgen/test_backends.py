"""What nginx speaks with applications, with clients and with balancers in front: TLS, gRPC, HTTP/2, PROXY protocol."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from lab.tools import Tools
from pilotfish.catalog.options import Options, parse_networks, parse_rate, parse_redirect
from tests.confgen.asking import WEB, asking, statuses, websocket
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put
from tests.parts.ports import free_port

# Backends


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


def refusal(port, authority=WEB):
    with channel(port, authority) as there, pytest.raises(grpc.RpcError) as caught:
        there.unary_unary("/t.T/Echo")(b"hello", timeout=10)
    return caught.value.code()


async def test_grpc_calls_meet_the_guards(nginx, folder, greeter, users):
    _, port, backend = greeter
    h2c = free_port()
    async with Running(folder, nginx, h2c_port=h2c, htpasswd=str(users)) as running:
        await running.settle(*asking(port, scheme="grpc", backend=backend, auth="staff"))
        assert await asyncio.to_thread(refusal, h2c) == grpc.StatusCode.UNAUTHENTICATED
        await running.settle(*asking(port, scheme="grpc", backend=backend, allow=parse_networks("10.0.0.0/8")))
        assert await asyncio.to_thread(refusal, h2c) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_silent_stream_outlives_a_minute_unless_tagged(one_nginx, folder, greeter):
    """The tag's time is kept, so that the hour without it is what it says."""
    _, port, backend = greeter
    h2c = free_port()
    async with Running(folder, one_nginx, h2c_port=h2c) as running:
        await running.settle(*asking(port, scheme="grpc", backend=backend))
        text = (folder / "current/services/web.conf").read_text()
        assert "grpc_read_timeout 3600s;" in text
        await running.settle(*asking(port, scheme="grpc", backend=backend, timeout_s=0.3))
        assert await asyncio.to_thread(silence, h2c) not in {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}


def silence(port):
    """How a call ends whose client says nothing for longer than it may."""
    hold = threading.Event()
    with channel(port) as there:
        call = there.stream_stream("/t.T/Chat")(iter(lambda: hold.wait(10) or b"", None), timeout=8)
        code = call.code()
    hold.set()
    return code


async def test_http2_without_tls(nginx, folder):
    """A real client speaks HTTP/2 at once: on its own port always, on the shared one from 1.25.1 on."""
    h2c = free_port()
    async with Backend("one") as one, Running(folder, nginx, h2c_port=h2c) as running:
        await running.settle(*asking(one.port))
        shares = running.service._publisher._renderer._machine.can.h2c_shares
        for port in (h2c, running.port) if shares else (h2c,):
            for method in ("GET", "POST"):
                said = await asyncio.to_thread(curl, "--http2-prior-knowledge", "-X", method, f"http://{WEB}:{port}/x")
                assert said == f"one {method} /x 2 200"
        assert await asyncio.to_thread(curl, f"http://{WEB}:{running.port}/x") == "one GET /x 1.1 200"


def curl(*words):
    program = str(Tools(["lab"]).find("curl"))
    port = words[-1].rpartition(":")[2].partition("/")[0]
    how = ["-sS", "--max-time", "10", "--noproxy", "*", "--resolve", f"{WEB}:{port}:127.0.0.1"]
    form = ["-w", " %{http_version} %{http_code}"]
    return subprocess.run([program, *how, *form, *words], check=True, capture_output=True, text=True).stdout


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


async def test_everything_at_once_is_taken_by_nginx(nginx, folder, users):
    """All flags and all tags together."""
    flags = {"trusted": ("127.0.0.1/32", "::1/128"), "proxy_protocol": True, "h2c_port": free_port()}
    asked = {
        "auth": "staff", "allow": parse_networks("0.0.0.0/0,::/0"), "rate": parse_rate("10/s,connections=2"),
        "body": 10,
        "redirect": parse_redirect("301:https://a.test/x"), "sticky": True, "compress": True, "security": True,
        "timeout_s": 5.5,
    }  # fmt: skip
    async with Backend("one") as one, Running(folder, nginx, htpasswd=str(users), **flags) as running:
        services = {"plain": {}, "strip": {"path": "/p", "strip": True}, "tls": {"backend": "https"}}
        services |= {"calls": {"scheme": "grpc", "backend": "grpcs"}, "work": {}}
        for name, more in services.items():
            options = Options(**asked, maintenance=name == "work")
            await running.write(put(container(name, endpoint(name, to=one.port, options=options, **more))))
            await running.write(claim(name, f"{name}.{DOMAIN}", more.get("path", "/")))
        await running.settle(put(container("last", endpoint("last"))), claim("last", f"last.{DOMAIN}"))
        assert running.state["nginx"]["error"] is None
        assert running.state["refused"] == []
        assert "warn" not in (folder / "logs" / "error.log").read_text()
