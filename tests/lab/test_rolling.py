"""Twenty containers restarted behind nginx under constant load, again and again: what failed, and the longest gap.

A round restarts all of them, some at a time; the next ones begin when every proxy has the last ones again. Once with
`docker restart`, whose first signal takes a container out of every upstream before its application ends, ten at a time;
and once with kill -9 of the application, of which nobody knows before it has happened, four at a time. ROLLING_ROUNDS
says how many rounds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import pytest

from lab.host import Host
from lab.waiting import wait_until
from tests.lab.faults import Standing, Timeline, fetch
from tests.lab.suite import DOMAIN, SOAK, STATUS, run
from tests.parts import checker
from tests.parts.aside import Aside
from tests.parts.checker import Sent

ROUNDS = int(os.environ.get("ROLLING_ROUNDS", "100" if SOAK else "3"))
pytestmark = [pytest.mark.lab, pytest.mark.timeout(240 + 30 * ROUNDS)]

CONTAINERS = 20
SHOP = f"shop.{DOMAIN}"
DRAIN_S = 2  # for so long an application goes on serving after its signal: longer than the proxies need
LATENCY_MS = 50  # of every answer: some requests are always under way, and a kill meets them
STOP_S = 20
BACK_S = 60.0
RATE = 100
TAGS = ("-e", "SERVICE_NAME=shop", "-e", "SERVICE_9200_PROXY=http", "-e", "PORTS=9200", "-p", "9200")

One = tuple[Host, str]


def restarted(one: One) -> None:
    """As a deployment does it."""
    host, name = one
    host.docker(["restart", "-t", str(STOP_S), name])


def killed(one: One) -> None:
    """The application dies without a word; whoever looks after it starts it again."""
    host, name = one
    os.kill(state_of(one)["Pid"], signal.SIGKILL)
    wait_until(lambda: not state_of(one)["Running"], within_s=BACK_S, what=f"the engine to see that {name} is dead")
    assert state_of(one)["ExitCode"] == 128 + signal.SIGKILL
    host.docker(["start", name])


def state_of(one: One) -> dict:
    """What the engine says of a container, asked without the weight of its command line."""
    return one[0].engine.get(f"/containers/{one[1]}/json")["State"]


def everywhere(standing: Standing, count: int) -> bool:
    """True when every proxy serves so many containers of the shop."""
    for host in standing.hosts:
        state = json.loads(fetch(host, STATUS["confgen"], "/api/state")[1] or "{}")
        servers = [len(route["servers"]) for route in state.get("routes", []) if route["host"] == SHOP]
        if servers != [count] or not state.get("serving"):
            return False
    return True


def shop(standing: Standing) -> list[One]:
    """The containers, spread over the hosts, served by every proxy."""
    places = itertools.cycle(standing.hosts)
    ones = [(next(places), f"shop{number:02}") for number in range(1, CONTAINERS + 1)]
    with ThreadPoolExecutor(3) as pool:
        more = ("-e", f"LATENCY_MS={LATENCY_MS}", "-e", f"DRAIN_S={DRAIN_S}")
        list(pool.map(lambda one: run(one[0], *TAGS, *more, name=one[1]), ones))
    wait_until(lambda: everywhere(standing, CONTAINERS), within_s=BACK_S, what="the shop to be open", every_s=0.1)
    return ones


def all_restarted(standing: Standing, ones: Sequence[One], way: Way) -> int:
    """Restart all of them, as often as the way says; returns how many restarts that were."""
    done = 0
    with ThreadPoolExecutor(way.batch) as pool:
        for _ in range(way.rounds):
            for batch in batched(ones, way.batch):
                before = [state_of(one)["StartedAt"] for one in batch]
                list(pool.map(way.restart, batch))
                assert all(state_of(one)["StartedAt"] != was for one, was in zip(batch, before, strict=True))
                done += len(batch)
                wait_until(
                    lambda: everywhere(standing, CONTAINERS), within_s=BACK_S, what="all to be back", every_s=0.1
                )
    return done


def batched(ones: Sequence[One], size: int) -> Iterator[Sequence[One]]:
    return (ones[at : at + size] for at in range(0, len(ones), size))


def longest_gap_s(rows: Sequence[Sent]) -> float:
    """The longest time between two good answers through one proxy."""
    ends: dict[str, list[float]] = {}
    for row in rows:
        if row.status == 200:
            ends.setdefault(row.proxy, []).append(row.at + row.took_s)
    return max(after - before for found in ends.values() for before, after in itertools.pairwise(sorted(found)))


class Log(NamedTuple):
    """What the containers say of all their lives.

    Attributes:
        served: the requests that reached them.
        late_s: for each end by a signal, how long after it the last request came; 0: none came any more.
    """

    served: list[checker.Served]
    late_s: list[float]


def logs(ones: Sequence[One]) -> Log:
    """Read what every container printed, with the engine's times."""
    log = Log([], [])
    for host, name in ones:
        signalled = last = 0.0
        for line in host.docker(["logs", "-t", name]).stdout.splitlines():
            stamp, _, said = line.partition(" ")
            at = datetime.fromisoformat(stamp[:26] + "+00:00").timestamp()
            log.served.extend(checker.served_by(name, said))
            event = json.loads(said).get("event")
            if event == "draining":
                signalled = last = at
            elif event == "drained":
                log.late_s.append(last - signalled)
            elif event == "request":
                last = at
    return log


class Way(NamedTuple):
    """How all containers are restarted, how many at a time, and in how many rounds."""

    restart: Callable[[One], None]
    batch: int
    rounds: int


WAYS = {
    "restart": Way(restarted, 10, ROUNDS),
    "kill -9": Way(killed, 4, ROUNDS),
}


@pytest.mark.parametrize(
    ("how", "way"),
    [pytest.param(how, way, id=how, marks=[pytest.mark.soak] * (how != "restart")) for how, way in WAYS.items()],
)
async def test_rolling(standing, tmp_path, how, way):
    """0 of all requests fail when applications drain; when they are killed, hardly more than they were answering."""
    ones = shop(standing)
    through = [part for host in standing.hosts for part in ("--proxy", f"{host.address}:80")]
    methods = ("--method", "GET", "--method", "POST")
    load = Aside(
        checker.__name__,
        [*through, *methods, "--host", SHOP, "--workers", "24", "--rate", str(RATE), "--run", "rolling",
         "--seconds", "7200"],
        tmp_path / "web.log", prefix=("nsenter", f"--net=/proc/{standing.lab.switch.holder}/ns/net"),
    )  # fmt: skip
    line = Timeline(f"rolling {how}, {way.rounds} rounds of {CONTAINERS}, {way.batch} at a time")
    async with load:
        await load.until_answered(100)
        line.mark("begun")
        done = await asyncio.to_thread(all_restarted, standing, ones, way)
        line.mark("ended")
        await load.until_answered(100)
    rows, log = load.rows(Sent), logs(ones)
    verdict = checker.judge(rows, [name for _, name in ones], served=log.served)
    failed = [row for row in rows if row.status != 200]
    by_method = {method: sum(row.method == method for row in failed) for method in ("GET", "POST")}
    line.note(f"{done} restarts, {len(rows)} requests, {len(failed)} failed {by_method}")
    line.note(f"longest gap {longest_gap_s(rows):.2f} s; {checker.text(verdict)}")
    if log.late_s:
        ordered = sorted(log.late_s)
        median_s, longest_s = ordered[len(ordered) // 2], ordered[-1]
        line.note(f"requests came until {median_s:.2f} s (median), {longest_s:.2f} s (longest) after the signal")
    line.show()
    assert len(rows) > done
    assert verdict.doubled_unsafe == ()
    if how == "restart":
        assert len(log.late_s) == done
        assert verdict.bad == 0, checker.text(verdict)
    else:
        assert len(failed) <= done, checker.text(verdict)
        assert by_method["GET"] <= done / 4, checker.text(verdict)
