"""`pilotfish drain`, `undrain`, `shift` and `release`: what operators do to a running catalog."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import BadValue, parse_duration
from pilotfish.flags import Given, environment, shared
from pilotfish.folders import host_name
from pilotfish.settings import UpSettings

if TYPE_CHECKING:
    from pilotfish.catalog.store import Store
    from pilotfish.io_operate import Asked

TIMEOUT = "5m"

Performed = Callable[["Store", UpSettings], Coroutine[Any, Any, None]]
Operation = Callable[[dict[str, Any]], Performed]  # from flags to what is done; wrong flags are said at once

DRAIN = """Take a container, a node or a service out of DNS and proxies, and wait until it is safe to stop it.

    WHAT is a node, a service, a container's name or the beginning of its id; `node:`, `service:` or `container:` in
    front says which, where several are called so.

    Exit code 0: every proxy has applied it, cached DNS answers have run out, and what the DRAIN tag asks for has
    passed. 1: not within --timeout; what is missing is said, and the drain stands."""
UNDRAIN = """Bring back what was drained, and wait until all proxies and DNS servers know it again.

    Exit code 1: not within --timeout, or nothing of it is served for another reason, which is said."""

SHIFT = """Say how the versions of a service (VERSION tag) share the load, in DNS and at the proxies together.

    What is left of 100 goes to the versions that are not named, by weight; an empty VERSION is that of containers
    without the tag. It stands until --clear, across all restarts.

    \b
      pilotfish shift web v2=10      a tenth to v2, the rest to the others
      pilotfish shift web v2=100     all of it to v2"""
RELEASE = """Free a route that a service has claimed, so that another that asks for it gets it at once.

    A claim is free by itself a day after its last endpoint went.

    With --guard instead: DNS servers and proxies let go at once of containers that they still serve because the records
    of most of all were taken away."""


def commands() -> tuple[click.Command, ...]:
    """The commands."""
    shares = [
        click.Argument(["service"], metavar="SERVICE"),
        click.Argument(["shares"], metavar="[VERSION=PERCENT ...]", nargs=-1),
        click.Option(["--clear"], is_flag=True, help="share the load by weights again"),
    ]
    route = [
        click.Argument(["route"], metavar="[HOST[/PATH]]", default=""),
        click.Option(["--guard"], is_flag=True, help="let go of what the blast-radius guard holds"),
    ]
    return (
        _command("drain", _drain, DRAIN, [_what(), _force(), *_waiting()]),
        _command("undrain", _undrain, UNDRAIN, [_what(), *_waiting()]),
        _command("shift", _shift, SHIFT, [*shares, _force(), *_waiting()]),
        _command("release", _release, RELEASE, route),
    )


def _command(name: str, perform: Operation, about: str, params: list[click.Parameter]) -> click.Command:
    def called(**flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
        own = {name: flags.pop(name) for name in [*flags] if name not in _SHARED_NAMES}
        given = Given(flags, environment(), flags.pop("config", "") or "")
        settings = given.one("up", UpSettings, {"node-name": host_name()})
        from pilotfish import io_operate  # noqa: PLC0415  not for every --help and health check

        io_operate.run(settings, perform(own))

    return click.Command(name, params=[*params, *_shared()], callback=called, help=about)


def _shared() -> list[click.Option]:
    return shared("--proxy-name", store=True)


_SHARED_NAMES = frozenset(str(one.name) for one in _shared())


def _force() -> click.Option:
    return click.Option(["--force"], is_flag=True, help="also when nothing is left of a service")


def _what() -> click.Argument:
    return click.Argument(["what"], metavar="CONTAINER|NODE|SERVICE")


def _waiting() -> list[click.Parameter]:
    return [
        click.Option(
            ["--timeout"], default=TIMEOUT, metavar="TIME", show_default=True, help="how long to wait at most"
        ),
        click.Option(["--no-wait"], is_flag=True, help="do not wait"),
    ]


def _timeout_s(flags: dict[str, Any]) -> float | None:
    if flags.get("no_wait", True):
        return None
    try:
        return parse_duration(flags["timeout"])
    except BadValue as error:
        raise BadSettings([f"--timeout: {error}"]) from error


def _drain(flags: dict[str, Any]) -> Performed:
    from pilotfish import io_operate  # noqa: PLC0415  see above

    how = _how(flags)
    return lambda store, settings: io_operate.drain(store, flags["what"], how(settings))


def _undrain(flags: dict[str, Any]) -> Performed:
    from pilotfish import io_operate  # noqa: PLC0415  see above

    how = _how(flags)
    return lambda store, settings: io_operate.undrain(store, flags["what"], how(settings))


def _shift(flags: dict[str, Any]) -> Performed:
    from pilotfish import io_operate, operate_shift  # noqa: PLC0415  see above

    service, shares, how = flags["service"], flags["shares"], _how(flags)
    if flags["clear"]:
        if shares:
            raise BadSettings(["--clear takes the shift back: give no shares with it"])
        return lambda store, settings: io_operate.unshift(store, service, how(settings))
    percents = operate_shift.percents(shares)
    return lambda store, settings: io_operate.shift(store, service, percents, how(settings))


def _release(flags: dict[str, Any]) -> Performed:
    from pilotfish import io_operate  # noqa: PLC0415  see above

    how = _how(flags)
    if flags["guard"] is bool(flags["route"]):
        raise BadSettings(["release: give either a route, HOST[/PATH], or --guard"])
    if flags["guard"]:
        return lambda store, settings: io_operate.release_guard(store, how(settings))
    return lambda store, settings: io_operate.release(store, flags["route"], how(settings))


def _how(flags: dict[str, Any]) -> Callable[[UpSettings], Asked]:
    from pilotfish import io_operate  # noqa: PLC0415  see above

    force, timeout_s = flags.get("force", False), _timeout_s(flags)
    return lambda settings: io_operate.Asked(click.echo, force, timeout_s, settings.proxy_name)
