"""One message in, one reply out: screen, cache, zone and writer put together.

Pure: no socket, no clock. The edge calls `udp` or `tcp` once for each message, and `apply_*` for each difference of the
store. What can be answered from what was answered before costs one dictionary look-up.

Answers that name addresses are held apart from those that say that there is nothing: a flood of made-up names pushes
out others of its kind only, and what is asked once is not held at all. Those carry an SOA, whose serial moves with
every change; it is put in when they are sent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from dnsserver import answer, wire
from dnsserver.answer import Answered, Authority
from dnsserver.cache import MAX_TURNS, Cache, Kept, turns
from dnsserver.rr import Type
from dnsserver.screen import screen
from dnsserver.wire import Ede, Query, Rcode, Reply, Written
from dnsserver.zone import Zone, widened
from pilotfish.catalog.mirror import Difference

MAX_KEPT = 100_000  # answers; about 60 MB of them at 300 octets with their index
MAX_KEPT_NOTHING = 10_000
MAX_OCTETS = 64 * 1024 * 1024
STALE_TTL = 30  # seconds; RFC 8767 §5
_SERIAL = 20  # octets from the serial to the end of an SOA record


class Data(Enum):
    """What the answers come from."""

    NONE = "none"  # nothing was read yet, neither from the store nor from a snapshot
    FRESH = "fresh"
    STALE = "stale"  # the store has been silent for longer than we trust it


class Transport(Enum):
    """How a question came."""

    UDP = "udp"
    TCP = "tcp"


class Counted(NamedTuple):
    """What is counted together."""

    transport: Transport
    type: str
    rcode: str


class _Side:
    """What is held for one transport: its answers differ in size."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.some = Cache(MAX_KEPT, MAX_OCTETS)
        self.nothing = Cache(MAX_KEPT_NOTHING, MAX_OCTETS)

        self._asked: set[bytes] = set()

    def asked_again(self, key: bytes) -> bool:
        """True for what was asked before: made-up names are asked once, and are not worth holding."""
        if key in self._asked:
            return True
        if len(self._asked) >= MAX_KEPT_NOTHING:
            self._asked.clear()
        self._asked.add(key)
        return False

    def limit(self, query: Query) -> int:
        return wire.MAX_TCP if self.transport is Transport.TCP else wire.udp_limit(query.edns)


class Responder:
    """Answers messages from a zone.

    Args:
        zone: what there is; from now on changed only through `apply_own` and `apply_foreign`.
        negative_ttl: seconds for which "no such name" may be kept.
    """

    def __init__(self, zone: Zone, negative_ttl: int) -> None:
        self.zone = zone
        self.misses = 0
        self.dropped = 0
        self._authority = Authority(0, negative_ttl)
        self._data = Data.NONE
        self._serial = 0
        self._serial_octets = bytes(4)
        self._revisions = {"own": 0, "foreign": 0}  # of the two mirrors
        self._tallies: dict[tuple[Transport, int | None, int], list[int]] = {}
        self._udp, self._tcp = _Side(Transport.UDP), _Side(Transport.TCP)
        self._udp_get = self._udp.some.get

    # --- messages

    def udp(self, message: bytes) -> bytes | None:
        """The reply to a datagram; None: there is none.

        Never raises. Cost: one look-up for what was asked before in the same way.
        """
        kept = self._udp_get(message[2:])
        if kept is None:
            return self._miss(message, self._udp)
        kept.tally[0] += 1
        return message[:2] + kept.body()

    def tcp(self, message: bytes) -> bytes | None:
        """The reply to a message that came over TCP, without the length in front; None: there is none."""
        kept = self._tcp.some.get(message[2:])
        if kept is None:
            return self._miss(message, self._tcp)
        kept.tally[0] += 1
        return message[:2] + kept.body()

    def _miss(self, message: bytes, side: _Side) -> bytes | None:
        kept = side.nothing.get(message[2:])
        if kept is None:
            query = screen(message)
            if query is None:
                self.dropped += 1
                return None
            if isinstance(query, bytes):
                self._tally(side.transport, None, _refusal_code(query))[0] += 1
                return query
            if len(query.plain) != len(message) - 2:  # it has options: what is held has none
                kept = side.some.get(query.plain) or side.nothing.get(query.plain)
            if kept is None:
                return message[:2] + self._made(query, side)
        kept.tally[0] += 1
        return message[:2] + kept.body()

    def _made(self, query: Query, side: _Side) -> bytes:
        """The body of a new answer, held from now on if it is worth it."""
        self.misses += 1
        answered = self._answered(query)
        reply = answered.reply
        written = wire.write(query, reply, side.limit(query))
        tally = self._tally(side.transport, query.type, reply.rcode)
        tally[0] += 1
        if reply.answer:
            bodies = _bodies(written)
            next_turn = turns(bodies)
            side.some.put(query.plain, Kept(next_turn, sum(map(len, bodies)), answered.depends, tally))
            return next_turn()
        if self._data is not Data.NONE and side.asked_again(query.plain):
            body = self._denial(written, query, reply)
            side.nothing.put(query.plain, Kept(body, len(written.body), answered.depends, tally))
        return written.body

    def _answered(self, query: Query) -> Answered:
        if self._data is Data.NONE and self.zone.covers(query.name.lower()):
            return Answered(Reply(Rcode.SERVFAIL, ede=Ede.NOT_READY), frozenset())
        found = answer.answer(self.zone, query.name, query.type, self._authority)
        return found._replace(reply=_as_stale(found.reply)) if self._data is Data.STALE else found

    def _denial(self, written: Written, query: Query, reply: Reply) -> Callable[[], bytes]:
        if not written.authority:
            return turns([written.body])
        end = len(written.body) - wire.opt_size(query.edns, reply)
        return _Denial(self, written.body[: end - _SERIAL], written.body[end - _SERIAL + 4 :])

    def _tally(self, transport: Transport, qtype: int | None, rcode: int) -> list[int]:
        # Types that clients make up must not become as many counters.
        key = (transport, qtype if qtype in _KNOWN_TYPES or qtype is None else _OTHER_TYPE, rcode)
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = [0]
        return found

    @property
    def serial_octets(self) -> bytes:
        """The serial as it stands in an SOA record."""
        return self._serial_octets

    # --- changes

    @property
    def data(self) -> Data:
        """What the answers come from."""
        return self._data

    def set_data(self, data: Data) -> None:
        """Say what the answers come from; another kind lets go of all finished ones."""
        if data is not self._data:
            self._data = data
            for cache in self._caches():
                cache.clear()

    def apply_own(self, difference: Difference) -> int:
        """Take in a difference of /pilotfish/v1/; returns how many finished answers went."""
        return self._changed("own", self.zone.own.apply(difference), difference)

    def apply_foreign(self, difference: Difference) -> int:
        """Take in a difference of the SkyDNS prefix; returns how many finished answers went."""
        return self._changed("foreign", self.zone.foreign.apply(difference), difference)

    def _changed(self, side: str, names: Iterable[bytes], difference: Difference) -> int:
        touched = widened(names)
        if self._move_serial(side, difference):
            touched.update(domain.name for domain in self.zone.domains)  # the apex answers with it
        return sum(cache.drop(touched) for cache in self._caches())

    # RFC 1982: the serial only moves on; the two sides come each at its own pace. Only a store that began anew takes
    # it back.
    def _move_serial(self, side: str, difference: Difference) -> bool:
        anew = difference.started_over and difference.revision < self._revisions[side]
        self._revisions[side] = difference.revision
        highest = max((entry.mod_revision for entry in difference.puts), default=0)
        if difference.deletes:
            highest = max(highest, difference.revision)
        serial = max(self._revisions.values()) if anew else max(highest, self._serial)
        if serial == self._serial:
            return False
        self._serial = serial
        self._authority = Authority(serial, self._authority.negative_ttl)
        self._serial_octets = struct.pack("!I", serial & 0xFFFFFFFF)
        return True

    def _caches(self) -> tuple[Cache, ...]:
        return self._udp.some, self._udp.nothing, self._tcp.some, self._tcp.nothing

    # --- what it shows

    def counts(self) -> dict[Counted, int]:
        """Messages answered so far."""
        return {
            Counted(transport, _type_name(qtype), Rcode(rcode).name): cell[0]
            for (transport, qtype, rcode), cell in self._tallies.items()
        }

    @property
    def kept(self) -> int:
        """Finished answers held."""
        return sum(len(cache) for cache in self._caches())

    @property
    def serial(self) -> int:
        """The highest revision of the zone."""
        return self._serial


class _Denial:
    """A negative answer, cut where the serial goes."""

    __slots__ = ("_head", "_responder", "_tail")

    def __init__(self, responder: Responder, head: bytes, tail: bytes) -> None:
        self._responder, self._head, self._tail = responder, head, tail

    def __call__(self) -> bytes:
        return self._head + self._responder.serial_octets + self._tail


def _bodies(written: Written) -> list[bytes]:
    counts = [(end - start) // size for start, end, size in written.runs]
    room = max(1, 16384 // len(written.body))  # a large answer is not held many times
    return [wire.turned(written, by) for by in range(min(max(counts, default=1), MAX_TURNS, room))]


def _as_stale(reply: Reply) -> Reply:
    """The same as data that could not be confirmed (RFC 8767 §4), and a word about it (RFC 8914 §4.4, §4.20)."""
    return reply._replace(
        answer=[record._replace(ttl=STALE_TTL) for record in reply.answer],
        additional=[record._replace(ttl=STALE_TTL) for record in reply.additional],
        ede=reply.ede or _STALE.get(reply.rcode),
    )


_STALE = {Rcode.NOERROR: Ede.STALE, Rcode.NXDOMAIN: Ede.STALE_NXDOMAIN}


# BADVERS is the one refusal whose code does not fit in the header.
def _refusal_code(reply: bytes) -> int:
    return (reply[3] & 0xF) or Rcode.BADVERS


def _type_name(qtype: int | None) -> str:
    if qtype is None:
        return "-"
    return "other" if qtype == _OTHER_TYPE else Type(qtype).name


_KNOWN_TYPES = frozenset(Type)
_OTHER_TYPE = -1
