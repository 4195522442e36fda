"""Walks one configuration through the pipeline's table, with a real folder and a real nginx.

Whatever happens, also when we are told to end in the middle, the table says what is left behind; work in a thread is
always finished before the cancellation goes on, so that no half-written file outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from confgen.applying.blame import Blame, blame
from confgen.applying.excerpt import excerpt
from confgen.applying.io_files import Folder, UnsafePath
from confgen.applying.io_nginx import Nginx, NotRunning, NotServing
from confgen.applying.listeners import new_listeners, refused
from confgen.applying.pipeline import Action, Event, State, patience, step
from confgen.io_command import CannotRun, Outcome
from confgen.io_thread import in_thread
from confgen.nginx.io_ports import taken
from confgen.nginx.render import Tree

T = TypeVar("T")


NOTHING: Mapping[str, bytes] = MappingProxyType({})
_RELOADED = frozenset({State.RELOADING, State.PROVING})  # where nginx was told before something failed


class Result(NamedTuple):
    """How it ended.

    Attributes:
        action: the table's last one.
        blame: the reason if that is not ACCEPT; with ACCEPT, why what serves cannot be remembered as the last good one.
        failed: where it failed; IDLE when it did not.
        refused: nginx itself said no, in its own words, to what it was given.
        reloaded: nginx was told to reload, or started, and that failed: with the way back it was two times.
    """

    action: Action
    blame: Blame | None
    failed: State = State.IDLE
    refused: bool = False
    reloaded: bool = False


class Applier:
    """Applies configurations, one at a time.

    Args:
        folder: opened.
        nginx: None: only files are written (`--nginx off`); they count as applied once they stand.
        proof_s: how long the proof may take.

    Attributes:
        state: where the configuration stands that is being applied.
        in_vain: how often nginx took a whole of which it had refused an excerpt; with our own templates it never does.
    """

    def __init__(self, folder: Folder, nginx: Nginx | None, *, proof_s: float) -> None:
        self.state = State.IDLE
        self.in_vain = 0
        self._folder, self._nginx, self._proof_s = folder, nginx, proof_s
        self._went_well = False  # the last one was accepted
        self._doing = asyncio.Lock()

    async def adopt(self, tree: Tree) -> Result | None:
        """Take what is served already for applied; None when it is not served, or not by every worker.

        What another process made nginx read is proved first, and is the last good one from then on.
        """
        async with self._doing:
            known = self._folder.accepted(tree)
            if not await self._is_served(tree, known):
                return None
            if known:
                return Result(Action.ACCEPT, None)
            return await self._run(tree).adopt()

    async def _is_served(self, tree: Tree, known: bool) -> bool:
        """True when this very configuration stands on disk and answers; of one that is `known` no file is read.

        Where endpoints are sent, each change comes here, and whoever edits files is found out by other looks.
        """
        if tree.generation != self._folder.current:
            return False
        if not known and not await in_thread(lambda: self._folder.holds(tree)):
            return False
        if self._nginx is None:
            return True
        answer = await self._nginx.served()
        return answer is not None and answer.generation == tree.generation and self._nginx.pid != 0

    def generations(self) -> int:
        """How many generations of nginx's workers live."""
        return self._nginx.generations() if self._nginx else 0

    async def apply(self, tree: Tree) -> Result:
        """Take one configuration through the pipeline. Never raises but when cancelled."""
        async with self._doing:
            trusted = (
                self._went_well and self._nginx is not None and self._nginx.ours
            )  # others read `current` at any time
            run = self._run(tree, self._folder.proved_files if trusted else NOTHING)
            self._went_well = False
            result = await run.walk()
            self._went_well = result.action is Action.ACCEPT
            self.in_vain += run.in_vain
            return result

    def _run(self, tree: Tree, known: Mapping[str, bytes] = NOTHING) -> _Run:
        return _Run(tree, self._folder, self._nginx, self._proof_s, self._show, known=known)

    async def refusal(self, tree: Tree) -> Blame | None:
        """What `nginx -t` says against a configuration, of which nothing is left then; None: it takes it.

        Raises:
            NotServing, CannotRun, UnsafePath, OSError: it could not be asked.
        """
        async with self._doing:
            if self._nginx is None:
                return None
            outcome = await checked_aside(tree, self._folder, self._nginx)
        if outcome.code is None:
            raise NotServing(outcome.output)
        return blame(outcome.output, tree.services) if outcome.code else None

    async def rotate(self, most: int) -> bool:
        """Rotate nginx's logs, unless something is being applied: a proof reads one of them. True when it did.

        Raises:
            OSError: they cannot be renamed.
        """
        if self._nginx is None or self._doing.locked():
            return False
        async with self._doing:
            return await self._nginx.rotate(most)

    async def revive(self) -> None:
        """Start nginx on what `current` is, or on the last good one when nginx refuses that.

        Who was told to end between a swap and its proof may have left there what nobody has checked as a whole.

        Raises:
            NotServing: it does not start, or does not serve.
        """
        async with self._doing:
            if self._nginx is not None and self._folder.current and not self._nginx.pid:
                try:
                    await self._start(self._nginx)
                except NotServing as error:
                    good = self._folder.good
                    if not error.refused or good in {"", self._folder.current}:
                        raise
                    await in_thread(lambda: self._folder.swap(good))
                    await self._start(self._nginx)

    async def _start(self, nginx: Nginx) -> None:
        longer = patience(await in_thread(self._folder.count))  # of a former process's too
        await nginx.reload(longer)
        await nginx.prove(self._folder.current, timeout_s=self._proof_s * longer)

    def _show(self, state: State) -> None:
        self.state = state


async def checked_aside(tree: Tree, folder: Folder, nginx: Nginx) -> Outcome:
    """What `nginx -t` says of files that are only looked at; nothing is left of them.

    Raises:
        CannotRun, UnsafePath, OSError: it could not be asked.
    """
    try:
        config = await in_thread(lambda: folder.set_aside(tree))
        return await nginx.check(config, patience(len(tree.files)))
    finally:
        with contextlib.suppress(OSError):  # the next start removes it; it must not hide that we are told to end
            await in_thread(lambda: folder.clear_aside(tree))


class _Run:
    """One walk through the table.

    Args:
        tree: the configuration.
        folder: where it is written.
        nginx: None: nobody reads it.
        proof_s: how long the proof may take.
        show: is told each state.
        known: files of a configuration that nginx has read as a whole, and serves: of another, an excerpt is read.

    Attributes:
        in_vain: nginx refused the excerpt, and took the whole.
    """

    def __init__(
        self,
        tree: Tree,
        folder: Folder,
        nginx: Nginx | None,
        proof_s: float,
        show: Callable[[State], None],
        *,
        known: Mapping[str, bytes],
    ) -> None:
        self.in_vain, self._known = False, known
        self._excerpt_only = False  # the whole was never checked
        self._tree, self._folder, self._nginx, self._proof_s, self._show = tree, folder, nginx, proof_s, show
        self._before, self._patience = folder.good, patience(len(tree.files))
        self._blame: Blame | None = None
        self._state, self._failed, self._refused = State.IDLE, State.IDLE, False
        self._perform: dict[Action, Callable[[], Awaitable[None]]] = {
            Action.STAGE: lambda: in_thread(lambda: folder.stage(tree)),
            Action.CHECK: self._check,
            Action.SWAP: lambda: in_thread(lambda: folder.swap(tree.generation)),
            Action.RELOAD: self._reload,
            Action.PROVE: self._prove,
            Action.RESTORE: self._restore,
            Action.ACCEPT: lambda: in_thread(lambda: folder.accept(tree.generation)),
            Action.REFUSE: self._discard,
            Action.DISCARD: self._discard,
            Action.ALARM: self._discard,
        }

    async def walk(self) -> Result:
        state, event = State.IDLE, Event.CHANGED
        while True:
            state, action = step(state, event)
            self._state = state
            self._show(state)
            if state is State.IDLE:
                await self._last(action)
                reloaded = self._failed in _RELOADED
                await self._ask_whole()
                return Result(action, self._blame, self._failed, self._refused, reloaded)
            try:
                event = await self._event(action)
            except asyncio.CancelledError:
                _, action = step(state, Event.STOPPED)
                self._show(State.IDLE)
                if state is State.SWAPPING and self._excerpt_only and self._before:
                    with contextlib.suppress(OSError, UnsafePath):  # nginx was not told of the other yet
                        await in_thread(lambda: self._folder.swap(self._before))
                await self._last(action)
                raise

    async def adopt(self) -> Result | None:
        """Prove and remember what nginx reads already; None when some worker does not serve it."""
        if self._nginx is not None:
            self._nginx.found()
        if await self._event(Action.PROVE) is not Event.DONE:
            return None
        if await self._event(Action.STAGE) is Event.DONE:  # it stands there: how its files look is taken in
            await self._last(Action.ACCEPT)
        return Result(Action.ACCEPT, self._blame)

    async def _event(self, action: Action) -> Event:
        """Do what the table says; every way in which it can fail is an event."""
        try:
            await self._perform[action]()
        except NotRunning as error:
            self._note(str(error))
            return Event.ABSENT
        except (NotServing, CannotRun, UnsafePath) as error:
            self._note(str(error), refused=isinstance(error, NotServing) and error.refused)
            return Event.FAILED
        except OSError as error:
            self._note(f"{error.filename or self._folder.path}: {error.strerror}")
            return Event.FAILED
        return Event.DONE

    async def _last(self, action: Action) -> None:
        if action in self._perform:
            await self._event(action)

    def _note(self, said: str, *, refused: bool = False) -> None:
        """Keep the first reason: what fails on the way back is its consequence."""
        if self._blame is None:
            self._blame = blame(said, self._tree.services)
            self._failed, self._refused = self._state, refused

    async def _check(self) -> None:
        nginx = self._nginx
        if nginx is None:
            return
        said = await self._of_excerpt(nginx)
        self._excerpt_only = said is not None and said.code == 0
        if not self._excerpt_only:  # what nginx has against an excerpt, the whole may not have
            outcome = await nginx.check(self._folder.config(self._tree.generation), self._patience)
            if outcome.code != 0:
                raise NotServing(outcome.output, refused=outcome.code is not None)
            self.in_vain = said is not None and bool(said.code)
        # `nginx -t` takes an address that others have, and a reload tries for 2.5 s before it gives up, for everybody.
        if words := await in_thread(lambda: self._taken(nginx.pid)):
            raise NotServing(words, refused=True)

    async def _of_excerpt(self, nginx: Nginx) -> Outcome | None:
        """What nginx says of what is new; None: it has to be asked about the whole, or there is no room beside that."""
        part = await in_thread(lambda: excerpt(self._tree, self._known)) if self._known else None
        if part is None:
            return None
        try:
            return await checked_aside(part, self._folder, nginx)
        except OSError:
            return None

    async def _ask_whole(self) -> None:
        """Of a configuration that was refused at its reload after its excerpt had passed: what is wrong with the whole.

        Else whoever changed last would be blamed, and it may be anybody: each excerpt is good for itself.
        """
        nginx = self._nginx
        if nginx is None or not self._excerpt_only or self._failed not in _RELOADED:
            return
        try:
            outcome = await checked_aside(self._tree, self._folder, nginx)
        except (CannotRun, UnsafePath, OSError):
            return
        if outcome.code:
            self._blame, self._failed, self._refused = blame(outcome.output, self._tree.services), State.CHECKING, True

    def _taken(self, master: int) -> str:
        """What nginx would say of an address that a service is the first to listen at; empty when all can be had."""
        tried = ((one, taken(*one, master)) for one in new_listeners(self._tree, self._folder.proved_files))
        return "\n".join(refused(one, words) for one, words in tried if words)

    async def _reload(self) -> None:
        if self._nginx is not None:
            await self._nginx.reload(self._patience)

    async def _prove(self) -> None:
        if self._nginx is not None:
            await self._nginx.prove(self._folder.current, timeout_s=self._proof_s * self._patience)

    async def _restore(self) -> None:
        if not self._before:
            raise NotServing("there is no configuration before it to go back to")
        await in_thread(lambda: self._folder.swap(self._before))
        # What is gone back to may be much larger than what failed.
        self._patience = max(self._patience, patience(await in_thread(self._folder.count)))

    async def _discard(self) -> None:
        await in_thread(lambda: self._folder.discard(self._tree.generation))
