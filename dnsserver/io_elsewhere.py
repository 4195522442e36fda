"""What others must be asked: from a message that cannot be answered yet to its reply.

One message may need several look-ups, and more after those (an alias leads to an alias). Each is bounded by the
forwarder; here the rounds are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from dnsserver.forwarding.io_forward import Forwarder
from dnsserver.outside import Asked, Outcome
from dnsserver.responder import Responder
from dnsserver.transport.later import Wanted

MAX_ROUNDS = 8  # aliases in a row; SkyDNS's limit
AGAIN_S = 0.25  # how often answers that end soon are looked for


class Elsewhere:
    """Brings a responder and a forwarder together.

    Args:
        responder: says what must be asked, and goes on with what came of it.
        forwarder: asks.
    """

    def __init__(self, responder: Responder, forwarder: Forwarder) -> None:
        self._responder, self._forwarder = responder, forwarder

    def defer(self, wanted: Wanted, send: Callable[[bytes], None]) -> None:
        """Ask what must be asked, then send the reply; it is sent once, within the forwarder's bounds."""
        _Errand(self._responder, self._forwarder, send).go(wanted)

    async def run(self) -> None:
        """Ask again for what ends soon, for ever."""
        due = self._responder.clock.due
        while True:
            await asyncio.sleep(AGAIN_S)
            while due:
                asked, _ = due.popitem()
                self._forwarder.refresh(asked, self._responder.zone.stub_of(asked.name))


class _Errand:
    """One message on its way."""

    __slots__ = ("_forwarder", "_outcomes", "_responder", "_rounds", "_send")

    def __init__(self, responder: Responder, forwarder: Forwarder, send: Callable[[bytes], None]) -> None:
        self._responder, self._forwarder, self._send = responder, forwarder, send
        self._outcomes: dict[Asked, Outcome] = {}
        self._rounds = 0

    def go(self, wanted: Wanted) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            self._send(self._responder.give_up(wanted))
            return
        missing = set(wanted.lookups)
        for asked in wanted.lookups:
            servers = wanted.servers or self._responder.zone.stub_of(asked.name)
            self._forwarder.ask(asked, partial(self._came, wanted, missing, asked), servers)

    def _came(self, wanted: Wanted, missing: set[Asked], asked: Asked, outcome: Outcome) -> None:
        self._outcomes[asked] = outcome
        missing.discard(asked)
        if missing:
            return
        told = self._responder.resume(wanted, self._outcomes)
        if isinstance(told, Wanted):
            self.go(told)
        else:
            self._send(told)
