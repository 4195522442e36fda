"""kill -9 at every stage of a rendering: nothing lies about afterwards, and nothing that changed goes unreloaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pilotfish.catalog.store import StoreUnavailable
from tests.confgen.killed_once import POINTS
from tests.confgen.kit import until

TEXT = '{{getv "/x/one"}}'


def keep(place):
    """A reload that writes down what the file says."""
    return f"cat {place.out()} >> {place.log}; echo >> {place.log}"


def run(place, point, value):
    command = [sys.executable, "-m", "tests.confgen.killed_once", point, place.path / "c", place.path / "state"]
    return subprocess.run(
        command, env={**os.environ, "VALUE": value}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("point", POINTS)
async def test_fault_C7_killed_and_started_again(place, point):
    """The next start finds a file that is old or new and whole, removes what was staged, and reloads what is due."""
    place.resource("a", TEXT, check_cmd="test -s {{.src}}", reload_cmd=keep(place))
    assert run(place, "-", "old").returncode == 0
    killed = run(place, point, "new")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert place.text() in {"old", "new"}
    await place.put(one="new")
    async with place.running():
        await until(lambda: place.text() == "new" and place.lines()[-1] == "new")
        await until(lambda: place.missing() == {} and place.strays() == [] and place.due() == [])
    tries = len(place.lines())
    async with place.running() as service:
        await until(lambda: [one["status"] for one in service.state()["resources"]] == ["in sync"])

    assert len(place.lines()) == tries  # nothing is due any more


async def test_fault_C7_what_is_due_does_not_wait_for_the_store(place):
    """The store is away when we start again: the file is in place, so its reload needs nothing from there."""

    class Away:
        async def read(self, *_):
            raise StoreUnavailable("nobody answers")

        survey = read

    place.resource("a", TEXT, reload_cmd=keep(place))
    assert run(place, "before the reload", "new").returncode == -signal.SIGKILL
    async with place.running(store=Away()):
        await until(lambda: place.lines() == ["new"] and place.due() == [])


async def test_fault_C7_once_finds_what_is_due_as_well(place):
    """`-onetime` from cron: the reload that was killed is made up for, although no file changes."""
    place.resource("a", TEXT, reload_cmd=keep(place))
    killed = run(place, "before the reload", "new")
    assert (killed.returncode, place.text(), place.lines()) == (-signal.SIGKILL, "new", [])

    assert run(place, "-", "new").returncode == 0
    assert run(place, "-", "new").returncode == 0
    assert place.lines() == ["new"]


async def test_fault_C7_killed_while_files_of_several_items_are_made(place):
    """A file that was made for an item that is gone after the restart is removed."""
    place.resource("a", "x", dest=f"{place.path}/out/{{{{.name}}}}.conf", for_each="/x/*")
    killed = run(place, "renamed", "1")
    assert (killed.returncode, place.out("one.conf").exists()) == (-signal.SIGKILL, True)

    await place.service().once()  # where /x/one is no more

    assert list((place.path / "out").iterdir()) == []
