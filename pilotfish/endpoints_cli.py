"""The command `pilotfish endpoints`."""

from __future__ import annotations

import json
from typing import Any

import click

from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.registry import Registry
from pilotfish.endpoints import Row, UnknownService, plain, rows, table, unlisted
from pilotfish.flags import Given, environment, shared
from pilotfish.settings import UpSettings

ABOUT = """List what is registered: service, name, address, health, node and age.

    The health is the verdict that DNS and proxies act on, with its reason. The catalog is that of --etcd, else of the
    `pilotfish up` that runs here."""


def command() -> click.Command:
    """The command."""
    own = [
        click.Argument(["service"], required=False, metavar="[SERVICE]"),
        click.Option(["--json", "as_json"], is_flag=True, help="print JSON; with --watch, one document a line"),
        click.Option(["--watch"], is_flag=True, help="print it again whenever it changes"),
    ]
    return click.Command("endpoints", params=[*own, *shared("--domain", store=True)], callback=_endpoints, help=ABOUT)


def _endpoints(service: str | None, as_json: bool, watch: bool, **flags: Any) -> None:  # noqa: ANN401  click's flags
    given = Given(flags, environment(), flags.pop("config") or "")
    settings = given.one("up", UpSettings)
    domain = settings.domain[0]
    before: list[list[Row]] = []

    def show(registry: Registry, now: float) -> None:
        note = unlisted(registry)
        try:
            listed = rows(registry, service, domain)
        except UnknownService as error:
            if not watch:
                raise CannotStart(f"{error}; {note}" if note else str(error)) from error
            listed = []
        if before == [listed]:
            return
        before[:] = [listed]
        if as_json:
            click.echo(json.dumps(plain(listed, now), indent=None if watch else 2))
        else:
            click.echo(table(listed, now) + "\n" * watch)
        if note:
            click.echo(note, err=True)

    from pilotfish import io_endpoints  # noqa: PLC0415  what reaches the store is imported by the command that needs it

    io_endpoints.run(settings, show, watch=watch)
