"""EtcdClient: the calls we make of etcd v3, named as in python-etcd3, for asyncio.

It does not retry what may have happened: only reads are asked twice, and any call once more after a new login (etcd
refuses a stale token before it looks at the request). Backing off between failures is the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec

from pilotfish.catalog.etcd.auth import Auth
from pilotfish.catalog.etcd.channel import Link, Ring, Tls, parse_endpoint
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.lease import keep_alive
from pilotfish.catalog.etcd.messages import METHODS, Message
from pilotfish.catalog.etcd.watch import KeyValue, WatchResponse, WatchStream, key_value

# etcd counts the whole rest of a range for every page, so that many small ones cost it the square of what there is:
# a hundred thousand keys in pages of 1000 take it 2 s, in these less than one.
PAGE = 1000  # keys of a small page, and keys that are taken from a page at a time: a few ms
SMALL_PAGES = 2  # pages that are small: most stores have no more
PAGE_OCTETS = 2_000_000  # what a larger page should have, judged by the one before
MAX_PAGE = 10_000  # keys
READS = 2  # a read is asked of a second endpoint when the first one fails


class Range(msgspec.Struct, frozen=True):
    """Keys at one revision of one cluster, sorted by key."""

    cluster: int
    revision: int
    kvs: tuple[KeyValue, ...]


class Count(msgspec.Struct, frozen=True):
    """How many keys a range held at one revision of one cluster."""

    cluster: int
    revision: int
    count: int


class Transacted(msgspec.Struct, frozen=True):
    """Outcome of a transaction: which branch was taken, and the revision after it."""

    succeeded: bool
    revision: int


class EtcdClient:
    """One client, for any number of tasks of one event loop.

    Args:
        endpoints: "http://host:2379", "host:2379", in order of preference.
        tls: PEM files; also makes endpoints without a scheme secure.
        user: for etcd's own authentication; empty for none.
        password: of that user.
        call_timeout_s: for each call.
        watch_stall_s: silence after which a watch is given up.

    Raises:
        ValueError: no endpoint, or one that is no address.
        OSError: a certificate file cannot be read.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: Tls | None = None,
        user: str = "",
        password: str = "",
        call_timeout_s: float = 5.0,
        watch_stall_s: float = 10.0,
    ) -> None:
        if not endpoints:
            raise ValueError("no etcd endpoint is given")
        files = tls or Tls()
        secure = files != Tls()
        self._ring = Ring([parse_endpoint(endpoint, secure=secure) for endpoint in endpoints], files)
        self._auth = Auth(user, password, timeout_s=call_timeout_s)
        self._call_timeout_s = call_timeout_s
        self._watch_stall_s = watch_stall_s

    async def get(self, key: bytes) -> Range:
        """One key, or none, with the store's revision. Linearizable."""
        return _range(await self._read(METHODS["range"].request(key=key)))

    async def count_prefix(self, key: bytes, range_end: bytes) -> Count:
        """How many keys a range holds now. Linearizable."""
        reply = await self._read(METHODS["range"].request(key=key, range_end=range_end, count_only=True))
        return Count(reply.header.cluster_id, reply.header.revision, reply.count)

    async def get_prefix(
        self, key: bytes, range_end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncGenerator[Range, None]:
        """All keys of a range at one revision, in parts, so that none holds the event loop for long.

        Args:
            key: the first key.
            range_end: the first key after the range.
            revision: read as of then; 0 for now (linearizable).
            keys_only: leave the values out.

        Yields:
            At most PAGE keys at a time, at least once, all of one revision.

        Raises:
            EtcdError: OUT_OF_RANGE when the revision was compacted, also between two pages.
        """
        more, limit, pages = True, PAGE, 0
        while more:
            pages += 1
            asked = METHODS["range"].request(
                key=key, range_end=range_end, limit=limit, revision=revision, keys_only=keys_only
            )
            reply = await self._read(asked)
            revision, more = revision or reply.header.revision, reply.more
            for at in range(0, len(reply.kvs) or 1, PAGE):
                kvs = tuple(map(key_value, reply.kvs[at : at + PAGE]))
                yield Range(reply.header.cluster_id, revision, kvs)
                await asyncio.sleep(0)
            key = reply.kvs[-1].key + b"\0" if more else b""
            limit = PAGE if pages < SMALL_PAGES else _page_of(reply.ByteSize(), len(reply.kvs))
            del reply, kvs  # not to hold two pages at once

    async def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Set a key; returns the new revision."""
        reply = await self._call("put", METHODS["put"].request(key=key, value=value, lease=lease))
        return int(reply.header.revision)

    async def delete(self, key: bytes) -> int:
        """Delete a key; returns how many there were, 0 or 1."""
        return await self.delete_prefix(key, b"")

    async def delete_prefix(self, key: bytes, range_end: bytes) -> int:
        """Delete a range; returns how many keys there were."""
        reply = await self._call("delete_range", METHODS["delete_range"].request(key=key, range_end=range_end))
        return int(reply.deleted)

    async def transaction(
        self, compare: Sequence[Message], success: Sequence[Message], failure: Sequence[Message] = ()
    ) -> Transacted:
        """Apply `success` if all of `compare` hold, else `failure`; Compare and RequestOp messages."""
        asked = METHODS["txn"].request(compare=compare, success=success, failure=failure)
        reply = await self._call("txn", asked)
        return Transacted(reply.succeeded, reply.header.revision)

    async def compact(self, revision: int) -> None:
        """Forget what was before `revision`."""
        await self._call("compact", METHODS["compact"].request(revision=revision, physical=True))

    async def lease(self, ttl: int) -> tuple[int, int]:
        """Begin a lease; returns its id and the seconds the server gave it, which may be more."""
        reply = await self._call("lease_grant", METHODS["lease_grant"].request(TTL=ttl))
        return reply.ID, reply.TTL

    async def refresh_lease(self, lease: int) -> int:
        """Renew a lease; returns the seconds it has, 0 when it has ended."""
        link = await self._link()
        try:
            return await keep_alive(link, lease, self._auth.metadata, self._call_timeout_s)
        except EtcdError as error:
            self._judge(link, error)
            raise

    async def revoke_lease(self, lease: int) -> None:
        """End a lease. Raises EtcdError NOT_FOUND when it has ended before."""
        await self._call("lease_revoke", METHODS["lease_revoke"].request(ID=lease))

    async def watch_prefix(
        self, key: bytes, range_end: bytes, *, start_revision: int
    ) -> AsyncGenerator[WatchResponse, None]:
        """Follow a range from `start_revision` on; the first response says that the watch stands.

        Logs in anew first: a watch with a stale token is refused with a reason that does not say so.

        Raises:
            EtcdError: it broke, fell silent or was refused; with `compact_revision` when the past is gone.
        """
        link = await self._link()
        stream: WatchStream | None = None
        try:
            await self._auth.renew(link, self._auth.metadata)
            stream = WatchStream(link, self._auth.metadata, stall_s=self._watch_stall_s)
            async for response in stream.responses(key, range_end, start_revision):
                yield response
        except EtcdError as error:
            self._judge(link, error)
            raise
        finally:
            if stream:
                await stream.close()

    async def close(self) -> None:
        """End all calls and connections."""
        await self._ring.close()

    async def _read(self, request: Message) -> Message:
        return await self._call("range", request, tries=READS)

    async def _call(self, name: str, request: Message, *, tries: int = 1) -> Message:
        renewed = False
        while True:
            link = await self._link()
            token = self._auth.metadata
            try:
                return await link.call(name, request, token, self._call_timeout_s)
            except EtcdError as error:
                self._judge(link, error)
                if error.stale_login and self._auth.user and not renewed:
                    renewed = True
                    await self._auth.renew(link, token)
                elif error.broken and tries > 1:
                    tries -= 1
                else:
                    raise

    async def _link(self) -> Link:
        link = await self._ring.ready(self._auth.metadata)
        try:
            await self._auth.ensure(link)
        except EtcdError as error:
            self._judge(link, error)
            raise
        return link

    def _judge(self, link: Link, error: EtcdError) -> None:
        if error.broken:
            self._ring.doubt(link)


def _page_of(octets: int, keys: int) -> int:
    return max(PAGE, min(MAX_PAGE, PAGE_OCTETS * keys // max(1, octets)))


def _range(reply: Message) -> Range:
    return Range(reply.header.cluster_id, reply.header.revision, tuple(map(key_value, reply.kvs)))
