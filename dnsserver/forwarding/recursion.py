"""Names that are not ours: what is known of them, and what has to be asked.

Pure. Whether a client may ask is decided before anything is looked up, so that what others asked for is never told to
one who may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dnsserver.aging import Clock
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.health import Server
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.special_names import stays_here
from dnsserver.message import dname, wire
from dnsserver.message.wire import Ede, Query, Rcode, Reply
from dnsserver.outside import Asked, Outcome

NOT_OURS = Reply(Rcode.REFUSED, ede=Ede.NOT_AUTHORITATIVE)
NOT_FOR_YOU = Reply(Rcode.REFUSED, ede=Ede.PROHIBITED)
STANDS_ALONE = Reply(Rcode.NOERROR)
TOO_SHORT = Reply(Rcode.SERVFAIL)  # as SkyDNS says it
Servers = tuple[Server, ...]


class Recursion:
    """Other name servers, as far as a question needs to know of them.

    Args:
        cache: what they said.
        probes: names by which it is found out that we ask ourselves.
        clock: the time.
        ndots: names with fewer labels are not asked for; 0: all are.
        servers: whether there are forwarders; without, only the servers of stub zones are asked.
    """

    def __init__(self, cache: ForwardCache, probes: LoopProbes, clock: Clock, *, ndots: int, servers: bool) -> None:
        self._cache, self._probes, self._clock = cache, probes, clock
        self.ndots, self.servers = ndots, servers

    @property
    def most(self) -> int:
        """How many answers of others may be held."""
        return self._cache.most

    def refusal(self, query: Query, *, recursive: bool, stub: bool) -> Reply | None:
        """What is said to a question instead of asking others; None: they are asked.

        Args:
            query: the question.
            recursive: the client may have others asked.
            stub: there are name servers for just this name.
        """
        lower = query.name.lower()
        probe = self._probes.answer(lower)
        if probe is not None:
            return probe
        if not (self.servers or stub):
            return NOT_OURS
        if not recursive:
            return NOT_FOR_YOU
        if not query.flags & wire.RD:
            return NOT_OURS  # RFC 1034 §4.3.1: it asks for what we know ourselves
        if stub:
            return None
        if self.is_short(lower):
            return TOO_SHORT
        return stays_here(lower, query.type)

    def is_short(self, lower: bytes) -> bool:
        """True for a name in lower case with fewer labels than are forwarded."""
        return len(dname.labels_of(lower)) < self.ndots

    def asked(self, query: Query) -> Asked:
        """What others are asked."""
        do = query.edns is not None and query.edns.do
        return Asked(query.name.lower(), query.type, do, bool(query.flags & wire.CD))

    def known(self, asked: Asked) -> Outcome | None:
        """What others said a while ago, if it still counts."""
        found = self._cache.get(asked, self._clock.now)
        if found is not None and found.due:
            self._clock.due[asked] = None
        return found

    def forget_below(self, zones: Iterable[bytes]) -> None:
        """Let go of what others said of names at and below some zones: others are asked from now on."""
        for zone in zones:
            self._cache.drop_under(zone)

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.now

    def set(self, *, ndots: int, servers: bool) -> None:
        """Say anew what the constructor was told; what was answered before is to be forgotten."""
        self.ndots, self.servers = ndots, servers

    def outside(
        self, known: Mapping[Asked, Outcome], stub_of: Callable[[bytes], Servers], *, recursive: bool
    ) -> Outside | None:
        """What aliases that lead elsewhere may be followed with; None: nobody is asked (there is no forwarder)."""
        return Outside(self, known, stub_of, recursive=recursive) if self.servers else None


class Outside:
    """Names elsewhere, for one answer of ours.

    Args:
        recursion: what is known.
        known: what was just asked for this answer.
        stub_of: name servers of the stub zone that a name is in.
        recursive: the client may have others asked; else an alias stands alone.
    """

    def __init__(
        self,
        recursion: Recursion,
        known: Mapping[Asked, Outcome],
        stub_of: Callable[[bytes], Servers],
        *,
        recursive: bool,
    ) -> None:
        self._recursion, self._known, self._stub_of, self._recursive = recursion, known, stub_of, recursive

    def find(self, name: bytes, rtype: int) -> Reply | None:
        """What others say of a name in lower case, aliases first; None: they must be asked."""
        if not self._recursive:
            return STANDS_ALONE
        if not self._stub_of(name):
            if self._recursion.is_short(name):
                return STANDS_ALONE
            local = stays_here(name, rtype)
            if local is not None:
                return local
        asked = Asked(name, rtype)
        outcome = self._known.get(asked) or self._recursion.known(asked)
        return None if outcome is None else outcome.aged(self._recursion.now)
