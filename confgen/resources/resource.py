"""Template resources: confd's TOML files, read as they are, and what its users asked for besides.

Pure: text and keys come in; what has to be written where goes out. One `[template]` table a file:

    src, dest, keys, prefix, mode, uid, gid, check_cmd, reload_cmd     as confd has them
    owner, group            names instead of numbers
    for_each                a pattern of keys or folders of keys: one file for each that there is
    timeout                 how long a command of this resource may run
    wait                    "min:max": render once the keys were quiet for min, after max in any case

`check_cmd` and `reload_cmd` are run by a shell when they are text, as confd does, and without one when they are lists.

Differs: `mode` is always octal; keys that nobody knows are told of instead of passed over.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from confgen.resources import gopath
from confgen.resources.keyspace import under
from pilotfish.catalog import gotemplate
from pilotfish.catalog.values import BadValue, parse_duration, quoted

Command: TypeAlias = str | tuple[str, ...]
KNOWN = (
    "src", "dest", "keys", "prefix", "mode", "uid", "gid", "owner", "group", "check_cmd", "reload_cmd", "for_each",
    "timeout", "wait",
)  # fmt: skip
_MODE = re.compile(r"(?:0o)?([0-7]{1,5})\Z")
_NAME = re.compile(r"[A-Za-z0-9_@+=,~][A-Za-z0-9._@+:=,~-]{0,199}\Z")  # safe in a path, and as a word of a shell
_FIELD = re.compile(r"\{\{-?\s*\.(src|dest|key|name)\s*-?\}\}")
_SAFE = re.compile(r"[\x20-\x7e\u0080-\U0010ffff]+\Z")


class BadResource(Exception):
    """A template resource cannot be used; the message names file and key."""


class Wait(NamedTuple):
    """How long changes are collected: until `quiet_s` without one, `longest_s` in any case."""

    quiet_s: float
    longest_s: float


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One template resource.

    Attributes:
        name: its file, below conf.d.
        src: the template's file, below templates.
        dest: the file to write; with `for_each` a template of its path.
        keys: what is read, each with everything below it, without the prefix.
        prefix: stands before the keys in the store, and is taken away before the template sees them; "/" for none.
        mode: of the file; None: as it is, 0644 for a new one.
        uid, gid: numbers; None: ours.
        owner, group: names, which count where there is no number.
        check_cmd, reload_cmd: None for none.
        for_each: pattern of keys; "" for none.
        timeout_s: of its commands; None: what the settings say.
        wait: None: at once.
        notices: what is odd about it, one sentence each.
    """

    name: str
    src: str
    dest: str
    keys: tuple[str, ...] = ()
    prefix: str = "/"
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    owner: str = ""
    group: str = ""
    check_cmd: Command | None = None
    reload_cmd: Command | None = None
    for_each: str = ""
    timeout_s: float | None = None
    wait: Wait | None = None
    notices: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What it reads in the store: whole keys, without doublets and without what another one holds."""
        return covering(gopath.join(self.prefix, key) for key in self.keys)


class Item(NamedTuple):
    """What a file of a `for_each` resource stands for; empty texts for other resources."""

    key: str = ""
    name: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """What its template may use."""
        return {"key": self.key, "name": self.name} if self.key else {}


def covering(paths: Iterable[str]) -> tuple[str, ...]:
    """The least paths under which all others stand, sorted.

    >>> covering(["/a/b", "/a", "/ab"])
    ('/a', '/ab')
    """
    found: list[str] = []
    for path in sorted(set(paths), key=lambda path: (path.count("/"), path)):
        if not any(under(path, other) for other in found):
            found.append(path)
    return tuple(sorted(found))


def parse(name: str, text: str, prefix: str = "", *, joins: bool = False) -> Resource:
    """Read a template resource.

    Args:
        name: its file below conf.d.
        text: what is in it.
        prefix: the prefix of all resources; takes the place of this one's own.
        joins: the two are joined instead, as confd did before 0.12.

    Raises:
        BadResource: says what is wrong, all of it.
    """
    table = _table(name, text)
    read = _Reader(name, table)
    own = read.text("prefix")
    whole = gopath.join("/", prefix, own) if joins else prefix or own
    mode, wait, timeout = (read.parsed(key, how) for key, how in (("mode", _mode), ("wait", _wait), ("timeout", _time)))
    found = Resource(
        name=name,
        src=read.text("src", required=True).lstrip("/"),  # confd joins it below templates/ however it begins
        dest=read.text("dest", required=True),
        keys=read.texts("keys"),
        prefix=whole if whole.startswith("/") else f"/{whole}",  # as it is: confd takes exactly this away from keys
        mode=mode if isinstance(mode, int) else None,
        uid=read.number("uid"),
        gid=read.number("gid"),
        owner=read.text("owner"),
        group=read.text("group"),
        check_cmd=read.command("check_cmd"),
        reload_cmd=read.command("reload_cmd"),
        for_each=read.text("for_each"),
        timeout_s=timeout if isinstance(timeout, float) else None,
        wait=wait if isinstance(wait, Wait) else None,
        notices=tuple(_unknown(key) for key in table if key not in KNOWN),
    )
    read.errors += _contradictions(found)
    if read.errors:
        raise BadResource(f"{name}: {'; '.join(read.errors)}")
    return found


def _table(name: str, text: str) -> dict[str, object]:
    try:
        whole = tomllib.loads(text.removeprefix("\ufeff"))  # an editor's mark, which confd passes over
    except tomllib.TOMLDecodeError as error:
        raise BadResource(f"{name}: {error}") from error
    table = next((value for key, value in whole.items() if key.lower() == "template"), None)
    if not isinstance(table, dict):
        raise BadResource(f"{name}: there is no table [template]")
    return {key.lower(): value for key, value in table.items()}  # confd's TOML reader does not mind capitals


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, KNOWN, 1)
    return f"{quoted(key)} is not known and has no effect" + (f"; is {near[0]} meant?" if near else "")


class _Reader:
    """Takes values out of a table and collects what is wrong with them."""

    def __init__(self, name: str, table: Mapping[str, object]) -> None:
        self.name, self.table = name, table
        self.errors: list[str] = []

    def text(self, key: str, *, required: bool = False) -> str:
        value = self.table.get(key, "")
        if not isinstance(value, str) or (value and not _SAFE.match(value)):
            self.errors.append(f"{key} must be text without control characters")
            return ""
        if required and not value:
            self.errors.append(f"{key} is missing")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            self.errors.append(f"{key} must be a list of texts")
            return ()
        return tuple(value)

    def number(self, key: str) -> int | None:
        value = self.table.get(key)
        if value is None or value == -1:  # -1 is confd's own word for "not given"
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32 - 1:
            self.errors.append(
                f"{key} must be a number from 0; a name goes into {'owner' if key == 'uid' else 'group'}"
            )
            return None
        return value

    def command(self, key: str) -> Command | None:
        value = self.table.get(key)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return tuple(value)
        if value is None or isinstance(value, str):
            return value or None
        self.errors.append(f"{key} must be text, for a shell, or a list of words")
        return None

    def parsed(self, key: str, how: object) -> object:
        if key not in self.table:
            return None
        value = self.table[key]
        try:
            return how(value)  # type: ignore[operator]  # one of the three functions below
        except (BadValue, TypeError) as error:
            self.errors.append(f"{key}: {error}")
            return None


def _mode(value: object) -> int | None:
    found = _MODE.match(value) if isinstance(value, str) else None
    if value == "":
        return None
    if found is None:
        raise BadValue('must be octal digits as text, such as "0644"')
    return int(found[1], 8)


def _time(value: object) -> float:
    seconds = parse_duration(str(value))
    if seconds <= 0:
        raise BadValue("must be longer than nothing")
    return seconds


def _wait(value: object) -> Wait:
    least, colon, most = str(value).partition(":")
    quiet_s = parse_duration(least)
    longest_s = parse_duration(most) if colon else quiet_s * 4
    if longest_s < quiet_s:
        raise BadValue(f"{quoted(str(value))}: the longest wait is shorter than the shortest")
    return Wait(quiet_s, longest_s)


def _contradictions(resource: Resource) -> list[str]:
    errors = []
    if resource.for_each and not resource.for_each.startswith("/"):
        errors.append("for_each must begin with a slash, as keys do")
    if resource.for_each and "{{" not in gopath.base(resource.dest):
        errors.append("dest must have {{.name}} in its last part, or all of for_each would go into one file")
    if not resource.for_each and "{{" in resource.dest:
        errors.append("dest is a template, which needs for_each")
    if "{{" in gopath.directory(resource.dest):
        errors.append("dest may be a template in its last part only")
    try:
        gopath.matcher(resource.for_each)
        destination(resource, Item("/k", "name"))
        checked(resource, "/src", "/dest", Item("/k", "name"))
    except (gopath.BadPattern, BadResource) as error:
        errors.append(str(error).removeprefix(f"{resource.name}: "))
    return errors


def items(resource: Resource, keys: Iterable[str]) -> tuple[list[Item], list[str]]:
    """What there is one file for each of, sorted, and what is left out, with the reason.

    Args:
        resource: the resource.
        keys: as its template sees them.
    """
    if not resource.for_each:
        return [Item()], []
    depth, matches = resource.for_each.count("/"), gopath.matcher(resource.for_each)
    cut = {"/".join(key.split("/")[: depth + 1]) for key in keys if key.count("/") >= depth}
    found = [Item(key, key.rpartition("/")[2]) for key in sorted(cut) if matches(key)]
    bad = [item for item in found if not _is_safe(item.key)]
    said = [f"{quoted(item.key)} is left out: it cannot name a file" for item in bad]
    return [item for item in found if _is_safe(item.key)], said


def _is_safe(key: str) -> bool:
    """True when no part of a key means anything to a path or a shell."""
    return all(_NAME.match(part) for part in key.split("/")[1:])


def seen(resource: Resource, values: Mapping[str, str]) -> dict[str, str]:
    """The keys of the store as the template sees them: those that the resource asks for, without the prefix."""
    wanted = resource.prefixes
    prefix = resource.prefix
    return {
        gopath.join("/", key.removeprefix(prefix)): value
        for key, value in values.items()
        if any(under(key, parent) for parent in wanted)
    }


def destination(resource: Resource, item: Item) -> str:
    """The path of the file for an item.

    Raises:
        BadResource: dest is no template.
    """
    if not resource.for_each:
        return resource.dest
    found = _rendered(resource, "dest", resource.dest, item.fields)
    if found.count("/") != resource.dest.count("/"):
        raise BadResource(
            f"{resource.name}: dest: its template may not make a path of several parts: use {{{{.name}}}}"
        )
    return found


def checked(resource: Resource, src: str, dest: str, item: Item) -> Command | None:
    """The check command with its templates filled in; `{{.src}}` is the staged file.

    Raises:
        BadResource: it is no template.
    """
    fields = {"src": src, "dest": dest, **item.fields}
    command = resource.check_cmd
    if command is None or isinstance(command, str):
        return command and _rendered(resource, "check_cmd", command, fields)
    return tuple(_rendered(resource, "check_cmd", word, fields) for word in command)


def _rendered(resource: Resource, key: str, text: str, fields: Mapping[str, str]) -> str:
    try:
        return gotemplate.parse(key, text).render(dict(fields), missing="go")
    except gotemplate.TemplateError as error:
        raise BadResource(f"{resource.name}: {error}") from error


def reloading(resource: Resource, dest: str, item: Item) -> Command | None:
    """The reload command; `{{.src}}` and `{{.dest}}` are the file that was written, all else stays as it is.

    confd 0.16 hands it to the shell as it is, so braces may mean something else there: `docker inspect -f '{{.Id}}'`.
    """
    fields = {"src": dest, "dest": dest, **item.fields}
    command = resource.reload_cmd
    if command is None or isinstance(command, str):
        return command and _FIELD.sub(lambda found: fields.get(found[1], found[0]), command)
    return tuple(_FIELD.sub(lambda found: fields.get(found[1], found[0]), word) for word in command)


def argv(command: Command) -> tuple[str, ...]:
    """What is run for a command: a shell for text, the words themselves for a list.

    >>> argv("nginx -t")
    ('/bin/sh', '-c', 'nginx -t')
    """
    return ("/bin/sh", "-c", command) if isinstance(command, str) else command
