"""The DNS server: follows the store, holds the zone in memory, answers at its sockets. Wires the parts, no more.

No query waits for the store. What is known is answered while the store is away, marked as stale after a while; before
anything is known, questions about our names are answered with SERVFAIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping

from dnsserver import io_addresses, zone
from dnsserver.figures import Figures
from dnsserver.foreign import Foreign
from dnsserver.io_tcp import Slots, TcpEdge
from dnsserver.io_udp import UdpEdge
from dnsserver.own import OwnNames
from dnsserver.responder import Data, Responder
from dnsserver.settings import DnsSettings
from dnsserver.zone import Zone
from pilotfish.catalog import io_snapshot, keys
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_follow import Follower
from pilotfish.catalog.keys import ContainerKey
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.snapshot import BadSnapshot, snapshot_of
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.catalog.values import join_host_port

TICK_S = 0.5  # how often the age of the data is looked at
REBIND_S = 10.0  # how often addresses that came or went are looked for, when listening at all of them
SNAPSHOT_S = 30.0  # how often what changed is written to disk
LISTENING = "dns sockets"
DATA = "dns data"
MAX_SHOWN = 100  # refused records in /api/state


class Edges:
    """The sockets that are open: address and port -> both edges of it."""

    def __init__(self, responder: Responder, slots: Slots) -> None:
        self._responder, self._slots = responder, slots
        self.open: dict[tuple[str, int], tuple[UdpEdge, TcpEdge]] = {}
        self.overflowed_before = 0  # of sockets that are closed

    async def add(self, ip: str, port: int) -> tuple[str, int]:
        """Open both sockets of an address; returns it with the port that it has.

        Raises:
            OSError: see io_addresses.open_pair.
        """
        udp, tcp = io_addresses.open_pair(ip, port)
        at = ip, udp.getsockname()[1]
        stream = await TcpEdge.serve(tcp, self._slots, self._responder.tcp)
        self.open[at] = UdpEdge(udp, self._responder.udp), stream
        return at

    def remove(self, at: tuple[str, int]) -> None:
        """Close both sockets of an address."""
        udp, tcp = self.open.pop(at)
        self.overflowed_before += udp.overflowed
        udp.close()
        tcp.close()

    def close(self) -> None:
        """Close everything."""
        for at in list(self.open):
            self.remove(at)
        self._slots.close()

    @property
    def overflowed(self) -> int:
        """Datagrams that the kernel dropped because a buffer was full."""
        return self.overflowed_before + sum(udp.overflowed for udp, _ in self.open.values())

    @property
    def connections(self) -> int:
        """TCP connections that are open."""
        return len(self._slots)


class DnsService:
    """Answers DNS from the store's records.

    Args:
        settings: what it was told.
        store: where the records are.
        telemetry: metrics, readiness, log.
    """

    def __init__(self, settings: DnsSettings, store: Store, telemetry: Telemetry) -> None:
        self._settings, self._telemetry = settings, telemetry
        self.responder = _responder(settings)
        self._own, self._foreign = self.responder.zone.own, self.responder.zone.foreign
        self._edges: Edges | None = None
        self._followers = {
            keys.ROOT: Follower(store, keys.ROOT, self._own_changed, telemetry, verify_s=settings.verify_s),
            _skydns(settings): Follower(
                store, _skydns(settings), self._foreign_changed, telemetry, verify_s=settings.verify_s
            ),
        }
        self._taken_revisions: tuple[int, ...] = ()
        telemetry.ready.bad(LISTENING, "not open yet")
        telemetry.ready.bad(DATA, "nothing read yet")
        telemetry.registry.register(Figures(self.responder, lambda: self._edges, self.age_s))

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Where it answers: address and port, UDP and TCP."""
        return tuple(self._edges.open) if self._edges else ()

    def age_s(self) -> float:
        """Seconds since the store last gave a sign of life; infinite before the first."""
        return max(follower.age_s() for follower in self._followers.values())

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            CannotStart: an address to listen at cannot be had.
        """
        slots = Slots(self._settings.tcp_connections, self._settings.tcp_idle_s)
        self._edges = Edges(self.responder, slots)
        try:
            await self._load()
            await self._listen(self._edges)
            async with asyncio.TaskGroup() as tasks:
                for follower in self._followers.values():
                    tasks.create_task(follower.run())
                tasks.create_task(slots.sweep())
                tasks.create_task(_every(TICK_S, self._tick))
                if any(io_addresses.is_any(ip) for ip, _ in self._settings.listen):
                    tasks.create_task(self._rebind(self._edges))
                if self._settings.snapshot:
                    tasks.create_task(self._save_now_and_then())
        finally:
            self._edges.close()
            self._telemetry.ready.bad(LISTENING, "closed")

    def state(self) -> Mapping[str, object]:
        """What /api/state shows."""
        age_s = self.age_s()
        refused = {**self._own.registry.refused, **self._foreign.refused}
        return {
            "listening": [join_host_port(ip, port) for ip, port in self.listening],
            "domains": [domain.text for domain in self.responder.zone.domains],
            "data": self.responder.data.value,
            "age_s": None if math.isinf(age_s) else round(age_s, 3),
            "serial": self.responder.serial & 0xFFFFFFFF,
            "names": len(self._own.registry.names()),
            "foreign_records": len(self._foreign),
            "refused_records": dict(sorted(refused.items())[:MAX_SHOWN]),
            "refused_count": len(refused),
            "finished_answers": self.responder.kept,
        }

    # --- the store

    def _own_changed(self, difference: Difference) -> None:
        self.responder.apply_own(difference)
        self._after(difference, self._own.registry.refused)
        if not difference.started_over:
            self._count_convergence(difference)

    def _foreign_changed(self, difference: Difference) -> None:
        self.responder.apply_foreign(difference)
        self._after(difference, self._foreign.refused)

    def _after(self, difference: Difference, refused: Mapping[str, str]) -> None:
        for entry in difference.puts:
            if entry.key in refused:
                self._telemetry.log.warning(
                    "a record is left out", extra={"key": entry.key, "why": refused[entry.key], "cause": entry.key}
                )
        self._tick()

    # From the engine's event to the first possible answer: whoever asks from now on is told.
    def _count_convergence(self, difference: Difference) -> None:
        for entry in difference.puts:
            match keys.parse(entry.key):
                case ContainerKey() as key if key in self._own.registry.containers:
                    self._telemetry.converged("dns", self._own.registry.containers[key].observed)

    def _tick(self) -> None:
        age_s = self.age_s()
        if not all(follower.mirror.complete for follower in self._followers.values()):
            data = Data.NONE
        else:
            data = Data.FRESH if age_s <= self._settings.stale_after_s else Data.STALE
        if data is not self.responder.data:
            if self.responder.data is Data.NONE:
                gc.freeze()  # what was read stays; looking through it for garbage would hold up answers
            self.responder.set_data(data)
            self._telemetry.log.info("answers come from %s data", data.value)
        if data is Data.FRESH:
            self._telemetry.ready.good(DATA)
        elif data is Data.STALE:
            heard = "was not heard yet" if math.isinf(age_s) else f"was last heard {age_s:.0f} s ago"
            self._telemetry.ready.bad(DATA, f"the store {heard}; answers are marked as stale")

    # --- sockets

    async def _listen(self, edges: Edges) -> None:
        for ip, port in self._settings.listen:
            if io_addresses.is_any(ip):
                await self._listen_at_all(edges, ip, port)
            else:
                await self._listen_at(edges, ip, port)
        self._telemetry.ready.good(LISTENING)
        where = ", ".join(join_host_port(*at) for at in edges.open)
        self._telemetry.log.info("DNS answers at %s, UDP and TCP", where)

    async def _listen_at(self, edges: Edges, ip: str, port: int) -> None:
        try:
            await edges.add(ip, port)
        except OSError as error:
            raise io_addresses.cannot_listen(ip, port, error) from error

    async def _listen_at_all(self, edges: Edges, ip: str, port: int) -> None:
        first: CannotStart | None = None
        for at in io_addresses.expanded([(ip, port)]):
            try:
                await self._listen_at(edges, *at)
            except CannotStart as error:
                first = first or error
                self._telemetry.log.warning("%s", error)
        if first is not None and not edges.open:
            raise first

    async def _rebind(self, edges: Edges) -> None:
        while True:
            await asyncio.sleep(REBIND_S)
            try:
                await self._rebind_once(edges, set(io_addresses.expanded(self._settings.listen)))
            except OSError as error:  # out of file handles: the sockets that are open go on
                self._telemetry.log.warning("this host's addresses are not known now: %s", error)

    async def _rebind_once(self, edges: Edges, wanted: set[tuple[str, int]]) -> None:
        for at in [at for at in edges.open if at not in wanted]:
            self._telemetry.log.info("an address is gone: no longer at %s", join_host_port(*at))
            edges.remove(at)
        for at in wanted - edges.open.keys():
            with contextlib.suppress(OSError):
                await edges.add(*at)
                self._telemetry.log.info("a new address: DNS answers at %s too", join_host_port(*at))

    # --- the snapshot

    async def _load(self) -> None:
        if not self._settings.snapshot:
            return
        try:
            found = await asyncio.to_thread(io_snapshot.load, self._settings.snapshot)
            readings = {prefix: found.reading(prefix) for prefix in self._followers} if found else {}
        except BadSnapshot as error:
            self._telemetry.log.warning("starting without a snapshot: %s", error)
            return
        for prefix, reading in readings.items():
            self._followers[prefix].restore(reading)
        if found:
            self._telemetry.log.info("read the snapshot", extra={"revision": found.revision, "taken": found.taken})

    async def _save_now_and_then(self) -> None:
        try:
            while math.isinf(self.age_s()):  # noqa: ASYNC110  the first one as soon as everything was read; a clock is read
                await asyncio.sleep(TICK_S)
            await self._save()
            await _every_async(SNAPSHOT_S, self._save)
        finally:
            self._write()

    async def _save(self) -> None:
        await asyncio.to_thread(self._write)

    def _write(self) -> None:
        mirrors = [follower.mirror for follower in self._followers.values()]
        revisions = tuple(mirror.revision for mirror in mirrors)
        age_s = self.age_s()
        if revisions == self._taken_revisions or math.isinf(age_s):
            return
        try:
            io_snapshot.save(self._settings.snapshot, snapshot_of(mirrors, self._telemetry.now() - age_s))
            self._taken_revisions = revisions
        except (OSError, BadSnapshot) as error:
            self._telemetry.log.warning("the snapshot was not written: %s", error, extra={"cause": "snapshot"})


def _responder(settings: DnsSettings) -> Responder:
    domains = [zone.domain(text) for text in settings.domain]
    own = OwnNames(domains, settings.proxy_name, _served_at(settings.listen), settings.node_name)
    return Responder(Zone(domains, own, Foreign(settings.skydns_prefix, settings.ttl)), settings.negative_ttl)


def _served_at(listen: Iterable[tuple[str, int]]) -> list[str]:
    """Addresses at which other hosts find us on the port that a name server is looked for: those that were named.

    All addresses of a host are no such list: its bridges have the same ones on every host.
    """
    found = [ip for ip, port in listen if port == io_addresses.DNS_PORT]
    return [ip for ip in found if not io_addresses.is_loopback(ip) and not io_addresses.is_any(ip)]


def _skydns(settings: DnsSettings) -> str:
    return settings.skydns_prefix + "/"


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()


async def _every_async(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await do()
