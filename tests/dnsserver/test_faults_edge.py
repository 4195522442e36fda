"""Rows D4 and D6: a whole DNS server process without files to open, and one among a thousand slow TCP clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message
import pytest

from pilotfish.catalog.store import Put
from tests.dnsserver.test_faults import FOLDER, RECORD, Program
from tests.parts.lying_etcd import LyingEtcd

WAIT_S = 30.0
NOFILE = 64
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
NAME = b"\x03web\x03svc\x08internal\x00\x00\x01\x00\x01"
MEMORY = 32 * 1024  # octets for a connection


class Slow:
    """The process of the slow clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.counts = process, {}
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        if self.process.stdout is None:
            raise TypeError("a pipe is expected")
        async for line in self.process.stdout:
            self.counts = json.loads(line)

    def count(self, what: str) -> int:
        return self.counts.get(what, 0)


@asynccontextmanager
async def slow_clients(port: int, count: int, *kinds: str) -> AsyncIterator[Slow]:
    """Hold connections from a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.dnsserver.slow_clients", "127.0.0.1", str(port), str(count), *kinds,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    slow = Slow(process)
    try:
        yield slow
    finally:
        process.stdin.close()
        async with asyncio.timeout(WAIT_S):
            await process.wait()
            await slow.reading


@asynccontextmanager
async def running(folder: Path, *flags: str) -> AsyncIterator[Program]:
    """A DNS server that knows one name."""
    async with LyingEtcd() as etcd:
        await etcd.truth.commit([], [Put(FOLDER + "web", RECORD.format("10.0.0.1").encode())])
        async with Program(folder, etcd.url, *flags) as server:
            await server.until("web", ["10.0.0.1"])
            yield server


async def until(true, what: str) -> None:
    """Wait for a condition, given as a coroutine function."""
    deadline = time.monotonic() + WAIT_S
    while not await true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def ask_udp(port: int, count: int) -> tuple[int, list[float]]:
    """Questions one after the other: how many were not answered rightly, and how long each answer took."""
    lost, took = 0, []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(2.0)
        for number in range(count):
            started = time.perf_counter()
            client.send(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + NAME)
            try:
                reply = client.recv(4096)
            except TimeoutError:
                lost += 1
                continue
            took.append(time.perf_counter() - started)
            lost += reply[:2] != number.to_bytes(2) or not reply.endswith(bytes((10, 0, 0, 1)))
            time.sleep(0.0005)
    return lost, sorted(took)


def p99_ms(took: list[float]) -> float:
    return took[len(took) * 99 // 100] * 1000


def p50_ms(took: list[float]) -> float:
    return took[len(took) // 2] * 1000


async def ask_tcp(port: int) -> bool:
    """One question on a connection of its own, from an address of its own."""
    query = dns.message.make_query("web.svc.internal", "A")
    try:
        reply = await dns.asyncquery.tcp(query, "127.0.0.1", port=port, timeout=5, source="127.0.0.99")
    except (OSError, EOFError, dns.exception.DNSException):
        return False
    return reply.answer[0][0].to_text() == "10.0.0.1"


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def connections(server: Program) -> float:
    found = re.search(r"^pilotfish_dns_tcp_connections (\S+)", await server.said("/metrics"), re.M)
    return float(found[1]) if found else 0.0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux sets limits of other processes")
async def test_fault_D4(tmp_path):
    """No files left: UDP loses nothing, accepting pauses without spinning, TCP is served in turn, nothing leaks."""
    async with running(tmp_path) as server:
        pid = server.process.pid
        before = files(pid)
        lost, took = await asyncio.to_thread(ask_udp, server.port, 300)
        assert lost == 0
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (NOFILE, NOFILE))
        async with slow_clients(server.port, 150, "silent", "halfway") as slow:
            injected = time.monotonic()

            async def bitten() -> bool:
                return "TCP clients must wait" in server.log.read_text()

            await until(bitten, "there are no files left")
            bitten_s = time.monotonic() - injected
            spent, since = cpu_s(pid), time.monotonic()
            await asyncio.sleep(2.0)
            busy = (cpu_s(pid) - spent) / (time.monotonic() - since)
            lost, during = await asyncio.to_thread(ask_udp, server.port, 1000)
            await until(lambda: ask_tcp(server.port), "a TCP client is served among the others")
            said = server.log.read_text().count("TCP clients must wait")
            thrown_out = slow.count("thrown out")
        healed = time.monotonic()
        await until(lambda: ask_tcp(server.port), "TCP is served")
        recovered_s = time.monotonic() - healed

        async def as_before() -> bool:
            return files(pid) <= before + 2

        await until(as_before, "the files are closed")
    assert (lost, thrown_out > 0) == (0, True)
    assert busy < 0.10
    assert said <= 2 + (time.monotonic() - injected) / 10
    print(
        f"\nD4: injected 0.00, bit {bitten_s:.2f} s; UDP lost 0 of 1000, p99 {p99_ms(took):.2f} -> {p99_ms(during):.2f}"
        f" ms; CPU {busy:.1%}; thrown out {thrown_out}; TCP after the end {recovered_s:.2f} s"
    )


async def test_fault_D6(tmp_path):
    """A thousand slow clients are held, then thrown out: UDP loses nothing, a good TCP client is always served."""
    async with running(tmp_path, "--tcp-idle", "40s") as server:  # a tenth of it when all slots are taken
        pid = server.process.pid
        lost, took = await asyncio.to_thread(ask_udp, server.port, 2000)
        assert lost == 0
        memory = resident(pid)
        async with slow_clients(server.port, 1000, "silent", "trickling", "halfway", "deaf") as slow:
            injected = time.monotonic()

            async def taken() -> bool:
                spent = cpu_s(pid)
                await asyncio.sleep(0.2)
                return cpu_s(pid) - spent < 0.1 and await connections(server) >= 950

            await until(taken, "slow clients hold the slots")
            bitten_s = time.monotonic() - injected
            lost, during = await asyncio.to_thread(ask_udp, server.port, 2000)
            served, held = 0, []
            for _ in range(20):
                served += await ask_tcp(server.port)
                held.append(await connections(server))
            each = (resident(pid) - memory) / max(held)

            async def thrown_out() -> bool:
                return slow.count("thrown out") >= 500

            await until(thrown_out, "they are thrown out")
            lost_later, later = await asyncio.to_thread(ask_udp, server.port, 1000)
            served += sum([await ask_tcp(server.port) for _ in range(20)])
        healed = time.monotonic()

        async def gone() -> bool:
            return await connections(server) == 0

        await until(gone, "all of them are gone")
        recovered_s = time.monotonic() - healed
    assert (lost, lost_later, served) == (0, 0, 40)
    assert max(held) <= 1000
    assert each <= MEMORY
    print(
        f"\nD6: injected 0.00, bit {bitten_s:.2f} s: up to {max(held):.0f} connections, {each / 1024:.1f} KiB each; UDP"
        f" lost 0 of 3000, p50 {p50_ms(took):.2f} -> {p50_ms(during):.2f} ms, p99 {p99_ms(took):.2f} ->"
        f" {p99_ms(during):.2f} ms, while they are thrown out {p99_ms(later):.2f} ms; TCP served 40 of 40; none left"
        f" after {recovered_s:.2f} s"
    )
