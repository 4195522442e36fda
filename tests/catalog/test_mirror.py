"""The mirror against a model of the store: every history, delivered well or badly, ends in what a reading says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.mirror import Difference, Mirror, gone
from pilotfish.catalog.record import Node, encode
from pilotfish.catalog.store import Change, Entry, Reading, Survey

P = "/pilotfish/v1/"
NODE, OTHER_NODE = f"{P}nodes/h1", f"{P}nodes/h2"
A, B, C = f"{P}containers/h1/0a", f"{P}containers/h1/0b", f"{P}containers/h2/0c"
KEYS = [A, B, C, NODE, OTHER_NODE]


class Model:
    """A store that remembers all: `changes[n]` made revision n + 1, `states[n]` is what held after n changes.

    Args:
        transactions: each a table of key -> value, None to delete.
    """

    def __init__(self, transactions):
        self.states = [{}]
        self.changes = []
        for transaction in transactions:
            before, revision = self.states[-1], len(self.states)
            after = dict(before)
            for key, value in transaction.items():
                after.pop(key, None)
                if value is not None:
                    created = before[key].create_revision if key in before else revision
                    after[key] = Entry(key, value, created, revision)
            puts = tuple(after[key] for key in sorted(transaction) if key in after)
            deletes = tuple(key for key in sorted(transaction) if key in before and key not in after)
            self.changes.append(Change(revision, puts, deletes))
            self.states.append(after)

    @property
    def head(self):
        return len(self.changes)

    def reading(self, revision):
        return Reading("c1", revision, tuple(self.states[revision][key] for key in sorted(self.states[revision])))

    def survey(self):
        revisions = {key: entry.mod_revision for key, entry in self.states[-1].items()}
        return Survey("c1", self.head, len(revisions), revisions)

    def mirror(self, revision):
        mirror = Mirror(P)
        mirror.start(self.reading(revision))
        return mirror


transactions = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, b"1", b"2"]), min_size=1, max_size=3)
models = st.lists(transactions, min_size=1, max_size=12).map(Model)


@given(models, st.data())
def test_a_reading_and_the_changes_after_it_make_a_later_reading(model, data):
    start = data.draw(st.integers(0, model.head))
    mirror = model.mirror(start)
    for change in model.changes[start:]:
        mirror.apply(change)

    assert (mirror.entries, mirror.revision) == (model.states[-1], model.head)


@given(models, st.data())
def test_what_comes_twice_or_late_changes_nothing(model, data):
    """Changes from before the reading, each one several times, and any old one at any later time."""
    start = data.draw(st.integers(0, model.head))
    mirror = model.mirror(start)
    for number, change in enumerate(model.changes[start:], start + 1):
        mirror.apply(change)
        held = dict(mirror.entries)
        for old in data.draw(st.lists(st.sampled_from(model.changes[:number]), max_size=4)):
            assert mirror.apply(old) == Difference(number)
        assert mirror.entries == held

    assert (mirror.entries, mirror.revision) == (model.states[-1], model.head)


@given(models, st.data())
def test_differences_tell_everything(model, data):
    """Whoever follows the differences alone holds the same values."""
    mirror, followed = Mirror(P), {}

    def follow(difference):
        for key in difference.deletes:
            del followed[key]
        followed.update((entry.key, entry.value) for entry in difference.puts)

    start = data.draw(st.integers(0, model.head))
    again = data.draw(st.integers(start, model.head))
    follow(mirror.start(model.reading(start)))
    for change in model.changes[start:again]:
        follow(mirror.apply(change))
    follow(mirror.start(model.reading(data.draw(st.integers(0, model.head)))))

    assert followed == {key: entry.value for key, entry in mirror.entries.items()}


@given(models, st.data())
def test_a_repair_mends_what_the_watch_lost(model, data):
    start = data.draw(st.integers(0, model.head))
    mirror = model.mirror(start)
    for change in model.changes[start:]:
        if data.draw(st.booleans()):
            mirror.apply(change)
    wrong = mirror.suspects(model.survey())
    before = dict(mirror.entries)
    difference = mirror.repair(wrong, model.reading(model.head))

    assert mirror.entries == model.states[-1]
    assert mirror.repaired == len(wrong)
    assert not mirror.suspects(model.survey())
    assert {entry.key for entry in difference.puts} <= wrong.keys() >= set(difference.deletes)
    assert wrong == {
        key: before[key].mod_revision if key in before else 0
        for key in KEYS
        if before.get(key) != model.states[-1].get(key)
    }


@given(models, st.data())
def test_a_repair_takes_nothing_older_than_what_is_held(model, data):
    """A reading that the watch has overtaken meanwhile mends nothing of a right mirror."""
    mirror = model.mirror(model.head)
    difference = mirror.repair(KEYS, model.reading(data.draw(st.integers(0, model.head))))

    assert difference == Difference(model.head)
    assert (mirror.entries, mirror.repaired) == (model.states[-1], 0)


@given(models, st.data())
def test_changes_after_a_repair_are_taken_up_once(model, data):
    """The reading of a repair may be ahead of the watch, which then brings what is known already."""
    start = data.draw(st.integers(0, model.head))
    ahead = data.draw(st.integers(start, model.head))
    mirror = model.mirror(start)
    mirror.repair(KEYS, model.reading(ahead))
    assert mirror.revision == start
    for change in model.changes[start:]:
        mirror.apply(change)

    assert (mirror.entries, mirror.revision) == (model.states[-1], model.head)


def test_a_value_that_was_put_again_is_mended_without_news():
    """Only its revision was wrong: nobody is told, and the next survey agrees."""
    model = Model([{A: b"1"}, {A: b"1"}])
    mirror = model.mirror(1)
    difference = mirror.repair(mirror.suspects(model.survey()), model.reading(2))

    assert difference == Difference(1)
    assert (mirror.repaired, mirror.suspects(model.survey())) == (1, {})


def test_another_store_mends_nothing():
    """Its revisions mean something else: only reading everything anew helps."""
    model = Model([{A: b"1"}])
    mirror = model.mirror(1)

    assert mirror.repair(KEYS, Reading("c2", 9, ())) == Difference(1)
    assert mirror.entries == model.states[1]


def test_another_store_may_be_at_a_lower_revision():
    """Everything is taken from it, and its changes count from there."""
    model = Model([{A: b"1"}, {A: b"2", B: b"1"}])
    mirror = model.mirror(2)
    difference = mirror.start(Reading("c2", 1, (Entry(A, b"0", 1, 1),)))
    later = mirror.apply(Change(2, (Entry(C, b"0", 2, 2),)))

    taken = {B: model.states[2][B]}
    assert difference == Difference(1, (Entry(A, b"0", 1, 1),), (B,), taken=taken, started_over=True)
    assert later == Difference(2, (Entry(C, b"0", 2, 2),))
    assert (mirror.cluster, sorted(mirror.entries)) == ("c2", [A, C])


def test_a_new_mirror_knows_nothing():
    mirror = Mirror(P)
    before = (mirror.complete, mirror.revision, mirror.entries)
    mirror.start(Reading("c1", 7, ()))

    assert before == (False, 0, {})
    assert (mirror.complete, mirror.revision) == (True, 7)


def test_what_is_beside_the_prefix_is_left_out():
    mirror = Mirror(P)
    mirror.start(Reading("c1", 1, (Entry("/skydns/a", b"", 1, 1), Entry(A, b"", 1, 1))))
    mirror.apply(Change(2, (Entry("/skydns/b", b"", 2, 2),), ("/skydns/a",)))

    assert list(mirror.entries) == [A]


def test_the_same_read_again_is_no_news():
    """Also when it hangs on the same lease in another revision; another lease is news."""
    mirror = Mirror(P)
    mirror.start(Reading("c1", 3, (Entry(A, b"1", 1, 1, 5), Entry(B, b"1", 1, 1, 5))))
    difference = mirror.start(Reading("c1", 9, (Entry(A, b"1", 8, 8, 5), Entry(B, b"1", 8, 8, 6))))

    assert difference == Difference(9, (Entry(B, b"1", 8, 8, 6),), started_over=True)


def node_entry(name="h1", created=1, **fields):
    own = {"addresses": (), "boot": "b", "engine": "e", "instance": "i", "version": "1"} | fields
    return Entry(f"{P}nodes/{name}", encode(Node(node=name, **own)), created, 9)


HERE = {key: Entry(key, b"1", 1, 1) for key in (A, B, C, NODE, OTHER_NODE)}
LOST = f"{P}containers/h3/0a"
LEAVING, BACK = {NODE: node_entry(leaving=True)}, {NODE: node_entry(created=7)}
CLAIM = f"{P}claims/h1/%2F"
WENT = {
    "the node with its containers": ((A, B, NODE), {}, {OTHER_NODE: HERE[OTHER_NODE]}, {A, B}, set()),
    "containers alone": ((A, B), {}, HERE, set(), {A, B}),
    "a node alone": ((NODE,), {}, {}, set(), set()),
    "two nodes": ((A, C, NODE, OTHER_NODE), {}, {}, {A, C}, set()),
    "the other node stays": ((A, C, NODE), {}, {OTHER_NODE: HERE[OTHER_NODE]}, {A}, {C}),
    "other records of the node": ((NODE, f"{P}proxies/h1", CLAIM), {CLAIM: HERE[A]}, {}, set(), set()),
    "a key of no known form": ((NODE, f"{P}containers/h1"), {}, {}, set(), set()),
    "a node that said it leaves": ((A, NODE), LEAVING, {}, set(), set()),
    "a node whose last word is that it leaves": ((A,), {NODE: node_entry()}, LEAVING, set(), set()),
    "a node that went and is back": ((A,), {}, BACK, {A}, set()),
    "a node that put its key again": ((A,), {}, {NODE: node_entry(addresses=("192.0.2.1",))}, set(), {A}),
    "containers of no node": ((LOST,), {LOST: HERE[A]}, {}, set(), {LOST}),
}


@pytest.mark.parametrize(("deletes", "more", "staying", "orphans", "taken"), WENT.values(), ids=WENT)
def test_records_that_go_with_their_node_are_orphans_and_others_are_taken_away(deletes, more, staying, orphans, taken):
    before = HERE | more
    assert gone(deletes, before, staying) == (
        {key: before[key] for key in orphans},
        {key: before[key] for key in taken},
        {CLAIM: before[CLAIM]} if CLAIM in deletes else {},
    )


def test_whatever_is_missing_in_another_cluster_is_an_orphan():
    """The same node with the same revisions there is another key, put anew."""
    mirror = Mirror(P)
    mirror.start(Reading("c1", 9, (HERE[A], node_entry())))
    difference = mirror.start(Reading("c2", 3, (node_entry(instance="j"),)))
    assert difference.orphans == {A: HERE[A]}


HOW_THEY_GO = {
    "in one transaction": lambda mirror, left: mirror.apply(Change(9, (), (A, B, NODE))),
    "while nobody watched": lambda mirror, left: mirror.start(Reading("c1", 9, left)),
    "unseen by the watch": lambda mirror, left: mirror.repair(KEYS, Reading("c1", 9, left)),
}


@pytest.mark.parametrize("go", HOW_THEY_GO.values(), ids=HOW_THEY_GO)
def test_orphans_are_told_however_they_went(go):
    model = Model([dict.fromkeys(KEYS, b"1")])
    mirror = model.mirror(1)
    difference = go(mirror, tuple(model.states[1][key] for key in (C, OTHER_NODE)))

    assert (difference.deletes, set(difference.orphans)) == ((A, B, NODE), {A, B})
    assert difference.orphans[A] == model.states[1][A]
    assert sorted(mirror.entries) == [C, OTHER_NODE]


def test_what_is_read_again_is_held_once():
    """Values that did not change stay the same objects, since readers of the mirror hold on to them."""
    mirror = Mirror(P)
    mirror.start(Reading("c1", 2, (Entry(A, b"x" * 99, 1, 1), Entry(C, b"y" * 99, 2, 2))))
    before = dict(mirror.entries)
    moved = Entry(C, bytes(bytearray(b"y" * 99)), 2, 3, lease=7)
    mirror.start(Reading("c1", 3, (Entry(A, bytes(bytearray(b"x" * 99)), 1, 1), moved)))
    assert mirror.entries[A] is before[A]
    assert mirror.entries[C] == moved
    assert mirror.entries[C].value is before[C].value
