"""The config generator: follows the store, renders, applies, and keeps nginx and the proxy's own record in step.

Nothing is rendered before the first full reading of the store, and a store that goes away takes nothing away: what is
known stays served. Every failure is reported once, here, and tried again with backoff.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from confgen.applying.blame import Blame
from confgen.applying.io_apply import Applier
from confgen.applying.io_endpoints import InConfiguration, Sent
from confgen.applying.io_files import Folder, FolderTaken, UnsafePath
from confgen.applying.io_nginx import Nginx
from confgen.applying.io_publish import Publisher
from confgen.applying.io_watch import Watch
from confgen.applying.pipeline import due
from confgen.applying.quarantine import Quarantine
from confgen.applying.standing import ADDRESS, CONFIG, Standing, quarantined, routes
from confgen.io_lease import ProxyRecord
from confgen.io_thread import in_thread
from confgen.nginx import io_folders, io_setup
from confgen.nginx.io_front import FrontCare
from confgen.nginx.policy import Around
from confgen.nginx.quote import Unprintable
from confgen.nginx.render import Renderer, RenderFailed, builtin_templates
from confgen.nginx.rights import ViewSettings
from confgen.nginx.view import Views
from confgen.settings import ConfgenSettings
from pilotfish.catalog import io_host, keys, panic
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.guard import Guard
from pilotfish.catalog.io_follow import Backoff, Comparing, Follower
from pilotfish.catalog.io_keeper import Keeper
from pilotfish.catalog.io_orphans import OrphanCare
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import MAX_AWAY, Proxy
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry

RETRY_LOOK_S = 0.5  # between two looks at quarantine and pin
EDITS_LOOK_S = 5.0  # and at whether somebody edited what nginx reads, and how large its logs are
# Objects, and rounds, between two looks of Python's at what is garbage. Views stay, and are freed without that; with
# its own numbers it looked at all of them again and again while they were made: a tenth of the time of a start.
THRESHOLDS = (20_000, 20, 50)
AT_HAND = 1024  # container records that stay decoded: each is looked at when one of its service changes
LONGEST_SOCKET = 107  # octets of a unix socket's path, unix(7)
KNOWN = "known.snapshot"  # in the nginx folder: who is an orphan is known only by who was there before


class ConfgenService:
    """Store -> nginx, on one host.

    Args:
        settings: with `nginx_dir` and `node_name` filled in.
        store: read, watched, and written for the proxy's own record.
        telemetry: readiness, metrics and log of this part.
        templates: file name -> text; default: those that are installed with the package.
    """

    def __init__(
        self, settings: ConfgenSettings, store: Store, telemetry: Telemetry, templates: Mapping[str, str] | None = None
    ) -> None:
        self._settings, self._telemetry = settings, telemetry
        self._templates = builtin_templates() if templates is None else templates
        self._path = Path(settings.nginx_dir).absolute()
        self._folder = Folder(self._path, settings.keep)
        self._nginx = self._make_nginx()
        self._applier = Applier(self._folder, self._nginx, proof_s=settings.proof_s)
        self._registry, self._touched = Registry(AT_HAND, by_name=False), Touched()
        guard = Guard(settings.guard, lambda: self._registry)
        self._care = OrphanCare(settings.node_name, settings.orphans_s, telemetry, guard)
        self._follower = Follower(store, keys.ROOT, self._take, telemetry, verify_s=settings.verify_s, care=self._care)
        self._keeper = Keeper(
            str(self._path / KNOWN),
            {keys.ROOT: self._follower},
            telemetry,
            self._follower.age_s,
            settings.orphans_s,
            at_once=False,  # nothing is rendered before the store was read
        )
        self._record = ProxyRecord(store, settings.node_name, settings.proxy_ttl_s, telemetry)
        self._standing, self._quarantine = Standing(telemetry), Quarantine()
        nginx = self._nginx
        self._front = FrontCare(settings, telemetry, (lambda: nginx.pid) if nginx else None)
        panic.show(telemetry, self._registry.panics)
        self._reserved = settings.reserved.hosts()
        self._views = Views(ViewSettings(settings.node_name, settings.domain, settings.reserved, told=settings.told))
        self._endpoints = self._make_endpoints()
        self._observed: dict[str, float] = {}  # container key -> time of the event that nginx does not show yet
        self._wake = asyncio.Event()
        self._edits_at = 0.0  # by the monotonic clock: when it is looked whether somebody edited what nginx reads
        self._comparing = Comparing(telemetry.log)
        self._known = 0  # revision up to which the registry matters to proxies

    def _make_nginx(self) -> Nginx | None:
        how = self._settings.nginx
        if how == "off":
            return None
        timeout_s = self._settings.check_timeout_s
        return Nginx(self._settings.nginx_bin, self._path, ours=how == "spawn", check_timeout_s=timeout_s)

    def _make_endpoints(self) -> InConfiguration | Sent:
        if self._nginx is not None and self._settings.nginx_endpoints == "lua":
            return Sent(self._views.services, self._path / "run", self._nginx)
        return InConfiguration(self._views.services)

    def _make_publisher(self, renderer: Renderer) -> Publisher:
        return Publisher(
            renderer,
            self._views,
            self._folder,
            self._applier,
            self._standing,
            front=self._front,
            quarantine=self._quarantine,
            endpoints=self._endpoints,
            put_back=self._put_back,
            settings=self._settings,
        )

    def _watch(self, nginx: Nginx) -> Watch:
        return Watch(
            nginx,
            self._folder,
            self._applier,
            self._standing,
            ours=self._settings.nginx == "spawn",
            differs=self._wake.set,
            seen=self._show,
        )

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            CannotStart: the folder cannot be used, or a template is broken.
        """
        gc.set_threshold(*THRESHOLDS)
        await self._open()
        if self._settings.orphans_s:
            await self._keeper.load()
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._settings.orphans_s:
                    tasks.create_task(self._keeper.run())
                tasks.create_task(self._follower.run())
                tasks.create_task(self._apply_changes())
                tasks.create_task(self._look_about())
                tasks.create_task(self._extras.follow(self._reconsider))
                tasks.create_task(self._front.run(self._wake.set))
                if self._nginx is not None:
                    tasks.create_task(self._record.run())
                    tasks.create_task(self._watch(self._nginx).run())
        finally:
            if self._settings.orphans_s:
                await self._keeper.last()
            await self._close()

    async def _open(self) -> None:
        self._telemetry.ready.bad(CONFIG, "waiting for the first full reading of the store")
        socket = self._path / "run" / "generation.sock"
        if len(str(socket)) > LONGEST_SOCKET:
            raise CannotStart(
                f"--nginx-dir {self._path}: too long for the socket in it, {LONGEST_SOCKET} octets at most"
            )
        try:
            await in_thread(self._folder.open)
            machine = await io_setup.machine(self._settings, self._path, self._reserved)
            await self._front.open(self._path / "current", machine)
            self._publisher = self._make_publisher(Renderer(machine, self._templates))
            await self._publisher.open()
            self._extras = io_folders.Watched(self._settings, machine, self._telemetry)
            self._views.reconsider(await in_thread(self._extras.look))
            if machine.user == "root":
                self._telemetry.log.warning("nginx's workers run as root: no lesser account reaches %s", self._path)
        except (FolderTaken, UnsafePath, RenderFailed) as error:
            raise CannotStart(str(error)) from error
        except Unprintable as error:
            raise CannotStart(f"--nginx-dir: {error}; use a path of letters, digits and ._-") from error
        except OSError as error:
            raise CannotStart(
                f"--nginx-dir {self._path}: {error.strerror}; name a folder that can be written"
            ) from error

    async def _close(self) -> None:
        if self._nginx is not None and self._settings.nginx == "spawn" and self._settings.nginx_on_exit == "quit":
            await self._record.withdraw()
            await self._nginx.stop()
        await in_thread(self._folder.close)

    def _take(self, difference: Difference) -> None:
        """Take in what changed in the store; called by the follower."""
        touched = self._registry.apply(difference)
        self._touched.services |= touched.services
        self._touched.places |= touched.places
        changed = _keys(difference)
        ours = all(key.startswith(keys.PROXIES) for key in changed)
        if difference.started_over or difference.unclaimed or not ours:
            self._known = difference.revision  # our own record must not count, or writing it would never end
            self._wake.set()
        if not difference.started_over:
            self._observe(difference)
        if any(key.startswith(keys.WISHES) for key in changed):
            self._publisher.hurry()
        for key in difference.deletes:
            self._observed.pop(key, None)

    def _reconsider(self, around: Around) -> None:
        self._views.reconsider(around)
        self._wake.set()

    async def _put_back(self, blame: Blame) -> frozenset[str]:
        """Bring the views back to the last good bytes of a snippet that nginx refused."""
        good = await in_thread(lambda: self._folder.good_snippet(blame.file))
        around = self._extras.refused(blame.file, blame.message, good)
        if around is None:
            return frozenset()
        touched, self._touched = self._touched, Touched()
        self._views.reconsider(around)
        return self._views.update(self._registry, touched)

    def _observe(self, difference: Difference) -> None:
        for entry in difference.puts:
            key = keys.parse(entry.key)
            container = self._registry.containers.get(key) if isinstance(key, keys.ContainerKey) else None
            if container is not None and self._registry.proxied(entry.key):
                self._observed[entry.key] = container.observed

    async def _apply_changes(self) -> None:
        backoff = Backoff(0.5, 5.0)
        while True:
            await self._wake.wait()
            now = time.monotonic()
            settings, last = self._settings, self._publisher.last_reload
            await asyncio.sleep(max(0.0, due(now, last, quiet_s=settings.quiet_s, wait_s=settings.wait_s) - now))
            self._wake.clear()
            # An empty catalog is not what the store says, it is what we know.
            known = self._follower.mirror.complete
            if not known and not await self._publisher.pins.holds():
                continue
            if await self._apply_once(known=known):
                backoff.reset()
            else:
                await self._until_changed(backoff)

    async def _until_changed(self, backoff: Backoff) -> None:
        """Try again soon, and at once when something changes: that may be the cure."""
        await backoff.wait(self._wake)
        self._wake.set()

    async def _apply_once(self, *, known: bool) -> bool:
        """Bring nginx to what the store says now; False when that has to be tried again.

        Args:
            known: the store was read in full.
        """
        touched, self._touched = self._touched, Touched()
        revision, observed, self._observed = self._known, self._observed, {}
        self._publisher.changed(self._views.update(self._registry, touched))
        if not await self._publisher.publish(revision, known=known):
            self._observed = observed | self._observed
            return False
        self._show(serving=True)
        if self._standing.pin is None:  # else nginx shows an older one, for as long as an operator wants
            for when in observed.values():
                self._telemetry.converged("proxy", when)
        return True

    async def _look_about(self) -> None:
        """See when services may leave quarantine, when an operator pins a generation, and who edits our files."""
        publisher, self._edits_at = self._publisher, time.monotonic() + EDITS_LOOK_S
        while True:
            await asyncio.sleep(RETRY_LOOK_S)
            if publisher.try_again() or await publisher.pins.changed():
                self._wake.set()
            elif time.monotonic() >= self._edits_at:
                self._edits_at = time.monotonic() + EDITS_LOOK_S
                await self._rotate()
                if await publisher.edited():
                    self._wake.set()

    async def _rotate(self) -> None:
        try:
            if self._settings.log_size and await self._applier.rotate(self._settings.log_size):
                self._telemetry.log.info("nginx's logs were rotated")
        except OSError as error:
            self._telemetry.log.warning("nginx's logs cannot be rotated: %s: %s", error.filename, error.strerror)

    def _show(self, serving: bool) -> None:
        self._standing.metrics.show(self._views, serving=serving)
        if not serving:
            self._record.set(None)
        elif self._standing.serving:
            self._show_record()

    def _show_record(self) -> None:
        addresses = self._addresses()
        if not addresses:
            self._telemetry.ready.bad(ADDRESS, "this host's address is not known; give it with --ip")
            self._record.set(None)
            return
        self._telemetry.ready.good(ADDRESS)
        self._record.set(
            Proxy(
                node=self._settings.node_name,
                addresses=addresses,
                http_port=self._settings.http_port,
                https_port=self._front.https_port,
                alpn=self._front.alpn,
                generation=self._standing.generation,
                revision=self._standing.revision,
                boot=io_host.boot_id(),
                away=self._care.orphans.hosts[:MAX_AWAY],
            )
        )

    def _addresses(self) -> tuple[str, ...]:
        node = self._registry.nodes.get(self._settings.node_name)
        return self._settings.ip or (node.addresses if node else ()) or io_host.default_addresses()

    def reload(self) -> None:
        """Compare what is known with the store, and what nginx reads with what was written (SIGHUP)."""
        self._edits_at = 0.0
        self._comparing.begin([self._follower])

    def state(self) -> dict[str, object]:
        """What /api/state shows."""
        return {
            "node": self._settings.node_name,
            "generation": self._standing.generation,
            "revision": self._standing.revision,
            "store_age_s": round(self._follower.age_s(), 3) if self._follower.connected else None,
            "stage": self._applier.state.value,
            "last_outcome": self._standing.outcome,
            "serving": self._standing.serving,
            "nginx": {
                "how": self._settings.nginx,
                "version": self._views.around.can.shown,
                "endpoints": self._settings.nginx_endpoints,
                "endpoints_sent": self._endpoints.updates,
                "sticky": "cookie" if self._views.around.can.has("sticky") else "hash",
                "pid": self._nginx.pid if self._nginx else 0,
                "worker_generations": self._applier.generations(),
                "error": self._standing.blame._asdict() if self._standing.blame else None,
            },
            "pinned": msgspec.to_builtins(self._standing.pin),
            "quarantined": quarantined(self._quarantine.entries),
            "routes": routes(self._views),
            "refused": [
                {"service": note.service, "subject": note.subject, "reason": note.reason}
                for view in self._views.services.values()
                for note in view.notes
            ],
            "snippet_problems": list(self._views.around.extras.problems),
            "snippets_unused": list(self._views.unused()),
            "bad_records": dict(self._registry.refused),
            **self._front.state(),
            **self._care.state(),
        }


def _keys(difference: Difference) -> list[str]:
    return [*(entry.key for entry in difference.puts), *difference.deletes, *difference.kept]
