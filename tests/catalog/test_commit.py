"""Limits of a commit and the ranges of prefixes; the refusals themselves are in tests/contract/test_store.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.commit import check_commit, key_bytes, key_text, prefix_range
from pilotfish.catalog.store import BadRequest, DeletePrefix, Put

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(prefix=KEYS | st.just(""), key=KEYS)
def test_a_range_holds_exactly_the_keys_that_start_with_the_prefix(prefix, key):
    """The range of a prefix and Python's startswith agree on every key, also at the last code point."""
    start, end = prefix_range(prefix)
    inside = key_bytes(key) >= start and (end == b"\0" or key_bytes(key) < end)

    assert inside == key.startswith(prefix)


@given(key=KEYS)
def test_a_key_survives_the_way_to_the_store_and_back(key):
    """Text that can be written in UTF-8 is read as it was written."""
    assert key_text(key_bytes(key)) == key


@given(first=KEYS, second=KEYS)
def test_keys_sort_alike_as_text_and_as_octets(first, second):
    """The order of entries in a Reading is the order of the store."""
    assert (first < second) == (key_bytes(first) < key_bytes(second))


@given(raw=st.binary(min_size=1))
def test_a_key_of_any_octets_can_be_shown(raw):
    """What others wrote into the store is text that any log and any JSON takes."""
    assert key_text(raw).encode()


def test_a_prefix_of_the_last_octets_ends_with_all_keys():
    """No key can follow a prefix whose octets cannot be counted up; UTF-8 has none, so only the empty one is so."""
    assert prefix_range("") == (b"\0", b"\0")


def test_a_prefix_that_is_no_text_is_refused():
    """A lone surrogate in a prefix is named, as in a key."""
    with pytest.raises(BadRequest, match="UTF-8"):
        check_commit([], [DeletePrefix("/\ud800")])


def test_neighbours_of_a_deleted_prefix_may_be_put():
    """Only keys inside the deleted prefix clash with it."""
    check_commit([], [DeletePrefix("/a/"), Put("/ab", b""), Put("/a", b"")])
