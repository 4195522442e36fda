"""A store whose commits can get lost on the way, and arrive later, behind newer ones.

etcd does so: a member that is cut off from its leader hands a proposal to a connection that delivers it when it is
healed, seconds after the client was told that its time was over (seen 3.3 s after a cut of 4 s, etcd 3.4.23).
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import Committed, Condition, LeaseGone, Operation, StoreUnavailable


class LateStore(EmbeddedStore):
    """An embedded store in whose way commits can get lost.

    Attributes:
        losing: commits get lost from now on, as long as this is true.
        lost: those that did, in their order.
    """

    losing = False

    def __init__(self) -> None:
        super().__init__(quiet_s=1.0)
        self.lost: list[tuple[Sequence[Condition], Sequence[Operation]]] = []

    async def commit(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Committed:
        """As the store's; one that gets lost is not answered."""
        if not self.losing:
            return await super().commit(conditions, operations)
        self.lost.append((conditions, operations))
        raise StoreUnavailable("the commit was not answered in time")

    async def deliver(self) -> list[bool]:
        """What was lost arrives after all; says of each commit whether it was taken: it held, and its lease lives."""
        arrived, self.lost = self.lost, []
        return [await self._taken(*one) for one in arrived]

    async def _taken(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> bool:
        try:
            return (await super().commit(conditions, operations)).succeeded
        except LeaseGone:
            return False
