"""Runs a program: without a shell, for a bounded time, with bounded output, and with all its children ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

MAX_OUTPUT = 64 * 1024  # octets kept of what a program prints; the rest is read and dropped
LEFT_OPEN_S = 0.5  # how long output is waited for after the program's end
END_S = 2.0  # a killed program is gone within this time, unless the kernel holds it


class Outcome(NamedTuple):
    """How a program ended.

    Attributes:
        code: exit code; negative for a signal; None when it had to be killed because its time was over.
        output: standard output and error together, as text.
    """

    code: int | None
    output: str


class CannotRun(Exception):
    """A program cannot be started; the message names it and why."""


async def run(argv: Sequence[str], *, timeout_s: float, unset: Mapping[str, str] = MappingProxyType({})) -> Outcome:
    """Run a program to its end.

    It gets a session and process group of its own, which is killed as a whole when the time is over or we are
    cancelled. A daemon that it leaves behind, in a session of its own, is not touched.

    Args:
        argv: the program and its arguments.
        timeout_s: how long it may take.
        unset: what it has in its environment where ours says nothing.

    Raises:
        CannotRun: it does not exist, or may not be run.
    """
    ours, theirs = os.pipe()  # our own, since a process with a pipe of asyncio's has not ended before that is closed
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {name: value for name, value in unset.items() if name not in os.environ},
        )
    except (OSError, ValueError) as error:
        os.close(ours)
        raise CannotRun(f"{argv[0]} cannot be run: {getattr(error, 'strerror', None) or error}") from error
    finally:
        os.close(theirs)
    kept = bytearray()
    reading = asyncio.ensure_future(_read(ours, kept))
    try:
        async with asyncio.timeout(timeout_s):
            code = await process.wait()
        await asyncio.wait({reading}, timeout=LEFT_OPEN_S)  # a daemon that it left may hold it open for ever
        return Outcome(code, kept.decode(errors="replace"))
    except TimeoutError:
        return Outcome(None, f"{argv[0]} did not end within {timeout_s:g} s and was killed")
    finally:
        reading.cancel()
        await _end(process)
        await asyncio.wait({reading})


async def _read(handle: int, kept: bytearray) -> None:
    """Collect what comes out of a pipe, and close it."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(handle, "rb", 0)
    )
    try:
        while piece := await stream.read(16384):
            kept += piece[: MAX_OUTPUT - len(kept)]
    finally:
        transport.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()
