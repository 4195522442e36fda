"""Keeps this proxy's own record in the store, under a lease of its own: names of proxied services resolve to it.

The record is there while nginx serves, and gone within a moment when it does not; when we die, it goes with the
lease. It is written at most once in UPDATE_S, however often configurations change; renewing the lease writes nothing.
"""

from __future__ import annotations

import asyncio
import time

from pilotfish.catalog import keys
from pilotfish.catalog.io_follow import retry_delays
from pilotfish.catalog.record import Proxy, encode
from pilotfish.catalog.store import Delete, LeaseGone, Operation, Put, Store, StoreError
from pilotfish.catalog.telemetry import Telemetry

UPDATE_S = 1.0
RENEWALS_PER_TTL = 3
NAME = "proxy record"


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

    def set(self, record: Proxy | None) -> None:
        """Say what the record is to be; None: this proxy does not serve, its record goes."""
        if record != self._wanted:
            self._wanted = record
            self._changed.set()

    async def run(self) -> None:
        """Keep it so until cancelled."""
        backoff = retry_delays()
        self._telemetry.ready.bad(NAME, "nginx serves no configuration yet")
        while True:
            try:
                granted = await self._store.grant(self._ttl_s)
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
        written: Proxy | None = None
        renew_at, write_at = time.monotonic() + every_s, 0.0
        while True:
            now = time.monotonic()
            if now >= renew_at:
                await self._store.keep_alive(self._lease)
                renew_at = time.monotonic() + every_s
            elif self._wanted != written and (now >= write_at or self._wanted is None):
                written, write_at = await self._write(), now + UPDATE_S
            else:
                await self._wait(min(renew_at, write_at if self._wanted != written else renew_at) - now)

    async def _write(self) -> Proxy | None:
        wanted = self._wanted
        operation: Operation = Delete(self._key) if wanted is None else self._put(wanted)
        await self._store.commit([], [operation])
        if wanted is None:
            self._telemetry.ready.bad(NAME, "withdrawn: nginx does not serve")
        else:
            self._telemetry.ready.good(NAME)
        return wanted

    def _put(self, wanted: Proxy) -> Put:
        return Put(self._key, encode(wanted), self._lease)

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
        except StoreError as error:
            self._telemetry.log.warning("the proxy's record stays until its lease ends: %s", error)
        self._lease = 0
