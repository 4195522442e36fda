"""Dials orphans, and what the guard holds, for one reader: `orphans` says what is kept, `dialling` when to dial."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import Gauge

from pilotfish.catalog.dialling import DIAL_S, Answer, Dial, Dialling, Where
from pilotfish.catalog.guard import Guard
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.orphans import CLAIMED, Age, Orphans
from pilotfish.catalog.snapshot import Orphan
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.catalog.values import join_host_port

AT_ONCE = 512  # dials in flight: what one dead host after another may hold up
TOLD_S = 0.02  # changes that come within this time are told together
IDLE_S = 1.0  # how long nobody looks at the clock
MAX_NAMED = 5  # hosts in a log line
MAX_SHOWN = 100  # in /api/state
GUARD = "guard"  # as /ready calls it
# The dial could not be made, which says nothing of the other side.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})


async def dial(where: Where, within_s: float = DIAL_S) -> Answer:
    """Dial an endpoint once, at all of its addresses at the same time.

    Returns:
        TAKEN when any took the connection, else UNKNOWN when one could not be asked, else REFUSED when any refused it,
        else SILENT.
    """
    answers = set(await asyncio.gather(*(_dial(ip, port, within_s) for ip, port in where)))
    return next(one for one in (Answer.TAKEN, Answer.UNKNOWN, Answer.REFUSED, Answer.SILENT) if one in answers)


async def _dial(ip: str, port: int, within_s: float) -> Answer:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as dialled:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_connect(dialled, (ip, port))
    except TimeoutError:
        return Answer.SILENT
    except ConnectionRefusedError:
        return Answer.REFUSED
    except OSError as error:
        # Where this host has no IPv6, that is what the kernel says of every IPv6 address: there is no way there.
        pathless = family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL
        return Answer.UNKNOWN if error.errno in _OURS and not pathless else Answer.SILENT
    return Answer.TAKEN


class OrphanCare:
    """Keeps the orphans of one reader, and lets go of those that do not answer.

    Args:
        node: the host that the reader runs on.
        keep_s: how long one is kept at most; 0: none is.
        telemetry: log, metrics and readiness: what the guard holds is for an admin to look at.
        guard: says which removals are held.
    """

    def __init__(self, node: str, keep_s: float, telemetry: Telemetry, guard: Guard) -> None:
        self._dialling = Dialling(random.random)
        self.orphans = Orphans(node, keep_s, self._dialling, guard)
        self._limit = guard.limit
        self._telemetry = telemetry
        self._held = 0  # when it was looked at last
        self._flights: set[asyncio.Task[None]] = set()
        self._more = asyncio.Event()
        gauge = Gauge(
            "pilotfish_orphans", "Container records kept beyond their node's key", ["part"], registry=telemetry.registry
        )
        gauge.labels(telemetry.part).set_function(lambda: float(self._orphan_count))
        held = Gauge(
            "pilotfish_guard_held",
            "Records of containers and claims taken away, and held",
            ["part"],
            registry=telemetry.registry,
        )
        held.labels(telemetry.part).set_function(lambda: float(self._held_count))

    @property
    def _orphan_count(self) -> int:
        return len(self.orphans.kept) - len(self.orphans.held)

    @property
    def _held_count(self) -> int:
        return len(self.orphans.held) + len(self.orphans.claims)

    def take(self, difference: Difference) -> Difference:
        """What the reader is told of a difference of its mirror."""
        before = self._orphan_count
        told = self.orphans.take(difference, time.monotonic())
        now = self._orphan_count
        if now > before:
            self._telemetry.log.warning(
                "registrators are away; the containers of these hosts are kept while they answer: %s",
                self._hosts(held=False),
                extra={"containers": now, "cause": "orphans"},
            )
        elif before and not now:
            self._telemetry.log.info("no container is an orphan any more")
        self._say_held()
        self._more.set()
        return told

    def _hosts(self, *, held: bool) -> str:
        """The hosts of what is kept, as a log line has them."""
        kept = self.orphans.kept.items()
        hosts = sorted({one.container.node for key, one in kept if (key in self.orphans.held) is held})
        more = f" and {len(hosts) - MAX_NAMED} more" if len(hosts) > MAX_NAMED else ""
        return f"{', '.join(hosts[:MAX_NAMED])}{more}"

    def _say_held(self) -> None:
        before, self._held = self._held, self._held_count
        if not self._held:
            self._telemetry.ready.good(GUARD)
            if before:
                self._telemetry.log.info("the guard holds nothing any more")
            return
        self._telemetry.ready.bad(
            GUARD,
            f"{self._held_told()} are served although their records were taken away: see what did it, or let them"
            " go with `pilotfish release --guard`",
        )
        if self._held > before:
            self._telemetry.log.warning(
                "the records of more than %d %% of all containers or routes were taken away within a minute, of %s:"
                " what answers is served for %g s more%s. If it is wanted: pilotfish release --guard",
                self._limit.percent,
                self._held_told(),
                self._limit.grace_s,
                f", on these hosts: {self._hosts(held=True)}" if self.orphans.held else "",
                extra={"containers": len(self.orphans.held), "routes": len(self.orphans.claims), "cause": GUARD},
            )

    def _held_told(self) -> str:
        counts = ((len(self.orphans.held), "containers"), (len(self.orphans.claims), "routes"))
        return " and ".join(f"{count} {what}" for count, what in counts if count)

    def restore(self, orphans: Iterable[Orphan], revision: int) -> Difference:
        """Take in orphans of an earlier run; what the reader is told of it."""
        now = self._telemetry.now()
        found = {one.entry.key: one for one in orphans}
        ages = {key: Age(max(0.0, now - one.since), one.silent) for key, one in found.items()}
        self.orphans.restore([one.entry for one in found.values()], ages, time.monotonic())
        self._more.set()
        return self.orphans.whole(revision)

    def saved(self) -> list[Orphan]:
        """What `restore` takes in. It may be called in another thread.

        What the guard holds is an orphan for the next run, and one that ends no later.
        """
        now, unix, keep_s = time.monotonic(), self._telemetry.now(), self.orphans.keep_s
        kept, others = list(self.orphans.kept.values()), list(self.orphans.others.values())
        return [
            *(Orphan(one.entry, unix - (now - one.until) - keep_s, tuple(one.silent)) for one in kept),
            *(Orphan(entry, unix - (now - since), ()) for entry, since in others),
            *(Orphan(entry, unix - (now - since), CLAIMED) for entry, since in self.orphans.claims_held()),
        ]

    async def run(
        self,
        tell: Callable[[Difference], None],
        revision: Callable[[], int],
        heard_since: Callable[[float], Awaitable[bool]],
    ) -> None:
        """Dial until cancelled.

        Args:
            tell: gets what the reader has to know.
            revision: of its mirror.
            heard_since: whether the store was heard after a moment of the monotonic clock. Silence counts only if it
                was while we dialled: else it may be us who are cut off.
        """
        try:
            while True:
                now = time.monotonic()
                for one in self._dialling.due(now, AT_ONCE - len(self._flights)):
                    self._begin(one, heard_since)
                self.orphans.expire(now)
                changes = self.orphans.changes(revision())
                self._say_held()
                if changes.deletes or changes.kept:
                    self._said(changes)
                    tell(changes)
                await self._pause(now)
        finally:
            for flight in self._flights:
                flight.cancel()

    def _begin(self, one: Dial, heard_since: Callable[[float], Awaitable[bool]]) -> None:
        flight = asyncio.create_task(self._fly(one, heard_since))
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    async def _pause(self, now: float) -> None:
        """Until there is something to do: a dial is due, something happened, or somebody may have been kept enough."""
        self._more.clear()
        full = len(self._flights) >= AT_ONCE
        idle = not (self.orphans.kept or self.orphans.others or self.orphans.claims)
        wait_s = None if idle else IDLE_S if full else min(IDLE_S, self._dialling.next_at - now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s and max(0.0, wait_s)):
                await self._more.wait()
        await asyncio.sleep(TOLD_S)

    async def _fly(self, one: Dial, heard_since: Callable[[float], Awaitable[bool]]) -> None:
        full, began = len(self._flights) >= AT_ONCE, time.monotonic()
        answer = await dial(one.where)
        if answer is Answer.SILENT and not await heard_since(began):
            answer = Answer.UNKNOWN
        judged = self._dialling.judge(one, answer, time.monotonic())
        if judged.host:
            self.orphans.give_up_host(judged.host)
        elif judged.gone:
            self.orphans.give_up(one.key, one.endpoint)
        if judged.gone or full:
            self._more.set()

    def _said(self, changes: Difference) -> None:
        self._telemetry.log.info(
            "orphans changed",
            extra={
                "ended": len(changes.deletes),
                "some_endpoints_ended": len(changes.kept),
                "left": len(self.orphans.kept),
            },
        )

    def state(self) -> dict[str, object]:
        """What /api/state shows: how many are kept, and the longest kept of them."""
        now = time.monotonic()
        shown = list(self.orphans.kept.items())[:MAX_SHOWN]
        return {
            "orphan_count": self._orphan_count,
            "guard_held": self._held_count,
            "orphans": [
                {
                    "node": one.container.node,
                    "container": one.container.name,
                    "why": GUARD if key in self.orphans.held else "registrator away",
                    "for_s": round(now - one.since, 1),
                    "ends_in_s": round(one.until - now, 1),
                    "endpoints": {
                        endpoint.id: "gone"
                        if endpoint.id in one.silent
                        else " ".join(join_host_port(address.ip, address.port) for address in endpoint.addresses)
                        for endpoint in one.container.endpoints
                    },
                }
                for key, one in shown
            ],
        }
