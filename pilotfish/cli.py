"""The command line: `pilotfish`, and the parts under their own names.

Exit codes: 0 done, 1 failed, 2 bad usage or settings, 3 a dependency could not be reached.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from confgen.resources import confd_flags
from confgen.settings import ConfgenSettings
from dnsserver.settings import DnsSettings
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_log import set_up
from pilotfish.catalog.settings import BadSettings, Shared
from pilotfish.catalog.telemetry import own_version
from pilotfish.endpoints_cli import command as endpoints_command
from pilotfish.flags import Given, confd_defaults, environment, options, with_double_dashes
from pilotfish.folders import data_folder, host_name, nginx_program
from pilotfish.history_cli import commands as history_commands
from pilotfish.io_health import health
from pilotfish.operate_cli import commands as operate_commands
from pilotfish.reference import settings_page
from pilotfish.resolver_cli import group as resolver_group
from pilotfish.settings import ConsoleSettings, Everything, UpSettings
from registrator.settings import RegistratorSettings

# What runs parts is imported by the command that needs it: --help, health and a wrong flag answer without gRPC, the
# Docker SDK and the rest, in a third of the time.

S = TypeVar("S", bound=Shared)
Flags = dict[str, Any]

FAILED, BAD_USAGE = 1, 2
# What `lint` and `inspect` show of the registrator's flags: those that decide what they say. The others are taken too,
# without effect, so that a registrator's own command line can be given to them.
LINT_FLAGS = frozenset(
    {
        "--node-name", "--domain", "--proxy-name", "--console-host", "--ip", "--internal", "--network",
        "--use-ip-from-label", "--explicit", "--only", "--ignore", "--explicit-dns", "--publish-untagged",
        "--name-suffix", "--tags", "--check-dir",
    }
)  # fmt: skip
INSPECT_FLAGS = LINT_FLAGS | {
    "--docker", "--docker-tls-verify", "--docker-cert-path", "--docker-timeout", "--docker-ip", "--skydns-prefix",
    "--lease-ttl",
}  # fmt: skip
DEFAULT_STATUS = tuple(
    kind().status for kind in (UpSettings, RegistratorSettings, DnsSettings, ConfgenSettings, ConsoleSettings)
)


class Program(click.Group):
    """The group of all commands; long options may have one dash, as the older tools spell them."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own arguments."""
        if args[:1] == ["confgen"]:
            args = confd_flags.spelled(args)
        return super().parse_args(context, with_double_dashes(args))


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(own_version(), prog_name="pilotfish")
def program() -> None:
    """Service discovery and a dynamic reverse proxy for plain Docker hosts.

    Start a container tagged with SERVICE_* variables or labels: its name resolves on every host, and its URL is
    served by every proxy, until it stops.

    \b
      pilotfish up                   everything on this host
      pilotfish up --etcd URL        everything, on a cluster of hosts
    """  # noqa: D301  \b is click's mark for "do not wrap"


def _settings(given: Given, name: str, kind: type[S], **defaults: object) -> S:
    return given.one(name, kind, {"node-name": host_name(), **defaults})


def _part(name: str, kind: type[Shared], about: str) -> click.Command:
    def run(**flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
        given = Given(flags, environment(), flags.pop("config") or "")
        settings = _settings(given, name, kind, **(confd_defaults(given) if kind is ConfgenSettings else {}))
        set_up(settings.log_level, settings.log_format)
        from pilotfish import parts  # noqa: PLC0415  see above

        parts.run(name, settings)

    return click.Command(name, params=list(options(kind)), callback=run, help=about)


def _up(**flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
    given = Given(flags, environment(), flags.pop("config") or "")
    node = {"node-name": host_name()}
    settings = given.part("up", UpSettings, node)
    folder = data_folder(settings.data) if settings else Path()  # nothing is made when settings are wrong
    registrator = given.part("registrator", RegistratorSettings, node)
    dns = given.part(
        "dns", DnsSettings, {**node, "listen": "0.0.0.0:1053", "snapshot": str(folder / "store" / "zone.snapshot")}
    )
    confgen = given.part(
        "confgen",
        ConfgenSettings,
        {
            **node,
            "http-port": "8080",
            "nginx-dir": str(folder / "nginx"),
            "nginx-on-exit": "quit",
            "state-dir": str(folder / "confd"),
        },
    )
    given.check()
    if settings is None or registrator is None or dns is None or confgen is None:
        raise BadSettings(["the settings cannot be used"])
    set_up(settings.log_level, settings.log_format)
    if not confgen.confdir or confgen.with_nginx:
        confgen = dataclasses.replace(confgen, nginx_bin=nginx_program(confgen.nginx_bin, confgen.nginx))
    from pilotfish import up  # noqa: PLC0415  see above

    up.run(Everything(settings, registrator, dns, confgen, folder), click.echo)


@program.command("dns-child", hidden=True)
def _dns_child() -> None:
    """The DNS server of `up`; reads its orders from standard input."""
    orders = sys.stdin.buffer.raw.readline() if hasattr(sys.stdin.buffer, "raw") else sys.stdin.buffer.readline()
    from pilotfish import io_dns_child  # noqa: PLC0415  see above

    io_dns_child.dns_child(orders)


@program.command("inspect", params=list(options(RegistratorSettings, shown=INSPECT_FLAGS)))
@click.argument("what", required=False, metavar="[FILE|-|CONTAINER]")
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of text")
def _inspect(what: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
    """Show what would be registered, with the reason for every port left out.

    WHAT is a file with saved `docker inspect` JSON, `-` for standard input, or a container of the local engine;
    without it, all running containers.

    The other flags of `pilotfish registrator` are taken, and have no effect.

    Exit code 1: there is no such container, or no document that can be used; 3: an engine cannot be reached.
    """
    given = Given(flags, environment(), flags.pop("config") or "")
    settings = _settings(given, "registrator", RegistratorSettings)
    from pilotfish import look  # noqa: PLC0415  see above

    shown = look.inspect(settings, what, as_json=as_json)
    click.echo(shown.text)
    sys.exit(0 if shown.usable else FAILED)


@program.command("lint", params=list(options(RegistratorSettings, shown=LINT_FLAGS)))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of text")
@click.option("--strict", is_flag=True, help="notices count as findings")
def _lint(files: tuple[str, ...], as_json: bool, strict: bool, **flags: Any) -> None:  # noqa: ANN401  as above
    """Say what is wrong with the tags of containers, before they run.

    FILE is a Compose file, saved JSON of `docker inspect` or `docker compose config`, or `-`. Several are judged
    together. The other flags of `pilotfish registrator` are taken, and have no effect.

    Exit code: 0 nothing is wrong, 1 something is, 2 a file or all containers cannot be used.
    """
    given = Given(flags, environment(), flags.pop("config") or "")
    settings = _settings(given, "registrator", RegistratorSettings)
    from pilotfish import look  # noqa: PLC0415  see above
    from registrator.explaining.lint import report  # noqa: PLC0415  see above

    try:
        found = look.lint(settings, files)
    except CannotStart as error:
        raise BadSettings([str(error)]) from error
    shown = json.dumps({"findings": [one._asdict() for one in found]}, indent=2) if as_json else report(found)
    if shown:
        click.echo(shown)
    sys.exit(FAILED if any(strict or one.severity == "finding" for one in found) else 0)


@program.command("health", params=list(options(UpSettings)))
@click.option("--ready", is_flag=True, help="ask for readiness instead of being alive")
def _health(ready: bool, **flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
    """Ask a part at --status whether it is alive; exit code 0 or 1.

    Without --status, whichever part answers at its default address is asked.
    """
    given = Given(flags, environment(), flags.pop("config") or "")
    settings = _settings(given, "up", UpSettings)
    addresses = (settings.status,) if given.has("status") else DEFAULT_STATUS
    alive, text = health(addresses, "/ready" if ready else "/health")
    click.echo(text)
    sys.exit(0 if alive else FAILED)


@program.command("reference", hidden=True)
def _reference() -> None:
    """Print docs/settings.md."""
    click.echo(settings_page(), nl=False)


PART_COMMANDS = (
    _part("registrator", RegistratorSettings, "Watch a Docker engine and record what its containers publish."),
    _part("dns", DnsSettings, "Answer DNS queries from the catalog."),
    _part("confgen", ConfgenSettings, "Render nginx from the catalog, check it, and reload it."),
    _part("console", ConsoleSettings, "Show the catalog as JSON."),
)
for _command in (*PART_COMMANDS, *operate_commands(), *history_commands()):
    program.add_command(_command)
program.add_command(endpoints_command())
program.add_command(resolver_group(DEFAULT_STATUS))
program.add_command(
    click.Command(
        "up",
        params=list(options(UpSettings, RegistratorSettings, DnsSettings, ConfgenSettings)),
        callback=_up,
        help="Run every part together; the embedded store unless --etcd is given.",
    )
)


def run(arguments: Sequence[str]) -> None:
    """Run the command line and exit.

    Args:
        arguments: without the program's name.
    """
    try:
        program.main(list(arguments), prog_name="pilotfish", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_USAGE)
    except click.Abort:
        sys.exit(FAILED)
    except BadSettings as error:
        for text in error.errors:
            click.echo(f"pilotfish: {text}", err=True)
        sys.exit(BAD_USAGE)
    except CannotStart as error:
        click.echo(f"pilotfish: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)


def main() -> None:
    """The `pilotfish` script."""
    run(sys.argv[1:])


def _script(part: str, variable: str = "") -> None:
    more = shlex.split(environment().get(variable, "")) if variable else []
    run([part, *more, *sys.argv[1:]])


def registrator_main() -> None:
    """The `registrator` script; REGISTRATOR_OPTS is put before the arguments."""
    _script("registrator", "REGISTRATOR_OPTS")


def dnsserver_main() -> None:
    """The `dnsserver` script."""
    _script("dns")


def confgen_main() -> None:
    """The `confgen` script; CONFD_OPTS is put before the arguments."""
    _script("confgen", "CONFD_OPTS")
