"""`pilotfish drain`, `undrain`, `shift` and `release`: what operators do to a running catalog."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import BadValue, parse_duration
from pilotfish.flags import Given, environment, options
from pilotfish.folders import host_name
from pilotfish.settings import UpSettings

if TYPE_CHECKING:
    from pilotfish.catalog.store import Store

TIMEOUT = "5m"
# Of all shared settings, those that say where the store is.
SHARED = ("--etcd", "--data", "--config")

Performed = Callable[["Store"], Coroutine[Any, Any, None]]
Operation = Callable[[dict[str, Any]], Performed]  # from flags to what is done; wrong flags are said at once

DRAIN = """Take a container, a node or a service out of DNS and proxies, and wait until it is safe to stop it.

    WHAT is a node, a service, a container's name or the beginning of its id; `node:`, `service:` or `container:` in
    front says which, where several are called so.

    Exit code 0: every proxy has applied it, cached DNS answers have run out, and what the DRAIN tag asks for has
    passed. 1: not within --timeout; what is missing is said, and the drain stands."""
UNDRAIN = "Bring back what was drained, and wait until all proxies and DNS servers know it again."


def commands() -> tuple[click.Command, ...]:
    """The commands."""
    force = click.Option(["--force"], is_flag=True, help="also when nothing is left of a service")
    return (
        _command("drain", _drain, DRAIN, [_what(), force, *_waiting()]),
        _command("undrain", _undrain, UNDRAIN, [_what(), *_waiting()]),
    )


def _command(name: str, perform: Operation, about: str, params: list[click.Parameter]) -> click.Command:
    def called(**flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
        own = {name: flags.pop(name) for name in [*flags] if name not in _SHARED_NAMES}
        given = Given(flags, environment(), flags.pop("config", "") or "")
        settings = given.part("up", UpSettings, {"node-name": host_name()})
        given.check()
        if settings is None:
            raise BadSettings(["the settings cannot be used"])
        from pilotfish import io_operate  # noqa: PLC0415  not for every --help and health check

        io_operate.run(settings, perform(own))

    shared = [one for one in options(UpSettings) if one.opts[0].startswith(SHARED)]
    return click.Command(name, params=[*params, *shared], callback=called, help=about)


_SHARED_NAMES = frozenset(str(one.name) for one in options(UpSettings) if one.opts[0].startswith(SHARED))


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
    if flags["no_wait"]:
        return None
    try:
        return parse_duration(flags["timeout"])
    except BadValue as error:
        raise BadSettings([f"--timeout: {error}"]) from error


def _drain(flags: dict[str, Any]) -> Performed:
    from pilotfish import io_operate  # noqa: PLC0415  see above

    what, force, timeout_s = flags["what"], flags["force"], _timeout_s(flags)
    return lambda store: io_operate.drain(store, what, force=force, timeout_s=timeout_s, say=click.echo)


def _undrain(flags: dict[str, Any]) -> Performed:
    from pilotfish import io_operate  # noqa: PLC0415  see above

    what, timeout_s = flags["what"], _timeout_s(flags)
    return lambda store: io_operate.undrain(store, what, timeout_s=timeout_s, say=click.echo)
