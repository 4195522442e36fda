"""The DNS server beside Knot DNS on loopback: answers per second and CPU per answer, and latency at a fixed rate.

Both serve the same names, and give the same answers (compared before anything is measured). Runs alternate, and the one
that goes first alternates too, so that what else happens on the machine meets both. Forwarded names are measured
beside Unbound in the same way.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bench import budgets, busy, knot, question, unbound
from bench.budgets import Seen
from bench.estate import CONTAINER_PORT, DOMAIN, Estate, service_name
from bench.figures import spread, table
from bench.load import CLIENTS, IN_FLIGHT, Fast, Pairs, alternate, fast
from bench.machine import shared_memory_mb
from bench.parts import LOCAL, Folder, dns_server, etcd, folder
from bench.question import OUTSIDE, outside_name
from bench.server import Server, compare, cookie
from lab.waiting import LabError

ROUNDS, SECONDS = 5, 1.0
OTHER_ROUNDS = 2  # with two workers
WARM_UP_S, FRESH_WARM_UP_S = 30.0, 2.0
PASSES = 6  # of all questions, until each of two workers has answered nearly all of them
PLAIN = Estate(services=1000, each=2, proxied=False)
TEN = PLAIN._replace(each=10)
OURS = "Pilotfish"
FIRST = -1  # number of the questions before the first round

# Knot lets 10 connections wait to be taken; a client that meets a full queue tries again a second later.
OVER_TCP = ("-m", "tcp", "-c", "9")

Questions = Callable[[Estate, random.Random], Iterator[str]]


class Workload(NamedTuple):
    """What is asked, and how.

    Attributes:
        title: as tables name it.
        estate: what is registered.
        questions: what is asked.
        options: of dnsperf.
        fresh: other questions in every round.
        many: so many names that asking each for the first time is a figure of its own.
        cookies: each question carries the whole cookie that the server gave before.
        forwarded: the names are not ours; beside Unbound, with one worker.
    """

    title: str
    estate: Estate
    questions: Questions
    options: tuple[str, ...] = ()
    fresh: bool = False
    many: bool = False
    cookies: bool = False
    forwarded: bool = False


WORKLOADS: dict[str, Workload] = {
    "hits": Workload("hits", PLAIN, question.hits),
    "misses": Workload("names that do not exist", PLAIN, question.misses, fresh=True),
    "mix": Workload("mix", PLAIN, question.mix, fresh=True),
    "cookies": Workload("EDNS with a cookie", PLAIN, question.hits, cookies=True),
    "tcp": Workload("TCP, 9 connections", PLAIN, question.hits, OVER_TCP),
    "forwarded": Workload("forwarded names", PLAIN, question.elsewhere, forwarded=True),
    "srv": Workload("SRV, ten endpoints", TEN, question.ports, ("-e",)),
    "10k": Workload("10,000 names", PLAIN._replace(services=10_000), question.hits, many=True),
    "100k": Workload("100,000 names", Estate(100_000, 1, proxied=False), question.hits, many=True),
}
PARTS = (*WORKLOADS, *busy.PARTS)
HEADS = ("", "workers", "server", "answers per second", "CPU per answer, µs", "without a core", "lost", "memory",
         "answers: ratio", "CPU: ratio")  # fmt: skip


class Plan(NamedTuple):
    """How long is measured."""

    rounds: int
    other_rounds: int
    seconds: float


class Case(NamedTuple):
    """One workload with one number of workers."""

    key: str
    workload: Workload
    workers: int = 1


class Row(NamedTuple):
    """What was measured of one case."""

    case: Case
    peer: str
    pairs: Pairs[Fast]
    memory: tuple[float, float]


def run(
    parts: Collection[str] = (), *, rounds: int = ROUNDS, other_rounds: int = OTHER_ROUNDS, seconds: float = SECONDS
) -> None:
    """Measure some parts or all, and print tables.

    Raises:
        RuntimeError: something could not be measured; everything else was, and is printed.
    """
    wanted = parts or PARTS
    plan = Plan(rounds, other_rounds, seconds)
    _say_about_cores()
    failed: list[str] = []
    rows: list[Row] = []
    workloads = [(key, one) for key, one in WORKLOADS.items() if key in wanted]
    for (estate, forwarded), group in groupby(workloads, key=lambda item: (item[1].estate, item[1].forwarded)):
        cases, measured = dict(group), _beside_unbound if forwarded else _beside_knot
        with _failing(failed, " ".join(cases)), folder("lab", "bench") as place:
            rows.extend(measured(place, etcd(place, estate), cases, plan))
    if rows:
        print(table(
            f"DNS on loopback, {IN_FLIGHT} questions in flight from {CLIENTS} ports; median (lowest to highest) of "
            f"{rounds} runs of {seconds:g} s{f', of {other_rounds} with two workers' if other_rounds else ''}; "
            "memory in 10^6 octets",
            HEADS, (line for row in rows for line in _lines(row)),
        ), flush=True)  # fmt: skip
    seen = list(_seen(rows))
    with _failing(failed, "latency"):
        seen += busy.run([key for key in busy.PARTS if key in wanted], rounds)
    judged = list(budgets.rows(seen))
    if judged:
        print(table("Budgets", budgets.HEADS, judged))
    if failed:
        raise RuntimeError("; ".join(failed))


@contextlib.contextmanager
def _failing(failed: list[str], what: str) -> Iterator[None]:
    """Note a failure, so that what was measured before it is not lost."""
    try:
        yield
    except (RuntimeError, LabError, subprocess.SubprocessError) as error:
        failed.append(f"{what}: {error}")


def _say_about_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < 4:
        print(f"{cores} cores: the load shares them with the server, so two workers cannot answer twice as much here")


def _ours(place: Folder, url: str, *options: str) -> Server:
    part, port = dns_server(place, url, *options)
    part.wait_ready()
    return Server(OURS, part.process.pid, port)


def _beside_knot(place: Folder, url: str, workloads: Mapping[str, Workload], plan: Plan) -> Iterator[Row]:
    estate = next(iter(workloads.values())).estate
    zone = list(knot.zone(estate))
    for workers, rounds in ((1, plan.rounds), (2, plan.other_rounds)):
        if not rounds:
            continue
        ours = _ours(place, url, "--workers", str(workers))
        peers: dict[bool, Server] = {}  # a module costs also those who do not ask it anything
        for key, workload in workloads.items():
            cookies = workload.cookies
            if cookies not in peers:
                name = f"knot-{workers}{'-cookies' if cookies else ''}"
                peers[cookies] = knot.start(place, DOMAIN, zone, name=name, workers=workers, cookies=cookies)
                compare(ours, peers[cookies], _compared())
            case = Case(key, workload, workers)
            yield from _measured(place, (ours, peers[cookies]), case, plan._replace(rounds=rounds))


def _beside_unbound(place: Folder, url: str, workloads: Mapping[str, Workload], plan: Plan) -> Iterator[Row]:
    source = knot.start(place, OUTSIDE, knot.outside(), name="knot-outside")
    ours, peer = _ours(place, url, "--forward", f"{LOCAL}:{source.port}"), unbound.start(place, source.port)
    compare(ours, peer, [(outside_name(number), "A") for number in (1, 999)])
    for key, workload in workloads.items():
        yield from _measured(place, (ours, peer), Case(key, workload), plan)


def _compared() -> list[tuple[str, str]]:
    name = f"{service_name(7)}.{DOMAIN}"
    port = f"_{CONTAINER_PORT}._tcp.{name}"
    return [(name, "A"), (name, "SRV"), (port, "SRV"), (name, "AAAA"), (f"x.{DOMAIN}", "A")]


def _measured(place: Folder, servers: tuple[Server, Server], case: Case, plan: Plan) -> Iterator[Row]:
    file, workload = place.path / "questions", case.workload
    options = {server.port: _options(server, workload) for server in servers}
    written = FIRST

    def once(server: Server, number: int) -> Fast:
        nonlocal written
        if workload.fresh and number != written:
            _write(file, workload, number)
            written = number
        return fast(place, server, file, plan.seconds, options[server.port])

    def first(server: Server, _: int) -> Fast:
        passes = ("-n", str(PASSES if case.workers > 1 and not workload.fresh else 1))
        return fast(
            place, server, file, plan.seconds if workload.fresh else WARM_UP_S, (*options[server.port], *passes)
        )

    _write(file, workload, FIRST)
    began = alternate(*servers, 1, first)
    if workload.many and case.workers == 1:
        yield _row(
            Case(f"{case.key} first", workload._replace(title=f"{workload.title}, each for the first time")),
            servers,
            began,
        )
    yield _row(case, servers, alternate(*servers, plan.rounds, once))


def _row(case: Case, servers: tuple[Server, Server], pairs: Pairs[Fast]) -> Row:
    memory = shared_memory_mb(servers[0].pid), shared_memory_mb(servers[1].pid)
    return Row(case, servers[1].title, pairs, memory)


def _options(server: Server, workload: Workload) -> Sequence[str]:
    if workload.cookies:
        return (*workload.options, "-E", f"10:{cookie(server, f'{service_name(7)}.{DOMAIN}')}")
    return workload.options


def _write(file: Path, workload: Workload, number: int) -> None:
    lines = workload.questions(workload.estate, random.Random(number))
    file.write_text("\n".join(lines) + "\n", encoding="ascii")


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    for (name, runs), memory in zip(row.pairs.each(OURS, row.peer), row.memory, strict=True):
        answers, cpu = spread(one.per_second for one in runs), spread(one.cpu_us for one in runs)
        ratios = ("", "")
        if runs is row.pairs.ours:
            found = row.pairs.ratio(lambda one: one.per_second), row.pairs.ratio(lambda one: one.cpu_us)
            ratios = found[0].shown(2), found[1].shown(2)
        lost = sum(one.lost for one in runs)
        waited = f"{spread(one.waited for one in runs).median:.0%}"
        shown = (answers.shown(), cpu.shown(2), waited, str(lost), f"{memory:.0f}")
        yield (row.case.workload.title, str(row.case.workers), name, *shown, *ratios)


def _seen(rows: Sequence[Row]) -> Iterator[Seen]:
    one_worker = {row.case.key: row for row in rows if row.case.workers == 1}
    for key, row in one_worker.items():
        yield Seen(f"{key}: answers", row.pairs.ratio(lambda one: one.per_second).median)
        yield Seen(f"{key}: CPU", row.pairs.ratio(lambda one: one.cpu_us).median)
    if {"hits", "misses"} <= one_worker.keys():
        hits, misses = (spread(one.per_second for one in one_worker[key].pairs.ours) for key in ("hits", "misses"))
        yield Seen("misses: of hits", misses.median / hits.median)
