"""Brings nginx to what the views say: whoever is refused goes into quarantine, and all others go live.

A round renders, applies and, when nginx names a culprit, takes it out and begins anew, without all others that are
refused beside it; a refusal by `nginx -t` costs no reload. What is not one service's fault (a full disk, a
port that is taken, a program that hangs) is reported and left to the next try.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from confgen.applying.blame import Blame
from confgen.applying.history import Pin
from confgen.applying.io_apply import Applier, Result
from confgen.applying.io_chronicle import Chronicle
from confgen.applying.io_culprits import Culprits
from confgen.applying.io_endpoints import InConfiguration, Sent
from confgen.applying.io_files import Folder, UnsafePath, read_small, write_whole
from confgen.applying.io_history import History
from confgen.applying.io_nginx import NotServing
from confgen.applying.io_pins import Pins
from confgen.applying.pipeline import Action, State
from confgen.applying.quarantine import Quarantine, told
from confgen.applying.restraint import Restraint
from confgen.applying.serving import Serving
from confgen.applying.standing import CONFIG, NGINX, PINNED, QUARANTINE, WORKERS, Standing
from confgen.io_thread import in_thread
from confgen.nginx.io_front import FrontCare
from confgen.nginx.render import Renderer, RenderFailed, Tree
from confgen.nginx.shapes import Level, ServiceView
from confgen.nginx.view import Views
from confgen.settings import ConfgenSettings

SAVED = "quarantine.json"
ROUND_S = 20.0  # new rounds begin within this time; what is left is for the next try
# What stands after a configuration that was not applied.
LEFT = {
    Action.ACCEPT: "it serves, and cannot be remembered as the last good one",
    Action.REFUSE: "the last good one stays",
    Action.WAIT: "it waits for the nginx that will be started",
    Action.ALARM: "nothing, or not what is on disk, is served",
}


class Publisher:
    """From views to what nginx serves.

    Args:
        renderer: makes trees.
        views: all services.
        folder: opened.
        applier: takes trees through the pipeline.
        standing: what is served; set here.
        front: https and streams.
        quarantine: who is out.
        endpoints: how nginx hears of its servers.
        put_back: brings the views back to the last good bytes of a snippet that nginx refused; returns the services
            whose view changed, nobody when it was not for a snippet or there is nothing to go back to.
        settings: how far reloads are apart, how many generations of workers may live, how long a loss is held back.
    """

    def __init__(
        self,
        renderer: Renderer,
        views: Views,
        folder: Folder,
        applier: Applier,
        standing: Standing,
        *,
        front: FrontCare,
        quarantine: Quarantine,
        endpoints: InConfiguration | Sent,
        put_back: Callable[[Blame], Awaitable[frozenset[str]]],
        settings: ConfgenSettings,
    ) -> None:
        self._renderer, self._views, self._folder, self._applier = renderer, views, folder, applier
        self._culprits = Culprits(applier, folder, self._render)
        self._quarantine, self._standing, self._restraint = quarantine, standing, Restraint(settings.refusal_grace_s)
        self._wait_s, self._most = settings.wait_s, settings.worker_generations
        self._front, self._endpoints, self._put_back = front, endpoints, put_back
        self._telemetry, self._metrics = standing.telemetry, standing.metrics
        self._path: Path = folder.path / SAVED
        self._history = History(folder.path)
        self._chronicle = Chronicle(self._history, self._telemetry)
        self.pins = Pins(self._history, self._chronicle, standing)
        self._saved = quarantine.saved()  # what stands on disk; nothing is the same as nobody
        self._changed: set[str] = set()  # services to be rendered anew
        self._serving = Serving(views.services)
        self._left_out: frozenset[str] = frozenset()  # services in quarantine, in what was rendered last
        self._more_out: frozenset[str] = frozenset()  # and those that were left out besides, in a search
        self._urgent = False  # an operator waits for what is to be applied
        self.last_reload = float("-inf")

    async def open(self) -> None:
        """Take in who was in quarantine when the generator ended, and what nginx was sent."""
        await self._endpoints.open()
        with contextlib.suppress(OSError):
            self._saved = await in_thread(lambda: read_small(self._path))
            self._quarantine.restore(self._saved, time.monotonic())
        self._changed |= set(self._quarantine.levels)

    def changed(self, services: Iterable[str]) -> None:
        """Note services whose view changed."""
        moved = set(services)
        again = self._endpoints.update(moved)
        self._changed |= again
        self._serving.changed(moved, again)

    def hurry(self) -> None:
        """Note that an operator waits for what the views say next: it does not wait for old workers."""
        self._urgent = True

    def try_again(self) -> bool:
        """Let those back in whose time has come; False when there is nobody."""
        found = self._quarantine.try_again(time.monotonic())
        self._changed |= found
        return bool(found)

    async def edited(self) -> bool:
        """True when somebody changed what nginx reads, by hand; said once for each time that it is found."""
        before = self._standing.generation
        if self._applier.state is not State.IDLE or self._standing.blame is not None:
            return False  # it is compared, or will be soon, byte for byte
        if await in_thread(self._folder.intact):
            return False
        if self._applier.state is not State.IDLE or self._standing.generation != before:
            return False  # we did
        self._folder.doubt()
        self._say_edited(before)
        return True

    def _say_edited(self, generation: str) -> None:
        self._telemetry.log.warning(
            "the configuration was changed by hand; it is written anew", extra={"cause": generation}
        )

    async def publish(self, revision: int, *, known: bool) -> bool:
        """Bring nginx to what the views say now; False when that has to be tried again.

        Args:
            revision: of the store, which the views show.
            known: the store was read in full. Else they are empty, and nothing but a pinned generation may be served.
        """
        pin = await self.pins.held()
        if pin is not None:
            return await self._publish_pinned(pin)
        if not known:
            return False
        self.changed(self._front.settle(self._views))
        self._let_back()
        ends = time.monotonic() + ROUND_S
        while True:
            result, tree = await self._round()
            if result is None:
                if self._endpoints.told and self._serving.lacks_no_server():
                    self._standing.revision = revision  # whoever drains waits for no addition
                await self._keep()
                return False
            if tree is not None and result.action is Action.ACCEPT:
                self._telemetry.ready.good(PINNED)
                for entry in self._quarantine.accepted(self._left_out):
                    self._telemetry.log.info("out of quarantine: it is accepted now", extra={"service": entry.service})
                await self._accept(tree, revision, self._chronicle.reason(revision, self._quarantine.entries))
                self._serving.applied()
                self._urgent = False
                self._telemetry.ready.good(WORKERS)
                await self._keep()
                return self._remembered(result)
            if result.blame and self._front.refused(result.blame.message) and time.monotonic() < ends:
                await self._front.look()
                self.changed(self._front.settle(self._views))
                continue
            if result.blame and (behind := await self._put_back(result.blame)) and time.monotonic() < ends:
                self.changed(behind)
                continue
            found = await self._culprits.find(tree, result, self._quarantine.levels)
            if not [one for one in found if self._out(one, result)] or time.monotonic() >= ends:
                self._report(result)
                await self._keep()
                return False
            await self._keep()  # named at once, and over a crash in the next round
            if result.reloaded:
                await asyncio.sleep(max(0.0, self.last_reload + self._wait_s - time.monotonic()))

    async def _publish_pinned(self, pin: Pin) -> bool:
        self._telemetry.ready.bad(PINNED, f"generation {pin.generation} is held; let it go: pilotfish accept")
        try:
            tree = await in_thread(lambda: self.pins.stored(pin.generation))
        except (OSError, UnsafePath) as error:
            self._report(Result(Action.REFUSE, Blame("", "", 0, f"generation {pin.generation} is pinned: {error}")))
            return False
        result = await self._bring(tree, at_once=True)
        if result is None or result.action is not Action.ACCEPT:
            self._report(result or Result(Action.WAIT, None))
            return False
        self._serving.sure = False
        note = await in_thread(lambda: self._history.note(pin.generation))
        await self._accept(tree, note.revision if note else 0, "an operator went back to it")
        return self._remembered(result)

    def _let_back(self) -> None:
        """Whoever would have other files now than were refused is no longer in quarantine."""
        for service in self._quarantine.levels.keys() & self._changed:
            view = self._views.services.get(service)
            digest = self._digest(view) if view else ""
            if self._quarantine.changed(service, digest, time.monotonic()):
                self._telemetry.log.info("out of quarantine: it changed", extra={"service": service})

    def _digest(self, view: ServiceView) -> str:
        settled = self._endpoints.settled.get(view.name, view)
        return self._renderer.digest(settled, self._views.streams.views.get(view.name))

    async def _round(self) -> tuple[Result | None, Tree | None]:
        """One try: how it ended, and what was tried; no result when it has to wait for old workers."""
        try:
            tree = self._render()
        except RenderFailed as error:
            return Result(Action.REFUSE, Blame(error.service, "", 0, str(error)), State.STAGING), None
        return await self._bring(tree), tree

    async def _bring(self, tree: Tree, *, at_once: bool = False) -> Result | None:
        """Tell nginx its servers, and bring it to a configuration; None: that has to wait, unless it is `at_once`."""
        result: Result | None = None

        async def apply() -> bool:
            nonlocal result
            if adopted := await self._applier.adopt(tree):
                result = adopted
            elif at_once or not (self._waits() or await self._held_back()):
                result = await self._apply(tree)
            return result is not None and result.action is Action.ACCEPT

        try:
            await self._endpoints.bring(apply)
        except (NotServing, OSError) as error:
            result = Result(Action.ALARM, Blame("", "", 0, str(error)))
        if self._endpoints.told:
            self._serving.told()
        return result

    def _waits(self) -> bool:
        """True while as many generations of workers live as may, and nothing but additions is to be applied."""
        living = self._applier.generations()
        if living < self._most or self._urgent or not self._adds():
            self._telemetry.ready.good(WORKERS)
            return False
        why = f"{living} generations of nginx's workers have open connections: what was added waits for one to end"
        if WORKERS not in self._telemetry.ready.missing:
            self._telemetry.log.warning("%s, for an hour at most", why)
        self._telemetry.ready.bad(WORKERS, why)
        return True

    def _adds(self) -> bool:
        """True when nothing that nginx serves goes, or is served by others, with what is to be applied."""
        answering, told = self._serving.answering(), self._endpoints.told
        return self._front.only_adds(answering.by_another) and self._serving.lacks_additions_only(answering, told=told)

    async def _held_back(self) -> bool:
        """True while too much of what is served would be lost to quarantine."""
        levels = self._quarantine.levels
        if not levels:
            self._restraint.left_s(0, 0, time.monotonic())
            return False
        served = await in_thread(self._history.served)
        files = {view.file.text for name in levels if (view := self._views.services.get(name)) is not None}
        lost = files & served
        left_s = self._restraint.left_s(len(lost), len(served), time.monotonic())
        if left_s:
            how = f"the last good one stays for {self._restraint.grace_s:g} s at most (--refusal-grace)"
            why = f"{len(lost)} of {len(served)} services were refused: {how}; {told(self._quarantine.entries)}"
            self._report(Result(Action.REFUSE, Blame("", "", 0, why)))
        return left_s > 0

    async def _apply(self, tree: Tree) -> Result:
        standing = self._standing
        if self._folder.current != tree.generation == standing.generation and standing.blame is None:
            self._say_edited(tree.generation)  # something else came first than the look for it
        with self._metrics.seconds.time():
            result = await self._applier.apply(tree)
        if result.action is Action.ACCEPT:
            self.last_reload = time.monotonic()
        elif result.reloaded:
            self.last_reload = time.monotonic() + self._wait_s  # there and back: that was two
        self._metrics.applied.labels(result.action.name.lower()).inc()
        return result

    def _render(self, more: frozenset[str] = frozenset()) -> Tree:
        views, out = self._views, self._quarantine.levels
        self._left_out = frozenset(out)
        self._changed |= self._more_out ^ more
        self._more_out = more
        out |= {service: Level.SILENT for service in more if service not in out}
        front = self._front.front(views, out)
        tree = self._renderer.render(
            self._endpoints.settled,
            self._changed,
            views.host_count,
            views.longest_host,
            out=out,
            blamed={entry.service: entry.file for entry in self._quarantine.entries},
            front=front,
        )
        self._changed.clear()
        return tree

    def _out(self, guilty: Blame, result: Result) -> bool:
        """Put a service into quarantine; False when that changes nothing."""
        service = guilty.service
        view = self._views.services.get(service)
        if view is None:
            return False
        digest = self._digest(view)
        now = self._telemetry.now()
        if not self._quarantine.add(guilty, digest, now=now, clock=time.monotonic(), costly=result.reloaded):
            return False
        self._changed.add(service)
        self._telemetry.log.error(
            "in quarantine, its places answer 503: %s",
            guilty.message,
            extra={"service": service, "stage": result.failed.value, "cause": f"quarantine {service} {guilty.message}"},
        )
        return True

    async def _keep(self) -> None:
        """Show who is in quarantine, and save it for the next start."""
        entries = self._quarantine.entries
        self._metrics.quarantined(entry.service for entry in entries)
        if entries:
            self._telemetry.ready.bad(QUARANTINE, told(entries))
        else:
            self._telemetry.ready.good(QUARANTINE)
        saved = self._quarantine.saved()
        if saved == self._saved:
            return
        try:
            await in_thread(lambda: write_whole(self._path, saved))
            self._saved = saved
        except OSError as error:
            self._telemetry.log.warning("%s cannot be written: %s", self._path, error.strerror)

    async def _accept(self, tree: Tree, revision: int, reason: str) -> None:
        self._front.accepted(tree.files)
        standing = self._standing
        standing.generation, standing.revision, standing.serving = tree.generation, revision, True
        standing.blame, standing.outcome = None, "accept"
        self._telemetry.ready.good(CONFIG)
        self._telemetry.ready.good(NGINX)
        names = tuple(entry.service for entry in self._quarantine.entries)
        await self._chronicle.remember(tree, revision, reason, names)

    def _remembered(self, result: Result) -> bool:
        """False when what serves could not be made the last good one; that is said, and tried again."""
        if result.blame is not None:
            self._report(result)
        return result.blame is None

    def _report(self, result: Result) -> None:
        standing = self._standing
        standing.outcome = result.action.name.lower()
        standing.blame = result.blame or Blame("", "", 0, result.action.value)
        self._telemetry.ready.bad(CONFIG, str(standing.blame))
        self._telemetry.log.error(
            "configuration not %s: %s; %s",
            "remembered" if result.action is Action.ACCEPT else "applied",
            standing.blame.message,
            LEFT[result.action],
            extra={"service": standing.blame.service or "-", "action": standing.outcome, "cause": standing.blame},
        )
