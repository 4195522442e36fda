"""A witness in its process: started, read while it goes on, ended; and what its windows come to together."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from bench.figures import percentile
from bench.witness import PORTS, TIMEOUT_S, WINDOW_S, Window, window_of

END_WITHIN_S = TIMEOUT_S + 15


class Sum(NamedTuple):
    """Windows together; times in milliseconds.

    Attributes:
        asked: questions.
        fresh: right answers that are not marked.
        marked: right answers that are marked as stale.
        failed: SERVFAIL and the like.
        wrong: answers that are not true.
        lost: questions without an answer.
        p50: that half of the answers took at most.
        p99: that 99 % of them took.
        longest: that one of them took.
        gap: the longest time between a right answer and the one before it.
    """

    asked: int
    fresh: int
    marked: int
    failed: int
    wrong: int
    lost: int
    p50: float
    p99: float
    longest: float
    gap: float

    @property
    def answered(self) -> float:
        """Part of the questions that were answered rightly."""
        return (self.fresh + self.marked) / self.asked if self.asked else 0.0

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.asked} asked, {self.fresh} right, {self.marked} right and marked as stale, {self.failed} failed,"
            f" {self.wrong} wrong, {self.lost} lost; p50 {self.p50:.2f}, p99 {self.p99:.2f},"
            f" longest {self.longest:.1f} ms; longest gap {self.gap:.1f} ms"
        )


def added(windows: Iterable[Window]) -> Sum:
    """What windows come to."""
    found = list(windows)
    took = [one for window in found for one in window.took]
    asked, fresh, marked, failed, wrong, lost = (
        sum(getattr(window, name) for window in found) for name in Sum._fields[:6]
    )
    p50, p99, longest = (percentile(took, percent) for percent in (50, 99, 100))
    gap = max((window.gap for window in found), default=0.0)
    return Sum(asked, fresh, marked, failed, wrong, lost, p50, p99, longest, gap)


class Watched:
    """Use as `with`; every figure is of a process that asks by itself.

    Args:
        folder: for its files.
        server: address and port.
        truth: lines for the witness, see there.
        rate: questions a second.
        seconds: how long at most.
        name: of its files.
        ports: from how many it asks.
        prefix: a command that runs the rest of its arguments, such as nsenter.
    """

    def __init__(
        self,
        folder: Path,
        server: tuple[str, int],
        truth: Iterable[str],
        rate: float,
        *,
        seconds: float = 3600.0,
        name: str = "witness",
        ports: int = PORTS,
        prefix: Sequence[str] = (),
    ) -> None:
        self._file, self._log = folder / f"{name}.truth", folder / f"{name}.log"
        self._file.write_text("\n".join(truth) + "\n", encoding="ascii")
        asking = [server[0], str(server[1]), f"{rate:g}", f"{seconds:g}", str(self._file), "--ports", str(ports)]
        self._command = [*prefix, sys.executable, "-m", "bench.witness", *asking]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def windows(self) -> list[Window]:
        """What it has told so far."""
        lines = self._log.read_text(encoding="ascii").split("\n")[:-1]  # the last one is not whole yet, or empty
        return [window_of(line) for line in lines]

    def wait(self, more: int, within_s: float = 60.0) -> None:
        """Wait for so many more windows.

        Raises:
            RuntimeError: the witness ended, or they did not come.
        """
        goal, deadline = len(self.windows()) + more, time.monotonic() + within_s
        while len(self.windows()) < goal:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the witness told {len(self.windows())} seconds, not {goal}")
            time.sleep(WINDOW_S / 20)

    def finished(self, within_s: float = 60.0) -> list[Window]:
        """Wait until its time is up; returns everything.

        Raises:
            RuntimeError: it failed.
        """
        if self._process.wait(within_s):
            raise RuntimeError(f"{self._command} failed with {self._process.returncode}")
        return self.windows()
