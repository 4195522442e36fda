"""A started program: its process id, its log, and how to end, pause and watch it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.waiting import LabError, wait_until

STOPPED = "T"  # state letter in /proc/PID/stat, proc(5)


class Process:
    """A program in the background; everything it prints goes to `log`.

    It runs in a session of its own, so that Ctrl-C in the terminal reaches only the lab, which ends it.
    Its id cannot be recycled before `wait` or `returncode` has seen the end, since we are its parent.
    """

    def __init__(self, command: list[str], *, name: str, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env), start_new_session=True
            )

    def __repr__(self) -> str:
        return f"<Process {self.name} pid={self.pid} {'alive' if self.alive else f'ended {self.returncode}'}>"

    @property
    def pid(self) -> int:
        """The process id, the same in the host and outside."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Not ended yet (a paused process is alive)."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative signal number that ended it, or None while it runs."""
        return self._popen.poll()

    def terminate(self, within_s: float = 15) -> int:
        """SIGTERM, then wait for the end; SIGKILL if it takes longer than `within_s`.

        Returns:
            The exit code; the negative signal number if a signal ended it.
        """
        self.send(signal.SIGTERM)
        try:
            return self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL this one process (not its children), and wait for its end."""
        self.send(signal.SIGKILL)
        return self._popen.wait(15)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP; returns when the kernel says that it stands still."""
        self.send(signal.SIGSTOP)
        wait_until(lambda: self.state == STOPPED, within_s=5, what=f"{self.name} to stand still")

    def resume(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    @property
    def state(self) -> str:
        """The state letter of proc(5): R, S, D, T, Z; empty when gone."""
        return state_of(self.pid)

    def wait(self, within_s: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            LabError: it still runs at the deadline.
        """
        try:
            return self._popen.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name} still runs after {within_s:g} s; its log ends:\n{self.tail()}") from error

    def reap(self) -> None:
        """Collect the end of a process that somebody else killed."""
        self._popen.wait(15)

    def text(self) -> str:
        """Everything it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 20) -> str:
        """The last lines it printed."""
        return "\n".join(self.text().splitlines()[-lines:])

    def wait_line(self, pattern: str, *, within_s: float, after: int = 0) -> re.Match[str]:
        """Wait until the log has a match of the regular expression `pattern` from character `after` on.

        Raises:
            LabError: the deadline passed, or the process ended without it; with the end of the log.
        """

        def seen() -> re.Match[str] | None:
            ended = not self.alive  # asked first: what it printed last must still be found
            match = re.compile(pattern, re.MULTILINE).search(self.text(), after)
            if match is None and ended:
                raise LabError(f"{self.name} ended ({self.returncode}) without {pattern!r}; it said:\n{self.tail()}")
            return match

        try:
            return wait_until(seen, within_s=within_s, what=f"{pattern!r} from {self.name}")
        except LabError as error:
            raise LabError(f"{error}\n{self.tail()}" if "timed out" in str(error) else str(error)) from error


def state_of(pid: int) -> str:
    """The state letter of a process, empty when there is none."""
    return _stat(pid)[0]


def started_at(pid: int) -> str:
    """When the process began, in ticks since boot (proc(5), field 22): with the id it names one process for good."""
    return _stat(pid)[19]


def is_same(pid: int, started: str) -> bool:
    """True when `pid` is still the process that began at `started`."""
    return bool(started) and started_at(pid) == started


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may itself hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [""] * 20
    return text.rpartition(")")[2].split()


def signal_recorded(pid: int, started: str, number: signal.Signals) -> bool:
    """Signal the process that was recorded; False when it is gone and its id perhaps another's."""
    if not is_same(pid, started):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
