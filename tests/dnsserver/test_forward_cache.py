"""Forwarded answers: how long they are given, what is never kept, what is said when nobody answers."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dnsserver.forwarding.cache import MAX_FAILED, MAX_FAILED_S, MAX_NEGATIVE_S, STALE_TTL, ForwardCache
from dnsserver.message import rr
from dnsserver.message.dname import from_text
from dnsserver.message.rr import Data, Record, Soa, Type
from dnsserver.message.wire import Ede, Rcode, Reply
from dnsserver.outside import Asked, Outcome

NAME = from_text("www.example.com")
ZONE = from_text("example.com")
WWW = Asked(NAME, Type.A)
STALE_FOR_S = 3600.0


def cache(most: int = 100, **how: int) -> ForwardCache:
    return ForwardCache(most, STALE_FOR_S, **how)


def address(ttl: int = 300, last: int = 1, owner: bytes = NAME) -> Record:
    return Record(owner, Type.A, ttl, Data(bytes((192, 0, 2, last))))


def alias(ttl: int = 300) -> Record:
    return Record(NAME, Type.CNAME, ttl, rr.pointing(from_text("x.test")))


def soa(ttl: int, minimum: int) -> Record:
    return Record(ZONE, Type.SOA, ttl, rr.soa(ZONE, ZONE, Soa(1, 2, 3, 4, minimum)))


def found(*records: Record, fence: int = 0, **how: object) -> Reply:
    return Reply(Rcode.NOERROR, answer=records, fence=fence, recursion=True, **how)


def nothing(*authority: Record, rcode: Rcode = Rcode.NXDOMAIN, answer: tuple[Record, ...] = ()) -> Reply:
    return Reply(rcode, answer=answer, authority=authority, fence=len(answer), recursion=True)


FAILED = Reply(Rcode.SERVFAIL, ede=Ede.NO_REACHABLE_AUTHORITY, recursion=True)


# Title -> reply, seconds for which it is held.
LIVES = {
    "an address": (found(address(300)), 300),
    "two sets: the least": (found(alias(20), address(300, owner=from_text("x.test")), fence=1), 20),
    "TTL 1": (found(address(1)), 1),
    "TTL 0": (found(address(0)), 0),
    "an alias of TTL 0": (found(alias(0), address(300), fence=1), 0),
    "no name: the SOA's TTL": (nothing(soa(30, 300)), 30),
    "no name: the SOA's MINIMUM": (nothing(soa(300, 30)), 30),
    "no name: at most a quarter of an hour": (nothing(soa(86400, 86400)), MAX_NEGATIVE_S),
    "no name: MINIMUM 0": (nothing(soa(300, 0)), 0),
    "no name without SOA": (nothing(), 0),
    "no data": (nothing(soa(60, 60), rcode=Rcode.NOERROR), 60),
    "no data without SOA": (nothing(rcode=Rcode.NOERROR), 0),
    "no data behind an alias": (nothing(soa(60, 60), rcode=Rcode.NOERROR, answer=(alias(10),)), 10),
    "no data behind an alias, without SOA": (nothing(rcode=Rcode.NOERROR, answer=(alias(10),)), 0),
    "no name: a proof that ends": (nothing(soa(60, 60), Record(ZONE, Type.NSEC, 7, Data(b"x"))), 7),
    "no name: only a proof": (nothing(Record(ZONE, Type.NSEC, 7, Data(b"x"))), 0),
}


@pytest.mark.parametrize(("reply", "lasts_s"), LIVES.values(), ids=LIVES)
def test_an_answer_is_given_for_its_time(reply, lasts_s):
    """It is there until its least TTL is over, and not a moment longer; what has no time is not kept at all."""
    held = cache()
    outcome = held.put(WWW, reply, 1000.0)

    assert (outcome.since, outcome.expires) == (1000.0, 1000.0 + lasts_s)
    assert len(held) == (lasts_s > 0)
    assert held.get(WWW, 1000.0 + lasts_s - 0.001) == (outcome if lasts_s else None)
    assert held.get(WWW, 1000.0 + lasts_s) is None


def test_a_negative_answer_shows_its_time():
    """The SOA in it has the TTL that those who asked us may keep it for."""
    outcome = cache().put(WWW, nothing(soa(86400, 20)), 0.0)

    assert [record.ttl for record in outcome.reply.authority] == [20]


COUNTED = {
    "at once": (0.0, 300),
    "less than a second": (0.9, 300),
    "a second": (1.0, 299),
    "most of it": (299.5, 1),
    "all of it": (300.0, 0),
    "more": (400.0, 0),
}


@pytest.mark.parametrize(("after_s", "ttl"), COUNTED.values(), ids=COUNTED)
def test_ttls_count_down(after_s, ttl):
    """A second that went by is taken off each TTL; none goes below zero."""
    outcome = cache().put(WWW, found(address(300), address(300, 2)), 50.0)

    assert [record.ttl for record in outcome.aged(50.0 + after_s).answer] == [ttl, ttl]


APART = {
    "name": WWW._replace(name=from_text("w3.example.com")),
    "type": WWW._replace(type=int(Type.AAAA)),
    "DO": WWW._replace(do=True),
    "CD": WWW._replace(cd=True),
}


@pytest.mark.parametrize("other", APART.values(), ids=APART)
def test_an_answer_is_to_one_question(other):
    """What differs in name, type, DO or CD is another question."""
    held = cache()
    held.put(WWW, found(address()), 0.0)
    held.put_failure(WWW._replace(type=99), FAILED, 0.0)

    assert held.get(other, 1.0) is None


def test_ad_is_kept_with_its_answer():
    """Whether signatures were checked belongs to the answer, not to the question."""
    held = cache()
    held.put(WWW, found(address(), authentic=True), 0.0)
    held.put(WWW, found(address(last=2)), 1.0)
    again = held.get(WWW, 2.0)

    assert again is not None
    assert (again.reply.authentic, again.reply.answer[0].data.head[-1]) == (False, 2)


def test_what_has_no_time_takes_the_older_answer_away():
    """A newer answer that may not be kept is not followed by the one before it."""
    held = cache()
    held.put(WWW, found(address(5)), 0.0)
    held.put(WWW, found(address(0)), 10.0)

    assert (len(held), held.past_its_end(WWW, 11.0)) == (0, None)


# --- failures


def test_failures_are_repeated_for_longer_and_longer():
    """1 s at first, twice as long after each further one, 30 s at most."""
    held, now, times = cache(), 0.0, []
    for _ in range(8):
        outcome = held.put_failure(WWW, FAILED, now)
        times.append(outcome.expires - outcome.since)
        assert held.get(WWW, outcome.expires - 0.01) == Outcome(FAILED, outcome.expires - 0.01, outcome.expires)
        assert held.get(WWW, outcome.expires) is None
        now = outcome.expires

    assert times == [1, 2, 4, 8, 16, 30, 30, 30]


def test_an_answer_ends_the_row_of_failures():
    """After an answer, and after a while without questions, it begins again at 1 s."""
    held = cache()
    for now in (0.0, 1.0, 3.0):
        held.put_failure(WWW, FAILED, now)
    held.put(WWW, found(address(1)), 7.0)

    assert held.put_failure(WWW, FAILED, 8.0 + STALE_FOR_S).expires == 9.0 + STALE_FOR_S
    assert held.put_failure(WWW, FAILED, 9.0 + STALE_FOR_S + MAX_FAILED_S).expires == 10.0 + STALE_FOR_S + MAX_FAILED_S


@pytest.mark.parametrize("ttl", [0, 1])
def test_an_answer_takes_the_failure_away(ttl):
    """Once somebody answered, the failure before is not said again, though the answer be short."""
    held = cache()
    for now in (0.0, 1.0, 3.0):
        held.put_failure(WWW, FAILED, now)
    held.put(WWW, found(address(ttl)), 4.0)

    assert held.get(WWW, 5.5) is None


def test_a_failure_does_not_hide_an_answer():
    """While an answer lasts, failing to renew it changes nothing."""
    held = cache()
    outcome = held.put(WWW, found(address(60)), 0.0)

    assert held.put_failure(WWW, FAILED, 55.0) == outcome
    assert held.get(WWW, 55.5) == outcome


STALES = {
    "an address": (found(address(10), authentic=True), Ede.STALE),
    "no data": (nothing(soa(10, 10), rcode=Rcode.NOERROR), Ede.STALE),
    "no name": (nothing(soa(10, 10)), Ede.STALE_NXDOMAIN),
}


@pytest.mark.parametrize(("reply", "ede"), STALES.values(), ids=STALES)
def test_an_older_answer_is_better_than_a_failure(reply, ede):
    """When nobody answers, what was said before is said again: TTL 30, marked, its signatures no longer vouched for."""
    held = cache()
    held.put(WWW, reply, 0.0)
    outcome = held.put_failure(WWW, FAILED, 20.0)
    said = outcome.reply

    assert (said.rcode, said.ede, said.authentic) == (reply.rcode, ede, False)
    assert {record.ttl for record in (*said.answer, *said.authority)} == {STALE_TTL}
    assert (outcome.since, outcome.expires) == (20.0, 21.0)
    assert held.get(WWW, 20.5) == outcome._replace(since=20.5)
    assert held.get(WWW, 21.0) is None


def test_an_older_answer_is_kept_for_its_window():
    """Past the window it is gone, and the failure is given."""
    held = cache()
    held.put(WWW, found(address(10)), 0.0)

    assert held.has_stale(WWW, 9.0 + STALE_FOR_S)
    assert held.put_failure(WWW, FAILED, 10.0 + STALE_FOR_S).reply == FAILED
    assert (len(held), held.has_stale(WWW, 9.0)) == (0, False)


def test_an_answer_past_its_end_is_not_repeated():
    """Given while its successor is awaited, it says that it may not be given again."""
    held = cache()
    held.put(WWW, found(address(10)), 0.0)
    outcome = held.past_its_end(WWW, 20.0)

    assert outcome is not None
    assert outcome.expires == outcome.since == 20.0


# --- due


@pytest.mark.parametrize(
    ("asked_for", "at_s", "due"), [(2, 95.0, False), (3, 95.0, True), (3, 89.0, False), (9, 91.0, True)]
)
def test_what_is_asked_for_often_is_renewed_in_time(asked_for, at_s, due):
    """Due is what was asked for before, in the last tenth of its life; once."""
    held = cache()
    held.put(WWW, found(address(100)), 0.0)
    outcomes = [held.get(WWW, 1.0) for _ in range(asked_for - 1)]
    last = held.get(WWW, at_s)

    assert last is not None
    assert (last.due, [one.due for one in outcomes if one]) == (due, [False] * (asked_for - 1))
    again = held.get(WWW, 99.0)
    assert again is not None
    assert again.due is not due


def test_a_new_answer_is_due_anew():
    """What was renewed has to be asked for again before it is renewed once more."""
    held = cache()
    for began in (0.0, 100.0):
        held.put(WWW, found(address(100)), began)
        assert [bool(got and got.due) for got in (held.get(WWW, began + at) for at in (1, 2, 95, 96))] == [
            False, False, True, False
        ]  # fmt: skip


# --- bounds


def numbered(number: int) -> Asked:
    return WWW._replace(name=from_text(f"n{number}.example.com"))


def test_what_was_not_asked_for_longest_goes_first():
    """The bound holds, and what is in use stays."""
    held = cache(10)
    for number in range(8):
        held.put(numbered(number), found(address()), 0.0)
    assert held.get(numbered(0), 1.0)
    for number in range(8, 12):
        held.put(numbered(number), found(address()), 1.0)

    assert [number for number in range(12) if held.get(numbered(number), 2.0)] == [0, 5, 6, 7, 8, 9, 10, 11]


def test_made_up_names_push_out_each_other_only():
    """A flood of names that do not exist leaves the answers that there are."""
    held = cache(10)
    held.put(WWW, found(address()), 0.0)
    for number in range(100):
        held.put(numbered(number), nothing(soa(60, 60)), 0.0)

    assert held.get(WWW, 1.0)
    assert [number for number in range(100) if held.get(numbered(number), 1.0)] == [98, 99]


def test_a_name_that_came_into_being_is_held_once():
    """From "no such name" to an address and back, it takes one place."""
    held = cache(10)
    for reply in (nothing(soa(60, 60)), found(address()), nothing(soa(60, 60))):
        held.put(WWW, reply, 0.0)
        got = held.get(WWW, 1.0)
        assert (len(held), got and got.reply.rcode) == (1, reply.rcode)


def test_octets_are_bounded():
    """Large answers make room for each other."""
    held = cache(1000, most_octets=100_000)
    large = found(*(address(last=number) for number in range(100)))
    for number in range(20):
        held.put(numbered(number), large, 0.0)

    assert 0 < len(held) < 4
    assert 0 < held.octets <= 100_000


def test_what_is_larger_than_all_room_is_not_held():
    """One answer that does not fit leaves nothing behind."""
    held = cache(1000, most_octets=2000)
    held.put(WWW, found(*(address(last=number) for number in range(100))), 0.0)

    assert (len(held), held.octets) == (0, 0)


def test_none_are_held_when_none_may_be():
    """A cache of size 0 holds no answer; a failure is remembered all the same (RFC 9520)."""
    held = cache(0)
    held.put(WWW, found(address()), 0.0)
    held.put_failure(numbered(1), FAILED, 0.0)

    assert (len(held), held.get(WWW, 0.1)) == (0, None)
    assert held.get(numbered(1), 0.1)


def test_failures_are_bounded():
    """A flood of names that fail does not fill the memory."""
    held = cache()
    for number in range(MAX_FAILED + 5):
        held.put_failure(numbered(number), FAILED, 0.0)

    assert [bool(held.get(numbered(number), 0.5)) for number in (0, 4, 5, MAX_FAILED + 4)] == [False, False, True, True]


def test_a_zone_is_dropped_whole():
    """When others are asked about a zone from now on, nothing of it is left, and everything else is."""
    held = cache()
    for name in ("example.com", "www.example.com", "notexample.com", "com"):
        held.put(Asked(from_text(name), 1), found(address()), 0.0)
        held.put_failure(Asked(from_text(name), 2), FAILED, 0.0)

    assert held.drop_under(ZONE) == 2
    left = [name for name in ("example.com", "www.example.com", "notexample.com", "com")
            for kind in (1, 2) if held.get(Asked(from_text(name), kind), 0.5)]  # fmt: skip
    assert left == ["notexample.com", "notexample.com", "com", "com"]


def test_what_it_did_is_counted():
    """Answers given, answers past their end, and questions without one."""
    held = cache()
    held.get(WWW, 0.0)
    held.put(WWW, found(address(10)), 0.0)
    held.get(WWW, 1.0)
    held.get(WWW, 2.0)
    held.put_failure(WWW, FAILED, 20.0)

    assert (held.misses, held.hits, held.stale) == (1, 2, 1)


# --- a model


class Model(RuleBasedStateMachine):
    """Whatever is put and asked for, in whatever order: nothing is fresh past its time, and the bounds hold."""

    def __init__(self) -> None:
        super().__init__()
        self.held = cache(6)
        self.now = 0.0
        self.truth: dict[Asked, tuple[float, Reply]] = {}

    @rule(number=st.integers(0, 9), ttl=st.integers(0, 20), negative=st.booleans())
    def put(self, number: int, ttl: int, negative: bool) -> None:
        reply = nothing(soa(ttl, 20)) if negative else found(address(ttl))
        outcome = self.held.put(numbered(number), reply, self.now)
        self.truth[numbered(number)] = (outcome.expires, outcome.reply)

    @rule(number=st.integers(0, 9))
    def fail(self, number: int) -> None:
        outcome = self.held.put_failure(numbered(number), FAILED, self.now)
        assert outcome.expires > self.now or outcome.reply.ede

    @rule(seconds=st.floats(0.01, 15))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(number=st.integers(0, 9))
    def get(self, number: int) -> None:
        got = self.held.get(numbered(number), self.now)
        if got is None or got.reply.rcode == Rcode.SERVFAIL:
            return
        until, reply = self.truth[numbered(number)]
        assert got.reply.rcode == reply.rcode
        if got.reply.ede is None:
            assert self.now < until == got.expires
            assert got.reply == reply

    @invariant()
    def bounded(self) -> None:
        assert len(self.held) <= 6
        assert (self.held.octets == 0) == (len(self.held) == 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
