"""Reads the admin's folders of users, snippets and pages, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from confgen.nginx.extras import MAX_FILES, MAX_PAGE, MAX_SNIPPET, Extras, Files, extras
from confgen.nginx.layout import Machine
from confgen.nginx.policy import Around
from confgen.nginx.shapes import shown, snippet_file
from confgen.settings import ConfgenSettings
from pilotfish.catalog.route import Place
from pilotfish.catalog.telemetry import Telemetry

LOOK_S = 1.0  # between two looks
FOLDERS = "the admin's folders"


def look(htpasswd: str, snippets: str, pages: str) -> Extras:
    """What the folders hold now; a folder without a name holds nothing.

    Raises:
        OSError: a folder that has a name cannot be read.
    """
    return extras(
        Files(
            frozenset(path.name for path in _files(htpasswd)),
            {path.name: _read(path, MAX_SNIPPET) for path in _files(snippets)},
            {path.name: _read(path, MAX_PAGE) for path in _files(pages)},
        )
    )


def _files(folder: str) -> list[Path]:
    """Its plain files, those that begin with a dot left out: editors and mounts keep their own there."""
    if not folder:
        return []
    return sorted(path for path in Path(folder).iterdir() if path.name[0] != "." and path.is_file())[:MAX_FILES]


def _stamp(path: Path) -> tuple[str, int, int, int]:
    facts = path.stat()
    return str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns


def _read(path: Path, longest: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            text = file.read(longest + 1)
    except OSError:
        return None
    return text if len(text) <= longest else None


class Refused(NamedTuple):
    """A snippet that nginx refused: its bytes, those that were good, and what nginx said."""

    bad: bytes
    good: bytes
    said: str


class Watched:
    """The folders, looked at every few seconds; what cannot be read is as it was, and that is said.

    Args:
        settings: which folders.
        machine: what nginx can do.
        telemetry: readiness and log.
    """

    def __init__(self, settings: ConfgenSettings, machine: Machine, telemetry: Telemetry) -> None:
        self._htpasswd = str(Path(settings.htpasswd).absolute()) if settings.htpasswd else ""
        self._snippets, self._pages = settings.snippets, settings.pages
        self._telemetry = telemetry
        self._around = Around(machine.can, machine.h2c, self._htpasswd)
        self._found = self._around.extras  # as they lie there
        self._refused: dict[Place, Refused] = {}
        self._seen: list[tuple[str, int, int, int]] | None = None  # how every file looked when they were read

    def look(self) -> Around:
        """What decides about routes besides themselves, as it is now."""
        try:
            seen = [_stamp(path) for each in (self._htpasswd, self._snippets, self._pages) for path in _files(each)]
            if seen == self._seen:
                return self._around
            self._found = look(self._htpasswd, self._snippets, self._pages)
        except OSError as error:
            self._seen = None
            self._telemetry.ready.bad(FOLDERS, f"{error.filename}: {error.strerror}; what was read before counts")
            return self._around
        self._telemetry.ready.good(FOLDERS)
        self._seen, found = seen, self._mended()
        if found != self._around.extras:
            self._around = msgspec.structs.replace(self._around, extras=found)
            for problem in found.problems:
                self._telemetry.log.warning("%s", problem)
        return self._around

    def refused(self, file: str, said: str, good: bytes | None) -> Around | None:
        """Go back to the last good bytes of a snippet until its file is another: nginx did not take it, and said so.

        Args:
            file: which nginx named, relative to the configuration.
            said: nginx's own words.
            good: what stood there in the last good configuration; None: nothing did.

        Returns:
            What decides now; None when there is nothing to go back to.
        """
        extras = self._around.extras
        now = {Place(host, ""): text for host, text in extras.hosts.items()} | dict(extras.places)
        place = next((one for one in now if snippet_file(one).text == file), None)
        if place is None or good is None or now[place] == good:
            return None
        self._refused[place] = Refused(now[place], good, said)
        self._around = msgspec.structs.replace(self._around, extras=self._mended())
        self._telemetry.log.error("snippet of %s: nginx refuses it; the last good one stays: %s", shown(place), said)
        return self._around

    def _mended(self) -> Extras:
        """What was found, with the last good bytes in place of what nginx refused."""
        found = self._found
        hosts, places, problems = dict(found.hosts), dict(found.places), set(found.problems)
        for place, one in list(self._refused.items()):
            if (places.get(place) if place.path else hosts.get(place.host)) != one.bad:
                del self._refused[place]
                continue
            if place.path:
                places[place] = one.good
            else:
                hosts[place.host] = one.good
            problems.add(f"snippet of {shown(place)}: nginx refuses it; the last good one stays: {one.said}")
        return msgspec.structs.replace(found, hosts=hosts, places=places, problems=tuple(sorted(problems)))

    async def follow(self, changed: Callable[[Around], None]) -> None:
        """Tell of every change until cancelled."""
        while self._htpasswd or self._snippets or self._pages:
            await asyncio.sleep(LOOK_S)
            before = self._around
            after = await asyncio.to_thread(self.look)
            if after is not before:
                changed(after)
