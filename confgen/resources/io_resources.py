"""confd's work: follows the keys of template resources, and keeps their files and programs in step.

Each resource goes its own way, so that one that fails or hangs delays no other. What failed is tried again with
growing waits, and at once when its keys change. Everything is looked at anew every `--interval`, at SIGHUP, and when a
file of the confdir changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confgen.io_thread import in_thread
from confgen.resources import io_confdir, io_stage
from confgen.resources.io_confdir import CannotRead, Confdir, Loaded, NoConfdir
from confgen.resources.io_entry import IDLE, MOST_NOTICES, Entry, Metrics
from confgen.resources.io_keys import Keys, read
from confgen.resources.io_ledger import Ledger
from confgen.resources.io_placing import Placed, Placer, Rules
from confgen.resources.io_reloads import FIRST_RETRY_S, LAST_RETRY_S, Reloads, reload_once, shown
from confgen.resources.keyspace import under
from confgen.resources.resource import Command, Item, reloading
from confgen.settings import ConfgenSettings
from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.io_follow import Backoff
from pilotfish.catalog.store import Store, StoreError
from pilotfish.catalog.telemetry import Telemetry

LOOK_S = 1.0  # between two looks at the confdir


class ResourcesService:
    """Store -> files of template resources.

    Args:
        settings: with `confdir` and `state_dir` filled in.
        store: read and watched.
        telemetry: readiness, metrics and log of this part.
        say: gets the diffs of `--noop`.
    """

    def __init__(
        self,
        settings: ConfgenSettings,
        store: Store,
        telemetry: Telemetry,
        say: Callable[[str], object] = sys.stdout.write,
    ) -> None:
        self._settings, self._store, self._telemetry, self._say = settings, store, telemetry, say
        self._confdir = Path(settings.confdir).absolute()
        self._ledger = Ledger(Path(settings.state_dir).absolute(), self._confdir)
        rules = Rules(
            roots=settings.dest_root,
            noop=settings.noop,
            sync_only=settings.sync_only,
            keep_stage=settings.keep_stage_file,
            check_timeout_s=settings.check_timeout_s,
            environ=dict(os.environ),
        )
        self._placer = Placer(rules, self._ledger)
        self._keys = Keys(store, telemetry, settings.verify_s, self._changed)
        self._reloads = Reloads(self._ledger, telemetry, settings.wait_s, self._shares, self._is_wanted)
        self._metrics = Metrics(telemetry)
        self._entries: dict[str, Entry] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._bad: dict[str, str] = {}
        self._read_again = asyncio.Event()

    # --- once

    async def once(self) -> None:
        """Render every resource once, run what is due, and end.

        Raises:
            CannotReach: the store cannot be read.
            CannotStart: a resource or a reload failed; the message names all of them.
        """
        if not self._settings.noop:
            await in_thread(self._ledger.open)
        try:
            found = await self._load()
            failed = await self._all_once(found)
        except NoConfdir as error:  # confd warns and is content
            self._telemetry.log.warning("%s", error)
            return
        except CannotRead as error:
            raise CannotStart(str(error)) from error
        finally:
            self._ledger.close()
        problems = [*found.bad.values(), *failed]
        if problems:
            raise CannotStart("; ".join(problems))

    async def _all_once(self, found: Confdir) -> list[str]:
        paths = {path for one in found.loaded.values() for path in one.resource.prefixes}
        try:
            seen = await read(self._store, sorted(paths))
        except StoreError as error:
            raise CannotReach(f"{error}; is --etcd (or -node) right?") from error
        placed = await asyncio.gather(*(self._placer.place(one, seen) for one in found.loaded.values()))
        failed: list[str] = []
        due: dict[Command, float] = {}
        for one, each in zip(found.loaded.values(), placed, strict=True):
            self._show_diffs(each)
            for notice in each.notices:
                self._telemetry.log.warning("resource %s: %s", one.resource.name, notice)
            failed += [f"{one.resource.name}: {problem}" for problem in each.problems]
            due |= dict.fromkeys(each.reloads | self._left_over(one), self._timeout_s(one))
        for command, timeout_s in due.items():
            entries = self._ledger.begun(command)
            why = await reload_once(command, timeout_s)
            if why:
                failed.append(f"reload_cmd {shown(command)}: {why}")
            else:
                self._ledger.cross_out(command, entries)
        return [*failed, *filter(None, [self._ledger.behind])]

    # --- for ever

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            CannotStart: the confdir or the state folder cannot be used.
        """
        if not self._settings.noop:
            await in_thread(self._ledger.open)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_at_confdir(tasks))
                tasks.create_task(self._touch_all())
        finally:
            self._ledger.close()

    def reload(self) -> None:
        """Read the confdir anew and render everything (SIGHUP)."""
        self._read_again.set()

    async def _load(self) -> Confdir:
        prefix, joins = self._settings.prefix, self._settings.prefix_mode == "join"
        return await in_thread(lambda: io_confdir.read(self._confdir, prefix, joins=joins))

    async def _look_at_confdir(self, tasks: asyncio.TaskGroup) -> None:
        before, anew, first = None, False, True
        while True:
            anew = anew or self._read_again.is_set()
            self._read_again.clear()
            now = await in_thread(lambda: io_confdir.signature(self._confdir))
            if now != before or anew:
                try:
                    self._take(await self._load(), tasks)
                except CannotRead as error:
                    if first and not isinstance(error, NoConfdir):
                        raise CannotStart(str(error)) from error
                    self._told(error)
                    before = None  # looked at again soon, whether it changes or not
                else:
                    self._telemetry.ready.good("confdir")
                    before = now
                    if anew:
                        self._touch()
                    anew = False
                first = False
            await self._catch_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._read_again.wait()

    def _told(self, error: CannotRead) -> None:
        """The confdir cannot be read: what was read last goes on."""
        self._telemetry.ready.bad("confdir", str(error))
        self._telemetry.log.warning("%s; what was read last goes on", error, extra={"cause": "confdir"})

    async def _catch_up(self) -> None:
        await in_thread(self._ledger.catch_up)
        if self._ledger.behind:
            self._telemetry.ready.bad("ledger", self._ledger.behind)
        else:
            self._telemetry.ready.good("ledger")

    def _take(self, found: Confdir, tasks: asyncio.TaskGroup) -> None:
        """Go on with the resources that are there now; one that cannot be read any more goes on as it was."""
        for name in self._entries.keys() - found.loaded.keys():
            if not found.hides(name):
                self._stop(name)
        for name in self._bad.keys() - found.bad.keys():
            self._telemetry.ready.good(f"resource {name}")
        self._bad = found.bad
        for name, why in found.bad.items():
            self._telemetry.ready.bad(f"resource {name}", why)
            self._telemetry.log.error("resource cannot be used: %s", why, extra={"cause": f"load {name}"})
        for name, loaded in found.loaded.items():
            held = self._entries.get(name)
            if held is None or (held.loaded.resource, held.loaded.text) != (loaded.resource, loaded.text):
                self._stop(name)
                self._start(name, loaded, tasks)
        self._keys.follow((path for one in self._entries.values() for path in one.loaded.resource.prefixes), tasks)
        self._reloads.forget(self._is_wanted)
        self._metrics.resources.set(len(self._entries.keys() | self._bad.keys()))
        self._count_failing()

    def _start(self, name: str, loaded: Loaded, tasks: asyncio.TaskGroup) -> None:
        entry = self._entries[name] = Entry(loaded)
        self._telemetry.ready.bad(f"resource {name}", IDLE)
        for notice in loaded.resource.notices:
            self._telemetry.log.warning("resource %s: %s", name, notice)
        for command in self._left_over(loaded):
            self._reloads.due(command, self._timeout_s(loaded), tasks)
        entry.touch()
        self._running[name] = tasks.create_task(self._look_after(entry, tasks))

    def _stop(self, name: str) -> None:
        if name in self._running:
            self._running.pop(name).cancel()
            del self._entries[name]
            self._placer.forget(name)
            self._telemetry.ready.good(f"resource {name}")

    def _changed(self, keys: Sequence[str]) -> None:
        """Wake whom changed keys concern; called by the mirrors."""
        for entry in self._entries.values():
            paths = entry.loaded.resource.prefixes
            if any(under(key, path) for key in keys for path in paths) or entry.status == IDLE:
                entry.touch()

    async def _touch_all(self) -> None:
        while True:
            await asyncio.sleep(self._settings.interval_s)
            self._touch()

    def _touch(self) -> None:
        for entry in self._entries.values():
            entry.touch()

    async def _look_after(self, entry: Entry, tasks: asyncio.TaskGroup) -> None:
        backoff, started = Backoff(FIRST_RETRY_S, LAST_RETRY_S), float("-inf")
        await in_thread(lambda: self._sweep(entry.loaded))
        while True:
            await entry.wake.wait()
            await self._collected(entry, started)
            entry.wake.clear()
            if not self._keys.known(entry.loaded.resource.prefixes):
                continue  # the first reading wakes it
            started = time.monotonic()
            if await self._place(entry, tasks):
                backoff.reset()
            else:
                await backoff.wait(entry.wake)
                if not entry.wake.is_set():
                    entry.touch()

    async def _collected(self, entry: Entry, started: float) -> None:
        """Wait until it is time to render; more changes may put it off."""
        while True:
            wait_s = entry.due(started, self._settings.wait_s) - time.monotonic()
            if wait_s <= 0:
                return
            await asyncio.sleep(wait_s)

    async def _place(self, entry: Entry, tasks: asyncio.TaskGroup) -> bool:
        """Place a resource once; False when that has to be tried again."""
        one = entry.loaded.resource
        entry.busy = True
        try:
            seen = await self._keys.seen(one.prefixes)
            placed = await self._placer.place(entry.loaded, seen)
            entry.revision = seen.revision
            if placed.commands is not None:
                entry.commands = placed.commands
        except StoreError as error:
            placed = Placed(problems=[str(error)])
        finally:
            entry.busy = False
            self._reloads.settled.set()
        for command in placed.reloads:
            self._reloads.due(command, self._timeout_s(entry.loaded), tasks)
        if (known := self._known()) is not None:
            await in_thread(lambda: self._ledger.prune(known))
        self._show(entry, placed)
        return not placed.problems

    def _show(self, entry: Entry, placed: Placed) -> None:
        name = entry.loaded.resource.name
        self._show_diffs(placed)
        entry.problems, entry.in_place = placed.problems, placed.in_place or entry.in_place
        entry.failures = entry.failures + 1 if placed.problems else 0
        entry.status = "failed" if placed.problems else "in sync"
        if placed.diffs:
            entry.status = "differs"
        for notice in placed.notices[:MOST_NOTICES]:
            if notice not in entry.notices:
                self._telemetry.log.warning("resource %s: %s", name, notice)
        entry.notices = placed.notices
        if placed.changed:
            entry.changed_at = self._telemetry.now()
            self._telemetry.log.info("written", extra={"resource": name, "files": ", ".join(placed.changed)})
        for path in placed.in_place:
            self._telemetry.log.info("written in place: %s is a mount point", path, extra={"cause": path})
        for problem in placed.problems:
            self._telemetry.log.error("resource %s: %s", name, problem, extra={"cause": f"{name} {problem}"})
        if placed.problems:
            self._telemetry.ready.bad(f"resource {name}", "; ".join(placed.problems))
        elif name not in self._bad:
            self._telemetry.ready.good(f"resource {name}")
        outcome = "failed" if placed.problems else "written" if placed.changed else "in sync"
        self._metrics.runs.labels(outcome).inc()
        self._count_failing()

    def _count_failing(self) -> None:
        failing = {name for name, one in self._entries.items() if one.problems}
        self._metrics.failing.set(len(failing | self._bad.keys()))

    def _show_diffs(self, placed: Placed) -> None:
        for text in placed.diffs:
            self._say(text)

    # --- commands

    def _timeout_s(self, loaded: Loaded) -> float:
        return loaded.resource.timeout_s or self._settings.reload_timeout_s

    def _has(self, entry: Entry, command: Command) -> bool:
        """True when a command is that of a file of a resource, or may be: before it was placed, nobody knows."""
        if self._command(entry.loaded) == command:
            return True
        return bool(entry.loaded.resource.for_each) and (entry.commands is None or command in entry.commands)

    def _is_wanted(self, command: Command) -> bool:
        return any(self._has(entry, command) for entry in self._entries.values())

    def _command(self, loaded: Loaded) -> Command | None:
        one = loaded.resource
        return None if self._settings.sync_only else reloading(one, str(Path(one.dest).absolute()), Item())

    def _left_over(self, loaded: Loaded) -> set[Command]:
        """The resource's command, when a process that was killed left it due."""
        command = self._command(loaded)
        return {command} if command is not None and self._ledger.due(command) else set()

    def _known(self) -> list[Command] | None:
        """All commands that have a file, or are looked after; None while a resource was not placed yet."""
        found = list(self._reloads.known)
        for entry in self._entries.values():
            command = self._command(entry.loaded)
            if entry.commands is None and entry.loaded.resource.for_each:
                return None
            found += [*(entry.commands or ()), *([command] if command else [])]
        return found

    def _shares(self, command: Command) -> bool:
        return any(entry.at_work and self._has(entry, command) for entry in self._entries.values())

    def _sweep(self, loaded: Loaded) -> None:
        if not self._settings.noop:
            io_stage.sweep(Path(loaded.resource.dest).absolute().parent, self._ledger.mark)

    def state(self) -> dict[str, object]:
        """What /api/state shows."""
        age_s = self._keys.age_s()
        return {
            "confdir": str(self._confdir),
            "store_age_s": None if age_s is None else round(age_s, 3),
            "resources": [entry.state() for _, entry in sorted(self._entries.items())],
            "bad_resources": dict(self._bad),
            "failing_reloads": {shown(command): why for command, why in self._reloads.failing.items()},
        }
