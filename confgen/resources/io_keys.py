"""The keys of several resources, each at one revision.

A mirror follows each folder of keys that is asked for. What stands under one mirror is taken from memory, at the
mirror's revision; what stands under several is read from the store itself, in one reading, so that no file mixes two
revisions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from confgen.resources import gopath
from confgen.resources.keyspace import under
from confgen.resources.resource import covering
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry


class Seen(NamedTuple):
    """Keys and values, and the revision at which all of them stood so."""

    values: dict[str, str]
    revision: int


def folders(paths: Iterable[str]) -> tuple[str, ...]:
    """What to follow for some paths: the paths themselves, and their folder where several are neighbours.

    >>> folders(["/db/host", "/db/port", "/reg/proxy"])
    ('/db/', '/reg/proxy')
    """
    wanted = covering(paths)
    parents = [gopath.directory(path) for path in wanted]
    shared = {parent for parent in parents if parent != "/" and parents.count(parent) > 1}
    found = covering(parent if parent in shared else path for path, parent in zip(wanted, parents, strict=True))
    return tuple(f"{path}/" if path in shared else path for path in found)


class Keys:
    """Mirrors of what the resources ask for.

    Args:
        store: read and watched.
        telemetry: of the part.
        verify_s: how often a mirror is compared with the store.
        told: called with the paths that changed.
    """

    def __init__(
        self, store: Store, telemetry: Telemetry, verify_s: float, told: Callable[[Sequence[str]], None]
    ) -> None:
        self._store, self._telemetry, self._verify_s, self._told = store, telemetry, verify_s, told
        self._followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}

    def follow(self, paths: Iterable[str], tasks: asyncio.TaskGroup) -> None:
        """Follow these paths from now on, and no others."""
        wanted = folders(paths)
        for gone in self._followers.keys() - set(wanted):
            _, task = self._followers.pop(gone)
            task.cancel()
            self._telemetry.ready.good(f"store {gone}")
            self._telemetry.mirrors.drop(gone)
        for prefix in wanted:
            if prefix not in self._followers:
                follower = Follower(self._store, prefix, self._take, self._telemetry, verify_s=self._verify_s)
                self._followers[prefix] = follower, tasks.create_task(follower.run())

    def _take(self, difference: Difference) -> None:
        self._told([*(entry.key for entry in difference.puts), *difference.deletes])

    def age_s(self) -> float | None:
        """Seconds since the store was heard by the mirror that heard it last longest ago; None when one is cut off."""
        if not all(follower.connected for follower, _ in self._followers.values()):
            return None
        return max((follower.age_s() for follower, _ in self._followers.values()), default=0.0)

    def known(self, paths: Sequence[str]) -> bool:
        """True once everything under these paths was read."""
        return all(
            follower.mirror.complete
            for prefix, (follower, _) in self._followers.items()
            if any(under(path, prefix.rstrip("/") or "/") for path in paths)
        )

    async def seen(self, paths: Sequence[str]) -> Seen:
        """All keys under these paths.

        Raises:
            StoreError: they stand under several mirrors, and the store cannot be read.
        """
        if not paths:
            return Seen({}, 0)
        for prefix, (follower, _) in self._followers.items():
            mirror = follower.mirror
            if mirror.complete and all(under(path, prefix.rstrip("/") or "/") for path in paths):
                return Seen({key: _text(entry.value) for key, entry in mirror.entries.items()}, mirror.revision)
        return await read(self._store, paths)


async def read(store: Store, paths: Sequence[str]) -> Seen:
    """All keys under these paths, in one reading of the store.

    Raises:
        StoreError: it cannot be read.
    """
    if not paths:
        return Seen({}, 0)
    reading = await store.read(*folders(paths))
    return Seen({entry.key: _text(entry.value) for entry in reading.entries}, reading.revision)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
