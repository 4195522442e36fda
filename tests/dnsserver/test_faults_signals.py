"""A whole DNS server process and signals: SIGHUP reads again, SIGTERM answers what was asked; how old it says it is."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time

import dns.message
import pytest

from dnsserver.message.frames import framed
from pilotfish.catalog import io_snapshot
from pilotfish.catalog.store import Delete, Put
from tests.dnsserver.test_faults import FOLDER, RECORD
from tests.parts import fake_upstream
from tests.parts.dns_program import DOMAIN, LOCAL, Program, until
from tests.parts.etcd_server import EtcdCluster
from tests.parts.fake_upstream import FakeUpstream, Raw
from tests.parts.lying_etcd import LyingEtcd

pytestmark = pytest.mark.timeout(120)

PIPELINED = 3000
FORWARDED, SLOW_S = 20, 0.5
ENDS_WITHIN_S = 10.0
AGE_S = 1.0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_SIGHUP_reads_again(tmp_path, workers):
    """A mirror that an untrue watch made wrong is right again after SIGHUP, long before it would be compared."""
    async with LyingEtcd() as etcd:
        await etcd.truth.commit([], [Put(FOLDER + name, RECORD.format("10.0.0.1").encode()) for name in "ab"])
        async with Program(tmp_path, etcd.url, "--verify", "1h", "--workers", workers) as server:
            await server.until("a", ["10.0.0.1"])
            await server.until_ready()
            etcd.lies.lose_events = 1
            await etcd.truth.commit([], [Delete(FOLDER + "a")])
            await etcd.truth.commit([], [Put(FOLDER + "c", RECORD.format("10.0.0.3").encode())])
            await server.until("c", ["10.0.0.3"])
            await server.until_ready()
            assert etcd.told["lose_events"] == 1
            assert await server.answers("a") == ["10.0.0.1"]  # it bit: this is gone, and still answered
            began = time.monotonic()
            server.send(signal.SIGHUP)
            await server.until("a", [])
            took_s = time.monotonic() - began
            assert await server.repaired() == 1
            assert [await server.answers(name) for name in "bc"] == [["10.0.0.1"], ["10.0.0.3"]]
            await server.until_logged("compared with the store mended=1")
            assert server.process.returncode is None
    print(f"\nSIGHUP: a wrong mirror mended after {took_s:.2f} s (2 s of them to make sure)")


async def _replies(reader: asyncio.StreamReader, most: int) -> list[dns.message.Message]:
    found = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while len(found) < most:
            size = int.from_bytes(await reader.readexactly(2))
            found.append(dns.message.from_wire(await reader.readexactly(size)))
    return found


def _queries(names: list[str]) -> bytes:
    asked = (dns.message.make_query(name, "A", id=number) for number, name in enumerate(names))
    return b"".join(framed(one.to_wire()) for one in asked)


async def test_SIGTERM_answers_what_was_asked(tmp_path):
    """Pipelined and forwarded questions that were sent before SIGTERM are answered; then it ends well."""
    snapshot = tmp_path / "zone"

    def slowly(seen):
        yield SLOW_S
        yield fake_upstream.reply(seen.message, Raw(1, 60, b"\x0a\x00\x00\x07"))

    with EtcdCluster(tmp_path / "etcd") as cluster:
        member = cluster.members[0]
        member.ctl("put", FOLDER + "a", RECORD.format("10.0.0.1"))
        async with FakeUpstream(slowly) as upstream:
            flags = ("--forward", f"{LOCAL}:{upstream.server[1]}", "--snapshot", str(snapshot))
            async with Program(tmp_path, member.url, *flags) as server:
                await server.until("a", ["10.0.0.1"])
                await server.until_ready()
                await until(snapshot.exists, "the first snapshot")
                member.ctl("put", FOLDER + "late", RECORD.format("10.0.0.2"))
                await server.until("late", ["10.0.0.2"])
                slow, slow_out = await asyncio.open_connection(LOCAL, server.port)
                slow_out.write(_queries([f"x{number}.example." for number in range(FORWARDED)]))
                many, many_out = await asyncio.open_connection(LOCAL, server.port)
                many_out.write(_queries([f"a.{DOMAIN}"] * PIPELINED))
                await until(lambda: len(upstream.seen) >= FORWARDED, "the name server is asked")
                server.send(signal.SIGTERM)
                began = time.monotonic()
                async with asyncio.timeout(ENDS_WITHIN_S):
                    forwarded, own = await asyncio.gather(_replies(slow, FORWARDED), _replies(many, PIPELINED))
                assert await server.ended(ENDS_WITHIN_S) == 0
                took_s = time.monotonic() - began
                for one in (slow_out, many_out):
                    one.close()
    assert sorted(one.id for one in own) == list(range(PIPELINED))
    assert {one.answer[0][0].to_text() for one in own} == {"10.0.0.1"}
    assert sorted(one.id for one in forwarded) == list(range(FORWARDED))
    assert {one.answer[0][0].to_text() for one in forwarded} == {"10.0.0.7"}
    assert {entry.key for entry in io_snapshot.load(snapshot).entries} == {FOLDER + "a", FOLDER + "late"}
    assert "Traceback" not in server.log.read_text()
    print(f"\nSIGTERM: {len(own)} pipelined and {len(forwarded)} forwarded answers, ended after {took_s:.2f} s")


async def test_it_says_how_old_its_data_is(tmp_path):
    """While etcd stands still /ready, /metrics and /api/state tell the age of the data, right to a second."""
    with EtcdCluster(tmp_path / "etcd") as cluster:
        member = cluster.members[0]
        flags = ("--etcd-stall", "3s", "--stale-after", "2s", "--etcd-timeout", "2s")
        async with Program(tmp_path, member.url, *flags) as server:
            await server.until_ready()
            await until(lambda: _quiet(server), "it has heard the store just now")
            member.pause()
            stopped = time.monotonic()
            seen = []
            for since_s in (3.0, 5.0):
                await until(lambda since_s=since_s: time.monotonic() - stopped >= since_s, "that moment")
                truth = time.monotonic() - stopped
                ready = float(re.search(r"last heard (\d+) s ago", await server.said("/ready"))[1])
                shown = await server.metric("pilotfish_dns_data_age_seconds")
                state = (await server.state())["age_s"]
                seen += [each - truth for each in (ready, shown, state)]
            assert all(abs(off) <= AGE_S for off in seen), seen
            member.resume()
            await server.until_ready()
            await until(lambda: _quiet(server), "it hears the store again")
    print(f"\nage: off by {min(seen):.2f} to {max(seen):.2f} s")


async def _quiet(server: Program) -> bool:
    return await server.metric("pilotfish_dns_data_age_seconds") < 0.2
