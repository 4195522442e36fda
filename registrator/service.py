"""The registrator: what runs on one engine, kept in the store, for as long as it runs.

Wires the parts: the engine's news open a lane per container; a look at a container changes the book; the book says what
may have to be written and which ports to dial; the writer writes the differences while the tenure holds the node's key.
Events are hints. What counts is list and compare: after every connection and every `resync_s`.
"""

from __future__ import annotations

import asyncio
import collections
import secrets
import time
from collections.abc import Mapping, Sequence

import msgspec

from pilotfish.catalog import io_host, panic
from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.io_follow import Backoff, Follower
from pilotfish.catalog.keys import ROOT, node_key
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.panic import Panics
from pilotfish.catalog.record import Container, Node
from pilotfish.catalog.store import Store, StoreError
from pilotfish.catalog.telemetry import Telemetry, own_version
from registrator import io_where
from registrator.book import Book, Look, alike
from registrator.engines.clock import DayClock
from registrator.engines.engine import Away, Engine, EngineError, EngineInfo, Event, ListAgain
from registrator.engines.io_docker import DockerEngine, DockerSettings
from registrator.fleet import SWARM, engine_host
from registrator.health.io_probe import folder
from registrator.io_asking import Asking
from registrator.io_lanes import Lanes
from registrator.io_listing import Listing
from registrator.io_rehearse import rehearse
from registrator.io_writer import Writer
from registrator.metrics import Metrics
from registrator.remarks import Remarks
from registrator.rules import templates
from registrator.rules.address import FactsOf, Host
from registrator.rules.container import BadDocument, Facts, facts, runs
from registrator.rules.exports import judge_exports
from registrator.rules.wanted import Wanted, wanted
from registrator.settings import RegistratorSettings
from registrator.state import show
from registrator.writing.around import Around, freed
from registrator.writing.io_claims import Claimant
from registrator.writing.io_node import Tenure

TICK_S = 0.25  # how often deadlines are looked at
ONCE_S = 2.0  # how long --once waits for ports that do not answer yet


class RegistratorService:
    """One registrator for one engine.

    Args:
        settings: what it was told.
        store: where records go.
        telemetry: readiness under "docker", "containers", "node" and "records", log, metrics.
        engine: the engine; None: the Docker engine of the settings.

    Raises:
        BadSettings: a key template cannot be used.
        CannotStart: the node has no usable name, or --check-dir is no folder.
    """

    def __init__(
        self, settings: RegistratorSettings, store: Store, telemetry: Telemetry, engine: Engine | None = None
    ) -> None:
        self._settings, self._store, self._telemetry = settings, store, telemetry
        self._templates = templates.parse(settings.etcd_tmpl)
        self._host = Host(io_where.node_name(settings), settings.ip, local=not engine_host(settings.docker[0]))
        self._called = settings.node_name or io_host.hostname()
        self._engine = engine or DockerEngine(DockerSettings.of(settings))
        self._engine_info: EngineInfo | None = None
        self.metrics = Metrics(telemetry.registry)
        self.around = Around()
        self._panics = Panics(telemetry.log)
        panic.show(telemetry, self.around.panics)
        self.book = Book(self._host, self._wanted_of, self._exports_of, keep_failed=settings.keep_failed)
        self._clock = DayClock(telemetry.now, time.monotonic, self._clock_was_set)
        self.remarks = Remarks(telemetry.log)
        self.claimant = Claimant(
            store, lambda: self.around.claims, settings.reserved, telemetry, self.metrics, tidy=self.around.tidy
        )
        self._follower = Follower(store, ROOT, self._on_difference, telemetry, verify_s=settings.verify_s)
        self._writer: Writer | None = None
        self._tenure: Tenure | None = None
        self._mirrored = asyncio.Event()  # what others have registered was read, as `around` has it
        self._asking = Asking(
            self.book,
            self._clock,
            lambda container: self.writer.mark({container}, self._clock()),
            at_once=settings.checks_at_once,
            check_dir=folder(settings.check_dir),
        )
        self._lanes = Lanes(self._look, telemetry)
        self._listing = Listing(
            self._engine,
            telemetry,
            resync_s=settings.resync_s,
            meet=self._meet_again,
            known=lambda: self.book.pages.keys() | self.writer.recorded.records.keys(),
            look_at=lambda container: self._lanes.put(container, listed=True),
            tend=self._tend,
        )
        self.metrics.show(self._counts, self._endpoints)
        telemetry.ready.bad("docker", "not reached yet")
        telemetry.ready.bad("containers", "not all looked at yet")

    async def run(self) -> None:
        """Register until cancelled; with `once` or `dry_run`, do what there is to do and return.

        Raises:
            CannotReach: with `once` or `dry_run`: the engine or the store is not to be reached.
            CannotStart: with `once`: the node's name is another's.
        """
        try:
            info = await self._meet()
            if self._settings.dry_run:
                await self._rehearse()
                return
            await self._register(info)
        finally:
            await self._asking.close()
            await self._lanes.close()
            await self._engine.close()

    @property
    def ends(self) -> bool:
        """True when `run` returns by itself."""
        return self._settings.once or self._settings.dry_run

    def state(self) -> dict[str, object]:
        """What is known, for /api/state."""
        return show(
            host=self._host,
            engine=self._engine_info,
            ground=self._tenure.ground if self._tenure else None,
            book=self.book,
            remarks=self.remarks,
            judge=self.around.judge,
            panics=self.around.panics(),
            claimant_conflicts=self.claimant.conflicts,
            blocked=self._writer.blocked if self._writer else {},
            refused=self._writer.refused if self._writer else {},
        )

    def reload(self) -> None:
        """List the engine's containers and compare our keys in the store now."""
        self._listing.ask()
        if self._writer:
            self._writer.verify()

    async def _meet(self) -> EngineInfo:
        """Wait for the engine; whoever wants an answer now gets an error instead."""
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                info = await self._engine.info()
                await self._meet_again(info)
                return info
            except EngineError as error:
                if self.ends:
                    raise CannotReach(str(error)) from error
                self._away(str(error))
            await backoff.wait()

    async def _rehearse(self) -> None:
        try:
            await rehearse(self._engine, self._store, self.book, self.around, self._settings)
        except (EngineError, StoreError) as error:
            raise CannotReach(str(error)) from error

    async def _register(self, info: EngineInfo) -> None:
        me = Node(
            node=self._host.node,
            addresses=self._host.addresses,
            boot=io_host.boot_id(),
            engine=info.id,
            instance=secrets.token_hex(8),
            version=own_version(),
        )
        ttl_s, patient = self._settings.lease_ttl_s, not self._settings.once
        self._tenure = Tenure(self._store, self._telemetry, me, ttl_s, patient=patient)
        self._writer = Writer(
            store=self._store,
            tenure=self._tenure,
            book=self.book,
            claimant=self.claimant,
            telemetry=self._telemetry,
            metrics=self.metrics,
            crowd=lambda: self._lanes.waiting,
            mirrored=self._mirrored,
            look_at=self._look_at,
            complete=lambda: "containers" not in self._telemetry.ready.missing,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                work = (self._follower.run(), self._tenure.run(), self._writer.run(), self._hear(), self._listing.run())
                running = [tasks.create_task(one) for one in (*work, self._watch_deadlines(), self._become_ready())]
                if self._settings.once:
                    await self._all_written()
                    for task in running:
                        task.cancel()
        finally:
            await self._tenure.leave(remove=self._settings.on_exit == "remove" and not self._settings.once)

    # --- the engine

    async def _hear(self) -> None:
        async for news in self._engine.news():
            match news:
                case Event():
                    self.metrics.events.inc()
                    self._lanes.put(news.container, news)
                case ListAgain():
                    self._telemetry.log.info("docker: listing all containers", extra={"why": news.why})
                    self.metrics.connected.set(1)
                    self._telemetry.ready.good("docker")
                    self._listing.ask(news)
                case Away(why):
                    self._away(why)

    def _away(self, why: str) -> None:
        self.metrics.connected.set(0)
        self._telemetry.ready.bad("docker", why)
        self._telemetry.log.warning("docker: %s", why, extra={"cause": "docker away"})

    async def _meet_again(self, info: EngineInfo) -> bool:
        """Take in who engine and host are now; True when the host's addresses came late or changed."""
        before, found = self._host.addresses, await io_where.addresses(self._settings.docker[0], self._settings.ip)
        if found:
            self._host = self.book.host = msgspec.structs.replace(self._host, addresses=found)
        self._engine_info = info
        if self._tenure:
            self._tenure.serves(info.id, self._host.addresses)
        return self._host.addresses != before

    def _tend(self) -> None:
        """What is looked at now and then besides the engine: our keys in the store, claims that nobody uses."""
        self.writer.verify()
        self._tell_another_name()
        for line in self._asking.overdue():
            self._telemetry.log.warning("%s", line)
        if self._follower.mirror.complete:
            ours = [endpoint for page in self.book.pages.values() for endpoint in page.wanted.container.endpoints]
            self.writer.tend([*self.around.endpoints(), *ours])

    def _tell_another_name(self) -> None:
        """Say once that the host was renamed: what runs stays where it is, under keys that a lease holds."""
        name = self._settings.node_name or io_host.hostname()
        if name != self._called:
            self._called = name
            text = "this host is called %r now: it stays registered as %r until the registrator is started again"
            self._telemetry.log.warning(text, name, self._host.node)

    async def _look(self, container: str, events: Sequence[Event]) -> None:
        """Look at one container and take in what is seen."""
        await self.writer.begun.wait()
        untold = self._listing.untold(container) and not events
        async with self._lanes.slots:
            document = await self._engine.inspect(container)
        self.metrics.looks.inc()
        seen = self._facts(container, document)
        if seen is None and document is not None and runs(document):
            return
        now = self._clock()  # first: that it was set changes what is known, and no event has to tell
        before = self._record(container)
        recorded = self.writer.recorded.container(container)
        look = Look(container, seen, events, now, self._engine.behind_s)
        marked = self.book.look(look, recorded)
        self._asking.want(marked)
        if before is None and recorded is None:
            await self._asking.first(container, look.behind_s)
        self._remark(container)
        page = self.book.pages.get(container)
        self.writer.mark(marked, page.observed if page and events else look.observed())
        if untold and not alike(before, self._record(container)):
            self.metrics.reconcile_fixed.inc()
            if self._listing.unexplained():
                self._engine.doubt("something happened that no event told")

    def _facts(self, container: str, document: Mapping[str, object] | None) -> Facts | None:
        if document is None:
            return None
        try:
            return facts(document)
        except BadDocument as error:
            self._telemetry.log.warning("container %s cannot be read: %s", container[:12], error)
            return None

    def _record(self, container: str) -> Container | None:
        page = self.book.pages.get(container)
        return page.record() if page and page.wanted.container.endpoints else None

    def _remark(self, container: str) -> None:
        page = self.book.pages.get(container)
        self.remarks.note(container, page.wanted if page else None)

    async def _watch_deadlines(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            expired = self.book.expire(self._clock())
            self._asking.want(expired)
            self.writer.mark(expired)

    def _clock_was_set(self, by_s: float) -> None:
        self._telemetry.log.warning("the time of day jumped by %+.0f s: what drains is given as long as before", by_s)
        self.writer.mark(self.book.postpone(by_s))

    # --- the store

    @property
    def writer(self) -> Writer:
        """The writer; there is one as soon as the engine was met."""
        if self._writer is None:
            raise CannotStart("the registrator has not begun to write")
        return self._writer

    def _look_at(self, containers: set[str]) -> None:
        """What is recorded and not known must be looked at to be judged."""
        for container in containers:
            self._lanes.put(container)

    def _on_difference(self, difference: Difference) -> None:
        turned = self.around.apply(difference, self._follower.mirror.entries)
        self._panics.look([service for service in self.around.panics() if self.book.serving((service,))])
        if self._writer is None or self._tenure is None:
            return
        key = node_key(self._host.node)
        if difference.started_over or key in difference.deletes or any(one.key == key for one in difference.puts):
            self._tenure.doubt()
        self._writer.observe(difference)
        self._writer.mark((self.book.named(turned.names) | self.book.serving(turned.services)) - self._asking.judging)
        self._follow_swarm(difference)
        self._mirrored.set()
        if turned.places:
            self._writer.mark(self.claimant.conflicts)

    def _follow_swarm(self, difference: Difference) -> None:
        """Tasks are left to the registrator of their swarm while there is one, which waits until they are."""
        if self._settings.docker[0].startswith(SWARM):
            self._look_at(freed(difference, self._host.node) & self.book.pages.keys())
            return
        theirs = self.around.swarm and self._settings.swarm != "off"
        if theirs != self._host.swarm:
            self._host = self.book.host = msgspec.structs.replace(self._host, swarm=theirs)
            self._listing.ask()

    def _wanted_of(self, seen: Facts, facts_of: FactsOf) -> Wanted:
        host = self.book.host
        if self._settings.docker[0].startswith(SWARM):
            host = msgspec.structs.replace(host, swarm=self.around.elsewhere(seen.id, host.node))
        return wanted(seen, host, self._settings, facts_of)

    def _exports_of(self, record: Container) -> dict[str, bytes]:
        made = judge_exports(
            record,
            lambda endpoint: self.around.judge(record, endpoint),
            self.around.is_proxied,
            self._settings,
            self._templates,
            is_tagged=self.around.is_tagged,
            proxy_port=self.around.proxy_port,
        )
        self.remarks.problems(record, made.problems)
        return {key: value.encode() for key, value in made.keys.items()}

    async def _become_ready(self) -> None:
        """Ready is whoever has looked at everything that ran when it came."""
        await self._listing.done.wait()
        await self._lanes.idle()
        self._telemetry.ready.good("containers")
        self.writer.look_again()

    async def _all_written(self) -> None:
        """For `once`: everything that runs is looked at, dialled and written."""
        await self._listing.done.wait()
        await self._lanes.idle()
        await self._asking.quiet(ONCE_S)
        await self.writer.settled()

    def _counts(self) -> dict[str, int]:
        return {
            "containers": len(self.book.pages),
            "left_out_ports": sum(len(page.wanted.left_out) for page in self.book.pages.values()),
            "notices": sum(len(page.wanted.notices) for page in self.book.pages.values()),
            "route_conflicts": sum(map(len, self.claimant.conflicts.values())),
            "blocked_exports": len(self._writer.blocked) if self._writer else 0,
        }

    def _endpoints(self) -> dict[str, int]:
        records = (page.record() for page in self.book.pages.values())
        return collections.Counter(endpoint.state for record in records for endpoint in record.endpoints)
