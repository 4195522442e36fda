"""Several DNS servers at the same addresses: one watch, many readers, and nothing is lost with one of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message
import pytest

from tests.dnsserver.test_faults import FOLDER, RECORD, Program
from tests.parts.etcd_server import EtcdCluster

WORKERS = 3
WITHIN_S = 30.0


def children(pid: int) -> list[int]:
    """The DNS servers that a process started and that still run."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if b"dns-child" in Path(f"/proc/{one}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def queries(metrics: str) -> float:
    """How many messages were answered, all workers together."""
    lines = [line for line in metrics.splitlines() if line.startswith("pilotfish_dns_queries_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def answered(port: int, count: int) -> int:
    """How many of so many questions, each from a port of its own, get an answer."""

    async def ask() -> bool:
        try:
            await dns.asyncquery.udp(dns.message.make_query("web.svc.internal", "A"), "127.0.0.1", port=port, timeout=5)
        except dns.exception.Timeout:
            return False
        return True

    return sum(await asyncio.gather(*(ask() for _ in range(count))))


@pytest.fixture
async def program(tmp_path):
    """Three workers on an etcd that has one record."""
    with EtcdCluster(tmp_path) as etcd:
        member = etcd.members[0]
        member.ctl("put", FOLDER + "web", RECORD.format("10.0.0.1"))
        async with Program(tmp_path, member.url, "--workers", str(WORKERS)) as running:
            await running.until("web", ["10.0.0.1"])
            yield running, member


async def until(condition, what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def all_ready(server: Program) -> None:
    async def ready() -> bool:
        return '"ready":true' in (await server.said("/ready")).replace(" ", "")

    await until(ready, "all workers are ready")


async def test_all_answer_and_are_shown_as_one(program):
    """Every worker has the data, gets its share of the questions, and is in the sum; one change reaches all."""
    server, member = program
    await all_ready(server)
    before = queries(await server.said("/metrics"))
    assert await answered(server.port, 60) == 60
    after = await server.said("/metrics")
    assert queries(after) == before + 60
    state = json.loads(await server.said("/api/state"))
    assert [state[name]["names"] is not None for name in ("dns0", "dns1", "dns2") if name in state] != []
    assert sum("finished_answers" in part for part in state.values()) == WORKERS
    member.ctl("put", FOLDER + "web", RECORD.format("10.0.0.2"))
    for _ in range(12):
        await server.until("web", ["10.0.0.2"])


async def test_one_that_is_killed_is_started_again(program):
    """The others go on meanwhile; nothing has to be told to them."""
    server, _ = program
    before = children(server.process.pid)
    assert len(before) == WORKERS
    os.kill(before[0], signal.SIGKILL)

    async def whole() -> bool:
        now = children(server.process.pid)
        return len(now) == WORKERS and before[0] not in now

    await until(whole, "the killed one is back")

    async def all_answer() -> bool:
        return await answered(server.port, 30) == 30

    await until(all_answer, "all questions are answered again")


async def test_they_end_together(program):
    """SIGTERM to the parent ends all, in order and with code 0."""
    server, _ = program
    pids = children(server.process.pid)
    server.process.terminate()
    assert await asyncio.wait_for(server.process.wait(), WITHIN_S) == 0
    assert not [pid for pid in pids if alive(pid)]


async def test_a_signal_reaches_all(program):
    """SIGHUP makes each compare what it has with the store."""
    server, _ = program
    await all_ready(server)
    server.process.send_signal(signal.SIGHUP)

    async def compared() -> bool:
        return server.log.read_text().count("compared with the store") == WORKERS + 1  # and what they read from

    await until(compared, "all compared")


async def test_a_taken_address_stops_the_start(tmp_path):
    """Workers share their addresses with each other, and with nobody else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server = Program(tmp_path, "http://127.0.0.1:1", "--workers", "2")
        taken.bind(("127.0.0.1", server.port))
        async with server:
            assert await asyncio.wait_for(server.process.wait(), WITHIN_S) == 1
    assert f"cannot listen at 127.0.0.1:{server.port}" in server.log.read_text()
