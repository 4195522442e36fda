"""The least commits: what is planned, and that performing a plan makes the store say what is wanted."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog.commit import check_commit
from pilotfish.catalog.keys import container_key, containers_of
from pilotfish.catalog.record import Container, Endpoint, decode, encode
from pilotfish.catalog.store import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Absent,
    CreatedAt,
    Delete,
    Entry,
    ModifiedAt,
    Put,
    ValueIs,
)
from registrator.writing import plan as plans
from registrator.writing.plan import Desired, Ground, Owners, plan

LEASE, OLD, FOREIGN = 7, 6, 99
FENCE = ModifiedAt("/pilotfish/v1/nodes/h1", 1)
GROUND = Ground("h1", LEASE, FENCE, frozenset({LEASE, OLD}))
A, B = "a" * 64, "b" * 64


def record(container: str = A, *, observed: float = 1.0, exports: tuple[str, ...] = (), **changes: object) -> Container:
    endpoint = Endpoint(service="web", id=f"h1:{container[:4]}:80", label=f"h1-{container[:4]}-80", port=80)
    one = Container(
        node="h1",
        id=container,
        name="web",
        image="web",
        started=1.0,
        observed=observed,
        endpoints=(endpoint,),
        exports=exports,
    )
    return msgspec.structs.replace(one, **changes)


def stored(one: Container, *, lease: int = LEASE) -> Entry:
    return Entry(container_key("h1", one.id), encode(one), 1, 1, lease)


def export(key: str, value: bytes = b"v", *, lease: int = LEASE) -> Entry:
    return Entry(key, value, 1, 1, lease)


def planned(desired, records=(), held=()):
    found = plan(
        desired,
        {decode(Container, entry.value).id: entry for entry in records},
        {entry.key: entry for entry in held},
        GROUND,
    )
    return [operation for commit in found.commits for operation in commit.operations], found


KEY = container_key("h1", A)
ONE = record(exports=("/x",))

ROWS = {
    "new: the record first, and the keys only where none are": (
        {A: Desired(record(), {"/x": b"v", "/a": b"w"})},
        (),
        (),
        [Put(KEY, encode(record(exports=("/a", "/x"))), LEASE), Put("/a", b"w", LEASE), Put("/x", b"v", LEASE)],
        (FENCE, Absent("/a"), Absent("/x")),
    ),
    "the same: nothing": ({A: Desired(record(), {"/x": b"v"})}, (stored(ONE),), (export("/x"),), [], None),
    "only observed later: nothing": (
        {A: Desired(record(observed=9.0), {"/x": b"v"})},
        (stored(ONE),),
        (export("/x"),),
        [],
        None,
    ),
    "another lease: both again": (
        {A: Desired(record(), {"/x": b"v"})},
        (stored(ONE, lease=OLD),),
        (export("/x", lease=OLD),),
        [Put(KEY, encode(ONE), LEASE), Put("/x", b"v", LEASE)],
        (FENCE, ValueIs("/x", b"v")),
    ),
    "another value: the key alone": (
        {A: Desired(record(), {"/x": b"new"})},
        (stored(ONE),),
        (export("/x"),),
        [Put("/x", b"new", LEASE)],
        (FENCE, ValueIs("/x", b"v")),
    ),
    "another key: the old one goes while the record still lists it": (
        {A: Desired(record(), {"/y": b"v"})},
        (stored(ONE),),
        (export("/x"),),
        [Delete("/x"), Put(KEY, encode(record(exports=("/y",))), LEASE), Put("/y", b"v", LEASE)],
        (FENCE, ValueIs("/x", b"v"), Absent("/y")),
    ),
    "it leaves: the keys first": (
        {A: None},
        (stored(ONE),),
        (export("/x"),),
        [Delete("/x"), Delete(KEY)],
        (FENCE, ValueIs("/x", b"v")),
    ),
    "it leaves: what others wrote over stays": (
        {A: None},
        (stored(ONE),),
        (export("/x", b"theirs", lease=FOREIGN),),
        [Delete(KEY)],
        (FENCE,),
    ),
    "it leaves: a key that is gone is not asked for": ({A: None}, (stored(ONE),), (), [Delete(KEY)], (FENCE,)),
    "it leaves and was never recorded: nothing": ({A: None}, (), (), [], None),
    "a key of others is not taken, nor listed": (
        {A: Desired(record(), {"/x": b"v"})},
        (),
        (export("/x", b"theirs", lease=0),),
        [Put(KEY, encode(record()), LEASE)],
        (FENCE,),
    ),
    "a key under our own root is no export": (
        {A: Desired(record(), {"/pilotfish/v1/nodes/h1": b"v"})},
        (),
        (),
        [Put(KEY, encode(record()), LEASE)],
        (FENCE,),
    ),
    "a key goes from one container to another without a gap": (
        {A: None, B: Desired(record(B), {"/x": b"new"})},
        (stored(ONE),),
        (export("/x"),),
        [
            Delete(KEY),
            Put(container_key("h1", B), encode(record(B, exports=("/x",))), LEASE),
            Put("/x", b"new", LEASE),
        ],
        (FENCE, ValueIs("/x", b"v")),
    ),
}


@pytest.mark.parametrize(("desired", "records", "held", "operations", "conditions"), ROWS.values(), ids=ROWS)
def test_plan(desired, records, held, operations, conditions):
    """Each case is one commit with exactly these operations and conditions, or none at all."""
    made, found = planned(desired, records, held)
    assert made == operations
    assert [commit.conditions for commit in found.commits] == ([conditions] if conditions else [])


def test_a_broken_record_of_ours_is_written_anew():
    """What cannot be read says nothing, and must not stay."""
    entry = Entry(KEY, b"{", 1, 1, LEASE)
    found = plan({A: Desired(record())}, {A: entry}, {}, GROUND)
    assert [commit.operations for commit in found.commits] == [(Put(KEY, encode(record()), LEASE),)]


def test_unknown_fields_survive_a_rewrite():
    """A later version's fields are kept when this one changes the record."""
    entry = msgspec.structs.replace(stored(ONE), value=encode(ONE)[:-1] + b',"zz":1}')
    found = plan({A: Desired(record(name="shop"))}, {A: entry}, {}, GROUND)
    assert b'"zz":1' in found.commits[0].operations[0].value


def test_a_record_that_is_too_large_is_refused_by_name_and_taken_out():
    """Better not recorded than a batch that no store takes."""
    attrs = {f"k{number}": "x" * 4096 for number in range(MAX_VALUE_BYTES // 4096 + 1)}
    endpoint = msgspec.structs.replace(record().endpoints[0], attrs=attrs)
    large = record(endpoints=(endpoint,))
    found = plan({A: Desired(large)}, {A: stored(ONE)}, {}, GROUND)
    assert [commit.operations for commit in found.commits] == [(Delete(KEY),)]
    assert f"over the limit of {MAX_VALUE_BYTES}" in found.refused[A]


def test_what_is_blocked_is_said():
    """The key and whose it is."""
    _, found = planned({A: Desired(record(), {"/x": b"v"})}, (), (export("/x", lease=FOREIGN),))
    assert found.blocked == {"/x": "'/x' is somebody else's; it is written when they let go of it"}


def test_owners_give_a_key_to_the_first_until_it_goes():
    """Two containers of one node that make one key do not fight."""
    owners = Owners()
    assert owners.take(A, {"/x": b"1", "/a": b"1"}) == {"/x": b"1", "/a": b"1"}
    assert owners.take(B, {"/x": b"2"}) == {}
    assert owners.owner("/x") == A
    owners.release(A)
    assert owners.take(B, {"/x": b"2"}) == {"/x": b"2"}


IDS = [letter * 64 for letter in "abcdef"]
KEYS = [f"/e/{number}" for number in range(8)]
exports_st = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([b"1", b"2"]), max_size=5)
desired_st = st.builds(
    lambda container, name, exports: (container, Desired(record(container, name=name), exports)),
    st.sampled_from(IDS),
    st.sampled_from(["web", "shop"]),
    exports_st,
)
wanted_st = st.lists(desired_st | st.tuples(st.sampled_from(IDS), st.none()), max_size=8).map(dict)
foreign_st = st.dictionaries(st.sampled_from(KEYS), st.just(Entry("", b"theirs", 1, 1, FOREIGN)), max_size=2)


def owned(wanted):
    owners = Owners()
    return {
        container: Desired(one.record, owners.take(container, one.exports)) if one else None
        for container, one in sorted(wanted.items())
    }


class Store:
    """A store that checks conditions and applies operations, one commit after another."""

    def __init__(self, foreign):
        self.entries = {key: msgspec.structs.replace(entry, key=key) for key, entry in foreign.items()}
        self.revision = 1

    def perform(self, commit):
        check_commit(commit.conditions, commit.operations)
        assert commit.conditions[0] == FENCE
        for condition in commit.conditions[1:]:
            match condition:
                case Absent(key):
                    assert key not in self.entries
                case ValueIs(key, value):
                    assert self.entries[key].value == value
                case ModifiedAt() | CreatedAt():
                    raise AssertionError(condition)
        self.revision += 1
        for operation in commit.operations:
            match operation:
                case Put(key, value, lease):
                    self.entries[key] = Entry(key, value, self.revision, self.revision, lease)
                case Delete(key):
                    self.entries.pop(key, None)

    def plan(self, wanted, ground=GROUND):
        prefix = containers_of("h1")
        records = {key.removeprefix(prefix): entry for key, entry in self.entries.items() if key.startswith(prefix)}
        desired = {**dict.fromkeys(records), **owned(wanted)}
        return plan(desired, records, self.entries, ground)


@settings(deadline=None)
@given(first=wanted_st, second=wanted_st, foreign=foreign_st)
def test_performing_a_plan_makes_the_store_say_what_is_wanted(first, second, foreign):
    """From any state that we left, to any other: what is wanted and what is others' remains; then nothing is to do."""
    store = Store(foreign)
    for wanted in (first, second):
        for commit in store.plan(wanted).commits:
            store.perform(commit)
        want = {container: one for container, one in owned(wanted).items() if one}
        exports = {key: value for one in want.values() for key, value in one.exports.items() if key not in foreign}
        left = {key: entry.value for key, entry in store.entries.items() if not key.startswith("/pilotfish/")}
        assert left == exports | dict.fromkeys(foreign, b"theirs")
        records = {
            container: decode(Container, store.entries[container_key("h1", container)].value) for container in want
        }
        assert {key for key in store.entries if key.startswith("/pilotfish/")} == {
            container_key("h1", container) for container in want
        }
        for container, one in want.items():
            listed = tuple(sorted(one.exports.keys() - foreign.keys()))
            assert records[container] == msgspec.structs.replace(one.record, exports=listed)
        assert store.plan(wanted).commits == ()


@settings(deadline=None)
@given(wanted=wanted_st)
def test_a_new_lease_moves_everything(wanted):
    """After a lease was lost and another taken, a plan hangs all of it on the new one."""
    store = Store({})
    for commit in store.plan(wanted).commits:
        store.perform(commit)
    later = Ground("h1", 8, FENCE, frozenset({8, LEASE}))
    for commit in store.plan(wanted, later).commits:
        store.perform(commit)
    assert {entry.lease for entry in store.entries.values()} <= {8}
    assert store.plan(wanted, later).commits == ()


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 30), each=st.integers(0, 300))
def test_commits_keep_to_the_limits(count, each):
    """Whatever the number of containers and keys: no commit too large, the record always before its keys."""
    wanted = {
        f"{number:064x}": Desired(record(f"{number:064x}"), {f"/e/{number}/{n}": b"v" for n in range(each)})
        for number in range(count)
    }
    found = plan(wanted, {}, {}, GROUND)
    seen: set[str] = set()
    for commit in found.commits:
        check_commit(commit.conditions, commit.operations)
        for operation in commit.operations:
            assert isinstance(operation, Put)
            owner = operation.key.split("/")[2] if operation.key.startswith("/e/") else None
            assert owner is None or container_key("h1", f"{int(owner):064x}") in seen
            seen.add(operation.key)
    assert len(seen) == count * (1 + each)
    assert len(found.commits) <= count * (-(-(1 + each) // plans.UNIT))
    assert len(found.commits) >= count * (1 + each) / MAX_OPERATIONS


def test_commits_keep_to_the_limit_of_octets():
    """Large records are spread over several commits."""
    attrs = {f"k{number}": "x" * 4000 for number in range(40)}
    endpoint = msgspec.structs.replace(record().endpoints[0], attrs=attrs)
    wanted = {f"{number:064x}": Desired(record(f"{number:064x}", endpoints=(endpoint,))) for number in range(20)}
    found = plan(wanted, {}, {}, GROUND)
    assert len(found.commits) > 1
    for commit in found.commits:
        check_commit(commit.conditions, commit.operations)
