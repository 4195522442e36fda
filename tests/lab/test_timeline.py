"""Five faults in a row on a whole lab, and what was published when, as one timeline of JSON lines.

Each row of it has `at` (seconds from its begin), `what`, and who says so: "mark" (this test), "store" (a change of
`/pilotfish/v1`), "dns" (a server's answer that is another than its last one). TIMELINE names a file to keep it in.
After each fault the engines' `docker ps`, the store's keys, every DNS server's answers and every proxy's upstreams are
compared until nothing is stale and nothing is missing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.waiting import wait_until
from tests.lab.faults import LEASE_OVER_S, LEASE_S, PLAIN, Standing, Timeline, fetch, keys_of, missing
from tests.lab.load import Load
from tests.lab.suite import SOAK, run
from tests.parts.aside import Aside
from tests.parts.recorder import Published

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

KEPT = Path(os.environ["TIMELINE"]) if "TIMELINE" in os.environ else None
ALL = SOAK or KEPT is not None
SECOND_STATUS = 9799
EQUAL = "nothing stale, nothing missing"
NODES, CONTAINERS = "/pilotfish/v1/nodes/", "/pilotfish/v1/containers/"


def engine_restarted(standing: Standing, mark: Callable[[str], float]) -> None:
    """Under running containers, as with `live-restore`; one container starts right afterwards."""
    host = standing.hosts[1]
    host.engine.stop()
    mark("engine stopped")
    wait_until(lambda: "docker" in missing(host, "registrator"), within_s=15, what="the registrator to say so")
    host.engine.start("--live-restore")
    mark("engine back")
    run(host, "-e", "SERVICE_NAME=estest", "-e", "SERVICE_9200_IGNORE=yes", "-p", "9300", name="extra2")


def registrator_killed(standing: Standing, mark: Callable[[str], float]) -> None:
    """And started again at once; a container went meanwhile."""
    host = standing.hosts[1]
    assert standing.suite.process(host, "registrator").kill() == -signal.SIGKILL
    mark("registrator killed")
    host.docker(["rm", "-f", "extra2"])
    standing.suite.start(host, "registrator")
    mark("registrator started")


def member_lost(standing: Standing, mark: Callable[[str], float]) -> None:
    """The leader, which comes back."""
    leader = standing.lab.etcd.leader
    term = leader.status()["raftTerm"]
    leader.kill()
    mark("etcd member lost")
    others = [member for member in standing.lab.etcd.members if member is not leader]
    wait_until(lambda: all(member.healthy for member in others), within_s=30, what="a new leader")
    assert others[0].status()["raftTerm"] > term
    run(standing.hosts[2], "-e", "SERVICE_NAME=estest", "-e", "SERVICE_9200_IGNORE=yes", "-p", "9300", name="extra3")
    leader.start()
    mark("etcd member back")


def partitioned(standing: Standing, mark: Callable[[str], float]) -> None:
    """A host without its cable for longer than its lease; a container goes and another one comes on it meanwhile."""
    host = standing.hosts[2]
    host.cut()
    mark("host cut off")
    wait_until(lambda: not keys_of(standing.lab, host), within_s=LEASE_OVER_S + 5, what="its keys to go", every_s=0.2)
    mark("its lease ended")
    host.docker(["rm", "-f", "extra3"])
    run(host, "-e", "SERVICE_NAME=estest", "-e", "SERVICE_9200_IGNORE=yes", "-p", "9300", name="extra4")
    host.heal()
    mark("host healed")


def two_of_one_name(standing: Standing, mark: Callable[[str], float]) -> None:
    """Another host's registrator is started under the name of one that lives: refused by name, nothing is written."""
    host, victim = standing.hosts[1], standing.hosts[0]
    before, own = keys_of(standing.lab, victim), standing.suite.process(host, "registrator")
    second = standing.suite.start(
        host, "registrator", "--node-name", victim.name, "--status", f"127.0.0.1:{SECOND_STATUS}"
    )
    standing.suite.processes[host.name, "registrator"] = own
    mark("second node of one name started")
    wait_until(lambda: "own --node-name" in fetch(host, SECOND_STATUS, "/ready")[1], within_s=30, what="its refusal")
    mark("refused")
    assert keys_of(standing.lab, victim) == before
    second.terminate()
    mark("ended")


# The partition takes as long as a lease, and is a row of its own (B10): in the ordinary run it is left out here.
STEPS = [engine_restarted, registrator_killed, member_lost, *([partitioned] if ALL else []), two_of_one_name]


async def test_timeline(standing, tmp_path):
    """What was published when; after every fault nothing is stale and nothing is missing anywhere."""
    host = standing.hosts[1]
    host.engine.stop()
    host.engine.start("--live-restore")
    host.docker(["start", "estest2"])
    standing.converged()
    line = Timeline("timeline")
    recorder = Aside(
        "tests.parts.recorder",
        ["--etcd", standing.lab.etcd.urls, "--prefix", "/pilotfish/v1/"], tmp_path / "store.log",
        prefix=("nsenter", f"--net=/proc/{standing.lab.switch.holder}/ns/net"),
    )  # fmt: skip
    took = {}
    async with recorder, Load(standing, tmp_path, web=False) as load:
        for step in STEPS:
            await asyncio.to_thread(step, standing, line.mark)
            healed = max(line.at.values())
            await asyncio.to_thread(standing.converged)
            took[step.__name__] = line.mark(f"{step.__name__}: {EQUAL}") - healed
            await load.flow()
    rows = sorted([*_marks(line), *_store(recorder.rows(Published)), *_answers(load)], key=lambda row: row["at"])
    begin = min(line.at.values())
    text = "".join(json.dumps({**row, "at": round(row["at"] - begin, 3)}) + "\n" for row in rows)
    await asyncio.to_thread(KEPT.write_text if KEPT else (tmp_path / "timeline.jsonl").write_text, text)
    line.note(f"{len(rows)} rows; healed to equal: " + ", ".join(f"{name} {s:.2f} s" for name, s in took.items()))
    line.show()
    lost = {key for row in rows if row["who"] == "store" for key in row["gone"] if key.startswith(NODES)}
    back_s = line.between("registrator killed", f"{registrator_killed.__name__}: {EQUAL}")
    late = {NODES + host.name} if back_s > LEASE_S else set()  # a machine so busy that it was away for a whole lease
    cut = {NODES + standing.hosts[2].name} if ALL else set()
    assert cut <= lost <= cut | late  # no other host's endpoints ever went


def _marks(line: Timeline) -> Iterator[dict]:
    for what, at in line.at.items():
        yield {"at": at, "who": "mark", "what": what}


def _store(rows: list[Published]) -> Iterator[dict]:
    for row in rows:
        put, gone = ([key for key in keys if key.startswith((NODES, CONTAINERS))] for keys in (row.put, row.gone))
        if put or gone:
            yield {"at": row.at, "who": "store", "what": f"revision {row.revision}", "put": put, "gone": gone}


def _answers(load: Load) -> Iterator[dict]:
    """Each server's answers about the plain ports, whenever they changed."""
    last: dict[str, object] = {}
    for row in sorted(load.asked(), key=lambda row: row.until):
        if row.name != PLAIN:
            continue
        said = sorted(row.answers) if row.rcode == "NOERROR" else [row.rcode or row.error or ""]
        if last.get(row.server) != said:
            last[row.server] = said
            yield {"at": row.until, "who": f"dns {row.server}", "what": f"{len(said)} endpoints", "answers": said}
