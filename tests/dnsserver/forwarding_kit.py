"""A server without sockets that has a forwarder: what others say is a table, and the time is a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnsserver.access import Clients
from dnsserver.aging import Clock
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.recursion import Recursion
from dnsserver.guests import Guests, Policy
from dnsserver.message import dname, rr
from dnsserver.message.wire import Rcode, Reply
from dnsserver.outside import Asked, Outcome
from dnsserver.transport.later import Wanted
from tests.dnsserver.kit import Said, World, question, record_of, said

CLIENT = bytes((127, 0, 0, 1))
MAX_ROUNDS = 12


def found(*rows: str) -> Reply:
    """What others say of a name that exists: rows as `said` gives them."""
    return Reply(Rcode.NOERROR, answer=[record_of(row) for row in rows])


def no_such_name(zone: str, ttl: int = 900) -> Reply:
    """What others say of a name that does not exist."""
    name = dname.from_text(zone)
    data = rr.soa(b"\x02ns" + name, b"\x0ahostmaster" + name, rr.Soa(1, 2, 3, 4, ttl))
    return Reply(Rcode.NXDOMAIN, authority=[rr.Record(name, rr.Type.SOA, ttl, data)])


class Forwarding(World):
    """A World whose questions about other names are answered by a function.

    Args:
        others: what others say to a question; None: they may not be asked.
    """

    def __init__(self, others: Callable[[Asked], Reply | None], **options: Any) -> None:
        self.clock, self.others = Clock(1000.0), others
        self.cache = ForwardCache(1000, 0.0)
        recursion = Recursion(self.cache, LoopProbes("0" * 32), self.clock, ndots=0, servers=True)
        guests = Guests(Policy(recursive=Clients(("127.0.0.0/8",))), clock=self.clock)
        super().__init__(guests=guests, recursion=recursion, **options)

    def begin(self, name: str, rtype: str = "A", **options: Any) -> bytes | Wanted | None:
        """What the server says at once."""
        return self.responder.udp(question(f"{name}.", rtype, **options), CLIENT)

    def end(self, told: bytes | Wanted | None) -> bytes:
        """The answer, after others were asked as often as it needs."""
        outcomes: dict[Asked, Outcome] = {}
        for _ in range(MAX_ROUNDS):
            if not isinstance(told, Wanted):
                break
            for asked in told.lookups:
                reply = self.others(asked)
                assert reply is not None, f"{asked} was asked again"
                outcomes[asked] = self.cache.put(asked, reply, self.clock.now)
            told = self.responder.resume(told, outcomes)
        else:
            told = self.responder.give_up(told)
        assert isinstance(told, bytes)
        return told

    def ask(self, name: str, rtype: str = "A", *, tcp: bool = False, **options: Any) -> Said:
        assert not tcp
        return said(self.end(self.begin(name, rtype, **options)))
