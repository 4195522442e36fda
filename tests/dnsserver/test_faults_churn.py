"""A whole DNS server process while its data changes: everything replaced (row D3), ten thousand keys read anew (D8)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest

from bench.watched import Watched, added
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.record import encode
from pilotfish.catalog.store import Put
from tests.dnsserver.kit import container, endpoint, key_of, lan
from tests.parts.dns_program import DOMAIN, LOCAL, Program
from tests.parts.etcd_server import EtcdCluster, EtcdMember
from tests.parts.toxic import ToxicProxy

SOAK = os.environ.get("SOAK") == "1"
pytestmark = pytest.mark.timeout(600 if SOAK else 180)

SERVICES, TIMES, PER_SECOND = (10_000, 2, 10_000 / 60) if SOAK else (2000, 1, 600)
WRITERS = 16
ASKED_S = 1000  # questions a second
KEYS = 10_000
GAP_MS = 20
TRIES = 10 if SOAK else 3
FOLDER = "/skydns/internal/svc/"


def _address(generation: int, host: int, service: int) -> str:
    return f"10.{generation * 10 + host}.{service >> 8}.{service & 255}"


def _replaced(service: int, generation: int) -> list[Put]:
    """One transaction: both addresses of a service, by turns one of ours and one of somebody else's."""
    first, second = (_address(generation, host, service) for host in (1, 2))
    if service % 2:
        return [
            Put(f"{FOLDER}s{service}/{one}", f'{{"host": "{ip}"}}'.encode())
            for one, ip in (("a", first), ("b", second))
        ]
    made = [
        container(service * 2 + number, endpoint(f"s{service}", 80, lan(ip), host=f"h{number}"), host=f"h{number}")
        for number, ip in enumerate((first, second))
    ]
    return [Put(key_of(one), encode(one)) for one in made]


@pytest.fixture
async def etcd(tmp_path) -> AsyncIterator[tuple[EtcdMember, EtcdStore]]:
    """An empty etcd and a client of it."""
    with EtcdCluster(tmp_path / "etcd", options=("--unsafe-no-fsync",)) as cluster:
        store = EtcdStore(EtcdSettings(endpoints=cluster.urls))
        yield cluster.members[0], store
        await store.close()


async def _write(store: EtcdStore, commits: Iterable[list[Put]], per_second: float = 0.0) -> None:
    """Commit everything, several at once; 0: as fast as it goes."""
    waiting, begun = enumerate(commits), time.monotonic()

    async def one() -> None:
        for number, puts in waiting:
            if per_second:
                await asyncio.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            await store.commit([], puts)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(one())


def _packed(puts: Iterable[Put], size: int = 100) -> Iterator[list[Put]]:
    every = list(puts)
    return (every[at : at + size] for at in range(0, len(every), size))


def _either(service: int) -> str:
    """The witness's line: the addresses of any one generation, never of two."""
    pairs = (",".join(_address(generation, host, service) for host in (1, 2)) for generation in range(TIMES + 1))
    return f"s{service}.{DOMAIN} A NOERROR {'|'.join(pairs)}"


async def test_fault_D3(tmp_path, etcd):
    """All of thousands of services are replaced while they are asked for: an answer is wholly old or wholly new."""
    member, store = etcd
    truth = map(_either, range(SERVICES))
    await _write(store, _packed(put for service in range(SERVICES) for put in _replaced(service, 0)))
    async with Program(tmp_path, member.url) as server:
        await server.until_ready()
        with Watched(tmp_path, (LOCAL, server.port), truth, ASKED_S) as witness:
            await asyncio.to_thread(witness.wait, 2)
            began = time.monotonic()
            for generation in range(1, TIMES + 1):
                await _write(store, (_replaced(service, generation) for service in range(SERVICES)), PER_SECOND)
                newest = [_address(generation, host, SERVICES - 1) for host in (1, 2)]
                await server.until(f"s{SERVICES - 1}", newest)  # it bit
            ended = time.monotonic()
            await asyncio.to_thread(witness.wait, 2)
        after = [await server.answers(f"s{service}") for service in range(0, SERVICES, SERVICES // 50)]
    windows = witness.windows()
    at_rest = added(window for window in windows[1:] if window.at + 1 < began)
    during = added(window for window in windows if began <= window.at <= ended)
    print(f"\nD3 {SERVICES} services replaced {TIMES} times in {ended - began:.1f} s: {during.text()}")
    print(f"   at rest: {at_rest.text()}")
    everything = added(windows)
    assert (everything.wrong, everything.failed, everything.lost) == (0, 0, 0), windows
    expected = [[_address(TIMES, host, service) for host in (1, 2)] for service in range(0, SERVICES, SERVICES // 50)]
    assert after == expected


async def test_fault_D8(tmp_path, etcd):
    """Ten thousand keys are read anew: what a witness in another process sees of it."""
    member, store = etcd
    puts = [put for service in range(KEYS // 2) for put in _replaced(service, 0)]
    await _write(store, _packed(puts))
    async with (
        ToxicProxy(member.url.partition("//")[2]) as proxy,
        Program(tmp_path, f"http://{proxy.address}") as server,
    ):
        await server.until_ready()
        quiet, resync = await _gaps(tmp_path, server, proxy, store, member)
        anew = server.log.read_text().count("reading everything anew prefix=/skydns/")
    assert anew == TRIES
    print(f"\nD8: longest gap between answers while {len(puts)} keys are read anew, ms: {_shown(resync)};"
          f" without that {_shown(quiet)}")  # fmt: skip
    assert min(resync) <= max(GAP_MS, 2 * min(quiet))


def _shown(gaps: list[float]) -> str:
    return " ".join(f"{gap:.1f}" for gap in sorted(gaps))


async def _gaps(
    folder: Path, server: Program, proxy: ToxicProxy, store: EtcdStore, member: EtcdMember
) -> tuple[list[float], list[float]]:
    """The longest times without an answer, ms: of each second at rest, and of each resync."""
    truth = [
        f"s{service}.{DOMAIN} A NOERROR {_address(0, 1, service)},{_address(0, 2, service)}"
        for service in range(0, 1000, 7)
    ]
    spans = []
    with Watched(folder, (LOCAL, server.port), truth, 1000) as witness:
        for number in range(TRIES):
            await asyncio.to_thread(witness.wait, 1)
            await proxy.down()
            began = time.monotonic()
            for name in (f"new{number}", "later"):
                done = await store.commit([], [Put(f"{FOLDER}{name}", b'{"host": "10.0.0.1"}')])
            member.ctl("compact", str(done.revision))
            await proxy.up()
            await server.until(f"new{number}", ["10.0.0.1"])
            spans.append((began, time.monotonic()))
        await asyncio.to_thread(witness.wait, 2)
    windows = witness.windows()
    assert added(windows).fresh == added(windows).asked, added(windows).text()
    met = [[window for window in windows if began - 1 <= window.at <= ended] for began, ended in spans]
    at_rest = [window.gap for window in windows[1:] if not any(window in some for some in met)]
    return at_rest, [max(window.gap for window in some) for some in met]
