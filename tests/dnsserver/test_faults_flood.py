"""A whole DNS server process under floods: junk and random names beside good clients (row D5), its memory (row D12)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.watched import Watched, added
from tests.parts import fake_upstream
from tests.parts.aside import ROOT
from tests.parts.dns_program import DOMAIN, LOCAL, Program, until
from tests.parts.etcd_server import EtcdCluster, EtcdMember
from tests.parts.fake_upstream import FakeUpstream, Raw

SOAK = os.environ.get("SOAK") == "1"
pytestmark = pytest.mark.timeout(600 if SOAK else 120)

NAMES = 20
OTHER = "127.0.0.2"  # another address of the server: a socket, and so a queue, of its own
FLOODER = "127.9.9.9"  # in another network than the good clients
FLOOD_S = 20 if SOAK else 1
MOST = 4_000_000 if SOAK else 400_000
GOOD = 0.99
RATE = 200
WAITING = 20_000  # datagrams for a server that stands still
FORWARD_CACHE = 1000
SPELLINGS = 1000  # finished answers of ours: 20 names, in how many ways however they are asked for
GROWTH_MIB = 60
STEADY_MIB = 5
TRUTH = [f"n{number}.{DOMAIN} A NOERROR 10.0.0.{number}" for number in range(NAMES)]
LIMITS = {"without a limit": (), "with a limit": ("--rate-limit", "200")}


@pytest.fixture
def member(tmp_path) -> Iterator[EtcdMember]:
    """An etcd with the names n0 to n19."""
    with EtcdCluster(tmp_path / "etcd", options=("--unsafe-no-fsync",)) as cluster:
        for number in range(NAMES):
            cluster.members[0].ctl("put", f"/skydns/internal/svc/n{number}", f'{{"host": "10.0.0.{number}"}}')
        yield cluster.members[0]


async def _flood(
    at: tuple[str, int], kind: str, count: int = MOST, *, rate: int = 0, seconds: float = FLOOD_S, seed: int = 1
) -> int:
    """Flood an address; returns how many datagrams were sent."""
    command = [sys.executable, "-m", "bench.flood", at[0], str(at[1]), str(count), str(rate), kind]
    command += ["--source", FLOODER, "--seconds", f"{seconds:g}", "--seed", str(seed)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=ROOT)
    said, _ = await process.communicate()
    assert process.returncode == 0, f"the flood ended with {process.returncode}"
    return int(json.loads(said)["datagrams"])


class Count(NamedTuple):
    """What became of datagrams, in the server's own words."""

    answered: float
    dropped: float
    limited: float
    overflowed: float

    @classmethod
    async def of(cls, server: Program) -> Count:
        names = ("queries_total", "dropped_total", "limited_total", "overflowed_total")
        return cls(*[await server.metric(f"pilotfish_dns_{name}") for name in names])

    def since(self, before: Count) -> Count:
        return Count(*(now - then for now, then in zip(self, before, strict=True)))


def _drops(port: int) -> int:
    """Datagrams that the kernel dropped at sockets with this port, in its own words (proc(5), net/udp)."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[-1]) for row in rows if int(row[1].rpartition(":")[2], 16) == port)


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
async def test_fault_D5(tmp_path, member, limit):
    """Floods at one address of the server: good clients at another are answered all the same, and it is counted."""
    server = Program(tmp_path, member.url, *limit)
    server.command += ["--listen", f"{OTHER}:{server.port}"]
    async with server:
        await server.until_ready()
        for kind in ("names", "junk"):
            before = await Count.of(server)
            with Watched(tmp_path, (LOCAL, server.port), TRUTH, RATE, name=kind) as witness:
                await asyncio.to_thread(witness.wait, 1)
                sent = await _flood((OTHER, server.port), kind)
            good, met = added(witness.windows()), (await Count.of(server)).since(before)
            print(f"\nD5 {kind}, {sent / FLOOD_S:,.0f} a second: {met}\n   good clients: {good.text()}", end="")
            assert met.answered + met.dropped + met.limited + met.overflowed >= 0.5 * sent  # it bit
            assert good.answered >= GOOD, good
            assert good.wrong == 0
        assert await server.metric("pilotfish_dns_overflowed_total") == _drops(server.port)


async def test_fault_D5_overflow(tmp_path, member):
    """What the kernel drops while the server stands still is counted, and what it kept is answered."""
    async with Program(tmp_path, member.url) as server:
        await server.until_ready()
        server.send(signal.SIGSTOP)
        sent = await _flood((LOCAL, server.port), "names", WAITING, seconds=20)
        lost = _drops(server.port)
        server.send(signal.SIGCONT)
        assert sent == WAITING
        assert lost > 0  # it bit
        await server.until("n1", ["10.0.0.1"])
        await until(lambda: _seen(server, sent - lost), "what was kept is answered")
        assert await server.metric("pilotfish_dns_overflowed_total") == _drops(server.port) >= lost
    print(f"\nD5: {lost} of {sent} datagrams found the buffer full, all counted; {sent - lost} were answered")


async def _seen(server: Program, count: int) -> bool:
    return await server.metric("pilotfish_dns_queries_total", "NXDOMAIN") >= count


ROUNDS = 6 if SOAK else 2
ROUND = {"names": 50_000, "spelled": 50_000, "elsewhere": 8_000} if SOAK else {
    "names": 5_000, "spelled": 8_000, "elsewhere": 2_000
}  # fmt: skip
PER_SECOND = {"names": 8000, "spelled": 6000, "elsewhere": 1500}


async def test_fault_D12(tmp_path, member):
    """Floods of ever new questions for what is, what is not and what others know: bounds hold, and no data goes."""

    def known(seen):
        yield fake_upstream.reply(seen.message, Raw(1, 3600, b"\x0a\x00\x00\x07"))

    async with FakeUpstream(known) as upstream:
        flags = ("--forward", f"{LOCAL}:{upstream.server[1]}", "--forward-cache", str(FORWARD_CACHE))
        async with Program(tmp_path, member.url, *flags) as server:
            await server.until_ready()
            sizes, kept, forwarded = [server.rss_mib()], [], []
            for seed in range(ROUNDS):
                for kind, count in ROUND.items():
                    await _flood((LOCAL, server.port), kind, count, rate=PER_SECOND[kind], seconds=60, seed=seed)
                sizes.append(server.rss_mib())
                kept.append(await server.metric("pilotfish_dns_cache_entries"))
                forwarded.append(await server.metric("pilotfish_dns_forward_cache_entries"))
            queries = await server.metric("pilotfish_dns_queries_total")
            misses = queries - await server.metric("pilotfish_dns_cache_hits_total")
            assert queries > 0.5 * ROUNDS * sum(ROUND.values())  # it bit: most were answered
            assert len(upstream.seen) > FORWARD_CACHE  # and others were asked for more than is held
            assert max(kept) <= FORWARD_CACHE + SPELLINGS
            assert 0 < max(forwarded) <= FORWARD_CACHE
            assert sizes[-1] - sizes[0] <= GROWTH_MIB
            if SOAK:
                assert sizes[-1] - sizes[-2] <= STEADY_MIB
            for number in range(NAMES):
                assert await server.answers(f"n{number}") == [f"10.0.0.{number}"]
            state = await server.state()
            assert (state["data"], state["foreign_records"]) == ("fresh", NAMES)
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"\nD12: {queries:.0f} questions, {misses:.0f} of them new; memory {shown} MiB;"
          f" finished answers {kept}, forwarded ones {forwarded}")  # fmt: skip
