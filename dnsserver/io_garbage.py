"""When Python's collector looks for garbage in cycles: often at what is new, seldom at all that is held.

What is there stays for long: records and finished answers. A look at all of it holds up answers for a fifth of a second
and more, so what outlived a look at what is new is set aside (`gc.freeze`). What was set aside and then became garbage
in a cycle stays, until all is looked at: when nobody asks, or when this process has grown to twice its size since.

Measured (Python 3.11, milliseconds of CPU on a busy machine, most of six looks):

    new answers, each with its record decoded, between two looks      0     50    200    500   1,000
    a look, 12,000 answers made before                             0.12   0.78   2.21   1.84    0.30
    the longest of Python's own passes between                        0   0.23   2.09   3.53    2.45
    a look with 1000, 4 and 3000 for the bounds below, 100,000 held 0.32   2.12   6.07   6.98      -

The last row is why the bounds are a third of that. With 100,000 answers held, which are 860,000 objects: setting aside
and taking back 0.001 ms; counting what is set aside (gc.get_freeze_count), which is therefore not done, 90 ms; a look
at all 400 to 660 ms.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

THRESHOLDS = (400, 3, 1000)  # objects and rounds between two looks of Python's own, at what is new
FEW = 1000  # objects, as gc.get_count() counts, that are looked at again each time rather than set aside
QUIET_S = 2.0  # without a question: then a pause is in nobody's way
ALL_S = 600.0  # between two looks at all, when it is quiet
GROWTH = 2  # times the size after the last look at all, and
GROWN = 256 * 1024 * 1024  # octets more: then all is looked at, whoever asks
_STATM = Path("/proc/self/statm")  # proc(5): its second number is the pages in memory


def resident() -> int:
    """Octets of memory that this process has; 0 where the kernel does not say."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class Garbage:
    """Runs the collector of this process.

    Args:
        asked: how many questions came so far.
        log: where it is said that all was looked at because of this process's size.
        now: seconds, of a clock that never goes back.
        memory: see `resident`.
    """

    def __init__(
        self,
        asked: Callable[[], int],
        log: logging.Logger,
        *,
        now: Callable[[], float] = time.monotonic,
        memory: Callable[[], int] = resident,
    ) -> None:
        self._asked, self._log, self._now, self._memory = asked, log, now, memory
        self._seen = self._few = 0
        self._quiet_since = self._looked_at = now()
        self._size = 0

    def begin(self) -> None:
        """Take over from Python's own settings. Cost: a look at all, so before anybody asks."""
        gc.set_threshold(*THRESHOLDS)
        gc.collect()
        self.keep()

    def keep(self) -> None:
        """Set aside what is there: it will stay. Cost: none."""
        self._set_aside()
        self._size = self._memory()

    def look(self) -> None:
        """Look at what is new, and at all of it when it is time; to be called often."""
        new = _new()
        if new > FEW:
            gc.collect(1)
            self._set_aside()
        else:
            gc.collect()  # what is set aside is not looked at
            self._few += new
            if self._few > FEW:
                self._set_aside()
        grown = self._memory() > GROWTH * self._size + GROWN
        if grown or self._is_quiet():
            self._look_at_all(grown=grown)

    def _set_aside(self) -> None:
        gc.freeze()
        self._few = 0

    def _is_quiet(self) -> bool:
        asked, now = self._asked(), self._now()
        if asked != self._seen:
            self._seen, self._quiet_since = asked, now
        return now - self._quiet_since >= QUIET_S and now - self._looked_at >= ALL_S

    def _look_at_all(self, *, grown: bool) -> None:
        gc.unfreeze()
        found = gc.collect()
        self.keep()
        self._looked_at = self._now()
        if grown:
            self._log.info("this process has grown: %d objects of it were garbage", found)


# About as many objects as were made and not freed since the last look, or since all was set aside: gc.get_count() says
# how many the youngest generation has, and how often each one was looked at since.
def _new() -> int:
    youngest, rounds, rounds_of_rounds = gc.get_count()
    return youngest + THRESHOLDS[0] * (rounds + THRESHOLDS[1] * rounds_of_rounds)
