"""One ordered queue per container: what concerns one is done one after another, and never waits for another one.

What piled up for a container is handed over together, so that a storm of events costs one look. A failed look is tried
again, alone: after a while, or as soon as an event or a list has the container, for then the engine has spoken. Who
wants a look because of the store wakes none: while the engine is away, a store that tries again would ask it each time.
A look that fails by a defect of ours is tried once more with its events, since nothing else tells of a signal.
Bounded: a container's pile keeps the newest events, and the engine is asked for only so many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.telemetry import Telemetry
from registrator.engines.engine import EngineError, Event, Kind

AT_ONCE = 8  # inspections in flight; the engine answers one in about a millisecond
MAX_PILE = 64  # events of one container that wait; all but the signals say the same, look, so they are dropped first
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 2.0

Handle = Callable[[str, Sequence[Event]], Awaitable[None]]


class Lanes:
    """Ordered work by container id.

    Args:
        handle: looks at one container; gets the events that have come since the last look, oldest first.
        telemetry: for what went wrong.

    Attributes:
        slots: a handler holds one while it asks the engine, and not while it waits for anything else.
    """

    def __init__(self, handle: Handle, telemetry: Telemetry) -> None:
        self._handle, self._telemetry = handle, telemetry
        self._piles: dict[str, list[Event]] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._woken: dict[str, asyncio.Event] = {}
        self.slots = asyncio.Semaphore(AT_ONCE)
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, container: str, event: Event | None = None, *, listed: bool = False) -> None:
        """Have a container looked at, because of an event, because it was just `listed`, or because of the store."""
        pile = self._piles.setdefault(container, [])
        if event is not None:
            pile.append(event)
            pile[:] = _bounded(pile)
        self._idle.clear()
        if container in self._busy:
            if listed or event is not None:
                self._woken[container].set()
        else:
            self._woken[container] = asyncio.Event()
            task = asyncio.get_running_loop().create_task(self._work(container))
            self._busy[container] = task
            task.add_done_callback(lambda _: self._done(container))

    @property
    def waiting(self) -> int:
        """How many containers are to be looked at, or are being looked at."""
        return len(self._piles.keys() | self._busy.keys())

    async def idle(self) -> None:
        """Wait until nothing is to be done."""
        await self._idle.wait()

    async def close(self) -> None:
        """Drop everything."""
        self._piles.clear()
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, container: str) -> None:
        backoff, woken = Backoff(FIRST_RETRY_S, LAST_RETRY_S), self._woken[container]
        tried: Sequence[Event] = ()  # handed over once, when a defect of ours kept them from being taken in
        while container in self._piles:
            events = self._piles.pop(container)
            woken.clear()
            try:
                await self._handle(container, events)
                backoff.reset()
                tried = ()
            except EngineError as error:
                self._put_back(container, events)
                self._telemetry.log.warning(
                    "container %s: %s", container[:12], error, extra={"cause": f"look {type(error).__name__}"}
                )
                await backoff.wait(woken)
            except Exception:  # whatever it is, it is said, and costs no signal its look
                self._telemetry.log.exception("container %s: the look at it broke", container[:12])
                tried = [event for event in events if event not in tried]
                if tried:
                    self._put_back(container, tried)
                await backoff.wait()  # the engine's word mends nothing here

    def _put_back(self, container: str, events: Sequence[Event]) -> None:
        self._piles[container] = _bounded([*events, *self._piles.get(container, [])])

    def _done(self, container: str) -> None:
        del self._busy[container], self._woken[container]
        if container in self._piles:
            self.put(container)
        elif not self._busy:
            self._idle.set()


def _bounded(pile: list[Event]) -> list[Event]:
    """The newest, and of these signals before others: nothing but its event tells of a signal."""
    least = sorted(range(len(pile)), key=lambda at: (pile[at].kind is Kind.KILL, at))
    dropped = frozenset(least[: max(0, len(pile) - MAX_PILE)])
    return [event for at, event in enumerate(pile) if at not in dropped]
