"""What was published when: `python -m tests.parts.recorder --etcd URL --prefix /pilotfish/v1/ --log FILE`.

Follows a prefix of the store as our parts do and writes one row for every revision that changed it, with the time at
which it was seen. After an outage it reads everything anew and writes what differs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time

import msgspec

from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import Change, StoreError
from tests.parts.aside import Progress


class Published(msgspec.Struct, frozen=True):
    """One change of the store.

    Attributes:
        at: when it was seen, in seconds of the monotonic clock.
        revision: of the store.
        put: keys that came or changed.
        gone: keys that went.
    """

    at: float
    revision: int
    put: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


async def _follow(store: EtcdStore, prefix: str, progress: Progress) -> None:
    known: dict[str, int] = {}
    while not progress.stop.is_set():
        with contextlib.suppress(StoreError):
            reading = await store.read(prefix)
            now = {entry.key: entry.mod_revision for entry in reading.entries}
            put = tuple(sorted(key for key in now if now[key] != known.get(key)))
            progress.write(Published(time.monotonic(), reading.revision, put, tuple(sorted(known.keys() - now))))
            known = now
            async with contextlib.aclosing(store.watch(prefix, reading.revision)) as watch:
                async for news in watch:
                    if isinstance(news, Change):
                        progress.write(_taken(news, known))
        await asyncio.sleep(0.05)


def _taken(change: Change, known: dict[str, int]) -> Published:
    known.update((entry.key, entry.mod_revision) for entry in change.puts)
    for key in change.deletes:
        known.pop(key, None)
    put = tuple(entry.key for entry in change.puts)
    return Published(time.monotonic(), change.revision, put, tuple(change.deletes))


async def _run(options: argparse.Namespace) -> None:
    store = EtcdStore(EtcdSettings(endpoints=tuple(options.etcd.split(",")), call_timeout_s=2.0, watch_stall_s=3.0))
    try:
        async with Progress(options.log, options.seconds) as progress:
            follower = asyncio.create_task(_follow(store, options.prefix, progress))
            await progress.stop.wait()
            follower.cancel()
            await asyncio.wait({follower})
    finally:
        await store.close()


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description="Every change of a prefix of the store, with its time.")
    parser.add_argument("--etcd", required=True, help="URLs, separated by commas")
    parser.add_argument("--prefix", required=True, help="what to follow")
    parser.add_argument("--log", required=True, help="file for the rows")
    parser.add_argument("--seconds", type=float, default=900.0, help="how long at most")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
