"""Which benches a command line asks for, and which budgets a figure meets."""

from __future__ import annotations

import random

import pytest

from bench import budgets, dns, question
from bench.__main__ import BENCHES, chosen_of
from bench.budgets import Seen
from bench.estate import Estate

CHOSEN = {
    "a bench": (["scale"], {"scale": []}),
    "parts of one": (["dns", "hits", "up"], {"dns": ["hits", "up"]}),
    "a bench after parts": (["dns", "hits", "change"], {"dns": ["hits"], "change": []}),
}


@pytest.mark.parametrize(("names", "chosen"), CHOSEN.values(), ids=CHOSEN)
def test_chosen(names, chosen):
    """A word is a part of the bench before it, else a bench."""
    assert chosen_of(names) == chosen


def test_without_a_name_all_usual_benches_are_run():
    """What explains figures, or measures no budget, is run only when it is named."""
    assert chosen_of([]) == {name: [] for name in BENCHES if name not in {"profile", "real-storm"}}


@pytest.mark.parametrize("names", [["hits"], ["change", "hits"], ["dns", "hit"]], ids=" ".join)
def test_unknown_names_are_refused(names):
    """The word that fits nowhere is named."""
    with pytest.raises(ValueError, match=names[-1]):
        chosen_of(names)


MET = {
    "at least, more": (Seen("hits: answers", 1.1), "yes"),
    "at least, as much": (Seen("hits: answers", 1.0), "yes"),
    "at least, less": (Seen("hits: answers", 0.99), "no"),
    "at most, as much": (Seen("changes: p99", 5.0), "yes"),
    "at most, more": (Seen("changes: p99", 5.1), "no"),
    "none lost": (Seen("up: lost", 0), "yes"),
    "one lost": (Seen("up: lost", 1), "no"),
}


@pytest.mark.parametrize(("seen", "met"), MET.values(), ids=MET)
def test_budgets(seen, met):
    """A figure is judged by the budget of its name."""
    assert [row[-1] for row in budgets.rows([seen, Seen("without a budget", 1)])] == [met]


@pytest.mark.parametrize("key", dns.WORKLOADS)
def test_questions_are_known_names_and_types(key):
    """Every workload asks what can be asked, and the made-up names of one run are not asked twice."""
    workload = dns.WORKLOADS[key]
    asked = list(workload.questions(workload.estate, random.Random(1)))

    assert {line.partition(" ")[2] for line in asked} <= question.TYPES.keys()
    made_up = [line for line in asked if line.startswith("x")]
    assert len(set(made_up)) == len(made_up)


def test_estates_side_by_side_have_no_key_in_common():
    """One that begins where the other ends adds to it."""
    one, two = (dict(Estate(3, 2, True, first).values_of_services()) for first in (0, 3))
    assert not one.keys() & two.keys()
