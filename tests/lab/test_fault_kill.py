"""kill -9 of each part in turn while requests and questions run: what failed, for how long, and that all converged."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from lab.host import Host
from lab.process import state_of
from lab.waiting import wait_until
from tests.lab.faults import NAME, Standing, Timeline, state
from tests.lab.load import Load
from tests.lab.suite import PARTS
from tests.parts import checker, prober
from tests.parts.checker import Sent
from tests.parts.prober import Asked

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

CLIENT_S = 1.0  # a question that was sent just before may be answered, or given up, this much later


@dataclass(frozen=True)
class Kill:
    """A row: whom to kill, and what may fail for it, until it runs again, at its own host.

    Attributes:
        victims: the processes that are killed at once.
        back: what a supervisor does then.
        web: requests through that host's proxy may fail.
        dns: questions to that host's server may be lost.
        leaves: the host's proxy may leave the answers meanwhile.
        away: the victim is missed for a while first; a part is started at once, within its lease.
    """

    victims: Callable[[Standing, Host], Iterable[int]]
    back: Callable[[Standing, Host], None] = lambda standing, host: standing.revive_parts(host)
    web: bool = False
    dns: bool = False
    leaves: bool = False
    away: bool = False


def part(name: str) -> Callable[[Standing, Host], Iterable[int]]:
    return lambda standing, host: [standing.suite.process(host, name).pid]


def all_parts(standing: Standing, host: Host) -> Iterable[int]:
    return [standing.suite.process(host, name).pid for name in PARTS]


def nginx_master(_: Standing, host: Host) -> Iterable[int]:
    return [state(host, "confgen")["nginx"]["pid"]]


def etcd_member(standing: Standing, _: Host) -> Iterable[int]:
    leader = standing.lab.etcd.leader
    return [next(member for member in standing.lab.etcd.members if member is not leader).process.pid]


KILLS = {
    "registrator": Kill(part("registrator")),
    "dnsserver": Kill(part("dns"), dns=True),
    "confgen": Kill(part("confgen")),
    "nginx": Kill(nginx_master, back=lambda *_: None, web=True, leaves=True),
    "an etcd member": Kill(etcd_member, back=lambda standing, _: standing.lab.etcd.start(), away=True),
    "every part of a host": Kill(all_parts, dns=True),
}


@pytest.mark.parametrize("row", KILLS.values(), ids=KILLS)
async def test_kill(standing, tmp_path, request, row):
    """The rest goes on; what fails is what the victim alone does, until it is back; then nothing differs."""
    host = standing.hosts[1]
    line = Timeline(f"kill -9 {request.node.callspec.id}")
    async with Load(standing, tmp_path) as load:
        victims = list(row.victims(standing, host))
        line.mark("killed")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(_ended(standing, pid) for pid in victims), within_s=5, what="their end")
        if row.away:
            await load.flow()
        row.back(standing, host)
        line.mark("started again")
        standing.converged()
        line.mark("verified equal")
        await load.flow()
    rows, asked = load.web_load.rows(Sent), load.asked()
    may_fail = [one for one in rows if row.web and one.proxy == f"{host.address}:80" and _during(one, line)]
    may_be_lost = [one for one in asked if row.dns and one.server == f"{host.address}:53" and _during(one, line)]
    may_differ = [one for one in asked if row.leaves and one.name == NAME and _during(one, line)]
    line.note(f"requests: {checker.text(load.requests()).splitlines()[0]}")
    failed = [one for one in may_fail if one.status != 200]
    lost = [one for one in may_be_lost if one.rcode != "NOERROR"]
    if failed:
        line.note(f"{len(failed)} requests failed in {_span(failed):.2f} s, through {host.name} alone")
    if lost:
        line.note(f"{len(lost)} questions lost in {_span(lost):.2f} s")
    line.show()
    verdict = load.requests(besides=may_fail)
    assert verdict.bad == 0, checker.text(verdict)
    verdict = load.questions(besides=[*may_be_lost, *may_differ])
    assert verdict.bad == 0, prober.text(verdict)
    # Before it has read the store it says that it knows nothing yet; never that there is no such name.
    assert {one.rcode for one in may_be_lost} <= {None, "SERVFAIL", "NOERROR"}
    assert all(one.answers for one in may_be_lost if one.rcode == "NOERROR")
    assert all(set(one.answers) <= set(standing.proxies) and one.answers for one in may_differ)


def _ended(standing: Standing, pid: int) -> bool:
    """Gone, and collected where it was ours: a process with threads ends later than its first thread."""
    members = [member.process for member in standing.lab.etcd.members]
    ours = [one for one in (*standing.suite.processes.values(), *members) if one is not None and one.pid == pid]
    return not ours[0].alive if ours else state_of(pid) in {"", "Z", "X"}


def _during(one: Sent | Asked, line: Timeline) -> bool:
    return line.at["killed"] - CLIENT_S <= one.at <= line.at["verified equal"]


def _span(rows: list[Sent] | list[Asked]) -> float:
    return max(one.at for one in rows) - min(one.at for one in rows)
