"""The language in which one process reaches the store of another: requests, answers, frames.

Pure; `io_feed` has the socket. One connection carries one request and its answer: some parts and a last frame, or,
for a watch, changes without end. A frame is 4 octets of length (big-endian) and one msgpack message. What is large is
cut into parts, so that neither side holds the whole in one buffer; a frame over its limit is refused before it is read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

import msgspec

from pilotfish.catalog.history import History
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import (
    AccessRefused,
    BadRequest,
    Change,
    Committed,
    Condition,
    Entry,
    Lease,
    LeaseGone,
    Operation,
    StartOver,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

VERSION = 1
MAX_REQUEST_BYTES = 4 * 1024 * 1024  # a commit of 1.4 MB, with the values that its conditions compare
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # a part, and the one entry that made it full
PART_BYTES = 256 * 1024  # octets of keys and values after which a part is sent: about a millisecond of decoding
HISTORY_BYTES = 64 * 1024 * 1024  # of values, kept for watches that are behind
HEAD_SIZE = 4

T = TypeVar("T")


class BadFrame(ValueError):
    """What came over the socket is not of this language; the message says what it is."""


class Read(msgspec.Struct, frozen=True, tag=True):
    """`Store.read`; answered by Entries, then ReadDone."""

    prefixes: tuple[str, ...]


class Count(msgspec.Struct, frozen=True, tag=True):
    """`Store.survey`; answered by Keys (when `keys`), then CountDone."""

    prefix: str
    keys: bool


class Watch(msgspec.Struct, frozen=True, tag=True):
    """`Store.watch`; answered by Changed and Still. `cluster`: the one that `revision` is of, "" if not known."""

    prefix: str
    revision: int
    cluster: str = ""


class Commit(msgspec.Struct, frozen=True, tag=True):
    """`Store.commit`; answered by CommitDone."""

    conditions: tuple[Condition, ...]
    operations: tuple[Operation, ...]


class Grant(msgspec.Struct, frozen=True, tag=True):
    """`Store.grant`; answered by Granted."""

    ttl_s: int


class KeepAlive(msgspec.Struct, frozen=True, tag=True):
    """`Store.keep_alive`; answered by Renewed."""

    lease: int


class Revoke(msgspec.Struct, frozen=True, tag=True):
    """`Store.revoke`; answered by Revoked."""

    lease: int


Request: TypeAlias = Read | Count | Watch | Commit | Grant | KeepAlive | Revoke


class Ask(msgspec.Struct, frozen=True):
    """What a client sends: the version of the language comes first, so that a newer one can be told from garbage."""

    version: int
    request: msgspec.Raw


class Entries(msgspec.Struct, frozen=True, tag=True):
    """A part of what was read, in order."""

    entries: tuple[Entry, ...]


class Keys(msgspec.Struct, frozen=True, tag=True):
    """A part of a survey."""

    keys: dict[str, int]


class ReadDone(msgspec.Struct, frozen=True, tag=True):
    """The end of what was read."""

    cluster: str
    revision: int


class CountDone(msgspec.Struct, frozen=True, tag=True):
    """The end of a survey."""

    cluster: str
    revision: int
    count: int


class Changed(msgspec.Struct, frozen=True, tag=True):
    """A transaction, or a part of it: it is whole when `more` is False."""

    revision: int
    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]
    more: bool


class Still(msgspec.Struct, frozen=True, tag=True):
    """The store itself was heard a moment ago, and nothing under the prefix has changed up to `revision`."""

    revision: int


class CommitDone(msgspec.Struct, frozen=True, tag=True):
    """What became of a commit."""

    committed: Committed


class Granted(msgspec.Struct, frozen=True, tag=True):
    """A lease has begun."""

    lease: Lease


class Renewed(msgspec.Struct, frozen=True, tag=True):
    """A lease was renewed: seconds that it now has."""

    ttl_s: float


class Revoked(msgspec.Struct, frozen=True, tag=True):
    """A lease is ended."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request failed: name of the error of `store`, its message, and whether asking again can help."""

    error: str
    message: str
    retry: bool


Answer: TypeAlias = (
    Entries | Keys | ReadDone | CountDone | Changed | Still | CommitDone | Granted | Renewed | Revoked | Failed
)

_ERRORS: dict[str, type[StoreError]] = {
    kind.__name__: kind
    for kind in (StoreUnavailable, StartOver, LeaseGone, StoreFull, AccessRefused, BadRequest, StoreError)
}
_HEAD = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()
_ASK = msgspec.msgpack.Decoder(Ask)
_REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def request_frame(request: Request) -> bytes:
    """A request as the one frame that a client sends.

    Raises:
        BadRequest: larger than the other side takes, or not to be written in UTF-8.
    """
    try:
        body = _ENCODER.encode(Ask(VERSION, msgspec.Raw(_ENCODER.encode(request))))
    except UnicodeEncodeError as error:
        raise BadRequest(f"{error.object!a} cannot be written in UTF-8") from None
    except OverflowError as error:
        raise BadRequest(f"a number is out of bounds: {error}") from None
    if len(body) > MAX_REQUEST_BYTES:
        raise BadRequest(f"a request of {len(body)} octets is over the limit of {MAX_REQUEST_BYTES}: make it several")
    return _HEAD.pack(len(body)) + body


def answer_frame(answer: Answer) -> bytes:
    """An answer as a frame."""
    body = _ENCODER.encode(answer)
    return _HEAD.pack(len(body)) + body


def body_size(head: bytes, limit: int) -> int:
    r"""Octets of the message that follows a frame's first four.

    >>> body_size(b"\0\0\1\0", limit=1000)
    256

    Raises:
        BadFrame: none, or over the limit.
    """
    (size,) = _HEAD.unpack(head)
    if not 0 < size <= limit:
        raise BadFrame(f"a frame of {size} octets, where 1 to {limit} are allowed")
    return int(size)


def parse_request(body: bytes) -> Request:
    """Read what a client asks.

    Raises:
        BadFrame: another version of the language, or no request.
    """
    try:
        ask = _ASK.decode(body)
        if ask.version == VERSION:
            return _REQUEST.decode(ask.request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"no request: {error}") from error
    raise BadFrame(f"version {ask.version} of the feed is asked for, and {VERSION} is served: restart the older part")


def parse_answer(body: bytes) -> Answer:
    """Read what a server answers.

    Raises:
        BadFrame: no answer.
    """
    try:
        return _ANSWER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"no answer: {error}") from error


def failed(error: StoreError) -> Failed:
    """An error as it is sent: its own class, or the nearest above it that both sides know."""
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS)
    return Failed(name, str(error), error.retry)


def error_of(answer: Failed) -> StoreError:
    """The error that was sent, to be raised on the other side.

    >>> error_of(failed(LeaseGone("lease 2a has ended")))
    LeaseGone('lease 2a has ended')
    """
    error = _ERRORS.get(answer.error, StoreError)(answer.message)
    error.retry = answer.retry
    return error


def entry_parts(entries: Iterable[Entry]) -> Iterator[Entries]:
    """What was read, in parts."""
    for part in _parts(entries, _entry_size):
        yield Entries(tuple(part))


def key_parts(keys: Iterable[tuple[str, int]]) -> Iterator[Keys]:
    """Keys with their revisions, in parts."""
    for part in _parts(keys, lambda one: len(one[0]) + 9):
        yield Keys(dict(part))


def change_parts(change: Change) -> Iterator[Changed]:
    """One transaction, in parts of which the last says so."""
    for puts in _parts(change.puts, _entry_size):
        yield Changed(change.revision, tuple(puts), (), more=True)
    for deletes in _parts(change.deletes, len):
        yield Changed(change.revision, (), tuple(deletes), more=True)
    yield Changed(change.revision, (), (), more=False)


def whole_change(parts: Iterable[Changed]) -> Change:
    """The transaction that its parts make; the last one ends it."""
    puts: list[Entry] = []
    deletes: list[str] = []
    revision = 0
    for part in parts:
        revision = part.revision
        puts += part.puts
        deletes += part.deletes
    return Change(revision, tuple(puts), tuple(deletes))


class Relay:
    """What a mirror's watchers are told: its differences as changes, or that they have to start over.

    A difference that no revision made (a whole reading, a repair) cannot be told as a change: a mirror that is fed with
    changes would take its entries for old ones. So it begins a new history, which no watch from before can go on with.

    Args:
        revision: of the mirror now.
        max_changes: how far a watch may be behind before it has to start over.
    """

    def __init__(self, revision: int, *, max_changes: int) -> None:
        self.revision = revision
        self._max_changes = max_changes
        self.history = self._begun(revision)

    def take(self, difference: Difference) -> None:
        """Take in a difference of the mirror; each one, also those that changed nothing."""
        changed = bool(difference.puts or difference.deletes)
        if difference.started_over or (changed and difference.revision <= self.revision):
            self.history = self._begun(difference.revision)
        elif changed:
            self.history.append(Change(difference.revision, difference.puts, difference.deletes))
        self.revision = difference.revision

    def _begun(self, revision: int) -> History:
        return History(revision, max_changes=self._max_changes, max_bytes=HISTORY_BYTES)


def _entry_size(entry: Entry) -> int:
    return len(entry.key) + len(entry.value) + 64  # 64: its numbers and their names


def _parts(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    part: list[T] = []
    size = 0
    for item in items:
        part.append(item)
        size += size_of(item)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
