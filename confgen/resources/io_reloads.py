"""Reload commands: each is run once for all resources that share it, after all their files, until it succeeds.

A command that is due stays due over failures, restarts and kills (`io_ledger`). While it fails it is tried again with
growing waits, and at once when another file of it changes. A command of a file that is gone is tried LAST_TRIES times.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from prometheus_client import Counter

from confgen.io_command import CannotRun, Outcome, run
from confgen.io_thread import in_thread
from confgen.resources import resource
from confgen.resources.io_ledger import Ledger, hashed
from confgen.resources.io_placing import told
from confgen.resources.resource import Command
from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.telemetry import Telemetry

TOGETHER_S = 2.0  # how long a reload waits for other resources that share it; a slow check must not hold it longer
FINISH_S = 5.0  # how long a command that runs may go on when we end
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
LAST_TRIES = 4  # of a command that belongs to no file any more; it may fail just because that is gone


async def reload_once(command: Command, timeout_s: float) -> str:
    """Run a reload command; "" when it succeeded, else how it ended."""
    try:
        outcome: Outcome = await run(resource.argv(command), timeout_s=timeout_s)
    except CannotRun as error:
        return str(error)
    return "" if outcome.code == 0 else told(outcome.code, outcome.output)


class Reloads:
    """All reload commands that were due in this process.

    Args:
        ledger: where a command is crossed out when it succeeded.
        telemetry: of the part.
        between_s: least time between two runs of one command.
        busy: whether a resource that shares a command is being placed right now.
        wanted: whether there is a file that a command belongs to.

    Attributes:
        settled: to be set whenever a resource was placed.
        failing: commands that failed last, with how.
    """

    def __init__(
        self,
        ledger: Ledger,
        telemetry: Telemetry,
        between_s: float,
        busy: Callable[[Command], bool],
        wanted: Callable[[Command], bool],
    ) -> None:
        self._ledger, self._telemetry, self._between_s = ledger, telemetry, between_s
        self._busy, self._wanted = busy, wanted
        self._due: dict[Command, asyncio.Event] = {}
        self._tasks: dict[Command, asyncio.Task[None]] = {}
        self._timeouts: dict[Command, float] = {}
        self._counted: dict[Command, frozenset[int]] = {}  # what the last run that began counts for
        self.settled = asyncio.Event()
        self.failing: dict[Command, str] = {}
        self._runs = Counter(
            "pilotfish_confgen_reloads", "Reload commands of template resources", ["outcome"],
            registry=telemetry.registry,
        )  # fmt: skip

    def due(self, command: Command, timeout_s: float, tasks: asyncio.TaskGroup) -> None:
        """A command has to be run, unless a run that has begun counts for all its files."""
        self._timeouts[command] = timeout_s
        if self._ledger.begun(command) <= self._counted.get(command, frozenset()):
            return
        if command not in self._tasks:
            self._due[command] = asyncio.Event()
            self._tasks[command] = tasks.create_task(self._look_after(command))
        self._due[command].set()

    def forget(self, keep: Callable[[Command], bool]) -> None:
        """Stop trying commands that no resource has any more."""
        for command in [command for command in self._tasks if not keep(command)]:
            self._tasks[command].cancel()
            self._drop(command)

    def _drop(self, command: Command) -> None:
        for known in (self._tasks, self._due, self._timeouts, self._counted):
            known.pop(command, None)
        self._good(command)

    @property
    def known(self) -> tuple[Command, ...]:
        """The commands that are looked after."""
        return tuple(self._tasks)

    async def _look_after(self, command: Command) -> None:
        due, last, tries = self._due[command], float("-inf"), 0
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while True:
            await due.wait()
            await self._together(command)
            await asyncio.sleep(max(0.0, last + self._between_s - time.monotonic()))
            due.clear()
            last, entries = time.monotonic(), self._ledger.begun(command)
            self._counted[command] = entries
            error = await self._run(command, entries)
            self._runs.labels("failed" if error else "done").inc()
            tries = 0 if self._wanted(command) else tries + 1
            if error and tries < LAST_TRIES:
                self._bad(command, error)
                await backoff.wait(due)
                due.set()
                continue
            backoff.reset()
            self._good(command)
            await in_thread(lambda entries=entries: self._ledger.cross_out(command, entries))  # type: ignore[misc]
            self._say(command, error)
            if tries and not due.is_set():
                self._drop(command)
                return
            tries = 0

    def _say(self, command: Command, error: str) -> None:
        if error:
            said = "reload_cmd of a file that is gone failed %d times, and is given up: %s"
            self._telemetry.log.warning(said, LAST_TRIES, error, extra={"command": shown(command)})
        else:
            self._telemetry.log.info("reloaded", extra={"command": shown(command)})

    async def _run(self, command: Command, entries: frozenset[int]) -> str:
        """Run a command; when we are told to end, it may finish first."""
        running = asyncio.ensure_future(reload_once(command, self._timeouts[command]))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running}, timeout=FINISH_S)
            if running.done() and running.result() == "":
                self._ledger.cross_out(command, entries)
            running.cancel()
            await asyncio.wait({running})
            raise

    async def _together(self, command: Command) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOGETHER_S):
                while self._busy(command):
                    self.settled.clear()
                    await self.settled.wait()

    def _bad(self, command: Command, error: str) -> None:
        self.failing[command] = error
        self._telemetry.ready.bad(f"reload {shown(command)}", error)
        self._telemetry.log.error(
            "reload_cmd failed, and is tried again: %s",
            error,
            extra={"command": shown(command), "cause": hashed(command)},
        )

    def _good(self, command: Command) -> None:
        self.failing.pop(command, None)
        self._telemetry.ready.good(f"reload {shown(command)}")


def shown(command: Command) -> str:
    """A command as people read it."""
    text = command if isinstance(command, str) else " ".join(command)
    return text if len(text) <= 100 else f"{text[:97]}..."
