"""Views are the same whether they are held or not, and few endpoints are held."""

from hypothesis import given
from hypothesis import strategies as st

from dnsserver.own.names import view_of
from dnsserver.own.views import Views
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.store import Entry
from tests.dnsserver.kit import container, endpoint, key_of, lan

NAMES = ["a", "b", "c"]
steps = st.lists(
    st.tuples(st.sampled_from(["put", "look"]), st.sampled_from(NAMES), st.integers(0, 4), st.integers(0, 3)),
    max_size=30,
)


@given(steps, st.integers(0, 6))
def test_views_are_what_stands_behind_names(history, most):
    """However names change and are asked for in turn, and however few are held."""
    registry = Registry()
    views = Views(registry, most)
    for revision, (step, name, number, count) in enumerate(history, 1):
        if step == "put":
            made = container(number, *(endpoint(name, 80 + one, lan("192.168.0.1")) for one in range(count)))
            entry = Entry(key_of(made), encode(made), 1, revision)
            for touched in registry.apply(Difference(revision, (entry,))).names:
                views.drop(touched)
        standing = registry.standing(name)
        assert views.at(name) == (view_of(standing) if standing else None)
        assert sum(held for _, held in views._held.values()) == views._arranged <= most
