"""Events on their way from the thread that reads them to the loop that takes them in; bounded, never lost silently."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator

from registrator.engines.engine import BrokenStream, EngineError, EngineUnavailable, Lines

MAX_QUEUE = 4096  # events; more at once than this is answered by listing again


class Inbox:
    """What the event thread has read and the loop has not taken yet; bounded.

    The thread only appends; the deque and the flags are safe to share so.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._raw: deque[dict[str, object]] = deque()
        self._arrived = asyncio.Event()
        self._called = False
        self._overflowed = False
        self._end: EngineError | None = None

    def put(self, found: list[dict[str, object]], end: EngineError | None = None) -> None:
        """In the thread: hand over events, or why there will be no more."""
        room = MAX_QUEUE - len(self._raw)
        self._raw.extend(found[:room])
        self._overflowed = self._overflowed or len(found) > room
        self._end = self._end or end
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
                self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """In the loop: let `wait` return."""
        self._called = False
        self._arrived.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something arrived; False when nothing did in time. Nothing more will come after the end."""
        if self._end is not None:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        self._arrived.clear()
        return True

    def take(self) -> list[dict[str, object]]:
        """What arrived, oldest first."""
        return [self._raw.popleft() for _ in range(len(self._raw))]

    def overflowed(self) -> bool:
        """True when events were dropped since the last time."""
        was, self._overflowed = self._overflowed, False
        return was

    def check(self) -> None:
        """Raise what ended the stream, once all that came before it is taken."""
        if self._end is not None and not self._raw:
            raise self._end


def pump(stream: Iterator[bytes], inbox: Inbox) -> None:
    """The event thread: reads until the stream ends or is closed."""
    lines = Lines()
    try:
        for chunk in stream:
            found = lines.feed(chunk)
            if found:
                inbox.put(found)
    except BrokenStream as error:
        inbox.put([], EngineUnavailable(f"the event stream broke: {error}"))
    except Exception as error:  # noqa: BLE001  the SDK's socket reading raises what it likes; the stream is over
        inbox.put([], EngineUnavailable(f"the event stream broke: {error}"))
    else:
        inbox.put([], EngineUnavailable("the event stream ended"))
