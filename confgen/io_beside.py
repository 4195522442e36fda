"""What the config generator does: render nginx, or confd's template resources, or both beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from confgen.service import ConfgenService
from confgen.settings import ConfgenSettings
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry

if TYPE_CHECKING:
    from confgen.resources.io_resources import ResourcesService


class Beside:
    """nginx and template resources in one process."""

    def __init__(self, nginx: ConfgenService, resources: ResourcesService) -> None:
        self._nginx, self._resources = nginx, resources

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            CannotStart: one of them cannot start.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nginx.run())
            tasks.create_task(self._resources.run())

    def reload(self) -> None:
        """Read the confdir anew, and compare everything (SIGHUP)."""
        self._nginx.reload()
        self._resources.reload()

    def state(self) -> Mapping[str, object]:
        """What /api/state shows: that of nginx, and of the resources under their own names."""
        return {**self._resources.state(), **self._nginx.state()}


def confgen_service(
    settings: ConfgenSettings, store: Store, telemetry: Telemetry
) -> ConfgenService | ResourcesService | Beside:
    """The service that the settings ask for.

    Raises:
        BadSettings: they are about template resources, and name no folder of them.
    """
    if settings.confdir:
        from confgen.resources.io_resources import ResourcesService  # noqa: PLC0415  most who run nginx have none

        resources = ResourcesService(settings, store, telemetry)
        if not settings.with_nginx:
            return resources
        return Beside(ConfgenService(settings, store, telemetry), resources)
    useless = {"--once": settings.once, "--noop": settings.noop, "--sync-only": settings.sync_only,
               "--prefix": settings.prefix, "--keep-stage-file": settings.keep_stage_file}  # fmt: skip
    given = [flag for flag, value in useless.items() if value]
    if given:
        raise BadSettings([f"{flag} is for template resources: name their folder with --confdir" for flag in given])
    return ConfgenService(settings, store, telemetry)
