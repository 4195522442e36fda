"""`pilotfish resolver`: the command line of the package of that name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dnsserver.settings import server
from pilotfish.catalog.setting_values import choice, domain
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import BadValue
from pilotfish.flags import Given, environment, shared
from pilotfish.folders import host_name
from pilotfish.resolver.kinds import KINDS
from pilotfish.settings import UpSettings

if TYPE_CHECKING:
    from pilotfish.resolver.service import Options, Resolver

NOT_WIRED = 1


def group(statuses: Sequence[tuple[str, int]]) -> click.Group:
    """The commands.

    Args:
        statuses: where the status servers of parts answer unless they were told otherwise.
    """
    made = click.Group("resolver", help="Point this host at our DNS server, and back again.")

    def command(name: str, run: Callable[..., None], about: str, params: list[click.Parameter]) -> None:
        def called(**flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
            run(Path(flags.pop("root")), _options(flags, statuses), flags)

        made.add_command(click.Command(name, params=[*params, *_telling(), _root()], callback=called, help=about))

    command("install", _install, INSTALL, [_kind(), *_asking(), _search(), *_acting()])
    command("remove", _remove, REMOVE, [_kind(), *_acting()])
    command("status", _status, STATUS, [*_asking(), _json()])
    return made


INSTALL = """Make this host ask our DNS server for our names.

    Shows what it will change, asks, changes all of it or nothing, and proves it by a question. What was there before
    is kept, and comes back with `remove`."""
REMOVE = "Put back what was there before `install`, octet for octet."
STATUS = (
    "Show what this host is told for our names, by whom, and which traps apply. Exit code 0 when it is wired, else 1."
)


def _kind() -> click.Option:
    about = "may be repeated; default: what this host uses, or what was installed"
    return click.Option(["--kind"], multiple=True, type=click.Choice(list(KINDS)), help=about)


def _asking() -> list[click.Parameter]:
    server_help = "our DNS server; may be repeated; default: where a running part listens, else 127.0.0.1:53"
    name_help = "a name of ours to try; default: this host's own, and that of all proxies"
    outside_help = "a name that is not ours, to see whether a server forwards [default: the root]"
    return [
        click.Option(["--server"], multiple=True, metavar="ADDR:PORT", help=server_help),
        click.Option(["--name"], multiple=True, metavar="NAME", help=name_help),
        click.Option(["--outside"], default=".", metavar="NAME", help=outside_help),
        *shared("--domain", "--node-name", "--proxy-name", "--status"),
    ]


def _telling() -> list[click.Parameter]:
    reload_help = "how a program is made to read its files, where neither systemd nor an init script does it"
    restart_help = "restart the engine too; its containers stop unless live-restore is set"
    return [
        click.Option(["--reload-with"], multiple=True, metavar="KIND=COMMAND", help=reload_help),
        click.Option(["--restart-docker"], is_flag=True, help=restart_help),
    ]


def _acting() -> list[click.Parameter]:
    return [
        click.Option(["--yes", "-y"], is_flag=True, help="do not ask"),
        click.Option(["--dry-run"], is_flag=True, help="only show what would be changed"),
        click.Option(["--force"], is_flag=True, help="overwrite what was edited by hand since; a copy is kept"),
    ]


def _search() -> click.Option:
    return click.Option(["--search"], is_flag=True, help="short names too: put the domains on the search list")


def _json() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="print JSON instead of text")


def _root() -> click.Option:
    return click.Option(["--root"], default="/", hidden=True, metavar="DIR", help="the file system of another system")


def _options(flags: dict[str, Any], statuses: Sequence[tuple[str, int]]) -> Options:
    own = {
        name: flags.pop(name)
        for name in [*flags]
        if name not in {"domain", "node_name", "proxy_name", "status", "config"}
    }
    given = Given(flags, environment(), flags.pop("config", "") or "")
    shared = given.one("up", UpSettings, {"node-name": host_name()})
    flags.update(own)
    from pilotfish.resolver.service import Options  # noqa: PLC0415  not for every --help and health check

    return Options(
        kinds=own.get("kind", ()),
        servers=tuple(_parsed("--server", text, server) for text in own.get("server", ())),
        domains=shared.domain,
        stays=not given.has("domain") and "SKYDNS_DOMAIN" not in given.env,
        names=tuple(_parsed("--name", text, _name) for text in own.get("name", ()))
        or (f"{shared.node_name}.node", shared.proxy_name),
        statuses=(shared.status, *statuses),
        outside=_parsed("--outside", own.get("outside", "."), _name),
        search=own.get("search", False),
        restart_docker=own["restart_docker"],
        reload_with=dict(_parsed("--reload-with", text, _reload_with) for text in own["reload_with"]),
        force=own.get("force", False),
    )


def _parsed(flag: str, text: str, parse: Callable[[str], Any]) -> Any:  # noqa: ANN401  what `parse` gives
    try:
        return parse(text)
    except BadValue as error:
        raise BadSettings([f"{flag}: {error}"]) from error


def _name(text: str) -> str:
    return text if text == "." else domain(text)


def _reload_with(text: str) -> tuple[str, tuple[str, ...]]:
    kind, _, command = text.partition("=")
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise BadValue(f"{command}: {error}") from error
    if not words:
        raise BadValue("give KIND=COMMAND")
    return choice(*KINDS)(kind), words


def _say(text: str) -> None:
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def _resolver(root: Path, flags: dict[str, Any]) -> Resolver:
    def confirm() -> bool:
        return flags["yes"] or (sys.stdin.isatty() and click.confirm("Go on?"))

    from pilotfish.resolver.service import Resolver  # noqa: PLC0415  see above

    return Resolver(root, _say, None if flags["dry_run"] else confirm)


def _install(root: Path, given: Options, flags: dict[str, Any]) -> None:
    _resolver(root, flags).install(given)


def _remove(root: Path, given: Options, flags: dict[str, Any]) -> None:
    _resolver(root, flags).remove(given)


def _status(root: Path, given: Options, flags: dict[str, Any]) -> None:
    from pilotfish.resolver import show  # noqa: PLC0415  see above
    from pilotfish.resolver.io_status import status  # noqa: PLC0415  see above
    from pilotfish.resolver.service import Resolver  # noqa: PLC0415  see above

    found = status(Resolver(root, lambda text: click.echo(text, err=True), None), given)
    if flags["as_json"]:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _say(show.status(found))
    sys.exit(0 if found.wired else NOT_WIRED)
