"""DNS answers per second and CPU per answer, ours beside Knot DNS with one UDP worker, on loopback.

Both serve the same names, and give the same answers (compared before anything is measured). Runs alternate, and the one
that goes first alternates too, so that what else happens on the machine meets both.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.query

from bench import knot
from bench.estate import CONTAINER_PORT, DOMAIN, Estate, service_name
from bench.figures import spread, table
from bench.machine import cpu_s
from bench.parts import LOCAL, Folder, dns_server, etcd, folder

ESTATE = Estate(services=1000, each=2, proxied=False)
IN_FLIGHT = 100
RANDOM_NAMES = 600_000  # more than are asked in one run, so that none is asked twice
ROUNDS, SECONDS = 5, 2.0

Questions = Callable[[random.Random], Iterator[str]]


class Run(NamedTuple):
    """One run of dnsperf.

    Attributes:
        per_second: answers.
        cpu_us: CPU of the server for each, microseconds.
        lost: queries without an answer.
    """

    per_second: float
    cpu_us: float
    lost: int


class Server(NamedTuple):
    """One that is measured."""

    title: str
    pid: int
    port: int


def hits(chance: random.Random) -> Iterator[str]:
    """Addresses of services, each asked again and again."""
    names = [service_name(number) for number in range(ESTATE.services)]
    chance.shuffle(names)
    return (f"{name}.{DOMAIN} A" for name in names)


def nothing(chance: random.Random) -> Iterator[str]:
    """Names that do not exist, none of them twice."""
    return (f"x{chance.getrandbits(64):016x}.{DOMAIN} A" for _ in range(RANDOM_NAMES))


def mix(chance: random.Random) -> Iterator[str]:
    """Of ten questions: six for an A, one for an AAAA that is not there, two for an SRV, one for a name that is not."""
    for _ in range(RANDOM_NAMES):
        name = f"{service_name(chance.randrange(ESTATE.services))}.{DOMAIN}"
        kinds = (f"{name} A",) * 6 + (f"{name} AAAA", f"{name} SRV", f"_{CONTAINER_PORT}._tcp.{name} SRV")
        yield chance.choice((*kinds, f"x{chance.getrandbits(64):016x}.{DOMAIN} A"))


WORKLOADS: dict[str, Questions] = {"hits": hits, "names that do not exist": nothing, "mix": mix}


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    """Measure, and print a table."""
    with folder("lab", "bench") as place:
        part, port = dns_server(place, etcd(place, ESTATE))
        part.wait_ready()
        peer, peer_port = knot.start(place, ESTATE)
        servers = [Server("Pilotfish", part.process.pid, port), Server("Knot DNS", peer.pid, peer_port)]
        _compare(*servers)
        rows: list[tuple[str, ...]] = []
        for title, questions in WORKLOADS.items():
            file = place.path / "questions"
            file.write_text("\n".join(questions(random.Random(1))) + "\n", encoding="ascii")
            rows += _rows(title, _measured(place, servers, file, rounds, seconds))
        print(table(
            f"DNS over UDP on loopback, {ESTATE.services:,} names of {ESTATE.each} addresses, {IN_FLIGHT} in flight; "
            f"median (lowest to highest) of {rounds} runs of {seconds:g} s",
            ("", "server", "answers per second", "CPU per answer, µs", "lost", "answers: ratio", "CPU: ratio"), rows,
        ))  # fmt: skip


def _compare(ours: Server, other: Server) -> None:
    """Refuse to compare servers that do not say the same.

    Raises:
        RuntimeError: what each said.
    """
    name = f"{service_name(7)}.{DOMAIN}"
    asked = [
        (name, "A"),
        (name, "SRV"),
        (f"_{CONTAINER_PORT}._tcp.{name}", "SRV"),
        (name, "AAAA"),
        (f"x.{DOMAIN}", "A"),
    ]
    for question in asked:
        one, two = (_sections(server, *question) for server in (ours, other))
        if one != two:
            raise RuntimeError(f"{question}: {ours.title} says {one}, {other.title} says {two}")


def _sections(server: Server, name: str, kind: str) -> tuple[int, frozenset[str], frozenset[str]]:
    answer = dns.query.udp(dns.message.make_query(name, kind, use_edns=False), LOCAL, port=server.port, timeout=2)
    sections = (answer.answer, answer.additional)
    answers, additional = (
        frozenset(f"{one.name} {one.ttl} {record}".lower() for one in section for record in one) for section in sections
    )
    return int(answer.rcode()), answers, additional


def _measured(place: Folder, servers: list[Server], file: Path, rounds: int, seconds: float) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {server.title: [] for server in servers}
    for server in servers:
        _run(place, server, file, 0.5)  # what is asked for the first time is another figure
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            found[server.title].append(_run(place, server, file, seconds))
    return found


def _run(place: Folder, server: Server, file: Path, seconds: float) -> Run:
    before = cpu_s(server.pid)
    command: list[str | Path] = [place.tools.find("dnsperf"), "-s", LOCAL, "-p", str(server.port), "-d", file]
    command += ["-l", f"{seconds:g}", "-q", str(IN_FLIGHT), "-t", "1"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    completed = _figure(said, "Queries completed")
    used = cpu_s(server.pid) - before
    return Run(_figure(said, "Queries per second"), used / completed * 1e6, int(_figure(said, "Queries lost")))


def _figure(said: str, title: str) -> float:
    found = re.search(rf"{title}:\s+([0-9.]+)", said)
    if found is None:
        raise RuntimeError(f"dnsperf did not say {title!r}:\n{said}")
    return float(found[1])


def _rows(title: str, measured: dict[str, list[Run]]) -> Iterator[tuple[str, ...]]:
    ours, other = measured.values()
    rounds = list(zip(ours, other, strict=True))  # what else happens on the machine meets both of a pair
    rates = spread(one.per_second / two.per_second for one, two in rounds)
    cpus = spread(one.cpu_us / two.cpu_us for one, two in rounds)
    for name, runs in measured.items():
        ratios = (rates.shown(2), cpus.shown(2)) if runs is ours else ("", "")
        answers, cpu = spread(one.per_second for one in runs), spread(one.cpu_us for one in runs)
        yield (title, name, answers.shown(), cpu.shown(2), str(sum(one.lost for one in runs)), *ratios)
