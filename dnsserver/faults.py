"""Faults of our own, met where they can cost one message or one line, and not those beside it.

Pure: counts, and says each kind in the log with where it came from.
"""

from __future__ import annotations

import logging


class Faults:
    """What was caught so far.

    Args:
        log: where it is said; lines of one cause are brought together there.

    Attributes:
        count: how many there were.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.count = 0
        self._log = log

    def caught(self, what: str, error: Exception) -> None:
        """Count a fault, and say what it cost: "a DNS message was not answered". Never raises."""
        self.count += 1
        self._log.error(what, exc_info=error, extra={"cause": f"{what}: {type(error).__name__}"})
