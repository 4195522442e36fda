"""Whole DNS server processes that start while etcd is away: from a good snapshot (row D1), and from bad ones (D2)."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsserver.responder import Data
from pilotfish.catalog import io_keeper, io_snapshot
from pilotfish.catalog.record import encode
from pilotfish.catalog.snapshot import BadSnapshot, Snapshot
from pilotfish.catalog.store import Entry, Put
from tests.dnsserver.conftest import until
from tests.dnsserver.kit import container, endpoint, key_of, lan
from tests.dnsserver.test_service import Away
from tests.parts.dns_program import Program
from tests.parts.etcd_server import EtcdCluster, EtcdMember

pytestmark = pytest.mark.timeout(120)

FIRST_ANSWER_S = 1.0
AGE_S = 1.0  # how far the age that is shown may be off
FLIPS = 10_000
QUICK = ("--etcd-stall", "3s", "--stale-after", "2s", "--etcd-timeout", "2s")
WEB = container(1, endpoint("web", 80, lan("192.168.0.1", 32768)))
OURS, THEIRS = key_of(WEB), "/skydns/internal/svc/db/1"
VALUES = {OURS: encode(WEB), THEIRS: b'{"host": "10.0.0.1", "port": 5432}'}
ANSWERS = {"web": ("192.168.0.1",), "db": ("10.0.0.1",)}


@pytest.fixture
def member(tmp_path) -> Iterator[EtcdMember]:
    """An etcd that holds VALUES."""
    with EtcdCluster(tmp_path / "etcd") as cluster:
        for key, value in VALUES.items():
            cluster.members[0].ctl("put", key, value.decode())
        yield cluster.members[0]


async def _snapshot(server: Program, file: Path) -> None:
    await server.until_ready()
    await until(file.exists, "the snapshot is written")


def _age(ready: str) -> float:
    """What /ready says about the age of the data."""
    found = re.search(r"last heard (\d+) s ago", json.loads(ready)["missing"]["dns data"])
    assert found
    return float(found[1])


async def test_fault_D1(tmp_path, member):
    """Killed, and back while etcd is down: the first answer of all is right, marked as stale, and its age is said."""
    file = tmp_path / "zone"
    flags = ("--snapshot", str(file), *QUICK)
    async with Program(tmp_path, member.url, *flags) as server:
        await _snapshot(server, file)
        member.kill()
        await server.kill()
        injected = time.monotonic()
        await server.start()
        refused = await server.until_open()
        opened = time.monotonic()
        first = await server.first("web")
        answered = time.monotonic()
        assert refused  # it bit: for a while nobody answered
        found = {name: await server.heard(name) for name in (*ANSWERS, "nope")}
        assert first == found["web"]
        assert {name: found[name].values for name in ANSWERS} == ANSWERS
        assert {(one.ede, one.ttl <= 30) for one in (found["web"], found["db"])} == {(3, True)}
        assert (found["nope"].rcode, found["nope"].ede) == ("NXDOMAIN", 19)
        ready = await server.until_said("/ready", "last heard")
        truth = time.time() - io_snapshot.load(file).taken
        shown = await server.metric("pilotfish_dns_data_age_seconds")
        assert abs(_age(ready) - truth) <= AGE_S
        assert abs(shown - truth) <= AGE_S
        assert answered - opened <= FIRST_ANSWER_S

        member.restart()
        member.ctl("put", "/skydns/internal/svc/new", '{"host": "10.0.0.9"}')
        await server.until("new", ["10.0.0.9"])
        await server.until_ready()
        assert {(await server.heard(name)).ede for name in (*ANSWERS, "nope")} == {None}
        async with Program(tmp_path, member.url, name="fresh") as other:
            await other.until_ready()
            assert await server.contents() == await other.contents()
    print(
        f"\nD1: started 0.00, sockets open {opened - injected:.2f}, first answer {answered - injected:.2f} s"
        f" ({(answered - opened) * 1000:.0f} ms later); age shown {shown:.1f} s, true {truth:.1f} s"
    )


async def test_fault_D1_a_snapshot_that_is_too_old(tmp_path, member):
    """What is older than --snapshot-age is not answered from: SERVFAIL, and the log says why."""
    file = tmp_path / "zone"
    async with Program(tmp_path, member.url, "--snapshot", str(file)) as server:
        await _snapshot(server, file)
    member.kill()
    taken = io_snapshot.load(file)
    io_snapshot.save(file, Snapshot(taken.cluster, taken.revision, taken.taken - 3601, *_rest(taken)))
    async with Program(tmp_path, member.url, "--snapshot", str(file), "--snapshot-age", "1h") as server:
        first = await server.first("web")
        assert (first.rcode, first.values, first.ede) == ("SERVFAIL", (), 14)
        assert re.search(r"starting without a snapshot: .* is 36\d\d s old, and --snapshot-age is 3600 s",
                         server.log.read_text())  # fmt: skip


def _rest(taken: Snapshot) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    return taken.prefixes, taken.entries


async def test_fault_D1_a_quiet_store(run, store, tmp_path, monkeypatch):
    """Where nothing changes for long the snapshot does not grow old: it is written anew while the store is heard."""
    file = tmp_path / "zone"
    monkeypatch.setattr(io_keeper, "SNAPSHOT_S", 0.05)
    monkeypatch.setattr(io_keeper, "ANEW_S", 0.2)
    await store.commit([], [Put(key, value) for key, value in VALUES.items()])
    server = await run(snapshot=str(file))
    await until(file.exists, "the snapshot is written")
    first = io_snapshot.load(file)
    await until(lambda: io_snapshot.load(file).taken >= first.taken + 0.4, "it is written anew, twice")
    assert server.service.responder.serial == first.revision  # nothing changed meanwhile


# --- D2

SMALL = Snapshot(
    "c1", 7, 1_700_000_000.0, ("/pilotfish/v1/", "/skydns/"), tuple(Entry(key, VALUES[key], 3, 5) for key in VALUES)
)


def test_fault_D2_cut_anywhere(tmp_path):
    """A snapshot that ends anywhere before its end is refused."""
    file = tmp_path / "zone"
    io_snapshot.save(file, SMALL)
    whole = file.read_bytes()
    assert io_snapshot.load(file) == SMALL
    for size in reversed(range(len(whole))):
        os.truncate(file, size)
        with pytest.raises(BadSnapshot, match=re.escape(str(file))):
            io_snapshot.load(file)


def test_fault_D2_bits_flipped(tmp_path):
    """One, two or three bits flipped anywhere: refused, ten thousand times."""
    file = tmp_path / "zone"
    io_snapshot.save(file, SMALL)
    whole = file.read_bytes()
    chance = random.Random(seed := random.randrange(2**32))
    print(f"\nD2: seed {seed}")
    with file.open("r+b", buffering=0) as opened:
        for _ in range(FLIPS):
            bits = chance.sample(range(len(whole) * 8), chance.choice((1, 1, 2, 3)))
            changed = bytearray(whole)
            for bit in bits:
                changed[bit // 8] ^= 1 << bit % 8
            opened.seek(0)
            opened.write(changed)
            with pytest.raises(BadSnapshot):
                io_snapshot.load(file)


def _in_its_place(file: Path, octets: bytes) -> None:
    file.write_bytes(octets)
    file.chmod(0o600)


def _whole() -> bytes:
    from pilotfish.catalog.snapshot import encode as snapshot_octets

    return snapshot_octets(SMALL)


DAMAGE = {
    "empty": lambda file: _in_its_place(file, b""),
    "cut": lambda file: _in_its_place(file, _whole()[:-1]),
    "a bit flipped": lambda file: _in_its_place(file, _whole()[:-9] + b"\x00" + _whole()[-8:]),
    "of a later version": lambda file: _in_its_place(file, _whole()[:8] + (9).to_bytes(4) + _whole()[12:]),
    "as others may write it": lambda file: (_in_its_place(file, _whole()), file.chmod(0o666)),
    "a folder": lambda file: file.mkdir(),
    "a pipe": os.mkfifo,
    "a link": lambda file: file.symlink_to(file.with_name("elsewhere")),
}
if os.geteuid() == 0:
    DAMAGE["of another user"] = lambda file: (_in_its_place(file, _whole()), os.chown(file, 65534, 65534))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_fault_D2_starts_without(run, tmp_path, caplog, damage):
    """Whatever lies where the snapshot should be: one line names it, our names are SERVFAIL, nothing is made up."""
    file = tmp_path / "zone"
    damage(file)
    server = await run(snapshot=str(file), use=Away())
    for name, rcode, ede in (("web.svc.internal.", "SERVFAIL", 14), ("example.com.", "REFUSED", 20)):
        found = await server.ask(name, use_edns=0)
        assert (found.rcode, found.answer, found.ede) == (rcode, [], ede)
    assert server.service.responder.data is Data.NONE
    named = [one for one in caplog.messages if "starting without a snapshot" in one]
    assert len(named) == 1
    assert str(file) in named[0]
    assert not server.ended


async def test_fault_D2_mended_from_the_store(run, store, tmp_path):
    """With the store there a damaged snapshot is replaced by a good one."""
    file = tmp_path / "zone"
    DAMAGE["a bit flipped"](file)
    await store.commit([], [Put(key, value) for key, value in VALUES.items()])
    server = await run(snapshot=str(file))

    def good() -> bool:
        try:
            return {entry.key for entry in io_snapshot.load(file).entries} == set(VALUES)
        except BadSnapshot:
            return False

    await until(good, "a good snapshot is written")
    assert (await server.ask("web.svc.internal.")).answer == ["web.svc.internal. 5 A 192.168.0.1"]


async def test_fault_D2(tmp_path, member):
    """The whole process: it starts with a damaged snapshot and no etcd, lives, and is right as soon as etcd is back."""
    file = tmp_path / "zone"
    DAMAGE["cut"](file)
    member.kill()
    async with Program(tmp_path, member.url, "--snapshot", str(file)) as server:
        first = await server.first("web")
        assert (first.rcode, first.values, first.ede) == ("SERVFAIL", (), 14)
        member.restart()
        await server.until("web", ["192.168.0.1"])
        await server.until_ready()
        assert await server.heard("db") == (await server.heard("db"))._replace(values=("10.0.0.1",), ede=None)
        log = server.log.read_text()
    assert log.count("starting without a snapshot") == 1
    assert "Traceback" not in log
