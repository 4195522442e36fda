"""Each kind of check against real sockets and processes: what passes, and in what words the rest is told."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from pathlib import Path

import grpc
import pytest
import trustme

from pilotfish.catalog.failure import CannotStart
from registrator.health import probe_wire, progress
from registrator.health.checks import Target
from registrator.health.io_checks import Port
from registrator.health.io_probe import REFUSED, Authorities, ask, folder
from registrator.health.io_rounds import MOST_OF_ONE, Rounds
from registrator.rules.probe import How, Probe
from tests.registrator.applications import BAD, ELSEWHERE, ENDLESS, HANG, OK, Application, application
from tests.registrator.harness import until


@pytest.fixture
async def app():
    async with application() as one:
        yield one


def http(**changes):
    return Probe(How.HTTP, "/health", **{"timeout_s": 5.0, **changes})


def at(app):
    return (Target(app.ip, app.port),)


ANSWERS = {
    "200": (OK, ""),
    "a redirect": (ELSEWHERE, ""),
    "500": (BAD, "500"),
    "404 in two parts": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n", "404"),
    "another protocol": (b"220 mail.example ESMTP\r\n", "no HTTP/1"),
    "a head without an end": (b"HTTP/1.1 100 Continue\r\n" + b"a: b\r\n" * 10_000, "no HTTP/1"),
    "nothing but a close": (b"HTTP/1.1 ", "closed without an answer"),
    "a body without an end": (ENDLESS, ""),
}


@pytest.mark.parametrize(("answer", "problem"), ANSWERS.values(), ids=ANSWERS)
async def test_http(app, answer, problem):
    """From 200 to 399 all is well; the request says who asks, and asks for the connection to be closed."""
    app.answer = answer
    assert await ask(http(), at(app)) == problem
    assert app.heads == [
        b"GET /health HTTP/1.1\r\nHost: %s:%d\r\n"
        b"User-Agent: pilotfish-check\r\nAccept: */*\r\nConnection: close\r\n\r\n" % (app.ip.encode(), app.port)
    ]
    await until(lambda: not app.open, "the connection is closed")


async def test_a_hanging_answer_ends_with_the_timeout(app):
    """And its connection with it."""
    app.answer = HANG
    began = time.monotonic()
    assert await ask(http(timeout_s=0.2), at(app)) == "no answer within 0.2 s"
    assert time.monotonic() - began < 5.0
    await until(lambda: not app.open, "the connection is closed")


async def test_nobody_listens(app):
    """A refusal is said as such; so is an address that the container does not have."""
    await app.stop()
    assert await ask(http(), at(app)) == "connection refused"
    assert await ask(Probe(How.TCP), at(app)) == "connection refused"
    assert await ask(http(), ()) == "the container has no address of its own to ask at"


async def test_the_next_target_where_one_decides_nothing(app):
    """On the host's network an application may be bound to one address of several."""
    closed = Target("127.0.0.2", app.port, decides=False)
    assert await ask(http(), (closed, *at(app))) == ""
    assert await ask(http(), (closed._replace(decides=True), *at(app))) == "connection refused"


async def test_no_proxy_of_the_environment(app, monkeypatch):
    """A health check goes to the container, whatever the shell that started us had set."""
    async with application("127.0.0.78") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.ip}:{proxy.port}")
        assert await ask(http(), at(app)) == ""
        assert proxy.asked == []


async def test_our_own_want_says_nothing_about_the_container(app, monkeypatch):
    """Without a free file nothing can be asked: that is no failure of theirs."""

    async def full(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "open_connection", full)
    assert await ask(http(), at(app)) is None


async def test_tcp(app):
    """A connection that is taken is enough."""
    assert await ask(Probe(How.TCP), at(app)) == ""


@pytest.mark.parametrize(("verify", "names", "problem"), [
    (False, ("www.example.com",), ""),
    (True, ("127.0.0.77",), "certificate: self-signed certificate in certificate chain"),
], ids=["not verified, as nginx does", "verified"])  # fmt: skip
async def test_https(verify, names, problem):
    """Certificates name the site, not a container's address: they are verified only if that is asked for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority = trustme.CA()
    authority.issue_cert(*names).configure_cert(context)
    app = Application("127.0.0.77")
    server = await asyncio.start_server(app._serve, app.ip, 0, ssl=context)
    async with server:
        target = Target(app.ip, server.sockets[0].getsockname()[1])
        found = await ask(Probe(How.HTTPS, "/", verify=verify, timeout_s=5.0), (target,))
    assert found == problem or (problem and found.startswith("certificate: "))


async def test_the_authorities_of_this_host_are_read_once_and_aside(monkeypatch):
    """Twenty checks at a closed port, one reading, in a thread: it takes longer than all of them."""
    threads, make = [], ssl.create_default_context

    def read():
        threads.append(threading.current_thread())
        return make()

    monkeypatch.setattr(ssl, "create_default_context", read)
    authorities, nobody = Authorities(), (Target("127.0.0.1", 9),)
    probe = Probe(How.HTTPS, "/", verify=True)
    found = await asyncio.gather(*(ask(probe, nobody, authorities=authorities) for _ in range(20)))
    assert (set(found), len(threads), threading.main_thread() in threads) == ({REFUSED}, 1, False)


async def test_https_where_there_is_no_tls(app):
    """The words for it are not OpenSSL's."""
    app.answer = BAD
    assert await ask(Probe(How.HTTPS, "/", timeout_s=2.0), at(app)) in {"no TLS", "no answer within 2 s"}


SERVING = {"": b"\x08\x01", "shop.Cart": b"\x08\x02", "shop.Odd": b"\x08\x01" * 100, "shop.Zero": b""}
GRPC = {
    "serving": ("", ""),
    "not serving": ("shop.Cart", "NOT_SERVING"),
    "not known": ("shop.Other", "NOT_FOUND"),
    "no such answer": ("shop.Odd", "no HealthCheckResponse"),
    "unknown": ("shop.Zero", "UNKNOWN"),
}


@pytest.fixture
async def grpc_port():
    async def check(request, context):
        name = request[2:].decode()
        if name not in SERVING:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return SERVING[name]

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.77:0")
    await server.start()
    yield port
    await server.stop(None)


@pytest.mark.parametrize(("service", "problem"), GRPC.values(), ids=GRPC)
async def test_grpc(grpc_port, service, problem):
    """grpc.health.v1, of the whole server or one service."""
    probe = Probe(How.GRPC, service, timeout_s=10.0)
    assert await ask(probe, (Target("127.0.0.77", grpc_port),)) == problem


async def test_grpc_of_something_else(app):
    """One that speaks HTTP/1, one that says nothing, and nobody."""
    app.answer = HANG
    assert await ask(Probe(How.GRPC, timeout_s=0.5), at(app)) in {"no answer within 0.5 s", "UNAVAILABLE"}
    await app.stop()
    assert await ask(Probe(How.GRPC, timeout_s=5.0), at(app)) == "connection refused"


@pytest.fixture
def script(tmp_path):
    def write(text, *, mode=0o755):
        path = tmp_path / "check"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return str(tmp_path)

    return write


HERE = (Target("127.0.0.77", 80),)
SCRIPTS = {
    "exit 0": ("exit 0", ""),
    "exit 3": ("exit 3", "exit code 3"),
    "killed": ("kill -KILL $$", "ended by signal 9"),
    "its arguments": ('[ "$1 $2" = "127.0.0.77 80" ] && [ "$SERVICE_IP:$SERVICE_PORT" = 127.0.0.77:80 ]', ""),
    "nothing of our environment": ('[ -z "$PILOTFISH_SECRET" ] && [ -n "$PATH" ]', ""),
    "output is thrown away": ("yes | head -c 1000000", ""),
    "no input": ("read line && exit 1; exit 0", ""),
}


@pytest.mark.parametrize(("text", "problem"), SCRIPTS.values(), ids=SCRIPTS)
async def test_scripts(script, monkeypatch, text, problem):
    """The exit code decides; the script is told where to ask, and nothing else of ours."""
    monkeypatch.setenv("PILOTFISH_SECRET", "canary")
    assert await ask(Probe(How.CMD, "check", timeout_s=10.0), HERE, script(text)) == problem


async def test_scripts_that_cannot_be_run(script):
    """Each with the reason."""
    folder = script("exit 0", mode=0o644)
    assert await ask(Probe(How.CMD, "check"), HERE, folder) == "cannot be run: Permission denied"
    assert await ask(Probe(How.CMD, "other"), HERE, folder) == "cannot be run: No such file or directory"


async def test_a_script_that_hangs_is_killed_with_all_it_began(script, tmp_path):
    """Its whole process group ends with the timeout."""
    pids = tmp_path / "pids"
    folder = script(f"sleep 600 & echo $! >{pids}.new; echo $$ >>{pids}.new; mv {pids}.new {pids}; wait")
    task = asyncio.create_task(ask(Probe(How.CMD, "check", timeout_s=2.0), HERE, folder))
    await until(pids.exists, "it has begun")
    assert await task == "no answer within 2 s"
    for pid in pids.read_text().split():
        await until(lambda pid=pid: not _runs(int(pid)), f"process {pid} is gone")


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_does_not_end_is_not_http():
    """However it was cut, more is asked for only while it may still be an answer."""
    whole = b"HTTP/1.1 100 Continue\r\na: b\r\n\r\nHTTP/1.1 204 No Content\r\n"
    assert [probe_wire.http_status(whole[:end]) for end in range(len(whole))] == [None] * len(whole)
    assert probe_wire.http_status(whole) == 204
    for bad in (b"h", b"SSH-2.0-x\r\n", b"HTTP/1.1 99 x\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 2000 x\r\n", b"\r\n"):
        with pytest.raises(probe_wire.NotHttp):
            probe_wire.http_status(bad)


async def test_packets_that_are_dropped_on_the_way(app, monkeypatch):
    """Between two bridges nothing comes back: then the published port is tried, within the same time."""
    real = asyncio.open_connection

    async def some(ip, port, **how):
        if ip == "127.0.0.3":
            await asyncio.Event().wait()
        return await real(ip, port, **how)

    monkeypatch.setattr(asyncio, "open_connection", some)
    silent = Target("127.0.0.3", 80)
    assert await ask(http(timeout_s=1.0), (silent, *at(app))) == ""
    assert await ask(http(timeout_s=0.2), (silent,)) == "no answer within 0.2 s"


def test_a_folder_that_is_none(tmp_path):
    """Said at the start, by the flag's name, not at every check."""
    assert folder("") == ""
    assert folder(str(tmp_path / "..")) == str(tmp_path.parent)
    with pytest.raises(CannotStart, match="--check-dir /nowhere/at/all: there is no such folder"):
        folder("/nowhere/at/all")


async def test_a_process_that_is_another_is_checked_at_once(app):
    """Its interval does not go on from the one before."""
    one = Port("a" * 64, 1, "tcp")
    results, probe = [], http(interval_s=600.0)
    rounds = Rounds(lambda *found: results.append(found), 8, "")
    try:
        rounds.want(one.container, {one: (progress.start(probe), at(app))}, 1.0)
        await until(lambda: len(results) == 1, "the first check")
        opened = progress.found(progress.start(probe), "")
        rounds.want(one.container, {one: (opened, at(app))}, 1.0)
        rounds.want(one.container, {one: (progress.start(probe), at(app))}, 2.0)
        await until(lambda: len(results) == 2, "the check of the second process")
    finally:
        await rounds.close()
    assert results == [(one, "")] * 2


async def test_one_container_does_not_take_every_turn(app):
    """Sixty ports that hang, of one container: another's check has its turn at once."""
    async with application("127.0.0.79") as silent:
        silent.answer = HANG
        heard = []
        rounds = Rounds(lambda port, problem: heard.append((port, problem)), MOST_OF_ONE + 1, "")
        try:
            hang = (progress.start(http(timeout_s=60.0)), at(silent))
            rounds.want("a" * 64, {Port("a" * 64, number, "tcp"): hang for number in range(1, 61)})
            await until(lambda: silent.open == MOST_OF_ONE, "its turns are taken")
            other = Port("b" * 64, 80, "tcp")
            rounds.want("b" * 64, {other: (progress.start(http()), at(app))})
            await until(lambda: heard == [(other, "")], "the other was asked")
            assert silent.open == MOST_OF_ONE
        finally:
            await rounds.close()
