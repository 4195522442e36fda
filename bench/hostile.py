"""A normal client beside fifty slow or hostile TCP clients and a UDP flood of random names: what it loses.

The normal client asks over UDP and over TCP, at a steady rate, from processes of its own. The flood comes from another
network to the same address and port, so that it meets the same buffer. Everything is on loopback, and bounded.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.estate import DOMAIN, HOSTS, Estate, host_ip, service_name
from bench.figures import table
from bench.hostile_tcp import CLIENTS
from bench.machine import forget_most, memory_mb
from bench.parts import LOCAL, Folder, Part, dns_server, etcd, folder
from bench.steady_tcp import Steady
from bench.watched import Sum, Watched, added

QUERIES, SECONDS = 100_000, 10.0
UDP_RATE, TCP_RATE = 200, 20
FLOOD_RATE = 20_000
FLOODER = "127.9.9.9"
KNOWN = Estate(services=200, each=2, proxied=False)
NAME = f"{service_name(7)}.{DOMAIN}"
LIMITS = {"no limit": (), "--rate-limit 500": ("--rate-limit", "500")}
END_WITHIN_S = 60.0
_MOST = 5_000_000


class Size(NamedTuple):
    """How much of it: queries of the hostile clients, and seconds."""

    queries: int = QUERIES
    seconds: float = SECONDS


class Trouble(NamedTuple):
    """What a normal client is beside.

    Attributes:
        mob: hostile TCP clients.
        flood: datagrams a second; 0: as many as one program can send; None: none.
    """

    mob: bool
    flood: int | None


TROUBLES = {
    "nobody else": Trouble(mob=False, flood=None),
    f"{CLIENTS} hostile TCP clients": Trouble(mob=True, flood=None),
    f"flood of {FLOOD_RATE:,} names a second": Trouble(mob=False, flood=FLOOD_RATE),
    "flood at full speed": Trouble(mob=False, flood=0),
    "both, at full speed": Trouble(mob=True, flood=0),
}


class Met(NamedTuple):
    """What came of it.

    Attributes:
        udp: of the normal client.
        tcp: of the normal client.
        mob: what the hostile ones did.
        flood: datagrams sent, and seconds.
        overflowed: datagrams that found the server's buffer full.
        memory: of the server before, and the most meanwhile, 10^6 octets.
    """

    udp: Sum
    tcp: Steady
    mob: dict[str, float]
    flood: dict[str, float]
    overflowed: float
    memory: tuple[float, float]


def run(size: Size = Size()) -> None:  # noqa: B008  a constant
    """Measure, and print a table."""
    rows: list[tuple[str, ...]] = []
    with folder("lab") as place:
        url = etcd(place, KNOWN)
        for limit, options in LIMITS.items():
            part, port = dns_server(place, url, *options)
            part.wait_ready()
            for title, trouble in TROUBLES.items():
                met = _measured(place, (part, port), trouble, size)
                rows.append((limit, title, *_cells(met)))
            part.process.terminate()
    heads = ("", "beside", "UDP: asked", "lost", "p50", "p99", "TCP: asked", "lost", "p50", "p99",
             "hostile queries", "flood a second", "buffer full", "memory, MB")  # fmt: skip
    print(table("A normal client beside others; milliseconds", heads, rows))


def _truth() -> Iterator[str]:
    for service in KNOWN.numbers:
        ips = {host_ip((service * KNOWN.each + one) % HOSTS) for one in range(KNOWN.each)}
        yield f"{service_name(service)}.{DOMAIN} A NOERROR {','.join(sorted(ips))}"


def _measured(place: Folder, server: tuple[Part, int], trouble: Trouble, size: Size) -> Met:
    part, port = server
    seconds = size.seconds
    forget_most(part.process.pid)
    before, overflowed = memory_mb(part.process.pid)[0], _overflowed(part)
    with contextlib.ExitStack() as stack:
        mob = _aside(stack, "hostile_tcp", port, size.queries, seconds, NAME) if trouble.mob else None
        flood = _flood(stack, port, trouble.flood, seconds) if trouble.flood is not None else None
        watched = stack.enter_context(Watched(place.path, (LOCAL, port), _truth(), UDP_RATE, seconds=seconds))
        steady = _aside(stack, "steady_tcp", port, TCP_RATE, seconds, NAME)
        tcp = Steady(**steady())  # type: ignore[arg-type]  # made from one by the other process
        udp = added(watched.finished())
        did = mob() if mob else {}
        sent = flood() if flood else {}
    most = memory_mb(part.process.pid)[1]
    return Met(udp, tcp, did, sent, _overflowed(part) - overflowed, (before, most))


def _overflowed(part: Part) -> float:
    lines = part.get("/metrics").splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("pilotfish_dns_overflowed_total"))


Ended = Callable[[], dict[str, float]]


def _flood(stack: contextlib.ExitStack, port: int, rate: int, seconds: float) -> Ended:
    more = ("--source", FLOODER, "--seconds", f"{seconds:g}")
    return _aside(stack, "flood", port, _MOST, rate, "names", *more)


def _aside(stack: contextlib.ExitStack, module: str, port: int, *arguments: object) -> Ended:
    """Start a program of this bench; what is returned waits for its end and gives what it printed."""
    command = [sys.executable, "-m", f"bench.{module}", LOCAL, str(port), *map(str, arguments)]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)

    def ended() -> dict[str, float]:
        said, _ = process.communicate(timeout=END_WITHIN_S)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}")
        return dict(json.loads(said))

    return ended


def _cells(met: Met) -> Sequence[str]:
    udp, tcp, flood = met.udp, met.tcp, met.flood
    return (
        f"{udp.asked:,}", f"{udp.asked - udp.fresh:,}", f"{udp.p50:.1f}", f"{udp.p99:.1f}",
        f"{tcp.asked:,}", f"{tcp.lost:,}", f"{tcp.p50:.1f}", f"{tcp.p99:.1f}",
        f"{met.mob.get('queries', 0):,.0f}", f"{flood['datagrams'] / flood['seconds']:,.0f}" if flood else "0",
        f"{met.overflowed:,.0f}", f"{met.memory[0]:.0f} to {met.memory[1]:.0f}",
    )  # fmt: skip
