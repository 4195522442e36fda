"""Whose turn it is: so many connections and so much time between two looks at everything else.

All connections are watched by one epoll of their own, which the event loop sees as a single file. The kernel reports
those that are ready in rotation, a few at a time; with a callback of the loop for each, a thousand clients that flood
us would have a thousand turns before UDP has one.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Protocol

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP  # reported whether it was asked for or not
_AT_ONCE = 16  # connections
_TURN_S = 0.0002  # for all of these together


class Taker(Protocol):
    """A connection, as the turns see it."""

    def ready(self, events: int, until: float) -> None:
        """Its socket can be read from or written to; go on until this time."""
        ...

    def work(self, until: float) -> None:
        """Go on with what was not finished."""
        ...


class Turns:
    """Gives connections their turns.

    Args:
        now: seconds, as those count them who are given a turn.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._takers: dict[int, tuple[Taker, int]] = {}
        self._line: deque[Taker] = deque()
        self._called = False
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, taker: Taker, events: int) -> None:
        """Say when an open file is ready for these events; in place of what was watched for before."""
        before = self._takers.get(fd)
        if before is None:
            self._epoll.register(fd, events)
        elif before[1] != events:
            self._epoll.modify(fd, events)
        self._takers[fd] = taker, events

    def forget(self, fd: int) -> None:
        """Watch a file no more; before it is closed."""
        if self._takers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def soon(self, taker: Taker) -> None:
        """Give it another turn, behind those that wait; a taker asks once."""
        if not self._epoll.closed:
            self._line.append(taker)
            self._call()

    def close(self) -> None:
        """Give no more turns."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._line.clear()

    def _ready(self) -> None:
        found = self._epoll.poll(0, _AT_ONCE)
        for fd, events in found:
            taker = self._takers.get(fd)
            if taker is not None:
                taker[0].ready(events, self._now() + _TURN_S / len(found))

    def _call(self) -> None:
        if not self._called and self._line:
            self._called = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._called = False
        count = min(len(self._line), _AT_ONCE)
        try:
            for _ in range(count):
                self._line.popleft().work(self._now() + _TURN_S / count)
        finally:
            self._call()
