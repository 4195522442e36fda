"""Writes a made-up estate into an etcd: `python -m bench.fill URL[,URL] SERVICES ENDPOINTS_EACH plain|proxied`.

A program of its own, so that it can be run inside the network of a lab.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from itertools import islice

from bench.estate import Estate
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import MAX_OPERATIONS, Put, Store

WRITERS = 8  # commits under way at once


async def fill(urls: tuple[str, ...], estate: Estate) -> int:
    """Write everything; returns how many keys."""
    store = EtcdStore(EtcdSettings(endpoints=urls, call_timeout_s=20))
    try:
        values = estate.values()
        puts = iter(lambda: [Put(key, value) for key, value in islice(values, MAX_OPERATIONS)], [])
        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(_write(store, puts)) for _ in range(WRITERS)]
        return sum(writer.result() for writer in writers)
    finally:
        await store.close()


async def _write(store: Store, batches: Iterator[list[Put]]) -> int:
    written = 0
    for batch in batches:
        await store.commit((), batch)
        written += len(batch)
    return written


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    urls, services, each, how = arguments
    written = asyncio.run(fill(tuple(urls.split(",")), Estate(int(services), int(each), proxied=how == "proxied")))
    print(f"{written} keys")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
