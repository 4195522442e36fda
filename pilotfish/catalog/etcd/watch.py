"""One watch on one stream: created or refused, whole responses, signs of life, and an end for every silence.

Rules, each from something etcd does:
- a refused watch arrives as created and canceled in one message, and the stream stays open: canceled comes first;
- a compacted watch is canceled with compact_revision and no reason;
- a large response comes in fragments, which are one only together;
- a progress reply may overtake events before etcd 3.4.25 and 3.5.8, so there it says only that the server lives;
- a server that stops, or a connection that carries nothing, gives no error: whoever hears nothing for `stall_s`, though
  asking, gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import msgspec

from pilotfish.catalog.etcd.channel import Link, Metadata, Status
from pilotfish.catalog.etcd.errors import EtcdError, from_rpc
from pilotfish.catalog.etcd.messages import CLASSES, EVENT_DELETE, METHODS, Message

QUESTIONS = 3  # signs of life asked for within stall_s
MAX_JOINED_BYTES = 256 * 1024 * 1024  # fragments of one response; more is no response of a sane server


class KeyValue(msgspec.Struct, frozen=True):
    """A key as etcd has it; of a deleted one only `key` and `mod_revision` are known."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class Event(msgspec.Struct, frozen=True):
    """A key was put, or deleted."""

    deleted: bool
    kv: KeyValue


class WatchResponse(msgspec.Struct, frozen=True):
    """One whole response.

    Attributes:
        cluster: id of the cluster that answered.
        revision: of the store when it was sent.
        created: the first of a watch; the watch stands.
        settled: no event up to `revision` is still to come; False also when the server cannot be believed in this.
        events: in order of revision; all events of a revision are in one response.
    """

    cluster: int
    revision: int
    created: bool
    settled: bool
    events: tuple[Event, ...]


def key_value(kv: Message) -> KeyValue:
    """A key of a reply as a value."""
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def believes_progress(status: Status | None) -> bool:
    """Whether a requested progress reply means what it says.

    Source: etcd issue 15220; mended in 3.4.25 and 3.5.8.
    """
    version = status.version if status else (0,)
    return version >= (3, 5, 8) or (3, 4, 25) <= version < (3, 5)


class Joiner:
    """Turns the messages of a stream into whole responses; raises EtcdError for one that ends the watch."""

    def __init__(self, endpoint: str, *, believe: bool) -> None:
        self.created = False
        self._endpoint = endpoint
        self._believe = believe
        self._parts: list[Event] = []
        self._size = 0

    def join(self, message: Message) -> WatchResponse | None:
        """Take the next message; None while the rest of a response is to come."""
        if message.canceled:
            code, reason = _ending(message)
            raise EtcdError(code, reason, self._endpoint, compact_revision=message.compact_revision)
        self._size += message.ByteSize()
        if self._size > MAX_JOINED_BYTES:
            raise EtcdError("INTERNAL", f"a response of more than {MAX_JOINED_BYTES} octets", self._endpoint)
        self._parts += [Event(event.type == EVENT_DELETE, key_value(event.kv)) for event in message.events]
        if message.fragment:
            return None
        events, self._parts, self._size = tuple(self._parts), [], 0
        first, self.created = message.created and not self.created, self.created or message.created
        settled = self._believe and not events and not message.created
        return WatchResponse(message.header.cluster_id, message.header.revision, first, settled, events)


def _ending(message: Message) -> tuple[str, str]:
    if message.compact_revision:
        return "OUT_OF_RANGE", f"compacted, known are revisions from {message.compact_revision}"
    reason = message.cancel_reason or "the watch was canceled without a reason"
    denied = "permission denied" in reason.lower() or "permissiondenied" in reason.lower()
    return ("PERMISSION_DENIED" if denied else "UNAVAILABLE"), reason


class WatchStream:
    """The stream of one watch; iterate `responses` once, and `close` in any case.

    Args:
        link: a link that has proved to answer.
        metadata: the token.
        stall_s: silence after which the watch is given up, in seconds.
    """

    def __init__(self, link: Link, metadata: Metadata, *, stall_s: float) -> None:
        self._endpoint = link.endpoint.name
        self._joiner = Joiner(self._endpoint, believe=believes_progress(link.status))
        self._stall_s = stall_s
        self._call = link.stream("watch", metadata)
        self._reading: asyncio.Task[Message] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def responses(self, key: bytes, range_end: bytes, start_revision: int) -> AsyncIterator[WatchResponse]:
        """Watch a range from `start_revision` on.

        Raises:
            EtcdError: the stream broke, fell silent, was refused, or its past is compacted (`compact_revision`).
        """
        asked = CLASSES["WatchCreateRequest"](
            key=key, range_end=range_end, start_revision=start_revision, progress_notify=True, fragment=True
        )
        self._write(METHODS["watch"].request(create_request=asked))
        while True:
            response = self._joiner.join(await self._next())
            if response is not None:
                yield response

    async def close(self) -> None:
        """End the stream, whatever state it is in."""
        self._call.cancel()
        tasks = [task for task in (self._reading, self._writing) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Waits on a task, not on the read itself: a read that is cancelled by a timeout takes the whole stream with it.
    async def _next(self) -> Message:
        self._reading = asyncio.ensure_future(self._call.read())
        for _ in range(QUESTIONS):
            await asyncio.wait({self._reading}, timeout=self._stall_s / QUESTIONS)
            if self._reading.done():
                return await self._message(self._reading)
            if self._joiner.created:
                self._write(METHODS["watch"].request(progress_request=CLASSES["WatchProgressRequest"]()))
        raise EtcdError("UNAVAILABLE", f"the watch was silent for {self._stall_s:g} s", self._endpoint)

    async def _message(self, reading: asyncio.Task[Message]) -> Message:
        if reading.cancelled():
            raise EtcdError("CANCELLED", "the client was closed", self._endpoint)
        error = reading.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            raise from_rpc(error, self._endpoint)
        if error is not None:
            raise EtcdError("UNKNOWN", str(error), self._endpoint)
        if reading.result() is grpc.aio.EOF:
            raise EtcdError("UNAVAILABLE", "the server ended the watch", self._endpoint)
        return reading.result()

    # Never waited for: if a question cannot be written, its answer does not come either, and that is what ends us.
    def _write(self, request: Message) -> None:
        if self._writing is None or self._writing.done():
            if self._writing and not self._writing.cancelled():
                self._writing.exception()
            self._writing = asyncio.ensure_future(self._call.write(request))
