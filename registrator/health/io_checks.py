"""Dials the ports of containers until they answer for the first time.

Only where `checks.targets` says: the container's own address and port. The first attempt is made at once; then the wait
grows with the time that has passed, so that an application which needs long to start is not found much later than one
that is quick, and costs little meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from registrator.health.checks import Target

DIAL_TIMEOUT_S = 1.0
# TCP asks again after a second (RFC 6298 §2). A first packet that was lost because the container's network was just
# being made must not cost that second: a young port's dial is given up early, and begun anew.
FIRST_TIMEOUT_S = 0.1
AT_ONCE = 64  # dials in flight
SHORTEST_S = 0.02
LONGEST_S = 1.0
SHARE = 0.02  # of the time passed: an endpoint is found at most about this much later than it could be

# Where the address is not ours to reach, the next one is tried; a refusal is an answer: nobody listens yet.
_ELSEWHERE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL})


class Port(NamedTuple):
    """A port of a container: its id, the port, the protocol."""

    container: str
    port: int
    protocol: str


def patience(passed_s: float) -> float:
    """How long a dial may take, in seconds, `passed_s` after the first one.

    >>> patience(0.0), patience(0.5), patience(60.0)
    (0.1, 0.5, 1.0)
    """
    return min(DIAL_TIMEOUT_S, max(FIRST_TIMEOUT_S, passed_s))


async def answers(target: Target, within_s: float) -> bool | None:
    """Dial once.

    Returns:
        True when a connection was taken, False when it was refused, None when the address could not be reached.
    """
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(target.ip, target.port)
    except TimeoutError:
        return None
    except OSError as error:
        return None if error.errno in _ELSEWHERE else False
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await writer.wait_closed()
    return True


class Dials:
    """Dials in progress, one per port.

    Args:
        on_answer: called in the loop when a port answered.
    """

    def __init__(self, on_answer: Callable[[Port], None]) -> None:
        self._on_answer = on_answer
        self._tasks: dict[Port, tuple[tuple[Target, ...], asyncio.Task[None]]] = {}
        self._began: dict[Port, float] = {}  # of those that were not said to be overdue yet
        self._tried: dict[Port, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def want(self, container: str, wanted: Mapping[Port, tuple[Target, ...]]) -> None:
        """Dial exactly these ports of a container; others of it are dialled no longer."""
        for port in [port for port in self._tasks if port.container == container]:
            if wanted.get(port) != self._tasks[port][0]:
                self._stop(port)
        for port, targets in wanted.items():
            if port not in self._tasks:
                self._tried[port] = asyncio.Event()
                self._began[port] = asyncio.get_running_loop().time()
                task = asyncio.get_running_loop().create_task(self._dial(port, targets, self._tried[port]))
                self._tasks[port] = (targets, task)

    async def first(self, container: str, within_s: float) -> None:
        """Wait until every port of a container was tried once, or for `within_s`."""
        waits = [event.wait() for port, event in self._tried.items() if port.container == container]
        if waits:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await asyncio.gather(*waits)

    async def quiet(self, within_s: float) -> None:
        """Wait until every port has answered, or for `within_s`."""
        tasks = [task for _, task in self._tasks.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    @property
    def waiting(self) -> tuple[Port, ...]:
        """Ports that have not answered yet."""
        return tuple(self._tasks)

    def overdue(self, after_s: float) -> list[tuple[Port, tuple[Target, ...]]]:
        """Ports that have not answered for so long, each once, with where they were tried."""
        late = [port for port, began in self._began.items() if asyncio.get_running_loop().time() - began > after_s]
        for port in late:
            del self._began[port]
        return [(port, self._tasks[port][0]) for port in late]

    async def close(self) -> None:
        """Dial no more."""
        tasks = [task for _, task in self._tasks.values()]
        for port in list(self._tasks):
            self._stop(port)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, port: Port) -> None:
        _, task = self._tasks.pop(port)
        self._began.pop(port, None)
        self._tried.pop(port).set()
        task.cancel()

    async def _dial(self, port: Port, targets: tuple[Target, ...], tried: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        passed = 0.0
        while not await self._try(targets, patience(passed)):
            tried.set()
            passed = loop.time() - began
            await asyncio.sleep(delay_after(passed, random.random()))  # noqa: S311  jitter
        self._tasks.pop(port, None)
        self._began.pop(port, None)
        self._tried.pop(port, None)
        self._on_answer(port)
        tried.set()

    async def _try(self, targets: tuple[Target, ...], within_s: float) -> bool:
        for target in targets:
            async with self._slots:
                found = await answers(target, within_s)
            if found or (found is False and target.decides):
                return found
        return False


def delay_after(passed_s: float, jitter: float) -> float:
    """How long to wait before the next dial, `passed_s` after the first; `jitter` from 0 to 1.

    >>> delay_after(0.0, 1.0)
    0.02
    """
    return min(LONGEST_S, max(SHORTEST_S, passed_s * SHARE)) * (0.5 + jitter / 2)
