"""The parts by name, and how one of them is run. A part is imported when it is run: the others cost time and memory."""

# ruff: noqa: PLC0415  that is what this file is for

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from confgen.settings import ConfgenSettings
from dnsserver.settings import DnsSettings
from pilotfish.catalog.settings import Shared
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.folders import data_folder, nginx_program
from pilotfish.run import Service, do_once, run_until_signal, serve_part
from pilotfish.settings import ConsoleSettings
from registrator.settings import RegistratorSettings


def _registrator(settings: RegistratorSettings, store: Store, telemetry: Telemetry) -> Service:
    from registrator.io_fleet import registrator

    return registrator(settings, store, telemetry)


def _dns(settings: DnsSettings, store: Store, telemetry: Telemetry) -> Service:
    from dnsserver.service import DnsService

    return DnsService(settings, store, telemetry)


def _confgen(settings: ConfgenSettings, store: Store, telemetry: Telemetry) -> Service:
    from confgen.io_beside import confgen_service

    return confgen_service(_placed(settings), store, telemetry)


def _console(settings: ConsoleSettings, store: Store, telemetry: Telemetry) -> Service:
    from pilotfish.console.service import ConsoleService

    return ConsoleService(settings, store, telemetry)


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
    {"registrator": _registrator, "dns": _dns, "confgen": _confgen, "console": _console}
)


def run(part: str, settings: Shared) -> None:
    """Run one part until it ends or a signal ends it.

    Raises:
        BadSettings: settings that can be judged only now, such as files that they name.
        CannotStart: the part cannot start.
    """
    if isinstance(settings, ConfgenSettings) and settings.once and settings.confdir:
        from confgen.resources.io_resources import ResourcesService

        run_until_signal(do_once(part, _placed(dataclasses.replace(settings, with_nginx=False)), ResourcesService))
    elif isinstance(settings, DnsSettings) and settings.workers > 1:
        from pilotfish import io_dns_child

        io_dns_child.run_workers(settings)
    else:
        run_until_signal(serve_part(part, settings, SERVICES[part]))
