"""Programs end within their time, with all their children, and their output is bounded."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from confgen.applying.io_processes import look
from confgen.io_command import MAX_OUTPUT, CannotRun, run
from tests.confgen.kit import until

ROWS = [
    ("success", ["sh", "-c", "echo out; echo err >&2"], (0, "out\nerr\n")),
    ("exit code", ["sh", "-c", "echo no; exit 3"], (3, "no\n")),
    ("signal", ["sh", "-c", "kill -9 $$"], (-9, "")),
    ("no shell", ["echo", "$(id);`id`"], (0, "$(id);`id`\n")),
    ("not text", ["printf", "\\377"], (0, "\ufffd")),
]


@pytest.mark.parametrize(("argv", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_how_a_program_ended(argv, expected):
    assert tuple(await run(argv, timeout_s=10)) == expected


@pytest.mark.parametrize(
    ("argv", "reason"), [(["/nonexistent/nginx"], "No such file"), (["/etc/passwd"], "Permission denied")]
)
async def test_a_program_that_cannot_be_run_is_named(argv, reason):
    with pytest.raises(CannotRun, match=f"{argv[0]} cannot be run: {reason}"):
        await run(argv, timeout_s=10)


async def test_fault_C8_a_hung_program_is_killed_with_its_children(tmp_path):
    pids = tmp_path / "pids"
    began = time.monotonic()
    outcome = await run(["sh", "-c", f"sleep 300 & echo $! $$ > {pids}; wait"], timeout_s=0.5)
    assert outcome.code is None
    assert "did not end within 0.5 s and was killed" in outcome.output
    assert time.monotonic() - began < 10
    children = [int(pid) for pid in pids.read_text().split()]
    assert len(children) == 2  # it did hang
    await until(lambda: not any(look(pid) for pid in children), "nobody is left")


async def test_a_daemon_that_holds_the_output_is_not_waited_for():
    """What a reload starts may keep its output open; it has succeeded all the same, and what it left lives."""
    began = time.monotonic()
    outcome = await run(["sh", "-c", "echo started; setsid sleep 20 & echo $!"], timeout_s=10)

    said, pid = outcome.output.split()
    assert (outcome.code, said) == (0, "started")
    assert time.monotonic() - began < 8
    await until(lambda: (found := look(int(pid))) is not None and "sleep" in found.title)
    os.kill(int(pid), signal.SIGKILL)


async def test_cancelling_ends_the_program_too(tmp_path):
    pids = tmp_path / "pids"
    task = asyncio.create_task(run(["sh", "-c", f"echo $$ > {pids}; sleep 300"], timeout_s=300))
    await until(lambda: pids.exists() and pids.read_text().strip())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert look(int(pids.read_text())) is None


async def test_a_flood_of_output_is_cut():
    outcome = await run(["head", "-c", "10000000", "/dev/zero"], timeout_s=30)
    assert (outcome.code, len(outcome.output)) == (0, MAX_OUTPUT)
