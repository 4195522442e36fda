"""A bounded memory: what was put last is found, the latest half surely, and never more than the bound is held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnsserver.recent import Recent

KEYS = st.integers(0, 30)


@given(st.integers(2, 12), st.lists(st.tuples(st.booleans(), KEYS), max_size=200))
def test_against_a_dictionary(most, steps):
    """What is found is what was put last; the keys met last, half of the bound, are found; the bound holds."""
    recent, truth, met = Recent[int, int](most), {}, []
    for number, (put, key) in enumerate(steps):
        if put:
            recent.put(key, number)
            truth[key] = number
        else:
            found = recent.get(key)
            assert found is None or found == truth[key]
            if found is None:
                assert key not in met[: most // 2]
                continue
        met = [key, *(other for other in met if other != key)]
        assert len(recent) <= most


def test_a_flood_pushes_out_what_nobody_asks_for():
    """What is asked for stays, whatever else is put; what is not, goes."""
    recent = Recent[str, int](10)
    recent.put("asked for", 1)
    recent.put("forgotten", 2)
    for number in range(100):
        recent.put(f"flood {number}", number)
        assert recent.get("asked for") == 1

    assert recent.get("forgotten") is None
    assert len(recent) <= 10


def test_a_value_that_was_replaced_does_not_come_back():
    """The old generation does not answer for a key that the new one has."""
    recent = Recent[str, bool](4)
    for key in ("a", "b", "c"):  # the third begins a new generation
        recent.put(key, False)
    recent.put("a", True)
    for key in ("d", "e"):
        recent.put(key, False)

    assert recent.get("a") is True
