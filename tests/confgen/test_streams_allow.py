"""Streams are for the clients of PROXY_ALLOW alone: TCP, UDP and TLS by its name, seen by clients of two addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec
import pytest

from confgen.nginx.io_features import probe
from pilotfish.catalog.options import Options, Rate
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, put
from tests.confgen.test_stream_views import catalog_of, tcp
from tests.confgen.test_streams import DB, WEB, ask, echo, free_udp_port, own_tls, passing, stream, udp_echo
from tests.confgen.tls_kit import get_tls
from tests.parts.ports import free_port

IN, OUT = "127.0.0.1", "127.0.0.2"
ONLY_IN = Options(allow=(f"{IN}/32", "fd00::/8"))


def heard(port, address, text=b"hi\n"):
    """What a client of an address hears over TCP; empty: nothing, and the connection is closed."""
    with socket.create_connection((IN, port), 5, source_address=(address, 0)) as client:
        client.settimeout(5)
        with contextlib.suppress(ConnectionError):
            client.sendall(text)
            return client.recv(100)
    return b""


def answered(port, address):
    """What a client of an address hears over UDP."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.bind((address, 0))
        client.settimeout(1.0)
        client.sendto(b"hi", (IN, port))
        with contextlib.suppress(TimeoutError):
            return client.recv(100)
    return b""


@contextlib.asynccontextmanager
async def coming_from(address, port):
    """A port of this host through which clients come from another address."""

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(4096):
                writer.write(piece)
        writer.close()

    async def serve(reader, writer):
        out_reader, out_writer = await asyncio.open_connection(IN, port, local_addr=(address, 0))
        await asyncio.gather(pump(reader, out_writer), pump(out_reader, writer))

    server = await asyncio.start_server(serve, IN)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_tcp_is_for_the_networks_of_its_tag(nginx, folder):
    port, other = free_port(), free_port()
    async with echo("db") as to, echo("open") as free, Running(folder, nginx) as running:
        await running.settle(
            stream("db", to, port, options=ONLY_IN),
            claim("db", f"*:{port}", "/tcp"),
            stream("free", free, other),
            claim("free", f"*:{other}", "/tcp"),
        )
        assert await asyncio.to_thread(heard, port, IN) == b"db hi\n"
        assert await asyncio.to_thread(heard, port, OUT) == b""
        assert await asyncio.to_thread(heard, other, OUT) == b"open hi\n"  # nobody else's stream is closed
        assert running.state["streams"][0]["allow"] == ["127.0.0.1/32", "fd00::/8"]
        await running.settle(stream("db", to, port))
        assert await asyncio.to_thread(heard, port, OUT) == b"db hi\n"


async def test_udp_is_for_the_networks_of_its_tag(nginx, folder):
    port = free_udp_port()
    async with udp_echo("dns") as (to, server), Running(folder, nginx) as running:
        guarded = stream("dns", to, port, "udp", protocol="udp", options=ONLY_IN)
        await running.settle(guarded, claim("dns", f"*:{port}", "/udp"))
        assert await asyncio.to_thread(answered, port, IN) == b"dns hi"
        assert await asyncio.to_thread(answered, port, OUT) == b""
        assert len(server.clients) == 1


@pytest.mark.parametrize("https", [True, False], ids=["beside https", "without https"])
async def test_a_name_is_for_the_networks_of_its_tag(nginx, folder, authority, tmp_path, https):
    """Of two names at one port one is guarded; who is kept out gets no other service by its wildcard either."""
    certs = tmp_path / "certs"
    authority.write(certs, "all", f"*.{DOMAIN}")
    app = own_tls(authority, tmp_path, "app", DB, f"free.{DOMAIN}")
    port, more = free_port(), {"certs": str(certs)} if https else {}
    async with (
        echo("db", app) as db,
        echo("free", app) as free,
        Backend("wide") as wide,
        Running(folder, nginx, https_port=port, **more) as running,
    ):
        everything = put(container("wide", endpoint("wide", to=wide.port, scheme="https", hosts=(f"*.{DOMAIN}",))))
        await running.settle(
            passing("db", db, DB, options=ONLY_IN),
            claim("db", f"{DB}:https", "/tcp"),
            passing("free", free, f"free.{DOMAIN}"),
            claim("free", f"free.{DOMAIN}:https", "/tcp"),
            everything,
            claim("wide", f"*.{DOMAIN}"),
        )
        assert await ask(port, DB, authority) == b"db hi\n"
        async with coming_from(OUT, port) as outside:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await ask(outside, DB, authority)
            assert await ask(outside, f"free.{DOMAIN}", authority) == b"free hi\n"
            if https:
                assert (await get_tls(outside, WEB, authority=authority)).body == "wide GET /"


async def test_the_owner_of_a_port_keeps_nobody_from_a_name_there(one_nginx, folder, authority, tmp_path):
    port = free_port()
    app = own_tls(authority, tmp_path, "a", "a.test")
    async with echo("a", app) as a, echo("rest") as rest, Running(folder, one_nginx) as running:
        await running.settle(
            passing("a", a, "a.test", port=port),
            claim("a", f"a.test:{port}", "/tcp"),
            stream("rest", rest, port, options=ONLY_IN),
            claim("rest", f"*:{port}", "/tcp"),
        )
        assert await asyncio.to_thread(heard, port, IN, b"no TLS at all\n") == b"rest no TLS at all\n"
        assert await asyncio.to_thread(heard, port, OUT, b"no TLS at all\n") == b""
        async with coming_from(OUT, port) as outside:
            assert await ask(outside, "a.test", authority) == b"a hi\n"


def told(port, client):
    """What a client hears that a balancer speaks for."""
    with socket.create_connection((IN, port), 5) as balancer:
        balancer.sendall(f"PROXY TCP4 {client} 10.0.0.1 4000 {port}\r\nhi\n".encode())
        with contextlib.suppress(ConnectionError):
            return balancer.recv(100)
    return b""


async def test_behind_balancers_the_client_counts_whom_they_name(nginx, folder):
    port, more = free_port(), {"proxy_protocol": True, "trusted": ("127.0.0.0/8",)}
    async with echo("db") as to, Running(folder, nginx, **more) as running:
        inside = Options(allow=("10.0.0.0/8",))
        await running.settle(stream("db", to, port, options=inside), claim("db", f"*:{port}", "/tcp"))
        assert await asyncio.to_thread(told, port, "10.1.2.3") == b"db hi\n"
        assert await asyncio.to_thread(told, port, "192.0.2.1") == b""


async def test_an_nginx_that_does_not_know_whom_balancers_speak_for_lets_nobody_in(one_nginx, folder, monkeypatch):
    """It would take everybody for the balancer, whose own network may be allowed."""

    async def without(*args):
        found = await probe(*args)
        return msgspec.structs.replace(found, with_modules=found.with_modules - {"stream_realip"})

    monkeypatch.setattr("confgen.nginx.io_setup.probe", without)
    port, more = free_port(), {"proxy_protocol": True, "trusted": ("127.0.0.0/8",)}
    async with echo("db") as to, Running(folder, one_nginx, **more) as running:
        inside = Options(allow=("127.0.0.0/8",))
        await running.settle(stream("db", to, port, options=inside), claim("db", f"*:{port}", "/tcp"))
        (note,) = running.state["refused"]
        assert note["reason"] == "PROXY_ALLOW: nginx 1.22.1 is built without stream_realip; nobody is let in"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(told, port, "192.0.2.1")


LISTS = {
    "everybody": (("0.0.0.0/0", "::/0"), True),
    "everybody of version 6": (("::/0",), False),
    "one within another": (("127.0.0.0/8", "127.0.0.2/32"), True),
    "mapped": (("::ffff:127.0.0.2/128", "10.0.0.0/8"), False),
}


@pytest.mark.parametrize(("allow", "let_in"), LISTS.values(), ids=LISTS)
async def test_any_list_of_networks_is_taken_by_nginx(nginx, folder, allow, let_in):
    port = free_port()
    async with echo("db") as to, Running(folder, nginx) as running:
        wish = stream("db", to, port, options=Options(allow=allow))
        await running.settle(wish, claim("db", f"*:{port}", "/tcp"))
        assert (await asyncio.to_thread(heard, port, OUT) == b"db hi\n") is let_in
        assert running.state["quarantined"] == []


WISHES = {
    "one asks for nothing": ([None, "10.0.0.0/8"], ["10.0.0.0/8"]),
    "one within the other": (["10.1.0.0/16", "10.0.0.0/8"], ["10.1.0.0/16"]),
    "quite others": (["10.0.0.0/8", "fd00::/8"], []),
    "nobody asks": ([None, None], None),
}


@pytest.mark.parametrize(("allow", "let_in"), WISHES.values(), ids=WISHES)
@pytest.mark.parametrize("state", ["passing", "failing"])
def test_what_protects_most_counts_also_of_what_is_not_published(allow, let_in, state):
    first, second = (Options(allow=(one,)) if one else None for one in allow)
    there = [
        endpoint("db", 80, scheme="tcp", port_=1100, options=first),
        endpoint("db", 81, scheme="tcp", port_=1100, options=second, state=state),
    ]
    catalog = catalog_of(put(container("db", *there)), claim("db", "*:1100", "/tcp"))
    guards = catalog.views.streams.views["db"].guards
    assert [[one.text for one in guard.networks] for guard in guards] == ([] if let_in is None else [let_in])


ASKED = {"auth": Options(auth="staff"), "rate": Options(rate=Rate(connections=5))}


@pytest.mark.parametrize("options", ASKED.values(), ids=ASKED)
def test_a_guard_that_streams_have_not_closes_them(options):
    """No tag makes such a record; whoever writes into the store may."""
    catalog = catalog_of(*tcp("db", 1100, options=options))
    assert catalog.views.streams.views == {}
    (note,) = catalog.notes("db")
    assert note[1].endswith("streams have no such guard; nobody is let in")
