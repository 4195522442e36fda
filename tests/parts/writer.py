"""Numbered writes into etcd: `python -m tests.parts.writer --etcd http://10.0.0.1:2379 --log FILE`.

Each write is one transaction of SkyDNS records under `svc.internal`: `beat`, whose address is the write's number, and
unless told otherwise `w<number>`, which stays. A reader that lost a write has no `w<number>`; one that is behind shows
an older number at `beat`; one that saw a write is never behind it again. Nothing is written twice: a write that was
not acknowledged in time may or may not be there, and the next number follows. With --batch many `w<number>` are
written in each transaction, and no `beat`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import Condition, ModifiedAt, Put, Store, StoreError
from tests.parts.aside import Progress
from tests.parts.prober_judge import Asked

FOLDER = "/skydns/internal/svc"
BEAT = "beat.svc.internal"
KEY = f"{FOLDER}/beat"


class Written(msgspec.Struct, frozen=True):
    """One write; times in seconds of the monotonic clock.

    Attributes:
        number: from 1.
        at: when it was sent.
        took_s: until it was acknowledged or given up.
        error: why it is not known to be there.
    """

    number: int
    at: float
    took_s: float
    error: str | None = None

    @property
    def until(self) -> float:
        """When it was acknowledged."""
        return self.at + self.took_s


def address(number: int) -> str:
    """The address that stands for a number."""
    return f"10.250.{number >> 8}.{number & 255}"


def number_of(text: str) -> int:
    """The number that an address stands for."""
    high, low = text.split(".")[2:]
    return int(high) << 8 | int(low)


def name_of(number: int) -> str:
    """The name that a write leaves behind."""
    return f"w{number}.svc.internal"


def acknowledged(written: Iterable[Written]) -> list[Written]:
    """Those that are known to be there, in their order."""
    return sorted((row for row in written if row.error is None), key=lambda row: row.number)


def lags_s(rows: Iterable[Asked], written: Sequence[Written]) -> Mapping[str, float]:
    """Server -> the longest time for which it did not yet show a write that was acknowledged.

    Raises:
        ValueError: a server showed a write that nobody made, or went back to an older one.
    """
    made, done = {row.number for row in written}, acknowledged(written)
    lags: dict[str, float] = {}
    newest: dict[str, tuple[int, float]] = {}
    for row in sorted(rows, key=lambda row: row.until):
        if row.name != BEAT or not row.answers:
            continue
        shown = number_of(row.answers[0])
        before, sent = newest.get(row.server, (0, 0.0))
        if shown not in made or (shown < before and row.at > sent):
            raise ValueError(f"{row.server} showed write {shown} after {before}")
        if shown > before:
            newest[row.server] = shown, row.until
        hidden = next((one.until for one in done if one.number > shown), row.at)
        lags[row.server] = max(lags.get(row.server, 0.0), row.at - hidden)
    return lags


def seen_again(rows: Iterable[Asked], written: Sequence[Written], since: float) -> Mapping[str, float]:
    """Server -> when it first showed a write that was acknowledged after `since`."""
    first = next((one.number for one in acknowledged(written) if one.at > since), None)
    found: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: row.until):
        if first and row.name == BEAT and row.answers and number_of(row.answers[0]) >= first:
            found.setdefault(row.server, row.until)
    return found


async def _run(options: argparse.Namespace) -> None:
    settings = EtcdSettings(endpoints=tuple(options.etcd.split(",")), call_timeout_s=2.0)
    store = EtcdStore(settings)
    fenced = Fenced(store)
    try:
        async with Progress(options.log, options.seconds) as progress:
            begin, number = time.monotonic(), options.first
            while not progress.stop.is_set() and (not options.count or number < options.first + options.count):
                progress.write(await (_write(store, number, options.batch) if options.batch else fenced.write(number)))
                number += options.batch or 1
                due_s = begin + (number - options.first) / options.rate - time.monotonic() if options.rate else 0.0
                await asyncio.sleep(max(0.0, due_s))
    finally:
        await store.close()


class Fenced:
    """Writes numbers one by one, each only if nothing was written since what it knows to stand."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stands: Condition | None = None  # None: to be read

    async def write(self, number: int) -> Written:
        """Write a number."""
        begin, error = time.monotonic(), None
        stands, self._stands = self._stands, None
        try:
            stands = stands or (await self._store.read(KEY)).unchanged(KEY)
            done = await self._store.commit(
                [stands], [Put(key, _value(number)) for key in (KEY, f"{FOLDER}/w{number}")]
            )
            if done.succeeded:
                self._stands = ModifiedAt(KEY, done.revision)
            else:
                error = "an earlier write came late"
        except StoreError as trouble:
            error = str(trouble)
        return Written(number, begin, time.monotonic() - begin, error)


async def _write(store: Store, number: int, batch: int) -> Written:
    puts = [Put(f"{FOLDER}/w{number + more}", _value(number + more)) for more in range(batch)]
    begin, error = time.monotonic(), None
    try:
        await store.commit([], puts)
    except StoreError as trouble:
        error = str(trouble)
    return Written(number, begin, time.monotonic() - begin, error)


def _value(number: int) -> bytes:
    return msgspec.json.encode({"host": address(number), "ttl": 5})


def main() -> None:
    """Write."""
    parser = argparse.ArgumentParser(description="Numbered SkyDNS records at a steady rate.")
    parser.add_argument("--etcd", required=True, help="URLs, separated by commas")
    parser.add_argument("--log", required=True, help="file for the rows")
    parser.add_argument("--rate", type=float, default=20.0, help="writes a second (0: as fast as they go)")
    parser.add_argument("--first", type=int, default=1, help="the first number")
    parser.add_argument("--count", type=int, default=0, help="how many (0: until the time is up)")
    parser.add_argument("--seconds", type=float, default=900.0, help="how long at most")
    parser.add_argument("--batch", type=int, default=0, help="so many records in each transaction")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
