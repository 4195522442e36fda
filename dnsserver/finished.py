"""Finished answers of one transport, and where they are looked for.

Pure. Answers that name something are held apart from those that say that there is nothing, and both from what others
told us: a flood of one kind pushes out only its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from dnsserver.access import Clients
from dnsserver.cache import Cache, Kept
from dnsserver.denial import Denials
from dnsserver.message import wire, writer
from dnsserver.message.wire import Query
from dnsserver.message.writer import Written

NAME_OCTETS = 150  # for each name that an answer depends on, about: it is in an index
SERIAL_END = 20  # octets from the serial to the end of an SOA record
MAX_KEPT = 100_000  # answers; about 60 MB of them at 300 octets with their index
MAX_KEPT_NOTHING = 10_000
MAX_OCTETS = 64 * 1024 * 1024
MAX_OCTETS_NOTHING = 8 * 1024 * 1024


class Data(Enum):
    """What the answers come from."""

    NONE = "none"  # nothing was read yet, neither from the store nor from a snapshot
    FRESH = "fresh"
    STALE = "stale"  # the store has been silent for longer than we trust it


class Transport(Enum):
    """How a question came."""

    UDP = "udp"
    TCP = "tcp"


class Finished:
    """What is held for one transport: its answers differ in size from those of the other.

    Args:
        transport: which.
        serial: octets of the SOA's serial.
        recursive: who may be told what is `beyond`.
        most_beyond: how much of that is held.

    Attributes:
        transport: which.
        recursive: see the arguments.
        some: answers that name something of ours.
        nothing: answers that say that a name of ours has no such data.
        denials: answers for names that do not exist.
        beyond: what name servers elsewhere said.
    """

    def __init__(self, transport: Transport, serial: bytes, recursive: Clients, most_beyond: int = MAX_KEPT) -> None:
        self.transport, self.recursive = transport, recursive
        self.some = Cache(MAX_KEPT, MAX_OCTETS)
        self.nothing = Cache(MAX_KEPT_NOTHING, MAX_OCTETS_NOTHING)
        self.denials = Denials(serial)
        self.beyond = Cache(min(MAX_KEPT, most_beyond), MAX_OCTETS)
        self._asked: set[bytes] = set()

    def find(self, key: bytes, client: bytes) -> bytes | None:
        """The body of a finished answer, counted; None: there is none.

        Args:
            key: a message without its id.
            client: octets of the address of who asks.
        """
        kept = self._kept(key, client)
        return self.denials.find(key) if kept is None else _counted(kept)

    def find_for(self, query: Query, client: bytes) -> bytes | None:
        """The same for a question that may be spelled in any way; the body has it as it was asked."""
        kept = self._kept(query.plain, client)
        if kept is None:
            return self.denials.find(query.spelled)
        if query.plain == query.spelled:
            return _counted(kept)
        body = _counted(kept) if kept.apart else None
        return None if body is None else writer.respelled(body, query.question)

    def _kept(self, key: bytes, client: bytes) -> Kept | None:
        kept = self.some.get(key) or self.nothing.get(key)
        if kept is not None:
            return kept
        kept = self.beyond.get(key)
        return kept if kept is not None and self.recursive.allows(client) else None

    def asked_again(self, key: bytes) -> bool:
        """True for what was asked before: what is asked once is not worth holding."""
        if key in self._asked:
            return True
        if len(self._asked) >= MAX_KEPT_NOTHING:
            self._asked.clear()
        self._asked.add(key)
        return False

    def limit(self, query: Query) -> int:
        """Most octets of an answer, id included."""
        return wire.MAX_TCP if self.transport is Transport.TCP else wire.udp_limit(query.edns)

    def drop(self, names: Iterable[bytes], patterns: Iterable[bytes]) -> int:
        """Let go of what depends on one of the names; returns how many there were.

        Args:
            names: for answers.
            patterns: for what is said of names that do not exist.
        """
        caches = self.some, self.nothing, self.beyond
        return sum(cache.drop(names) for cache in caches) + self.denials.drop(patterns)

    def drop_below(self, zones: Iterable[bytes]) -> int:
        """Let go of all that is said of names at and below some zones; returns how much there was.

        Cost: all that is held; zones get other name servers seldom.
        """
        ends = tuple(zones)
        if not ends:
            return 0
        gone = sum(held.drop_below(ends) for held in self._all())
        return gone + self.beyond.drop_asked(ends)

    def clear(self) -> None:
        """Let go of all."""
        for held in self._all():
            held.clear()

    def __len__(self) -> int:
        return sum(map(len, self._all()))

    def _all(self) -> tuple[Cache | Denials, ...]:
        return self.some, self.nothing, self.denials, self.beyond


def octets_of(written: Written, depends: Collection[bytes], *, turning: bool) -> int:
    """What it takes to hold an answer: all its orders, and the names by which it is found."""
    return len(written.body) * writer.orders(written, turning=turning) + NAME_OCTETS * len(depends)


def _counted(kept: Kept) -> bytes | None:
    body = kept.body()
    if body is not None:
        kept.tally[0] += 1
    return body


class Denial:
    """An answer without data, or with aliases that lead to none, given again with the serial of now.

    Args:
        side: where it is held.
        written: the answer.
    """

    __slots__ = ("_after", "_before", "_side")

    def __init__(self, side: Finished, written: Written) -> None:
        at = len(written.body) - written.opt - SERIAL_END
        self._side = side
        self._before, self._after = written.body, b""
        if written.authority:
            self._before, self._after = written.body[:at], written.body[at + 4 :]

    def __call__(self) -> bytes:
        """The body as of now."""
        return self._before + self._side.denials.serial + self._after if self._after else self._before
