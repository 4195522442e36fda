"""The HTTP checker: what it judges, and that it sees what really happens to requests."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from aiohttp import web

from tests.parts.checker import Aside, Sent, Served, Serving, Span, judge, served_by, text

OK = {"status": 200, "by": "a", "took_s": 0.1, "proxy": "p", "method": "GET"}


def _sent(seq, at=0.0, **fields):
    return Sent(seq=seq, at=at, **{**OK, "echoed": seq, **fields})


# title, sent, served (None: not known), what is found
JUDGED = [
    ("good", [_sent("1")], ["1"], {"good": 1}),
    ("good without the servers' logs", [_sent("1")], None, {"good": 1}),
    ("lost", [_sent("1"), _sent("2")], ["1"], {"good": 1, "lost": ("2",)}),
    ("never ended", [_sent("0")], ["0"], {"good": 1, "lost": ("1",), "sent": 2}),
    ("doubled GET", [_sent("1")], ["1", "1"], {"good": 0, "doubled": ("1",)}),
    (
        "doubled POST",
        [_sent("1", method="POST")],
        ["1", "1"],
        {"good": 0, "doubled": ("1",), "doubled_unsafe": ("1",)},
    ),
    ("wrong server", [_sent("1", by="x")], ["1"], {"good": 0, "wrong": ("1",)}),
    ("another's answer", [_sent("1", echoed="7")], ["1"], {"good": 0, "mixed": ("1",)}),
    ("status", [_sent("1", status=502, by=None, echoed=None)], [], {"good": 0, "failed": ("1",)}),
    ("error", [_sent("1", status=None, error="timeout", by=None, echoed=None)], [], {"good": 0, "failed": ("1",)}),
    (
        "failed but served twice",
        [_sent("1", status=504, by=None, echoed=None, method="POST")],
        ["1", "1"],
        {"good": 0, "failed": ("1",), "doubled": ("1",), "doubled_unsafe": ("1",)},
    ),
]


@pytest.mark.parametrize(("sent", "served", "expected"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED])
def test_judge(sent, served, expected):
    """Each way to go wrong is found, and nothing else."""
    logs = None if served is None else [Served(seq, "a") for seq in served]
    numbers = ["0", "1"] if "sent" in expected else ()
    verdict = judge(sent, {"a"}, served=logs, numbers=numbers)
    kinds = ("failed", "lost", "doubled", "doubled_unsafe", "wrong", "mixed")

    assert {kind: getattr(verdict, kind) for kind in kinds} == {kind: expected.get(kind, ()) for kind in kinds}
    assert (verdict.good, verdict.sent) == (expected["good"], expected.get("sent", len(sent)))
    assert verdict.bad == verdict.sent - verdict.good
    assert f"{verdict.good} of {verdict.sent} good" in text(verdict)


# title, when it was sent, whether the server b, which served from 10 to 20, may answer
WINDOWS = [
    ("before", 9.0, False),
    ("ends as it begins", 9.95, True),
    ("within", 15.0, True),
    ("within the bound", 20.5, True),
    ("after the bound", 21.01, False),
]


@pytest.mark.parametrize(("at", "fine"), [row[1:] for row in WINDOWS], ids=[row[0] for row in WINDOWS])
def test_removed_server(at, fine):
    """A server that was removed may be met for as long as the bound allows."""
    verdict = judge([_sent("1", at=at, by="b")], [Serving("a"), Serving("b", 10.0, 20.0)], bound_s=1.0)

    assert verdict.wrong == (() if fine else ("1",))


def test_spans():
    """Failures of one kind that follow each other are one span; others stand apart."""
    bad = {"status": 502, "by": None, "echoed": None}
    rows = [
        _sent("1", 0.0, **bad),
        _sent("2", 0.5, **bad),
        _sent("3", 0.6, **{**bad, "status": 504}),
        _sent("4", 5.0, **bad),
    ]
    verdict = judge(rows, {"a"})

    assert verdict.spans == (
        Span("p", "status 502", 0.0, 0.6, 2),
        Span("p", "status 504", 0.6, 0.7, 1),
        Span("p", "status 502", 5.0, 5.1, 1),
    )
    assert verdict.worst_s == pytest.approx(0.6)


def test_served_by():
    """A server's log is read whatever else is in it."""
    log = 'noise\n{"event":"listening"}\n{"seq":"1"}\n{"event":"request","n":"r.2"}\n[1]\n{"n":null}\n{bro'

    assert served_by("a", log) == [Served("1", "a"), Served("r.2", "a")]


class Backend:
    """Says who it is and what it was asked; `misbehave` may answer instead."""

    def __init__(self, name):
        self.name, self.log, self.connections = name, [], set()
        self.misbehave = None

    async def answer(self, request):
        seq = request.query["seq"]
        self.log.append(Served(seq, self.name))
        self.connections.add(request.transport.get_extra_info("peername"))
        assert (request.headers["X-Seq"], request.headers["X-Request-Number"], request.query["n"]) == (seq, seq, seq)
        assert await request.text() == (f"body of {seq}" if request.method == "POST" else "")
        special = self.misbehave(request) if self.misbehave else None
        return special or web.json_response({"id": self.name, "seq": seq, "host": request.host})


@pytest.fixture
async def backends():
    found, runners = [], []
    for name in ("a", "b"):
        backend = Backend(name)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", backend.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        backend.address = f"127.0.0.1:{runner.addresses[0][1]}"
        found.append(backend)
        runners.append(runner)
    yield found
    for runner in runners:
        await runner.cleanup()


def _load(tmp_path, backends, *arguments):
    proxies = [word for backend in backends for word in ("--proxy", backend.address)]
    return Aside("tests.parts.checker", [*proxies, "--host", "web.test", *arguments], tmp_path / "log")


@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "kept connections"])
async def test_every_request_arrives_once(tmp_path, backends, keep):
    """Requests of two methods through two proxies are numbered, answered and joined."""
    extra = ["--keep-alive"] if keep else []
    methods = ("--method", "GET", "--method", "GET", "--method", "POST")
    async with _load(tmp_path, backends, "--count", "60", "--run", "r", *methods, *extra) as load:
        await load.finished()
    rows = load.rows(Sent)
    verdict = judge(
        rows, {"a", "b"}, served=[*backends[0].log, *backends[1].log], numbers=[f"r.{n}" for n in range(60)]
    )

    assert (verdict.good, verdict.sent) == (60, 60), text(verdict)
    assert {row.method for row in rows} == {"GET", "POST"}
    assert {row.by for row in rows} == {"a", "b"}
    assert any(row.reused for row in rows) == keep
    assert 1 <= len(backends[0].connections) <= 4 if keep else len(backends[0].connections) == 30
    assert load.answered == 60


async def test_failures_are_seen(tmp_path, backends):
    """A refused connection, a bad status, a broken body, a closed connection and a silent server are five kinds."""

    def misbehave(request):
        number = int(request.query["seq"])
        if number == 1:
            return web.Response(status=502, text="bad gateway")
        if number == 2:
            request.transport.abort()
        return web.json_response({"id": "a", "seq": "77"}) if number == 3 else None

    backends[0].misbehave = misbehave
    async with _load(tmp_path, backends[:1], "--count", "5", "--workers", "1") as load:
        await load.finished()
    silent = socket.create_server(("127.0.0.1", 0))  # the kernel connects, nobody answers
    backends[1].address = f"127.0.0.1:{silent.getsockname()[1]}"
    arguments = ("--count", "1", "--timeout", "0.1", "--proxy", "127.0.0.1:1")
    async with Aside(
        "tests.parts.checker",
        ["--proxy", backends[1].address, "--host", "x", "--count", "2", *arguments[2:]],
        tmp_path / "2",
    ) as second:
        await second.finished()
    silent.close()
    verdict = judge(load.rows(Sent), {"a"}, served=backends[0].log)

    assert (verdict.failed, verdict.mixed, verdict.good) == (("1", "2"), ("3",), 2)
    assert {span.what for span in verdict.spans} == {"status 502", "_ClosedEarly"}
    assert {row.error for row in second.rows(Sent)} == {"timeout", "ConnectionRefusedError"}


async def test_a_get_is_repeated_on_a_connection_found_closed(tmp_path, backends):
    """What every client does: a GET on a kept connection that was closed meanwhile is sent again; a POST is not."""
    closed = []

    def misbehave(request):
        answer = web.json_response({"id": "a", "seq": request.query["seq"]})
        if request.query["seq"] in {"0", "2"}:
            transport = request.transport
            closed.append(asyncio.get_running_loop().call_later(0.05, transport.abort))
        return answer

    backends[0].misbehave = misbehave
    methods = ("--method", "GET", "--method", "GET", "--method", "GET", "--method", "POST")
    arguments = ("--count", "4", "--workers", "1", "--keep-alive", "--rate", "5", *methods)
    async with _load(tmp_path, backends[:1], *arguments) as load:
        await load.finished()
    verdict = judge(load.rows(Sent), {"a"}, served=backends[0].log)

    assert [row.repeated for row in load.rows(Sent)] == [False, True, False, False]
    assert verdict.failed == ("3",), text(verdict)


async def test_until_stopped(tmp_path, backends):
    """A load runs until it is stopped, at the rate asked for, and writes whole rows only."""
    async with _load(tmp_path, backends, "--rate", "200") as load:
        await load.until_answered(20)
    rows = load.rows(Sent)

    assert len(rows) >= 20
    assert rows[-1].at - rows[0].at >= (len(rows) - 5) / 200
    assert all(json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert judge(rows, {"a", "b"}, served=[*backends[0].log, *backends[1].log]).bad == 0


async def test_a_checker_that_cannot_run(tmp_path):
    """A load that ends before it begins is an error, not an empty log."""
    with pytest.raises(RuntimeError, match="ended before"):
        async with Aside("tests.parts.checker", ["--nonsense"], tmp_path / "log"):
            pass
