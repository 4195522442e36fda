"""Answers that get older: bodies whose TTLs are counted down, and that end.

Pure: the clock is a value that whoever receives messages sets, once for each batch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from dnsserver.message import writer
from dnsserver.message.writer import Written
from dnsserver.outside import Asked

_TTL = struct.Struct("!I")
DUE_PART = 0.1  # of its life; whoever asks then makes that it is asked for again before it ends
LEAST_LIFE_S = 10.0  # what lives shorter is not worth asking for early


class Clock:
    """The time as of the batch at hand, and what is to be asked for again before it ends.

    Attributes:
        now: monotonic seconds.
        unix: UNIX time in seconds, looked at less often.
        due: in the order in which it came.
    """

    __slots__ = ("due", "now", "unix")

    def __init__(self, now: float = 0.0, unix: float = 0.0) -> None:
        self.now, self.unix = now, unix
        self.due: dict[Asked, None] = {}


class Aging:
    """A body, for as long as it may be repeated.

    Args:
        written: with the TTLs of `since`.
        since: monotonic seconds.
        expires: monotonic seconds from which on it is no answer any more.
        clock: says what time it is.
        asked: what to ask for again when it is soon over; None: nothing.
        turning: give its addresses in turn.
    """

    __slots__ = ("_age", "_asked", "_clock", "_due_from", "_expires", "_next", "_since", "_turning", "_written")

    def __init__(
        self, written: Written, since: float, expires: float, clock: Clock, asked: Asked | None, *, turning: bool
    ) -> None:
        self._written, self._since, self._expires = written, since, expires
        self._clock, self._asked, self._turning = clock, asked, turning
        life = expires - since
        self._due_from = expires - life * DUE_PART if asked and life >= LEAST_LIFE_S else float("inf")
        self._age = -1
        self._next: Callable[[], bytes] | None = None

    def __call__(self) -> bytes | None:
        """The next turn of the body, or None when its time is over."""
        now = self._clock.now
        if now >= self._expires:
            return None
        age = int(now - self._since)
        if age != self._age or self._next is None:
            self._next = self._aged(age)
        if now >= self._due_from and self._asked is not None:
            self._clock.due[self._asked] = None
            self._due_from = float("inf")  # once is enough
        return self._next()

    def _aged(self, age: int) -> Callable[[], bytes]:
        self._age = age
        body = bytearray(self._written.body)
        for at in self._written.ttls:
            _TTL.pack_into(body, at, max(0, _TTL.unpack_from(body, at)[0] - age))
        return writer.turns(self._written._replace(body=bytes(body)), turning=self._turning)
