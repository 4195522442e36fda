"""Load checkers run in processes of their own, so that the tested program's loop and theirs do not share one.

A checker is a module with a `main()`: it prints "ready" when it begins, a count of answers whenever that changed (a few
times a second), writes one JSON object per line to the file given with --log, and ends by itself or at SIGTERM. All of
them, and the tests, tell time by CLOCK_MONOTONIC, which is one clock for the whole machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

ROOT = Path(__file__).parents[2]  # modules are found from here
END_WITHIN_S = 15.0

Row = TypeVar("Row")


class Aside:
    """A checker in its process; use as `async with`.

    Args:
        module: such as "tests.parts.checker".
        arguments: for its command line, without --log.
        log: where it writes its rows.
        netns: a network namespace made with `ip netns add`, in which it runs.
        prefix: instead, any command that runs the rest of its arguments, such as ("nsenter", "--net=/proc/7/ns/net").
    """

    def __init__(
        self, module: str, arguments: Sequence[str], log: Path, *, netns: str | None = None, prefix: Sequence[str] = ()
    ) -> None:
        enter = ("ip", "netns", "exec", netns) if netns else tuple(prefix)
        self.command = (*enter, sys.executable, "-m", module, *arguments, "--log", str(log))
        self.log = log
        self.answered = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._ready = False

    async def __aenter__(self) -> Self:
        quiet, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self.command, stdin=quiet, stdout=pipe, cwd=ROOT)
        self._reader = asyncio.create_task(self._read(self._process))
        try:
            await self._until(lambda: self._ready, "begin")
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            async with self._changed:
                self._ready = True
                self.answered = int(line) if line.strip().isdigit() else self.answered
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
        assert self._reader is not None
        async with asyncio.timeout(within_s), self._changed:
            while not condition():
                if self._reader.done():
                    raise RuntimeError(f"{self.command} ended before it could {what}")
                await self._changed.wait()

    async def until_answered(self, more: int, within_s: float = 30.0) -> None:
        """Wait for that many answers more than there are now, good or bad."""
        goal = self.answered + more
        await self._until(lambda: self.answered >= goal, f"get {goal} answers", within_s)

    async def finished(self, within_s: float = 60.0) -> None:
        """Wait until it ends by itself."""
        assert self._process is not None
        async with asyncio.timeout(within_s):
            if await self._process.wait():
                raise RuntimeError(f"{self.command} failed with {self._process.returncode}")

    async def stop(self) -> None:
        """End it, by force if it does not end in time."""
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reader

    def rows(self, kind: type[Row]) -> list[Row]:
        """What it has written so far; a last line that is not whole is left out."""
        return read_rows(self.log, kind)


def read_rows(log: Path, kind: type[Row]) -> list[Row]:
    """Read a log of JSON lines; a last line that is not whole is left out."""
    text = log.read_bytes() if log.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    return [msgspec.json.decode(line, type=kind) for line in whole.splitlines()]


class Progress:
    """The checker's end of it: writes rows, prints counts, and knows when to stop."""

    def __init__(self, log: str, seconds: float) -> None:
        # Unbuffered: a row is whole in the file before the next begins. Closed by __aexit__.
        self._file = Path(log).open("wb", buffering=0)  # noqa: SIM115
        self._seconds = seconds
        self._shown = self.answered = 0
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        self._timer = loop.call_later(self._seconds, self.stop.set)
        self._printer = asyncio.create_task(self._print())
        print("ready", flush=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._printer.cancel()
        self._show()
        self._file.close()

    def write(self, row: object) -> None:
        """Log one answer, good or bad."""
        self._file.write(msgspec.json.encode(row) + b"\n")
        self.answered += 1

    async def _print(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(0.05)

    def _show(self) -> None:
        if self.answered != self._shown:
            self._shown = self.answered
            with contextlib.suppress(BrokenPipeError):
                print(self._shown, flush=True)


def end_point(text: str) -> tuple[str, int]:
    """Split "10.0.0.1:80" or "[::1]:80"."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
