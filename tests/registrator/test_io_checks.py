"""Dialling: what answers, what does not, and for how long it is tried."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registrator.health.checks import Target
from registrator.health.io_checks import LONGEST_S, SHORTEST_S, Dials, Port, answers, delay_after
from tests.registrator.harness import until


@pytest.fixture
def free():
    """A loopback port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Target("127.0.0.1", probe.getsockname()[1])


async def serve(target):
    return await asyncio.start_server(lambda _, writer: writer.close(), target.ip, target.port)


@pytest.fixture
async def dials():
    heard = []
    one = Dials(heard.append)
    one.heard = heard
    yield one
    await one.close()


WEB = Port("a" * 64, 80, "tcp")


async def test_answers(free, monkeypatch):
    """Taken, refused, and out of reach are three things."""
    assert await answers(free, 1.0) is False
    async with await serve(free):
        assert await answers(free, 1.0) is True
    assert await answers(Target("::ffff:0:0", 1), 1.0) in {None, False}

    async def silent(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr("registrator.health.io_checks.DIAL_TIMEOUT_S", 0.01)
    monkeypatch.setattr(asyncio, "open_connection", silent)
    assert await answers(free, 1.0) is None


async def test_a_port_is_dialled_until_it_answers(free, dials):
    """Told once, and not dialled any more."""
    dials.want(WEB.container, {WEB: (free,)})
    await dials.first(WEB.container, 30.0)
    assert dials.heard == []
    assert dials.waiting == (WEB,)
    async with await serve(free):
        await until(lambda: dials.heard == [WEB], "it answered")
    assert dials.waiting == ()


async def test_the_first_answer_is_there_after_the_first_round(free, dials):
    """What listens already is known before anything is written."""
    async with await serve(free):
        dials.want(WEB.container, {WEB: (free,)})
        await dials.first(WEB.container, 30.0)
        assert dials.heard == [WEB]


async def test_a_refusal_is_an_answer(free, dials):
    """A published port's helper may take connections that the container refuses: the container's word counts."""
    async with await serve(free):
        closed = Target("127.0.0.2", free.port)
        dials.want(WEB.container, {WEB: (closed, free)})
        await dials.first(WEB.container, 30.0)
        assert dials.heard == []


async def test_a_refusal_that_decides_nothing(free, dials):
    """On the host's network an application may be bound to one address of several."""
    async with await serve(free):
        closed = Target("127.0.0.2", free.port, decides=False)
        dials.want(WEB.container, {WEB: (closed, free)})
        await dials.first(WEB.container, 30.0)
        assert dials.heard == [WEB]


async def test_what_does_not_answer_for_long_is_said_once(free, dials):
    """With where it was tried."""
    dials.want(WEB.container, {WEB: (free,)})
    await dials.first(WEB.container, 30.0)
    assert dials.overdue(3600.0) == []
    assert dials.overdue(0.0) == [(WEB, (free,))]
    assert dials.overdue(0.0) == []


async def test_an_address_out_of_reach_is_passed_over(free, dials, monkeypatch):
    """From a container of our own, the application's network may be closed to us: then its published port is tried."""
    real = asyncio.open_connection

    async def some(ip, port):
        if ip == "127.0.0.3":
            raise OSError(113, "No route to host")
        return await real(ip, port)

    monkeypatch.setattr(asyncio, "open_connection", some)
    async with await serve(free):
        dials.want(WEB.container, {WEB: (Target("127.0.0.3", 80), free)})
        await until(lambda: dials.heard == [WEB], "it answered")


async def test_what_is_wanted_no_longer_is_not_dialled(free, dials):
    """A container that went takes its dials with it; others stay."""
    other = Port("b" * 64, 80, "tcp")
    dials.want(WEB.container, {WEB: (free,)})
    dials.want(other.container, {other: (free,)})
    dials.want(WEB.container, {})
    assert dials.waiting == (other,)
    async with await serve(free):
        await until(lambda: dials.heard == [other], "the other answered")


async def test_other_targets_begin_anew(free, dials):
    """A container that got another address is dialled there."""
    dials.want(WEB.container, {WEB: (Target("127.0.0.2", free.port),)})
    async with await serve(free):
        dials.want(WEB.container, {WEB: (free,)})
        await until(lambda: dials.heard == [WEB], "it answered")


async def test_quiet_ends_with_its_time(free, dials):
    """A port that never answers does not hold anybody up."""
    dials.want(WEB.container, {WEB: (free,)})
    await dials.quiet(0.05)
    assert dials.waiting == (WEB,)


@settings(deadline=None)
@given(st.floats(0, 1e6), st.floats(0, 1))
def test_waits_grow_with_the_time_that_has_passed(passed, jitter):
    """Never shorter than half the shortest, never longer than the longest, else about 2 % of what has passed."""
    delay = delay_after(passed, jitter)
    assert SHORTEST_S / 2 <= delay <= LONGEST_S
    assert delay <= max(SHORTEST_S, passed * 0.02)
