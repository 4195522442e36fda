"""What a reader knows, on disk: read at the start, written now and then.

A restart without the store has it to answer from, and one with the store knows who its orphans are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from threading import Lock

from pilotfish.catalog import io_snapshot
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.snapshot import BadSnapshot, snapshot_of
from pilotfish.catalog.telemetry import Telemetry

SNAPSHOT_S = 30.0  # how often what changed is written
ANEW_S = 600.0  # how often it is written though nothing changed: a quiet store's snapshot must not grow old
FIRST_S = 0.5  # how often it is looked whether everything was read


class Keeper:
    """Keeps what followers know in one file.

    Args:
        path: of the file.
        followers: by prefix.
        telemetry: log and clock.
        age_s: seconds since the store was heard.
        most_s: a snapshot that is older than this is not used.
        at_once: what was read counts before the store was heard; else only beside what the store says.
    """

    def __init__(
        self,
        path: str,
        followers: Mapping[str, Follower],
        telemetry: Telemetry,
        age_s: Callable[[], float],
        most_s: float,
        *,
        at_once: bool = True,
    ) -> None:
        self._path, self._followers, self._telemetry = path, followers, telemetry
        self._age_s, self._most_s, self._at_once = age_s, most_s, at_once
        self._writing = Lock()
        self._written: tuple[int, ...] = ()
        self._counts = -math.inf  # UNIX time up to which what was written counts
        self.taken: float | None = None  # UNIX time up to which what was read counts; None: nothing was read

    async def load(self) -> None:
        """Begin from the file. Whatever is the matter with it, the server starts without."""
        try:
            found = await asyncio.to_thread(io_snapshot.load, self._path)
            readings = {prefix: found.reading(prefix) for prefix in self._followers} if found else {}
        except BadSnapshot as error:
            self._telemetry.log.warning("starting without a snapshot: %s", error)
            return
        if found is None:
            return
        age_s = self._telemetry.now() - found.taken
        if age_s > self._most_s:
            self._telemetry.log.warning(
                "starting without a snapshot: %s is %.0f s old, and --snapshot-age is %g s",
                self._path,
                age_s,
                self._most_s,
            )
            return
        for prefix, reading in readings.items():
            orphans = [one for one in found.orphans if one.entry.key.startswith(prefix)]
            self._followers[prefix].restore(reading, orphans, at_once=self._at_once)
        self.taken = found.taken
        self._telemetry.log.info("read the snapshot", extra={"revision": found.revision, "taken": found.taken})

    async def run(self) -> None:
        """Write what changed, for ever."""
        while math.isinf(self._age_s()):  # noqa: ASYNC110  the first one as soon as everything was read; a clock is read
            await asyncio.sleep(FIRST_S)
        while True:
            await asyncio.to_thread(self._write, min(ANEW_S, self._most_s / 4))
            await asyncio.sleep(SNAPSHOT_S)

    async def last(self) -> None:
        """Write once more what is known now, after `run` has ended; does not hold up the event loop."""
        await asyncio.to_thread(self._write)

    # A thread cannot be cancelled: the one that `run` began may still be at work when the last one begins, and a
    # writer removes what it finds aside.
    def _write(self, newer_s: float = 0.0) -> None:
        with self._writing:
            self._write_now(newer_s)

    def _write_now(self, newer_s: float) -> None:
        """Write what is known, if all is; the same once more when it counts for at least `newer_s` longer."""
        mirrors = [follower.mirror for follower in self._followers.values()]
        cares = [follower.care for follower in self._followers.values() if follower.care is not None]
        revisions = (*(mirror.revision for mirror in mirrors), *(care.orphans.version for care in cares))
        age_s = self._age_s()
        taken = self._telemetry.now() - age_s
        if math.isinf(age_s) or (revisions == self._written and taken - self._counts <= newer_s):
            return
        try:
            orphans = [one for care in cares for one in care.saved()]
            io_snapshot.save(self._path, snapshot_of(mirrors, taken, orphans))
            self._written, self._counts = revisions, taken
        except (OSError, BadSnapshot) as error:
            self._telemetry.log.warning("the snapshot was not written: %s", error, extra={"cause": "snapshot"})
