"""Command-line options made from the settings tables, and settings made from what was given.

The only place where flags, environment and file come together. Known to the command line only.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from confgen.resources import confd_toml
from confgen.settings import ConfgenSettings
from dnsserver.settings import DnsSettings
from pilotfish.catalog.settings import (
    ENV_PREFIX,
    BadSettings,
    Known,
    Shared,
    known,
    resolve,
    unknown_in_env,
    unknown_in_file,
)
from pilotfish.catalog.values import quoted
from pilotfish.settings import ConsoleSettings, UpSettings
from registrator.settings import RegistratorSettings

S = TypeVar("S")
LONGEST_PATH = 4096  # octets, PATH_MAX of Linux

# Table names of the file, in the order of the reference page.
PARTS: dict[str, type[Any]] = {
    "registrator": RegistratorSettings,
    "dns": DnsSettings,
    "confgen": ConfgenSettings,
    "console": ConsoleSettings,
    "up": UpSettings,
}


class Given:
    """What one invocation was given: flags, environment and file, from which each part's settings are made.

    Args:
        flags: field name -> what click collected; what was not given is None, False or empty.
        env: the environment.
        path: of the configuration file, or empty.

    Raises:
        BadSettings: the file cannot be read or is not TOML.
    """

    def __init__(self, flags: Mapping[str, Any], env: Mapping[str, str], path: str = "") -> None:
        self.flags = {name: value for name, value in flags.items() if value not in (None, False, ())}
        self.env = env
        self.path = path or env.get(f"{ENV_PREFIX}CONFIG", "")
        self.file = _read(self.path)
        self._errors: list[str] = []

    def part(self, name: str, kind: type[S], defaults: Mapping[str, object] | None = None) -> S | None:
        """The settings of one part; None when something is wrong, which `check` then raises.

        Args:
            name: the part's table in the file.
            kind: its settings.
            defaults: other defaults than the part's own, by key of the file.
        """
        shared = {key: value for key, value in self.file.items() if key not in PARTS}
        table = self.file.get(name, {})
        own = table if isinstance(table, Mapping) else {}
        try:
            return resolve(kind, self.flags, self.env, {**(defaults or {}), **shared, **own})
        except BadSettings as error:
            self._errors += [text for text in error.errors if text not in self._errors]
            return None

    def one(self, name: str, kind: type[S], defaults: Mapping[str, object] | None = None) -> S:
        """The settings of the only part that is asked for; arguments as `part`, errors as `check`."""
        settings = self.part(name, kind, defaults)
        self.check()
        if settings is None:
            raise BadSettings(["the settings cannot be used"])
        return settings

    def has(self, name: str) -> bool:
        """True when a shared setting was given anywhere."""
        setting = next(one for one in known(UpSettings) if one.name == name)
        return name in self.flags or setting.variable in self.env or setting.key in self.file

    def check(self) -> None:
        """Raise everything that was wrong, at once.

        Raises:
            BadSettings: wrong values of any part, unknown settings in the file or the environment.
        """
        errors = [
            *self._errors,
            *unknown_in_env(self.env, PARTS.values()),
            *unknown_in_file(self.file, PARTS),
            *_misplaced(self.file),
        ]
        if errors:
            raise BadSettings(map(self._named, errors))

    def _named(self, error: str) -> str:
        """An error with the file's own name, where it is about the file."""
        return (
            f"{quoted(self.path, LONGEST_PATH)[1:-1]}, {error.removeprefix(_FILE)}"
            if error.startswith(_FILE)
            else error
        )


_FILE = "file, "  # what errors about the file begin with


def _misplaced(file: Mapping[str, Any]) -> list[str]:
    """Shared settings in [up]: its parts would not see them, and `up` would say one thing and do another."""
    table = file.get("up", {})
    shared = {setting.key for setting in known(Shared)} - {"status"}
    return [
        f"file, [up] {quoted(key)} is shared by all parts: write it at the top of the file"
        for key in (table if isinstance(table, Mapping) else ())
        if key in shared
    ]


def _read(path: str) -> dict[str, Any]:
    if not path:
        return {}
    where = f"--config {quoted(path, LONGEST_PATH)}"
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings([f"{where}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise BadSettings([f"{where}: no text: octet {error.start} is not UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings([f"{where}: {error}"]) from error


def options(*kinds: type[Any], shown: Collection[str] | None = None) -> list[click.Option]:
    """The click options of some parts, each flag once, in the order of their declaration.

    Args:
        kinds: settings of the parts.
        shown: the flags that `--help` shows; all of them if it is None.
    """
    found: dict[str, Known] = {}
    for kind in kinds:
        for setting in known(kind):
            if setting.option.flag:
                found.setdefault(setting.option.flag, setting)
    made = [_option(setting, hidden=shown is not None and flag not in shown) for flag, setting in found.items()]
    config = click.Option(
        ["--config"], metavar="FILE", help="settings as TOML, one table a part [env: PILOTFISH_CONFIG]"
    )
    return [*made, config]


_STORE = ("--etcd", "--data")  # how all flags begin that say where the store is


def shared(*flags: str, store: bool = False) -> list[click.Option]:
    """The options that a command which is no part has in common with `up`: --config, and those that it needs.

    Args:
        flags: which, besides.
        store: with those that say where the store is.
    """
    return [
        one
        for one in options(UpSettings)
        if one.opts[0] in {"--config", *flags} or (store and one.opts[0].startswith(_STORE))
    ]


def _option(setting: Known, *, hidden: bool) -> click.Option:
    spelled = setting.option
    return click.Option(
        [spelled.flag, *spelled.also, setting.name],
        help=f"{spelled.help}{_notes(setting)}",
        metavar=None if spelled.switch else spelled.metavar,
        is_flag=True if spelled.switch else None,  # False would make the value optional
        multiple=spelled.repeat,
        hidden=hidden,
    )


def _notes(setting: Known) -> str:
    shown = shown_default(setting)
    env = ", ".join((setting.variable, *setting.option.env))
    return f" [default: {shown}; env: {env}]" if shown else f" [env: {env}]"


def shown_default(setting: Known) -> str:
    """A default as one would type it; empty when there is none."""

    def text(value: object) -> str:
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int):
            return f"{value[0]}:{value[1]}"
        return f"{value:g}" + ("s" if setting.name.endswith("_s") else "") if isinstance(value, float) else str(value)

    default = setting.default
    if default in ("", (), {}, False):
        return ""
    if setting.option.repeat:
        return ",".join(text(value) for value in default)
    return text(default)


def with_double_dashes(arguments: Sequence[str]) -> list[str]:
    """Long options with one dash, as the older tools spell them, made ours; unknown ones too, to be refused whole.

    >>> with_double_dashes(["-ip", "10.0.0.1", "-cleanup", "-h", "-1", "-"])
    ['--ip', '10.0.0.1', '--cleanup', '-h', '-1', '-']
    """
    return [f"-{argument}" if _ONE_DASH.match(argument) else argument for argument in arguments]


# Flags of confgen that mean confd's template resources; without a folder of them they mean nothing.
_CONFD_FLAGS = frozenset(
    {"backend", "config_file", "interval_s", "keep_stage_file", "noop", "once", "prefix", "sync_only", "watch"}
)


def confd_defaults(given: Given) -> dict[str, object]:
    """What confd's settings file and folder say about confgen's settings; {} where it is not to do confd's work.

    Raises:
        BadSettings: --config-file cannot be read, or the file is wrong.
    """
    table = given.file.get("confgen", {})
    said = {one.name for one in known(ConfgenSettings) if one.variable in given.env or one.key in table}
    said |= given.flags.keys()
    if not said & {"confdir", *_CONFD_FLAGS}:
        return {}
    path = given.flags.get("config_file") or given.env.get(f"{ENV_PREFIX}CONFIG_FILE") or table.get("config-file", "")
    if not path and Path(confd_toml.DEFAULT_FILE).is_file():
        path = confd_toml.DEFAULT_FILE
    found: dict[str, object] = {}
    if path:
        found, notices = _confd_toml(str(path))
        for notice in notices:
            click.echo(f"pilotfish: {notice}", err=True)
    if (Path(confd_toml.DEFAULT_CONFDIR) / "conf.d").is_dir():
        found = {"confdir": confd_toml.DEFAULT_CONFDIR, **found}
    return found


def _confd_toml(path: str) -> tuple[dict[str, object], list[str]]:
    try:
        return confd_toml.defaults(path, Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:  # confd goes on without, and so do command lines that were written for it
        return {}, [f"--config-file {path}: there is no such file, so it has no effect"]
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"--config-file {path}: {getattr(error, 'strerror', None) or error}"]) from error


_ONE_DASH = re.compile(r"-[A-Za-z][A-Za-z0-9-]")


def environment() -> dict[str, str]:
    """The environment of this process, read once."""
    return dict(os.environ)
