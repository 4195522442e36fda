"""Asks other name servers: each question once however many want to know, all of it bounded in time and number.

Whoever asks is answered exactly once, within three seconds: from the cache, by a server, with an answer past its end,
or with SERVFAIL. Nothing waits in a queue: what cannot be asked now is answered now.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable

from dnsserver.forwarding import io_upstream
from dnsserver.forwarding import lookup as forward
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.health import Healths, Server
from dnsserver.forwarding.io_upstream import Exchange, Question, Watch
from dnsserver.forwarding.lookup import Ended, Event, Lookup, Step, Try, failure
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.upstream import Said, Wrong
from dnsserver.message.wire import Ede, Rcode
from dnsserver.outside import Asked, Outcome
from pilotfish.catalog.values import join_host_port

MAX_IN_FLIGHT = 1000  # questions that are out
MAX_WAITING = 20_000  # those who wait for their answers
MAX_TCP = 100  # connections to name servers at once
STALE_AFTER_S = 1.8  # then an answer past its end is better than to wait on; RFC 8767 §5
TICK_S = 0.25  # how often dead servers are looked at
OVERDUE_S = 2 * forward.PATIENCE_S  # no question is out for so long
BURST = 250  # answers given before other work of the loop has its turn
OTHERS = "stub"  # in figures, all servers that are not configured

Done = Callable[[Outcome], None]


_Key = tuple[Asked, tuple[Server, ...], int]  # what is asked, whom, and in which epoch of the cache


class _Flight:
    """A question that is out, and those who wait for its answer."""

    __slots__ = ("asked", "departed", "ended", "key", "late", "lookup", "out", "sent_at", "stale_timer", "step",
                 "waiting")  # fmt: skip

    def __init__(self, key: _Key, lookup: Lookup, now: float) -> None:
        self.asked, self.key, self.lookup = key[0], key, lookup
        self.departed = self.sent_at = now
        self.late = False  # nobody waits for a new answer while there is an old one
        self.waiting: list[Done] = []
        self.step: Try | None = None
        self.out: Exchange | asyncio.Task[Said | Event] | None = None
        self.stale_timer: asyncio.TimerHandle | None = None
        self.ended: Callable[[Ended], None] | None = None  # of a probe, for which nobody waits

    def taken(self) -> list[Done]:
        """Those who wait, who do so no longer."""
        waiting, self.waiting = self.waiting, []
        return waiting


class Forwarder:
    """Asks name servers for what others want to know; made and used in a running event loop.

    Args:
        servers: whom to ask, the preferred one first.
        cache: what they said before.
        timeout_s: for one try.
        log: where servers that come and go are named.
        own: addresses and ports that we listen at; never asked, whoever names them.
        most: questions that may be out at once; fewer if this process may not open so many files.
        loop_token: 32 random hex digits, the same for all processes that answer at one address.

    Attributes:
        probes: the responder asks it about every foreign name, see LoopProbes.answer.
        queries: messages sent, by server and what came of them.
        wrong: messages received that were no replies, by what was wrong.
        joined: questions that were out already when somebody else asked.
        shed: questions answered SERVFAIL because too many were out.
        prefetched: questions asked again before their answer ended.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        cache: ForwardCache,
        *,
        timeout_s: float,
        log: logging.Logger,
        own: Callable[[], Iterable[Server]] = tuple,
        most: int = MAX_IN_FLIGHT,
        loop_token: str = "",
    ) -> None:
        self.servers, self.cache = tuple(servers), cache
        self.healths = Healths(self.servers)
        self.probes = LoopProbes(loop_token or secrets.token_hex(16))
        self.queries: Counter[tuple[str, str]] = Counter()
        self.wrong: Counter[str] = Counter()
        self.joined = self.shed = self.prefetched = 0
        self._timeout_s, self._log, self._own = timeout_s, log, own
        self._most = min(most, io_upstream.open_files() // 2)
        self._ports = io_upstream.local_ports()
        self._labels = {server: join_host_port(*server) for server in self.servers}
        self._flights: dict[_Key, _Flight] = {}
        self._probing: set[_Flight] = set()
        self._waiting = 0
        self._connections: set[asyncio.Task[Said | Event]] = set()
        self._loop = asyncio.get_running_loop()
        self._watch = Watch()
        self._allowed: dict[tuple[Server, ...], tuple[Server, ...]] = {}
        self._looks_after = self._closed = False

    @property
    def in_flight(self) -> int:
        """Questions that are out."""
        return len(self._flights)

    @property
    def waiting(self) -> int:
        """Those who wait for an answer, or whose answer is there and was not given yet."""
        return self._waiting

    def set_servers(self, servers: Iterable[Server]) -> None:
        """Ask others from now on; what was said before counts no more."""
        self.cache.clear()
        self.servers = tuple(servers)
        self.healths = Healths(self.servers)
        self._labels = {server: join_host_port(*server) for server in self.servers}
        self._allowed.clear()
        if self._looks_after:
            self._meet()

    # --- questions

    def ask(self, asked: Asked, done: Done, servers: tuple[Server, ...] = ()) -> None:
        """Find out, and call `done` once: before this returns when nobody must be asked.

        Args:
            asked: what is wanted.
            done: told the outcome; must not raise.
            servers: whom to ask instead of the configured ones: those of a stub zone.
        """
        now = self._loop.time()
        kept = self.cache.get(asked, now)
        if kept is not None:
            if kept.due:
                self.refresh(asked, servers)
            self._tell(done, kept)
            return
        flight = self._flights.get((asked, servers, self.cache.epoch))
        if flight is not None and self._waiting < MAX_WAITING:
            self.joined += 1
            self._wait(flight, done, now)
        elif flight is None and len(self._flights) < self._most and not self._closed:
            self._depart(asked, servers, done, now)
        else:
            self.shed += 1
            self._tell(done, self.cache.past_its_end(asked, now) or _nothing(now))

    def refresh(self, asked: Asked, servers: tuple[Server, ...] = ()) -> None:
        """Ask again for what ends soon, when there is room."""
        room = len(self._flights) * 2 < self._most
        if room and not self._closed and (asked, servers, self.cache.epoch) not in self._flights:
            self.prefetched += 1
            self._depart(asked, servers, None, self._loop.time())

    def _depart(self, asked: Asked, servers: tuple[Server, ...], done: Done | None, now: float) -> None:
        allowed = self._allowed.get(servers) or self._allow(servers)
        lookup = Lookup(self.healths.order(allowed, now), self.healths, self._timeout_s, now)
        key = asked, servers, self.cache.epoch
        flight = self._flights[key] = _Flight(key, lookup, now)
        if self.cache.has_stale(asked, now):
            flight.late = not self.healths.any_lives(allowed)
            flight.stale_timer = self._loop.call_later(STALE_AFTER_S, self._give_stale, flight)
        if done is not None:
            self._wait(flight, done, now)
        self._go(flight, lookup.start(now))

    # Our own addresses change rarely; what follows from them is looked up again at every tick.
    def _allow(self, servers: tuple[Server, ...]) -> tuple[Server, ...]:
        named = servers or self.servers
        own = forward.ours(named, self._own())
        allowed = tuple(server for server in named if server not in own)
        self._allowed[servers] = allowed
        return allowed

    def _wait(self, flight: _Flight, done: Done, now: float) -> None:
        stale = self.cache.past_its_end(flight.asked, now) if flight.late else None
        if stale is not None:
            self._tell(done, stale)
            return
        flight.waiting.append(done)
        self._waiting += 1

    def _give_stale(self, flight: _Flight) -> None:
        flight.late = True
        stale = self.cache.past_its_end(flight.asked, self._loop.time()) if flight.waiting else None
        if stale is not None:
            self._deliver(flight.taken(), stale)

    # --- tries

    def _go(self, flight: _Flight, step: Step) -> None:
        while isinstance(step, Try):
            event = self._send(flight, step)
            if event is None:
                return
            step = self._after(flight, event)
        self._finish(flight, step)

    def _send(self, flight: _Flight, step: Try) -> Event | None:
        flight.step, flight.sent_at = step, self._loop.time()
        question = io_upstream.made(flight.asked, step, self._ports, stub=bool(flight.key[1]))
        if step.tcp:
            return self._connect(flight, question)
        exchange = Exchange(self._watch, question, lambda what: self._heard(flight, what), self._count_wrong)
        flight.out = exchange
        return exchange.start()

    def _connect(self, flight: _Flight, question: Question) -> Event | None:
        if len(self._connections) >= MAX_TCP:
            return Event.BROKEN
        task = self._loop.create_task(io_upstream.over_tcp(question, self._count_wrong))
        self._connections.add(task)
        task.add_done_callback(lambda done: self._connection_over(flight, done))
        flight.out = task
        return None

    def _connection_over(self, flight: _Flight, task: asyncio.Task[Said | Event]) -> None:
        self._connections.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._log.error("a question over TCP failed", exc_info=error)
        self._heard(flight, Event.BROKEN if error is not None else task.result())

    def _heard(self, flight: _Flight, what: Said | Event) -> None:
        self._go(flight, self._after(flight, what))

    def _after(self, flight: _Flight, what: Said | Event) -> Step:
        now = self._loop.time()
        if flight.step is None:
            return Ended(failure(Ede.NETWORK_ERROR), answered=False)
        server = flight.step.server
        self.queries[self._labels.get(server, OTHERS), _kind(what)] += 1
        health = self.healths[server]
        was_dead = health.dead
        step = flight.lookup.after(what, now - flight.sent_at, now)
        if health.dead != was_dead:
            self._say(server, health.dead)
        return step

    def _finish(self, flight: _Flight, ended: Ended) -> None:
        probed, flight.ended, flight.out, flight.step = flight.ended, None, None, None
        if probed is not None:
            probed(ended)
            return
        if self._flights.get(flight.key) is not flight:
            return  # given up before
        del self._flights[flight.key]
        if flight.stale_timer is not None:
            flight.stale_timer.cancel()
        now = self._loop.time()
        put = self.cache.put if ended.answered else self.cache.put_failure
        if flight.key[2] != self.cache.epoch:  # others are asked by now: good for those who wait, not to be kept
            self._deliver(flight.taken(), Outcome(ended.reply, now, now))
            return
        self._deliver(flight.taken(), put(flight.asked, ended.reply, now))

    # Other work of the loop has its turn between those who waited for one answer.
    def _deliver(self, waiting: list[Done], outcome: Outcome) -> None:
        now, later = waiting[:BURST], waiting[BURST:]
        self._waiting -= len(now)
        for done in now:
            self._tell(done, outcome)
        if later:
            self._loop.call_soon(self._deliver, later, outcome)

    def _tell(self, done: Done, outcome: Outcome) -> None:
        try:
            done(outcome)
        except Exception:  # noqa: BLE001  whoever it was, the others still wait
            self._log.exception("an answer could not be passed on")

    # --- health

    async def run(self) -> None:
        """Look after the servers until cancelled; then everybody who waits is told."""
        try:
            self._looks_after = True
            self._meet()
            while True:
                await asyncio.sleep(TICK_S)
                self._tick(self._loop.time())
        finally:
            self.close()
            await asyncio.gather(*self._connections, return_exceptions=True)
            for _ in range(MAX_WAITING // BURST + 1):  # each turn of the loop tells some, see _deliver
                if self._waiting:
                    await asyncio.sleep(0)

    def _meet(self) -> None:
        for server in forward.ours(self.servers, self._own()):
            self._log.error("name server %s is this server itself: it is not asked", join_host_port(*server))
        for server in self.servers:
            self._probe(server)

    def _tick(self, now: float) -> None:
        self._allowed.clear()
        for server, health in self.healths.items():
            if health.probe_due(now):
                if server in self._labels:
                    self._probe(server)
                else:
                    health.pardon()  # the next question for its zone is the probe
        overdue = [flight for flight in self._flights.values() if now - flight.departed > OVERDUE_S]
        for flight in overdue:
            self._log.error("a question was forgotten", extra={"cause": "overdue"})
            self._abandon(flight)

    def _probe(self, server: Server) -> None:
        now = self._loop.time()
        asked = self.probes.fresh()
        allowed = [] if forward.ours([server], self._own()) else [server]
        flight = _Flight(
            (asked, (), self.cache.epoch), Lookup(allowed, self.healths, self._timeout_s, now, rounds=1), now
        )
        flight.ended = lambda ended: self._probed(server, flight, ended)
        self._probing.add(flight)
        self._go(flight, flight.lookup.start(now))

    def _probed(self, server: Server, flight: _Flight, ended: Ended) -> None:
        self._probing.discard(flight)
        health = self.healths[server]
        if self.probes.has_come_back(flight.asked, ended.reply):
            if not health.looping:
                self._log.error(
                    "what name server %s is asked comes back here: it is not asked", join_host_port(*server)
                )
            health.loops(self._loop.time())
        else:
            health.looping = False

    def _say(self, server: Server, dead: bool) -> None:
        if dead:
            self._log.warning("name server %s does not answer: it is left alone", join_host_port(*server))
        else:
            self._log.info("name server %s answers again", join_host_port(*server))

    def _count_wrong(self, wrong: Wrong) -> None:
        self.wrong[wrong.value] += 1

    # --- the end

    def close(self) -> None:
        """Ask no more; everybody who waits is told."""
        self._closed, self._looks_after = True, False
        for flight in [*self._flights.values(), *self._probing]:
            self._abandon(flight)
        self._probing.clear()
        self._watch.close()

    def _abandon(self, flight: _Flight) -> None:
        if isinstance(flight.out, Exchange):
            flight.out.close()
        elif flight.out is not None:
            flight.out.cancel()
        if flight.ended is None:
            self._finish(flight, Ended(failure(Ede.NETWORK_ERROR), answered=False))


def _nothing(now: float) -> Outcome:
    return Outcome(failure(Ede.NETWORK_ERROR), now, now)


def _kind(what: Said | Event) -> str:
    if isinstance(what, Event):
        return what.value
    if what.truncated:
        return "truncated"
    return _RCODES.get(what.rcode, "other")


_RCODES = {int(rcode): rcode.name.lower() for rcode in Rcode}
