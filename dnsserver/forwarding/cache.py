"""What name servers elsewhere said, kept for as long as they allow, and a while longer in case they fall silent.

Pure: the clock is an argument, monotonic seconds. Bounded in answers and octets; what was not asked for longest goes
first. Names that do not exist have their own room, so that made-up ones push out only each other.

Invariants:
- an answer is given only for what it was an answer to: name, type, DO and CD;
- it is given as fresh no longer than its least TTL, and a failure never hides it (RFC 9520 §3.2, RFC 8767 §5);
- TTLs in an Outcome are those at `since`; what it says now is said by `Outcome.aged`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from dnsserver.message.dname import is_under
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Ede, Rcode, Reply
from dnsserver.outside import Asked, Outcome, with_ttls

MAX_NEGATIVE_S = 900  # for "no such name" and "no such data"; RFC 2308 §5 asks for one to three hours at most
STALE_TTL = 30  # seconds; RFC 8767 §5
FAILED_S, MAX_FAILED_S = 1.0, 30.0  # how long a failure is repeated: at first, and at most; RFC 9520 §3.2
MAX_FAILED = 10_000  # failures remembered
MAX_OCTETS = 64 * 1024 * 1024
POPULAR = 2  # asked for so often since it came: worth asking again before it ends
NEARLY_OVER = 0.1  # part of its life
NOTHINGS = 5  # one in so many of all answers held may be negative

_ENTRY_OCTETS, _RECORD_OCTETS = 700, 330  # of Python's own, measured
_STALE_EDE = {Rcode.NOERROR: Ede.STALE, Rcode.NXDOMAIN: Ede.STALE_NXDOMAIN}
_MINIMUM = slice(16, 20)  # of the numbers in an SOA record


class _Entry:
    __slots__ = ("asked_for", "due_at", "octets", "outcome")

    def __init__(self, outcome: Outcome, octets: int) -> None:
        self.outcome, self.octets = outcome, octets
        self.asked_for = 0
        self.due_at = outcome.expires - NEARLY_OVER * (outcome.expires - outcome.since)


class _Failure(NamedTuple):
    reply: Reply
    until: float
    lasts_s: float


class _Shelf:
    """Entries of one kind; the one that was not asked for longest is first."""

    def __init__(self, most: int, most_octets: int) -> None:
        self._most, self._most_octets = most, most_octets
        self.entries: OrderedDict[Asked, _Entry] = OrderedDict()
        self.octets = 0

    def put(self, asked: Asked, entry: _Entry) -> None:
        self.remove(asked)
        self.entries[asked] = entry
        self.octets += entry.octets
        while len(self.entries) > self._most or self.octets > self._most_octets:
            self.remove(next(iter(self.entries)))

    def remove(self, asked: Asked) -> None:
        entry = self.entries.pop(asked, None)
        if entry is not None:
            self.octets -= entry.octets


class ForwardCache:
    """Outcomes by what was asked.

    Args:
        most: answers held; 0: none.
        stale_for_s: how long after its end an answer is still kept for when no name server answers.
        most_octets: of all answers together, about.

    Attributes:
        most: see the arguments.
        hits: answers given as fresh.
        stale: answers given after their end.
        misses: questions without an answer here.
        epoch: another one as soon as others are to be asked; what was asked before is not taken in any more.
    """

    def __init__(self, most: int, stale_for_s: float, most_octets: int = MAX_OCTETS) -> None:
        self.most = most
        nothings = most // NOTHINGS
        self._some = _Shelf(most - nothings, most_octets - most_octets // NOTHINGS)
        self._nothing = _Shelf(nothings, most_octets // NOTHINGS)
        self._failures: OrderedDict[Asked, _Failure] = OrderedDict()
        self._stale_for_s = stale_for_s
        self.hits = self.stale = self.misses = 0
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._some.entries) + len(self._nothing.entries)

    @property
    def octets(self) -> int:
        """Octets of all answers held, about."""
        return self._some.octets + self._nothing.octets

    def get(self, asked: Asked, now: float) -> Outcome | None:
        """What may be said without asking; None: somebody must be asked.

        While name servers are failing that is an answer past its end, or the failure. `due` is set once in the life of
        an answer: who sees it asks anew.
        """
        shelf = self._some
        entry = shelf.entries.get(asked)
        if entry is None:
            shelf = self._nothing
            entry = shelf.entries.get(asked)
        if entry is None or now >= entry.outcome.expires:
            return self._failed(asked, now)
        shelf.entries.move_to_end(asked)
        self.hits += 1
        entry.asked_for += 1
        if now < entry.due_at or entry.asked_for <= POPULAR:
            return entry.outcome
        entry.due_at = entry.outcome.expires
        return entry.outcome._replace(due=True)

    def _failed(self, asked: Asked, now: float) -> Outcome | None:
        failure = self._failures.get(asked)
        if failure is None or now >= failure.until:
            self.misses += 1
            return None
        return self.past_its_end(asked, now, failure.until) or Outcome(failure.reply, now, failure.until)

    def past_its_end(self, asked: Asked, now: float, until: float = 0.0) -> Outcome | None:
        """An answer whose time is over, for when nobody gives a new one (RFC 8767); to be repeated until `until`."""
        entry = self._kept(asked, now)
        if entry is None:
            return None
        self.stale += 1
        return Outcome(_as_stale(entry.outcome.reply), now, max(now, until))

    def has_stale(self, asked: Asked, now: float) -> bool:
        """True when `past_its_end` has something."""
        return self._kept(asked, now) is not None

    def _kept(self, asked: Asked, now: float) -> _Entry | None:
        for shelf in (self._some, self._nothing):
            entry = shelf.entries.get(asked)
            if entry is not None:
                if now < entry.outcome.expires + self._stale_for_s:
                    return entry
                shelf.remove(asked)
        return None

    def put(self, asked: Asked, reply: Reply, now: float) -> Outcome:
        """Take in an answer, NOERROR or NXDOMAIN; returns it as it is to be given.

        It is held when it may be: TTL 0 and negative answers without an SOA are for those only who wait for them
        (RFC 1123 §6.1.2.1, RFC 2308 §5).
        """
        reply, lasts_s = _lasting(reply)
        outcome = Outcome(reply, now, now + lasts_s)
        for held in (self._some, self._nothing):
            held.remove(asked)
        self._failures.pop(asked, None)
        if lasts_s:
            shelf = self._nothing if _is_negative(reply) else self._some
            shelf.put(asked, _Entry(outcome, _octets(asked, reply)))
        return outcome

    def put_failure(self, asked: Asked, reply: Reply, now: float) -> Outcome:
        """Take in that nobody gave an answer; returns what is to be said: an older answer if there is one.

        It is repeated for 1 s, twice as long after each further failure, at most for 30 s (RFC 9520 §3.2).
        """
        before = self._failures.pop(asked, None)
        again = before is not None and now - before.until < MAX_FAILED_S
        lasts_s = min(before.lasts_s * 2, MAX_FAILED_S) if before is not None and again else FAILED_S
        until = now + lasts_s
        self._failures[asked] = _Failure(reply, until, lasts_s)
        if len(self._failures) > MAX_FAILED:
            self._failures.popitem(last=False)
        entry = self._kept(asked, now)
        if entry is not None and now < entry.outcome.expires:
            return entry.outcome
        return self.past_its_end(asked, now, until) or Outcome(reply, now, until)

    def drop_under(self, zone: bytes) -> int:
        """Let go of everything at and below a name: others are asked about it from now on. Cost: all that is held."""
        self.epoch += 1
        before = len(self)
        for shelf in (self._some, self._nothing):
            for asked in [asked for asked in shelf.entries if is_under(asked.name, zone)]:
                shelf.remove(asked)
        for asked in [asked for asked in self._failures if is_under(asked.name, zone)]:
            del self._failures[asked]
        return before - len(self)

    def clear(self) -> None:
        """Let go of everything: others are asked from now on."""
        self.epoch += 1
        self._failures.clear()
        for shelf in (self._some, self._nothing):
            for asked in list(shelf.entries):
                shelf.remove(asked)


def _is_negative(reply: Reply) -> bool:
    return len(reply.answer) <= reply.fence


def _as_stale(reply: Reply) -> Reply:
    return with_ttls(reply, lambda _: STALE_TTL)._replace(ede=_STALE_EDE.get(reply.rcode), authentic=False)


def _lasting(reply: Reply) -> tuple[Reply, int]:
    """A reply, its SOA with the TTL that a negative answer has, and how many seconds all of it lasts."""
    if _is_negative(reply):
        if not any(record.type == Type.SOA for record in reply.authority):
            return reply, 0
        reply = reply._replace(authority=tuple(map(_as_negative, reply.authority)))
    return reply, min(record.ttl for record in (*reply.answer, *reply.authority))


# RFC 2308 §5: the least of the SOA's own TTL and its MINIMUM field.
def _as_negative(record: Record) -> Record:
    if record.type != Type.SOA:
        return record
    minimum = int.from_bytes(record.data.tail[_MINIMUM])
    return record._replace(ttl=min(record.ttl, minimum, MAX_NEGATIVE_S))


def _octets(asked: Asked, reply: Reply) -> int:
    records = (*reply.answer, *reply.authority)
    data = sum(len(d.head) + len(d.tail) + sum(map(len, d.names)) for _, _, _, d in records)
    return _ENTRY_OCTETS + len(asked.name) + len(records) * _RECORD_OCTETS + data
