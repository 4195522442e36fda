"""Store on etcd v3: our keys and errors on top of the client in `etcd/`.

It adds what etcd leaves to its users: one revision for a read of many pages and prefixes, changes as whole
transactions, and the signs that the cluster is no longer the one we knew (another id, a revision that went back).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from itertools import groupby
from typing import TypeVar

import msgspec

from pilotfish.catalog.commit import check_commit, key_bytes, key_text, prefix_range
from pilotfish.catalog.etcd.channel import Tls
from pilotfish.catalog.etcd.client import EtcdClient
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.messages import CLASSES, CREATE, EQUAL, MOD, VALUE, Message
from pilotfish.catalog.etcd.watch import Event, KeyValue, WatchResponse
from pilotfish.catalog.store import (
    Absent,
    AccessRefused,
    BadRequest,
    Change,
    Committed,
    Condition,
    CreatedAt,
    Delete,
    DeletePrefix,
    Entry,
    Lease,
    LeaseGone,
    ModifiedAt,
    Operation,
    Put,
    Quiet,
    Reading,
    StartOver,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Survey,
    ValueIs,
)

AT_ONCE = 100  # prefixes that are read together
READ_ATTEMPTS = 3  # a compaction between two pages spoils a read; three in a row do not happen

# What etcd's words mean, first match wins: (text in the reason, gRPC code, ours); "" matches anything.
MEANINGS: Sequence[tuple[str, str, type[StoreError]]] = (
    ("requested lease not found", "", LeaseGone),
    ("database space exceeded", "", StoreFull),
    ("has been compacted", "", StartOver),
    ("is a future revision", "", StartOver),
    ("too many operations", "", BadRequest),
    ("duplicate key given", "", BadRequest),
    ("request is too large", "", BadRequest),
    ("key is not provided", "", BadRequest),
    ("authentication failed", "", AccessRefused),
    ("user name is empty", "", AccessRefused),
    ("invalid auth token", "", AccessRefused),
    ("", "PERMISSION_DENIED", AccessRefused),
    ("", "UNAUTHENTICATED", AccessRefused),
)


T = TypeVar("T")


class EtcdSettings(msgspec.Struct, frozen=True):
    """How to reach etcd.

    Attributes:
        endpoints: "http://etcd1:2379", "https://10.0.0.1", "etcd1:2379"; the first is preferred.
        ca: path of the PEM file of CAs to believe; empty for the system's.
        cert: path of our certificate, for servers that ask for one.
        key: path of its key.
        user: for etcd's authentication; empty for none.
        password: of that user; never shown.
        call_timeout_s: after which a call counts as not answered.
        watch_stall_s: silence after which a watch is given up; a third of it is how often a Quiet comes.
    """

    endpoints: tuple[str, ...]
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password: str = ""
    call_timeout_s: float = 5.0
    watch_stall_s: float = 10.0

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name != "password"}
        return f"EtcdSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class EtcdStore:
    """The distributed store; implements `Store`. Made inside a running event loop; connects at its first call.

    Raises:
        ValueError: an endpoint is no address.
        OSError: a certificate file cannot be read.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        self._user = settings.user
        self._cluster = 0  # of the last read; 0 before
        self._client = EtcdClient(
            settings.endpoints,
            tls=Tls(settings.ca, settings.cert, settings.key),
            user=settings.user,
            password=settings.password,
            call_timeout_s=settings.call_timeout_s,
            watch_stall_s=settings.watch_stall_s,
        )

    async def read(self, *prefixes: str) -> Reading:
        """Everything under the prefixes at one revision; see `Store.read`."""
        return await self._again(lambda: self._read(prefixes))

    async def survey(self, prefix: str, *, keys: bool) -> Survey:
        """How many keys there are, or which, with their revisions; see `Store.survey`."""
        return await self._again(lambda: self._list(prefix) if keys else self._count(prefix))

    async def watch(self, prefix: str, revision: int) -> AsyncGenerator[Change | Quiet, None]:
        """Follow a prefix from just after `revision`; see `Store.watch`. Begins with a Quiet."""
        key, end = prefix_range(prefix)
        cluster, last = self._cluster, revision
        with self._errors(f"the watch of {prefix!a}"):
            responses = self._client.watch_prefix(key, end, start_revision=revision + 1)
            async with aclosing(responses):
                async for response in responses:
                    cluster = cluster or response.cluster
                    await self._check_time(response, cluster, last)
                    for change in changes(response.events):
                        # A response that comes late or twice: what it says is known.
                        if change.revision > last:
                            last = change.revision
                            yield change
                    if response.settled or not response.events:
                        yield Quiet(response.revision if response.settled else last if response.created else 0)

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Committed:
        """All or nothing; see `Store.commit`."""
        check_commit(conditions, operations)
        about = ", ".join(repr(_subject(operation)) for operation in operations[:1])
        with self._errors(f"the commit of {about} and {max(0, len(operations) - 1)} more"):
            compares = [COMPARES[type(condition)](condition) for condition in conditions]
            outcome = await self._client.transaction(compares, [REQUESTS[type(op)](op) for op in operations])
            return Committed(succeeded=outcome.succeeded, revision=outcome.revision)

    async def grant(self, ttl_s: int) -> Lease:
        """Begin a lease; see `Store.grant`. etcd gives at least 2 s with its default timing."""
        with self._errors("a new lease"):
            lease, ttl = await self._client.lease(ttl_s)
            return Lease(id=lease, ttl_s=float(ttl))

    async def keep_alive(self, lease: int) -> float:
        """Renew a lease; see `Store.keep_alive`."""
        with self._errors(f"lease {lease:x}"):
            ttl = await self._client.refresh_lease(lease)
        if ttl <= 0:
            raise LeaseGone(f"lease {lease:x} has ended")
        return float(ttl)

    async def revoke(self, lease: int) -> None:
        """End a lease with its keys; see `Store.revoke`."""
        try:
            with self._errors(f"lease {lease:x}"):
                await self._client.revoke_lease(lease)
        except LeaseGone:
            return

    async def close(self) -> None:
        """End all calls and connections; watches end with StoreUnavailable."""
        await self._client.close()

    # A compaction between two pages spoils a reading; the next attempt is of a newer revision.
    async def _again(self, work: Callable[[], Awaitable[T]]) -> T:
        why = ""
        for _ in range(READ_ATTEMPTS):
            try:
                return await work()
            except StartOver as error:
                why = str(error)
        raise StoreUnavailable(f"none of {READ_ATTEMPTS} reads in a row came to its end: {why}")

    async def _read(self, prefixes: Sequence[str]) -> Reading:
        found: dict[str, Entry] = {}
        revision, cluster = 0, 0
        for prefix in prefixes[:1]:
            revision, cluster = await self._read_one(prefix, found, 0, 0)
        # The others at once: one after another, a hundred keys of a slow etcd would take a hundred times as long.
        for at in range(1, len(prefixes), AT_ONCE):
            several = prefixes[at : at + AT_ONCE]
            calls = [asyncio.ensure_future(self._read_one(prefix, found, revision, cluster)) for prefix in several]
            try:
                await asyncio.gather(*calls)
            finally:
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        self._cluster = cluster
        return Reading(_name(cluster), revision, tuple(found[key] for key in sorted(found)))

    # Puts what is under one prefix into `found`: at a revision of a cluster, or with 0 now and of whichever answers.
    async def _read_one(self, prefix: str, found: dict[str, Entry], revision: int, cluster: int) -> tuple[int, int]:
        with self._errors(f"reading {prefix!a}"):
            async for page in self._client.get_prefix(*prefix_range(prefix), revision=revision):
                if page.cluster != (cluster or page.cluster):
                    raise StartOver(f"cluster {page.cluster:x} answered after {cluster:x}")
                revision, cluster = page.revision, page.cluster
                found.update((read.key, read) for read in map(entry, page.kvs))
        return revision, cluster

    async def _count(self, prefix: str) -> Survey:
        with self._errors(f"counting {prefix!a}"):
            counted = await self._client.count_prefix(*prefix_range(prefix))
        return Survey(_name(counted.cluster), counted.revision, counted.count)

    async def _list(self, prefix: str) -> Survey:
        found: dict[str, int] = {}
        revision, cluster = 0, 0
        with self._errors(f"listing {prefix!a}"):
            async for page in self._client.get_prefix(*prefix_range(prefix), keys_only=True):
                revision, cluster = page.revision, page.cluster
                found.update((key_text(kv.key), kv.mod_revision) for kv in page.kvs)
        return Survey(_name(cluster), revision, len(found), found)

    # A response from another cluster, or from before what we have seen: nothing known before is true any more.
    async def _check_time(self, response: WatchResponse, cluster: int, last: int) -> None:
        if response.cluster != cluster:
            raise StartOver(f"etcd cluster {response.cluster:x} is not the one read before, {cluster:x}")
        if response.revision >= last:
            return
        # A member that lags behind its cluster shows an older revision too; it will catch up, and a read tells.
        newest = (await self._client.get(b"\0")).revision
        if newest < last:
            raise StartOver(f"etcd is at revision {newest}, before {last}, which was seen: restored or wiped")

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except EtcdError as error:
            who = f", as user {self._user!a}" if self._user else ", without a user"
            raise _meaning(error)(f"etcd {error.endpoint}, {doing}{who}: {error.reason}") from error


def changes(events: Sequence[Event]) -> Iterator[Change]:
    """Events of whole revisions as one Change per revision, in their order."""
    for revision, group in groupby(events, key=lambda event: event.kv.mod_revision):
        whole = list(group)
        puts = sorted((entry(event.kv) for event in whole if not event.deleted), key=lambda put: put.key)
        deletes = sorted(key_text(event.kv.key) for event in whole if event.deleted)
        yield Change(revision, tuple(puts), tuple(deletes))


def entry(kv: KeyValue) -> Entry:
    """A key of etcd as an entry of the store."""
    return Entry(key_text(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def _name(cluster: int) -> str:
    return f"{cluster:016x}"


def _meaning(error: EtcdError) -> type[StoreError]:
    if error.compact_revision:
        return StartOver
    for text, code, kind in MEANINGS:
        if text in error.reason and code in {"", error.code}:
            return kind
    return StoreUnavailable


def _subject(operation: Operation) -> str:
    return operation.prefix if isinstance(operation, DeletePrefix) else operation.key


def _compare(key: str, target: int, **value: int | bytes) -> Message:
    return CLASSES["Compare"](key=key_bytes(key), target=target, result=EQUAL, **value)


# An absent key has create and mod revision 0, and no value equals it; check_commit lets no revision 0 through.
COMPARES: Mapping[type, Callable[..., Message]] = {
    Absent: lambda condition: _compare(condition.key, CREATE, create_revision=0),
    CreatedAt: lambda condition: _compare(condition.key, CREATE, create_revision=condition.revision),
    ModifiedAt: lambda condition: _compare(condition.key, MOD, mod_revision=condition.revision),
    ValueIs: lambda condition: _compare(condition.key, VALUE, value=condition.value),
}


def _put(operation: Put) -> Message:
    request = CLASSES["PutRequest"](key=key_bytes(operation.key), value=operation.value, lease=operation.lease)
    return CLASSES["RequestOp"](request_put=request)


def _delete(operation: Delete) -> Message:
    return CLASSES["RequestOp"](request_delete_range=CLASSES["DeleteRangeRequest"](key=key_bytes(operation.key)))


def _delete_prefix(operation: DeletePrefix) -> Message:
    key, end = prefix_range(operation.prefix)
    return CLASSES["RequestOp"](request_delete_range=CLASSES["DeleteRangeRequest"](key=key, range_end=end))


REQUESTS: Mapping[type, Callable[..., Message]] = {Put: _put, Delete: _delete, DeletePrefix: _delete_prefix}
