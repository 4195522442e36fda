"""Rows C4 and C11 together: WebSockets outlive reloads, and old workers stay few. On a real nginx."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest

from confgen.applying import io_processes
from confgen.nginx.render import builtin_templates
from pilotfish.catalog import keys
from pilotfish.catalog.record import Drain, encode
from pilotfish.catalog.store import Entry
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put, until
from tests.confgen.test_faults import WEB, web

pytestmark = pytest.mark.timeout(120)


@contextlib.asynccontextmanager
async def websocket(port, host=WEB):
    """An upgraded connection; yields a function that sends a word and says whether it came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    async def echoes():
        writer.write(b"ping")
        try:
            async with asyncio.timeout(5):
                return await reader.readexactly(4) == b"ping"
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return False

    try:
        yield echoes
    finally:
        writer.close()


def generations(running):
    return running.state["nginx"]["worker_generations"]


def reloads(running):
    """Configurations that nginx took."""
    return running.telemetry.registry.get_sample_value("pilotfish_confgen_configurations_total", {"outcome": "accept"})


async def test_fault_C11_websockets_outlive_a_hundred_reloads(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, wait_s=0.02, quiet_s=0.02) as running:
        await running.settle(web(one.port), claim("web", WEB))
        async with contextlib.AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(websocket(running.port)) for _ in range(20)]
            most, before = 1, reloads(running)
            for turn in range(100):
                await running.settle(web(one.port, weight=turn + 2))
                most = max(most, generations(running))
            alive = [await echoes() for echoes in sockets]
        print(
            f"C11: {reloads(running) - before:.0f} reloads, {alive.count(False)} of 20 cut, {most} generations at most"
        )
        assert reloads(running) - before == 100
        assert alive == [True] * 20
        assert 2 <= most <= 4  # two at least: the sockets' own workers were old


BIRTHS = {
    "none": ([], []),
    "one generation, forked one after the other": ([5.0, 5.03, 5.06, 5.14], [[5.0, 5.03, 5.06, 5.14]]),
    "reloads as close as nginx takes them": ([5.0, 5.01, 5.11, 5.12, 5.22], [[5.0, 5.01], [5.11, 5.12], [5.22]]),
    "in no order": ([9.0, 1.0, 5.01, 5.0, 1.05], [[1.0, 1.05], [5.0, 5.01], [9.0]]),
    "a whole number of ticks": ([66270.93, 66271.03], [[66270.93], [66271.03]]),
}


@pytest.mark.parametrize(("began", "generations"), BIRTHS.values(), ids=BIRTHS)
def test_workers_are_told_apart_by_their_birth(began, generations):
    workers = [io_processes.Process(number, 1, 1, io_processes.WORKER, at) for number, at in enumerate(began)]
    assert [[one.began for one in generation] for generation in io_processes.births(workers)] == generations


async def test_old_workers_finish_as_soon_as_a_new_one_answers(one_nginx, folder):
    """We tell them so, before their master does; it starts nobody in their place, however often."""
    templates = builtin_templates()
    loud = templates["nginx.conf.j2"].replace("{{ main.error_log }} warn", "{{ main.error_log }} notice")
    templates = {**templates, "nginx.conf.j2": loud}
    async with (
        Backend("one") as one,
        Running(folder, one_nginx, templates=templates, wait_s=0.02, quiet_s=0.02) as running,
    ):
        await running.settle(web(one.port), claim("web", WEB))
        master = int((folder / "run" / "nginx.pid").read_text())
        workers = len(io_processes.workers_of(master))
        for turn in range(20):
            await running.settle(web(one.port, weight=turn + 2))
        await until(lambda: generations(running) == 1, "old workers are gone")
        assert len(io_processes.workers_of(master)) == workers
    told = (folder / "logs" / "error.log").read_text().count(f"signal 3 (SIGQUIT) received from {os.getpid()}")
    assert told >= 10 * workers  # on a machine that is busy the master may be first now and then


async def test_fault_C4_with_four_generations_additions_wait_and_removals_do_not(nginx, folder):
    async with (
        Backend("one") as one,
        Backend("two") as two,
        Running(folder, nginx) as running,
        contextlib.AsyncExitStack() as stack,
    ):
        both = put(container("web", endpoint("web", 80, to=one.port), endpoint("web", 81, to=two.port)))
        await running.settle(both, claim("web", WEB))
        held = []
        for turn in range(3):
            held.append(await stack.enter_async_context(websocket(running.port)))
            new = put(container(f"s{turn}", endpoint(f"s{turn}", to=one.port)))
            await running.settle(new, claim(f"s{turn}", f"s{turn}.{DOMAIN}"))
        await until(lambda: generations(running) == 4, "four generations live")
        served = running.state["generation"]

        await running.write(put(container("new", endpoint("new", to=one.port))), claim("new", f"new.{DOMAIN}"))
        why = await until(lambda: running.telemetry.ready.missing.get("workers"), "it is said that additions wait")
        assert why.startswith("4 generations of nginx's workers have open connections")
        assert (running.state["generation"], generations(running)) == (served, 4)
        assert (await get(running.port, f"new.{DOMAIN}")).status == 404

        began = time.monotonic()
        await running.settle(web(one.port))  # a server goes
        print(f"C4: a removal was applied {time.monotonic() - began:.2f} s after it, with four generations")
        assert {(await get(running.port, WEB)).body for _ in range(6)} == {"one GET /"}
        assert (await get(running.port, f"new.{DOMAIN}")).body == "one GET /"  # what waited went along
        assert all([await echoes() for echoes in held])
        assert "workers" not in running.telemetry.ready.missing


async def test_fault_C4_what_waits_is_applied_when_a_generation_ends(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, worker_generations=2) as running:
        await running.settle(web(one.port), claim("web", WEB))
        async with websocket(running.port) as echoes:
            await running.settle(web(one.port, weight=2))
            await until(lambda: generations(running) == 2, "the socket's generation is old")
            revision = await running.write(web(one.port, weight=3))
            await until(lambda: "workers" in running.telemetry.ready.missing, "it waits")
            assert await echoes()
            assert running.state["revision"] < revision
        await running.applied(revision)
        assert "weight=3 " in (folder / "current" / "services" / "web.conf").read_text()
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


async def test_fault_C4_no_drain_waits_for_old_workers_because_an_addition_does(one_nginx, folder):
    """Also not one of what no proxy serves: its revision is announced with what waited."""
    async with Backend("one") as one, Running(folder, one_nginx, worker_generations=1) as running:
        alone = put(container("alone", endpoint("alone", route=False)))
        await running.settle(web(one.port), claim("web", WEB), alone)
        added = await running.write(put(container("new", endpoint("new", to=one.port))), claim("new", f"new.{DOMAIN}"))
        await until(lambda: "workers" in running.telemetry.ready.missing, "it waits")
        assert running.state["revision"] < added
        wish = keys.wish_key("drain", "service:alone")
        await running.settle(Entry(wish, encode(Drain(since=1.0)), 1, 1))
        assert (await get(running.port, f"new.{DOMAIN}")).body == "one GET /"
        later = await running.write(web(one.port, weight=9))
        await until(lambda: "workers" in running.telemetry.ready.missing, "other additions wait as before")
        assert running.state["revision"] < later


async def test_a_host_that_reached_another_service_until_now_does_not_wait(one_nginx, folder):
    """Below a wildcard: its clients, and what they send, went to that one meanwhile."""
    async with (
        Backend("one") as one,
        Backend("wide") as wide,
        Running(folder, one_nginx, worker_generations=2) as running,
    ):
        wildcard = put(container("wide", endpoint("wide", to=wide.port, hosts=("*.shop.test",))))
        await running.settle(web(one.port), claim("web", WEB), wildcard, claim("wide", "*.shop.test"))
        async with websocket(running.port):
            await running.settle(web(one.port, weight=2))
            await until(lambda: generations(running) == 2, "the socket's generation is old")
            assert (await get(running.port, "a.shop.test")).body == "wide GET /"
            await running.settle(
                put(container("a", endpoint("a", to=one.port, hosts=("a.shop.test",)))), claim("a", "a.shop.test")
            )
            assert (await get(running.port, "a.shop.test")).body == "one GET /"


async def test_fault_C4_a_storm_costs_two_reloads_a_second_and_its_end_is_applied(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, wait_s=0.5, quiet_s=0.5) as running:
        await running.settle(*(claim(f"s{n}", f"s{n}.{DOMAIN}") for n in range(20)))
        await until(lambda: generations(running) == 1, "quiet")
        before, began, turn = reloads(running), time.monotonic(), 0
        while time.monotonic() - began < 6:
            turn += 1
            revision = await running.write(
                *(put(container(f"s{n}", endpoint(f"s{n}", to=one.port, weight=turn % 100 + 1))) for n in range(20))
            )
            await asyncio.sleep(0)
        took, ended = time.monotonic() - began, time.monotonic()
        await running.applied(revision)
        late, count = time.monotonic() - ended, reloads(running) - before
        print(
            f"C4: {turn * 20 / took:.0f} changes a second, {count / took:.1f} reloads a second, the last {late:.2f} s"
        )
        assert turn * 20 / took > 200  # the storm was one
        assert count <= 2 * took + 2
        assert late <= 2


async def test_a_burst_costs_two_reloads(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, wait_s=0.5, quiet_s=0.5) as running:
        await running.settle(web(one.port), claim("web", WEB))
        last, before = running.service._publisher.last_reload, reloads(running)
        await until(lambda: time.monotonic() - last > 0.6, "quiet")
        for part in range(10):
            names = [f"s{part}-{number}" for number in range(50)]
            await running.write(*(put(container(name, endpoint(name, to=one.port))) for name in names))
            revision = await running.write(*(claim(name, f"{name}.{DOMAIN}") for name in names))
        await running.applied(revision)
        assert reloads(running) - before <= 2
        assert (await get(running.port, f"s9-49.{DOMAIN}")).body == "one GET /"
