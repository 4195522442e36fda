"""What befalls an engine or a registrator, on real engines with every part running: rows A1, A2, A4 and A5."""

from __future__ import annotations

import os
import signal

import pytest

from lab.host import Host
from lab.process import state_of
from lab.waiting import wait_until
from pilotfish.catalog.keys import NODES
from tests.lab.faults import (
    LEASE_OVER_S,
    LEASE_S,
    PLAIN,
    Standing,
    Timeline,
    keys_of,
    metric,
    missing,
    out_of_time,
    started,
    state,
)
from tests.lab.load import Load
from tests.lab.suite import APP, DOMAIN, answers, run
from tests.parts import checker, prober

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

RECONNECT_S = 2.0
NOTICE_S = 15.0
EXIT_S = 2.0
BACK_S = 2.0
ORPHAN_S = 5.0  # how long an orphan is watched
DEAD_S = 3.0  # from the end of a lease to the end of an orphan that does not answer
PERIOD_S = 2.5  # an orphan that answered is asked again after this at the latest
STALE = f"_9400._tcp.stale.{DOMAIN}"


async def test_fault_A1(standing, tmp_path):
    """The engine is away for longer than a lease: no key of a running container goes; what ended meanwhile does."""
    host = standing.hosts[1]
    host.engine.stop()
    host.engine.start("--live-restore")  # as an admin has it who restarts engines under running containers
    host.docker(["start", "estest2"])
    stale = run(host, "-e", "SERVICE_NAME=stale", "-e", "PORTS=9400", "-p", "9400", name="stale", image=APP)
    ends = int(host.docker(["inspect", "-f", "{{.State.Pid}}", "stale"]).stdout)
    # Until the engine is listed again DNS has what was before, which looks the same; then estest2 is out for a moment.
    wait_until(lambda: answers(host, STALE, "SRV"), within_s=NOTICE_S, what="the registrator to have listed the engine")
    standing.converged()
    line = Timeline("A1 the engine is restarted")
    async with Load(standing, tmp_path) as load:
        before = keys_of(standing.lab, host)
        assert answers(host, STALE, "SRV")
        line.mark("injected")
        host.engine.stop()
        os.kill(ends, signal.SIGKILL)
        wait_until(
            lambda: "docker" in missing(host, "registrator"), within_s=NOTICE_S, what="the registrator to say so"
        )
        line.mark("detected")
        assert not host.engine.process.alive
        out_of_time(line.at["injected"] + LEASE_S + 2)
        assert keys_of(standing.lab, host) == before
        host.engine.start("--live-restore")
        line.mark("healed")
        wait_until(lambda: not missing(host, "registrator"), within_s=RECONNECT_S, what="the registrator to reconnect")
        line.mark("recovered")
        standing.converged()
        line.mark("verified equal")
        await load.flow()
        after = keys_of(standing.lab, host)
    assert after.items() <= before.items()
    gone = before.keys() - after.keys()
    assert len(gone) == 3
    assert all("stale" in key or key.endswith(stale) for key in gone)
    assert not answers(host, STALE, "SRV")
    verdict, questions = load.requests(), load.questions()
    line.note(f"keys lost of what runs: 0 of {len(after)}, of what ended: {len(gone)}")
    line.note(f"requests: {checker.text(verdict)}; questions: {prober.text(questions)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)


async def test_fault_A2(standing, tmp_path):
    """The engine stands still: connections stay open and nothing comes; noticed by a ping, and made up for."""
    host = standing.hosts[1]
    line = Timeline("A2 the engine hangs")
    async with Load(standing, tmp_path) as load:
        line.mark("injected")
        host.engine.pause()
        assert state_of(host.engine.process.pid) == "T"
        wait_until(
            lambda: "docker" in missing(host, "registrator"), within_s=NOTICE_S, what="the registrator to say so"
        )
        line.mark("detected")
        host.engine.resume()
        line.mark("healed")
        wait_until(lambda: not missing(host, "registrator"), within_s=RECONNECT_S, what="the registrator to reconnect")
        line.mark("recovered")
        standing.converged()
        line.mark("verified equal")
    verdict, questions = load.requests(), load.questions()
    line.note(f"requests: {checker.text(verdict)}; questions: {prober.text(questions)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)


async def test_fault_A4_back_within_the_lease(standing, tmp_path):
    """Killed and back in a second: no key goes, no answer changes, the old lease is taken over."""
    host = standing.hosts[1]
    line = Timeline("A4 the registrator is killed, and back in 1 s")
    async with Load(standing, tmp_path) as load:
        before = keys_of(standing.lab, host)
        killed = line.mark("injected")
        assert standing.suite.process(host, "registrator").kill() == -signal.SIGKILL
        out_of_time(killed + 1)
        standing.suite.start(host, "registrator")
        line.mark("started")
        standing.converged()
        line.mark("verified equal")
        out_of_time(killed + LEASE_S + 2)  # whoever did not take the lease over would lose its keys now
        await load.flow()
        assert keys_of(standing.lab, host) == before
    verdict, questions = load.requests(), load.questions()
    line.note(f"keys lost: 0 of {len(before)}")
    line.note(f"requests: {checker.text(verdict)}; questions: {prober.text(questions)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)


async def test_fault_A4_back_after_the_lease(standing, tmp_path):
    """Killed for longer than its lease: its container lives, so no answer lacks it, before, meanwhile and after."""
    host = standing.hosts[1]
    line = Timeline("A4 the registrator is killed, and back after its lease")
    async with Load(standing, tmp_path) as load:
        line.mark("injected")
        standing.suite.process(host, "registrator").kill()
        wait_until(lambda: not _registered(standing, host), within_s=LEASE_OVER_S, what="its keys to go", every_s=0.1)
        line.mark("gone")
        wait_until(
            lambda: _orphans(standing) == [1, 1] * 3, within_s=2, what="every reader to say that it is an orphan"
        )
        out_of_time(line.mark("orphan everywhere") + ORPHAN_S)
        await load.flow()
        assert _everywhere(standing, 3)
        assert _orphans(standing) == [1, 1] * 3
        line.mark("started")
        started(standing, host, "registrator")
        line.mark("runs again")
        wait_until(lambda: _orphans(standing) == [0, 0] * 3, within_s=BACK_S, what="its records to be back")
        line.mark("recovered")
        standing.converged()
        line.mark("verified equal")
        await load.flow()
    verdict, questions = load.requests(), load.questions()
    changes = {server: _steps(load, server) for server in {row.server for row in load.asked()}}
    line.note(f"endpoints answered: {changes}")
    line.note(f"requests: {checker.text(verdict)}; questions: {prober.text(questions)}")
    line.show()
    assert set(changes.values()) == {(3,)}
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)


async def test_fault_A4_all_registrators(standing, tmp_path):
    """All are killed, for good: what lives is served, also by readers that start anew; what ends leaves alone."""
    line = Timeline("A4 all registrators are killed; a container ends")
    async with Load(standing, tmp_path) as load:
        line.mark("injected")
        for host in standing.hosts:
            standing.suite.process(host, "registrator").kill()
        wait_until(
            lambda: not standing.lab.etcd.get("/pilotfish/v1/containers/"),
            within_s=LEASE_OVER_S,
            what="all keys to go",
            every_s=0.1,
        )
        line.mark("gone")
        wait_until(lambda: _orphans(standing) == [3, 3] * 3, within_s=2, what="every reader to keep them")
        await load.flow()
        assert _everywhere(standing, 3)
    verdict, questions = load.requests(), load.questions()
    line.note(f"requests: {checker.text(verdict)}; questions: {prober.text(questions)}")
    for part in ("dns", "confgen"):
        standing.suite.process(standing.hosts[0], part).terminate()
        started(standing, standing.hosts[0], part)
    wait_until(lambda: _orphans(standing) == [3, 3] * 3, within_s=10, what="readers that started anew to know them")
    line.mark("readers started anew")
    wait_until(lambda: _everywhere(standing, 3), within_s=5, what="their answers")
    wait_until(
        lambda: [len(each["servers"]) for each in state(standing.hosts[0], "confgen").get("routes", [])] == [3],
        within_s=10,
        what="their upstreams",
    )
    standing.hosts[1].docker(["kill", "estest2"])
    line.mark("a container killed")
    wait_until(lambda: _everywhere(standing, 2), within_s=PERIOD_S + DEAD_S, what="it to leave all answers")
    line.mark("out of DNS")
    wait_until(lambda: _orphans(standing) == [2, 2] * 3, within_s=PERIOD_S + DEAD_S, what="every reader to let it go")
    line.mark("let go")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)


async def test_fault_A4_dead_host(standing):
    """The cable of a host is out: with its lease its endpoints leave every other host within three seconds."""
    host, others = standing.hosts[2], [standing.hosts[0], standing.hosts[1]]
    line = Timeline("A4 a host dies")
    line.mark("injected")
    host.cut()
    wait_until(
        lambda: not standing.lab.etcd.get(f"/pilotfish/v1/containers/{host.name}/"),
        within_s=2 * LEASE_OVER_S,  # a new leader renews all leases
        what="its keys to go",
        every_s=0.05,
    )
    gone = line.mark("gone")
    wait_until(
        lambda: all(len(answers(each, PLAIN, "SRV")) == 2 for each in others), within_s=DEAD_S, what="DNS to follow"
    )
    line.mark("out of DNS")
    wait_until(
        lambda: all(metric(each, part, "pilotfish_orphans{") == 0 for each in others for part in ("dns", "confgen")),
        within_s=DEAD_S,
        what="nobody to keep it",
    )
    assert line.mark("let go by all") - gone <= DEAD_S
    line.mark("healed")
    host.heal()
    standing.converged()
    line.mark("verified equal")
    line.show()


def _orphans(standing: Standing) -> list[float]:
    """How many orphans each reader has: DNS server and proxy, host by host."""
    return [metric(host, part, "pilotfish_orphans{") for host in standing.hosts for part in ("dns", "confgen")]


def _registered(standing: Standing, host: Host) -> dict[str, str]:
    return standing.lab.etcd.get(f"/pilotfish/v1/containers/{host.name}/")


def _everywhere(standing: Standing, count: int) -> bool:
    return all(len(answers(host, PLAIN, "SRV")) == count for host in standing.hosts)


def _steps(load: Load, server: str) -> tuple[int, ...]:
    """How many endpoints a server answered with, one number for each change."""
    rows = sorted(
        (row for row in load.asked() if row.name == PLAIN and row.server == server), key=lambda row: row.until
    )
    counts = [len(row.answers) for row in rows]
    return tuple(count for count, before in zip(counts, [None, *counts], strict=False) if count != before)


@pytest.mark.parametrize("on_exit", ["keep", "remove"])
async def test_fault_A5(standing, tmp_path, on_exit):
    """SIGTERM: it ends in two seconds; its keys stay for its successor, or go at once, before a request fails."""
    host = standing.hosts[1]
    standing.suite.process(host, "registrator").terminate()
    standing.suite.start(host, "registrator", "--on-exit", on_exit)
    standing.converged()
    line = Timeline(f"A5 the registrator is told to end, --on-exit {on_exit}")
    async with Load(standing, tmp_path) as load:
        before = keys_of(standing.lab, host)
        process = standing.suite.process(host, "registrator")
        line.mark("injected")
        process.send(signal.SIGTERM)
        assert process.wait(EXIT_S) == 0
        line.mark("ended")
        left = keys_of(standing.lab, host)
        last = NODES + host.name  # says that it left, for readers that were away
        assert left == (before if on_exit == "keep" else {last: before[last]})
        if on_exit == "remove":
            assert not [
                value for value in standing.lab.etcd.get("/reg/").values() if value.startswith(host.address + ":")
            ]
            wait_until(lambda: _everywhere(standing, 2), within_s=2, what="its endpoints to leave all answers")
            line.mark("out of DNS")
            await load.flow()
        standing.suite.start(host, "registrator")
        line.mark("started")
        standing.converged()
        line.mark("verified equal")
    verdict = load.requests()
    questions = load.questions(besides=[row for row in load.asked() if row.name == PLAIN and on_exit == "remove"])
    line.note(f"keys left: {len(left)} of {len(before)}")
    line.note(f"requests: {checker.text(verdict)}; questions: {prober.text(questions)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)
