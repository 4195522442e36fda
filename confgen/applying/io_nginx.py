"""Runs, signals and questions one nginx.

nginx makes itself a daemon: it has its own session and a pid file, so it outlives us, and a config generator that
starts again finds it by that file and by what /proc says of the pid. Whether a configuration is really served is
never concluded from an exit code: a reload whose port is taken passes `nginx -t`, exits 0 and changes nothing. It is
asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from confgen.applying import io_processes
from confgen.applying.blame import graves, lines_of
from confgen.applying.io_logs import set_aside
from confgen.io_command import CannotRun, Outcome, run
from confgen.io_thread import in_thread

START_TIMEOUT_S = 15.0  # nginx itself tries for 2.5 s to listen
ASK_TIMEOUT_S = 1.0
ASK_EVERY_S = 0.01
ANSWERS_IN_A_ROW = 3  # after the last older worker was seen to stop: it may still have been closing its sockets
STOP_S = 3.0
LEAVE_S = 2.0
MAX_LOG = 256 * 1024  # octets of the error log read after a reload
# A configuration takes 90 kB of memory a service, which nginx asks for page by page: with pages of 2 MB, where the
# kernel gives them to who asks ("madvise"), it is read in two thirds of the time. glibc from 2.35; others do not care.
HUGE_PAGES = MappingProxyType({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})


class Served(NamedTuple):
    """What one worker answered: its configuration's generation, and its process id."""

    generation: str
    worker: int


class NotServing(Exception):
    """nginx does not do what it was told; the message holds its own words where there are any.

    Attributes:
        refused: these are its own words about what it was given.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class NotRunning(NotServing):
    """There is no nginx to tell, and it is not ours to start one."""


class Nginx:
    """One nginx over one folder.

    Args:
        program: the binary.
        folder: absolute; see `io_files`.
        ours: True: start it when it does not run. False: somebody else does.
        check_timeout_s: how long `nginx -t` may take.
    """

    def __init__(self, program: str, folder: Path, *, ours: bool, check_timeout_s: float) -> None:
        self._program, self._folder, self.ours = program, folder, ours
        self._check_timeout_s = check_timeout_s
        self._config = folder / "current" / "nginx.conf"
        self._socket = folder / "run" / "generation.sock"
        self._pid_file = folder / "run" / "nginx.pid"
        self._errors = folder / "logs" / "error.log"
        self._replaced: frozenset[int] = frozenset()  # workers that the last reload is to replace
        self._told = False  # it was a reload of ours
        self._mark = 0  # where the error log ended before the last reload

    async def check(self, config: Path, patience: float = 1.0) -> Outcome:
        """Let nginx read a configuration where it is staged (`nginx -t`); it may take some times the usual time.

        Raises:
            CannotRun: the program is missing.
        """
        argv = self._argv(config, "stderr", "-t")
        return await run(argv, timeout_s=self._check_timeout_s * patience, unset=HUGE_PAGES)

    def _argv(self, config: Path, errors: str, *more: str) -> list[str]:
        # The configuration comes first: the title has room for as many octets as the command and, up to the first
        # variable that glibc replaces by a copy, the environment, and 22 of them go to "nginx: master process ".
        return [self._program, "-c", str(config), "-p", f"{self._folder}/", "-e", errors, *more]

    @property
    def pid(self) -> int:
        """The running master's process id; 0 when there is none that is ours."""
        pid = self._recorded_pid()
        found = io_processes.look(pid) if pid else None
        if found is None or not found.title.startswith(io_processes.MASTER):
            return 0
        return pid if not self.ours or f" {self._config} " in f"{found.title} " else 0

    def generations(self) -> int:
        """How many generations of workers live; 0 when it does not run."""
        master = self.pid
        return io_processes.generations_of(master) if master else 0

    def _recorded_pid(self) -> int:
        try:
            text = self._pid_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return 0
        return int(text) if text.isdigit() and len(text) < 10 else 0

    async def reload(self, patience: float = 1.0) -> None:
        """Make nginx read `current`: tell the running one, or start it, which may take some times the usual time.

        Raises:
            NotRunning: it does not run, and is not ours to start.
            NotServing: it did not start, or cannot be told; the message holds its own words.
        """
        master = self.pid
        self._mark = self._end_of_log()
        if not master:
            await self._start(START_TIMEOUT_S * patience)
            return
        self._replaced = io_processes.workers_of(master)
        try:
            os.kill(master, signal.SIGHUP)
        except OSError as error:
            raise NotServing(f"nginx ({master}) cannot be signalled: {error.strerror}") from error
        self._told = True

    def found(self) -> None:
        """Prepare to prove what somebody else made it read: what it said before does not count."""
        self._mark, self._told = self._end_of_log(), False
        self._replaced = io_processes.former_of(self.pid)

    def _end_of_log(self) -> int:
        return self._errors.stat().st_size if self._errors.exists() else 0

    async def _start(self, timeout_s: float) -> None:
        if not self.ours:
            raise NotRunning(f"no nginx runs with {self._pid_file}")
        await self._send_orphans_home()
        for left in (
            *self._socket.parent.glob("*.sock"),
            *(self._folder / "inner").glob("*.sock"),
        ):  # of one that was killed
            left.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)
        self._replaced = frozenset()
        try:
            outcome = await run(self._argv(self._config, str(self._errors)), timeout_s=timeout_s, unset=HUGE_PAGES)
        except CannotRun as error:
            raise NotServing(str(error)) from error
        if outcome.code != 0:
            refused = outcome.code is not None and bool(outcome.output)
            raise NotServing(outcome.output or f"nginx ended with code {outcome.code}", refused=refused)

    async def _send_orphans_home(self) -> None:
        """Workers whose master was killed hold its listening sockets: no other nginx could listen there."""
        master = self._recorded_pid()
        orphans = io_processes.orphans_of(master) if master and not io_processes.look(master) else frozenset()
        _signal(orphans, signal.SIGQUIT)
        if not await _within(LEAVE_S, lambda: not io_processes.still_accepting(orphans)):
            _signal(io_processes.still_accepting(orphans), signal.SIGTERM)
            await _within(LEAVE_S, lambda: not io_processes.still_accepting(orphans))

    async def served(self) -> Served | None:
        """Ask a new connection which configuration its worker has; None when nobody answers as nginx should."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(b"GET / HTTP/1.0\r\nHost: generation.invalid\r\n\r\n")
                    answer = await reader.read(4096)
                    while answer and (more := await reader.read(4096)):
                        answer = (answer + more)[:4096]
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        return _parsed(answer)

    async def prove(self, generation: str, *, timeout_s: float) -> None:
        """Wait until every new connection sees a generation and no older worker accepts any more.

        Raises:
            NotServing: not within `timeout_s`, or nginx said before that it will not.
        """
        deadline, in_a_row = time.monotonic() + timeout_s, 0
        while time.monotonic() < deadline:
            old_ones = io_processes.still_accepting(self._replaced)
            self._relieve(old_ones)
            answer = await self.served()
            in_a_row = in_a_row + 1 if answer and answer.generation == generation and not old_ones else 0
            if in_a_row >= ANSWERS_IN_A_ROW:
                return
            if graves(said := self._said("emerg", "alert")):
                raise NotServing(
                    said, refused=bool(lines_of(said, ("emerg",)))
                )  # a worker that dies may be anybody's fault
            await asyncio.sleep(ASK_EVERY_S)
        raise NotServing(
            self._said("emerg") or f"new connections did not see the new configuration within {timeout_s:g} s"
        )

    def _relieve(self, old_ones: frozenset[int]) -> None:
        """Have workers finish that a reload of ours replaces, if as many newer ones listen.

        Their master tells them the same, but only 0.1 s after it has started the newer ones ("allow new processes to
        start", ngx_process_cycle.c); until then they take most new connections, since the kernel wakes who has waited
        longest. It takes no notice of their end before it has told them, so it starts none in their place.
        """
        if not (old_ones and self._told):
            return
        listening = io_processes.listening_of(self.pid)
        # One that died before the signal came has been replaced by one of the old configuration: that is not enough.
        if len(listening - self._replaced) < len(self._replaced):
            return
        for one in old_ones & listening:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGQUIT)

    def _said(self, *levels: str) -> str:
        """The lines of some levels that nginx wrote into its error log since the last reload."""
        try:
            with self._errors.open("rb") as log:
                log.seek(self._mark)
                text = log.read(MAX_LOG).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(lines_of(text, levels))

    async def rotate(self, most: int) -> bool:
        """Set aside logs that have grown to `most` octets; True when there were any.

        Raises:
            OSError: they cannot be renamed.
        """
        if not await in_thread(lambda: set_aside(self._errors.parent, most)):
            return False
        if master := self.pid:
            _signal({master}, signal.SIGUSR1)
        return True

    async def stop(self) -> None:
        """End nginx: let it finish for a moment, then insist."""
        master = self.pid  # asked once: nginx removes its pid file some time before it ends
        for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL):
            if not master or not io_processes.look(master):
                return
            _signal({master}, number)
            await _within(STOP_S, lambda: not io_processes.look(master))


def _parsed(answer: bytes) -> Served | None:
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    words = body.split()
    if " 200 " not in head.partition("\r\n")[0] or len(words) != 2 or not words[1].isdigit():
        return None
    return Served(words[0], int(words[1]))


def _signal(pids: frozenset[int] | set[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


async def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(ASK_EVERY_S)
    return True
