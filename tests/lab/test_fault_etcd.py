"""What befalls etcd or the way to it, with every part running: rows B1 to B4, B10 and B14.

Numbered records are written all the while: a DNS server that shows a number has seen that write, so each server says
for itself when its watch lives again and whether it lost anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import dns.edns
import pytest

from lab.etcd import Member
from lab.host import Host
from lab.process import state_of
from lab.waiting import wait_until
from tests.lab.faults import (
    LASTING,
    LEASE_OVER_S,
    LEASE_S,
    NAME,
    PLAIN,
    Standing,
    Timeline,
    born,
    cut_off_from_etcd,
    dropped,
    fetch,
    metric,
    missing,
    out_of_time,
    state,
    watchers,
)
from tests.lab.load import Load
from tests.lab.suite import DOMAIN, PARTS, SOAK, STATUS, answers, ask, run
from tests.parts import checker, prober, writer
from tests.parts.prober import Asked

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

LEADER_LOST_S = 5.0
ABANDONED_S = 10.0
STALL_SEEN_S = 15.0
BACK_S = 2.0
CUT_S = 600.0 if SOAK else 4.0
STALL_S = 15.0 if SOAK else 3.0  # shorter than a lease: what goes with its lease is another row
AGE_S = 1.0
LOSS = 0.05
LOSSY_S = 15.0
QUIET_S = 10 / 3 if SOAK else 1.0  # a watch on which nothing happens is heard from this often: a third of --etcd-stall


async def test_fault_B1(standing, tmp_path):
    """The leader of etcd dies while records are written: every server sees new ones within 5 s, and none is lost."""
    etcd = standing.lab.etcd
    line = Timeline("B1 etcd's leader is killed")
    async with Load(standing, tmp_path, writes=True) as load:
        old = etcd.leader
        before = int(old.status()["raftTerm"])
        killed = line.mark("injected")
        old.kill()
        await _see_writes(load, line, killed, LEADER_LOST_S)
        new = etcd.leader
        assert new is not old
        assert int(new.status()["raftTerm"]) > before
        old.start()
        etcd.wait_healthy()
        line.mark("healed")
        standing.converged()
        line.mark("verified equal")
        await load.flow()
        lost = [load.lost_writes(host) for host in standing.hosts]
    _tell(load, line, f"{old.name} led, then {new.name}")
    assert lost == [[], [], []]


async def _see_writes(load: Load, line: Timeline, since: float, within_s: float) -> None:
    """Wait until every DNS server shows something written after `since`; say when that was and when writing went on."""

    def seen() -> dict[str, float]:
        found = writer.seen_again(load.asked(beat=True), load.writes(), since)
        return dict(found) if len(found) == len(load.hosts) else {}

    times = wait_until(seen, within_s=within_s + 1, what="every DNS server to see a new write", every_s=0.1)
    first = next(row for row in writer.acknowledged(load.writes()) if row.at > since)
    line.mark("written again", first.until)
    line.mark("recovered", max(times.values()))
    assert max(times.values()) - since <= within_s


def _tell(load: Load, line: Timeline, *notes: str, besides: Sequence[Asked] = ()) -> None:
    """Print the timeline with what became of requests, questions and writes; nothing of it may have failed.

    Args:
        load: what was asked and sent.
        line: the timeline.
        notes: more figures.
        besides: questions that are judged elsewhere.
    """
    lags = writer.lags_s(load.asked(beat=True), load.writes()) if load.write_load else {"": 0.0}
    questions = load.questions(besides=besides)
    requests = load.requests() if load.web_load else None
    said = [f"questions: {prober.text(questions)}", *([f"requests: {checker.text(requests)}"] if requests else [])]
    failed = sum(row.error is not None for row in load.writes()) if load.write_load else 0
    said += [f"DNS at most {max(lags.values()):.2f} s behind etcd, {failed} writes refused"] if load.write_load else []
    for each in (*notes, *said):
        line.note(each)
    line.show()
    assert questions.bad == 0, prober.text(questions)
    assert requests is None or requests.bad == 0, checker.text(requests)


def _busiest(standing: Standing) -> tuple[Member, Host]:
    """The member that most watches hang on, and its host."""
    held = watchers(standing)
    name = max(held, key=lambda each: held[each])
    number = int(name.removeprefix("etcd"))
    assert held[name] > 0
    return standing.lab.etcd.member(number), standing.hosts[number - 1]


async def test_fault_B2(standing, tmp_path):
    """The member that the watches hang on is cut off from the others and lives: it is left within 10 s."""
    line = Timeline("B2 a member is cut off from the majority")
    async with Load(standing, tmp_path, writes=True) as load:
        member, host = _busiest(standing)
        held = watchers(standing)[member.name]
        injected = line.mark("injected")
        for chain in ("INPUT", "OUTPUT"):
            for side in ("--dport", "--sport"):
                host.iptables("-I", chain, "-p", "tcp", side, "2380", "-j", "DROP")
        wait_until(lambda: not member.status().get("leader"), within_s=10, what=f"{member.name} to be without a leader")
        alone = line.mark("without a leader")
        await _see_writes(load, line, alone, injected + ABANDONED_S - alone)
        assert dropped(host) > 0
        assert member.process.alive
        wait_until(lambda: watchers(standing)[member.name] == 0, within_s=ABANDONED_S, what="its watches to go")
        line.mark("its watches left")
        assert time.monotonic() - injected <= ABANDONED_S
        packets = dropped(host)
        for chain in ("INPUT", "OUTPUT"):
            host.iptables("-F", chain)
        standing.lab.etcd.wait_healthy()
        line.mark("healed")
        standing.converged()
        line.mark("verified equal")
        lost = [load.lost_writes(each) for each in standing.hosts]
    _tell(load, line, f"{held} watches on {member.name}, {packets} packets dropped")
    assert lost == [[], [], []]


CUTS = {
    "packets dropped": lambda host: cut_off_from_etcd(host, "DROP"),
    "connections reset": lambda host: cut_off_from_etcd(host, "REJECT"),
    "the cable out": lambda host: host.cut(),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_fault_B3(standing, tmp_path, request, cut):
    """A host that does not reach etcd answers and serves what it knows, says so, and rewrites nothing."""
    how = request.node.callspec.id
    host = standing.hosts[2]
    line = Timeline(f"B3 a host does not reach etcd: {how}")
    async with Load(standing, tmp_path, at=[host], place=host, web=how != "the cable out") as load:
        files, nginx = _files(host), state(host, "confgen")["nginx"]["pid"]
        injected = line.mark("injected")
        cut(host)
        wait_until(lambda: missing(host, "dns") and missing(host, "confgen") and missing(host, "registrator"),
                   within_s=STALL_SEEN_S, what="every part to say so")  # fmt: skip
        line.mark("detected")
        wait_until(lambda: state(host, "dns")["data"] == "stale", within_s=30, what="answers to be marked as stale")
        line.mark("stale")
        answer = ask(host, LASTING)
        assert [option.code for option in answer.options if option.otype == dns.edns.OptionType.EDE] == [3]
        assert answer.answer[0].ttl <= 30
        out_of_time(injected + CUT_S)
        await load.flow()
        packets = dropped(host)
        assert packets > 0 or (how == "the cable out" and _unreachable(host, standing.hosts[0]))
        assert (_files(host), state(host, "confgen")["nginx"]["pid"]) == (files, nginx)
        line.mark("healed")
        host.heal()
        host.iptables("-F", "OUTPUT")
        standing.converged()
        line.mark("verified equal")
    _tell(
        load,
        line,
        f"{packets} packets refused, 0 of {len(files)} files rewritten",
        besides=load.after(line.at["healed"]),
    )  # fmt: skip  leases may have run out: B10


def _files(host: Host) -> dict[str, int]:
    """Everything that was generated for nginx -> when it was last written."""
    folder = host.folder / "confgen" / "nginx"
    found = [path for name in ("generations", "current") for path in [folder / name, *(folder / name).rglob("*")]]
    return {str(path): path.lstat().st_mtime_ns for path in found}


def _unreachable(host: Host, other: Host) -> bool:
    return host.run(["curl", "-s", "-m", "1", f"http://{other.address}:2379/health"], check=False).returncode != 0


async def test_fault_B4(standing, tmp_path):
    """The member that the watches hang on stands still, without an error: noticed in 15 s. All do: ages are right."""
    etcd = standing.lab.etcd
    line = Timeline("B4 etcd stands still")
    async with Load(standing, tmp_path, writes=True) as load:
        member, _ = _busiest(standing)
        injected = line.mark("injected")
        member.pause()
        assert state_of(member.process.pid) == "T"
        await _see_writes(load, line, injected, STALL_SEEN_S)
        wait_until(lambda: _oldest(standing) <= QUIET_S + AGE_S, within_s=STALL_SEEN_S, what="every watch to be moved")
        all_still = line.mark("all stand still")
        for each in etcd.members:
            each.pause()
        stood = line.mark("they do") - all_still
        out_of_time(all_still + STALL_S)
        ages = {(host.name, part, text): (age, time.monotonic() - all_still)
                for host in standing.hosts for part in PARTS for text, age in _ages(host, part)}  # fmt: skip
        assert {part for _, part, _ in ages} == set(PARTS)
        off = {which: age - elapsed for which, (age, elapsed) in ages.items()}
        await load.dns_load.until_answered(60)
        for each in etcd.members:
            each.resume()
        line.mark("healed")
        standing.converged()
        line.mark("verified equal")
        lost = [load.lost_writes(host) for host in standing.hosts]
    _tell(
        load,
        line,
        f"ages {min(off.values()):+.2f} to {max(off.values()):+.2f} s off",
        besides=load.after(line.at["healed"]),
    )  # fmt: skip  leases may have run out: B10
    assert lost == [[], [], []]
    assert all(-stood - AGE_S <= each <= QUIET_S + AGE_S for each in off.values()), off


def _oldest(standing: Standing) -> float:
    return max(age for host in standing.hosts for part in PARTS for _, age in _ages(host, part))


def _ages(host: Host, part: str) -> list[tuple[str, float]]:
    text = fetch(host, STATUS[part], "/metrics")[1]
    lines = [line for line in text.splitlines() if line.startswith("pilotfish_store_age_seconds{")]
    return [(line.partition("{")[2].partition("}")[0], float(line.rpartition(" ")[2])) for line in lines]


async def test_fault_B14_packets_are_lost(standing, tmp_path):
    """Of what goes to etcd and between its members 5 % is lost: late, but nothing fails and nothing goes."""
    line = Timeline(f"B14 {LOSS:.0%} of etcd's packets are lost")
    async with Load(standing, tmp_path, writes=True) as load:
        before = born(standing.lab, "/pilotfish/v1/", "/reg/")
        line.mark("injected")
        for host in standing.hosts:
            for port in ("2379", "2380"):
                loss = ("-m", "statistic", "--mode", "random", "--probability", str(LOSS), "-j", "DROP")
                host.iptables("-I", "INPUT", "-p", "tcp", "--dport", port, *loss)
                host.iptables("-I", "INPUT", "-p", "tcp", "--sport", port, *loss)
        longest_s = 0.0
        for host in standing.hosts:
            begun = time.monotonic()
            run(host, "-e", f"SERVICE_NAME=late-{host.name}", "-p", "9200", name=f"late-{host.name}")
            name = f"late-{host.name}.{DOMAIN}"
            wait_until(
                lambda name=name: all(answers(each, name) for each in standing.hosts),
                within_s=LOSSY_S, what=f"every server to answer {name}", every_s=0.05,
            )  # fmt: skip
            longest_s = max(longest_s, time.monotonic() - begun)
        packets = sum(map(dropped, standing.hosts))
        assert packets > 0
        for host in standing.hosts:
            host.iptables("-F", "INPUT")
        line.mark("healed")
        for host in standing.hosts:
            host.docker(["rm", "-f", f"late-{host.name}"])
        standing.converged()
        line.mark("verified equal")
        await load.flow()
        lost = [load.lost_writes(each) for each in standing.hosts]
    gone = before.keys() - born(standing.lab, "/pilotfish/v1/", "/reg/").keys()
    _tell(load, line, f"{packets} packets dropped, docker run to every DNS server at most {longest_s:.2f} s")
    assert lost == [[], [], []]
    assert gone == set()


async def test_fault_B10(standing, tmp_path):
    """Cut off for longer than its lease: its keys go, and come back under a new lease 2 s after the heal, once each.

    Its container lives, so the others go on with it: no answer lacks it, and nothing fails.
    """
    host = standing.hosts[2]
    others = standing.hosts[:2]
    line = Timeline("B10 a host does not reach etcd for longer than its lease")
    async with Load(standing, tmp_path, at=others) as load:
        before, old = _keys_of(standing, host)
        line.mark("injected")
        cut_off_from_etcd(host, "DROP")
        wait_until(lambda: not _keys_of(standing, host)[0], within_s=LEASE_OVER_S, what="its keys to go", every_s=0.1)
        line.mark("gone")
        readers = [(each, part) for each in others for part in ("dns", "confgen")]
        wait_until(
            lambda: all(metric(*each, "pilotfish_orphans{") == 1 for each in readers),
            within_s=2,
            what="the others to keep its container",
        )
        assert all(len(answers(each, PLAIN, "SRV")) == 3 for each in others)
        wait_until(lambda: _away(standing, others) == {host.name}, within_s=2, what="the proxies to say who is away")
        packets = dropped(host)
        assert packets > 0
        line.mark("healed")
        host.iptables("-F", "OUTPUT")
        wait_until(lambda: _keys_of(standing, host)[0] == before, within_s=BACK_S, what="its keys to be back")
        line.mark("recovered")
        standing.converged()
        line.mark("verified equal")
        await load.flow()
        if SOAK:
            out_of_time(time.monotonic() + 2 * LEASE_S)
        after, new = _keys_of(standing, host)
    rest = [row for row in load.asked() if row.name == NAME]  # its proxy left and came back
    questions, requests = load.questions(besides=rest), load.requests()
    line.note(f"{len(before)} keys went and came back, {packets} packets dropped")
    line.note(f"questions: {prober.text(questions)}; requests: {checker.text(requests)}")
    line.show()
    assert (after, len(old), len(new)) == (before, 1, 1)
    assert old != new
    assert all(row.rcode == "NOERROR" and row.answers for row in rest)
    assert questions.bad == 0, prober.text(questions)
    assert requests.bad == 0, checker.text(requests)


def _away(standing: Standing, hosts: Sequence[Host]) -> set[str]:
    """Hosts that each of some proxies names as away."""
    found = standing.lab.etcd.get("/pilotfish/v1/proxies/")
    return set.intersection(
        *(set(json.loads(found[f"/pilotfish/v1/proxies/{host.name}"]).get("away", ())) for host in hosts)
    )


def _keys_of(standing: Standing, host: Host) -> tuple[set[str], set[int]]:
    """All keys of a host's registrator, and the leases that they hang on."""
    found = born(standing.lab, "/pilotfish/v1/", "/reg/", "/skydns/", leases=True)
    theirs = {key: lease for key, lease in found.items() if f"/{host.name}" in key and "/proxies/" not in key}
    return set(theirs), set(theirs.values())
