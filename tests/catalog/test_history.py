"""The bounded history of changes: nothing skipped, nothing told twice, and forgotten means start over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.history import BATCH, History, narrow
from pilotfish.catalog.store import Change, Entry, StartOver


def put(revision: int, *keys: str, size: int = 0) -> Change:
    return Change(revision, tuple(Entry(key, b"x" * size, revision, revision) for key in keys))


def filled(number: int, *, max_changes: int = 10**6, max_bytes: int = 10**9, size: int = 0) -> History:
    history = History(1, max_changes=max_changes, max_bytes=max_bytes)
    for revision in range(2, number + 2):
        history.append(put(revision, "/k", size=size))
    return history


def read(history: History, revision: int) -> list[int]:
    found: list[int] = []
    while batch := history.after(revision):
        found += [change.revision for change in batch]
        revision = found[-1]
    return found


@given(number=st.integers(0, 600), bound=st.integers(1, 300), start=st.integers(1, 700))
def test_a_reader_gets_every_change_after_its_revision_or_must_start_over(number, bound, start):
    """From any revision on: all later changes in order, or StartOver when one of them is forgotten or not yet made."""
    history = filled(number, max_changes=bound)
    known = max(1, number + 1 - bound)
    if known <= start <= number + 1:
        assert read(history, start) == list(range(start + 1, number + 2))
    else:
        with pytest.raises(StartOver):
            history.after(start)


@given(sizes=st.lists(st.integers(0, 50), max_size=60), bound=st.integers(1, 200))
def test_octets_are_bounded_but_the_newest_change_stays(sizes, bound):
    """What is kept is the longest tail within the bound, and never less than the newest change."""
    history = History(1, max_changes=10**6, max_bytes=bound)
    for revision, size in enumerate(sizes, start=2):
        history.append(put(revision, "/k", size=size))
    kept = len(read(history, history.floor))

    assert kept == len(sizes) or sum(sizes[-kept - 1 :]) > bound
    assert kept <= 1 or sum(sizes[-kept:]) <= bound


def test_a_batch_is_bounded():
    """A reader far behind gets its changes in portions."""
    assert len(filled(3 * BATCH).after(1)) == BATCH


NARROW = {
    "all": (Change(5, (Entry("/a/1", b"", 5, 5),), ("/a/2",)), True, True),
    "puts": (Change(5, (Entry("/a/1", b"", 5, 5),), ("/b",)), True, False),
    "deletes": (Change(5, (Entry("/b", b"", 5, 5),), ("/a/2",)), False, True),
}


@pytest.mark.parametrize(("change", "puts", "deletes"), NARROW.values(), ids=NARROW.keys())
def test_narrow_keeps_what_is_under_the_prefix(change, puts, deletes):
    """Puts and deletes beside the prefix are left out."""
    found = narrow(change, "/a/")

    assert found is not None
    assert (bool(found.puts), bool(found.deletes)) == (puts, deletes)
    assert narrow(change, "/c/") is None
