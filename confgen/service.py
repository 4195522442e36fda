"""The config generator: follows the store, renders, applies, and keeps nginx and the proxy's own record in step.

Nothing is rendered before the first full reading of the store, and a store that goes away takes nothing away: what is
known stays served. Every failure is reported once, here, and tried again with backoff.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from confgen import io_machine
from confgen.blame import Blame, blame
from confgen.io_apply import Applier, Result, in_thread
from confgen.io_files import Folder, FolderTaken, UnsafePath
from confgen.io_lease import ProxyRecord
from confgen.io_nginx import Nginx, NotServing
from confgen.pipeline import Action, due
from confgen.quote import Unprintable
from confgen.render import Renderer, RenderFailed, Tree, builtin_templates
from confgen.settings import ConfgenSettings
from confgen.view import Views, ViewSettings
from pilotfish.catalog import io_host, keys, panic
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.guard import Guard
from pilotfish.catalog.io_follow import Backoff, Follower
from pilotfish.catalog.io_keeper import Keeper
from pilotfish.catalog.io_orphans import OrphanCare
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import MAX_AWAY, Proxy
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry

LOOK_S = 0.25  # between two looks at nginx
MISSES = 3  # looks in a row without an answer that make nginx count as gone
LONGEST_SOCKET = 107  # octets of a unix socket's path, unix(7)
# What stands after a configuration that was not applied.
LEFT = {
    Action.REFUSE: "the last good one stays",
    Action.WAIT: "it waits for the nginx that will be started",
    Action.ALARM: "nothing, or not what is on disk, is served",
}
KNOWN = "known.snapshot"  # in the nginx folder: who is an orphan is known only by who was there before
CONFIG, NGINX, ADDRESS = "configuration", "nginx", "proxy address"


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
        self._registry, self._touched = Registry(), Touched()
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
        self._metrics = Metrics(telemetry)
        panic.show(telemetry, self._registry.panics)
        self._reserved = settings.reserved.hosts()
        self._views = Views(ViewSettings(settings.node_name, settings.domain, settings.reserved))
        self._changed: set[str] = set()  # services whose view changed since they were rendered
        self._observed: dict[str, float] = {}  # container key -> time of the event that nginx does not show yet
        self._wake = asyncio.Event()
        self._known = 0  # revision up to which the registry matters to proxies
        self._applied = 0
        self._generation = ""
        self._serving = False
        self._last_reload = float("-inf")
        self._blame: Blame | None = None
        self._outcome = "nothing applied yet"

    def _make_nginx(self) -> Nginx | None:
        how = self._settings.nginx
        if how == "off":
            return None
        timeout_s = self._settings.check_timeout_s
        return Nginx(self._settings.nginx_bin, self._path, ours=how == "spawn", check_timeout_s=timeout_s)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            CannotStart: the folder cannot be used, or a template is broken.
        """
        await self._open()
        if self._settings.orphans_s:
            await self._keeper.load()
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._settings.orphans_s:
                    tasks.create_task(self._keeper.run())
                tasks.create_task(self._follower.run())
                tasks.create_task(self._apply_changes())
                if self._nginx is not None:
                    tasks.create_task(self._record.run())
                    tasks.create_task(self._look_after(self._nginx))
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
            machine = io_machine.machine(self._path, self._settings.http_port, self._reserved)
            self._renderer = Renderer(machine, self._templates)
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
        if difference.started_over or any(not key.startswith(keys.PROXIES) for key in _keys(difference)):
            self._known = difference.revision  # our own record must not count, or writing it would never end
            self._wake.set()
        if not difference.started_over:
            self._observe(difference)
        for key in difference.deletes:
            self._observed.pop(key, None)

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
            wait_s = due(now, self._last_reload, quiet_s=self._settings.quiet_s, wait_s=self._settings.wait_s) - now
            await asyncio.sleep(max(0.0, wait_s))
            self._wake.clear()
            if not self._follower.mirror.complete:  # an empty catalog is not what the store says, it is what we know
                continue
            if await self._apply_once():
                backoff.reset()
            else:
                await self._until_changed(backoff)

    async def _until_changed(self, backoff: Backoff) -> None:
        """Try again soon, and at once when something changes: that may be the cure."""
        waiting = asyncio.ensure_future(backoff.wait())
        changed = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({waiting, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            changed.cancel()
        self._wake.set()

    async def _apply_once(self) -> bool:
        """Bring nginx to what the store says now; False when that has to be tried again."""
        touched, self._touched = self._touched, Touched()
        revision, observed, self._observed = self._known, self._observed, {}
        try:
            tree = self._render(touched)
        except RenderFailed as error:
            self._observed = observed | self._observed
            self._report(Result(Action.REFUSE, Blame("", "", 0, str(error))))
            return False
        if await self._applier.is_served(tree):
            self._accept(tree, revision)
            return True
        with self._metrics.seconds.time():
            result = await self._applier.apply(tree)
        self._last_reload = time.monotonic()
        self._report(result)
        if result.action is not Action.ACCEPT:
            self._observed = observed | self._observed
            return False
        self._accept(tree, revision)
        for when in observed.values():
            self._telemetry.converged("proxy", when)
        return True

    def _render(self, touched: Touched) -> Tree:
        self._changed |= self._views.update(self._registry, touched)
        views = self._views
        tree = self._renderer.render(views.services, self._changed, views.host_count, views.longest_host)
        self._changed.clear()
        return tree

    def _accept(self, tree: Tree, revision: int) -> None:
        self._generation, self._applied, self._serving = tree.generation, revision, True
        self._blame = None
        self._telemetry.ready.good(CONFIG)
        self._telemetry.ready.good(NGINX)
        self._metrics.show(self._views, serving=True)
        self._show_record()

    def _report(self, result: Result) -> None:
        self._outcome = result.action.name.lower()
        self._metrics.applied.labels(self._outcome).inc()
        if result.action is Action.ACCEPT:
            return
        self._blame = result.blame or Blame("", "", 0, result.action.value)
        self._telemetry.ready.bad(CONFIG, str(self._blame))
        self._telemetry.log.error(
            "configuration not applied: %s; %s",
            self._blame.message,
            LEFT[result.action],
            extra={"service": self._blame.service or "-", "action": self._outcome, "cause": self._blame},
        )

    async def _look_after(self, nginx: Nginx) -> None:
        """See that nginx runs and answers; start it when it is ours and does not."""
        backoff, misses = Backoff(0.1, 5.0), 0
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._folder.current:
                continue
            answer = await nginx.served()
            misses = 0 if answer else misses + 1
            if answer and nginx.pid:
                backoff.reset()
                self._alive(answer.generation)
            elif not nginx.pid or misses >= MISSES:
                await self._missing(nginx, backoff)

    def _alive(self, generation: str) -> None:
        if generation == self._generation and not self._serving:
            self._serving = True
            self._telemetry.ready.good(NGINX)
            self._telemetry.log.info("nginx serves again", extra={"generation": generation})
        elif generation != self._generation and self._blame is None:
            self._wake.set()  # what is served is not what we applied last; while something is refused, backoff rules
        self._metrics.show(self._views, serving=True)
        self._show_record()

    async def _missing(self, nginx: Nginx, backoff: Backoff) -> None:
        if self._serving:
            self._telemetry.log.error("nginx does not serve", extra={"pid": nginx.pid})
        self._serving = False
        self._telemetry.ready.bad(NGINX, "it does not answer" if nginx.pid else "it does not run")
        self._metrics.show(self._views, serving=False)
        self._record.set(None)
        if self._settings.nginx != "spawn" or nginx.pid:
            return
        try:
            await self._applier.revive()
            self._metrics.starts.inc()
        except (NotServing, OSError) as error:
            why = blame(str(error), {}).message  # nginx says it once a try
            self._telemetry.ready.bad(NGINX, f"it does not start: {why}")
            self._telemetry.log.warning("nginx does not start: %s", why, extra={"cause": NGINX})
            await backoff.wait()

    def _show_record(self) -> None:
        if not self._serving:
            return
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
                generation=self._generation,
                revision=self._applied,
                boot=io_host.boot_id(),
                away=self._care.orphans.hosts[:MAX_AWAY],
            )
        )

    def _addresses(self) -> tuple[str, ...]:
        node = self._registry.nodes.get(self._settings.node_name)
        return self._settings.ip or (node.addresses if node else ()) or io_host.default_addresses()

    def state(self) -> dict[str, object]:
        """What /api/state shows."""
        return {
            "node": self._settings.node_name,
            "generation": self._generation,
            "revision": self._applied,
            "store_age_s": round(self._follower.age_s(), 3) if self._follower.connected else None,
            "stage": self._applier.state.value,
            "last_outcome": self._outcome,
            "serving": self._serving,
            "nginx": {
                "how": self._settings.nginx,
                "pid": self._nginx.pid if self._nginx else 0,
                "error": self._blame._asdict() if self._blame else None,
            },
            "routes": routes(self._views),
            "refused": [
                {"service": note.service, "subject": note.subject, "reason": note.reason}
                for view in self._views.services.values()
                for note in view.notes
            ],
            "bad_records": dict(self._registry.refused),
            **self._care.state(),
        }


class Metrics:
    """This part's metrics."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self.applied = Counter(
            "pilotfish_confgen_configurations", "Configurations, by what became of them", ["outcome"], registry=registry
        )
        self.seconds = Histogram(
            "pilotfish_confgen_apply_seconds", "From staging a configuration to its proof", registry=registry
        )
        self.starts = Counter("pilotfish_confgen_nginx_starts", "nginx found dead and started", registry=registry)
        self._routes = Gauge("pilotfish_confgen_hosts", "Hosts that are answered for", registry=registry)
        self._notes = Gauge("pilotfish_confgen_refused", "Wishes that are not served", registry=registry)
        self._up = Gauge("pilotfish_confgen_nginx_up", "1 while nginx answers", registry=registry)

    def show(self, views: Views, *, serving: bool) -> None:
        """Bring the gauges up to date."""
        self._routes.set(views.host_count)
        self._notes.set(sum(len(view.notes) for view in views.services.values()))
        self._up.set(serving)


def routes(views: Views) -> list[dict[str, object]]:
    """All served places: host, path, service, and how many servers stand behind it (0: 503)."""
    return [
        {
            "host": host.text,
            "path": location.path,
            "service": view.name,
            "servers": [server.address.text for server in location.upstream.servers] if location.upstream else [],
        }
        for view in views.services.values()
        for site in (*view.sites, *(site for _, site in view.parts))
        for host in site.hosts
        for location in site.locations
    ]


def _keys(difference: Difference) -> list[str]:
    return [*(entry.key for entry in difference.puts), *difference.deletes, *difference.kept]
