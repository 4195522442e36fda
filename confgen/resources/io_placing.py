"""One resource, from its keys to its files: rendered, compared, staged, checked, put in place.

Whatever goes wrong leaves the file that is there untouched, and the other files of the resource are looked at all the
same. Which commands have to be run afterwards is told, not done: they may be shared (`io_reloads`).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Set
from pathlib import Path
from typing import Any

from confgen.io_command import CannotRun, run
from confgen.io_thread import in_thread
from confgen.resources import functions, gopath, io_stage, resource
from confgen.resources.io_confdir import Loaded
from confgen.resources.io_keys import Seen
from confgen.resources.io_ledger import CannotRemember, Ledger
from confgen.resources.io_lookups import Lookups
from confgen.resources.io_stage import CannotPlace, Wanted
from confgen.resources.keyspace import Keyspace
from confgen.resources.languages import BadTemplate
from confgen.resources.resource import BadResource, Command, Item, Resource

LONGEST_OUTPUT = 2000  # characters of a command's output that a message shows


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds for all resources.

    Attributes:
        roots: folders below which files may be written.
        noop: nothing is written, what would change is told.
        sync_only: no command is run.
        keep_stage: staged files stay.
        check_timeout_s: how long a check may take where the resource does not say.
        environ: what templates see of the environment.
    """

    roots: tuple[str, ...]
    noop: bool
    sync_only: bool
    keep_stage: bool
    check_timeout_s: float
    environ: Mapping[str, str]


@dataclasses.dataclass
class Placed:
    """What became of a resource.

    Attributes:
        changed: files that were written or removed.
        reloads: commands that are due for them.
        problems: what went wrong, one sentence each.
        in_place: files that were written over, because they are mount points.
        diffs: what would change, under `noop`.
        notices: keys that are left out, with the reason.
        commands: the reload commands of everything that there is a file for; None when that is not known.
    """

    changed: list[str] = dataclasses.field(default_factory=list)
    reloads: set[Command] = dataclasses.field(default_factory=set)
    problems: list[str] = dataclasses.field(default_factory=list)
    in_place: list[str] = dataclasses.field(default_factory=list)
    diffs: list[str] = dataclasses.field(default_factory=list)
    notices: list[str] = dataclasses.field(default_factory=list)
    commands: set[Command] | None = None


class CheckFailed(Exception):
    """A file was refused by its check command; the message says what that said."""


class Placer:
    """Places the files of resources.

    Args:
        rules: what holds for all.
        ledger: where reloads are entered before a file is replaced.
    """

    def __init__(self, rules: Rules, ledger: Ledger) -> None:
        self._rules, self._ledger = rules, ledger
        self._owners: dict[Path, str] = {}  # place of a file, links followed -> the resource that writes it

    def forget(self, name: str) -> None:
        """A resource is no more: what it wrote may be written by others."""
        self._keep(name, set())

    def _keep(self, name: str, places: Set[Path]) -> None:
        for place in [place for place, owner in self._owners.copy().items() if owner == name and place not in places]:
            del self._owners[place]

    async def place(self, loaded: Loaded, seen: Seen) -> Placed:
        """Bring the files of a resource to what its keys say."""
        placed = Placed()
        one = loaded.resource
        before = self._ledger.made(one.name)
        try:
            now, wanted = await in_thread(lambda: self._wanted(loaded, seen, placed))
            made = {str(dest): item.key for item, dest in now.items() if item.key}
            if not self._rules.noop:
                await in_thread(lambda: self._ledger.make(one.name, made))
        except (BadTemplate, BadResource, CannotPlace, CannotRemember, OSError) as error:
            placed.problems.append(str(error))
            return placed
        placed.commands = {
            command for item, dest in now.items() if (command := self._reload(one, dest, item)) is not None
        }
        for item, file in wanted.items():
            await self._try(self._file(one, item, file, placed), file.dest, placed)
        if not self._rules.noop:
            places = {str(dest) for dest in now.values()}
            gone = {path: key for path, key in before.items() if path not in places}
            left = await self._remove_all(one, gone, placed)
            await in_thread(lambda: self._ledger.keep(one.name, made | left))
        return placed

    async def _remove_all(self, one: Resource, gone: Mapping[str, str], placed: Placed) -> dict[str, str]:
        """Remove the files of items that are no more; returns those that could not be removed."""
        return {
            path: key
            for path, key in gone.items()
            if not await self._try(self._remove(one, Path(path), key, placed), Path(path), placed)
        }

    async def _try(self, work: Coroutine[Any, Any, None], dest: Path, placed: Placed) -> bool:
        """Do something to one file; False when it failed, which is noted."""
        try:
            await work
        except OSError as error:
            placed.problems.append(f"{dest}: {error.strerror or error}")
        except (CannotPlace, CannotRemember, CannotRun, CheckFailed, BadResource) as error:
            placed.problems.append(str(error))
        else:
            return True
        return False

    def _wanted(self, loaded: Loaded, seen: Seen, placed: Placed) -> tuple[dict[Item, Path], dict[Item, Wanted]]:
        """The place of every item's file, and the files; one that cannot be rendered has a place all the same."""
        one = loaded.resource
        values = resource.seen(one, seen.values)
        keys = Keyspace(values)
        items, placed.notices = resource.items(one, values)
        uid, gid = io_stage.owner(one.uid, one.owner), io_stage.group(one.gid, one.group)
        places: dict[Path, Item] = {}
        found: dict[Item, Wanted] = {}
        for item in items:
            dest = Path(resource.destination(one, item)).absolute()
            try:
                self._claim(one, item, dest, places)
                data, changed_ns = self._render(loaded, keys, item, dest)
            except (BadTemplate, CannotPlace) as error:
                placed.problems.append(str(error))
                continue
            found[item] = Wanted(dest, data, one.mode, uid, gid, changed_ns)
        self._keep(one.name, {io_stage.real(dest) for dest in places})
        return {item: dest for dest, item in places.items()}, found

    def _claim(self, one: Resource, item: Item, dest: Path, places: dict[Path, Item]) -> None:
        """Note that a place is this item's.

        Raises:
            CannotPlace: it is another one's, or outside the roots.
        """
        io_stage.within(dest, self._rules.roots)
        if dest in places:
            raise CannotPlace(f"{dest}: {item.key} and {places[dest].key} would both be written into it")
        owner = self._owners.setdefault(io_stage.real(dest), one.name)
        if owner != one.name:
            raise CannotPlace(f"{dest} is written by {owner} already")
        places[dest] = item

    def _render(self, loaded: Loaded, keys: Keyspace, item: Item, dest: Path) -> tuple[bytes, int]:
        """The file's octets, and the moment that `datetime` gave.

        That moment is when the file last changed, as long as nothing else in it changes: a file is not written, and
        nothing is reloaded, because time passes.
        """
        now_ns = time.time_ns()
        before_ns = io_stage.changed_ns(dest)
        data, asked = self._at(loaded, keys, item, now_ns if before_ns is None else before_ns)
        if before_ns is None or not asked:
            return data, now_ns
        if dest.read_bytes() == data:
            return data, before_ns
        return self._at(loaded, keys, item, now_ns)[0], now_ns

    def _at(self, loaded: Loaded, keys: Keyspace, item: Item, moment_ns: int) -> tuple[bytes, bool]:
        lookups = Lookups(self._rules.environ, moment_ns)
        text = loaded.template.render(functions.functions(keys, lookups.world), item.fields)
        try:
            return text.encode("utf-8", "surrogateescape"), lookups.asked_time
        except UnicodeEncodeError:
            raise BadTemplate(f"template {loaded.resource.src}: what it writes is no text") from None

    async def _file(self, one: Resource, item: Item, file: Wanted, placed: Placed) -> None:
        rules = self._rules
        left_over = self._reload(one, file.dest, item)
        if left_over is not None and self._ledger.begun(left_over):
            placed.reloads.add(left_over)  # its file was put in place by a process that did not live to reload
        what = await in_thread(lambda: io_stage.differs(file))
        if rules.noop and what:
            placed.diffs.append(await in_thread(lambda: io_stage.difference(file)))
        if not rules.keep_stage and (rules.noop or not what):
            return
        aside = await in_thread(lambda: io_stage.stage(file, self._ledger.mark))
        try:
            if what and not rules.noop:
                await self._swap(one, item, file, aside, placed)
        finally:
            if not rules.keep_stage:
                await in_thread(lambda: aside.unlink(missing_ok=True))

    async def _swap(self, one: Resource, item: Item, file: Wanted, aside: Path, placed: Placed) -> None:
        if not self._rules.sync_only:
            await self._check(one, item, str(aside), str(file.dest))
        await self._owing(self._reload(one, file.dest, item), lambda: self._replace(file, aside, placed), placed)

    async def _replace(self, file: Wanted, aside: Path, placed: Placed) -> None:
        if await in_thread(lambda: io_stage.replace(aside, file)):
            placed.in_place.append(str(file.dest))
        placed.changed.append(str(file.dest))

    async def _owing(
        self, command: Command | None, change: Callable[[], Coroutine[Any, Any, None]], placed: Placed
    ) -> None:
        """Do a change after which a command is due, so that this is known whenever we are killed."""
        if command is None:
            await change()
            return
        entry = await in_thread(lambda: self._ledger.enter(command))
        try:
            await change()
        except OSError:
            await in_thread(lambda: self._ledger.withdraw(command, entry))
            raise
        self._ledger.placed(entry)
        placed.reloads.add(command)

    async def _check(self, one: Resource, item: Item, src: str, dest: str) -> None:
        command = resource.checked(one, src, dest, item)
        if command is None:
            return
        outcome = await run(resource.argv(command), timeout_s=one.timeout_s or self._rules.check_timeout_s)
        if outcome.code != 0:
            raise CheckFailed(f"{dest}: check_cmd refused it: {told(outcome.code, outcome.output)}")

    async def _remove(self, one: Resource, dest: Path, key: str, placed: Placed) -> None:
        """Remove the file of an item that is no more."""
        io_stage.within(dest, self._rules.roots)
        if self._owners.get(io_stage.real(dest), one.name) != one.name:
            return  # another resource has taken it over
        command = self._reload(one, dest, Item(key, gopath.base(key)))
        if await in_thread(lambda: os.path.lexists(dest)):
            await self._owing(command, lambda: self._unlink(dest, placed), placed)
        elif command is not None and self._ledger.begun(command):
            placed.reloads.add(command)  # removed by a process that did not live to reload

    def _reload(self, one: Resource, dest: Path, item: Item) -> Command | None:
        return None if self._rules.sync_only else resource.reloading(one, str(dest), item)

    async def _unlink(self, dest: Path, placed: Placed) -> None:
        await in_thread(lambda: io_stage.remove(dest))
        placed.changed.append(str(dest))


def told(code: int | None, output: str) -> str:
    """How a command ended, with what it printed last."""
    said = output.strip()[-LONGEST_OUTPUT:]
    if code is None:
        return said
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {said}" if said else ended
