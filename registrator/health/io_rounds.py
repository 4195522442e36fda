"""Runs the checks that CHECK_* tags ask for, round after round.

A task per port. The first check is made at once, unless the port is known to pass: then it waits for a part of its
interval, so that a registrator that starts again does not ask a thousand containers in one instant. Until a port passes
for the first time it is asked more often than its interval says, as a port that is dialled would be: what starts
quickly is found quickly. So is one in a hurry, until it was found well or ill as often as its thresholds ask. Only so
many checks are under way at once; time spent waiting for a turn is no time of the check.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

from registrator.health.checks import Target
from registrator.health.io_checks import Port, delay_after
from registrator.health.io_probe import Authorities, ask
from registrator.health.progress import Progress
from registrator.rules.probe import How, Probe

JITTER = 0.1  # of the interval, to either side
QUICKEST_S = 0.1  # between two checks of a port that has not passed yet: an application at its start has other work
QUICKEST_SCRIPT_S = 1.0
MOST_OF_ONE = 8  # checks of one container under way: whose checks all hang must not take every turn
MOST_SCRIPTS = 16  # scripts under way: each is a process


class _Round:
    """One port's checks."""

    def __init__(self, progress: Progress, targets: tuple[Target, ...], started: float) -> None:
        self.probe, self.targets, self.started = progress.probe, targets, started
        self.opened = progress.opened
        self.tried, self.decided = asyncio.Event(), asyncio.Event()
        self.hurries = False
        self.task: asyncio.Task[None] | None = None
        self._well, self._in_row = False, 0

    def note(self, *, well: bool) -> None:
        """Take in a result: it is decided once so many in a row say the same as its thresholds ask."""
        self._in_row = self._in_row + 1 if well is self._well else 1
        self._well, self.opened = well, self.opened or well
        if self._in_row >= (self.probe.rise if well else self.probe.fall):
            self.decide()

    def decide(self) -> None:
        """Nobody waits for it any more."""
        self.hurries = False
        self.decided.set()


class Rounds:
    """Checks in progress, one task a port.

    Args:
        on_result: called in the loop with every result: the port, and what is wrong, "" for nothing.
        at_once: how many checks may be under way.
        check_dir: folder of the scripts.
    """

    def __init__(self, on_result: Callable[[Port, str], None], at_once: int, check_dir: str) -> None:
        self._on_result = on_result
        self._check_dir, self._authorities = check_dir, Authorities()
        self._slots, self._scripts = asyncio.Semaphore(at_once), asyncio.Semaphore(MOST_SCRIPTS)
        self._of: dict[str, asyncio.Semaphore] = {}
        self._rounds: dict[Port, _Round] = {}

    def want(
        self, container: str, wanted: Mapping[Port, tuple[Progress, tuple[Target, ...]]], started: float = 0.0
    ) -> None:
        """Check exactly these ports of a container, each as it stands.

        Args:
            container: its id.
            wanted: how each port stands, and where it is asked.
            started: when its process was. Another one is checked at once, and what the old one says does not count.
        """
        for port in [port for port in self._rounds if port.container == container]:
            progress, targets = wanted.get(port, (None, ()))
            one = self._rounds[port]
            if progress is None or (progress.probe, targets, started) != (one.probe, one.targets, one.started):
                self._stop(port)
        if wanted:
            self._of.setdefault(container, asyncio.Semaphore(MOST_OF_ONE))
        else:
            self._of.pop(container, None)
        for port, (progress, targets) in wanted.items():
            if port in self._rounds:
                self._rounds[port].opened = progress.opened
                continue
            one = self._rounds[port] = _Round(progress, targets, started)
            turns = self._of[container], self._scripts if progress.probe.how is How.CMD else self._slots
            one.task = asyncio.get_running_loop().create_task(self._run(port, one, turns, known=progress.passing))

    def waits(self, container: str | None = None) -> list[asyncio.Event]:
        """What is set as soon as a port was asked once; of one container, or of all."""
        return [one.tried for port, one in self._rounds.items() if container in {None, port.container}]

    def hurry(self, container: str) -> list[asyncio.Event]:
        """Ask often until each check of a container has decided, or `calm`; what is set as soon as one has."""
        found = [one for port, one in self._rounds.items() if port.container == container]
        for one in found:
            one.hurries = not one.decided.is_set()
        return [one.decided for one in found]

    def calm(self, container: str) -> None:
        """Ask as often as usual."""
        for port, one in self._rounds.items():
            one.hurries = one.hurries and port.container != container

    async def close(self) -> None:
        """Check no more."""
        tasks = [one.task for one in self._rounds.values() if one.task]
        for port in list(self._rounds):
            self._stop(port)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, port: Port) -> None:
        one = self._rounds.pop(port)
        one.tried.set()
        one.decide()
        if one.task:
            one.task.cancel()

    async def _run(
        self, port: Port, one: _Round, turns: tuple[asyncio.Semaphore, asyncio.Semaphore], *, known: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        if known:
            one.tried.set()
            one.decide()
            await asyncio.sleep(one.probe.interval_s * random.random())  # noqa: S311  jitter
        began = loop.time()
        while True:
            async with turns[0], turns[1]:
                problem = await self._ask(one)
            if problem is not None:
                one.note(well=not problem)
                self._on_result(port, problem)
            one.tried.set()
            usual = one.opened and not one.hurries
            await asyncio.sleep(pause_s(one.probe, usual, loop.time() - began, random.random()))  # noqa: S311

    async def _ask(self, one: _Round) -> str | None:
        try:
            return await ask(one.probe, one.targets, self._check_dir, self._authorities)
        except Exception as error:  # noqa: BLE001  a fault of ours would end the rounds unseen: so it is seen
            return f"the check itself broke: {type(error).__name__}"


def pause_s(probe: Probe, opened: bool, passed_s: float, jitter: float) -> float:
    """Seconds until the next check, `passed_s` after the first; `jitter` from 0 to 1.

    >>> from registrator.rules.probe import How, Probe
    >>> pause_s(Probe(How.TCP), True, 60.0, 0.5), pause_s(Probe(How.TCP), False, 0.0, 0.5)
    (10.0, 0.1)
    """
    usual = probe.interval_s * (1 + JITTER * (2 * jitter - 1))
    if opened:
        return usual
    quickest = QUICKEST_SCRIPT_S if probe.how is How.CMD else QUICKEST_S
    return min(usual, max(quickest, delay_after(passed_s, jitter)))
