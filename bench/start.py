"""From `docker start` to DNS answers and to pages through every proxy, on three hosts with a cluster of etcd.

Each start is one of a stopped container whose name nobody answers to; in between everything comes to rest. Three hosts
share one machine here, and so do the three nginx that reload at one moment: the same is done once more with the suite
on one of the hosts, and with Traefik there, which has as many services in its configuration. All times are of one
clock: the hosts are network namespaces of one machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from docker import APIClient

from bench import suite, traefik
from bench.estate import DOMAIN, Estate
from bench.figures import percentile, table
from bench.suite import Probe
from lab.host import Host
from lab.lab import Lab
from lab.waiting import wait_until

ESTATE = Estate(services=1000, each=10, proxied=True)
IMAGE = "pilotfish-lab/app:1"
PORT = 9200
STARTS, ONE_HOST_STARTS, TRAEFIK_STARTS = 100, 50, 30
SUITE_REST_S, TRAEFIK_REST_S = 0.6, 2.2  # longer than either waits after a change before it applies one at once


class Started(NamedTuple):
    """One start: UNIX times.

    Attributes:
        asked: the engine was asked.
        returned: it said that it was done.
        listening: the application said that its ports are open (the engine's time of that line).
        seen: probe title -> first answer.
    """

    asked: float
    returned: float
    listening: float
    seen: Mapping[str, float]


class Container:
    """One container that is started and stopped again and again."""

    def __init__(self, host: Host, name: str, *, env: Mapping[str, str], labels: Mapping[str, str]) -> None:
        self._engine = APIClient(base_url=f"unix://{host.docker_socket}", version="auto", timeout=30)
        config = self._engine.create_host_config(publish_all_ports=True)
        settings = {"ON_TERM": "exit", "PORTS": str(PORT), **env}
        made = self._engine.create_container(
            IMAGE, name=name, environment=settings, labels=dict(labels), host_config=config, ports=[PORT]
        )
        self._id = made["Id"]

    def start(self, probes: Sequence[Probe], pool: ThreadPoolExecutor) -> Started:
        """Start it, and wait until every probe sees it."""
        asked = time.time()
        waiting = {probe.title: pool.submit(probe.until, True) for probe in probes}
        self._engine.start(self._id)
        returned = time.time()
        seen = {title: future.result() for title, future in waiting.items()}
        return Started(asked, returned, self._listening(asked), seen)

    def stop(self, probes: Sequence[Probe], pool: ThreadPoolExecutor) -> None:
        """Stop it, and wait until no probe sees it any more."""
        self._engine.stop(self._id, timeout=1)
        for future in [pool.submit(probe.until, False) for probe in probes]:
            future.result()

    def _listening(self, asked: float) -> float:
        def said() -> float:
            lines = self._engine.logs(self._id, timestamps=True, since=int(asked) - 1).decode().splitlines()
            times = [_unix(line.partition(" ")[0]) for line in lines if '"listening"' in line]
            return next((found for found in times if found > asked), 0.0)

        return wait_until(said, within_s=10, what="the application's log")


def _unix(stamp: str) -> float:
    """UNIX time of the engine's RFC 3339 time, which has nanoseconds."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def run(starts: int = STARTS, one_host_starts: int = ONE_HOST_STARTS, traefik_starts: int = TRAEFIK_STARTS) -> None:
    """Measure on three hosts, on one, and Traefik on one; print a table after each."""
    with Lab(hosts=3, etcd=3) as lab:
        suite.fill(lab, ESTATE)
        for hosts, count in ((lab.hosts, starts), (lab.hosts[:1], one_host_starts)):
            with suite.running(lab, hosts):
                found = _suite(lab, hosts, count)
            here = f"{len(hosts)} hosts" if len(hosts) > 1 else "1 host"
            _show(
                f"the suite on {here}",
                [*_rows("every DNS server", found, "DNS"), *_rows("every proxy", found, "proxy")],
            )
        binary = traefik.program()
        if binary is not None:
            with traefik.running(lab.hosts[0], binary, ESTATE) as at:
                found = _traefik(lab, at, traefik_starts)
            _show("Traefik on 1 host", _rows("the proxy", found, "proxy"))


def _show(what: str, rows: Sequence[Sequence[str]]) -> None:
    title = f"docker start, {what}, {ESTATE.services:,} services of {ESTATE.each} endpoints registered; milliseconds"
    print(table(title, ("until it is served by", "starts", "since", "p50", "p99", "most"), rows), flush=True)


def _suite(lab: Lab, hosts: Sequence[Host], starts: int) -> list[Started]:
    containers, probes = [], []
    with lab.switch.inside():  # the probes' sockets and threads are born outside of all hosts
        for host in hosts:
            name = f"started-{len(hosts)}-{host.name}"
            env = {"SERVICE_NAME": name, f"SERVICE_{PORT}_PROXY": "http"}
            containers.append(Container(host, name, env=env, labels={}))
            asked = f"_{PORT}._tcp.{name}.{DOMAIN}"
            served = [suite.http_probe((one.address, 80), f"{name}.{DOMAIN}") for one in hosts]
            probes.append([suite.dns_probe(one, asked) for one in hosts] + served)
        return _measured(containers, probes, starts, SUITE_REST_S)


def _traefik(lab: Lab, at: tuple[str, int], starts: int) -> list[Started]:
    name = "started-traefik"
    with lab.switch.inside():
        container = Container(lab.hosts[0], name, env={}, labels=traefik.labels(name, PORT))
        return _measured([container], [[suite.http_probe(at, name)]], starts, TRAEFIK_REST_S)


def _measured(containers: list[Container], probes: list[list[Probe]], starts: int, rest_s: float) -> list[Started]:
    found = []
    with ThreadPoolExecutor(max(len(one) for one in probes)) as pool:
        for number in range(-len(containers), starts):  # the first of each claims its route, which later ones have
            which = number % len(containers)
            started = containers[which].start(probes[which], pool)
            containers[which].stop(probes[which], pool)
            time.sleep(rest_s)
            if number >= 0:
                found.append(started)
    return found


def _rows(title: str, found: Sequence[Started], kind: str) -> list[tuple[str, ...]]:
    ends = [max(seen for probe, seen in one.seen.items() if kind in probe) for one in found]
    since = {
        "docker start was asked for": [one.asked for one in found],
        "it returned": [one.returned for one in found],
        "the port is ready": [one.listening for one in found],
    }
    rows = []
    for what, begins in since.items():
        took = [(end - begin) * 1000 for begin, end in zip(begins, ends, strict=True)]
        shown = [f"{one:.0f}" for one in (percentile(took, 50), percentile(took, 99), max(took))]
        rows.append((title, str(len(took)), what, *shown))
    return rows
