"""What a process knew of the store, as bytes that survive it: one header and the mirrored entries.

Pure; `io_snapshot` has the file. Invariants:

- decoding what was encoded gives the same value;
- bytes that were cut, lengthened or changed anywhere are refused, never read as something else;
- a `Snapshot` is sorted by key, has every key once, and holds nothing outside its prefixes.

Layout: 8 octets of magic, 4 of format number, 8 of body length (both big-endian), 32 of BLAKE2b over all of these and
the body, then the body: msgpack of cluster, revision, time, prefixes and one row an entry. Format 2 has orphans before
the rows; it is written only where there are some, so that an earlier version reads all others.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import msgspec

from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.store import Entry, Reading

FORMAT, WITH_ORPHANS = 1, 2
MAGIC = b"pilotfi\n"  # the line end shows a copy that was mangled as text
_HEAD = struct.Struct(">8sIQ")
_DIGEST_SIZE = 32
HEADER_SIZE = _HEAD.size + _DIGEST_SIZE  # octets before the body
SLICE = 1000  # entries of one piece: half a millisecond
_FIVE, _SIX = b"\x95", b"\x96"  # msgpack: an array of five, of six
_ARRAY_32, _ROWS = 0xDD, struct.Struct(">BI")  # msgpack: the head of a long array

Row: TypeAlias = tuple[str, bytes, int, int, int]


class BadSnapshot(ValueError):
    """A snapshot that cannot be used; the message says why. Whoever meets it goes on without one."""


class Orphan(NamedTuple):
    """A record that was kept beyond its node's key; a claim or a proxy of a store that is no more.

    Attributes:
        entry: as it stood in the store.
        since: UNIX time in seconds at which it became one.
        silent: ids of its endpoints that were given up.
    """

    entry: Entry
    since: float
    silent: tuple[str, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """Everything under some prefixes, as one process held it.

    Attributes:
        cluster: identity of the store it came from, never empty.
        revision: every change up to here is in it.
        taken: UNIX time in seconds at which the store was last heard.
        prefixes: what it covers.
        entries: sorted by key, each key once, each under one of the prefixes.
        orphans: what was kept besides.

    Raises:
        BadSnapshot: one of these is not so.
    """

    cluster: str
    revision: int
    taken: float
    prefixes: tuple[str, ...]
    entries: tuple[Entry, ...]
    orphans: tuple[Orphan, ...] = ()

    def __post_init__(self) -> None:
        if not self.cluster or self.revision < 1:
            raise BadSnapshot("no cluster or no revision: nothing was read yet")
        if not (math.isfinite(self.taken) and self.taken >= 0):
            raise BadSnapshot(f"taken at {self.taken}, which is no time")
        keys = [entry.key for entry in self.entries]
        if any(one >= other for one, other in pairwise(keys)):
            raise BadSnapshot("its keys are not sorted, or a key is there twice")
        if not all(key.startswith(self.prefixes) for key in keys):
            raise BadSnapshot("a key is outside its prefixes")
        if not all(math.isfinite(one.since) for one in self.orphans):
            raise BadSnapshot("an orphan is one since no time")

    def reading(self, prefix: str) -> Reading:
        """What it holds under one prefix, to start a `Mirror` from.

        Raises:
            BadSnapshot: the prefix is not covered, so nothing follows from what is not there.
        """
        if not prefix.startswith(self.prefixes):
            raise BadSnapshot(f"does not cover {prefix}")
        entries = tuple(entry for entry in self.entries if entry.key.startswith(prefix))
        return Reading(self.cluster, self.revision, entries)


def snapshot_of(mirrors: Sequence[Mirror], taken: float, orphans: Iterable[Orphan] = ()) -> Snapshot:
    """What mirrors of one store hold together.

    Args:
        mirrors: complete ones, at least one. Their revisions may differ: the lowest is taken, since a watch from there
            brings again what the others knew already, and a mirror takes nothing twice.
        taken: UNIX time in seconds at which the store was last heard.
        orphans: what is kept besides.

    Raises:
        BadSnapshot: a mirror is not complete, or they are of different stores.
    """
    clusters = {mirror.cluster for mirror in mirrors}
    if len(clusters) != 1:
        raise BadSnapshot("the mirrors are not of one store")
    # Taken before the entries: the mirrors may go on while this runs in another thread.
    revision = min(mirror.revision for mirror in mirrors)
    held: dict[str, Entry] = {}
    for mirror in mirrors:
        held |= mirror.entries
    return Snapshot(
        cluster=clusters.pop(),
        revision=revision,
        taken=taken,
        prefixes=tuple(mirror.prefix for mirror in mirrors),
        entries=tuple(sorted(held.values(), key=_key)),
        orphans=tuple(orphans),
    )


def encode(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes; see the module for the layout."""
    return b"".join(pieces(snapshot))


def pieces(snapshot: Snapshot) -> Iterator[bytes]:
    """What `encode` gives, a little at a time: neither the whole nor a long look at it is needed to write it.

    The entries are gone through three times, since the header has the length and the checksum of what follows.
    """
    head = _HEAD.pack(MAGIC, WITH_ORPHANS if snapshot.orphans else FORMAT, sum(map(len, _body(snapshot))))
    yield head
    yield _digest_of(head, _body(snapshot))
    yield from _body(snapshot)


def _body(snapshot: Snapshot) -> Iterator[bytes]:
    entries = snapshot.entries
    front: tuple[object, ...] = (snapshot.cluster, snapshot.revision, snapshot.taken, snapshot.prefixes)
    if snapshot.orphans:
        front = (*front, [(_row(one.entry), one.since, one.silent) for one in snapshot.orphans])
    yield (
        (_SIX if snapshot.orphans else _FIVE)
        + b"".join(map(_ENCODER.encode, front))
        + _ROWS.pack(_ARRAY_32, len(entries))
    )
    for at in range(0, len(entries), SLICE):
        yield b"".join(_ENCODER.encode(_row(one)) for one in entries[at : at + SLICE])


def decode(data: bytes) -> Snapshot:
    """Read what `encode` wrote.

    Raises:
        BadSnapshot: empty, of another program or format, cut, lengthened or changed anywhere.
    """
    if len(data) < HEADER_SIZE:
        raise BadSnapshot(f"it ends after {len(data)} octets, within its header of {HEADER_SIZE}")
    head, digest, body = data[: _HEAD.size], data[_HEAD.size : HEADER_SIZE], memoryview(data)[HEADER_SIZE:]
    magic, number, length = _HEAD.unpack(head)
    if magic != MAGIC:
        raise BadSnapshot("it is no snapshot of pilotfish")
    if number not in _DECODERS:
        raise BadSnapshot(f"it has format {number}, and {FORMAT} and {WITH_ORPHANS} are understood here")
    if length != len(body):
        raise BadSnapshot(f"it should hold {length} octets after its header, and holds {len(body)}")
    if _digest(head, body) != digest:
        raise BadSnapshot("its checksum is wrong: it was damaged")
    return _read_body(body, number)


def _read_body(body: memoryview, number: int) -> Snapshot:
    try:
        cluster, revision, taken, prefixes, *kept, rows = _DECODERS[number].decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadSnapshot(f"its body is not of format {number}: {error}") from error
    orphans = tuple(Orphan(Entry(*row), since, silent) for one in kept for row, since, silent in one)
    return Snapshot(cluster, revision, taken, prefixes, _entries(rows), orphans)


def _digest(head: bytes, body: bytes | memoryview) -> bytes:
    return _digest_of(head, (body,))


def _digest_of(head: bytes, body: Iterable[bytes | memoryview]) -> bytes:
    digest = blake2b(head, digest_size=_DIGEST_SIZE)
    for piece in body:
        digest.update(piece)
    return digest.digest()


def _key(entry: Entry) -> str:
    return entry.key


def _row(entry: Entry) -> Row:
    return entry.key, entry.value, entry.create_revision, entry.mod_revision, entry.lease


def _entries(rows: Iterable[Row]) -> tuple[Entry, ...]:
    return tuple(Entry(*row) for row in rows)


_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[tuple[Any, ...]]] = {
    FORMAT: msgspec.msgpack.Decoder(tuple[str, int, float, tuple[str, ...], list[Row]]),
    WITH_ORPHANS: msgspec.msgpack.Decoder(
        tuple[str, int, float, tuple[str, ...], list[tuple[Row, float, tuple[str, ...]]], list[Row]]
    ),
}
