"""The language of the feed: what one side writes the other reads, and nothing else is taken for it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog import feed
from pilotfish.catalog.feed import BadFrame, Relay
from pilotfish.catalog.mirror import Difference, Mirror
from pilotfish.catalog.store import (
    Absent,
    AccessRefused,
    BadRequest,
    Change,
    Committed,
    CreatedAt,
    Delete,
    DeletePrefix,
    Entry,
    Lease,
    LeaseGone,
    ModifiedAt,
    Put,
    Reading,
    StartOver,
    StoreError,
    StoreFull,
    StoreUnavailable,
    ValueIs,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**63 - 1)
entries = st.builds(Entry, texts, st.binary(max_size=30), numbers, numbers, numbers)
conditions = st.one_of(
    st.builds(Absent, texts),
    st.builds(CreatedAt, texts, numbers),
    st.builds(ModifiedAt, texts, numbers),
    st.builds(ValueIs, texts, st.binary(max_size=30)),
)
operations = st.one_of(
    st.builds(Put, texts, st.binary(max_size=30), numbers), st.builds(Delete, texts), st.builds(DeletePrefix, texts)
)
requests = st.one_of(
    st.builds(feed.Read, st.lists(texts).map(tuple)),
    st.builds(feed.Count, texts, st.booleans()),
    st.builds(feed.Watch, texts, numbers, texts),
    st.builds(feed.Commit, st.lists(conditions).map(tuple), st.lists(operations).map(tuple)),
    st.builds(feed.Grant, numbers),
    st.builds(feed.KeepAlive, numbers),
    st.builds(feed.Revoke, numbers),
)
changes = st.builds(Change, numbers, st.lists(entries).map(tuple), st.lists(texts).map(tuple))
answers = st.one_of(
    st.builds(feed.Entries, st.lists(entries).map(tuple)),
    st.builds(feed.Keys, st.dictionaries(texts, numbers)),
    st.builds(feed.ReadDone, texts, numbers),
    st.builds(feed.CountDone, texts, numbers, numbers),
    st.builds(feed.Changed, numbers, st.lists(entries).map(tuple), st.lists(texts).map(tuple), st.booleans()),
    st.builds(feed.Still, numbers),
    st.builds(feed.CommitDone, st.builds(Committed, st.booleans(), numbers)),
    st.builds(feed.Granted, st.builds(Lease, numbers, st.floats(0, 1e6))),
    st.builds(feed.Renewed, st.floats(0, 1e6)),
    st.just(feed.Revoked()),
    st.builds(feed.Failed, texts, texts, st.booleans()),
)


def body_of(frame, limit=feed.MAX_REQUEST_BYTES):
    """The message of one whole frame."""
    assert feed.body_size(frame[: feed.HEAD_SIZE], limit) == len(frame) - feed.HEAD_SIZE
    return frame[feed.HEAD_SIZE :]


@given(requests)
def test_a_request_comes_through(request_):
    assert request_ == feed.parse_request(body_of(feed.request_frame(request_)))


@given(answers)
def test_an_answer_comes_through(answer):
    assert answer == feed.parse_answer(body_of(feed.answer_frame(answer)))


@given(st.binary(max_size=100) | st.recursive(st.none() | numbers | texts, st.lists).map(msgspec.msgpack.encode))
def test_any_other_bytes_are_a_bad_frame(data):
    for parse in (feed.parse_request, feed.parse_answer):
        with pytest.raises(BadFrame, match=r"no request|no answer"):
            parse(data)


@given(requests, st.data())
def test_a_damaged_request_is_a_request_or_a_bad_frame(request_, data):
    """Whatever comes, nothing but BadFrame rises."""
    body = bytearray(body_of(feed.request_frame(request_)))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = feed.parse_request(bytes(body))
    except BadFrame:
        return
    assert isinstance(found, msgspec.Struct)


HEADS = {
    "one octet": (b"\0\0\0\1", 1),
    "the limit": (b"\0\0\3\xe8", 1000),
    "none": (b"\0\0\0\0", "0 octets"),
    "over the limit": (b"\0\0\3\xe9", "1001 octets"),
    "text": (b"GET ", "1195725856 octets"),
}


@pytest.mark.parametrize(("head", "expected"), HEADS.values(), ids=HEADS)
def test_a_length_is_held_against_its_limit(head, expected):
    if isinstance(expected, int):
        assert expected == feed.body_size(head, 1000)
    else:
        with pytest.raises(BadFrame, match=expected):
            feed.body_size(head, 1000)


def test_another_version_is_named():
    """A newer client is told to restart what is old, also when its request is of no kind that we know."""
    later = msgspec.msgpack.encode({"version": 2, "request": {"type": "Unheard"}})

    with pytest.raises(BadFrame, match="version 2 of the feed is asked for, and 1 is served"):
        feed.parse_request(later)


UNSENDABLE = {
    "too large": (feed.Commit((ValueIs("/a", b"x" * feed.MAX_REQUEST_BYTES),), ()), "over the limit"),
    "no text": (feed.Read(("/\ud800",)), "UTF-8"),
    "no 64-bit number": (feed.Revoke(2**70), "out of bounds"),
}


@pytest.mark.parametrize(("request_", "why"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent_is_a_bad_request(request_, why):
    with pytest.raises(BadRequest, match=why) as caught:
        feed.request_frame(request_)

    assert not caught.value.retry


class Special(StoreFull):
    """An error that the other side does not know."""

    retry = False


ERRORS = {
    "unavailable": (StoreUnavailable("gone"), StoreUnavailable),
    "start over": (StartOver("compacted"), StartOver),
    "lease": (LeaseGone("ended"), LeaseGone),
    "full": (StoreFull("no space"), StoreFull),
    "refused": (AccessRefused("no role"), AccessRefused),
    "bad request": (BadRequest("too large"), BadRequest),
    "of a store alone": (Special("quota"), StoreFull),
    "unnamed": (StoreError("what"), StoreError),
}


@pytest.mark.parametrize(("error", "kind"), ERRORS.values(), ids=ERRORS)
def test_an_error_comes_through(error, kind):
    """Its class (or the nearest that both know), its words, and whether to try again."""
    found = feed.error_of(feed.failed(error))

    assert (type(found), str(found), found.retry) == (kind, str(error), error.retry)


def test_an_error_of_a_newer_side_is_still_an_error():
    found = feed.error_of(feed.Failed("Unheard", "words", retry=False))

    assert (type(found), str(found), found.retry) == (StoreError, "words", False)


@given(st.lists(entries))
def test_what_was_read_comes_in_parts(read):
    assert read == [entry for part in feed.entry_parts(read) for entry in part.entries]


def test_parts_keep_to_the_limit_of_a_frame():
    """Also with values as large as etcd takes at all."""
    large = [Entry(f"/{number:03}", b"x" * 1_500_000, 1, 1) for number in range(3)]
    small = [Entry(f"/{number:05}", b"x" * 1000, 1, 1) for number in range(1000)]
    sizes = [len(feed.answer_frame(part)) for part in feed.entry_parts(large + small)]

    assert len(sizes) > 3
    assert max(sizes) < feed.MAX_ANSWER_BYTES


def test_keys_come_in_parts():
    found = {f"/pilotfish/v1/containers/h1/{number:064x}": number for number in range(10_000)}
    parts = list(feed.key_parts(found.items()))

    assert len(parts) > 1
    assert found == {key: revision for part in parts for key, revision in part.keys.items()}


@given(changes)
def test_a_change_is_whole_again(change):
    parts = list(feed.change_parts(change))

    assert change == feed.whole_change(parts)
    assert [True] * (len(parts) - 1) + [False] == [part.more for part in parts]


def test_a_large_change_comes_in_parts():
    """What a lease of a large host takes with it fits no single frame."""
    change = Change(7, (Entry("/a", b"x" * 300_000, 7, 7),) * 3, tuple(f"/{number:0500}" for number in range(2000)))
    parts = list(feed.change_parts(change))

    assert len(parts) > 5
    assert change == feed.whole_change(parts)


# The relay.

ENTRY = Entry("/p/a", b"1", 11, 11)


def told(relay, after):
    return [change.revision for change in relay.history.after(after)]


DIFFERENCES = {
    "a change": (Difference(11, (ENTRY,)), True, [11]),
    "a deletion": (Difference(11, (), ("/p/b",)), True, [11]),
    "nothing": (Difference(11), True, []),
    "a reading": (Difference(12, (ENTRY,), started_over=True), False, []),
    "a reading without news": (Difference(10, started_over=True), False, []),
    "a reading of an older store": (Difference(3, (), ("/p/b",), started_over=True), False, []),
    "a repair": (Difference(10, (ENTRY,)), False, []),
}


@pytest.mark.parametrize(("difference", "goes_on", "changes"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_relay_tells_changes_and_starts_over_for_the_rest(difference, goes_on, changes):
    relay = Relay(10, max_changes=100)
    history = relay.history

    relay.take(difference)

    assert goes_on == (relay.history is history)
    assert relay.revision == difference.revision
    assert changes == told(relay, min(10, difference.revision) if goes_on else relay.history.floor)


def test_a_repair_after_a_change_elsewhere_is_no_change():
    """Also when the mirror has moved on without news: a repair is of no revision of its own."""
    relay = Relay(10, max_changes=100)
    relay.take(Difference(14))
    history = relay.history

    relay.take(Difference(14, (ENTRY,)))

    assert relay.history is not history


def test_a_relay_forgets():
    relay = Relay(10, max_changes=2)
    for revision in (11, 12, 13):
        relay.take(Difference(revision, (Entry("/p/a", b"", 11, revision),)))

    assert told(relay, 11) == [12, 13]
    with pytest.raises(StartOver):
        told(relay, 10)


def test_a_mirror_behind_a_relay_becomes_the_mirror_before_it():
    """Reading and then the relay's changes: the second mirror follows the first."""
    first, second = Mirror("/p/"), Mirror("/p/")
    relay = Relay(5, max_changes=100)
    first.start(Reading("c", 5, (Entry("/p/x", b"", 5, 5),)))
    second.start(Reading("c", 5, tuple(first.entries.values())))
    for change in (Change(6, (Entry("/p/a", b"", 6, 6),)), Change(8, (), ("/p/x",)), Change(9, (), ("/p/a",))):
        relay.take(first.apply(change))

    for change in relay.history.after(5):
        second.apply(change)

    assert (first.entries, first.revision) == (second.entries, second.revision)
