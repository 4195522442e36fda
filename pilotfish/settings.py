"""Settings of `up` and of the console; the shared ones are inherited."""

from __future__ import annotations

import dataclasses

from pilotfish.catalog.settings import Shared, option


@dataclasses.dataclass(frozen=True)
class ConsoleSettings(Shared):
    """What the console can be told."""

    status: tuple[str, int] = dataclasses.field(
        default=("127.0.0.1", 9704), metadata=Shared.__dataclass_fields__["status"].metadata
    )


@dataclasses.dataclass(frozen=True)
class UpSettings(Shared):
    """What `up` can be told besides the settings of its parts."""

    data: str = option(
        "folder for the embedded store, snapshots and nginx; default: /var/lib/pilotfish for root, else"
        " ~/.local/share/pilotfish",
        "",
        flag="--data",
        metavar="DIR",
    )
