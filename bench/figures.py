"""Figures and how they are shown: percentiles, spreads over repeated runs, tables of plain text. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """One figure over several runs."""

    median: float
    lowest: float
    highest: float

    def shown(self, digits: int = 0, scale: float = 1.0) -> str:
        """`median (lowest to highest)`, each times `scale`; of one run that one figure."""
        median, lowest, highest = (f"{one * scale:,.{digits}f}" for one in self)
        return f"{median} ({lowest} to {highest})" if lowest != highest else median


def spread(values: Iterable[float]) -> Spread:
    """Median, lowest and highest; there is at least one value."""
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1])


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile: the lowest value that `percent` of all do not exceed; NaN of nothing.

    >>> percentile([3, 1, 2], 50), percentile(range(1, 101), 99)
    (2, 99)
    """
    found = sorted(values)
    return found[max(0, math.ceil(len(found) * percent / 100) - 1)] if found else math.nan


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown that is also readable as it stands: the first column to the left, the others to the right."""
    cells = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ["| " + " | ".join(_cells(row, widths)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 1) + (" " if at == 0 else ":") for at, width in enumerate(widths)) + "|"
    return "\n".join([f"\n{title}\n", lines[0], rule, *lines[1:]])


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
