"""Writes a made-up estate into an etcd, or takes it out again.

    python -m bench.fill URL[,URL] SERVICES,EACH,plain|proxied,FIRST write|remove

A program of its own, so that it can be run inside the network of a lab.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from bench.estate import estate_of
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import MAX_OPERATIONS, Delete, Operation, Put, Store

WRITERS = 8  # commits under way at once


async def perform(urls: tuple[str, ...], operations: Iterable[Operation]) -> int:
    """Write everything, in transactions as large as they may be; returns how many keys."""
    store = EtcdStore(EtcdSettings(endpoints=urls, call_timeout_s=20))
    try:
        left = iter(operations)
        batches = iter(lambda: list(islice(left, MAX_OPERATIONS)), [])
        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(_write(store, batches)) for _ in range(WRITERS)]
        return sum(writer.result() for writer in writers)
    finally:
        await store.close()


async def _write(store: Store, batches: Iterator[list[Operation]]) -> int:
    written = 0
    for batch in batches:
        await store.commit((), batch)
        written += len(batch)
    return written


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    urls, estate, what = arguments
    operations: Iterator[Operation]
    if what == "remove":
        operations = (Delete(key) for key, _ in estate_of(estate).values_of_services())
    else:
        operations = (Put(key, value) for key, value in estate_of(estate).values())
    print(f"{asyncio.run(perform(tuple(urls.split(',')), operations))} keys")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
