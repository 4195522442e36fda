"""Every exit of the pipeline, brought about from outside: what is on disk, what serves, what is said, how it heals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from confgen import service
from confgen.applying import pipeline
from confgen.applying.io_processes import look, workers_of
from confgen.nginx.render import builtin_templates
from lab.waiting import wait_until
from tests.confgen.kit import (
    Backend,
    Running,
    all_workers,
    claim,
    container,
    endpoint,
    get,
    kill_nginx,
    put,
    until,
)
from tests.confgen.test_faults import WEB, leftovers, snapshot, web

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@contextlib.contextmanager
def mounted(place, *options):
    """Something mounted at a folder."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield place
    finally:
        kill_nginx(place)
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    """Use up all room of a file system; returns how to give it back."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler.unlink


def use_up_inodes(place):
    many = place / "many"
    many.mkdir()
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (many / str(number)).touch()
    return lambda: shutil.rmtree(many)


def read_only(place):
    mount = ["mount", "-o", "remount,ro", str(place)]
    # Busy for as long as a thread is still writing what was accepted just now.
    wait_until(lambda: subprocess.run(mount, check=False).returncode == 0, within_s=10, what="nobody to write")
    return lambda: subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


# What is done to the file system, and what is said of it.
ROOMS = {
    "disk full": ("", "size=2m", fill, "No space left on device"),
    "inodes full": ("", "size=4m,nr_inodes=200", use_up_inodes, "No space left on device"),
    "read-only": ("generations", "size=4m", read_only, "Read-only file system"),  # where nobody holds a file open
}


@root
@pytest.mark.parametrize("room", ROOMS)
async def test_fault_C6_no_room(one_nginx, folder, room):
    part, options, spoil, words = ROOMS[room]
    place = folder / part
    with mounted(place, "-t", "tmpfs", "-o", options, "tmpfs"):
        async with Backend("one") as one, Backend("two") as two, Running(folder, one_nginx) as running:
            await running.settle(web(one.port), claim("web", WEB))
            files, workers = snapshot(folder), await all_workers(running)
            heal = spoil(place)
            try:
                with pytest.raises(OSError, match=words):
                    (place / "probe").write_bytes(b"x" * 8192)  # the fault is met
                revision = await running.write(web(two.port))
                error = await until(lambda: running.state["nginx"]["error"], "it is said")
                assert words in error["message"]
                assert words in running.telemetry.ready.missing["configuration"]
                assert (snapshot(folder), workers_of(running.pid)) == (files, workers)
                assert (await get(running.port, WEB)).body == "one GET /"
                assert running.state["quarantined"] == []
            finally:
                heal()
            healed = time.monotonic()
            await running.applied(revision)
            print(f"C6: applied {time.monotonic() - healed:.2f} s after there is room")
            assert (await get(running.port, WEB)).body == "two GET /"
            assert leftovers(folder) == []
            await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


async def test_fault_C6_the_folder_of_configurations_is_removed(one_nginx, folder):
    async with Backend("one") as one, Backend("two") as two, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        shutil.rmtree(folder / "generations")
        assert (await get(running.port, WEB)).body == "one GET /"
        await running.settle(web(two.port))
        assert (await get(running.port, WEB)).body == "two GET /"


@root
@pytest.mark.parametrize("part", ["", "generations", "logs"])
async def test_the_folder_or_a_part_of_it_is_a_bind_mount(one_nginx, folder, part):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    with mounted(folder / part, "--bind", str(elsewhere)):
        async with Backend("one") as one, Backend("two") as two, Running(folder, one_nginx) as running:
            await running.settle(web(one.port), claim("web", WEB))
            await running.settle(web(two.port))
            assert (await get(running.port, WEB)).body == "two GET /"
            assert list(elsewhere.iterdir())  # it is the mount that was written to
        kill_nginx(folder)


def stopped(pid):
    return "T (stopped)" in Path(f"/proc/{pid}/status").read_text()


async def test_fault_C2_a_master_that_ignores_its_signal_is_found_out(nginx, folder):
    async with Backend("one") as one, Backend("two") as two, Running(folder, nginx, proof_s=1.0) as running:
        await running.settle(web(one.port), claim("web", WEB))
        good = running.state["generation"]
        os.kill(running.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            revision = await running.write(web(two.port))
            error = await until(lambda: running.state["nginx"]["error"], "the failed reload is shown")
            print(f"C2: an ignored signal was found out after {time.monotonic() - began:.2f} s")
            assert time.monotonic() - began < 5
            assert error["message"] == "new connections did not see the new configuration within 1 s"
            assert (folder / "current").readlink().name == good
            assert running.state["generation"] == good
            assert stopped(running.pid)  # the fault was met
            assert (await get(running.port, WEB)).body == "one GET /"
        finally:
            os.kill(running.pid, signal.SIGCONT)
        await running.applied(revision)
        assert (await get(running.port, WEB)).body == "two GET /"


async def test_workers_of_a_new_configuration_that_die_at_their_start_are_found_out_and_it_goes_back(nginx, folder):
    templates = builtin_templates()
    doomed = "{% if main.names_size.text != '1024' %}working_directory /nonexistent;{% endif %}\n"
    templates["nginx.conf.j2"] = doomed + templates["nginx.conf.j2"]
    async with Backend("one") as one, Running(folder, nginx, templates=templates) as running:
        await running.settle(web(one.port), claim("web", WEB))
        good = running.state["generation"]
        hosts = tuple(f"h{number}.test" for number in range(600))
        began = time.monotonic()
        await running.write(put(container("many", endpoint("many", to=one.port, hosts=hosts))))
        for start in range(0, 600, 100):
            await running.write(*(claim("many", host) for host in hosts[start : start + 100]))
        error = await until(lambda: running.state["nginx"]["error"], "it is shown")
        print(f"dead workers: found out and back after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 5
        assert 'chdir("/nonexistent") failed' in error["message"]
        assert "cannot be respawned" in (folder / "logs" / "error.log").read_text()  # the fault was met
        current = (folder / "current").readlink().name
        assert (current, running.state["generation"]) in {(good, good), (current, current)}
        assert "working_directory" not in (folder / "current" / "nginx.conf").read_text()
        assert (await get(running.port, WEB)).body == "one GET /"
        await running.settle(deletes=[claim("many", host).key for host in hosts[:100]])


async def test_workers_of_a_new_configuration_that_are_killed_again_and_again(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, proof_s=3.0) as running:
        await running.settle(web(one.port), claim("web", WEB))
        former, master, killed = await all_workers(running), running.pid, set()

        async def kill():
            while True:
                for pid in workers_of(master) - former - killed:
                    if look(pid) and look(pid).title.startswith("nginx: worker"):
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
                await asyncio.sleep(0.005)

        killing = asyncio.create_task(kill())
        revision = await running.write(web(one.port, weight=9))
        error = await until(lambda: running.state["nginx"]["error"], "it is shown")
        killing.cancel()
        assert len(killed) >= 4  # the fault was met
        assert "exited on signal 9" in error["message"] or "did not see the new configuration" in error["message"]
        await running.applied(revision)
        assert (await get(running.port, WEB)).body == "one GET /"


HANGS = """#!/bin/sh
if [ -e {flag} ]; then case " $* " in *" -t "*)
    sleep 1000 & echo $! >> {pids}
    (sleep 1000 & echo $! >> {pids}; wait) &
    echo $$ >> {pids}
    wait;; esac; fi
exec {nginx} "$@"
"""


async def test_fault_C8_a_check_that_hangs_is_killed_with_its_children_and_the_next_change_is_applied(
    one_nginx, folder
):
    program, flag, pids = (folder.parent / name for name in ("nginx-that-hangs", "hang", "pids"))
    program.write_text(HANGS.format(flag=flag, pids=pids, nginx=one_nginx))
    program.chmod(0o755)
    async with Backend("one") as one, Running(folder, program, check_timeout_s=1.0) as running:
        await running.settle(web(one.port), claim("web", WEB))
        flag.touch()
        began = time.monotonic()
        await running.write(web(one.port, weight=9))
        error = await until(lambda: running.state["nginx"]["error"], "it is said")
        print(f"C8: killed after {time.monotonic() - began:.2f} s with --check-timeout 1s")
        assert error["message"] == f"{program} did not end within 1 s and was killed"
        started = [int(pid) for pid in pids.read_text().split()]
        assert len(started) >= 3  # the fault was met
        flag.unlink()
        await until(lambda: not any(look(pid) for pid in started), "no child is left", seconds=2)
        assert (await get(running.port, WEB)).body == "one GET /"
        await running.settle(web(one.port, weight=10))
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


SLOW = """#!/bin/sh
case " $* " in *" -t "*) sleep 1;; esac
exec {nginx} "$@"
"""


async def test_a_large_configuration_gets_more_time_than_a_small_one(one_nginx, folder, monkeypatch):
    monkeypatch.setattr(pipeline, "USUAL_FILES", 10)
    program = folder.parent / "nginx-that-is-slow"
    program.write_text(SLOW.format(nginx=one_nginx))
    program.chmod(0o755)
    async with Backend("one") as one, Running(folder, program, check_timeout_s=0.5) as running:
        await running.write(web(one.port), claim("web", WEB))
        error = await until(lambda: running.state["nginx"]["error"], "too slow for a small one")
        assert error["message"] == f"{program} did not end within 0.5 s and was killed"
        hosts = [f"s{number}" for number in range(50)]
        await running.settle(
            *(put(container(name, endpoint(name, to=one.port))) for name in hosts),
            *(claim(name, f"{name}.svc.test") for name in hosts),
        )
        assert (await get(running.port, WEB)).body == "one GET /"


async def test_fault_C12_a_kept_connection_that_the_server_closes_costs_no_request(nginx, folder):
    async with Backend("one", mood="drop reused") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        got = [(await get(running.port, WEB, f"/{turn}")).status for turn in range(200)]
        posted = [(await get(running.port, WEB, method="POST", body="x")).status for _ in range(50)]
        reused = len(one.requests) - len(got) - len(posted)
        print(f"C12: {reused} requests met a closing connection; failed: {250 - (got + posted).count(200)} of 250")
        assert reused > 50  # the fault was met: those were sent twice
        assert (set(got), set(posted)) == ({200}, {200})


def edit(folder):
    (folder / "current" / "services" / "web.conf").write_text("# mine\n")


def point_elsewhere(folder):
    (folder / "current").unlink()
    (folder / "current").symlink_to("/etc")


def remove(folder):
    (folder / "current" / "unknown.conf").unlink()


@pytest.mark.parametrize("by_hand", [edit, point_elsewhere, remove])
async def test_fault_C13_what_is_edited_by_hand_is_noticed_and_restored(
    one_nginx, folder, by_hand, monkeypatch, caplog
):
    monkeypatch.setattr(service, "EDITS_LOOK_S", 0.2)
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        files, current = snapshot(folder), (folder / "current").readlink()
        by_hand(folder)
        assert snapshot_or_none(folder) != files  # the fault was met
        os.kill(running.pid, signal.SIGHUP)  # and somebody reloads it
        await until(lambda: snapshot_or_none(folder) == files, "restored")
        assert (folder / "current").readlink() == current
        await until(lambda: running.state["stage"] == "idle")
        assert (await get(running.port, WEB)).body == "one GET /"
        assert "changed by hand" in caplog.text


async def test_a_hangup_compares_at_once_and_ends_nothing(one_nginx, folder, monkeypatch, caplog):
    """SIGHUP: what was edited by hand is written anew long before it would be looked for, and the store is read."""
    caplog.set_level("INFO", logger="pilotfish")
    monkeypatch.setattr(service, "EDITS_LOOK_S", 3600.0)
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        files = snapshot(folder)
        remove(folder)
        running.service.reload()
        await until(lambda: snapshot_or_none(folder) == files, "restored")
        await until(lambda: "compared with the store" in caplog.text, "compared")
        assert (await get(running.port, WEB)).body == "one GET /"


def snapshot_or_none(folder):
    try:
        return snapshot(folder) if (folder / "current").readlink().parent.name == "generations" else None
    except OSError:
        return None


# Runs until it is killed in one step of the pipeline; prints that it is there.
KILLED = """
import asyncio, sys
from pathlib import Path
from pilotfish.run import run_until_signal
from tests.confgen.kit import Running, claim, container, endpoint, put, DOMAIN
from tests.confgen.test_faults import hold

folder, nginx, port, backend, stage = sys.argv[1:]

def web(weight):
    return put(container("web", endpoint("web", to=int(backend), weight=weight)))

async def main():
    async with Running(Path(folder), nginx, port=int(port), nginx_on_exit="keep") as running:
        await running.settle(web(1), claim("web", f"web.{DOMAIN}"))
        with hold(running.service._applier, stage) as reached:
            await running.write(web(9))
            await reached.wait()
            print("reached", flush=True)
            await asyncio.Event().wait()

run_until_signal(main())
"""


TIMES = [1, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("stage", ["stage", "check", "swap", "reload", "prove", "accept"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
async def test_fault_C7_killed_in_a_step_the_next_start_serves_what_is_wanted_and_leaves_nothing(
    one_nginx, folder, stage, how, times
):
    async with Backend("one") as one, Running(folder, one_nginx) as port_of:
        await port_of.stop()
        for _ in range(times):
            await killed_and_started_again(folder, one_nginx, (port_of.port, one.port), stage, how)


async def killed_and_started_again(folder, program, ports, stage, how):
    port, backend = ports
    argv = [sys.executable, "-c", KILLED, str(folder), str(program), str(port), str(backend), stage]
    process = await asyncio.create_subprocess_exec(*argv, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"reached\n"
    process.send_signal(how)
    assert await process.wait() == (-how if how is signal.SIGKILL else 0)  # the fault was met
    assert (await get(port, WEB)).body == "one GET /"
    async with Running(folder, program, port=port) as again:
        await again.settle(web(backend, weight=9), claim("web", WEB))
        served = await again.service._nginx.served()
        assert served.generation == (folder / "current").readlink().name == again.state["generation"]
        assert "weight=9 " in (folder / "current" / "services" / "web.conf").read_text()
        await until(lambda: not leftovers(folder), "nothing is left aside")
        note = folder / "history" / f"{served.generation}.json"
        await until(note.exists, "it is in the history")
        assert json.loads(note.read_text())["generation"] == served.generation
