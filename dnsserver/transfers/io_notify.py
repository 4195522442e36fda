"""Tells secondaries that a zone changed, until they say that they heard it (RFC 1996 §3.6).

Changes within a second are told once. Each secondary is told of each zone by itself: one that is away keeps no other
waiting. A change while one is being told of the last begins anew, with the newest serial.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence

from dnsserver.access import is_here_only
from dnsserver.message import dname
from dnsserver.message.rr import Record
from dnsserver.message.wire import Rcode
from dnsserver.transfers import notify
from pilotfish.catalog.values import join_host_port

Address = tuple[str, int]

QUIET_S = 1.0  # between two notices of one zone to one secondary
TRIES_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # how long each try waits for its reply
MOST_WRONG = 16  # datagrams that are no reply to a try; then the next begins
_SIZE = 4096


class Notifier:
    """Notices to secondaries.

    Args:
        secondaries: who is told; address and port.
        soas: the zones' SOA records, as they are when asked.
        log: where it is said who did not hear it.
        listening: where we answer: secondaries expect to hear from the address that they ask at.
        tries_s: see TRIES_S.
        quiet_s: see QUIET_S.
    """

    def __init__(
        self,
        secondaries: Iterable[Address],
        soas: Callable[[], Sequence[Record]],
        log: logging.Logger,
        listening: Callable[[], Iterable[Address]] = tuple,
        *,
        tries_s: Sequence[float] = TRIES_S,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._secondaries = tuple(secondaries)
        self._soas, self._log, self._listening = soas, log, listening
        self._tries_s, self._quiet_s = tuple(tries_s), quiet_s
        self._changed = asyncio.Event()
        self._tasks: dict[tuple[bytes, Address], asyncio.Task[None]] = {}
        self._told: dict[tuple[bytes, Address], Record] = {}

    def changed(self) -> None:
        """Some zone changed."""
        self._changed.set()

    async def run(self) -> None:
        """Tell of changes until cancelled."""
        try:
            while self._secondaries:
                await self._changed.wait()
                self._changed.clear()
                for soa in self._soas():
                    for secondary in self._secondaries:
                        self._begin(soa, secondary)
                await asyncio.sleep(self._quiet_s)
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _begin(self, soa: Record, secondary: Address) -> None:
        key = soa.owner, secondary
        if self._told.get(key) == soa:
            return
        self._told[key] = soa
        before = self._tasks.get(key)
        if before is not None:
            before.cancel()
        self._tasks[key] = asyncio.get_running_loop().create_task(self._tell(soa, secondary))

    async def _tell(self, soa: Record, secondary: Address) -> None:
        for wait_s in self._tries_s:
            try:
                said = await self._tried(soa, secondary, wait_s)
            except OSError as error:  # an ICMP error ends a try early (RFC 1996 §3.6), not the whole
                said = None
                self._log.debug("%s: %s", join_host_port(*secondary), error)
                await asyncio.sleep(wait_s)
            if said is not None:
                self._say(soa, secondary, said)
                return
        self._log.warning(
            "secondary %s was told that %s changed, and does not answer",
            join_host_port(*secondary),
            dname.to_text(soa.owner),
            extra={"cause": f"notify {secondary}"},
        )

    def _say(self, soa: Record, secondary: Address, said: int) -> None:
        if said != Rcode.NOERROR:
            known = {code.value: code.name for code in Rcode}
            self._log.warning(
                "secondary %s says %s to the notice that %s changed: it has to allow it from this host",
                join_host_port(*secondary),
                known.get(said, str(said)),
                dname.to_text(soa.owner),
                extra={"cause": f"notify {secondary}"},
            )

    async def _tried(self, soa: Record, secondary: Address, wait_s: float) -> int | None:
        loop = asyncio.get_running_loop()
        sent = notify.message(secrets.randbelow(65536), soa)
        with self._opened(secondary) as opened:
            await loop.sock_connect(opened, secondary)
            await loop.sock_sendall(opened, sent)
            try:
                async with asyncio.timeout(wait_s):
                    for _ in range(MOST_WRONG):
                        said = notify.outcome(await loop.sock_recv(opened, _SIZE), sent)
                        if said is not None:
                            return said
            except TimeoutError:
                return None
        return None

    def _opened(self, secondary: Address) -> socket.socket:
        family = _family(secondary[0])
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        for ip in _sources((ip for ip, _ in self._listening() if _family(ip) == family), secondary[0]):
            try:
                opened.bind((ip, 0))
                break
            except OSError:
                continue  # gone meanwhile: whatever address the kernel takes
        return opened


def _sources(ours: Iterable[str], secondary: str) -> list[str]:
    """Where to speak from, best first: loopback is reached from every address of a host, others not from loopback."""
    here = is_here_only(secondary)
    return sorted((ip for ip in ours if here or not is_here_only(ip)), key=lambda ip: is_here_only(ip) != here)


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
