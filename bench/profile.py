"""Placeholder."""

from collections.abc import Sequence

PARTS: tuple[str, ...] = ()


def run(parts: Sequence[str]) -> None: ...
