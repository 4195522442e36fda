"""A witness: `python -m bench.witness ADDRESS PORT RATE SECONDS FILE` asks at a fixed rate and judges every answer.

A process of its own with its own clock. Questions go out from many ports in turn, whether or not those before were
answered. FILE has a line for each: name, type, the code that is right, and the addresses, "-" without any; "|" stands
between several sets of addresses of which each is right. Each second of questions is a line of JSON on standard output,
told when all of them are answered or lost; SIGTERM ends it early.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.rcode

from bench.replies import read

WINDOW_S = 1.0
TIMEOUT_S = 2.0
PORTS = 64
TICK_S = 0.001
STALE_TTL = 30  # seconds at most when an answer is marked as stale, RFC 8767 §5
SHOWN = 5  # wrong answers told in full, of each second


class Question(NamedTuple):
    """What is asked, as octets without an id, and what is right."""

    text: str
    octets: bytes
    rcode: int
    addresses: tuple[frozenset[str], ...]


class Window(NamedTuple):
    """What became of the questions of one second.

    Attributes:
        at: when the second began, monotonic seconds, one clock for the whole machine.
        asked: questions sent.
        fresh: right answers, not marked as stale.
        marked: right answers marked as stale, with a TTL of 30 s at most.
        failed: answers that say nothing about the name: SERVFAIL, REFUSED and the like, or cut.
        wrong: answers that are not true.
        lost: questions without an answer in time.
        took: milliseconds of each answer.
        gap: the longest time between a right answer and the one before it, milliseconds.
        last: when the last right answer came, monotonic seconds; 0 without one.
        first: when the first right answer came; 0 without one.
        shown: some of the wrong answers.
    """

    at: float
    asked: int
    fresh: int
    marked: int
    failed: int
    wrong: int
    lost: int
    took: list[float]
    gap: float
    first: float
    last: float
    shown: list[str]


def window_of(line: str) -> Window:
    """Read what a witness printed."""
    return Window(**json.loads(line))


def questions(lines: Iterable[str]) -> Iterator[Question]:
    """Read the lines of a file, see the module."""
    for line in lines:
        name, kind, rcode, addresses = line.split()
        octets = dns.message.make_query(name, kind, use_edns=0, payload=1232, id=0).to_wire()[2:]
        expected = tuple(frozenset(one.split(",")) - {"-"} for one in addresses.split("|"))
        yield Question(f"{name} {kind}", octets, int(dns.rcode.from_text(rcode)), expected)


class _Counting:
    """A window that is not told yet."""

    def __init__(self, at: float) -> None:
        self.at, self.open, self.asked = at, 0, 0
        self.kinds = dict.fromkeys(("fresh", "marked", "failed", "wrong", "lost"), 0)
        self.took: list[float] = []
        self.first = self.last = self.gap = 0.0
        self.shown: list[str] = []

    def told(self) -> Window:
        took = [round(one, 3) for one in self.took]
        about = {"first": self.first, "last": self.last, "shown": self.shown, "gap": round(self.gap, 3)}
        return Window(self.at, self.asked, took=took, **about, **self.kinds)  # type: ignore[arg-type]


class Witness:
    """Asks and judges.

    Args:
        server: address and port.
        asked: questions, asked in turn.
        rate: how many a second.
        ports: to ask from.
        seed: of the order of questions.
    """

    def __init__(
        self, server: tuple[str, int], asked: list[Question], rate: float, *, ports: int = PORTS, seed: int = 1
    ) -> None:
        self._questions, self._rate = asked, rate
        random.Random(seed).shuffle(self._questions)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(ports):
            family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            opened.connect(server)
            self._sockets[opened.fileno()] = opened
            self._poll.register(opened.fileno(), select.EPOLLIN)
        self._turn = list(self._sockets)
        self._pending: dict[tuple[int, int], tuple[float, int, _Counting]] = {}
        self._order: deque[tuple[float, tuple[int, int]]] = deque()
        self._windows: deque[_Counting] = deque()
        self._judged: dict[tuple[int, bytes], str] = {}
        self._right = 0.0  # when the last right answer came
        self.stopped = False

    def run(self, seconds: float) -> Iterator[Window]:
        """Ask for so long, or until `stopped`; yields each window when it is over."""
        begun = time.monotonic()
        sent, end = 0, begun + seconds
        while (now := time.monotonic()) < end and not self.stopped:
            due = int((now - begun) * self._rate)
            for number in range(sent, due):
                self._ask(number, now)
            sent = due
            self._read(TICK_S)
            self._lose(now - TIMEOUT_S)
            yield from self._over(now)
        while self._pending:
            self._read(0.05)
            self._lose(time.monotonic() - TIMEOUT_S)
        yield from self._over(float("inf"))

    def close(self) -> None:
        """Close the sockets."""
        self._poll.close()
        for opened in self._sockets.values():
            opened.close()

    def _ask(self, number: int, now: float) -> None:
        which, handle = number % len(self._questions), self._turn[number % len(self._turn)]
        message_id = number // len(self._turn) % 65536
        window = self._window(now)
        window.asked += 1
        window.open += 1
        key = handle, message_id
        self._pending[key] = now, which, window
        self._order.append((now, key))
        # An error of an earlier question (nobody listens) is told here; it is met by the time-out of that one.
        for _ in range(2):
            with contextlib.suppress(OSError):
                self._sockets[handle].send(message_id.to_bytes(2, "big") + self._questions[which].octets)
                return

    def _window(self, now: float) -> _Counting:
        if not self._windows or now >= self._windows[-1].at + WINDOW_S:
            self._windows.append(_Counting(now))
        return self._windows[-1]

    def _read(self, wait_s: float) -> None:
        for handle, _ in self._poll.poll(wait_s):
            while True:
                try:
                    reply = self._sockets[handle].recv(4096)
                except BlockingIOError:
                    break
                except OSError:  # nobody listens: the question's time-out says so too
                    continue
                self._came(handle, reply, time.monotonic())

    def _came(self, handle: int, reply: bytes, now: float) -> None:
        pending = self._pending.pop((handle, int.from_bytes(reply[:2], "big")), None)
        if pending is None:
            return
        sent, which, window = pending
        kind = self._judge(which, reply)
        window.open -= 1
        window.kinds[kind] += 1
        window.took.append((now - sent) * 1000)
        if kind in {"fresh", "marked"}:
            window.first = window.first or now
            window.last = now
            window.gap = max(window.gap, (now - (self._right or now)) * 1000)
            self._right = now
        elif len(window.shown) < SHOWN:
            window.shown.append(f"{kind}: {self._questions[which].text}: {_readable(reply)}")

    def _judge(self, which: int, reply: bytes) -> str:
        key = which, reply[2:]
        found = self._judged.get(key)
        if found is None:
            if len(self._judged) > 100_000:
                self._judged.clear()
            found = self._judged[key] = _verdict(self._questions[which], reply)
        return found

    def _lose(self, before: float) -> None:
        while self._order and self._order[0][0] < before:
            sent, key = self._order.popleft()
            pending = self._pending.get(key)
            if pending is not None and pending[0] == sent:
                del self._pending[key]
                pending[2].open -= 1
                pending[2].kinds["lost"] += 1

    def _over(self, now: float) -> Iterator[Window]:
        while self._windows and now >= self._windows[0].at + WINDOW_S and not self._windows[0].open:
            yield self._windows.popleft().told()


def _verdict(question: Question, reply: bytes) -> str:
    try:
        said = read(reply)
    except ValueError:
        return "wrong"
    if said.truncated or said.rcode not in {0, 3}:
        return "failed"
    if said.rcode != question.rcode or said.addresses not in question.addresses:
        return "wrong"
    if not said.marked:
        return "fresh"
    return "marked" if said.ttl <= STALE_TTL else "wrong"


def _readable(reply: bytes) -> str:
    try:
        said = read(reply)
    except ValueError as error:
        return f"{error}: {reply.hex()}"
    return f"code {said.rcode}, {sorted(said.addresses)}, TTL {said.ttl}"


def hurry() -> None:
    """Run before everything else that is not as urgent: a witness that is late would say that the server was."""
    with contextlib.suppress(OSError):  # takes root
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.witness", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("file", type=Path)
    parser.add_argument("--ports", type=int, default=PORTS)
    options = parser.parse_args(arguments)
    asked = list(questions(options.file.read_text(encoding="ascii").splitlines()))
    witness = Witness((options.address, options.port), asked, options.rate, ports=options.ports)
    signal.signal(signal.SIGTERM, lambda *_: setattr(witness, "stopped", True))
    try:
        hurry()
        for window in witness.run(options.seconds):
            print(json.dumps(window._asdict()), flush=True)
    finally:
        witness.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
