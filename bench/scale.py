"""A store of 100,000 endpoints: how long the DNS server and the config generator take to be ready, and their memory.

Real processes on a real etcd on loopback. The config generator runs without nginx: what is measured is ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.estate import PROXY_IP, Estate
from bench.figures import spread, table
from bench.machine import cpu_s, memory_mb
from bench.parts import Folder, Part, dns_server, etcd, folder

ESTATES = (Estate(services=100, each=10, proxied=True), Estate(services=10_000, each=10, proxied=True))
STARTS = 3


def run(starts: int = STARTS) -> None:
    """Measure, and print a table."""
    print(table(
        f"Cold start from etcd until ready; median (lowest to highest) of {starts} starts; memory in 10^6 octets",
        ("part", "endpoints", "ready after, s", "CPU, s", "memory", "most memory"),
        (row for estate in ESTATES for row in _rows(estate, starts)),
    ))  # fmt: skip


def _rows(estate: Estate, starts: int) -> Iterator[tuple[str, ...]]:
    with folder("lab") as place:
        url = etcd(place, estate)
        for name in ("dns", "confgen"):
            found = [_started(place, name, url, number) for number in range(starts)]
            times, cpu, now, most = (spread(column) for column in zip(*found, strict=True))
            yield (name, f"{estate.endpoints:,}", times.shown(1), cpu.shown(1), now.shown(), most.shown())


def _started(place: Folder, name: str, url: str, number: int) -> tuple[float, float, float, float]:
    begun = time.perf_counter()
    if name == "dns":
        part, _ = dns_server(place, url)
    else:
        nginx = place.path / f"nginx-{number}"
        part = Part(
            place,
            "confgen",
            "--etcd",
            url,
            "--nginx",
            "off",
            "--nginx-dir",
            str(nginx),
            "--node-name",
            "here",
            "--ip",
            PROXY_IP,
        )
    part.wait_ready()
    took = time.perf_counter() - begun
    pid = part.process.pid
    found = took, cpu_s(pid), *memory_mb(pid)
    part.process.terminate()
    return found
