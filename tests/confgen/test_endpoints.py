"""Endpoints without a reload: what of a view stands in the configuration, what is sent, and what nginx does with it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.nginx import endpoints
from confgen.nginx.endpoints import Apart
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.record import Address
from tests.confgen.kit import DOMAIN, Backend, Catalog, claim, container, endpoint, get, key_of, put, until
from tests.parts.ports import free_port

WEB = f"web.{DOMAIN}"
CHANGES = 300


def web(*ports, **more):
    """A service `web` with one endpoint for each port."""
    return put(container("web", *(endpoint("web", 80 + turn, to=port, **more) for turn, port in enumerate(ports))))


# --- what stands where

PORTS = st.lists(st.integers(8000, 8005), max_size=4, unique=True)


@given(st.lists(PORTS, min_size=1, max_size=8))
def test_a_change_of_servers_alone_renders_nothing(history):
    """Whatever came before: what is rendered, and what is sent, say together what the view says."""
    catalog, apart = Catalog(), Apart()
    apart.update(catalog.views.services, catalog.feed(claim("web", WEB)))
    told, some = {}, False
    for ports in history:
        again = apart.update(catalog.views.services, catalog.feed(web(*ports)))
        assert again == ({"web"} if bool(ports) != some else set())
        some = bool(ports)
        table = apart.table()
        difference = endpoints.difference(told, table)
        told = {name: servers for name, servers in (told | difference).items() if name in table}
        assert told == table
        assert all(difference[name] == "" for name in difference.keys() - table.keys())
        view = catalog.views.services["web"]
        servers = [one.address.text.replace(":", " ") + " 100" for each in view.upstreams for one in each.servers]
        assert sorted(table.values()) == ([" ".join(servers)] * 2 if ports else [])
        assert not any(one.servers for one in apart.settled["web"].upstreams)


def test_no_name_keeps_servers_that_are_gone_when_a_service_moves_to_another_host():
    """A configuration of before asks for the names that it knows, of which one is not in the one of now."""
    catalog, apart, before = Catalog(), Apart(), {}
    for node, port in (("h1", 8001), ("far", 8002)):
        there = {"addresses": (Address("192.0.2.1", port, "lan"), Address("192.0.2.1", port, "node"))}
        member = container("web", endpoint("web", name="web", node=node, **there), node=node)
        gone = [key_of(container("web"))] if before else []
        apart.update(catalog.views.services, catalog.feed(claim("web", WEB), put(member), deletes=gone))
        before = endpoints.with_past(apart.table(), before)
        assert [*before.values()] == [f"192.0.2.1 {port} 100"] * 2


@pytest.mark.parametrize(("ip", "line"), [("192.0.2.1", "192.0.2.1 80 7"), ("2001:db8::1", "[2001:db8::1] 80 7")])
def test_how_a_server_is_said(ip, line):
    catalog = Catalog()
    catalog.feed(claim("web", WEB), put(container("web", endpoint("web", 80, ip=ip, weight=7))))
    _, lines = endpoints.taken_apart(catalog.views.services["web"])
    assert set(lines.values()) == {line}


def test_equal_tables_have_equal_names_and_others_have_not():
    one = {"a--1": "192.0.2.1 80 1", "b--1": ""}
    assert endpoints.version(one) == endpoints.version(dict(reversed(one.items())))
    assert endpoints.version(one) != endpoints.version({**one, "b--1": "192.0.2.1 80 1"})


# --- a real nginx


async def test_a_change_is_served_without_a_reload(lua):
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        generation, sent = running.state["generation"], running.state["nginx"]["endpoints_sent"]
        assert (await get(running.port, WEB)).body == "one GET /"
        await running.settle(web(two.port))
        assert {(await get(running.port, WEB)).body for _ in range(8)} == {"two GET /"}
        await running.settle(web(one.port, two.port))
        assert {(await get(running.port, WEB)).body for _ in range(8)} == {"one GET /", "two GET /"}
        assert running.state["generation"] == generation
        assert running.state["nginx"]["endpoints"] == "lua"
        assert running.state["nginx"]["endpoints_sent"] == sent + 2


async def test_a_storm_of_changes_costs_no_worker(lua):
    """C4: the last state is served, by the workers that were there before; what comes together is sent together."""
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        workers, sent = await until(lambda: _children(running.pid)), running.state["nginx"]["endpoints_sent"]
        for turn in range(CHANGES):
            revision = await running.write(web(one.port if turn % 2 else two.port, free_port()))
        await running.write(web(two.port))
        await running.applied(revision + 1)
        assert {(await get(running.port, WEB)).body for _ in range(8)} == {"two GET /"}
        assert _children(running.pid) == workers
        assert 0 < running.state["nginx"]["endpoints_sent"] - sent <= CHANGES + 1


async def test_a_service_without_endpoints_is_503_and_comes_back(lua):
    async with Backend("one") as one, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        await running.settle(deletes=[key_of(container("web"))])
        answer = await get(running.port, WEB)
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        await running.settle(web(one.port))
        assert (await get(running.port, WEB)).status == 200


async def test_weights_share_the_requests(lua):
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        records = [
            put(container(name, endpoint("web", to=backend.port, name=name, weight=weight)))
            for name, backend, weight in (("a", one, 30), ("b", two, 10))
        ]
        await running.settle(*records, claim("web", WEB))
        for _ in range(80):
            assert (await get(running.port, WEB)).status == 200
        # Each worker counts for itself, so that the last round of each may be unfinished.
        assert abs(len(one.requests) - 60) <= 4


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_is_gone_costs_no_request(lua, method):
    """A refused connection is tried elsewhere, whatever the method: nothing was sent."""
    async with Backend("one") as one, lua() as running:
        await running.settle(web(one.port, free_port()), claim("web", WEB))
        assert {(await get(running.port, WEB, method=method)).status for _ in range(40)} == {200}


@pytest.mark.parametrize(("method", "status", "tried"), [("GET", 200, 2), ("POST", 502, 1)])
async def test_what_may_have_been_done_is_not_sent_twice(lua, method, status, tried):
    async with Backend("one", "drop") as one, Backend("two", "drop") as two, lua() as running:
        await running.settle(web(one.port, two.port), claim("web", WEB))
        one.mood = "answer" if method == "GET" else "drop"
        answers = [await get(running.port, WEB, method=method) for _ in range(2)]
        assert status in {answer.status for answer in answers}
        if method == "POST":
            assert len(one.requests) + len(two.requests) == 2 * tried


async def test_an_upgraded_connection_outlives_changes(lua):
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET / HTTP/1.1\r\nHost: {WEB}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        for backend in (two, one, two):
            await running.settle(web(backend.port))
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
        writer.close()


async def test_nginx_begins_with_what_it_was_told_last(lua):
    """Started by somebody else while no config generator is there, also after changes that no reload brought."""
    async with Backend("one") as one, Backend("two") as two:
        running = lua(nginx_on_exit="keep")
        async with running:
            await running.settle(web(one.port), claim("web", WEB))
            await running.settle(web(two.port))
            pid = running.pid
        assert (await get(running.port, WEB)).body == "two GET /"
        os.kill(pid, signal.SIGTERM)
        await until(lambda: not Path(f"/proc/{pid}").exists(), "nginx ended")
        nginx = running.service._nginx
        await nginx.reload()
        assert (await get(running.port, WEB)).body == "two GET /"


async def test_the_next_config_generator_goes_on(lua):
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one, Backend("two") as two:
        async with lua(nginx_on_exit="keep", store=store) as first:
            await first.settle(web(one.port), claim("web", WEB))
            pid = first.pid
        async with lua(port=first.port, store=store) as second:
            await second.settle(web(two.port))
            assert second.pid == pid
            assert (await get(second.port, WEB)).body == "two GET /"
    await store.close()


async def test_a_killed_worker_takes_nothing_along(lua):
    async with Backend("one") as one, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        before = await until(lambda: _children(running.pid))
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(_children(running.pid)) == len(before) and before[0] not in _children(running.pid))
        assert {(await get(running.port, WEB)).status for _ in range(20)} == {200}


def _children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


async def test_without_its_socket_a_reload_brings_what_is_new_and_it_is_said(lua):
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        (running.folder / "run" / "endpoints.sock").unlink()
        await running.write(web(two.port))
        await until(lambda: "endpoints.sock" in running.telemetry.ready.missing.get("configuration", ""), "said")

        async def moved():
            return {(await get(running.port, WEB)).body for _ in range(8)} == {"two GET /"}

        await until(moved, "served after a reload")


async def test_a_configuration_that_is_refused_holds_up_no_endpoint(lua):
    """A check that always fails, as of a template that somebody spoiled: what only moves is served all the same."""
    async with Backend("one") as one, Backend("two") as two, lua(check_timeout_s=5.0) as running:
        await running.settle(web(one.port), claim("web", WEB))
        running.service._nginx._program = "/bin/false"
        other = put(container("other", endpoint("other", to=one.port)))
        await running.write(other, claim("other", f"other.{DOMAIN}"), web(two.port))

        async def moved():
            return {(await get(running.port, WEB)).body for _ in range(8)} == {"two GET /"}

        await until(lambda: "configuration" in running.telemetry.ready.missing, "refused")
        await until(moved, "served")
        assert (await get(running.port, f"other.{DOMAIN}")).status == 404


UNABLE = {
    "no nginx to tell": ({"nginx": "off"}, "--nginx-endpoints lua: it needs an nginx to tell: --nginx spawn or signal"),
    "no module": ({"nginx_modules": "/nonexistent"}, "no ndk_http_module.so lies in its modules' folder.*libnginx-mod"),
    "no program": ({"nginx_bin": "/nonexistent/nginx"}, "--nginx-endpoints lua: --nginx-bin: .*/nonexistent/nginx"),
    "another program": ({"nginx_bin": "/bin/true"}, "--nginx-endpoints lua: --nginx-bin: no nginx"),
}


@pytest.mark.parametrize(("settings", "said"), UNABLE.values(), ids=UNABLE)
async def test_what_it_cannot_do_is_said_at_the_start(lua, settings, said):
    running = lua(**settings)
    with pytest.raises(CannotStart, match=said):
        await running.service.run()
    await running.store.close()


async def test_one_module_of_two_is_named(lua, folder, debian_modules):
    folder.parent.joinpath("some").mkdir()
    (folder.parent / "some" / "ndk_http_module.so").symlink_to(debian_modules / "ndk_http_module.so")
    running = lua(nginx_modules=str(folder.parent / "some"))
    with pytest.raises(CannotStart, match=r"no ngx_http_lua_module\.so lies in"):
        await running.service.run()
    await running.store.close()
