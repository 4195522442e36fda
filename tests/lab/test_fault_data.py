"""What befalls the data in etcd, with every part running: rows B5 (compacted), B13 (lost), B15 (many keys), D9."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lab.etcd import PEER_PORT
from lab.waiting import wait_until
from tests.lab.faults import (
    FOREIGN,
    LASTING,
    RECORD,
    Standing,
    Timeline,
    cut_off_from_etcd,
    dropped,
    missing,
    revision,
    state,
)
from tests.lab.load import Load
from tests.lab.suite import DOMAIN, SOAK, answers
from tests.parts import checker, prober, writer
from tests.parts.aside import Aside

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

RESYNC_S = 5.0
BURST = 10_000 if SOAK else 1_000
MANY = 50_000
FIRST = 1000  # number of the first record of many
GROWTH_MIB = 100


async def _burst(standing: Standing, folder: Path, count: int) -> None:
    """Write many records, a hundred at once."""
    inside = ("nsenter", f"--net=/proc/{standing.lab.switch.holder}/ns/net")
    command = ["--etcd", standing.lab.etcd.urls, "--rate", "0", "--batch", "100"]
    command += ["--first", str(FIRST), "--count", str(count)]
    async with Aside(writer.__name__, command, folder / "burst.log", prefix=inside) as load:
        await load.finished()
    assert all(row.error is None for row in load.rows(writer.Written))


async def test_fault_B5(standing, tmp_path):
    """What a host missed is compacted away: it reads anew, and no name that stands vanishes in between."""
    host = standing.hosts[2]
    line = Timeline("B5 what was missed is compacted away")
    async with Load(standing, tmp_path, at=[host], place=host, web=False) as load:
        seen = int(state(host, "dns")["serial"])
        line.mark("injected")
        cut_off_from_etcd(host, "REJECT")
        wait_until(lambda: missing(host, "dns") and missing(host, "confgen"), within_s=15, what="the parts to say so")
        line.mark("detected")
        await _burst(standing, tmp_path, BURST)
        newest = revision(standing.lab)
        standing.lab.etcd.ctl("compact", str(newest))
        watch = standing.lab.etcd.ctl("watch", "--rev", str(seen + 1), "/skydns/", check=False, within_s=5)
        assert "compacted" in watch.stdout + watch.stderr
        assert dropped(host) > 0
        line.mark("healed")
        host.iptables("-F", "OUTPUT")
        last = FIRST + BURST - 1
        wait_until(lambda: answers(host, writer.name_of(last)) == [writer.address(last)], within_s=RESYNC_S,
                   what="the newest record to be answered")  # fmt: skip
        line.mark("recovered")
        standing.converged()
        line.mark("verified equal")
        lost = [number for number in range(FIRST, FIRST + BURST)
                if answers(host, writer.name_of(number)) != [writer.address(number)]]  # fmt: skip
    log = standing.suite.process(host, "dns").text()
    questions = load.questions(besides=load.after(line.at["healed"]))
    line.note(f"{BURST} records written meanwhile, {len(lost)} lost; questions: {prober.text(questions)}")
    line.show()
    assert "reading everything anew" in log
    assert lost == []
    assert questions.bad == 0, prober.text(questions)


async def test_fault_D9(standing, tmp_path):
    """Broken JSON among good records: that key is left out and named by every reader, its neighbours answer."""
    etcd = standing.lab.etcd
    broken = {
        f"{FOREIGN}/broken": '{"host": "10.0.0.1"',
        f"{FOREIGN}/estest/zzz": "no json at all",
        "/pilotfish/v1/containers/docker09/abc": '{"format": 1, "node": ',
    }
    line = Timeline("D9 broken JSON")
    async with Load(standing, tmp_path) as load:
        line.mark("injected")
        for key, value in broken.items():
            etcd.ctl("put", key, value)
        ours = {key for key in broken if key.startswith("/pilotfish")}
        for host in standing.hosts:
            wait_until(lambda host=host: broken.keys() <= state(host, "dns")["refused_records"].keys(), within_s=5,
                       what="the DNS server to name them")  # fmt: skip
            wait_until(lambda host=host: ours <= state(host, "confgen")["bad_records"].keys(), within_s=5,
                       what="the proxy to name its own")  # fmt: skip
        line.mark("detected")
        etcd.ctl("put", f"{FOREIGN}/beside", RECORD.format("10.250.255.2"))
        for host in standing.hosts:
            wait_until(lambda host=host: answers(host, f"beside.{DOMAIN}") == ["10.250.255.2"], within_s=2,
                       what="a neighbour to be answered")  # fmt: skip
        assert [answers(host, f"broken.{DOMAIN}") for host in standing.hosts] == [[], [], []]
        logs = [standing.suite.process(host, "dns").text() for host in standing.hosts]
        assert all(f"key={key}" in log for key in broken for log in logs)
        await load.flow()
        for key in broken:
            etcd.ctl("del", key)
        line.mark("healed")
        for host in standing.hosts:
            wait_until(lambda host=host: not state(host, "dns")["refused_records"], within_s=5, what="them to be gone")
        standing.converged()
        line.mark("verified equal")
    questions, requests = load.questions(), load.requests()
    line.note(f"questions: {prober.text(questions)}; requests: {checker.text(requests)}")
    line.show()
    assert questions.bad == 0, prober.text(questions)
    assert requests.bad == 0, checker.text(requests)


def _all_gone(standing: Standing) -> None:
    for member in standing.lab.etcd.members:
        member.kill()
    for member, host in zip(standing.lab.etcd.members, standing.hosts, strict=True):
        shutil.rmtree(host.folder / "etcd" / "data")
        assert not member.process.alive


def _wipe(standing: Standing, _: Path) -> None:
    _all_gone(standing)


def _restore(standing: Standing, snapshot: Path) -> None:
    _all_gone(standing)
    peers = {f"etcd{host.number}": f"http://{host.address}:{PEER_PORT}" for host in standing.hosts}
    cluster = ",".join(f"{name}={url}" for name, url in peers.items())
    for host in standing.hosts:
        name = f"etcd{host.number}"
        about = ["--name", name, "--initial-cluster", cluster, "--initial-advertise-peer-urls", peers[name]]
        folder = ["--data-dir", host.folder / "etcd" / "data"]
        host.run(["etcdctl", "snapshot", "restore", snapshot, *about, *folder])


LOSSES = {"wiped": _wipe, "restored from an old snapshot": _restore}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
async def test_fault_B13(standing, tmp_path, request, lose):
    """etcd comes back without what it held: noticed, said, and everything is registered and read anew in 5 s."""  # noqa: D403
    etcd, one = standing.lab.etcd, standing.hosts[0]
    line = Timeline(f"B13 etcd is {request.node.callspec.id}")
    snapshot = tmp_path / "etcd.snapshot"
    one.run(["etcdctl", "--endpoints", etcd.members[0].url, "snapshot", "save", snapshot])
    one.docker(["rm", "-f", "estest1"])  # the snapshot knows what is no more, and not what came after it
    standing.restore()
    before = revision(standing.lab)
    async with Load(standing, tmp_path) as load:
        line.mark("injected")
        lose(standing, snapshot)
        await load.dns_load.until_answered(60)
        etcd.start()
        line.mark("healed")
        assert revision(standing.lab) < before
        etcd.ctl("put", f"{FOREIGN}/lasting", RECORD.format("10.250.255.1"))  # as its owner would
        standing.converged(within_s=RESYNC_S)
        line.mark("verified equal")
        await load.flow()
    logs = {(host, part): process.text() for (host, part), process in standing.suite.processes.items()}
    warned = [
        which for which, text in logs.items() if "the store's revision went back" in text or "another cluster" in text
    ]
    questions, requests = load.questions(), load.requests()
    line.note(f"{len(warned)} of {len(logs)} parts warned")
    line.note(f"questions: {prober.text(questions)}; requests: {checker.text(requests)}")
    line.show()
    assert {part for _, part in warned} >= {"dns", "confgen"}
    away = [
        row for row in load.web_load.rows(checker.Sent) if line.at["injected"] <= row.at <= line.at["verified equal"]
    ]
    assert load.requests(besides=away).bad == 0
    assert questions.lost == ()


def _memory(pid: int, what: str) -> float:
    """MiB of VmRSS or VmHWM (proc(5))."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def _begin_anew(pid: int) -> None:
    """From now on VmHWM is the peak since now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


async def test_fault_B15(standing, tmp_path):
    """Fifty thousand records are read anew: how long the server does not answer, and how much memory that takes."""
    host = standing.hosts[2]
    line = Timeline(f"B15 {MANY} keys are read anew")
    await _burst(standing, tmp_path, MANY)
    last = FIRST + MANY - 1
    wait_until(lambda: answers(host, writer.name_of(last)) == [writer.address(last)], within_s=30, what="the last one")
    process = standing.suite.process(host, "dns")
    gaps, peaks = [], []
    inside = ("nsenter", f"--net=/proc/{host.place.holder}/ns/net")
    asked = ["--server", f"{host.address}:53", "--ask", f"{LASTING}:A", "--rate", "400", "--timeout", "2"]
    for number in range(2):
        steady = _memory(process.pid, "VmRSS")
        _begin_anew(process.pid)
        said = len(process.text())
        async with Aside(prober.__name__, asked, tmp_path / f"{number}.log", prefix=inside) as load:
            await load.until_answered(400)
            if number:
                line.mark("injected")
                cut_off_from_etcd(host, "REJECT")
                wait_until(lambda: missing(host, "dns"), within_s=15, what="the server to say so")
                for address in ("10.250.0.2", "10.250.0.1"):  # or the watch would begin where the compaction ends
                    standing.lab.etcd.ctl("put", f"{FOREIGN}/w1", RECORD.format(address))
                standing.lab.etcd.ctl("compact", str(revision(standing.lab)))
                line.mark("healed")
                host.iptables("-F", "OUTPUT")
                wait_until(lambda: answers(host, writer.name_of(1)) == ["10.250.0.1"], within_s=RESYNC_S,
                           what="the newest record")  # fmt: skip
                line.mark("recovered")
            await load.until_answered(400)
        gaps.append(prober.longest_gap_s(load.rows(prober.Asked)))
        peaks.append(_memory(process.pid, "VmHWM") - steady)
    line.note(f"longest gap {gaps[1] * 1000:.0f} ms, without a fault {gaps[0] * 1000:.0f} ms")
    line.note(f"memory {steady:.0f} MiB, {peaks[1]:.0f} MiB more at the peak, without a fault {peaks[0]:.0f}")
    line.show()
    assert "reading everything anew" in process.text()[said:]
    assert peaks[1] <= GROWTH_MIB
