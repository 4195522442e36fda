"""Keeps the store in step with what is wanted: takes what may have changed, plans, commits, and tries again.

One task; whatever piled up while it wrote is written together. What the store holds of this node is modelled by
`recorded`: read when the node's key was taken, kept up by own commits and by what the watch says, and compared with the
store now and then. What a failed commit leaves open is read again before the next plan. Claims come before records.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.keys import container_key, containers_of
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Endpoint
from pilotfish.catalog.store import BadRequest, Delete, LeaseGone, Put, Store, StoreError, StoreFull
from pilotfish.catalog.telemetry import Telemetry
from registrator.book import Book
from registrator.metrics import Metrics
from registrator.writing.io_claims import Claimant, Contended
from registrator.writing.io_node import Tenure
from registrator.writing.plan import Commit, Desired, Ground, Owners, Plan, plan, started
from registrator.writing.recorded import Recorded

READ_AT_ONCE = 100  # keys in one read; etcd takes 128 operations in a transaction
MOST_AT_ONCE = 1000  # containers planned together
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0
# A storm is when this many containers wait to be looked at: then a commit waits for so many containers, or so long.
STORM = 16
STORM_CONTAINERS = 40  # with three keys each, a whole transaction
STORM_STEPS = 50
STORM_STEP_S = 0.01


class Writer:
    """The one that writes this node's records, exports and claims.

    Args:
        store: where to.
        tenure: the right to, and the lease.
        book: what is wanted.
        claimant: puts the claims.
        telemetry: readiness under the name "records", log.
        metrics: counts.
        crowd: how many containers wait to be looked at.
        mirrored: set once it is known what others have registered, wishes and claims: what is wanted depends on it.
        look_at: called with ids of containers that are recorded, or marked, and were never looked at.
        complete: says whether everything that runs was looked at.

    Attributes:
        begun: set once the store was read, the mirror and what is recorded of this node: what is looked at earlier
            would be judged, and written, as if there were no wishes, no swarm and no record of it.
    """

    def __init__(
        self,
        *,
        store: Store,
        tenure: Tenure,
        book: Book,
        claimant: Claimant,
        telemetry: Telemetry,
        metrics: Metrics,
        crowd: Callable[[], int],
        mirrored: asyncio.Event,
        look_at: Callable[[set[str]], None],
        complete: Callable[[], bool],
    ) -> None:
        self.recorded = Recorded(tenure.node)
        self.refused: dict[str, str] = {}  # container id -> why
        self._store, self._tenure, self._book = store, tenure, book
        self._claimant = claimant
        self._telemetry, self._metrics, self._look_at = telemetry, metrics, look_at
        self._crowd, self._mirrored, self._complete = crowd, mirrored, complete
        self.begun = asyncio.Event()
        self._owners = Owners()
        self._blocked: dict[str, dict[str, str]] = {}  # container id -> export key -> why it is not written
        self._dirty: dict[str, float] = {}  # container id -> when it was observed; 0: nobody measures
        self._doubtful: set[str] = set()  # keys that must be read before they are planned with
        self._verify = False
        self._full = False  # the store takes no puts: what is gone is taken away all the same
        self._to_tend: Sequence[Endpoint] | None = None
        self._loaded = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        tenure.tell(self._wake.set)  # its keys hang on a lease that nobody keeps any more
        telemetry.ready.bad("records", "not written yet")

    @property
    def blocked(self) -> dict[str, str]:
        """Exports that are not written, each with the reason."""
        return {key: why for keys in self._blocked.values() for key, why in keys.items()}

    # --- what there is to do

    def mark(self, containers: Iterable[str], observed: float = 0.0) -> None:
        """These may have to be written; `observed`: UNIX time in seconds of the event behind it."""
        for container in containers:
            self._dirty[container] = min(filter(None, (self._dirty.get(container, 0.0), observed)), default=0.0)
        if self._dirty:
            self._settled.clear()
            self._wake.set()

    def observe(self, difference: Difference) -> None:
        """The mirror changed: take in what others did to our records."""
        if difference.started_over:
            self.reload()
        changed = self.recorded.observe(difference)
        self._doubtful |= self.recorded.listed(changed)
        self.mark(changed)

    def reload(self) -> None:
        """The model may be wrong altogether: read it anew."""
        self._loaded = 0
        self._wake.set()

    def verify(self) -> None:
        """Compare the model with the store at the next occasion."""
        self._verify = True
        self._wake.set()

    def tend(self, endpoints: Sequence[Endpoint]) -> None:
        """Look after claims at the next occasion; `endpoints`: of all nodes, ours included."""
        self._to_tend = endpoints
        self._wake.set()

    def look_again(self) -> None:
        """See whether everything is written, and say so."""
        self._wake.set()

    async def settled(self) -> None:
        """Wait until everything that is known to be wanted is written."""
        await self._settled.wait()

    # --- doing it

    async def run(self) -> None:
        """Write, for ever."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while True:
            await self._wake.wait()
            await self._gather()
            try:
                await self._round()
                backoff.reset()
                self._full = False
            except StoreError as error:
                self._full = isinstance(error, StoreFull)
                if isinstance(error, LeaseGone | Contended):
                    self._tenure.doubt()
                else:
                    self._telemetry.ready.bad("records", str(error))
                self._telemetry.log.warning("cannot write yet: %s", error, extra={"cause": f"write {type(error)}"})
                await backoff.wait()

    async def _gather(self) -> None:
        """In a storm, let changes pile up, so that a thousand starts do not make a thousand transactions."""
        for _ in range(STORM_STEPS):
            if self._crowd() < STORM or len(self._dirty) >= STORM_CONTAINERS:
                return
            await asyncio.sleep(STORM_STEP_S)

    async def _round(self) -> None:
        await self._mirrored.wait()
        ground = await self._tenure.held()
        if self._loaded != self._tenure.epoch:
            await self._load(ground, self._tenure.epoch)
        ground = self._with_leases(ground)
        if self._verify:
            await self._compare()
        self._wake.clear()
        work = dict(itertools.islice(self._dirty.items(), MOST_AT_ONCE))
        self._dirty = {container: at for container, at in self._dirty.items() if container not in work}
        try:
            await self._write(ground, work)
        except BaseException:
            self.mark(work, 0.0)
            self._dirty.update({container: at for container, at in work.items() if at})
            raise
        if self._to_tend is not None:
            endpoints, self._to_tend = self._to_tend, None
            await self._claimant.tend(ground, endpoints)
        if self._dirty:
            self._wake.set()
            return
        if not self.recorded.elsewhere(ground.lease):
            await self._tenure.settled()
        if self._complete():
            await self._tenure.listed(self._loaded)
            self._telemetry.ready.good("records")
        self._settled.set()

    async def _load(self, ground: Ground, epoch: int) -> None:
        self._loaded = epoch  # now: what is asked for while we read is not lost
        try:
            reading = await self._store.read(containers_of(ground.node))
            self.recorded.start(reading.entries)
            self._doubtful.clear()
            await self._read(self.recorded.listed())
        except BaseException:
            self._loaded = 0
            raise
        self.begun.set()
        self.mark(self._book.pages.keys() | self.recorded.records.keys())
        self._look_at({container for container in self.recorded.records if not self._book.knows(container)})

    async def _read(self, keys: Collection[str]) -> set[str]:
        """Read keys into the model, then what records that came with them list; returns those that were not as held."""
        known, changed = self.recorded.listed().union(keys), set[str]()
        for batch in _batched(sorted(keys), READ_AT_ONCE):
            reading = await self._store.read(*batch)
            changed |= self.recorded.read(batch, {entry.key: entry for entry in reading.entries})
        if further := self.recorded.listed() - known:
            changed |= await self._read(further)
        return changed

    def _with_leases(self, ground: Ground) -> Ground:
        """Whatever our records hang on has been our lease."""
        leases = {entry.lease for entry in self.recorded.records.values()} - {0}
        return ground._replace(leases=ground.leases | leases)

    async def _compare(self) -> None:
        """Read what differs from the model, and have it written."""
        node = self._tenure.node
        survey = await self._store.survey(containers_of(node), keys=True)
        modelled = {entry.key: entry.mod_revision for entry in self.recorded.records.values()}
        differing = {key for key, _ in survey.keys.items() ^ modelled.items()}
        changed = await self._read(differing | self.recorded.listed() | self.blocked.keys())
        self._verify = False
        if changed:
            self._metrics.store_fixed.inc(len(changed))
            self._telemetry.log.info("the store was not as it was left", extra={"keys": len(changed)})
        self.mark(set(self.recorded.records) | self._book.pages.keys())

    async def _write(self, ground: Ground, work: Mapping[str, float]) -> None:
        known = [container for container in sorted(work) if self._book.knows(container)]
        if len(known) < len(work):
            self._look_at(work.keys() - set(known))
        desired = {container: self._book.desired(container) for container in known}
        full = await self._claim(ground, desired)
        granted = self._granted(desired)
        await self._settle_doubts()
        apart = self._full or full is not None
        planned = plan(granted, self.recorded.records, self.recorded.held, ground, apart=apart)
        self._note(desired, planned)
        for commit in planned.commits:
            if full and any(isinstance(operation, Put) for operation in commit.operations):
                raise full
            await self._commit(ground, commit, work)
        if full:
            raise full

    async def _claim(self, ground: Ground, desired: Mapping[str, Desired | None]) -> StoreFull | None:
        """Claim routes; returns the error of a full store: nothing may be put then, and what is gone can leave."""
        try:
            await self._claimant.claim(ground, desired)
        except StoreFull as error:
            return error
        return None

    async def _settle_doubts(self) -> None:
        doubtful, self._doubtful = self._doubtful, set()
        try:
            await self._read(doubtful)
        except BaseException:
            self._doubtful |= doubtful
            raise

    def _granted(self, desired: Mapping[str, Desired | None]) -> dict[str, Desired | None]:
        """Leave out export keys that belong to another container of this node."""
        for container, one in desired.items():
            self._owners.release(container, one.exports if one else ())
        granted: dict[str, Desired | None] = {}
        for container, one in sorted(desired.items(), key=lambda item: (started(item[1]), item[0])):
            if one is None:
                granted[container] = None
                continue
            granted[container] = Desired(one.record, self._owners.take(container, one.exports))
        self.mark([other for other, keys in self._blocked.items() if not all(map(self._owners.owner, keys))])
        return granted

    def _note(self, desired: Mapping[str, Desired | None], planned: Plan) -> None:
        """Keep what is not written, and say what is new of it."""
        for container, one in desired.items():
            before = self._blocked.pop(container, {})
            reasons = ((key, self._obstacle(container, key, planned)) for key in (one.exports if one else ()))
            now = {key: why for key, why in reasons if why}
            if now:
                self._blocked[container] = now
            for key, why in now.items():
                if before.get(key) != why:
                    self._telemetry.log.warning(
                        "container %s: an export is not written: %s", self._called(container), why
                    )
            if container not in planned.refused:
                self.refused.pop(container, None)
        for container, why in planned.refused.items():
            self._refuse(container, why)

    def _obstacle(self, container: str, key: str, planned: Plan) -> str:
        owner = self._owners.owner(key)
        if owner != container:
            return f"{key!a} is written for container {self._called(owner)} already: give one of them another ID tag"
        return planned.blocked.get(key, "")

    def _called(self, container: str) -> str:
        page = self._book.pages.get(container)
        return f"{page.facts.name} ({container[:12]})" if page else container[:12]

    def _refuse(self, container: str, why: str) -> None:
        if self.refused.get(container) != why:
            self._telemetry.log.error("container %s is not recorded: %s", self._called(container), why)
        self.refused[container] = why

    async def _commit(self, ground: Ground, commit: Commit, work: Mapping[str, float]) -> None:
        try:
            done = await self._store.commit(commit.conditions, commit.operations)
        except BadRequest as error:
            await self._apart(ground, commit, work, error)
            return
        except StoreError:
            self._doubt(ground, commit)  # it may have happened
            raise
        if not done.succeeded:
            self._doubt(ground, commit)
            raise Contended("another process changed what was to be written")
        self.recorded.performed(commit.operations, done.revision)
        self._metrics.committed(len(commit.operations))
        for container in commit.containers:
            if work.get(container):
                self._telemetry.converged("store", work[container])

    async def _apart(self, ground: Ground, commit: Commit, work: Mapping[str, float], error: BadRequest) -> None:
        """The store refuses a commit for good: write its containers one by one, and leave out the one it is about."""
        if len(commit.containers) == 1:
            self._refuse(commit.containers[0], str(error))
            return
        for container in commit.containers:
            await self._write(ground, {container: work.get(container, 0.0)})

    def _doubt(self, ground: Ground, commit: Commit) -> None:
        self._doubtful |= {operation.key for operation in commit.operations if isinstance(operation, Put | Delete)}
        self._doubtful |= {container_key(ground.node, container) for container in commit.containers}


def _batched(keys: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))
