"""Times of day: the engine's beside ours, and ours when it is set. Pure: clocks are handed in, or their times are.

One rule: two times of one engine are compared as it told them (a signal before a start is of an earlier run); before a
time of the engine's meets one of ours, it is translated by `EngineClock`; and nothing that was told lies ahead of now.
What waits for a time of ours (a draining container) was given it by the clock as it was. When that jumps, by hand, by
NTP's first step or over a suspend, `DayClock` tells by how much: what waits is to wait neither an hour longer nor end
at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MOST_DRIFT_S = 1.0  # between two looks: a clock that is slewed, or looks that lie far apart
MOST_APART_S = 1.0  # two clocks that agree; an event's time is then taken as it is
LATE_S = 3.0  # an event that comes later than that was kept back, or the engine's clock was set since it was asked


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


class Moment(NamedTuple):
    """One moment by both clocks: the time of day, which may be set, and the steady one, which never is; seconds."""

    day: float
    steady: float


class EngineClock:
    """How far the engine's time of day is from ours; it may be another host's.

    Attributes:
        behind_s: seconds to add to a time of the engine's to have it in ours; 0 for clocks that agree.
    """

    def __init__(self) -> None:
        self.behind_s = 0.0
        self._width_s = 0.0
        self._asked_at = float("-inf")  # by the steady clock: when the question was put whose answer counts
        # The last event: when it was heard, how far behind it was, and by how much that may have been wrong.
        self._heard_at, self._heard_behind_s, self._heard_width_s = float("-inf"), 0.0, 0.0

    def asked(self, theirs: float, before: Moment, after: Moment) -> bool:
        """The engine said that it is `theirs`; it was asked at `before` and had answered at `after`.

        Several questions may be under way: what was asked earlier says nothing beside what was asked later, nor
        against an event that came later.

        Returns:
            False when our clock was set meanwhile: the answer says nothing then, and the engine is to be asked again.
        """
        took_s = after.steady - before.steady
        if abs(after.day - before.day - took_s) > MOST_DRIFT_S:
            return False
        if before.steady < self._asked_at:
            return True
        low, high = before.day - theirs, after.day - theirs
        late_s = LATE_S + self._heard_width_s
        if before.steady < self._heard_at and not low - late_s <= self._heard_behind_s <= high + late_s:
            return True  # its clock was set between the two, and which came first nobody knows: the next event tells
        self._asked_at, self._width_s = before.steady, took_s
        agree = low - MOST_APART_S <= 0 <= high + MOST_APART_S
        self.behind_s = 0.0 if agree else (low + high) / 2
        return True

    def theirs(self, now: float) -> float:
        """The latest that it may be by the engine's time of day when it is `now` by ours."""
        return now - self.behind_s + self._width_s

    def heard(self, at: float, now: Moment) -> None:
        """An event of the engine's came, which bears `at`, and no other time than it should."""
        self._heard_at, self._heard_behind_s, self._heard_width_s = now.steady, now.day - at, self._width_s

    def is_doubtful(self, at: float, now: float) -> bool:
        """True when an event that was told just now bears a time that is another than now: ask for the time anew."""
        return abs(now - at - self.behind_s) > LATE_S + self._width_s
