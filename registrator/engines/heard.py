"""What was heard of an engine's events, so that a new stream begins where the last one broke. Pure.

An engine remembers its last 256 events and tells those of `since` and later first. dockerd walks from the newest back
to the first that is older: after its clock was set back, all of before then look as if they were still to come. So
`since` is the earlier of two: when the last event was heard by the clock as it was then, and by the clock as it is
now. What is told once more because of that is known by having been heard.
Source: moby, daemon/events, SubscribeTopic and loadBufferedEvents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from registrator.engines.clock import LATE_S
from registrator.engines.engine import Event, Kind

REMEMBERED = 256  # as dockerd: what is older it does not tell again
# What the first stream tells from before it began: a container may have been sent its stop signal while a registrator
# was exchanged for another. Whatever else it tells, containers are looked at anyway then.
BEFORE_S = 60.0


class Heard:
    """What was heard, on all streams of an engine one after another."""

    def __init__(self) -> None:
        self._last: deque[Event] = deque(maxlen=REMEMBERED)
        self._before: frozenset[Event] = frozenset()  # by streams that have ended
        self._until: float | None = None  # when the last was heard, or the first stream began
        self._known_until = float("inf")
        self._at = 0.0  # and when by the engine's clock, as that was

    def begin(self, theirs: float, now: float) -> int | None:
        """A stream is to begin.

        Args:
            theirs: UNIX time in seconds by the engine's clock; 0: it does not say.
            now: seconds of a clock that is never set, read after the engine said that.

        Returns:
            UNIX time in seconds from which it is to be told; None: from now, by an engine that does not say its time.
        """
        self._before = frozenset(event for event in self._last if event.at)
        latest = max((event.at for event in self._last), default=self._at)
        self._known_until = float("inf") if self._until is None else latest
        if self._until is None:
            self._until, self._at = now, max(0.0, theirs - BEFORE_S)
            return int(self._at) or None
        then = theirs - (now - self._until) - LATE_S
        return int(min((at for at in (self._at, then if theirs else 0.0) if at), default=0.0)) or None

    def take(self, events: Iterable[Event], now: float, theirs: float) -> list[Event]:
        """Those of `events`, heard at `now`, that no earlier stream told.

        No signal of before the engine's clock was set back, whose time is still to come: nobody knows how long ago it
        was, unless it came after all that earlier streams told.

        Args:
            events: as they were told.
            now: as `begin` has it.
            theirs: UNIX time in seconds, by the engine's clock as it is now: the latest that it may be.
        """
        found = [event for event in events if event not in self._before]
        if found:
            self._last.extend(found)
            self._until, self._at = now, found[-1].at
        return [
            event
            for event in found
            if event.kind is not Kind.KILL or not theirs + LATE_S < event.at < self._known_until
        ]
