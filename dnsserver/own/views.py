"""Who stands behind names that are asked for, arranged once and kept until it changes. Pure."""

from __future__ import annotations

from dnsserver.own.names import View, view_of
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.values import is_reserved

MAX_ARRANGED = 10_000  # endpoints in all views together, about 20 MB; finished answers are held elsewhere


class Views:
    """Views of names; the ones that were arranged first make room.

    Args:
        registry: the catalog.
        most: endpoints in all views together.
    """

    def __init__(self, registry: Registry, most: int = MAX_ARRANGED) -> None:
        self._registry, self._most = registry, most
        self._held: dict[str, tuple[View, int]] = {}
        # Views that are wrong by now. Each is freed when its name is asked for again: to free a hundred at once,
        # of ten endpoints each, would hold up every answer by 2 ms.
        self._outdated: set[str] = set()
        self._arranged = 0

    def at(self, name: str) -> View | None:
        """Who stands behind a name relative to our domains, in lower case."""
        held = self._held.get(name)
        if held is not None:
            if name not in self._outdated:
                return held[0]
            self._free(name)
        standing = self._registry.standing(name)
        if not standing or is_reserved(name):
            return None
        view = view_of(standing)
        self._held[name] = view, len(standing)
        self._arranged += len(standing)
        while self._arranged > self._most:
            self._free(next(iter(self._held)))
        return view

    def drop(self, name: str) -> None:
        """What stands behind a name changed."""
        if name in self._held:
            self._outdated.add(name)

    def _free(self, name: str) -> None:
        _, count = self._held.pop(name)
        self._outdated.discard(name)
        self._arranged -= count
