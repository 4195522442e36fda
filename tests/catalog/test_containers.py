"""Container records held as octets: the same to a reader as if all were decoded, and few of them are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog import keys
from pilotfish.catalog.containers import Containers
from pilotfish.catalog.keys import ContainerKey
from pilotfish.catalog.record import BadRecord, Container, encode

IDS = [f"{number:012x}" for number in range(5)]


def made(id_: str, name: str = "c") -> Container:
    return Container(node="h1", id=id_, name=name, image="i", started=0.0, observed=0.0)


steps = st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(["put", "drop", "look"]), st.sampled_from("abc")))


@given(steps, st.integers(0, 3))
def test_what_is_read_is_what_was_written(history, at_hand):
    """Puts, removals and looks in any order, however many stay decoded; never more of them than that."""
    found, model = Containers(at_hand), {}
    for id_, step, name in history:
        key, means = keys.container_key("h1", id_), ContainerKey("h1", id_)
        if step == "look":
            assert found.get(means) == model.get(means)
        elif step == "drop":
            found.drop(key)
            model.pop(means, None)
        else:
            model[means] = made(id_, name)
            assert found.take(key, means, encode(model[means])) == model[means]
        assert found == model
        assert len(found) == len(model)
        assert len(found._decoded) <= at_hand


def test_a_record_of_another_key_is_refused():
    """Neither a bad record nor one that belongs elsewhere is taken; what is asked for by no key is not there."""
    found = Containers()
    for value in (b"{", encode(made(IDS[1]))):
        with pytest.raises(BadRecord):
            found.take(keys.container_key("h1", IDS[0]), ContainerKey("h1", IDS[0]), value)
    assert dict(found) == {}
    assert ContainerKey("a/b", "..") not in found
    with pytest.raises(KeyError):
        found.at(keys.container_key("h1", IDS[0]))
