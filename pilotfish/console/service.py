"""The console: the whole catalog as read-only JSON. A page and `explain` stand on it later."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.catalog import keys, panic
from pilotfish.catalog.guard import Guard
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.io_orphans import OrphanCare
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.settings import Shared
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.console.state import catalog_state


class ConsoleService:
    """Follows the catalog and shows it."""

    def __init__(self, settings: Shared, store: Store, telemetry: Telemetry) -> None:
        self._settings = settings
        self._registry = Registry()
        panic.show(telemetry, self._registry.panics)
        guard = Guard(settings.guard, lambda: self._registry)
        self._care = OrphanCare(settings.node_name, settings.orphans_s, telemetry, guard)
        self._follower = Follower(
            store,
            keys.ROOT,
            self._apply,
            telemetry,
            verify_s=settings.verify_s,
            care=self._care,
        )

    def _apply(self, difference: Difference) -> None:
        self._registry.apply(difference)

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._follower.run()

    def state(self) -> Mapping[str, object]:
        """The catalog as it is known now."""
        return (
            catalog_state(self._registry, self._settings.domain)
            | self._care.state()
            | {
                "connected": self._follower.connected,
                "age_s": round(self._follower.age_s(), 3) if self._follower.mirror.complete else None,
            }
        )
