"""Endpoints without a reload, beside all else that nginx does: guards, TLS, gRPC, quarantine, pins, old workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import time

import msgspec
import pytest

from confgen import service
from confgen.applying.history import Pin
from confgen.applying.io_history import History
from confgen.applying.io_processes import everybody
from confgen.nginx import endpoints
from confgen.nginx.endpoints import MAX_PAST, taken_apart
from confgen.nginx.urgency import keeps_servers, only_adds
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.options import Options, parse_rate
from tests.confgen.asking import WEB, asking, login
from tests.confgen.kit import DOMAIN, Backend, Catalog, claim, container, endpoint, get, put, until
from tests.confgen.test_backends import greeter, talk  # noqa: F401  # a fixture
from tests.confgen.test_faults import BAD, bad, fragile
from tests.confgen.test_faults_workers import generations, websocket
from tests.confgen.tls_kit import Authority, get_tls
from tests.parts.ports import free_port

pytestmark = pytest.mark.timeout(60)


def web(*ports, **more):
    return put(container("web", *(endpoint("web", 80 + turn, to=port, **more) for turn, port in enumerate(ports))))


async def bodies(port, host=WEB, path="/", count=8):
    return {(await get(port, host, path)).body.split()[0] for _ in range(count)}


async def answers(port, expected):
    return await bodies(port) == expected


# --- names


def view_of(*members, paths=("/",)):
    catalog = Catalog()
    catalog.feed(put(container("web", *members)), *(claim("web", WEB, path) for path in paths))
    return catalog.views.services["web"]


def names(view):
    """Path -> the name of its upstream, and its servers' ports."""
    settled, lines = taken_apart(view)
    found = {one.path: one.upstream.name.text for site in settled.sites for one in site.locations if one.upstream}
    return {path: (name, lines[name].split()[1::3]) for path, name in found.items()}


ROOT, API = endpoint("web", 80), endpoint("web", 81, path="/api")
RENAMED = {
    "another server": (view_of(endpoint("web", 80, to=90)), {"/": True}),
    "a path before it": (
        view_of(endpoint("web", 80, path="/api"), endpoint("web", 81, path="/a"), paths=("/a", "/api")),
        {},
    ),
    "a path behind it": (view_of(ROOT, API, paths=("/", "/api")), {"/": True}),
    "another guard": (view_of(endpoint("web", 80, options=Options(security=True))), {"/": False}),
}


@pytest.mark.parametrize(("after", "same"), RENAMED.values(), ids=RENAMED)
def test_a_name_means_the_same_places_with_the_same_policy(after, same):
    """What is sent for a new configuration never answers for the places of an old one."""
    before, now = names(view_of(ROOT)), names(after)
    assert {path: name == before[path][0] for path, (name, _) in now.items() if path in before} == same
    assert not {name for path, (name, _) in now.items() if path not in before} & {name for name, _ in before.values()}


def test_clients_that_stay_are_nginxs_own_business():
    view = view_of(endpoint("web", 80, options=Options(sticky=True)))
    assert taken_apart(view) == (view, {})


def test_names_of_older_configurations_are_kept_within_bounds():
    past = {f"a--{number}": "192.0.2.1 80 1" for number in range(MAX_PAST)}
    found = endpoints.with_past({"b--1": "192.0.2.2 80 1"}, past | {"c--1": "192.0.2.3 80 1"})
    assert len(found) == MAX_PAST + 1
    assert "a--0" not in found
    assert {"a--1", "b--1", "c--1"} <= found.keys()


def test_a_file_that_somebody_edited_counts_for_nothing():
    saved = endpoints.whole({"a--1": "192.0.2.1 80 1"})
    assert endpoints.read(saved) == {"a--1": "192.0.2.1 80 1"}
    assert endpoints.read(saved.replace("192.0.2.1", "192.0.2.9")) == {}


ONE, HEAVY, BOTH = view_of(ROOT), view_of(msgspec.structs.replace(ROOT, weight=7)), view_of(ROOT, endpoint("web", 82))
KEPT = {
    "a new service": (None, ONE, True),
    "nothing": (ONE, ONE, True),
    "a path more": (ONE, view_of(ROOT, API, paths=("/", "/api")), True),
    "another weight": (ONE, HEAVY, False),
    "a server more": (ONE, BOTH, False),
    "a server less": (BOTH, ONE, False),
    "the service goes": (ONE, None, False),
}


@pytest.mark.parametrize(("before", "after", "expected"), KEPT.values(), ids=KEPT)
def test_who_waits_for_an_addition_alone(before, after, expected):
    assert keeps_servers(before, after) is expected
    assert only_adds(before, after) or not expected


# --- what routes ask for


async def test_guards_stay_while_servers_move(lua, users):
    async with Backend("one") as one, Backend("two") as two, lua(htpasswd=str(users)) as running:
        guarded = {"auth": "staff", "rate": parse_rate("1/m")}
        await running.settle(*asking(one.port, **guarded))
        generation = running.state["generation"]
        assert (await get(running.port, WEB, headers=login())).body == "one GET /"
        await running.settle(*asking(two.port, claims=False, **guarded))
        assert running.state["generation"] == generation
        found = [(await get(running.port, WEB, headers=login())).status for _ in range(2)]
        assert 429 in found or 503 in found
        assert (await get(running.port, WEB)).status in {401, 429, 503}
        assert not any(headers.get("authorization") is None for _, _, headers, _ in [*one.requests, *two.requests])


async def test_clients_that_stay_do_so_by_a_reload(lua):
    async with Backend("a") as a, Backend("b") as b, lua() as running:
        await running.settle(*asking(a.port, sticky=True))
        generation, sent = running.state["generation"], running.state["nginx"]["endpoints_sent"]
        await running.settle(*asking(a.port, b.port, claims=False, sticky=True))
        assert running.state["generation"] != generation
        assert running.state["nginx"]["endpoints_sent"] == sent
        first = await get(running.port, WEB)
        cookie = [("Cookie", first.headers["set-cookie"].partition(";")[0])]
        assert {(await get(running.port, WEB, headers=cookie)).body[0] for _ in range(10)} == {first.body[0]}


# --- what is spoken


async def test_https_applications_move(lua, certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with Backend("one", tls=context) as one, Backend("two", tls=context) as two, lua() as running:
        await running.settle(*asking(one.port, backend="https"))
        generation = running.state["generation"]
        await running.settle(*asking(two.port, claims=False, backend="https"))
        for method in ("GET", "POST"):
            assert (await get(running.port, WEB, method=method)).body == f"two {method} /"
        assert running.state["generation"] == generation


async def test_grpc_applications_move(lua, greeter):  # noqa: F811
    _, port, backend = greeter
    h2c = free_port()
    async with lua(h2c_port=h2c) as running:
        await running.settle(*asking(free_port(), scheme="grpc", backend=backend))
        generation = running.state["generation"]
        await running.settle(*asking(port, claims=False, scheme="grpc", backend=backend))
        assert await asyncio.to_thread(talk, h2c) == (b"hello", [b"a!", b"b!"])
        assert running.state["generation"] == generation


async def test_both_sides_move(lua, folder):
    authority, certs, port = Authority(), folder.parent / "certs", free_port()
    authority.write(certs, WEB)
    async with Backend("one") as one, Backend("two") as two, lua(certs=str(certs), https_port=port) as running:
        await running.settle(web(one.port, scheme="https"), claim("web", WEB))
        generation = running.state["generation"]
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        await running.settle(web(two.port, scheme="https"))
        assert (await get_tls(port, WEB, authority=authority)).body == "two GET /"
        assert (await get(running.port, WEB)).status == 301
        assert running.state["generation"] == generation


# --- refused, held, waiting


async def test_fault_C1_a_refused_service_holds_up_no_endpoint(lua):
    async with Backend("one") as one, Backend("two") as two, lua(templates=fragile()) as running:
        await running.settle(web(one.port), claim("web", WEB))
        await running.settle(bad(one.port), claim("bad", BAD, "/broken"))
        assert [entry["service"] for entry in running.state["quarantined"]] == ["bad"]
        generation = running.state["generation"]
        await running.settle(web(two.port), bad(two.port))
        assert (running.state["generation"], await bodies(running.port)) == (generation, {"two"})
        assert (await get(running.port, BAD, "/broken")).status == 503
        gone = claim("bad", BAD, "/broken").key
        await running.settle(bad(two.port, path="/good"), claim("bad", BAD, "/good"), deletes=[gone])
        assert running.state["quarantined"] == []
        assert await bodies(running.port, BAD, "/good") == {"two"}


async def test_a_held_generation_has_the_endpoints_of_now_and_else_its_last(lua, folder):
    """Also when the config generator starts again meanwhile, and no store answers for the past."""
    store = EmbeddedStore(quiet_s=1.0)
    other = put(container("other", endpoint("other", to=free_port())))
    async with Backend("one") as one, Backend("two") as two, Backend("three") as three:
        api = put(container("api", endpoint("api", to=one.port)))
        async with lua(store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB), api, claim("api", f"api.{DOMAIN}"))
            held = first.state["generation"]
            api = put(container("api", endpoint("api", to=two.port, options=Options(security=True))))
            await first.settle(api, other, claim("other", f"other.{DOMAIN}"))
            History(folder).hold(Pin(1, held, time.time()))
            await until(lambda: first.state["generation"] == held, "held")
            await first.write(web(two.port))
            await until(lambda: answers(first.port, {"two"}), "moved")
            assert await bodies(first.port, f"api.{DOMAIN}") == {"one"}
        async with lua(store=store, port=first.port) as second:
            await second.write(web(three.port))
            await until(lambda: answers(second.port, {"three"}), "moved")
            await until(lambda: second.state["generation"] == held, "held by the next as well")
            assert await bodies(second.port, f"api.{DOMAIN}") == {"one"}
            History(folder).let_go()
            await until(lambda: second.state["pinned"] is None and second.state["generation"] != held, "let go")
            assert await bodies(second.port, f"api.{DOMAIN}") == {"two"}
    await store.close()


async def test_fault_C4_with_four_generations_endpoints_move_and_drains_end(lua):
    """What was added waits; who asks whether a removal has arrived hears that it has."""
    async with (
        Backend("one") as one,
        Backend("two") as two,
        lua() as running,
        contextlib.AsyncExitStack() as stack,
    ):
        await running.settle(web(one.port, two.port), claim("web", WEB))
        held = []
        for turn in range(3):
            held.append(await stack.enter_async_context(websocket(running.port)))
            new = put(container(f"s{turn}", endpoint(f"s{turn}", to=one.port)))
            await running.settle(new, claim(f"s{turn}", f"s{turn}.{DOMAIN}"))
        await until(lambda: generations(running) == 4, "four generations live")
        served = running.state["generation"]
        await running.write(put(container("new", endpoint("new", to=one.port))), claim("new", f"new.{DOMAIN}"))
        await until(lambda: running.telemetry.ready.missing.get("workers"), "it is said that additions wait")

        await running.settle(web(two.port))  # a server goes, and is not asked any more
        assert await bodies(running.port) == {"two"}
        assert (running.state["generation"], generations(running)) == (served, 4)
        await until(lambda: running.service._record._wanted.revision == running.state["revision"], "drain hears of it")
        assert (await get(running.port, f"new.{DOMAIN}")).status == 404
        assert "workers" in running.telemetry.ready.missing
        assert all([await echoes() for echoes in held])


async def test_a_slow_upload_finds_its_server_in_an_old_worker(lua):
    """The configuration that it came in with is gone, and with it the name that its worker asks for."""
    async with Backend("one") as one, lua() as running:
        await running.settle(*asking(one.port))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"POST /up HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nab".encode())
        await writer.drain()
        await until(lambda: generations(running) == 1, "quiet")
        await running.settle(*asking(one.port, claims=False, security=True))
        assert generations(running) == 2
        writer.write(b"cd")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert one.requests[-1][3] == "abcd"


# --- nginx itself


async def test_fault_C3_a_killed_nginx_starts_again_with_its_endpoints(lua):
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        await running.settle(web(one.port), claim("web", WEB))
        await running.settle(web(two.port))
        master = running.pid
        for process in everybody():
            if process.session == master and process.title.startswith("nginx:"):
                os.kill(process.pid, signal.SIGKILL)
        await until(lambda: running.pid not in {0, master}, "started again")
        await until(lambda: running.telemetry.ready.missing == {}, "and serves")
        assert await bodies(running.port) == {"two"}
        await running.settle(web(one.port))
        assert await bodies(running.port) == {"one"}


async def test_a_running_nginx_goes_from_one_way_to_the_other(lua):
    """The next config generator has another --nginx-endpoints; nginx runs on."""
    store, port = EmbeddedStore(quiet_s=1.0), free_port()
    async with Backend("one") as one, Backend("two") as two:
        pids = set()
        for turn, way in enumerate(["reload", "lua", "reload", "lua"]):
            backend = (one, two)[turn % 2]
            async with lua(store=store, port=port, nginx_endpoints=way, nginx_on_exit="keep") as running:
                await running.settle(web(backend.port), claim("web", WEB))
                assert await bodies(port) == {backend.name}
                await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")
                pids.add(running.pid)
        assert len(pids) == 1
    await store.close()


async def test_fault_C13_what_is_edited_by_hand_is_restored_while_endpoints_are_sent(lua, folder, monkeypatch):
    monkeypatch.setattr(service, "EDITS_LOOK_S", 0.2)
    async with Backend("one") as one, Backend("two") as two, lua() as running:
        await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", WEB))
        file, generation = folder / "current" / "services" / "web.conf", running.state["generation"]
        whole = file.read_bytes()
        file.write_text("# mine\n")
        await running.settle(put(container("web", endpoint("web", to=two.port))))
        assert (await get(running.port, WEB)).body == "two GET /"
        await until(lambda: file.read_bytes() == whole, "restored")
        await until(lambda: running.state["stage"] == "idle")
        assert running.state["generation"] == generation
        assert (await get(running.port, WEB)).body == "two GET /"
