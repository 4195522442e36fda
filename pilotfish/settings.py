"""Settings of `up` and of the console, and those of all parts together; the shared ones are inherited."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from confgen.settings import ConfgenSettings
from dnsserver.settings import DnsSettings
from pilotfish.catalog.settings import Shared, option
from registrator.settings import RegistratorSettings


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
        " pilotfish/ in $XDG_DATA_HOME or ~/.local/share",
        "",
        flag="--data",
        metavar="DIR",
    )


@dataclasses.dataclass(frozen=True)
class Everything:
    """The settings of all parts, and the folder they share.

    Attributes:
        data: existing folder: store/ with the embedded store and the snapshot, nginx/, and run/ with the sockets.
    """

    up: UpSettings
    registrator: RegistratorSettings
    dns: DnsSettings
    confgen: ConfgenSettings
    data: Path
