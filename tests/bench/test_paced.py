"""The paced load on a name server that does exactly what it is told, so what must come out is known."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench import paced, question
from bench.paced import Paced, Pacer

EACH, TICKS = 4, 400  # 1,600 questions in a tenth of a second
STALL_S = 0.15

Reply = Callable[[int, bytes], bytes | None]


def echoed(_: int, message: bytes) -> bytes:
    return message[:2] + b"\x81\x80" + message[4:]


def every_tenth_lost(number: int, message: bytes) -> bytes | None:
    return None if number % 10 == 3 else echoed(number, message)


def one_stall(number: int, message: bytes) -> bytes:
    if number == 500:
        time.sleep(STALL_S)
    return echoed(number, message)


def refused(_: int, message: bytes) -> bytes:
    return message[:2] + b"\x81\x85" + message[4:]


def doubled_by_hand(opened: socket.socket, data: bytes, client: tuple[str, int]) -> None:
    opened.sendto(data, client)
    opened.sendto(data, client)


@contextmanager
def server(reply: Reply, send: Callable[..., object] = socket.socket.sendto) -> Iterator[tuple[str, int]]:
    """A server whose thread answers one datagram after the other."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    opened.bind(("127.0.0.1", 0))

    def serve() -> None:
        number = 0
        while (got := opened.recvfrom(512))[0] != b"end":
            answer = reply(number, got[0])
            number += 1
            if answer is not None:
                send(opened, answer, got[1])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield opened.getsockname()
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"end", opened.getsockname())
        thread.join(10)
        opened.close()


def asked(reply: Reply, send: Callable[..., object] = socket.socket.sendto, names: int = 30) -> Paced:
    messages = [question.message(f"n{number}.test", "A") for number in range(names)]
    with server(reply, send) as address:
        pacer = Pacer(address, messages, EACH, TICKS)
        try:
            return pacer.run()
        finally:
            pacer.close()


COUNTED = {
    "all are answered": (echoed, socket.socket.sendto, 0, 0),
    "every tenth is lost": (every_tenth_lost, socket.socket.sendto, EACH * TICKS // 10, 0),
    "an answer that comes twice counts once": (echoed, doubled_by_hand, 0, 0),
    "refusals are no answers": (refused, socket.socket.sendto, 0, EACH * TICKS),
}


@pytest.mark.parametrize(("reply", "send", "lost", "failed"), COUNTED.values(), ids=COUNTED)
def test_counts(reply, send, lost, failed, monkeypatch):
    """What is lost and what failed is counted to the question."""
    monkeypatch.setattr(paced, "GRACE_S", 0.2)

    found = asked(reply, send)

    assert (found.asked, found.lost, found.failed) == (EACH * TICKS, lost, failed)


def test_a_stall_is_charged_to_every_question_that_was_due_meanwhile():
    """Not only the question that the server slept on is late: those behind it were due as well (open loop)."""
    found = asked(one_stall)

    assert found.lost == 0
    assert found.most >= STALL_S * 1e6
    # More than half were due after the stall began, and the load is shorter than the stall.
    assert found.p99 >= STALL_S * 1e6 / 2


def test_fewer_questions_than_are_due_at_a_tick():
    """A single question is asked again and again."""
    assert asked(echoed, names=1).lost == 0


LEFT = {"too slow": ("100", "1"), "so long that ids come twice": ("20000", "60")}


@pytest.mark.parametrize(("rate", "seconds"), LEFT.values(), ids=LEFT)
def test_rates_that_cannot_be_kept_are_refused(rate, seconds, capsys):
    """They end with exit code 2 and a reason."""
    assert paced.main(["127.0.0.1", "1", rate, seconds, "none"]) == 2
    assert f"{rate} questions a second" in capsys.readouterr().err
