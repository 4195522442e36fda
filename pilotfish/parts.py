"""The parts by name, and how one of them is run. Importing this imports all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from confgen.io_beside import confgen_service
from confgen.resources.io_resources import ResourcesService
from confgen.settings import ConfgenSettings
from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from pilotfish import io_dns_child
from pilotfish.catalog.settings import Shared
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.console.service import ConsoleService
from pilotfish.folders import data_folder, nginx_program
from pilotfish.run import Service, do_once, run_until_signal, serve_part
from registrator.io_fleet import registrator


def _confgen(settings: ConfgenSettings, store: Store, telemetry: Telemetry) -> Service:
    return confgen_service(_placed(settings), store, telemetry)


def _placed(settings: ConfgenSettings) -> ConfgenSettings:
    """With the folders and the program that were not given."""
    if settings.with_nginx or not settings.confdir:
        program = nginx_program(settings.nginx_bin, settings.nginx)  # first: where it is missing, no folder is made
        folder = settings.nginx_dir or str(data_folder("") / "nginx")
        settings = dataclasses.replace(settings, nginx_dir=folder, nginx_bin=program)
    if settings.confdir:
        settings = dataclasses.replace(settings, state_dir=settings.state_dir or str(data_folder("") / "confd"))
    return settings


SERVICES: Mapping[str, Callable[[Any, Store, Telemetry], Service]] = MappingProxyType(
    {"registrator": registrator, "dns": DnsService, "confgen": _confgen, "console": ConsoleService}
)


def run(part: str, settings: Shared) -> None:
    """Run one part until it ends or a signal ends it.

    Raises:
        BadSettings: settings that can be judged only now, such as files that they name.
        CannotStart: the part cannot start.
    """
    if isinstance(settings, ConfgenSettings) and settings.once and settings.confdir:
        run_until_signal(do_once(part, _placed(dataclasses.replace(settings, with_nginx=False)), ResourcesService))
    elif isinstance(settings, DnsSettings) and settings.workers > 1:
        io_dns_child.run_workers(settings)
    else:
        run_until_signal(serve_part(part, settings, SERVICES[part]))
