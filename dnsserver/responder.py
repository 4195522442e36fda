"""One message in, one reply out: screen, finished answers, zone and writer put together.

Pure: no socket, no clock. The edge calls `udp` or `tcp` once for each message, and `apply_*` for each difference of the
store. What can be answered from what was answered before costs one dictionary look-up.

Whoever must be asked elsewhere is named by a Wanted; `resume` goes on with what came of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from dnsserver import answer, cut
from dnsserver.aging import Aging
from dnsserver.answer import Answered, Authority
from dnsserver.cache import Kept
from dnsserver.finished import Data, Finished, Transport, octets_of
from dnsserver.forwarding.recursion import NOT_OURS, Outside, Recursion, Servers
from dnsserver.guests import Guest, Guests, Policy
from dnsserver.holding import Made, place
from dnsserver.message import dname, wire, writer
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Ede, Malformed, Query, Rcode, Reply
from dnsserver.message.writer import Written
from dnsserver.outside import Asked, Outcome
from dnsserver.rate import Verdict
from dnsserver.screen import refusal_code, screen
from dnsserver.stale import as_stale
from dnsserver.tallies import Counted, Tallies
from dnsserver.transfers.serial import Serial
from dnsserver.transfers.transfer import Transfers
from dnsserver.transport.later import Transfer, Wanted
from dnsserver.zone import Changed, Zone, widened
from pilotfish.catalog.mirror import Difference

BUILT = 3  # tokens that an answer costs more when it has to be made; see rate.Limiter

Told = bytes | Wanted | Transfer | None


class Responder:
    """Answers messages from a zone.

    Args:
        zone: what there is; from now on changed only through `apply_own` and `apply_foreign`.
        negative_ttl: seconds for which "no such name" may be kept.
        guests: what is done for whom.
        recursion: names that are not ours; None: they are refused.
    """

    def __init__(
        self, zone: Zone, negative_ttl: int, guests: Guests | None = None, recursion: Recursion | None = None
    ) -> None:
        self.misses = self.dropped = self._turn = 0
        self.guests = guests or Guests()
        self.clock = self.guests.clock
        self._recursion = recursion
        self._authority = Authority(0, negative_ttl)
        self._data = Data.NONE
        self._serial = Serial()
        self.set_zone(zone)
        self._tallies = Tallies()
        self._cell = self._tallies.cell
        recursive, beyond = self.guests.policy.recursive, recursion.most if recursion else 0
        self._udp, self._tcp = (Finished(transport, bytes(4), recursive, beyond) for transport in Transport)
        # What the edge may look up by itself: answers over UDP, by message without id.
        self.hot: Callable[[bytes], Kept | None] = self._udp.some.get

    # --- messages

    def udp(self, message: bytes, client: bytes = b"") -> bytes | Wanted | None:
        """The reply to a datagram; None: there is none.

        Args:
            message: what came.
            client: octets of the address that it came from, 4 or 16.

        Never raises. Cost: one look-up for what was asked before in the same way.
        """
        if self.guests.limiter is not None:
            verdict = self.guests.limit(message[2:], client)
            if verdict is not Verdict.PASS:
                return self._limited(message, verdict)
        told = self._told(message, client, self._udp)
        return None if isinstance(told, Transfer) else told

    def tcp(self, message: bytes, client: bytes = b"") -> Told:
        """The reply to a message that came over TCP, without the length in front; None: there is none."""
        return self._told(message, client, self._tcp)

    def _told(self, message: bytes, client: bytes, side: Finished) -> Told:
        key = message[2:]
        found = self.guests.by_cookie(key, client)  # most who send options send a cookie, and nothing else
        if found is None:
            body = side.find(key, client)
        elif (body := side.find(found.plain, client)) is not None:
            body = found.finished(body)
        if body is not None:
            return message[:2] + body
        query = screen(message)
        if query is None:
            self.dropped += 1
            return None
        if isinstance(query, bytes):
            self._cell(side.transport, None, refusal_code(query))[0] += 1
            return query
        return self._asked(query, message[:2], client, side)

    def _asked(self, query: Query, number: bytes, client: bytes, side: Finished) -> Told:
        try:
            guest = self.guests.welcome(query, client, tcp=side.transport is Transport.TCP)
        except Malformed:
            self._cell(side.transport, query.type, Rcode.FORMERR)[0] += 1
            return number + writer.write(query, Reply(Rcode.FORMERR), wire.MAX_PLAIN_UDP).body
        body = side.find_for(query, client)
        told = self._fresh(query, guest, side) if body is None else body
        if isinstance(told, Wanted):
            return told._replace(id=number)
        if isinstance(told, Transfer):
            return Transfer(number + body if body else body for body in told.messages)
        return number + self._fitted(query, told, guest, side) if isinstance(told, bytes) else told

    def _fitted(self, query: Query, body: bytes, guest: Guest, side: Finished) -> bytes:
        """The body as this guest asked, with what is for him alone; made anew when that leaves it too long."""
        finished = guest.finished(body)
        limit = side.limit(query) - 2
        if len(finished) <= limit:
            return finished
        told = self._fresh(query, guest._replace(tight=True), side)
        short = told if isinstance(told, bytes) else writer.truncated(query)
        given = (guest.finished(short), guest._replace(nsid=b"").finished(short), short)
        return next((one for one in given if len(one) <= limit), short)

    def _limited(self, message: bytes, verdict: Verdict) -> bytes | None:
        if verdict is not Verdict.SLIP:
            return None
        if (short := cut.over_tcp(message)) is not None:
            return short
        query = screen(message)
        return message[:2] + writer.truncated(query) if isinstance(query, Query) else None

    def _fresh(self, query: Query, guest: Guest, side: Finished) -> Told:
        if query.klass == wire.CLASS_CHAOS or not query.question:
            return self._written(query, self.guests.chaos(query), side, guest).body
        if query.type in {Type.AXFR, Type.IXFR}:
            return self._transferred(query, guest, side)
        lower = query.name.lower()
        servers = self.zone.stub_of(lower)
        known = self.zone.answers(lower) or (self._data is Data.NONE and self.zone.covers(lower))
        if known and not servers:
            return self._made(query, guest, side)
        if guest.options.stub_guard:  # SkyDNS's: it was sent on for a stub zone, and would be sent on again
            self.dropped += 1
            return None
        return self._elsewhere(query, guest, side, servers)

    def _transferred(self, query: Query, guest: Guest, side: Finished) -> Told:
        if not guest.transfers:
            return self._written(query, Reply(Rcode.REFUSED, ede=Ede.PROHIBITED), side, guest).body
        if self._data is Data.NONE:
            return self._written(query, Reply(Rcode.SERVFAIL, ede=Ede.NOT_READY), side, guest).body
        told = self._transfers.reply(query, tcp=side.transport is Transport.TCP)
        if isinstance(told, Reply):
            return self._written(query, told, side, guest).body
        self._cell(side.transport, query.type, Rcode.NOERROR)[0] += 1
        return Transfer(told)

    # --- our names

    def _made(
        self, query: Query, guest: Guest, side: Finished, known: Mapping[Asked, Outcome] | None = None
    ) -> bytes | Wanted:
        """The body of a new answer, held from now on if it is worth it."""
        self.misses += 1
        folded = query.folded()
        outside = self._outside(known or {}, query, guest)
        if side.transport is Transport.UDP and self.guests.limiter is not None and not guest.proven:
            self.guests.limiter.charge(guest.client, self.clock.now, BUILT)
        answered = self._answered(folded, outside)
        if answered.lookups:
            return Wanted(b"", query, guest.client, side.transport is Transport.TCP, answered.lookups, ())
        written = self._written(folded, answered.reply, side, guest)
        body = self._held(folded, answered, written, side, guest)
        return self._spelled(query, answered.reply, written, body, side.limit(folded) - guest.room)

    def _outside(self, known: Mapping[Asked, Outcome], query: Query, guest: Guest) -> Outside | None:
        if self._recursion is None:
            return None
        recursive = guest.recursive and bool(query.flags & wire.RD)  # RFC 1034 §4.3.1
        return self._recursion.outside(known, self.zone.stub_of, recursive=recursive)

    def _answered(self, query: Query, outside: Outside | None) -> Answered:
        if self._data is Data.NONE:
            return Answered(Reply(Rcode.SERVFAIL, ede=Ede.NOT_READY), frozenset())
        found = answer.answer(self.zone, query.name, query.type, self._authority, outside)
        return found._replace(reply=as_stale(found.reply)) if self._data is Data.STALE else found

    def _held(self, query: Query, answered: Answered, written: Written, side: Finished, guest: Guest) -> bytes:
        reply, key = answered.reply, query.plain
        # What failed elsewhere may work at once; what is too much is so until something changes, and costs most.
        failed = reply.rcode == Rcode.SERVFAIL and not answered.too_much
        if guest.tight or self._data is Data.NONE or failed:
            return written.body
        tally = self._cell(side.transport, query.type, reply.rcode)
        made, turning = Made(query, answered, written, tally), self.guests.turning
        where, body = place(made, side, self.zone, self.clock, turning=turning, recursive=guest.recursive)
        if where is None or body is None:
            return written.body
        octets = octets_of(written, answered.depends, turning=turning)
        where.put(key, Kept(body, octets, answered.depends, tally, apart=written.apart))
        return body() or written.body

    # --- other names

    def _elsewhere(self, query: Query, guest: Guest, side: Finished, servers: Servers) -> bytes | Wanted:
        recursion = self._recursion
        if recursion is None:
            return self._written(query, NOT_OURS, side, guest).body
        refusal = recursion.refusal(query, recursive=guest.recursive, stub=bool(servers))
        if refusal is not None:
            return self._written(query, refusal, side, guest).body
        asked = recursion.asked(query)
        outcome = recursion.known(asked)
        if outcome is not None:
            return self._repeated(query, asked, outcome, side, guest)
        return Wanted(b"", query, guest.client, side.transport is Transport.TCP, (asked,), servers, asked)

    def _repeated(self, query: Query, asked: Asked, outcome: Outcome, side: Finished, guest: Guest) -> bytes:
        folded, reply, body = query.folded(), outcome.aged(self.clock.now), None
        if outcome.expires > self.clock.now and not guest.tight:
            written = self._written(folded, outcome.reply, side, guest)
            aging = Aging(written, outcome.since, outcome.expires, self.clock, asked, turning=self.guests.turning)
            tally = self._cell(side.transport, query.type, reply.rcode)
            # A reverse name is answered by us as soon as somebody tells us of it.
            depends = frozenset({asked.name} if dname.is_reverse(asked.name) else ())
            octets = octets_of(written, depends, turning=self.guests.turning)
            side.beyond.put(query.plain, Kept(aging, octets, depends, tally, apart=written.apart))
            body = aging()
        else:
            written = self._written(folded, reply, side, guest)
        return self._spelled(query, reply, written, body or written.body, side.limit(folded) - guest.room)

    def resume(self, wanted: Wanted, outcomes: Mapping[Asked, Outcome]) -> bytes | Wanted:
        """Go on with a message for which others were asked.

        Args:
            wanted: what was to be asked.
            outcomes: what came of each look-up, those of earlier rounds included.
        """
        side, query = self._tcp if wanted.tcp else self._udp, wanted.query
        lower = query.name.lower()
        guest = self.guests.welcome(query, wanted.client, tcp=wanted.tcp)
        told: Told
        if self.zone.stub_of(lower) != wanted.servers:
            told = self._fresh(query, guest, side)  # whom to ask has changed meanwhile
        elif self.zone.answers(lower) and not wanted.servers:
            told = self._made(query, guest, side, outcomes)
        elif wanted.whole is not None:
            told = self._repeated(query, wanted.whole, outcomes[wanted.whole], side, guest)
        else:
            told = self._fresh(query, guest, side)  # it was ours, and is no more
        if isinstance(told, Wanted):
            return told._replace(id=wanted.id)
        if not isinstance(told, bytes):
            return self.give_up(wanted)
        return wanted.id + self._fitted(query, told, guest, side)

    def give_up(self, wanted: Wanted) -> bytes:
        """The reply to a message for which others would have to be asked without end."""
        side = self._tcp if wanted.tcp else self._udp
        return wanted.id + self._written(wanted.query, Reply(Rcode.SERVFAIL), side, Guest()).body

    # --- writing and counting

    def _spelled(self, query: Query, reply: Reply, written: Written, body: bytes, limit: int) -> bytes:
        """The body with the question, and what stands at its name, spelled as asked (RFC 1035 §2.3.3)."""
        if query.spelled == query.plain:
            return body
        if written.apart:
            return writer.respelled(body, query.question)
        lower = query.name.lower()
        answers = [one._replace(owner=query.name) if one.owner == lower else one for one in reply.answer]
        anew = writer.write(query, self._offered(reply._replace(answer=answers)), limit)
        self._turn += 1  # what is written anew each time has its addresses in turn too
        return writer.turned(anew, self._turn % writer.orders(anew, turning=self.guests.turning))

    def _written(self, query: Query, reply: Reply, side: Finished, guest: Guest) -> Written:
        self._cell(side.transport, query.type, reply.rcode)[0] += 1
        return writer.write(query, self._offered(reply), side.limit(query) - guest.room)

    # RA is not in answers of ours: those are the same for all who ask, also for those for whom others are not asked.
    def _offered(self, reply: Reply) -> Reply:
        if reply.authoritative or self._recursion is None or not self._recursion.servers:
            return reply
        return reply._replace(recursion=reply.rcode != Rcode.REFUSED)

    # --- changes

    @property
    def data(self) -> Data:
        """What the answers come from."""
        return self._data

    def set_data(self, data: Data) -> None:
        """Say what the answers come from; another kind lets go of all finished ones."""
        if data is not self._data:
            self._data = data
            self.forget()

    def set_policy(self, policy: Policy, *, ndots: int, servers: bool) -> None:
        """Say anew what is done for whom; what was answered is to be forgotten."""
        self.guests.policy = policy
        for side in (self._udp, self._tcp):
            side.recursive = policy.recursive
        if self._recursion is not None:
            self._recursion.set(ndots=ndots, servers=servers)

    def set_zone(self, zone: Zone) -> None:
        """Answer from another zone; what was answered is to be forgotten."""
        self.zone, self._apexes = zone, {domain.name for domain in zone.domains}
        self._transfers = Transfers(zone, lambda: self._authority)

    def set_authority(self, authority: Authority) -> None:
        """Say what SOA records say besides the serial; lets go of all finished answers."""
        self._authority = authority.moved(self._serial.now)
        self.forget()

    def soas(self) -> list[Record]:
        """The SOA of each domain, as it is now."""
        return [self._authority.record(domain) for domain in self.zone.domains]

    def forget(self) -> None:
        """Let go of all finished answers."""
        for side in (self._udp, self._tcp):
            side.clear()

    def apply_own(self, difference: Difference) -> int:
        """Take in a difference of /pilotfish/v1/; returns how many finished answers went."""
        return self._changed("own", self.zone.apply_own(difference), difference)

    def apply_foreign(self, difference: Difference) -> int:
        """Take in a difference of the SkyDNS prefix; returns how many finished answers went."""
        return self._changed("foreign", self.zone.apply_foreign(difference), difference)

    def _changed(self, part: str, changed: Changed, difference: Difference) -> int:
        exact = changed.names
        touched = widened(exact)
        # A domain is there whatever comes and goes below it, so what is said of names that are not goes on to be true.
        patterns = (touched - (self._apexes - exact)) | widened(changed.below)
        if self._serial.move(part, difference):
            touched |= self._apexes  # a domain itself answers with the serial
            self._authority = self._authority.moved(self._serial.now)
            for side in (self._udp, self._tcp):
                side.denials.serial = struct.pack("!I", self._authority.serial)
        if self._recursion is not None:
            self._recursion.forget_below(changed.below)
        return sum(side.drop(touched, patterns) + side.drop_below(changed.below) for side in (self._udp, self._tcp))

    # --- what it shows

    def counts(self) -> dict[Counted, int]:
        """Messages answered so far."""
        return self._tallies.counts()

    @property
    def kept(self) -> int:
        """Finished answers held."""
        return len(self._udp) + len(self._tcp)

    @property
    def serial(self) -> int:
        """The highest revision of the zone."""
        return self._serial.now
