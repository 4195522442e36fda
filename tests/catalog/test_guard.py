"""What may be taken away at one stroke, what is held instead, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog import orphans
from pilotfish.catalog.guard import ALLOW_S, LEAST, WINDOW_S, Limit
from pilotfish.catalog.keys import claim_key
from pilotfish.catalog.orphans import CLAIMED, UNSERVED_S, Age
from pilotfish.catalog.record import Address, Claim, Drain, Release, encode
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Entry, Reading
from pilotfish.catalog.wishes import RELEASE_KEY
from tests.catalog.test_orphans import Reader, container, endpoint, node

GRACE_S = 100.0
LIMIT = Limit(GRACE_S, 50)


def one(number: int, at: str = "h1", port: int = 0, **fields):
    """A container with one endpoint, at a port of its own."""
    return container(
        f"{number:012x}", endpoint(f"e{number}", Address("192.0.2.1", port or 8000 + number, "lan"), **fields), node=at
    )


def some(first: int, last: int, **fields):
    return [one(number, **fields) for number in range(first, last)]


def guarded(*pairs, limit=LIMIT) -> Reader:
    """A reader in which two hosts stand, with these containers."""
    return Reader(node(), node("h2"), *pairs, limit=limit)


def keys_of(*pairs):
    return [key for key, _ in pairs]


def served(reader) -> set[int]:
    return {int(id_[1:]) for id_ in reader.served}


DRAINS = {"state": "draining", "deadline": 9.0}
# What stands; steps, each what is put, what is deleted, and the seconds after it; what is served in the end.
TAKEN = {
    "all of ten": (some(0, 10), [((), some(0, 10), 0)], 10),
    "all of nine: one project": (some(0, 9), [((), some(0, 9), 0)], 0),
    "half": (some(0, 20), [((), some(0, 10), 0)], 10),
    "more than half": (some(0, 20), [((), some(0, 11), 0)], 20),
    "more than half, one after the other": (some(0, 20), [((), [each], 1) for each in some(0, 12)], 20),
    "the same within hours": (some(0, 20), [((), [each], WINDOW_S) for each in some(0, 12)], 8),
    "what has drained": (some(0, 20), [(some(0, 20, **DRAINS), (), 0), ((), some(0, 20), 0)], 0),
    "what has drained, and a tenth that has not": (
        some(0, 20),
        [(some(0, 18, **DRAINS), (), 0), ((), some(0, 20), 0)],
        0,
    ),
    "most has drained, the rest is taken away": (
        some(0, 30),
        [(some(0, 10, **DRAINS), (), 0), ((), some(0, 30), 0)],
        20,
    ),
    "what failed": (some(0, 20), [(some(0, 20, state="failing"), (), 0), ((), some(0, 20), 0)], 0),
    "two hosts that stay": ([*some(0, 6), *some(6, 12, at="h2")], [((), [*some(0, 6), *some(6, 12, at="h2")], 0)], 12),
    "what is replaced elsewhere": (some(0, 12), [(some(20, 32), (), 1), ((), some(0, 12), 0)], 12),
    "what is replaced in the same moment": (some(0, 12), [(some(20, 32), some(0, 12), 0)], 12),
    "what came back": (some(0, 12), [((), [each], 0) if odd else ([each], (), 0) for each in some(0, 12)
                                     for odd in (1, 0)], 12),
    "what has no endpoint counts for nothing": (
        [*some(0, 12), *[container(f"{number:012x}") for number in range(50, 90)]],
        [((), some(0, 12), 0)],
        12,
    ),
    "the first of it had its address taken": (
        some(0, 12),
        [((), some(0, 5), 1), ([one(99, port=8000)], (), 1), ((), some(5, 12), 0)],
        12,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stands", "steps", "left"), TAKEN.values(), ids=TAKEN)
def test_what_is_held(stands, steps, left):
    reader = guarded(*stands)
    for puts, deletes, seconds in steps:
        reader.put(*puts, deletes=keys_of(*deletes))
        reader.now += seconds
    assert len(reader.served) == left
    assert reader.registry.held == set(reader.orphans.held) == set(reader.orphans.kept)


def test_it_says_why():
    reader = guarded(*some(0, LEAST))
    reader.put(deletes=keys_of(*some(0, LEAST)))
    assert {placed.verdict.reason for placed in reader.registry.service("web")} == {
        "held: its record was taken away together with most others, kept while it answers; passing"
    }


def test_what_operators_drained_is_wanted_gone():
    reader = guarded(*some(0, 12))
    wish = "/pilotfish/v1/wishes/drain/node%3Ah1", encode(Drain(since=1.0))
    reader.put(wish)
    reader.put(deletes=keys_of(*some(0, 12)))
    assert (reader.served, reader.orphans.kept) == ([], {})


def test_what_a_node_takes_along_that_leaves_is_wanted_gone():
    reader = guarded(*some(0, 12))
    reader.put(node(leaving=True), deletes=keys_of(*some(0, 12)))
    assert reader.served == []


ENDS = {
    "its record is back": (lambda reader: reader.put(*some(0, 12)), 12),
    "another has its address": (lambda reader: reader.put(one(99, port=8003)), 12),
    "two dials failed": (lambda reader: reader.orphans.give_up(one(3)[0], "e3"), 11),
    "its host does not answer": (lambda reader: reader.orphans.give_up_host("h1"), 0),
    "its registrator says that it has listed all": (lambda reader: reader.put(node(listed=True)), 12),
    "its node's key goes as well": (lambda reader: reader.put(deletes=[node()[0]]), 12),
    "an operator releases it": (lambda reader: reader.put((RELEASE_KEY, encode(Release(since=1.0)))), 0),
    "its grace is almost over": (lambda reader: reader.orphans.expire(GRACE_S - 0.1), 12),
    "its grace is over": (lambda reader: reader.orphans.expire(GRACE_S), 0),
}


@pytest.mark.parametrize(("then", "left"), ENDS.values(), ids=ENDS)
def test_what_ends_it(then, left):
    reader = guarded(*some(0, 12))
    reader.put(deletes=keys_of(*some(0, 12)))
    assert len(reader.served) == 12
    then(reader)
    reader.hear()
    assert len(reader.served) == left
    assert reader.registry.held == reader.orphans.held


def test_a_registrator_that_comes_back_mad_takes_nothing_away():
    """It was away for longer than its lease, and has listed everything, and nothing of it."""
    reader = guarded(*some(0, 12))
    reader.lease_ends("h1")
    assert (len(reader.served), reader.orphans.held) == (12, set())
    reader.put(node(listed=True))
    assert (len(reader.served), len(reader.orphans.held)) == (12, 12)
    reader.orphans.expire(GRACE_S)
    reader.hear()
    assert reader.served == []


def test_a_release_counts_for_a_minute_and_only_when_it_is_put():
    reader = guarded(*some(0, 12))
    release = RELEASE_KEY, encode(Release(since=1.0))
    reader.put(release)
    reader.now += ALLOW_S - 0.1
    reader.put(deletes=keys_of(*some(0, 12)))
    assert reader.served == []
    reader.put(*some(0, 12))
    reader.now += 0.1
    reader.tell(reader.mirror.start(Reading("c1", 99, (*reader.mirror.entries.values(), Entry(*release, 98, 98)))))
    reader.revision = 99
    reader.put(deletes=keys_of(*some(0, 12)))
    assert len(reader.served) == 12


@pytest.mark.parametrize("limit", [Limit(0.0, 50), Limit(GRACE_S, 100)], ids=["no grace", "all may go"])
def test_it_can_be_switched_off(limit):
    reader = guarded(*some(0, 12), limit=limit)
    reader.put(deletes=keys_of(*some(0, 12)))
    assert reader.served == []


def test_a_change_of_few_costs_the_same_however_many_there_are():
    """It looks at what goes, never at all that stands."""
    reader, asked = guarded(*some(0, 300)), []
    serves = reader.registry.serves
    reader.registry.serves = lambda key: asked.append(key) or serves(key)
    reader.put(deletes=keys_of(one(7)))
    reader.put(one(8, state="failing"))
    assert asked == [one(7)[0]]


# --- however it comes about

NUMBERS = st.sets(st.integers(0, 24), min_size=1, max_size=25)
STEPS = st.one_of(
    st.tuples(st.just("put"), NUMBERS),
    st.tuples(st.just("drain"), NUMBERS),
    st.tuples(st.just("delete"), NUMBERS),
    st.tuples(st.just("give up"), st.integers(0, 24)),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 30.0, WINDOW_S, GRACE_S])),
    st.tuples(st.just("release"), st.none()),
)


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=300, deadline=None)
def test_nothing_is_held_beyond_its_grace_nor_what_drained(history):
    """Whatever happens: bounds hold, and the registry has what the store and the guard say, no more and no less."""
    reader, gone_at, drained = guarded(*some(0, 25)), {}, set()
    for step, what in history:
        match step:
            case "put" | "drain":
                pairs = [one(number, **(DRAINS if step == "drain" else {})) for number in sorted(what)]
                drained = drained - what if step == "put" else drained | what
                reader.put(*pairs)
            case "delete":
                there = [key for key in keys_of(*map(one, sorted(what))) if key in reader.mirror.entries]
                gone_at |= dict.fromkeys(there, reader.now)
                reader.put(deletes=there)
            case "give up":
                reader.orphans.give_up(one(what)[0], f"e{what}")
            case "pass":
                reader.now += what
                reader.orphans.expire(reader.now)
            case _:
                reader.put((RELEASE_KEY, encode(Release(since=reader.now))))
                assert reader.orphans.held == set()
        reader.hear()
        held = reader.orphans.held
        assert reader.registry.held == held == set(reader.orphans.kept)
        assert not held & reader.mirror.entries.keys()
        assert not held & set(keys_of(*map(one, drained)))
        # What was let go a moment before the guard saw too much is held from then on.
        assert all(reader.now - gone_at[key] < GRACE_S + WINDOW_S for key in held)
        assert all(reader.now - reader.orphans.kept[key].since < GRACE_S for key in held)
        stands = {key for key in reader.mirror.entries if "/containers/" in key} | held
        assert set(reader.registry.containers.held) == stands
        assert reader.registry.standing_count() == len(stands)
        assert not served(reader) & drained


def route(number: int, idle_since: float = 0.0):
    """The claim of a service that `numbered` has an endpoint of."""
    return claim_key(Place(f"s{number}.test", "/")), encode(Claim(f"s{number}", since=1.0, idle_since=idle_since))


def numbered(first: int, last: int, **fields):
    return [one(number, service=f"s{number}", **fields) for number in range(first, last)]


def routes(first: int, last: int):
    return [route(number) for number in range(first, last)]


# What stands; what is deleted, each in a transaction of its own; how many claims a reader has in the end.
UNCLAIMED = {
    "all of them at one stroke": ([*numbered(0, 15), *routes(0, 15)], [routes(0, 15)], 15),
    "all of three at one stroke": ([*numbered(0, 3), *routes(0, 3)], [routes(0, 3)], 3),
    "half": ([*numbered(0, 4), *routes(0, 4)], [routes(0, 2)], 2),
    "a single one, all that there is": ([*numbered(0, 1), *routes(0, 1)], [routes(0, 1)], 0),
    "one after the other, few": ([*numbered(0, 9), *routes(0, 9)], [[each] for each in routes(0, 9)], 0),
    "one after the other, many": ([*numbered(0, 18), *routes(0, 18)], [[each] for each in routes(0, 12)], 18),
    "of services without an endpoint": (routes(0, 15), [routes(0, 15)], 0),
    "of services that are not served": ([*numbered(0, 15, state="failing", weight=0), *routes(0, 15)],
                                        [routes(0, 15)], 0),
    "that nobody asks for any more": (
        [*numbered(0, 15), *[route(number, idle_since=5.0) for number in range(15)]], [routes(0, 15)], 0,
    ),
    "most of what stands idle": ([*numbered(0, 4), *routes(0, 15)], [routes(4, 15)], 4),
    "everything, also the hosts": ([*numbered(0, 2), *routes(0, 2)],
                                   [[node(), node("h2"), *numbered(0, 2), *routes(0, 2)]], 2),
    "the only one, also the hosts": ([*numbered(0, 1), *routes(0, 1)],
                                     [[node(), node("h2"), *numbered(0, 1), *routes(0, 1)]], 0),
}  # fmt: skip


@pytest.mark.parametrize(("stands", "steps", "left"), UNCLAIMED.values(), ids=UNCLAIMED)
def test_which_claims_are_held(stands, steps, left):
    reader = guarded(*stands)
    for deletes in steps:
        reader.put(deletes=keys_of(*deletes))
    assert len(reader.registry.claims) == left
    assert {key for key, _ in stands if key in reader.orphans.claims} == set(reader.orphans.claims)


def unserved(reader, count, for_s):
    """The services of some held claims fail, and time passes."""
    reader.put(*numbered(0, count, state="failing", weight=0))
    reader.orphans.expire(reader.now)
    reader.now += for_s
    reader.orphans.expire(reader.now)


def served_again(reader, count):
    unserved(reader, count, UNSERVED_S - 0.1)
    reader.put(*numbered(0, count))
    reader.orphans.expire(reader.now)
    unserved(reader, count, UNSERVED_S - 0.1)


CLAIMS_END = {
    "they are back": (lambda reader: reader.put(*routes(0, 12)), 12, 0),
    "another service has one": (
        lambda reader: reader.put((route(3)[0], encode(Claim(service="other", since=2.0)))), 12, 11,
    ),
    "an operator releases them": (lambda reader: reader.put((RELEASE_KEY, encode(Release(since=1.0)))), 0, 0),
    "their grace is almost over": (lambda reader: reader.orphans.expire(GRACE_S - 0.1), 12, 12),
    "their grace is over": (lambda reader: reader.orphans.expire(GRACE_S), 0, 0),
    "their services are not served for long enough": (lambda reader: unserved(reader, 10, UNSERVED_S), 2, 2),
    "their services are not served for a moment": (lambda reader: unserved(reader, 10, UNSERVED_S - 0.1), 12, 12),
    "their services are served again": (lambda reader: served_again(reader, 10), 12, 12),
}  # fmt: skip


@pytest.mark.parametrize(("then", "left", "held"), CLAIMS_END.values(), ids=CLAIMS_END)
def test_what_ends_a_held_claim(then, left, held):
    reader = guarded(*numbered(0, 12), *routes(0, 12))
    reader.put(deletes=keys_of(*routes(0, 12)))
    assert (len(reader.registry.claims), len(reader.orphans.claims)) == (12, 12)
    then(reader)
    reader.hear()
    assert (len(reader.registry.claims), len(reader.orphans.claims)) == (left, held)


def test_however_many_claims_are_held_each_is_looked_at(monkeypatch):
    monkeypatch.setattr(orphans, "CLAIMS_A_LOOK", 5)
    reader = guarded(*numbered(0, 12), *routes(0, 12))
    reader.put(deletes=keys_of(*routes(0, 12)))
    reader.put(*numbered(0, 12, state="failing", weight=0))
    for _ in range(6):
        reader.orphans.expire(reader.now)
        reader.now += UNSERVED_S / 2
    assert reader.orphans.claims == {}


def test_a_reader_that_begins_anew_has_the_claims_that_are_held():
    reader = guarded(*numbered(0, 12), *routes(0, 12))
    reader.put(deletes=keys_of(*routes(0, 12)))
    assert {entry.key for entry in reader.orphans.whole(9).puts} == set(keys_of(*routes(0, 12)))


def test_held_claims_outlive_a_restart_of_their_reader_and_no_longer_than_without():
    reader = guarded(*numbered(0, 12), *routes(0, 12))
    reader.put(deletes=keys_of(*routes(0, 12)))
    (entry, since), *_ = reader.orphans.claims_held()
    again = guarded()
    again.orphans.restore([entry], {entry.key: Age(30.0 - since, CLAIMED)}, again.now)
    again.orphans.expire(GRACE_S - 30.1)
    assert set(again.orphans.claims) == {entry.key}
    again.orphans.expire(GRACE_S - 30.0)
    assert again.orphans.claims == {}


def test_claims_are_listed_for_a_snapshot_while_others_look_at_them():
    """The snapshot is written in another thread; each look at held claims puts those it saw behind the others."""
    reader = guarded(*numbered(0, 12), *routes(0, 12))
    reader.put(deletes=keys_of(*routes(0, 12)))

    class Looking:
        @property
        def grace_s(self):
            reader.orphans.expire(reader.now)  # as in the middle of the list
            return GRACE_S

    reader.orphans._guard.limit = Looking()
    assert {entry.key for entry, _ in reader.orphans.claims_held()} == set(keys_of(*routes(0, 12)))
