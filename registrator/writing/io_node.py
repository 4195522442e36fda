"""Holds a node's key and lease, and with them the right to write under the node's name.

One loop reads the key, asks `node.judge_node` what to do, does it, renews the lease and sleeps for a third of it; a
doubt (a commit that the fence refused, a lease that was found dead, a key that the watch saw go) wakes it at once.
`ground` is what all writes stand on; it is None while the right is not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import msgspec

from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.keys import containers_of, node_key
from pilotfish.catalog.record import BadRecord, Node, decode, encode
from pilotfish.catalog.store import (
    Absent,
    Condition,
    DeletePrefix,
    Entry,
    Lease,
    LeaseGone,
    ModifiedAt,
    Put,
    Store,
    StoreError,
)
from pilotfish.catalog.telemetry import Telemetry
from registrator.writing.node import Adopt, Fresh, Judgement, Ours, Refuse, StandBy, judge_node
from registrator.writing.plan import Ground

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0  # after a partition everything is registered again within two seconds
TAKEN_RETRY_S = 2.0  # how often a name that is another's is looked at again
LEAVE_S = 1.5  # for taking the records away at the end; whoever stops us waits for it


class Tenure:
    """The node's key, its lease and the fence.

    Args:
        store: where the key stands.
        telemetry: readiness under the name "node", log.
        me: this process's record of the node.
        ttl_s: how long the lease is.
        patient: wait for a store that is away and a name that is another's; else give up.
    """

    def __init__(self, store: Store, telemetry: Telemetry, me: Node, ttl_s: int, *, patient: bool = True) -> None:
        self.ground: Ground | None = None
        self.node = me.node
        self.epoch = 0  # grows whenever `ground` is a new one
        self._store, self._telemetry, self._me, self._ttl_s = store, telemetry, me, ttl_s
        self._key, self._patient = node_key(me.node), patient
        self._fence = 0
        self._said = 0  # epoch in which the key says that everything is listed
        self._told = ""  # why the key is not ours, as it was said last
        self._acting = asyncio.Lock()  # what was read of the key holds until it was acted on
        self._spare: set[int] = set()  # leases that were left behind, to be ended when nothing hangs on them any more
        self._woken = asyncio.Event()
        self._changed = asyncio.Condition()
        self._on_new: Callable[[], None] = lambda: None
        telemetry.ready.bad("node", "its key is not taken yet")

    async def run(self) -> None:
        """Take the key, keep it, and take it again when it was lost, until cancelled.

        Raises:
            CannotReach: the store is away, and we are not patient.
            CannotStart: the name is another's, and we are not patient.
        """
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while True:
            self._woken.clear()
            try:
                async with self._acting:
                    pause_s = await self._act(judge_node(await self._read(), self._me, self._fence))
            except StoreError as error:
                if not self._patient:
                    raise CannotReach(str(error)) from error
                self._telemetry.ready.bad("node", str(error))
                self._telemetry.log.warning("node %s: %s", self._me.node, error, extra={"cause": "node"})
                await backoff.wait()
                continue
            backoff.reset()
            await self._sleep(pause_s)

    def serves(self, engine: str, addresses: tuple[str, ...]) -> None:
        """Say on the key what has changed: the engine (its data was replaced), the host's addresses."""
        me = msgspec.structs.replace(self._me, engine=engine, addresses=addresses)
        if me != self._me:
            changed = {"engine": engine, "addresses": " ".join(addresses)}
            self._telemetry.log.warning("the engine or the host's addresses are others than before", extra=changed)
            self._me = me
            self._put_again()

    def _put_again(self) -> None:
        """The key as it stands is no longer as we want it."""
        self._fence = min(self._fence, 1)
        self.doubt()

    def _stands(self, revision: int, put: Node) -> None:
        """The key was put; what it is to say may have changed while that was under way."""
        self._fence = revision
        if put != self._me:
            self._put_again()

    def doubt(self) -> None:
        """Something says that the key may be lost: look at once."""
        self._woken.set()

    def tell(self, on_new: Callable[[], None]) -> None:
        """Have `on_new` called whenever there is a new ground: everything is to be put under its lease."""
        self._on_new = on_new

    async def held(self) -> Ground:
        """The ground; waits until there is one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.ground is not None)
        if self.ground is None:  # lost again between the two lines
            return await self.held()
        return self.ground

    async def settled(self) -> None:
        """Everything hangs on the lease of `ground`: end those that were left behind."""
        for lease in self._spare.copy():
            await self._store.revoke(lease)
            self._spare.discard(lease)

    async def listed(self, epoch: int) -> None:
        """Have the key say that in this epoch everything that runs was looked at and is written, unless it says so.

        It is put once more, so the fence moves: for whoever writes, in between two commits. What is recorded stays.
        """
        async with self._acting:
            ground = self.ground
            if ground is None or epoch != self.epoch or self._said == epoch:
                return
            me = self._me
            value = encode(msgspec.structs.replace(me, listed=True))
            done = await self._store.commit([ground.fence], [Put(self._key, value, ground.lease)])
            if not done.succeeded:
                self.doubt()
                return
            self._stands(done.revision, me)
            self._said = epoch
            self.ground = ground._replace(fence=ModifiedAt(self._key, done.revision))

    async def leave(self, *, remove: bool) -> None:
        """The end of this process. The records stay until the lease ends, or go at once.

        To remove them, they are deleted while the node's key still stands, which tells readers that it is on purpose.
        The key stays for one lease more, for those that are away in this moment; nobody has to wait for its end.
        """
        ground, self.ground = self.ground, None
        if ground is None or not remove:
            return
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                fence = await self._own_fence(ground)
                last = await self._store.grant(self._ttl_s)
                leaving = Put(self._key, encode(msgspec.structs.replace(self._me, leaving=True)), last.id)
                gone = await self._store.commit([fence], [leaving, DeletePrefix(containers_of(ground.node))])
                if gone.succeeded:
                    await self._store.revoke(ground.lease)

    async def _own_fence(self, ground: Ground) -> Condition:
        """The fence as it stands: the end may have come while the key was put once more."""
        entry = await self._read()
        try:
            ours = entry is not None and decode(Node, entry.value).instance == self._me.instance
        except BadRecord:
            ours = False
        return ModifiedAt(self._key, entry.mod_revision) if entry and ours else ground.fence

    async def _read(self) -> Entry | None:
        return (await self._store.read(self._key)).entry(self._key)

    async def _act(self, judgement: Judgement) -> float:
        """Do what was judged; returns how long to sleep."""
        match judgement:
            case Fresh():
                await self._lose()
                lease = await self._store.grant(self._ttl_s)
                return await self._put(Absent(self._key), lease, frozenset())
            case Adopt(entry):
                await self._lose()
                return await self._put(
                    ModifiedAt(self._key, entry.mod_revision), await self._adopted(entry), frozenset({entry.lease})
                )
            case Ours():
                return await self._renew()
            case StandBy(why) | Refuse(why):
                await self._lose()
                if not self._patient:
                    raise CannotStart(why)
                self._telemetry.ready.bad("node", why)
                if why != self._told:
                    self._telemetry.log.error("%s", why, extra={"cause": "node"})
                    self._told = why
                return TAKEN_RETRY_S

    async def _adopted(self, entry: Entry) -> Lease:
        """The lease found on the key, if it lives and is as long as ours is to be; else a new one."""
        if entry.lease:
            with contextlib.suppress(LeaseGone):
                ttl_s = await self._store.keep_alive(entry.lease)
                if abs(ttl_s - self._ttl_s) <= 1:  # stores round
                    return Lease(entry.lease, ttl_s)
                self._spare.add(entry.lease)
        return await self._store.grant(self._ttl_s)

    async def _put(self, condition: Condition, lease: Lease, before: frozenset[int]) -> float:
        me = self._me
        done = await self._store.commit([condition], [Put(self._key, encode(me), lease.id)])
        if not done.succeeded:
            return 0.0  # somebody was faster: judge again
        self._stands(done.revision, me)
        leases = (before | {lease.id}) - {0}
        await self._hold(Ground(self._me.node, lease.id, ModifiedAt(self._key, done.revision), leases))
        self._telemetry.ready.good("node")
        self._telemetry.log.info("registering as %s", self._me.node, extra={"lease": f"{lease.id:x}"})
        return self._third(lease.ttl_s)

    async def _renew(self) -> float:
        if self.ground is None:
            return 0.0
        try:
            ttl_s = await self._store.keep_alive(self.ground.lease)
        except LeaseGone:
            self._telemetry.log.warning("the lease of %s has ended: registering anew", self._me.node)
            await self._lose()
            self._fence = 0
            return FIRST_RETRY_S
        self._telemetry.ready.good("node")
        return self._third(ttl_s)

    def _third(self, ttl_s: float) -> float:
        return min(ttl_s, self._ttl_s) / 3 * random.uniform(0.8, 1.0)  # noqa: S311  jitter

    async def _hold(self, ground: Ground) -> None:
        async with self._changed:
            self.ground, self._told = ground, ""
            self.epoch += 1
            self._changed.notify_all()
        self._on_new()

    async def _lose(self) -> None:
        async with self._changed:
            self.ground = None
            self._changed.notify_all()

    async def _sleep(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._woken.wait()
