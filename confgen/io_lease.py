"""Keeps this proxy's own record in the store, under a lease of its own: names of proxied services resolve to it.

The record is there while nginx serves, and gone within a moment when it does not; when we die, it goes with the
lease. It is written at most once in UPDATE_S, however often configurations change; renewing the lease writes nothing.

A commit that nobody answered may come late, and hangs on a lease that nobody renews. So each stands on what the last
one left, and never takes the place of a newer one; and leases of before are ended, so that it brings nothing back.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple

from pilotfish.catalog import keys
from pilotfish.catalog.io_follow import retry_delays
from pilotfish.catalog.record import Proxy, encode
from pilotfish.catalog.store import (
    Absent,
    Condition,
    Delete,
    LeaseGone,
    ModifiedAt,
    Put,
    Store,
    StoreError,
)
from pilotfish.catalog.telemetry import Telemetry

UPDATE_S = 1.0
RENEWALS_PER_TTL = 3
NAME = "proxy record"
MAX_GIVEN_UP = 32


class _Standing(NamedTuple):
    """What stands at the key.

    Attributes:
        fence: holds as long as it does.
        record: what it says; None: there is none.
        ours: it hangs on the lease of now; else nobody knows for how long it stands.
    """

    fence: Condition
    record: Proxy | None
    ours: bool = True


class ProxyRecord:
    """The record of one proxy.

    Args:
        store: where it stands.
        node: the host's name.
        ttl_s: of the lease, seconds.
        telemetry: readiness under "proxy record", and log.
    """

    def __init__(self, store: Store, node: str, ttl_s: int, telemetry: Telemetry) -> None:
        self._store, self._key, self._ttl_s, self._telemetry = store, keys.proxy_key(node), ttl_s, telemetry
        self._wanted: Proxy | None = None
        self._changed = asyncio.Event()
        self._lease = 0
        self._served = False  # there was something to be recorded
        # Leases of before, on which a commit that comes late would hang; the first of so many have ended by themselves.
        self._given_up: deque[int] = deque(maxlen=MAX_GIVEN_UP)

    def set(self, record: Proxy | None) -> None:
        """Say what the record is to be; None: this proxy does not serve, its record goes."""
        if record != self._wanted:
            self._wanted, self._served = record, True
            self._changed.set()

    async def run(self) -> None:
        """Keep it so until cancelled."""
        backoff = retry_delays()
        self._telemetry.ready.bad(NAME, "nginx serves no configuration yet")
        while True:
            try:
                granted = await self._store.grant(self._ttl_s)
                if self._lease:
                    self._given_up.append(self._lease)
                self._lease = granted.id
                backoff.reset()
                await self._hold(granted.ttl_s / RENEWALS_PER_TTL)
            except LeaseGone:
                self._telemetry.log.warning("the proxy's lease ended; taking a new one")
            except StoreError as error:
                self._telemetry.ready.bad(NAME, str(error))
                self._telemetry.log.warning("the proxy's record cannot be kept: %s", error, extra={"cause": NAME})
            await backoff.wait()

    async def _hold(self, every_s: float) -> None:
        """Write and renew until the lease or the store fails."""
        standing = await self._look()
        renew_at, write_at = time.monotonic() + every_s, 0.0
        while True:
            now = time.monotonic()
            if now >= renew_at:
                await self._store.keep_alive(self._lease)
                renew_at = time.monotonic() + every_s
                continue
            due = self._is_due(standing)
            if not due and self._given_up:
                await self._end_others()  # it takes its time, in which all may have changed
                continue
            if due and (now >= write_at or self._wanted is None):
                standing, write_at = await self._write(standing.fence), now + UPDATE_S
            else:
                await self._wait(min(renew_at, write_at if due else renew_at) - now)

    def _is_due(self, standing: _Standing) -> bool:
        """Whether something else stands than is wanted; what a process before us left stays until we serve."""
        if not self._served:
            return False
        return not standing.ours or standing.record != self._wanted

    async def _end_others(self) -> None:
        """End the leases of before: nothing of ours hangs on them any more, nor shall what comes late."""
        while self._given_up:
            try:
                await self._store.revoke(self._given_up.popleft())
            except StoreError:  # nobody waits for it: they end by themselves
                self._given_up.clear()

    async def _look(self) -> _Standing:
        reading = await self._store.read(self._key)
        return _Standing(reading.unchanged(self._key), None, ours=reading.entry(self._key) is None)

    async def _write(self, fence: Condition) -> _Standing:
        """Make the record what is wanted, unless something else was put since; returns what stands then."""
        wanted = self._wanted
        operation = Delete(self._key) if wanted is None else Put(self._key, encode(wanted), self._lease)
        done = await self._store.commit([fence], [operation])
        if not done.succeeded:
            self._telemetry.log.info("the proxy's record was put meanwhile; it is put once more")
            return await self._look()
        if wanted is None:
            self._telemetry.ready.bad(NAME, "withdrawn: nginx does not serve")
            return _Standing(Absent(self._key), None)
        self._telemetry.ready.good(NAME)
        return _Standing(ModifiedAt(self._key, done.revision), wanted)

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def withdraw(self) -> None:
        """Take the record away for good, as far as the store can be reached."""
        if not self._lease:
            return
        try:
            await self._store.revoke(self._lease)
            await self._end_others()
        except StoreError as error:
            self._telemetry.log.warning("the proxy's record stays until its lease ends: %s", error)
        self._lease = 0
