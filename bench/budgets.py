"""The budgets that the DNS bench can judge, and whether they are met. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

HEADS = ("what", "budget", "seen", "met")


class Seen(NamedTuple):
    """A figure that was measured."""

    key: str
    value: float


class Budget(NamedTuple):
    """What a figure should be: at least, or at most."""

    what: str
    least: float | None = None
    most: float | None = None
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether a value is within it."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def shown(self) -> str:
        """As a table shows it."""
        return f"at least {self.least:g}{self.unit}" if self.least is not None else f"at most {self.most:g}{self.unit}"


BUDGETS: dict[str, Budget] = {
    "hits: answers": Budget("hits: answers per second, of Knot's", least=1.0),
    "hits: CPU": Budget("hits: CPU per answer, of Knot's", most=1.25),
    "misses: of hits": Budget("names that do not exist: answers per second, of hits", least=0.5),
    "forwarded: answers": Budget("forwarded names from the cache: answers per second, of Unbound's", least=0.8),
    "changes: p99": Budget("100 changes a second: p99", most=5.0, unit=" ms"),
    "changes: lost": Budget("100 changes a second: lost", most=0),
    "up: p99": Budget("in `up` while 10,000 endpoints come and are rendered: p99", most=5.0, unit=" ms"),
    "up: lost": Budget("in `up` while 10,000 endpoints come and are rendered: lost", most=0),
    "waves: p99": Budget("in `up` while 1,000 services change at once: p99", most=5.0, unit=" ms"),
    "waves: lost": Budget("in `up` while 1,000 services change at once: lost", most=0),
}


def rows(seen: Iterable[Seen]) -> Iterator[tuple[str, str, str, str]]:
    """Those of the figures that have a budget."""
    for key, value in seen:
        budget = BUDGETS.get(key)
        if budget is not None:
            yield budget.what, budget.shown, f"{value:.2f}{budget.unit}", "yes" if budget.met(value) else "no"
