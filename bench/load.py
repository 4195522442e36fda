"""Load on a name server: dnsperf as fast as answers come, or `bench.paced` at a fixed rate; what it cost the server."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from bench.figures import Spread, spread
from bench.machine import raise_session, scheduled
from bench.paced import Paced
from bench.parts import LOCAL, Folder
from bench.server import Server

IN_FLIGHT = 100
CLIENTS = (
    21  # ports, and TCP connections; no divisor of how many names there are: each comes from another one next time
)
RATE = 20_000  # of the paced load, questions a second

Result = TypeVar("Result")


class Fast(NamedTuple):
    """One run of dnsperf.

    Attributes:
        per_second: answers.
        cpu_us: CPU of the server for each, microseconds.
        lost: queries without an answer.
        waited: share of the time in which the server was ready to run and had no core.
    """

    per_second: float
    cpu_us: float
    lost: int
    waited: float


class Steady(NamedTuple):
    """One run at a fixed rate.

    Attributes:
        paced: what the client saw.
        cpu_us: CPU of the server for a question, microseconds.
        waited: as in `Fast`.
    """

    paced: Paced
    cpu_us: float
    waited: float


class Pairs(NamedTuple, Generic[Result]):
    """What two servers did in turn, run by run."""

    ours: Sequence[Result]
    other: Sequence[Result]

    def ratio(self, figure: Callable[[Result], float]) -> Spread:
        """What ours has of the other's, for each pair; what else the machine did met both of a pair."""
        pairs = zip(self.ours, self.other, strict=True)
        return spread(figure(one) / figure(two) if figure(two) else math.nan for one, two in pairs)

    def each(self, ours: str, other: str) -> Iterator[tuple[str, Sequence[Result]]]:
        """The two with their names."""
        yield ours, self.ours
        yield other, self.other


def alternate(one: Server, two: Server, rounds: int, run: Callable[[Server, int], Result]) -> Pairs[Result]:
    """Run on both in turn; which of them goes first alternates, so that what else happens here meets both."""
    found: dict[int, list[Result]] = {one.port: [], two.port: []}
    for number in range(rounds):
        for server in (one, two) if number % 2 == 0 else (two, one):
            found[server.port].append(run(server, number))
    return Pairs(found[one.port], found[two.port])


def fast(place: Folder, server: Server, file: Path, seconds: float, options: Sequence[str] = ()) -> Fast:
    """Run dnsperf for some seconds at most, with more options if wanted."""
    command: list[str | Path] = [place.tools.find("dnsperf"), "-s", LOCAL, "-p", str(server.port), "-d", file]
    command += ["-l", f"{seconds:g}", "-q", str(IN_FLIGHT), "-c", str(CLIENTS), "-t", "1", *options]
    before = scheduled(server.pid)
    said = _run(command, 60)
    used = scheduled(server.pid).since(before)
    completed, took_s = _figure(said, "Queries completed"), _figure(said, "Run time (s)")
    if not completed:
        raise RuntimeError(f"{server.title} answered nothing:\n{said}")
    lost = int(_figure(said, "Queries lost"))
    return Fast(_figure(said, "Queries per second"), used.ran / completed * 1e6, lost, used.waited / took_s)


def _run(command: Sequence[str | Path], within_s: float) -> str:
    """What a program prints.

    Raises:
        RuntimeError: it failed.
    """
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        raise_session(process.pid)
        try:
            said, complained = process.communicate(timeout=within_s)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} failed: {complained.strip()}")
    return said


def _figure(said: str, title: str) -> float:
    found = re.search(rf"{re.escape(title)}:\s+([0-9.]+)", said)
    if found is None:
        raise RuntimeError(f"dnsperf did not say {title!r}:\n{said}")
    return float(found[1])


def steady(server: Server, file: Path, seconds: float) -> Steady:
    """Ask at a fixed rate.

    Raises:
        RuntimeError: the answers were refusals or failures.
    """
    command = [sys.executable, "-m", "bench.paced", LOCAL, str(server.port), str(RATE), f"{seconds:g}", str(file)]
    before = scheduled(server.pid)
    said = _run(command, 60 + 5 * seconds)
    used = scheduled(server.pid).since(before)
    figures: Mapping[str, float] = json.loads(said)
    paced = Paced(**figures)  # type: ignore[arg-type]  # made from one by the other process
    if paced.failed:
        raise RuntimeError(f"{server.title} refused or failed {paced.failed} of {paced.asked} questions")
    return Steady(paced, used.ran / paced.asked * 1e6, used.waited / seconds)
