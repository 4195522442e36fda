"""Waiting for a condition with a deadline: the only place of the lab that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

POLL_S = 0.01


class LabError(Exception):
    """The lab cannot do what was asked; the message says why and what to do."""


def wait_until(condition: Callable[[], Found | None], *, within_s: float, what: str, every_s: float = POLL_S) -> Found:
    """Ask `condition` until it gives something true, and return that.

    Args:
        condition: asked again and again.
        within_s: seconds until this gives up.
        what: completes "timed out waiting for ...".
        every_s: seconds between two questions; more for a condition that costs a process.

    Raises:
        LabError: the deadline passed.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise LabError(f"timed out after {within_s:g} s waiting for {what}")
        time.sleep(every_s)
