"""Reads a confdir as confd lays it out: conf.d/**/*toml and templates/. Blocking; call it in a thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from confgen.resources import resource
from confgen.resources.languages import BadTemplate, Template, compiled
from confgen.resources.resource import BadResource, Resource

MAX_FILE = 4 * 1024 * 1024  # octets of a resource or template
Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]  # path, inode, size, time of change


class CannotRead(Exception):
    """A confdir cannot be read; the message names it and says why."""


class NoConfdir(CannotRead):
    """There is no such folder, which confd only warns of."""


class Loaded(NamedTuple):
    """A resource and its template as they were read."""

    resource: Resource
    template: Template
    text: str


class Confdir(NamedTuple):
    """All resources of a folder, by name, and what is wrong with the others."""

    loaded: dict[str, Loaded]
    bad: dict[str, str]

    def hides(self, name: str) -> bool:
        """True when a resource may still be there, but it or its folder cannot be read."""
        return any(name == one or name.startswith(f"{one}/") for one in self.bad)


def read(confdir: Path, prefix: str, *, joins: bool) -> Confdir:
    """Read all resources; one that is bad is named, and the others are read all the same.

    Args:
        confdir: with conf.d and templates in it.
        prefix: of all resources.
        joins: it is joined with each resource's own instead of taking its place.

    Raises:
        CannotRead: the folder, or conf.d in it, is not there or cannot be read.
    """
    loaded: dict[str, Loaded] = {}
    places: dict[tuple[str, str], Resource] = {}
    conf_d = confdir / "conf.d"
    paths, bad = _files(confdir)
    for path in paths:
        name = path.relative_to(conf_d).as_posix()
        try:
            found = resource.parse(name, _text(path, name), prefix, joins=joins)
            if _is_copy(found, places):
                continue
            text = _text(confdir / "templates" / found.src, f"{name}: src {found.src}")
            loaded[name] = Loaded(found, compiled(found.src, text), text)
        except (BadResource, BadTemplate) as error:
            bad[name] = str(error)
    return Confdir(loaded, bad)


def _is_copy(found: Resource, places: dict[tuple[str, str], Resource]) -> bool:
    """True for a resource that stands there already under another name: in a mounted Kubernetes ConfigMap all do.

    Raises:
        BadResource: it differs from the one that writes the same file, so that the two would undo each other's work.
            Of files that are made for other keys this is seen when they are made (`io_placing`).
    """
    other = places.setdefault((found.dest, found.for_each), found)
    if other is found:
        return False
    if msgspec.structs.replace(found, name=other.name) != other:
        raise BadResource(f"{found.name}: {found.dest} is written by {other.name} already")
    return True


def _files(confdir: Path) -> tuple[list[Path], dict[str, str]]:
    """Every file that confd would take, and folders that cannot be read.

    They stand below conf.d, without following linked folders (Go's filepath.Walk), and end in "toml"; those in conf.d
    itself come first.
    """
    conf_d = confdir / "conf.d"
    found: list[Path] = []
    bad: dict[str, str] = {}

    def failed(error: OSError) -> None:
        path = Path(error.filename)
        if path == conf_d:
            if not os.path.lexists(confdir):
                raise NoConfdir(f"--confdir {confdir}: there is no such folder") from error
            why = "there is no folder conf.d in it" if isinstance(error, FileNotFoundError) else error.strerror
            raise CannotRead(f"--confdir {confdir}: {why}") from error
        if not isinstance(error, FileNotFoundError):  # one that has just gone is gone
            name = path.relative_to(conf_d).as_posix()
            bad[name] = f"{name}: {error.strerror}"

    for folder, _, names in os.walk(conf_d, onerror=failed):
        found += [Path(folder) / name for name in names if name.endswith("toml")]
    return sorted(found, key=lambda path: (len(path.parts), path)), bad


def _text(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadResource(f"{what}: longer than {MAX_FILE} octets")
        data = path.read_bytes()
    except OSError as error:
        raise BadResource(f"{what}: {path}: {error.strerror}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadResource(f"{what}: octet {error.start} is not UTF-8") from error


def signature(confdir: Path) -> Signature:
    """Changes when a file of the folder does."""
    found: list[tuple[str, int, int, int]] = []
    for folder, names in (*_walk(confdir / "conf.d", follow=False), *_walk(confdir / "templates", follow=True)):
        for name in names:
            path = f"{folder}/{name}"
            try:
                facts = os.stat(path)  # noqa: PTH116  many of them
            except OSError:
                continue
            found.append((path, facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(found))


def _walk(top: Path, *, follow: bool) -> Iterator[tuple[str, list[str]]]:
    """Folders and their files; every folder once, whatever links lead to it."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(top, followlinks=follow):
        folders[:] = [one for one in folders if os.path.realpath(f"{folder}/{one}") not in seen]
        seen.update(os.path.realpath(f"{folder}/{one}") for one in folders)
        yield folder, names
