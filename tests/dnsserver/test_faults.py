"""A whole DNS server process beside an etcd that lies (row B6) and one that asks who it is (row B8)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from pilotfish.catalog.store import Delete, Put
from tests.parts.dns_program import WAIT_S, Program
from tests.parts.etcd_server import EtcdCluster, EtcdMember
from tests.parts.lying_etcd import LyingEtcd

SOAK = os.environ.get("SOAK") == "1"
VERIFY = () if SOAK else ("--verify", "400ms")
MENDED_S = 60.0  # a lost deletion; a lost change is looked for in every tenth round only
LOGIN_S = 1.0
FOLDER = "/skydns/internal/svc/"
RECORD = '{{"host": "{}"}}'
SECRET, CHANGED = "s3cret-of-pilot", "an0ther-one"
ROOT = ("--user", "root:r00t")


LOST = {
    "a lost deletion": (Delete(FOLDER + "a"), [], 1),
    "a lost addition": (Put(FOLDER + "new", RECORD.format("10.0.0.9").encode()), ["10.0.0.9"], 1),
    "a lost change": (Put(FOLDER + "a", RECORD.format("10.0.0.8").encode()), ["10.0.0.8"], 10),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("change", "expected", "rounds"), LOST.values(), ids=LOST)
async def test_fault_B6(tmp_path, change, expected, rounds):
    """A watch that leaves an event out is found out by comparing, counted and mended; neighbours stay as they are."""
    name = change.key.rpartition("/")[2]
    async with LyingEtcd() as etcd:
        puts = [Put(FOLDER + each, RECORD.format(f"10.0.0.{at}").encode()) for at, each in enumerate("abc", start=1)]
        await etcd.truth.commit([], puts)
        async with Program(tmp_path, etcd.url, *VERIFY) as server:
            await server.until("c", ["10.0.0.3"])
            etcd.lies.lose_events = 1
            injected = time.monotonic()
            await etcd.truth.commit([], [change])
            await etcd.truth.commit([], [Put(FOLDER + "d", RECORD.format("10.0.0.4").encode())])
            await server.until("d", ["10.0.0.4"])
            assert etcd.told["lose_events"] == 1
            assert await server.answers(name) != expected  # it bit: what came later is known, and this is not
            assert await server.repaired() == 0
            await server.until(name, expected, within_s=MENDED_S * rounds)
            mended_s = time.monotonic() - injected
            assert await server.repaired() == 1
            assert await server.answers("b") + await server.answers("c") == ["10.0.0.2", "10.0.0.3"]
    assert "the mirror was wrong and is mended" in server.log.read_text()
    print(f"\nB6 {name}, compared every {'60' if SOAK else '0.4'} s: injected 0.00, mended {mended_s:.2f} s, counted 1")


def _with_users(member: EtcdMember) -> None:
    for command in (
        ("user", "add", "root:r00t"),
        ("user", "add", f"pilot:{SECRET}"),
        ("role", "add", "reader"),
        ("role", "grant-permission", "reader", "--prefix=true", "read", "/pilotfish/"),
        ("role", "grant-permission", "reader", "--prefix=true", "read", "/skydns/"),
        ("user", "grant-role", "pilot", "reader"),
        ("user", "grant-role", "root", "root"),
        ("auth", "enable"),
    ):
        member.ctl(*command)


async def test_fault_B8(tmp_path):
    """Forgotten tokens cost a new login and nothing else; a changed password is refused by user, never shown."""
    password = tmp_path / "password"
    password.write_text(SECRET + "\n")
    with EtcdCluster(tmp_path / "etcd") as etcd:
        member = etcd.members[0]
        _with_users(member)
        member.ctl(*ROOT, "put", FOLDER + "a", RECORD.format("10.0.0.1"))
        flags = ("--etcd-user", "pilot", "--etcd-password-file", str(password), "--etcd-stall", "3s")
        async with Program(tmp_path, member.url, *flags) as server:
            await server.until("a", ["10.0.0.1"])
            member.kill()  # etcd keeps tokens in memory: the old ones are void from here on
            member.restart()
            healed = time.monotonic()
            member.ctl(*ROOT, "put", FOLDER + "b", RECORD.format("10.0.0.2"))
            await server.until("b", ["10.0.0.2"])
            again_s = time.monotonic() - healed
            assert await server.answers("a") == ["10.0.0.1"]

            member.ctl(*ROOT, "user", "delete", "pilot")
            member.ctl(*ROOT, "user", "add", f"pilot:{CHANGED}")
            member.kill()
            member.restart()
            async with asyncio.timeout(WAIT_S):
                while "authentication failed" not in (ready := await server.said("/ready")):
                    await asyncio.sleep(0.05)
            assert "'pilot'" in ready
            assert await server.answers("a") == ["10.0.0.1"]
            shown = [await server.said(path) for path in ("/ready", "/health", "/metrics", "/api/state")]
            told = await asyncio.to_thread(Path(f"/proc/{server.process.pid}/cmdline").read_text)
        password.write_text(CHANGED)
    everything = "".join([*shown, told, server.log.read_text()])
    assert SECRET not in everything
    assert json.loads(shown[3])["data"] in {"fresh", "stale"}
    assert "'pilot'" in server.log.read_text()
    print(f"\nB8: etcd restarted 0.00, logged in again and followed {again_s:.2f} s; the secret in any output: 0")
