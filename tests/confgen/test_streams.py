"""A real nginx, old and new, passes on TCP, UDP and TLS by its name, as docs/nginx.md says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys

import pytest

from confgen.nginx import io_ports
from confgen.nginx.features import LEAST
from confgen.nginx.stream_shapes import PortRange, Socket
from confgen.settings import parse_range
from pilotfish.catalog.options import Options
from pilotfish.catalog.values import BadValue
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put, until
from tests.confgen.tls_kit import dial, get_tls, served_certificate
from tests.parts.ports import free_port

WEB, DB = f"web.{DOMAIN}", f"db.{DOMAIN}"


@contextlib.asynccontextmanager
async def echo(name, context=None):
    """A TCP server, over TLS with a context, that answers each line with its name in front; yields its port."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(name.encode() + b" " + line)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class UdpEcho(asyncio.DatagramProtocol):
    def __init__(self, name):
        self.name = name
        self.clients = set()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.clients.add(addr)
        self.transport.sendto(self.name.encode() + b" " + data, addr)


@contextlib.asynccontextmanager
async def udp_echo(name):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: UdpEcho(name), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()


def say(port, text=b"hi\n"):
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(text)
        return client.recv(100)


def free_udp_port():
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stream(service, to, port, scheme="tcp", **more):
    one = endpoint(service, to=to, scheme=scheme, port_=port, **more)
    return put(container(service, one))


async def test_tcp_is_passed_on_at_its_port_and_ends_with_its_service(nginx, folder):
    port = free_port()
    async with echo("db") as to, Running(folder, nginx) as running:
        await running.settle(stream("db", to, port), claim("db", f"*:{port}", "/tcp"))
        assert await asyncio.to_thread(say, port) == b"db hi\n"
        assert running.state["streams"] == [
            {"port": f"{port}/tcp", "host": "", "service": "db", "servers": [f"127.0.0.1:{to}"], "allow": None}
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await running.settle(stream("db", to, port, state="draining"))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(say, port)
        writer.write(b"still\n")  # what is open lives on in the old workers
        assert await reader.readline() == b"db still\n"
        writer.close()


async def test_a_refused_connection_goes_to_the_other_server(nginx, folder):
    port, gone = free_port(), free_port()
    async with echo("db") as to, Running(folder, nginx) as running:
        dead = endpoint("db", 81, to=gone, scheme="tcp", port_=port)
        live = endpoint("db", 80, to=to, scheme="tcp", port_=port)
        await running.settle(put(container("db", live, dead)), claim("db", f"*:{port}", "/tcp"))
        assert [await asyncio.to_thread(say, port) for _ in range(10)] == [b"db hi\n"] * 10
        assert "Connection refused" in (folder / "logs" / "requests-error.log").read_text()  # the fault was met


async def test_udp_is_answered_to_each_client_also_across_reloads(nginx, folder):
    port = free_udp_port()
    async with udp_echo("dns") as (to, server), Running(folder, nginx) as running:
        await running.settle(stream("dns", to, port, "udp", protocol="udp"), claim("dns", f"*:{port}", "/udp"))
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            lost = 0
            for turn in range(60):
                if turn in {20, 40}:
                    await running.settle(stream("dns", to, port, "udp", protocol="udp", weight=turn))
                await loop.sock_sendall(client, b"%d" % turn)
                try:
                    async with asyncio.timeout(2.0):
                        assert await loop.sock_recv(client, 100) == b"dns %d" % turn
                except TimeoutError:
                    lost += 1
        assert lost == 0
        assert len(server.clients) <= 3  # one conversation a generation: workers do not share a client


async def test_a_client_of_udp_stays_at_its_server(one_nginx, folder):
    port = free_udp_port()
    async with udp_echo("a") as (a, _), udp_echo("b") as (b, _), Running(folder, one_nginx) as running:
        both = [
            endpoint("dns", number, to=to, scheme="udp", port_=port, protocol="udp")
            for number, to in ((53, a), (54, b))
        ]
        await running.settle(put(container("dns", *both)), claim("dns", f"*:{port}", "/udp"))
        seen = [await asyncio.to_thread(conversation, port) for _ in range(12)]
    assert {len(answers) for answers in seen} == {1}
    assert {name for answers in seen for name in answers} == {b"a", b"b"}


def conversation(port):
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(5)
        found = set()
        for _ in range(8):
            client.send(b"x")
            found.add(client.recv(100).split()[0])
    return found


REFUSED = {
    "not among those allowed": (lambda _: 80, "port 80/tcp is not among --stream-ports"),
    "that of http": (lambda running: running.port, "port {port}/tcp is that of http"),
    "that of https": (
        lambda running: running.settings.https_port,
        "port {port}/tcp is that of https: give PROXY_HOST, and it is shared by name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_port_that_cannot_be_had_is_said(one_nginx, folder, name):
    port_of, reason = REFUSED[name]
    async with echo("db") as to, Backend("one") as one, Running(folder, one_nginx, https_port=free_port()) as running:
        port = port_of(running)
        await running.settle(
            stream("db", to, port),
            claim("db", f"*:{port}", "/tcp"),
            put(container("web", endpoint("web", to=one.port))),
            claim("web", WEB),
        )
        refused = [(note["subject"], note["reason"]) for note in running.state["refused"]]
        assert refused == [(f"*:{port}/tcp", reason.format(port=port))]
        assert (await get(running.port, WEB)).body == "one GET /"


async def test_a_taken_port_costs_its_route_alone_and_is_served_once_it_is_free(nginx, folder):
    with socket.socket() as taker:
        taker.bind(("0.0.0.0", 0))
        taker.listen()
        port = taker.getsockname()[1]
        async with echo("db") as to, Backend("one") as one, Running(folder, nginx) as running:
            await running.settle(
                stream("db", to, port),
                claim("db", f"*:{port}", "/tcp"),
                put(container("web", endpoint("web", to=one.port))),
                claim("web", WEB),
            )
            assert [note["reason"] for note in running.state["refused"]] == [
                f"port {port}/tcp is taken by another process of this host"
            ]
            assert running.state["nginx"]["error"] is None
            assert (await get(running.port, WEB)).body == "one GET /"
            taker.close()
            await until(lambda: running.state["streams"], "the port is tried again")
            await until(lambda: heard(port), "it is served")


async def heard(port):
    try:
        return await asyncio.to_thread(say, port) == b"db hi\n"
    except (ConnectionRefusedError, ConnectionResetError):  # it was in the queue of whoever had the port before
        return False


async def test_two_services_at_one_port_the_first_has_it(one_nginx, folder):
    port = free_port()
    async with echo("a") as a, echo("b") as b, Running(folder, one_nginx) as running:
        await running.settle(stream("a", a, port), stream("b", b, port), claim("b", f"*:{port}", "/tcp"))
        assert await asyncio.to_thread(say, port) == b"b hi\n"
        assert [(note["service"], note["reason"]) for note in running.state["refused"]] == [
            ("a", "it belongs to b, which asked first")
        ]


async def test_a_next_process_finds_its_ports_held_by_its_own_nginx(one_nginx, folder):
    port = free_port()
    async with echo("db") as to:
        async with Running(folder, one_nginx, nginx_on_exit="keep") as running:
            await running.settle(stream("db", to, port), claim("db", f"*:{port}", "/tcp"))
            generation = running.state["generation"]
        async with Running(folder, one_nginx, port=running.port) as running:
            await running.settle(stream("db", to, port), claim("db", f"*:{port}", "/tcp"))
            assert await asyncio.to_thread(say, port) == b"db hi\n"
            assert running.state["generation"] == generation


async def test_without_the_module_it_is_said_and_http_serves(one_nginx, folder, monkeypatch):
    async def least(*_):
        return LEAST

    monkeypatch.setattr("confgen.nginx.io_setup.probe", least)
    port = free_port()
    async with echo("db") as to, Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(
            stream("db", to, port),
            claim("db", f"*:{port}", "/tcp"),
            put(container("web", endpoint("web", to=one.port))),
            claim("web", WEB),
        )
        (note,) = running.state["refused"]
        assert note["subject"] == f"*:{port}/tcp"
        assert note["reason"].startswith("nginx 1.22.1 is built without stream, and no ngx_stream_module.so")
        assert (await get(running.port, WEB)).body == "one GET /"


def passing(service, to, *hosts, port=0, **more):
    return put(container(service, endpoint(service, to=to, scheme="tcp", hosts=hosts, port_=port, **more)))


def own_tls(authority, folder, name, *hosts):
    """The server's side of TLS of an application that has its own certificate."""
    authority.write(folder, name, *hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


async def ask(port, name, authority):
    """What a TLS server behind a port answers a client that asks for a name, and verifies it."""
    async with dial(port, name, authority.context()) as (reader, writer, _), asyncio.timeout(10):
        writer.write(b"hi\n")
        return await reader.readline()


async def test_tls_is_passed_on_by_its_name_beside_https(nginx, folder, certs, authority, tmp_path):
    authority.write(certs, "all", f"*.{DOMAIN}")
    app = own_tls(authority, tmp_path, "app", DB, "x.wide.test")
    port = free_port()
    async with (
        echo("db", app) as to,
        Backend("one") as one,
        Running(folder, nginx, certs=str(certs), https_port=port) as running,
    ):
        web = put(container("web", endpoint("web", to=one.port, scheme="https")))
        await running.settle(web, claim("web", WEB))
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        await running.settle(passing("db", to, DB, "*.wide.test"), claim("db", f"{DB}:https", "/tcp"),
                             claim("db", "*.wide.test:https", "/tcp"))  # fmt: skip
        assert await ask(port, DB, authority) == b"db hi\n"
        assert await ask(port, "x.wide.test", authority) == b"db hi\n"
        answer = await get_tls(port, WEB, "/x", authority=authority)
        assert (answer.status, answer.body) == (200, "one GET /x")
        seen = one.requests[-1][2]
        assert (seen["x-real-ip"], seen["x-forwarded-for"], seen["x-forwarded-port"]) == (
            "127.0.0.1",
            "127.0.0.1",
            str(port),
        )
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await served_certificate(port, "nobody.test", authority)
        async with dial(port, WEB, authority.context("h2")) as (_, _, tls):
            assert tls.selected_alpn_protocol() == "h2"
        # Nobody but nginx's own account may say to https whose address he likes.
        assert (folder / "inner").stat().st_mode & 0o077 == 0
        await running.settle(deletes=[passing("db", to).key])
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await served_certificate(port, DB, authority)


async def test_names_share_a_port_of_their_own_with_its_owner(nginx, folder, authority, tmp_path):
    port = free_port()
    a_tls = own_tls(authority, tmp_path, "a", "a.test")
    async with echo("a", a_tls) as a, echo("rest") as rest, Running(folder, nginx) as running:
        await running.settle(
            passing("a", a, "a.test", port=port),
            claim("a", f"a.test:{port}", "/tcp"),
            stream("rest", rest, port),
            claim("rest", f"*:{port}", "/tcp"),
        )
        assert await ask(port, "a.test", authority) == b"a hi\n"
        assert await asyncio.to_thread(say, port, b"plain text that is no TLS\n") == b"rest plain text that is no TLS\n"


async def test_a_name_that_comes_to_a_port_makes_nobody_wait_there(nginx, folder):
    """MySQL and SMTP speak first: where nginx looks for a name, it waits for their clients to."""
    port = free_port()

    async def greet(reader, writer):
        writer.write(b"220 hello\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, Running(folder, nginx) as running:
        to = server.sockets[0].getsockname()[1]
        await running.settle(stream("mail", to, port), claim("mail", f"*:{port}", "/tcp", since=1.0))
        await running.settle(
            passing("evil", to, "a.test", port=port), claim("evil", f"a.test:{port}", "/tcp", since=2.0)
        )
        async with asyncio.timeout(3.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readline() == b"220 hello\n"
        writer.close()
        (note,) = running.state["refused"]
        assert note["reason"] == f"mail has the whole of port {port}/tcp, and asked first"


async def test_a_name_on_the_port_of_https_belongs_to_whoever_asked_first(
    one_nginx, folder, certs, authority, tmp_path
):
    authority.write(certs, WEB)
    app = own_tls(authority, tmp_path, "app", WEB)
    port = free_port()
    async with (
        echo("db", app) as to,
        Backend("one") as one,
        Running(folder, one_nginx, certs=str(certs), https_port=port) as running,
    ):
        web = put(container("web", endpoint("web", to=one.port, scheme="https")))
        db = passing("db", to, WEB)
        await running.settle(web, db, claim("web", WEB, since=1.0), claim("db", f"{WEB}:https", "/tcp", since=2.0))
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        assert [(note["service"], note["reason"]) for note in running.state["refused"]] == [
            ("db", f"{WEB} is served over https, which was asked for first")
        ]
        await running.settle(claim("db", f"{WEB}:https", "/tcp", since=0.5))
        assert await ask(port, WEB, authority) == b"db hi\n"
        assert (await get(running.port, WEB)).body == "one GET /"  # and it is not sent where another one answers
        assert [(note["service"], note["reason"]) for note in running.state["refused"]] == [
            ("web", "served over http alone: db takes it as a stream on the port of https, and asked first")
        ]


async def test_an_exact_host_of_https_beats_a_wildcard_of_a_stream(one_nginx, folder, certs, authority, tmp_path):
    authority.write(certs, "shop", "a.shop.test")
    app = own_tls(authority, tmp_path, "app", "*.shop.test")
    port = free_port()
    async with (
        echo("db", app) as to,
        Backend("one") as one,
        Running(folder, one_nginx, certs=str(certs), https_port=port) as running,
    ):
        await running.settle(
            put(container("web", endpoint("web", to=one.port, scheme="https", hosts=("a.shop.test",)))),
            claim("web", "a.shop.test"),
            passing("db", to, "*.shop.test"),
            claim("db", "*.shop.test:https", "/tcp"),
        )
        assert (await get_tls(port, "a.shop.test", authority=authority)).body == "one GET /"
        assert await ask(port, "b.shop.test", authority) == b"db hi\n"


@pytest.mark.parametrize("https", [True, False], ids=["beside https", "without https"])
async def test_nobody_takes_a_name_that_another_one_has(one_nginx, folder, authority, tmp_path, https):
    """By the number of https's port, beside his http, or with a wildcard: whoever asks for it gets him or nobody."""
    app = own_tls(authority, tmp_path, "app", WEB, f"h.{DOMAIN}", f"proxy.{DOMAIN}", f"free.{DOMAIN}")
    port, more = free_port(), {"certs": str(tmp_path / "none")} if https else {}
    async with (
        echo("db", app) as db,
        echo("evil", app) as evil,
        Backend("one") as one,
        Running(folder, one_nginx, https_port=port, **more) as running,
    ):
        await running.settle(
            passing("db", db, WEB),
            claim("db", f"{WEB}:https", "/tcp", since=1.0),
            put(container("h", endpoint("h", to=one.port))),
            claim("h", f"h.{DOMAIN}", since=1.0),
            passing("evil", evil, WEB, port=port),
            claim("evil", f"{WEB}:{port}", "/tcp", since=9.0),
            passing("evil2", evil, f"h.{DOMAIN}"),
            claim("evil2", f"h.{DOMAIN}:https", "/tcp", since=9.0),
            passing("evil3", evil, f"*.{DOMAIN}"),
            claim("evil3", f"*.{DOMAIN}:https", "/tcp", since=9.0),
        )
        assert await ask(port, WEB, authority) == b"db hi\n"
        assert await ask(port, f"free.{DOMAIN}", authority) == b"evil hi\n"
        for host in (f"h.{DOMAIN}", f"proxy.{DOMAIN}"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(port, host, authority)
        assert {note["service"] for note in running.state["refused"]} == {"evil", "evil2"}
        await running.settle(deletes=[passing("db", db, WEB).key])
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(port, WEB, authority)


async def test_a_reserved_host_is_shown_no_certificate(nginx, folder, certs, authority):
    authority.write(certs, "wide", f"*.{DOMAIN}")
    async with (
        Backend("evil") as evil,
        Running(folder, nginx, certs=str(certs), https_port=free_port()) as running,
    ):
        port = running.settings.https_port
        wide = put(container("web", endpoint("web", to=evil.port, scheme="https", hosts=(f"*.{DOMAIN}",))))
        await running.settle(wide, claim("web", f"*.{DOMAIN}"))
        assert (await get_tls(port, f"x.{DOMAIN}", authority=authority)).body == "evil GET /"
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await served_certificate(port, f"proxy.{DOMAIN}", authority)
        # On a connection that was made for another name.
        answer = await get_tls(port, f"proxy.{DOMAIN}", authority=authority, name=f"x.{DOMAIN}")
        assert answer.status == 421


def test_a_port_is_tried_as_nginx_would_listen_there():
    with socket.socket() as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        one.listen()
        two.bind(("127.0.0.1", 0))
        taken = [Socket("tcp", one.getsockname()[1]), Socket("udp", two.getsockname()[1])]
        for wanted in taken:
            assert io_ports.problem(wanted, 0, ipv6=False) == f"port {wanted} is taken by another process of this host"
    for wanted in taken:
        assert io_ports.problem(wanted, 0, ipv6=False) == ""


# Where somebody listens, who asks for which address, and whether that one is taken for him.
ADDRESSES = {
    "the same": ("127.0.0.1", "other", "127.0.0.1", True),
    "the whole port": ("127.0.0.1", "other", "0.0.0.0", True),
    "one of the whole port": ("0.0.0.0", "other", "127.0.0.1", True),
    "another address": ("127.0.0.1", "other", "127.0.0.2", False),
    "his own": ("127.0.0.1", "himself", "127.0.0.1", False),
    "IPv6, the same": ("::1", "other", "::1", True),
    "IPv6, his own": ("::1", "himself", "::1", False),
    "IPv4 where IPv6 is taken": ("::1", "other", "127.0.0.1", False),
}


@pytest.mark.parametrize(("at", "who", "asked", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_tried_as_nginx_would_listen_there(at, who, asked, expected):
    with socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET) as one:
        one.bind((at, 0))
        one.listen()
        said = io_ports.taken(asked, one.getsockname()[1], os.getpid() if who == "himself" else 0)
        assert said == ("98: Address already in use" if expected else "")


def test_what_others_have_of_a_port_does_not_matter_to_an_address_that_nginx_has():
    listen = "import socket, sys; s = socket.create_server(('127.0.0.2', int(sys.argv[1]))); print('there', flush=True)"
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        argv = [sys.executable, "-c", f"{listen}; input()", str(port)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "there\n"
            said = {one: io_ports.taken(one, port, os.getpid()) for one in ("127.0.0.1", "127.0.0.2", "0.0.0.0")}
            other.communicate("\n")
    assert said == dict(zip(said, ["", *["98: Address already in use"] * 2], strict=True))


def test_a_port_that_there_is_not_is_left_to_nginx():
    assert io_ports.taken("127.0.0.1", 99999, 0) == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [("53", (53, 53)), ("5000-5010", (5000, 5010)), ("1-65535", (1, 65535)), ("9-8", None), ("0", None), ("a", None)],
)
def test_ranges_of_ports(text, read):
    if read is None:
        with pytest.raises(BadValue, match="is no"):
            parse_range(text)
    else:
        assert parse_range(text) == PortRange(*read)
        assert str(parse_range(text)) == text


async def test_streams_that_come_and_go_cost_https_no_request(nginx, folder, certs, authority, tmp_path):
    """With the first name the port goes from http to the streams, and stays there; nobody who comes in is refused."""
    authority.write(certs, WEB)
    app = own_tls(authority, tmp_path, "app", DB)
    port = free_port()
    failed, done, stop = [], 0, asyncio.Event()
    async with (
        echo("db", app) as to,
        Backend("one") as one,
        Running(folder, nginx, certs=str(certs), https_port=port) as running,
    ):
        web = put(container("web", endpoint("web", to=one.port, scheme="https")))
        await running.settle(web, claim("web", WEB))

        async def load():
            nonlocal done
            while not stop.is_set():
                try:
                    assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
                    done += 1
                except Exception as error:  # noqa: BLE001  whatever it is, it is a failed request
                    failed.append(error)

        clients = [asyncio.create_task(load()) for _ in range(3)]
        for _ in range(3):
            await running.settle(passing("db", to, DB), claim("db", f"{DB}:https", "/tcp"))
            assert await ask(port, DB, authority) == b"db hi\n"
            await running.settle(deletes=[passing("db", to).key])
        stop.set()
        await asyncio.gather(*clients)
    assert failed == []
    assert done > 30


async def test_fault_c11_a_stream_outlives_reloads(nginx, folder):
    port = free_port()
    async with echo("db") as to, Running(folder, nginx) as running:
        await running.settle(stream("db", to, port), claim("db", f"*:{port}", "/tcp"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(1, 26):
            await running.settle(stream("db", to, port, weight=turn))
            writer.write(b"%d\n" % turn)
            assert await reader.readline() == b"db %d\n" % turn
        writer.close()


async def test_fault_c13_the_file_of_streams_that_was_edited_is_written_anew(one_nginx, folder):
    port = free_port()
    async with echo("db") as to, Running(folder, one_nginx) as running:
        await running.settle(stream("db", to, port), claim("db", f"*:{port}", "/tcp"))
        edited = folder / "current" / "streams" / "db.conf"
        good = edited.read_text()
        edited.write_text("nonsense;")
        await running.settle(*(put(container("web", endpoint("web", to=to))), claim("web", WEB)))
        assert (folder / "current" / "streams" / "db.conf").read_text() == good
        assert await asyncio.to_thread(say, port) == b"db hi\n"


async def test_an_nginx_that_was_killed_comes_back_with_all_its_sockets(nginx, folder, certs, authority, tmp_path):
    authority.write(certs, WEB)
    app = own_tls(authority, tmp_path, "app", DB)
    port = free_port()
    async with (
        echo("db", app) as to,
        Backend("one") as one,
        Running(folder, nginx, certs=str(certs), https_port=port) as running,
    ):
        web = put(container("web", endpoint("web", to=one.port, scheme="https")))
        await running.settle(web, claim("web", WEB), passing("db", to, DB), claim("db", f"{DB}:https", "/tcp"))
        killed = running.pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: running.pid not in {0, killed} and running.state["serving"], "it is started again")
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        assert await ask(port, DB, authority) == b"db hi\n"


async def test_a_port_that_is_taken_after_it_was_tried_is_left_out_by_the_next_try(nginx, folder, monkeypatch):
    real, tried = io_ports.problem, []

    def late(wanted, *rest, **more):
        tried.append(wanted)
        return "" if len(tried) == 1 else real(wanted, *rest, **more)

    monkeypatch.setattr(io_ports, "problem", late)
    with socket.socket() as taker:
        taker.bind(("0.0.0.0", 0))
        taker.listen()
        port = taker.getsockname()[1]
        async with echo("db") as to, Backend("one") as one, Running(folder, nginx) as running:
            await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", WEB))
            await running.settle(stream("db", to, port), claim("db", f"*:{port}", "/tcp"))
            assert len(tried) > 1
            refused = "pilotfish_confgen_configurations_total"
            assert running.telemetry.registry.get_sample_value(refused, {"outcome": "refuse"}) >= 1  # the fault was met
            assert [note["reason"] for note in running.state["refused"]] == [
                f"port {port}/tcp is taken by another process of this host"
            ]
            assert (await get(running.port, WEB)).body == "one GET /"


async def test_a_silent_stream_ends_when_its_tag_says_so(nginx, folder):
    """Or everybody's connections are used up by those of UDP that nobody ends."""
    tcp, udp, quick = free_port(), free_udp_port(), Options(timeout_s=1.0)
    async with echo("db") as db, udp_echo("log") as (log, server), Running(folder, nginx) as running:
        await running.settle(
            stream("db", db, tcp, options=quick),
            claim("db", f"*:{tcp}", "/tcp"),
            stream("log", log, udp, "udp", protocol="udp", options=quick),
            claim("log", f"*:{udp}", "/udp"),
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp)
        writer.write(b"hi\n")
        async with asyncio.timeout(10.0):
            assert await reader.read() == b"db hi\n"
        writer.close()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", udp))

            def forgotten():
                client.send(b"x")
                return len(server.clients) > 1

            client.send(b"x")
            await until(lambda: server.clients, "the first datagram")
            await asyncio.sleep(1.5)  # silent for longer than it may be
            await until(forgotten, "a conversation of its own")


async def test_the_time_of_a_port_is_not_that_of_a_name_there(one_nginx, folder, authority, tmp_path):
    port = free_port()
    app = own_tls(authority, tmp_path, "a", "a.test")
    async with echo("a", app) as a, echo("rest") as rest, Running(folder, one_nginx) as running:
        await running.settle(
            passing("a", a, "a.test", port=port),
            claim("a", f"a.test:{port}", "/tcp", since=1.0),
            stream("rest", rest, port, options=Options(timeout_s=1.0)),
            claim("rest", f"*:{port}", "/tcp", since=2.0),
        )
        async with dial(port, "a.test", authority.context()) as (reader, writer, _):
            await asyncio.sleep(1.5)  # longer than the other one's connections may be silent
            writer.write(b"hi\n")
            assert await reader.readline() == b"a hi\n"
