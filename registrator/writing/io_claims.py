"""Puts a node's claims to routes, before its records are written, and looks after those that nobody uses.

What is claimed is decided by `claims`; here it is committed under the node's fence: many claims together, and one by
one when somebody else was faster with one of them.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence

from pilotfish.catalog.record import Claim, Endpoint, decode
from pilotfish.catalog.route import Place, Reserved
from pilotfish.catalog.store import Condition, Operation, Put, Store, StoreError
from pilotfish.catalog.telemetry import Telemetry
from registrator.metrics import Metrics
from registrator.writing.claims import Conflict, Held, Step, plan_claims, plan_idle
from registrator.writing.plan import Desired, Ground
from registrator.writing.wishes import Tidied

AT_ONCE = 100  # claims in one commit; each has a condition, and the fence is one more

ClaimsNow = Callable[[], Mapping[Place, Held]]


class Contended(StoreError):
    """Somebody else was faster; what there is now must be read."""


class Claimant:
    """Claims for one node.

    Args:
        store: where to.
        claims_now: all claims as the mirror has them.
        reserved: our domains, and what nobody may take.
        telemetry: log and clock.
        metrics: counts.
        tidy: what is to be written about wishes for what is gone, at a UNIX time in seconds.
    """

    def __init__(
        self,
        store: Store,
        claims_now: ClaimsNow,
        reserved: Reserved,
        telemetry: Telemetry,
        metrics: Metrics,
        *,
        tidy: Callable[[float], Sequence[Tidied]] = lambda _: (),
    ) -> None:
        self.conflicts: dict[str, tuple[Conflict, ...]] = {}  # by container id
        self._store, self._claims_now, self._reserved = store, claims_now, reserved
        self._telemetry, self._metrics = telemetry, metrics
        self._tidy = tidy
        self._fresh: dict[Place, Held] = {}  # ours, until the mirror has them

    def claims(self) -> Mapping[Place, Held]:
        """All claims: the mirror's, and ours that it has not seen yet."""
        seen = self._claims_now()
        self._fresh = {
            place: held
            for place, held in self._fresh.items()
            if place not in seen or seen[place].revision < held.revision
        }
        return ChainMap(self._fresh, dict(seen)) if self._fresh else seen

    async def claim(self, ground: Ground, desired: Mapping[str, Desired | None]) -> None:
        """Claim what some containers ask for; what others have is listed in `conflicts`.

        Raises:
            Contended: somebody else was faster.
        """
        records = sorted((one.record for one in desired.values() if one), key=lambda one: (one.started, one.id))
        endpoints = [endpoint for record in records for endpoint in record.endpoints]
        steps, conflicts = plan_claims(endpoints, self.claims(), self._reserved, self._telemetry.now())
        owner = {endpoint.id: record.id for record in records for endpoint in record.endpoints}
        for container in desired:
            before = self.conflicts.pop(container, ())
            found = tuple(conflict for conflict in conflicts if owner[conflict.endpoint] == container)
            if found:
                self.conflicts[container] = found
            for conflict in set(found) - set(before):
                self._telemetry.log.warning("a route is refused: %s", conflict)
        for at in range(0, len(steps), AT_ONCE):
            await self._put(ground, steps[at : at + AT_ONCE])

    async def _put(self, ground: Ground, steps: Sequence[Step]) -> None:
        """Put claims together; if one of them is lost to somebody else, one by one."""
        if await self._commit(ground, steps):
            return
        lost = [step.place for step in steps if len(steps) == 1 or not await self._commit(ground, [step])]
        if lost:
            raise Contended(f"the route {lost[0].host}{lost[0].path} was claimed by somebody else just now")

    async def _commit(self, ground: Ground, steps: Sequence[Step]) -> bool:
        conditions: list[Condition] = [ground.fence, *(one for step in steps for one in step.conditions)]
        operations: list[Operation] = [step.operation for step in steps]
        done = await self._store.commit(conditions, operations)
        if not done.succeeded:
            return False
        self._metrics.committed(len(operations))
        for step in steps:
            if isinstance(step.operation, Put):
                self._fresh[step.place] = Held(decode(Claim, step.operation.value), done.revision)
        return True

    async def tend(self, ground: Ground, endpoints: Iterable[Endpoint]) -> None:
        """Mark claims that nobody uses, and remove those that are free; wishes about what is gone likewise.

        Args:
            ground: what the writes stand on.
            endpoints: of all nodes, ours included.
        """
        steps = plan_idle(endpoints, self.claims(), self._telemetry.now())
        for step in steps[:AT_ONCE]:
            await self._commit(ground, [step])  # a lost race is fine: somebody else has done it
        for tidied in self._tidy(self._telemetry.now())[:AT_ONCE]:
            done = await self._store.commit([ground.fence, tidied.condition], [tidied.operation])
            if done.succeeded and tidied.said:
                self._telemetry.log.info("%s", tidied.said)
