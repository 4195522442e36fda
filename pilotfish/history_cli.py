"""`pilotfish history`, `show`, `diff`, `rollback` and `accept`: the configurations that nginx was given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from confgen.settings import ConfgenSettings
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import BadValue, parse_duration
from pilotfish.flags import Given, environment, options
from pilotfish.folders import nginx_folder
from pilotfish.history import PREVIOUS, SHORT, UnknownGeneration, compared, difference, plain, table, told
from pilotfish.settings import UpSettings

if TYPE_CHECKING:
    from pilotfish.io_past import Books

Perform = Callable[["Books", Mapping[str, Any]], None]

# Of all settings, those that say where nginx's folder is.
WHERE = ("--nginx-dir", "--data", "--config")
TIMEOUT = "30s"

HISTORY = """List the configurations that stand in nginx's folder: when, why, and what each changed.

    It reads that folder alone: no part has to run. `*` is the one that nginx reads."""
SHOW = """Show what is known of a generation, or one of its files.

    GEN is the beginning of its name, `current` or `previous`; FILE is a path as `show GEN` lists it."""
DIFF = """Compare two generations, as `diff -u` does; the second is what nginx reads unless another is named."""
ROLLBACK = """Go back to a generation and stay there, whatever the store says, until `pilotfish accept`.

    GEN is the beginning of its name; without it, the one that was served before the current one. /ready and /api/state
    say that it is pinned.

    Exit code 1: it was not applied within --timeout; the pin stands, and a confgen that starts takes it."""
ACCEPT = """Let a pinned generation go: what the store says is applied again."""


def commands() -> tuple[click.Command, ...]:
    """The commands."""
    gen = click.Argument(["generation"], metavar="GEN")
    as_json = click.Option(["--json", "as_json"], is_flag=True, help="print JSON")
    hold = [
        click.Argument(["generation"], metavar="[GEN]", required=False),
        click.Option(["--for", "for_"], metavar="TIME", help="let it go by itself after this time"),
        click.Option(["--timeout"], default=TIMEOUT, metavar="TIME", show_default=True, help="how long to wait"),
    ]
    return (
        _command("history", _history, HISTORY, [as_json]),
        _command("show", _show, SHOW, [gen, click.Argument(["file"], metavar="[FILE]", required=False)]),
        _command("diff", _diff, DIFF, [click.Argument(["names"], metavar="GEN [GEN]", nargs=-1, required=True)]),
        _command("rollback", _rollback, ROLLBACK, hold),
        _command("accept", _accept, ACCEPT, []),
    )


def _command(name: str, perform: Perform, about: str, params: list[click.Parameter]) -> click.Command:
    def called(**flags: Any) -> None:  # noqa: ANN401  click hands over what it parsed
        own = {name: flags.pop(name) for name in [*flags] if name not in _WHERE_NAMES}
        given = Given(flags, environment(), flags.pop("config", "") or "")
        confgen, up = given.part("confgen", ConfgenSettings), given.part("up", UpSettings)
        given.check()
        if confgen is None or up is None:
            raise BadSettings(["the settings cannot be used"])
        from pilotfish.io_past import Books  # noqa: PLC0415  not for every --help and health check

        try:
            perform(Books(nginx_folder(confgen.nginx_dir, up.data)), own)
        except UnknownGeneration as error:
            raise CannotStart(str(error)) from error

    return click.Command(name, params=[*params, *_where()], callback=called, help=about)


def _where() -> list[click.Option]:
    return [one for one in options(ConfgenSettings, UpSettings) if one.opts[0] in WHERE]


_WHERE_NAMES = frozenset(str(one.name) for one in _where())


def _history(books: Books, flags: Mapping[str, Any]) -> None:
    click.echo(json.dumps(plain(books.past), indent=2) if flags["as_json"] else table(books.past))


def _show(books: Books, flags: Mapping[str, Any]) -> None:
    generation, file = books.past.named(flags["generation"]), flags["file"]
    files = books.files(generation)
    if not file:
        click.echo(told(books.past, generation, files))
    elif file in files:
        click.echo(files[file], nl=False)
    else:
        raise CannotStart(
            f"{generation[:SHORT]} has no {file!r}: `pilotfish show {generation[:SHORT]}` lists its files"
        )


def _diff(books: Books, flags: Mapping[str, Any]) -> None:
    names = flags["names"]
    if len(names) > 2:
        raise BadSettings(["give one generation, or two"])
    before, after = (books.files(one) for one in compared(books.past, names))
    for line in difference(before, after):
        click.echo(line)


def _rollback(books: Books, flags: Mapping[str, Any]) -> None:
    for_s, timeout_s = _seconds("--for", flags["for_"] or "0"), _seconds("--timeout", flags["timeout"])
    generation = books.past.named(flags["generation"] or PREVIOUS)
    books.hold(generation, for_s)
    if not books.applied(generation, timeout_s):
        raise CannotStart(
            f"{generation[:SHORT]} is pinned, and not applied within {timeout_s:g} s: does confgen run in this folder,"
            " and what does its /ready say? It is taken as soon as one does; `pilotfish accept` lets it go"
        )
    click.echo(f"{generation[:SHORT]} is served, and stays until `pilotfish accept`")


def _accept(books: Books, _: Mapping[str, Any]) -> None:
    held = books.let_go()
    click.echo("let go: what the store says is applied again" if held else "nothing was pinned")


def _seconds(flag: str, text: str) -> float:
    try:
        return parse_duration(text)
    except BadValue as error:
        raise BadSettings([f"{flag}: {error}"]) from error
