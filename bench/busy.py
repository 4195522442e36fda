"""The DNS server's latency at a fixed rate: at rest, while the store changes, and inside `up` while it renders.

Each beside Knot DNS, whose zone stands still, on the same machine at the same time: what the disturbance takes from
the machine shows on both. That a disturbance was there is proved: by the serial that moved, by configurations applied.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench import changes, knot, question
from bench.budgets import Seen
from bench.estate import DOMAIN, Estate
from bench.figures import spread, table
from bench.load import RATE, Pairs, Steady, alternate, steady
from bench.machine import shared_memory_mb
from bench.parts import Folder, dns_server, etcd, fill, folder, wait_filled
from bench.server import Server, serial
from bench.suite_up import Up, running
from lab.process import Process
from lab.waiting import wait_until

PARTS = ("latency", "changes", "unrelated", "up")
OURS = "Pilotfish"
SECONDS, ROUNDS = 2.0, 3
WARM_S = 1.0  # asked before each run
SEEN_SHARE = 0.8  # of the changes that were due must have been seen by the server
HEADS = (
    "",
    "server",
    "p50",
    "p99",
    "p99.9",
    "longest",
    "lost",
    "CPU per question, µs",
    "without a core",
    "memory",
    "late, p99",
)
KNOWN = Estate(services=2000, each=10, proxied=False)
ASKED, OTHERS = KNOWN._replace(services=1000), KNOWN._replace(services=1000, first=1000)
RENDERED = Estate(services=1000, each=10, proxied=True, first=1000)
FILL_AFTER_S = 0.8  # by then the load has begun
WAVE_S = 1.0

Questions = Callable[[Estate, random.Random], Iterator[str]]
Run = Callable[[Server, int], Steady]


class Row(NamedTuple):
    """What was measured with one disturbance."""

    key: str
    title: str
    pairs: Pairs[Steady]
    memory: tuple[float, float]


class Disturbance(NamedTuple):
    """Changes in the store.

    Attributes:
        title: as tables name it.
        services: which are changed.
        every_s: seconds between two changes.
    """

    title: str
    services: Estate
    every_s: float


DISTURBANCES = {
    "changes": Disturbance("100 changes a second", ASKED, 0.01),
    "unrelated": Disturbance("500 changes a second of other names", OTHERS, 0.002),
}
AT_REST: dict[str, Questions] = {
    "hits": question.hits,
    "names that do not exist": question.misses,
}


def run(wanted: Sequence[str], rounds: int = ROUNDS) -> list[Seen]:
    """Measure what is wanted, print a table, and return what budgets are about."""
    rounds = min(rounds, ROUNDS)
    rows: list[Row] = []
    if set(wanted) - {"up"}:
        rows += _beside_store(wanted, rounds)
    if "up" in wanted:
        rows += _in_up(rounds)
    if rows:
        print(table(
            f"DNS over UDP on loopback, {RATE:,} questions a second, from the moment each was due; milliseconds; "
            f"median (lowest to highest) of {rounds} runs of {SECONDS:g} s; memory in 10^6 octets",
            HEADS, (line for row in rows for line in _lines(row)),
        ), flush=True)  # fmt: skip
    return [one for row in rows for one in _seen(row)]


def _beside_store(wanted: Sequence[str], rounds: int) -> Iterator[Row]:
    with folder("lab", "bench") as place:
        url = etcd(place, KNOWN)
        part, port = dns_server(place, url)
        part.wait_ready()
        ours = Server(OURS, part.process.pid, port)
        servers = ours, knot.start(place, DOMAIN, knot.zone(ASKED), name="knot")
        if "latency" in wanted:
            for title, questions in AT_REST.items():
                yield _measured(servers, "latency", f"at rest: {title}", rounds, _asking(place, questions))
        for key, disturbance in DISTURBANCES.items():
            if key in wanted:
                with _changing(place, url, ours, disturbance):
                    yield _measured(servers, key, disturbance.title, rounds, _asking(place, question.hits))


@contextlib.contextmanager
def _changing(place: Folder, url: str, ours: Server, what: Disturbance) -> Iterator[None]:
    """Change the store meanwhile.

    Raises:
        RuntimeError: most of the changes were not made, or not seen by the server.
    """
    before, begun = serial(ours, DOMAIN), time.monotonic()
    writer = changes.start(place, url, what.services, every_s=what.every_s)
    yield
    seen, due = serial(ours, DOMAIN) - before, (time.monotonic() - begun) / what.every_s
    made, _, behind_s = changes.end(writer)
    print(f"{what.title}: {made:,} of {due:,.0f} made, {seen:,} seen by the server; {behind_s * 1000:.0f} ms behind")
    if seen < due * SEEN_SHARE:
        raise RuntimeError(f"{what.title}: {due:,.0f} were due, {made:,} were made, {seen:,} were seen")


def _in_up(rounds: int) -> Iterator[Row]:
    with folder("lab", "bench") as place:
        url = etcd(place, ASKED)
        peer = knot.start(place, DOMAIN, knot.zone(ASKED), name="knot")
        with running(place, url) as up:
            servers = up.dns, peer
            ask = _asking(place, question.hits)
            title = f"in `up`: {RENDERED.endpoints:,} endpoints come, and are rendered"
            yield _measured(servers, "up", title, rounds, _coming(place, url, up, ask))
            wait_filled(fill(place, url, RENDERED))
            with _waves(place, url, up):
                title = f"in `up`: one endpoint of each of {RENDERED.services:,} services changes at once"
                yield _measured(servers, "waves", title, rounds, ask)


def _coming(place: Folder, url: str, up: Up, ask: Run) -> Run:
    """Ask while 10,000 endpoints come, and let them go again."""

    def once(server: Server, number: int) -> Steady:
        started: list[Process] = []
        timer = threading.Timer(FILL_AFTER_S, lambda: started.append(fill(place, url, RENDERED)))
        before = up.configurations()
        timer.start()
        found = ask(server, number)
        timer.join()
        wait_filled(started[0])
        _settle(up, RENDERED.services, before)
        before = up.configurations()
        wait_filled(fill(place, url, RENDERED, "remove"))
        _settle(up, 0, before)
        return found

    return once


def _settle(up: Up, hosts: int, before: float) -> None:
    what = f"a configuration for {hosts} hosts"
    wait_until(lambda: up.hosts() == hosts and up.configurations() > before, within_s=30, what=what, every_s=0.2)


@contextlib.contextmanager
def _waves(place: Folder, url: str, up: Up) -> Iterator[None]:
    """Change all services at once, again and again.

    Raises:
        RuntimeError: nothing was rendered meanwhile.
    """
    before = up.configurations()
    writer = changes.start(place, url, RENDERED, every_s=WAVE_S, at_once=RENDERED.services)
    yield
    made, _, behind_s = changes.end(writer)
    applied = up.configurations() - before
    print(
        f"in `up`: {made:,} changes, {applied:.0f} configurations; a transaction took {behind_s * 1000:.0f} ms at most"
    )
    if applied < 1:
        raise RuntimeError("nothing was rendered meanwhile")


def _asking(place: Folder, questions: Questions) -> Run:
    file = place.path / "questions"

    def once(server: Server, number: int) -> Steady:
        file.write_text("\n".join(questions(ASKED, random.Random(number))) + "\n", encoding="ascii")
        # What is asked for the first time is another figure; while the other server was asked, names changed.
        warm = steady(server, file, WARM_S)
        return steady(server, file, SECONDS) if number >= 0 else warm

    return once


def _measured(servers: tuple[Server, Server], key: str, title: str, rounds: int, once: Run) -> Row:
    for server in servers:
        once(server, -1)
    pairs = alternate(*servers, rounds, once)
    return Row(key, title, pairs, (shared_memory_mb(servers[0].pid), shared_memory_mb(servers[1].pid)))


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    for (name, runs), memory in zip(row.pairs.each(OURS, "Knot DNS"), row.memory, strict=True):
        columns = zip(*((one.paced.p50, one.paced.p99, one.paced.p999, one.paced.most) for one in runs), strict=True)
        times = [spread(figure / 1000 for figure in column).shown(2) for column in columns]
        lost = sum(one.paced.lost for one in runs)
        late = spread(one.paced.late / 1000 for one in runs).shown(2)
        cpu, waited = (spread(one.cpu_us for one in runs), spread(one.waited for one in runs))
        yield (row.title, name, *times, str(lost), cpu.shown(1), f"{waited.median:.0%}", f"{memory:.0f}", late)


def _seen(row: Row) -> Iterator[Seen]:
    yield Seen(f"{row.key}: p99", spread(one.paced.p99 / 1000 for one in row.pairs.ours).median)
    yield Seen(f"{row.key}: lost", sum(one.paced.lost for one in row.pairs.ours))
