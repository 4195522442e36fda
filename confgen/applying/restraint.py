"""Holds back a configuration that would take away more than half of what is served. Pure.

One service that is refused is put into quarantine so that the others go on. When most of them are, it is rather our
templates, the program or the store that is wrong, and the last good configuration is better than a page of 503: it
stays for a grace time, in which somebody can look. After that the containers may have moved on, and it is applied.
"""

from __future__ import annotations

FEWEST = 2  # services; with one alone, its quarantine is all there is to do


class Restraint:
    """Decides whether a loss is held back, and until when.

    Attributes:
        grace_s: for how long, seconds; 0: never.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._since = float("inf")

    def left_s(self, lost: int, served: int, clock: float) -> float:
        """For how long it is still held back, seconds; 0: it may be applied.

        Args:
            lost: services that are served now, and would be 503.
            served: services that are served now.
            clock: monotonic time, seconds.

        >>> restraint = Restraint(300.0)
        >>> [restraint.left_s(lost, 4, clock) for lost, clock in ((1, 0.0), (3, 10.0), (3, 110.0), (3, 400.0))]
        [0.0, 300.0, 200.0, 0.0]
        """
        if lost < FEWEST or 2 * lost <= served:
            self._since = float("inf")
            return 0.0
        self._since = min(self._since, clock)
        return max(0.0, self._since + self.grace_s - clock)
