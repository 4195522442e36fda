"""A few daemon threads for blocking calls, with a bounded line before them.

Unlike the interpreter's own pool, a thread that hangs in a call does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_Job = Callable[[], None]

MAX_WAITING = 1000


class Busy(Exception):
    """Too many calls wait already."""


class Workers:
    """Runs blocking functions in threads of its own.

    Args:
        threads: how many calls can be in flight.
        name: of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def call(self, work: Callable[[], T], timeout_s: float) -> T:
        """Run `work` and wait for it.

        Raises:
            TimeoutError: it did not come back in time; it goes on in its thread until its own timeout.
            Busy: too many calls wait.
        """
        if self._jobs.qsize() >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} calls are waiting")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put(lambda: _run(work, done, loop))
        async with asyncio.timeout(timeout_s):
            return await done

    async def close(self, within_s: float) -> None:
        """Let the threads end when they are idle; wait for them, but not for one that hangs."""
        for _ in self._threads:
            self._jobs.put(None)
        await asyncio.to_thread(self._join, time.monotonic() + within_s)

    def _join(self, deadline: float) -> None:
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _run(work: Callable[[], T], done: asyncio.Future[T], loop: asyncio.AbstractEventLoop) -> None:
    if done.cancelled():
        return
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
        outcome.set_result(work())
    except Exception as error:  # noqa: BLE001  handed to whoever waits
        outcome.set_exception(error)
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits
        loop.call_soon_threadsafe(_hand_over, outcome, done)


def _hand_over(outcome: concurrent.futures.Future[T], done: asyncio.Future[T]) -> None:
    if done.done():
        return
    error = outcome.exception()
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(outcome.result())
