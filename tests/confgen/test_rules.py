"""Each rule by which nginx is written (DESIGN §6), and what a client sees without it.

A row names the rule, what is replaced in which template, and a probe. The probe holds with the templates as they are,
and fails with the line taken out, so that no rule stands there for nothing and none can go unnoticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import NamedTuple

import pytest

from confgen.nginx.render import builtin_templates
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put, until
from tests.confgen.test_faults import WEB, web
from tests.confgen.test_faults_workers import websocket
from tests.parts.ports import free_port

pytestmark = pytest.mark.timeout(90)


def two(*ports, name="web"):
    """A service with an endpoint for each port."""
    return put(container(name, *(endpoint(name, 80 + turn, to=port) for turn, port in enumerate(ports))))


@contextlib.contextmanager
def black_hole():
    """A port that neither takes nor refuses a connection, as a host that is gone."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # its queue is full from now on
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def a_dead_host_costs_a_second(running, _):
    with black_hole() as gone:
        await running.settle(two(gone), claim("web", WEB))
        began = time.monotonic()
        return (await get(running.port, WEB)).status == 504 and time.monotonic() - began < 3


async def a_server_that_says_nothing_costs_a_get_nothing(running, one):
    async with Backend("dead", mood="drop") as dead:
        await running.settle(two(dead.port, one.port), claim("web", WEB))
        answers = {(await get(running.port, WEB)).status for _ in range(6)}
        return answers == {200} and len(dead.requests) > 0


async def a_request_meets_three_servers_at_most(running, _):
    async with contextlib.AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(Backend(str(number), mood="drop")) for number in range(6)]
        await running.settle(two(*(each.port for each in dead)), claim("web", WEB))
        return (await get(running.port, WEB)).status == 502 and sum(len(each.requests) for each in dead) == 3


async def a_failed_server_rests_for_a_second(running, one):
    port = free_port()
    await running.settle(two(port, one.port), claim("web", WEB))
    for _ in range(6):
        await get(running.port, WEB)  # it was met
    async with Backend("back", port=port) as back:
        ends = time.monotonic() + 4
        while not back.requests and time.monotonic() < ends:
            await get(running.port, WEB)
            await asyncio.sleep(0.02)
        return bool(back.requests)


async def a_post_never_meets_a_kept_connection(running, _):
    async with Backend("closing", mood="drop reused") as closing:
        await running.settle(two(closing.port), claim("web", WEB))
        gets = [(await get(running.port, WEB)).status for _ in range(4)]
        posts = [(await get(running.port, WEB, method="POST", body="x" * (turn % 2))).status for turn in range(8)]
        return gets == [200] * 4 and posts == [200] * 8


async def a_get_meets_a_kept_connection(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    before = one.connections
    for _ in range(20):
        await get(running.port, WEB)
    return one.connections - before < 15


async def a_silent_websocket_lives(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    async with websocket(running.port) as echoes:
        await asyncio.sleep(2.0)  # longer than an ordinary answer may take, here
        return await echoes()


async def a_websocket_lives_on_after_a_reload(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    async with websocket(running.port) as echoes:
        await running.settle(web(one.port, weight=7))
        await asyncio.sleep(2.0)
        return await echoes()


async def a_large_body_passes(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    return (await get(running.port, WEB, method="PUT", body="x" * 2_000_000)).status == 200


async def a_long_name_is_served(running, one):
    service = ".".join(["s" * 63, "t" * 63, "u" * 50])
    await running.settle(
        two(one.port), claim("web", WEB),
        put(container("long", endpoint(service, to=one.port, name="long"))), claim(service, f"{service}.{DOMAIN}"),
    )  # fmt: skip
    return (await get(running.port, f"{service}.{DOMAIN}")).status == 200 and not running.state["quarantined"]


async def an_unknown_host_is_told_what_to_do(running, _):
    await running.settle(claim("web", WEB))
    answer = await get(running.port, "nobody.test")
    return answer.status == 404 and "pilotfish explain nobody.test" in answer.body


async def an_unknown_host_meets_no_service(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    return (await get(running.port, "nobody.test")).status == 404


async def a_service_without_endpoints_says_when_to_come_back(running, _):
    await running.settle(claim("web", WEB))
    answer = await get(running.port, WEB)
    return answer.status == 503 and "retry-after" in answer.headers


async def a_path_that_nobody_serves_is_not_nginx_own_page(running, one):
    await running.settle(put(container("web", endpoint("web", to=one.port, path="/api"))), claim("web", WEB, "/api"))
    answer = await get(running.port, WEB, "/other")
    return answer.status == 404 and "pilotfish explain" in answer.body


async def what_is_applied_is_proved(running, one):
    await running.write(two(one.port), claim("web", WEB))
    done = asyncio.create_task(until(lambda: running.state["revision"] or running.state["nginx"]["error"]))
    await done
    return running.state["nginx"]["error"] is None


async def an_upgrade_to_h2c_is_not_passed_on(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    await get(running.port, WEB, headers=[("Upgrade", "h2c"), ("Connection", "Upgrade")])
    return "upgrade" not in one.requests[-1][2]


async def nobody_hides_a_header_behind_an_underscore(running, one):
    await running.settle(two(one.port), claim("web", WEB))
    await get(running.port, WEB, headers=[("X_Real_IP", "9.9.9.9")])
    return "x_real_ip" not in one.requests[-1][2]


class Rule(NamedTuple):
    """What stands in a template, what is put in its place, and who notices."""

    template: str
    line: str
    instead: str
    probe: object
    beside: tuple = ()  # changes that are made in both runs, so that the symptom is quick


QUICK_READS = ("nginx.conf.j2", "proxy_read_timeout {{ main.read_timeout }};", "proxy_read_timeout 1s;")
INCLUDE, FIRST = "    include services/*.conf;\n", "    server {\n        listen unix"
MAIN, SERVICE, PLACES = "nginx.conf.j2", "service.conf.j2", "locations.j2"
RULES = {
    "proxy_connect_timeout": Rule(
        MAIN, "proxy_connect_timeout {{ main.connect_timeout }};", "", a_dead_host_costs_a_second
    ),
    "proxy_next_upstream": Rule(
        MAIN, "proxy_next_upstream error timeout;", "proxy_next_upstream off;",
        a_server_that_says_nothing_costs_a_get_nothing,
    ),
    "proxy_next_upstream_tries": Rule(
        MAIN, "proxy_next_upstream_tries {{ main.tries }};", "", a_request_meets_three_servers_at_most
    ),
    "fail_timeout": Rule(
        SERVICE, "fail_timeout={{ fail_timeout }}", "", a_failed_server_rests_for_a_second,
        ((MAIN, "worker_processes {{ main.workers }};", "worker_processes 1;"),),  # each has its own opinion
    ),
    "no kept connection for POST": Rule(
        MAIN, "        ::1 once;\n", '        ::1 "";\n', a_post_never_meets_a_kept_connection
    ),
    "nor for its body": Rule(
        MAIN, '"~^:small:" once;', '"~^:small:" "";', a_post_never_meets_a_kept_connection
    ),
    "keepalive": Rule(
        SERVICE, "    keepalive {{ keepalive }};", "    keepalive 1; keepalive_requests 1;",
        a_get_meets_a_kept_connection, ((SERVICE, "    keepalive_requests 10000;\n", ""),),
    ),
    "an hour for upgraded connections": Rule(
        PLACES, "        proxy_read_timeout {{ policy.timeout or rules.upgraded }};", "",
        a_silent_websocket_lives, (QUICK_READS,),
    ),
    "worker_shutdown_timeout": Rule(
        MAIN, "worker_shutdown_timeout {{ main.shutdown }};", "worker_shutdown_timeout 1s;",
        a_websocket_lives_on_after_a_reload,
    ),
    "client_max_body_size": Rule(MAIN, "client_max_body_size {{ main.body_limit }};", "", a_large_body_passes),
    "server_names_hash_bucket_size": Rule(
        MAIN, "server_names_hash_bucket_size {{ main.names_bucket }};", "", a_long_name_is_served
    ),
    "the 404 of an unknown host": Rule(
        MAIN, "        include unknown.conf;\n", "", an_unknown_host_is_told_what_to_do
    ),
    "default_server": Rule(
        MAIN, " default_server", "", an_unknown_host_meets_no_service,
        ((MAIN, INCLUDE, ""), (MAIN, FIRST, f"{INCLUDE}{FIRST}")),  # services come first, here
    ),
    "Retry-After": Rule(
        PLACES, "add_header Retry-After {{ rules.retry_after }} always;", "",
        a_service_without_endpoints_says_when_to_come_back,
    ),
    "the rest of a host": Rule(
        SERVICE, "    include unknown.conf;\n", "", a_path_that_nobody_serves_is_not_nginx_own_page
    ),
    "the generation is told": Rule(MAIN, "        include generation.conf;\n", "", what_is_applied_is_proved),
    "h2c": Rule(MAIN, "(websocket|tcp|spdy", "(websocket|h2c|spdy", an_upgrade_to_h2c_is_not_passed_on),
    "underscores_in_headers": Rule(
        MAIN, "underscores_in_headers off;", "underscores_in_headers on;", nobody_hides_a_header_behind_an_underscore
    ),
}  # fmt: skip


def changed(templates, name, line, instead):
    assert line in templates[name]
    return {**templates, name: templates[name].replace(line, instead)}


@pytest.mark.parametrize("mutated", [False, True], ids=["as it is", "without it"])
@pytest.mark.parametrize("name", RULES)
async def test_a_rule_holds_and_is_missed_when_it_is_gone(one_nginx, folder, name, mutated):
    rule, templates = RULES[name], builtin_templates()
    for more in rule.beside:
        templates = changed(templates, *more)
    if mutated:
        templates = changed(templates, rule.template, rule.line, rule.instead)
    async with Backend("one") as one, Running(folder, one_nginx, templates=templates, proof_s=2.0) as running:
        try:
            held = await rule.probe(running, one)
        except (TimeoutError, AssertionError):
            held = False
        assert held is not mutated
