"""Row B12: clocks that jump by an hour under a running registrator, and one that began elsewhere.

The time of day is changed for one process (libfaketime, never for the machine), the monotonic clock by a time
namespace: they catch different mistakes.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lab.tools import Tools
from pilotfish.catalog.keys import container_key, node_key
from pilotfish.catalog.record import Container, decode
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import connected
from tests.parts.fake_docker import FakeDocker
from tests.registrator import harness
from tests.registrator.harness import NODE, World, exports, records, web
from tests.registrator.test_faults import Losses, Program

LEASE_S = 5
WATCHED_S = 7.0  # longer than the lease
RESYNC = ("--resync", "1s")
MOST_CPU_S = 6.0  # in that time; most is libfaketime reading its file at each look at a clock; spinning takes it all


@pytest.fixture
async def world(tmp_path):
    with EtcdCluster(tmp_path / "etcd") as etcd:
        async with connected(etcd.urls) as store, FakeDocker(tmp_path / "docker.sock") as engine:
            there = World(store, engine)
            there.etcd = etcd
            yield there
            await there.close()


class Faked(Program):
    """The registrator with a time of day that the test moves."""

    def __init__(self, world, folder):
        super().__init__(world.engine, world.etcd, *RESYNC)
        [library] = Tools(["clock"]).roots[0].glob("root/usr/lib/*/faketime/libfaketime.so.1")
        self.offset, self.log = folder / "offset", folder / "log"
        self.move("+0")
        settings = {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.offset, "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1, "DONT_FAKE_MONOTONIC": 1,
        }  # fmt: skip
        script = f'exec "$@" 2>{self.log}'
        given = [f"{name}={value}" for name, value in settings.items()]
        self.command = ["env", *given, "sh", "-c", script, "sh", *self.command]

    def move(self, by):
        """Set its clock to now and so much."""
        staged = self.offset.with_suffix(".new")
        staged.write_text(by + "\n", encoding="ascii")
        staged.rename(self.offset)

    def said_at(self, text):
        """The hour of day in the log line that has `text`."""
        lines = [line for line in self.log.read_text(encoding="utf-8").splitlines() if text in line]
        return lines[-1].split()[0] if lines else ""


def cpu_s(pid):
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def offset_of_child(pid):
    """The first clock of a child's time namespace, and by how many seconds it is ahead."""
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return Path(f"/proc/{child}/timens_offsets").read_text(encoding="ascii").split()[:2]


def many(world, count):
    return [world.engine.add(web(f"web-{n}", host_port=10_000 + n), quiet=True) for n in range(count)]


@pytest.mark.parametrize("by", ["+3600", pytest.param("-3600", marks=pytest.mark.soak)])
async def test_fault_B12(world, tmp_path, by):
    """The time of day jumps: no key goes, nothing is written, nothing is done more often than before."""
    ids = many(world, 10)
    async with Faked(world, tmp_path) as program, Losses(world.store, "/") as losses:
        await world.see("written", lambda found: records(found) == set(ids) and len(exports(found)) == 20)
        await world.see("the key says so", lambda found: b'"listed":true' in found[node_key(NODE)].value)
        before, revision = await world.entries(), (await world.store.read("/none")).revision
        lists, cpu = world.engine.requests["list"], cpu_s(program.process.pid)
        program.move(by)
        jumped = time.monotonic()
        await harness.until(lambda: time.monotonic() > jumped + WATCHED_S, "the lease would have ended")
        listed, spent = world.engine.requests["list"] - lists, cpu_s(program.process.pid) - cpu
        assert losses.lost == []
        assert (await world.store.read("/none")).revision == revision
        assert await world.entries() == before
        came = time.monotonic()
        late = world.engine.add(web("late-1", host_port=9000, env={"SERVICE_NAME": "web", "SERVICE_PROXI": "http"}))
        await world.see("a new one is there", lambda found: late in records(found), 5)
        came_s = time.monotonic() - came
        world.engine.die(late)
        await world.see("and gone", lambda found: late not in records(found), 5)
        await harness.until(lambda: program.said_at("proxi"), "the remark about its tag")
        stamp = program.said_at("proxi")
        await program.end(signal.SIGTERM)
        assert program.process.returncode == 0
    print(f"\nB12 {by} s, in {WATCHED_S:g} s: 0 keys lost, 0 writes, {listed} lists, {spent:.2f} s CPU; "
          f"a new container after {came_s:.2f} s; its log says {stamp} at {time.strftime('%H:%M:%S')}")  # fmt: skip
    hours = [time.strftime("%H", time.localtime(time.time() + int(by) - ago)) for ago in (0, 60)]
    assert any(f"T{hour}:" in stamp or stamp.startswith(f"{hour}:") for hour in hours)  # it bit
    assert listed <= WATCHED_S / 0.8 + 2
    assert spent <= MOST_CPU_S


DRAINS_S = 8.0


@pytest.mark.parametrize("by", ["+3600", "-3600"])
async def test_fault_B12_what_drains(world, tmp_path, by):
    """It does so for as long as it would have, not to the old time of day; a stop after the jump is seen like any."""
    first, second = (
        world.engine.add(web(f"web-{n}", host_port=10_000 + n, stop_timeout=int(DRAINS_S - 5))) for n in range(2)
    )
    async with Faked(world, tmp_path) as program:
        await world.see("written", lambda found: records(found) == {first, second})
        world.engine.kill(first)
        killed = time.monotonic()
        await world.see_states(first, {80: "draining"})
        [before] = (await world.record(first)).endpoints
        program.move(by)
        await harness.until(lambda: program.said_at("the time of day jumped"), "it notices")  # it bit
        await world.see("its deadline moved", lambda found: _deadline(found, first) not in {0, before.deadline})
        moved = _deadline(await world.entries(), first) - before.deadline
        world.engine.set_clock(float(by))
        world.engine.kill(second)
        await world.see_states(second, {80: "draining"})
        await world.see_states(first, {80: "passing"}, DRAINS_S + 5)
        took_s = time.monotonic() - killed
        await world.see_states(second, {80: "passing"}, DRAINS_S + 5)
        [end] = (await world.record(second)).endpoints
        await program.end(signal.SIGTERM)
    print(f"\nB12 {by} s while it drains: deadline moved by {moved:.1f} s, over after {took_s:.1f} s of {DRAINS_S:g}")
    assert end.deadline == 0
    assert abs(moved - int(by)) < 1
    assert took_s > DRAINS_S - 1


@pytest.mark.soak
async def test_fault_B12_another_monotonic_clock(world):
    """A registrator whose monotonic clock is an hour ahead takes over from one whose clock is not: no key goes."""
    ids = many(world, 10)
    async with Losses(world.store, "/") as losses:
        async with Program(world.engine, world.etcd, *RESYNC) as first:
            await world.see("written", lambda found: records(found) == set(ids) and len(exports(found)) == 20)
            instance = (await world.node()).instance
            lease = (await world.entries())[node_key(NODE)].lease
            await first.end(signal.SIGKILL)
        ahead = Program(world.engine, world.etcd, *RESYNC)
        ahead.command = [
            str(Tools(["lab"]).find("unshare")), "--time", "--monotonic", "3600", "--boottime", "3600", "--fork",
            "--kill-child", *ahead.command,
        ]  # fmt: skip
        async with ahead:
            await world.see("it has taken over", lambda found: _instance(found) not in {"", instance})
            assert offset_of_child(ahead.process.pid) == ["monotonic", "3600"]
            took = time.monotonic()
            await harness.until(lambda: time.monotonic() > took + WATCHED_S, "the lease would have ended")
            assert losses.lost == []
            assert (await world.entries())[node_key(NODE)].lease == lease
    print(f"\nB12 a monotonic clock 3600 s ahead: 0 of {len(ids) * 3} keys lost in {WATCHED_S:g} s")


def _deadline(found, container):
    [endpoint] = decode(Container, found[container_key(NODE, container)].value).endpoints
    return endpoint.deadline


def _instance(found):
    entry = found.get(node_key(NODE))
    return entry.value.decode().partition('"instance":"')[2].partition('"')[0] if entry else ""
