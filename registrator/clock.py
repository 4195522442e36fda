"""Times of day that stay right when the clock of the host is set.

What waits for a time of day (a draining container) was given it by the clock as it was. When that jumps, by hand, by
NTP's first step or over a suspend, what waits is to wait neither an hour longer nor end at once.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_DRIFT_S = 1.0  # between two looks: a clock that is slewed, or looks that lie far apart


class DayClock:
    """A clock of the time of day that tells when it was set.

    Args:
        now: UNIX time in seconds.
        steady: seconds of a clock that is never set.
        on_jump: called with the seconds that the time of day jumped by, before the new time is told to anybody.
    """

    def __init__(self, now: Callable[[], float], steady: Callable[[], float], on_jump: Callable[[float], None]) -> None:
        self._now, self._steady, self._on_jump = now, steady, on_jump
        self._ahead = now() - steady()

    def __call__(self) -> float:
        """UNIX time in seconds."""
        now = self._now()
        ahead = now - self._steady()
        jump, self._ahead = ahead - self._ahead, ahead
        if abs(jump) > MOST_DRIFT_S:
            self._on_jump(jump)
        return now
