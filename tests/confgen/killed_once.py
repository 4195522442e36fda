"""Renders the resources of a confdir once, and is killed at a point that its arguments name: STAGE CONFDIR STATE.

Run by `test_resources_killed.py` in a process of its own. Without a stage (`-`) it lives.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from confgen.resources import io_ledger, io_placing, io_resources, io_stage
from confgen.settings import ConfgenSettings
from pilotfish.catalog.store import Entry, Reading
from pilotfish.catalog.telemetry import Telemetry

# Point -> whose function, which, and whether the end comes before or after it.
POINTS = {
    "before rendering": (io_placing.Placer, "_wanted", False),
    "rendered": (io_placing.Placer, "_wanted", True),
    "half a stage file": (os, "fchown", False),
    "staged": (io_stage, "stage", True),
    "checked": (io_placing.Placer, "_check", True),
    "before the reload is entered": (io_ledger.Ledger, "enter", False),
    "before the rename": (io_stage, "replace", False),
    "renamed": (io_stage, "replace", True),
    "before the reload": (io_resources, "reload_once", False),
    "reloaded": (io_ledger.Ledger, "cross_out", False),
    "crossed out": (io_ledger.Ledger, "cross_out", True),
}


def die_at(point: str) -> None:
    owner, name, after = POINTS[point]
    real = getattr(owner, name)

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def replaced(*args, **more):
        if not after:
            end()
        result = real(*args, **more)
        if asyncio.iscoroutine(result):
            return _ended(result)
        end()
        return result

    async def _ended(coroutine):
        await coroutine
        end()

    setattr(owner, name, replaced)


class Fixed:
    """A store that has one key, /x/one, with the value that the environment says."""

    async def read(self, *_):
        return Reading("c", 1, (Entry("/x/one", os.environ["VALUE"].encode(), 1, 1),))


def main() -> None:
    point, confdir, state = sys.argv[1:]
    if point != "-":
        die_at(point)
    settings = ConfgenSettings(confdir=confdir, state_dir=state)
    asyncio.run(io_resources.ResourcesService(settings, Fixed(), Telemetry("confgen", time.time)).once())


if __name__ == "__main__":
    main()
