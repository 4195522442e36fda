"""The DNS server: follows the store, holds the zone in memory, answers at its sockets. Wires the parts, no more.

No query waits for the store. What is known is answered while the store is away, marked as stale after a while; before
anything is known, questions about our names are answered with SERVFAIL.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b

from dnsserver import assembly
from dnsserver.aging import Clock
from dnsserver.assembly import Here
from dnsserver.faults import Faults
from dnsserver.figures import Figures
from dnsserver.finished import Data
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.figures import ForwardFigures
from dnsserver.forwarding.io_forward import Forwarder
from dnsserver.io_elsewhere import Elsewhere
from dnsserver.io_garbage import Garbage
from dnsserver.io_querylog import QueryLog
from dnsserver.message import dname
from dnsserver.settings import DnsSettings
from dnsserver.skydns import config as skydns_config
from dnsserver.skydns.config import NO_CONFIG
from dnsserver.transfers.io_notify import Notifier
from dnsserver.transport.io_edges import LISTENING, Edges, Manner
from dnsserver.transport.io_slots import Slots
from pilotfish.catalog import io_host, keys, panic
from pilotfish.catalog.guard import Guard
from pilotfish.catalog.io_follow import Comparing, Follower
from pilotfish.catalog.io_keeper import Keeper
from pilotfish.catalog.io_orphans import OrphanCare
from pilotfish.catalog.keys import ContainerKey
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry, own_version
from pilotfish.catalog.values import join_host_port

TICK_S = 0.5  # how often the age of the data is looked at
COUNTED = 8  # records of a transaction whose convergence is counted
SETTLE_S = 0.02  # in which datagrams arrive that the kernel was about to give us when we stood aside
DRAIN_S = 2.0  # how long those who have asked already are waited for at the end
DATA = "dns data"
MAX_SHOWN = 100  # refused records in /api/state


class DnsService:
    """Answers DNS from the store's records.

    Args:
        settings: what it was told.
        store: where the records are.
        telemetry: metrics, readiness, log.
        first: of several at the same addresses, the one that writes the snapshot and tells secondaries.
    """

    def __init__(self, settings: DnsSettings, store: Store, telemetry: Telemetry, *, first: bool = True) -> None:
        self._settings, self._telemetry, self._first = settings, telemetry, first
        self._slots = Slots(settings.tcp_connections, settings.tcp_idle_s)
        self._edges: Edges | None = None
        cache = ForwardCache(settings.forward_cache, settings.stale_for_s)
        self._forwarder = Forwarder(
            settings.forward,
            cache,
            timeout_s=settings.forward_timeout_s,
            log=telemetry.log,
            own=lambda: self.listening,
            loop_token=_loop_token(settings.cookie_secret),
        )
        self._here = self._look_around()
        self.responder = assembly.responder(settings, self._here, cache, self._forwarder.probes)
        self._elsewhere = Elsewhere(self.responder, self._forwarder)
        self._given, self._config = settings, NO_CONFIG
        self._notifier = Notifier(
            settings.notify if first else (), self.responder.soas, telemetry.log, lambda: self.listening
        )
        guard = Guard(settings.guard, lambda: self.responder.zone.own.registry)
        self._care = OrphanCare(settings.node_name, settings.orphans_s, telemetry, guard)
        self._followers = {
            prefix: Follower(store, prefix, changed, telemetry, verify_s=settings.verify_s, care=care)
            for prefix, changed, care in (
                (keys.ROOT, self._own_changed, self._care),
                (_skydns(settings), self._foreign_changed, None),
            )
        }
        self._keeper = Keeper(settings.snapshot, self._followers, telemetry, self._heard_s, settings.snapshot_age_s)
        self._faults = Faults(telemetry.log)
        self._garbage = Garbage(lambda: sum(self.responder.counts().values()), telemetry.log)
        self._query_log: QueryLog | None = None
        self._comparing = Comparing(telemetry.log)
        self._fresh = asyncio.Event()
        telemetry.ready.bad(LISTENING, "not open yet")
        telemetry.ready.bad(DATA, "nothing read yet")
        telemetry.registry.register(Figures(self.responder, lambda: self._edges, self.age_s, self._faults))
        telemetry.registry.register(ForwardFigures(self._forwarder))
        panic.show(telemetry, self.responder.zone.own.registry.panics)

    def _look_around(self) -> Here:
        secret = self._settings.cookie_secret
        return Here(
            Clock(time.monotonic(), self._telemetry.now()),
            bytes.fromhex(secret) if secret else secrets.token_bytes(16),
            bridged=not io_host.in_hosts_network(),
            served_at=assembly.served_at(self._settings.listen),
            version=f"pilotfish {own_version()}",
            idle_ms=lambda: self._slots.idle_ms,
        )

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Where it answers: address and port, UDP and TCP."""
        return tuple(self._edges.open) if self._edges else ()

    def _heard_s(self) -> float:
        return max(follower.age_s() for follower in self._followers.values())

    def age_s(self) -> float:
        """How old the data may be: seconds since the store gave a sign of life, to us or to whom wrote the snapshot."""
        heard_s = self._heard_s()
        if math.isinf(heard_s) and self._keeper.taken is not None:
            return max(0.0, self._telemetry.now() - self._keeper.taken)
        return heard_s

    async def run(self) -> None:
        """Serve until cancelled; those who have asked already are answered then.

        Raises:
            CannotStart: an address to listen at cannot be had.
        """
        settings = self._settings
        self._garbage.begin()
        if settings.query_log:
            self._query_log = QueryLog(
                settings.query_log, settings.query_log_rate, self._telemetry.log, faults=self._faults
            )
        note = self._note if self._query_log else None
        shared = settings.workers > 1 or settings.beside
        manner = Manner(self._elsewhere.defer, note, shared, not settings.rate_limit, self._faults)
        self._edges = edges = Edges(self.responder, self._slots, manner, self._telemetry)
        forwarding = asyncio.create_task(self._forwarder.run())
        try:
            if self._settings.snapshot:
                await self._keeper.load()
            if not settings.beside:
                edges.listen(settings.listen)
            async with asyncio.TaskGroup() as tasks:
                for follower in self._followers.values():
                    tasks.create_task(follower.run())
                for work in (self._slots.sweep(), _outlived(forwarding), self._elsewhere.run(), self._notifier.run()):
                    tasks.create_task(work)
                tasks.create_task(_every(TICK_S, self._tick))
                tasks.create_task(_every(TICK_S, self._garbage.look))
                tasks.create_task(self._keep_listening(edges))
                if self._settings.snapshot and self._first:
                    tasks.create_task(self._keeper.run())
        finally:
            await self._end(edges, forwarding)

    async def _keep_listening(self, edges: Edges) -> None:
        if self._settings.beside:
            await self._fresh.wait()
            edges.listen(self._settings.listen)
        await edges.follow_addresses(self._settings.listen)

    async def _end(self, edges: Edges, forwarding: asyncio.Task[None]) -> None:
        deadline = time.monotonic() + DRAIN_S
        edges.refuse_more()
        await asyncio.sleep(SETTLE_S)
        await self._slots.drain(DRAIN_S)
        while self._forwarder.waiting and time.monotonic() < deadline:  # noqa: ASYNC110  a deadline is read too
            await asyncio.sleep(0.01)
        forwarding.cancel()
        await asyncio.wait([forwarding])  # whoever still waits is told so
        edges.close()
        if self._settings.snapshot and self._first:
            await self._keeper.last()
        if self._query_log is not None:
            await asyncio.to_thread(self._query_log.close)
        self._telemetry.ready.bad(LISTENING, "closed")

    def _note(self, client: bytes, transport: str, message: bytes, reply: bytes | None) -> None:
        if self._query_log is not None and self._query_log.wants():
            self._query_log.note(client, transport, message, reply)

    def reload(self) -> None:
        """Compare everything with the store, and open the query log anew (SIGHUP)."""
        if self._query_log is not None:
            self._query_log.reopen()
        self._comparing.begin(self._followers.values())

    def state(self) -> Mapping[str, object]:
        """What /api/state shows."""
        age_s = self.age_s()
        zone = self.responder.zone
        refused = {**zone.own.registry.refused, **zone.foreign.refused}
        return {
            "listening": [join_host_port(ip, port) for ip, port in self.listening],
            "domains": [domain.text for domain in zone.domains],
            "data": self.responder.data.value,
            "age_s": None if math.isinf(age_s) else round(age_s, 3),
            "serial": self.responder.serial & 0xFFFFFFFF,
            "names": len(zone.own.registry.names()),
            "foreign_records": len(zone.foreign),
            "refused_records": dict(sorted(refused.items())[:MAX_SHOWN]),
            "refused_count": len(refused),
            "no_stub_servers": {
                dname.to_text(name): why for name, why in sorted(zone.stubs.ignored.items())[:MAX_SHOWN]
            },
            "finished_answers": self.responder.kept,
            **self._care.state(),
            "forwarders": [join_host_port(*server) for server in self._settings.forward],
        }

    # --- the store

    def _own_changed(self, difference: Difference) -> None:
        self.responder.apply_own(difference)
        self._after(difference, self.responder.zone.own.registry.refused)
        if not difference.started_over:
            self._count_convergence(difference)

    def _foreign_changed(self, difference: Difference) -> None:
        touched, value = skydns_config.change_of(difference, _skydns(self._given) + "config")
        if touched:
            self._configure(value)
        self.responder.apply_foreign(difference)
        self._after(difference, self.responder.zone.foreign.refused)

    def _after(self, difference: Difference, refused: Mapping[str, str]) -> None:
        for entry in difference.puts:
            if entry.key in refused:
                self._telemetry.log.warning(
                    "a record is left out", extra={"key": entry.key, "why": refused[entry.key], "cause": entry.key}
                )
        self._tick()
        if self.responder.data is not Data.NONE:
            self._notifier.changed()

    def _configure(self, value: bytes | None) -> None:
        """Take in SkyDNS's settings from the store."""
        key = _skydns(self._given) + "config"
        self._config, notices = skydns_config.read(value, self._config)
        settings, overruled = skydns_config.merged(self._given, self._config)
        for notice in notices:
            self._telemetry.log.warning("%s: %s", key, notice)
        if overruled:
            self._telemetry.log.info("%s: these are set elsewhere, and stay: %s", key, ", ".join(overruled))
        before, self._settings = self._settings, settings
        if settings.domain != before.domain:
            self._read_anew()
        if settings.forward != before.forward:
            self._forwarder.set_servers(settings.forward)
        assembly.retune(self.responder, settings, self._here, self._config.priority)

    # Other domains have other names: all that is known is looked at once more. It is the one setting that takes time.
    def _read_anew(self) -> None:
        self.responder.zone.watching.clear()  # transfers of what was before come to their end
        self.responder.set_zone(assembly.names(self._settings, self._here))
        for prefix, apply in (
            (keys.ROOT, self.responder.apply_own),
            (_skydns(self._given), self.responder.apply_foreign),
        ):
            mirror = self._followers[prefix].mirror
            entries = tuple(entry for _, entry in sorted(mirror.entries.items()))
            apply(Difference(mirror.revision, entries, started_over=True))
        self.responder.apply_own(self._care.orphans.whole(self._followers[keys.ROOT].mirror.revision))

    # From the engine's event to the first possible answer: whoever asks from now on is told. All of a transaction come
    # at the same moment, so a few tell of all; to read each record anew would take as long as to take it in.
    def _count_convergence(self, difference: Difference) -> None:
        for entry in difference.puts[:COUNTED]:
            match keys.parse(entry.key):
                case ContainerKey() as key if key in self.responder.zone.own.registry.containers:
                    self._telemetry.converged("dns", self.responder.zone.own.registry.containers[key].observed)

    def _tick(self) -> None:
        self.responder.clock.unix = self._telemetry.now()
        heard_s = self._heard_s()
        if not all(follower.mirror.complete for follower in self._followers.values()):
            data = Data.NONE
        else:
            data = Data.FRESH if heard_s <= self._settings.stale_after_s else Data.STALE
        if data is not self.responder.data:
            if self.responder.data is Data.NONE:
                self._garbage.keep()
            self.responder.set_data(data)
            self._telemetry.log.info("answers come from %s data", data.value)
        if data is Data.FRESH:
            self._fresh.set()
            self._telemetry.ready.good(DATA)
        elif data is Data.STALE:
            age_s = self.age_s()
            heard = "was not heard yet" if math.isinf(age_s) else f"was last heard {age_s:.0f} s ago"
            self._telemetry.ready.bad(DATA, f"the store {heard}; answers are marked as stale")


# All processes at one address have one token, which anybody may see who is asked; the secret is seen by nobody.
def _loop_token(secret: str) -> str:
    return blake2b(secret.encode(), digest_size=16, person=b"loop").hexdigest() if secret else ""


def _skydns(settings: DnsSettings) -> str:
    return settings.skydns_prefix + "/"


async def _outlived(task: asyncio.Task[None]) -> None:
    """Fail when a task does; be cancelled without it."""
    await asyncio.shield(task)


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()
