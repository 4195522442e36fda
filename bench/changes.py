"""Changes endpoints of an estate in an etcd again and again, until it is ended; says on its output what it did.

    python -m bench.changes URL SERVICES,EACH,plain|proxied,FIRST EVERY_S AT_ONCE

Each of its services in turn gets another weight for one of its endpoints. Every EVERY_S seconds AT_ONCE changes are
due, in transactions as large as they may be, whether or not those before are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count, islice

from bench.estate import Estate, container, estate_of
from bench.parts import Folder
from lab.process import Process
from pilotfish.catalog import keys
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.record import encode
from pilotfish.catalog.store import MAX_OPERATIONS, Put, Store

UNDER_WAY = 32  # transactions at once; more are behind, and that is told


class Changes:
    """Changes to make, and what came of them.

    Attributes:
        made: changes that the store has.
        commits: transactions that they took.
        behind_s: the longest time that a transaction ended after it was due.
    """

    def __init__(self, store: Store, puts: Iterator[Put]) -> None:
        self.made, self.commits, self.behind_s = 0, 0, 0.0
        self._store, self._puts = store, puts
        self._free = asyncio.Semaphore(UNDER_WAY)

    async def keep_on(self, every_s: float, at_once: int) -> None:
        """Make them until cancelled."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in count():
                due = begun + number * every_s
                await asyncio.sleep(due - time.monotonic())
                left = at_once
                while left > 0:
                    await self._free.acquire()
                    tasks.create_task(self._commit(list(islice(self._puts, min(left, MAX_OPERATIONS))), due))
                    left -= MAX_OPERATIONS

    async def _commit(self, puts: list[Put], due: float) -> None:
        try:
            await self._store.commit((), puts)
        finally:
            self._free.release()
        self.made += len(puts)
        self.commits += 1
        self.behind_s = max(self.behind_s, time.monotonic() - due)


def puts(estate: Estate) -> Iterator[Put]:
    """Another weight for an endpoint of one service after the other, for ever."""
    for number in count():
        service, turn = estate.first + number % estate.services, number // estate.services
        changed = container(estate, service, turn % estate.each, weight=1 + (turn * 7 + number) % 99)
        yield Put(keys.container_key(changed.node, changed.id), encode(changed))


def start(place: Folder, url: str, estate: Estate, *, every_s: float, at_once: int = 1) -> Process:
    """Start this program."""
    command = [sys.executable, "-m", "bench.changes", url, estate.text, f"{every_s:g}", str(at_once)]
    process = place.start("changes", command)
    process.wait_line("changing", within_s=30)
    return process


def end(process: Process) -> tuple[int, int, float]:
    """End it; returns how many changes and transactions it made, and by how much one was behind at most, seconds.

    Raises:
        RuntimeError: it had ended by itself.
    """
    if not process.alive:
        raise RuntimeError(f"nothing was changed any more:\n{process.tail()}")
    process.terminate()
    made, commits, behind_s = json.loads(process.tail(1))
    return made, commits, behind_s


async def _changed(url: str, estate: Estate, every_s: float, at_once: int) -> Changes:
    store = EtcdStore(EtcdSettings(endpoints=(url,), call_timeout_s=20))
    changes = Changes(store, puts(estate))
    running = asyncio.create_task(changes.keep_on(every_s, at_once))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    print("changing", flush=True)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await store.close()
    return changes


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    url, estate, every_s, at_once = arguments
    done = asyncio.run(_changed(url, estate_of(estate), float(every_s), int(at_once)))
    print(json.dumps([done.made, done.commits, round(done.behind_s, 4)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
