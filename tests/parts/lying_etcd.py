"""An etcd that can lie: the calls our client makes, over real gRPC, with faults that no real etcd can be made to have.

    async with LyingEtcd() as server:
        server.lies.lose_events = 1
        store = EtcdStore(EtcdSettings(endpoints=(server.url,)))

What is true is kept in `server.truth`, an embedded store in memory; `server.told` counts each lie that was told, so
that a test can prove that its fault has bitten. Without lies it behaves like etcd 3.4.23, in what our client asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Self, TypeAlias

import grpc
import msgspec

from pilotfish.catalog.commit import key_text
from pilotfish.catalog.etcd.messages import CLASSES, CREATE, EVENT_DELETE, METHODS, MOD, Message
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import (
    Absent,
    BadRequest,
    Change,
    Condition,
    CreatedAt,
    Delete,
    DeletePrefix,
    Entry,
    LeaseGone,
    ModifiedAt,
    Operation,
    Put,
    StartOver,
    StoreError,
    ValueIs,
)

Context: TypeAlias = Any  # grpc.aio.ServicerContext of classes made at run time
STREAMS = {"watch", "lease_keep_alive"}
STATUS_CODES: Mapping[type[StoreError], tuple[grpc.StatusCode, str]] = {
    LeaseGone: (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found"),
    BadRequest: (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
}


class Lies(msgspec.Struct):
    """What is wrong with the server; numbers count down as lies are told.

    Attributes:
        lose_events: so many changes are never sent to a watch.
        repeat_events: so many changes are sent twice.
        silent_watches: watches are created and then say nothing, nor do they answer.
        behind: headers show a revision that is lower by this.
        lagging: the same in watches only, as of a member that is behind its cluster.
        compacted: so many watches are canceled with this compact_revision instead of being served.
        refuse_watches: so many watches are answered created and canceled in one message.
        fragment_events: events per fragment of a watch response; 0 for whole responses.
        dead_leases: so many renewals are answered with TTL 0.
        lose_replies: so many transactions are committed, and then the call breaks.
        cluster_id: what headers say.
        version: what the status says.
    """

    lose_events: int = 0
    repeat_events: int = 0
    silent_watches: bool = False
    behind: int = 0
    lagging: int = 0
    compacted: int = 0
    refuse_watches: int = 0
    fragment_events: int = 0
    dead_leases: int = 0
    lose_replies: int = 0
    cluster_id: int = 0xC1
    version: str = "3.4.23"


class LyingEtcd:
    """The server; an async context manager that listens on a port of 127.0.0.1."""

    def __init__(self) -> None:
        self.lies = Lies()
        self.told: Counter[str] = Counter()
        self.url = ""
        self.revision = 0

    async def __aenter__(self) -> Self:
        self.truth = EmbeddedStore()
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers(self._handlers())
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(grace=None)
        await self.truth.close()

    async def wipe(self) -> None:
        """Begin again with an empty store under the same cluster id, as with a wiped data folder; watches break."""
        old, self.truth = self.truth, EmbeddedStore()
        await old.close()

    def _tell(self, lie: str) -> bool:
        left = getattr(self.lies, lie)
        if left:
            self.told[lie] += 1
            if left is not True:
                setattr(self.lies, lie, left - 1)
        return bool(left)

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        calls: Mapping[str, Callable[..., object]] = {
            "range": self._range,
            "txn": self._txn,
            "status": self._status,
            "lease_grant": self._lease_grant,
            "lease_revoke": self._lease_revoke,
            "lease_keep_alive": self._lease_keep_alive,
            "watch": self._watch,
        }
        handlers = []
        for name, call in calls.items():
            method = METHODS[name]
            service, _, short = method.path.strip("/").partition("/")
            kind = grpc.stream_stream_rpc_method_handler if name in STREAMS else grpc.unary_unary_rpc_method_handler
            handler = kind(call, method.request.FromString, method.response.SerializeToString)
            handlers.append(grpc.method_handlers_generic_handler(service, {short: handler}))
        return handlers

    async def _header(self) -> Message:
        revision = (await self.truth.read("/none")).revision
        if self.lies.behind:
            self.told["behind"] += 1
        return CLASSES["ResponseHeader"](
            cluster_id=self.lies.cluster_id, member_id=1, revision=revision - self.lies.behind, raft_term=2
        )

    async def _status(self, request: Message, context: Context) -> Message:
        return METHODS["status"].response(header=await self._header(), version=self.lies.version, leader=1)

    async def _range(self, request: Message, context: Context) -> Message:
        reading = await self.truth.read("")
        if request.revision and request.revision != reading.revision:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
        first, end = request.key, request.range_end or request.key + b"\0"
        found = [e for e in reading.entries if first <= e.key.encode() and (end == b"\0" or e.key.encode() < end)]
        page = [] if request.count_only else found[: request.limit or None]
        return METHODS["range"].response(
            header=await self._header(), kvs=map(_kv, page), more=0 < len(page) < len(found), count=len(found)
        )

    async def _txn(self, request: Message, context: Context) -> Message:
        try:
            done = await self.truth.commit(list(map(_condition, request.compare)), list(map(_op, request.success)))
        except (LeaseGone, BadRequest) as error:
            await context.abort(*STATUS_CODES[type(error)])
        if self._tell("lose_replies"):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return METHODS["txn"].response(header=await self._header(), succeeded=done.succeeded)

    async def _lease_grant(self, request: Message, context: Context) -> Message:
        lease = await self.truth.grant(request.TTL)
        return METHODS["lease_grant"].response(header=await self._header(), ID=lease.id, TTL=int(lease.ttl_s))

    async def _lease_revoke(self, request: Message, context: Context) -> Message:
        await self.truth.revoke(request.ID)
        return METHODS["lease_revoke"].response(header=await self._header())

    async def _lease_keep_alive(self, requests: AsyncIterator[Message], context: Context) -> AsyncIterator[Message]:
        async for request in requests:
            ttl = 0.0 if self._tell("dead_leases") else await self._renewed(request.ID)
            yield METHODS["lease_keep_alive"].response(header=await self._header(), ID=request.ID, TTL=int(ttl))

    async def _renewed(self, lease: int) -> float:
        try:
            return await self.truth.keep_alive(lease)
        except LeaseGone:
            return 0.0

    async def _watch(self, requests: AsyncIterator[Message], context: Context) -> None:
        asked = (await anext(aiter(requests))).create_request
        if self._tell("refuse_watches"):
            await self._send(
                context, created=True, canceled=True, watch_id=-1, cancel_reason="etcdserver: permission denied"
            )
            await asyncio.Event().wait()
        await self._send(context, created=True)
        if compacted := self.lies.compacted:
            self.lies.compacted = 0
            self.told["compacted"] += 1
            await self._send(context, canceled=True, compact_revision=compacted)
            await asyncio.Event().wait()
        answering = asyncio.create_task(self._answer(requests, context))
        try:
            await self._follow(asked, context)
        finally:
            answering.cancel()
            await asyncio.wait({answering})

    async def _answer(self, requests: AsyncIterator[Message], context: Context) -> None:
        async for _ in requests:
            if not self._tell("silent_watches"):
                await self._send(context, watch_id=-1)

    async def _follow(self, asked: Message, context: Context) -> None:
        try:
            async with aclosing(self.truth.watch(asked.key.decode(), asked.start_revision - 1)) as watch:
                async for item in watch:
                    if isinstance(item, Change) and not self._tell("silent_watches"):
                        await self._pass_on(item, context)
        except StartOver:
            known = (await self.truth.read("/none")).revision
            if asked.start_revision <= known:
                await self._send(context, canceled=True, compact_revision=known)
            await asyncio.Event().wait()  # etcd waits in silence for a revision that is still to come
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def _pass_on(self, change: Change, context: Context) -> None:
        if self._tell("lose_events"):
            return
        events = [CLASSES["Event"](kv=_kv(entry)) for entry in change.puts]
        gone = [CLASSES["KeyValue"](key=key.encode(), mod_revision=change.revision) for key in change.deletes]
        events += [CLASSES["Event"](type=EVENT_DELETE, kv=kv) for kv in gone]
        for _ in range(2 if self._tell("repeat_events") else 1):
            await self._fragments(events, context)

    async def _fragments(self, events: list[Message], context: Context) -> None:
        size = self.lies.fragment_events or len(events)
        for start in range(0, len(events), size):
            more = start + size < len(events)
            self.told["fragment_events"] += more
            await self._send(context, events=events[start : start + size], fragment=more)

    async def _send(self, context: Context, **fields: object) -> None:
        header = await self._header()
        header.revision -= self.lies.lagging
        self.told["lagging"] += bool(self.lies.lagging)
        await context.write(METHODS["watch"].response(header=header, **fields))


def _kv(entry: Entry) -> Message:
    return CLASSES["KeyValue"](
        key=entry.key.encode(),
        value=entry.value,
        create_revision=entry.create_revision,
        mod_revision=entry.mod_revision,
        lease=entry.lease,
    )


def _condition(compare: Message) -> Condition:
    key = key_text(compare.key)
    if compare.target == CREATE:
        return CreatedAt(key, compare.create_revision) if compare.create_revision else Absent(key)
    return ModifiedAt(key, compare.mod_revision) if compare.target == MOD else ValueIs(key, compare.value)


def _op(message: Message) -> Operation:
    if message.WhichOneof("choice") == "request_put":
        put = message.request_put
        return Put(key_text(put.key), put.value, put.lease)
    delete = message.request_delete_range
    return DeletePrefix(key_text(delete.key)) if delete.range_end else Delete(key_text(delete.key))
