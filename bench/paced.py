"""DNS questions at a fixed rate: `python -m bench.paced ADDRESS PORT RATE SECONDS FILE` prints the latencies.

Open loop: every quarter of a millisecond a few questions are due, whether or not those before were answered. A latency
runs from the moment at which its question was due, not from when it was sent, to the kernel's note of the answer's
arrival: a server that stands still is charged for every question that was due meanwhile, and for this program's own
delays as well. Those are shown beside it (`late`). dnsperf does not tell percentiles, and asks less of a slow server.

FILE has a name and a type a line, as dnsperf reads it. Ports and ids are not used twice within a run of a minute.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.datagrams import Incoming, Outgoing, client
from bench.figures import percentile
from bench.question import message

TICK_NS = 250_000
SOCKETS = 17  # as many clients; a server with several workers shares them out by their ports
GRACE_S = 1.0  # an answer that takes longer than this after the last question is lost
LEAD_NS = 50_000_000
NOT_ANSWERS = frozenset({1, 2, 4, 5})  # FORMERR, SERVFAIL, NOTIMP, REFUSED
_PR_SET_TIMERSLACK = 29  # prctl(2)


class Paced(NamedTuple):
    """What came of a run; times in microseconds.

    Attributes:
        asked: questions that were due.
        lost: those without an answer.
        failed: answers that were none: SERVFAIL, REFUSED and the like.
        p50: latency that half of the answers had at most.
        p99: of 99 %.
        p999: of 99.9 %.
        most: the longest.
        late: how long after it was due a question left, p99.
        cpu: seconds of CPU of this program for a second of the run.
    """

    asked: int
    lost: int
    failed: int
    p50: float
    p99: float
    p999: float
    most: float
    late: float
    cpu: float


class Pacer:
    """One run.

    Args:
        address: of the server.
        questions: asked one after the other, and again.
        each: how many are due at every tick.
        ticks: how many there are.
    """

    def __init__(self, address: tuple[str, int], questions: Iterable[bytes], each: int, ticks: int) -> None:
        wanted = list(itertools.islice(questions, each * ticks))
        whole = len(wanted) // each * each
        self._outgoing, self._incoming = Outgoing(wanted[:whole] or wanted * each), Incoming()
        self._sockets = [client(address) for _ in range(SOCKETS)]
        self._descriptors = [one.fileno() for one in self._sockets]
        self._each, self._ticks = each, ticks
        self._arrived = array.array("q", bytes(8 * each * ticks))
        self._late = array.array("q", bytes(8 * ticks))
        self._begun, self._answered, self._failed = 0, 0, 0

    def run(self) -> Paced:
        """Ask, wait for the last answers, and say what came of it."""
        used = time.process_time()
        self._begun = time.time_ns() + LEAD_NS
        apart = time.time_ns() - time.monotonic_ns()
        for tick in range(self._ticks):
            due = self._begun + tick * TICK_NS
            if (early := due - time.time_ns()) > 0:
                time.sleep(early / 1e9)
            self._late[tick] = time.time_ns() - due
            self._ask(tick)
            self._take((tick + 1) % SOCKETS)  # the one that was not read for the longest time
        self._wait()
        if abs(time.time_ns() - time.monotonic_ns() - apart) > TICK_NS:
            raise RuntimeError("the machine's clock was set during the run: its times mean nothing")
        return self._result(time.process_time() - used)

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets:
            one.close()

    # Within each socket ids count up from 0, so an id says which question it was.
    def _ask(self, tick: int) -> None:
        start = tick * self._each % len(self._outgoing)
        first_id = tick // SOCKETS * self._each
        self._outgoing.send(self._descriptors[tick % SOCKETS], start, self._each, first_id)

    def _take(self, which: int) -> None:
        each = self._each
        for message_id, code, arrived in self._incoming.receive(self._descriptors[which]):
            number = (message_id // each * SOCKETS + which) * each + message_id % each
            if number < len(self._arrived) and not self._arrived[number]:
                self._arrived[number] = arrived
                self._answered += 1
                self._failed += code in NOT_ANSWERS

    def _wait(self) -> None:
        deadline = time.monotonic() + GRACE_S
        while self._answered < len(self._arrived) and time.monotonic() < deadline:
            for which in range(SOCKETS):
                self._take(which)
            time.sleep(0.001)

    def _result(self, used_s: float) -> Paced:
        took = sorted(
            (arrived - self._begun - number // self._each * TICK_NS) / 1000
            for number, arrived in enumerate(self._arrived)
            if arrived
        )
        asked, took_s = len(self._arrived), self._ticks * TICK_NS / 1e9
        p50, p99, p999, most = (percentile(took, percent) for percent in (50, 99, 99.9, 100))
        late = percentile(self._late, 99) / 1000
        return Paced(asked, asked - len(took), self._failed, p50, p99, p999, most, late, used_s / took_s)


def questions(file: Path) -> Iterator[bytes]:
    """The messages for a file of names and types."""
    with file.open(encoding="ascii") as lines:
        for line in lines:
            name, _, kind = line.strip().partition(" ")
            yield message(name, kind)


def _hurry() -> None:
    """Run before everything else: this stands in for other machines, which do not wait for what happens here."""
    with contextlib.suppress(OSError):  # takes root; without it this is late when the machine is busy, and says so
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    address, port, rate, seconds, file = arguments
    each = round(int(rate) * TICK_NS / 1e9)
    if each < 1 or float(seconds) * int(rate) / SOCKETS > 1 << 16:
        sys.stderr.write(f"{rate} questions a second for {seconds} s are too few or too many\n")
        return 2
    pacer = Pacer((address, int(port)), questions(Path(file)), each, round(float(seconds) * 1e9 / TICK_NS))
    try:
        _hurry()
        print(json.dumps(pacer.run()._asdict()))
    finally:
        pacer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
