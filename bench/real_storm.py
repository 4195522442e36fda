"""A minute of containers that start and stop on a real engine, as fast as it can.

The engine is the limit here: what it can start in a minute on the machine's cores is far from 1,000, which is why
`storm` replays that. Counted is what the registrator spent, and how soon after the last change the store was right.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from docker import APIClient

from bench import suite
from bench.figures import table
from bench.machine import cpu_s, family, memory_mb
from lab.host import Host
from lab.lab import Lab
from lab.process import Process
from lab.waiting import wait_until
from pilotfish.catalog.keys import containers_of

IMAGE = "pilotfish-lab/app:1"
PORT = 9200
SECONDS = 60.0
AT_ONCE = 4  # containers that are being started or stopped
WITHIN_S = 60.0
HEADS = ("starts and stops", "seconds", "CPU s", "of a core", "memory MB", "commits", "inspections", "right after ms")


def run(seconds: float = SECONDS) -> None:
    """Print a table of one row."""
    with Lab(hosts=1, etcd=1) as lab, ThreadPoolExecutor(AT_ONCE) as pool:
        [host] = lab.hosts
        registrator = suite.start(lab, host, "registrator")
        try:
            suite.wait_ready(host, "registrator")
            before, began = _spent(host, registrator), time.monotonic()
            turns = sum(pool.map(lambda number: _turns(host, number, began + seconds), range(AT_ONCE)))
            ended = time.monotonic()
            wait_until(lambda: _recorded(lab, host) == _running(host), within_s=WITHIN_S, what="the store to be right")
            right_s, lasted_s = time.monotonic() - ended, time.monotonic() - began
            spent = [after - first for after, first in zip(_spent(host, registrator), before, strict=True)]
            memory = sum(memory_mb(pid)[0] for pid in family(registrator.pid))
        finally:
            registrator.terminate()
    cpu, *counted = spent
    row = (
        f"{turns}", f"{ended - began:.0f}", f"{cpu:.2f}", f"{cpu / lasted_s:.0%}", f"{memory:.0f}",
        *(f"{one:.0f}" for one in counted), f"{right_s * 1000:.0f}",
    )  # fmt: skip
    print(
        table("A registrator on a real engine, as many containers as it can start and stop", HEADS, [row]), flush=True
    )


def _turns(host: Host, worker: int, until: float) -> int:
    """Start a container and stop it, again and again; how often."""
    engine = APIClient(base_url=f"unix://{host.docker_socket}", version="auto", timeout=60)
    config = engine.create_host_config(publish_all_ports=True)
    settings = {"ON_TERM": "exit", "PORTS": str(PORT), "SERVICE_NAME": f"storm{worker}"}
    turns = 0
    while time.monotonic() < until:
        made = engine.create_container(
            IMAGE, name=f"storm-{worker}-{turns}", environment=settings, host_config=config, ports=[PORT]
        )
        engine.start(made["Id"])
        engine.stop(made["Id"], timeout=1)
        engine.remove_container(made["Id"], force=True)
        turns += 1
    engine.close()
    return turns


def _spent(host: Host, registrator: Process) -> list[float]:
    """So far: processor time, commits, inspections."""
    address = f"http://127.0.0.1:{suite.STATUS['registrator']}/metrics"
    text = host.run(["curl", "-fsS", address]).stdout
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    counted = [float(values[f"pilotfish_registrator_{name}_total"]) for name in ("commits", "inspections")]
    return [sum(map(cpu_s, family(registrator.pid))), *counted]


def _recorded(lab: Lab, host: Host) -> set[str]:
    prefix = containers_of(host.name)
    return {key.removeprefix(prefix) for key in lab.etcd.get(prefix)}


def _running(host: Host) -> set[str]:
    return {one["Id"] for one in cast("list[dict[str, str]]", host.engine.get("/containers/json"))}
