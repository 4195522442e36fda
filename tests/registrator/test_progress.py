"""Thresholds and the damping of flaps, result by result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registrator.health import checks, progress
from registrator.health.checks import Gate, Happening
from registrator.health.progress import FALLS, LONGEST_HOLD_S, WINDOW_S, Flaps
from registrator.rules.probe import How, Probe

# Results as letters: "." good, "a" and "b" bad for two reasons. Then state and reason after each; S, P, F: starting,
# passing, failing; "?": not checked yet.
RUNS = {
    "one good opens": ({}, "aa.", "S:a S:a P"),
    "rise": ({"rise": 2}, ".a..", "S:? S:a S:a P"),
    "fall": ({}, ".aa.aaa", "P P P P P P F:a"),
    "fall of one": ({"fall": 1}, ".a.", "P F:a P"),
    "rise after a fall": ({"fall": 1, "rise": 3}, "...a..a...", "S:? S:? P F:a F:a F:a F:a F:a F:a P"),
    "trusted": ({"trusted": True}, "aaa", "P P F:a"),
    "reasons that alternate": ({"fall": 2}, ".aababab", "P P F:a F:a F:a F:a F:a F:a"),
    "reasons that alternate, with a fall of one": ({"fall": 1}, ".ababbb", "P F:a F:a F:a F:a F:b F:b"),
    "another reason that stays": ({"fall": 2}, ".aabb", "P P F:a F:a F:b"),
    "another reason at the start": ({}, "abbb", "S:a S:a S:a S:b"),
}


@pytest.mark.parametrize(("how", "results", "expected"), RUNS.values(), ids=RUNS)
def test_results_in_a_row(how, results, expected):
    """So many good ones bring it back, so many bad ones take it out; its reason does not change with every check."""
    condition, seen = checks.begin(Gate.NONE, Probe(How.TCP, **how)), []
    for result in results:
        condition = checks.checked(condition, "" if result == "." else result)
        why = checks.why(condition).replace(progress.NOT_CHECKED, "?")
        seen.append(checks.state(condition)[0].upper() + why.replace("TCP: ", ":"))
    assert seen == expected.split(" ")


def falls_at(*times):
    """A condition that passed and fell at each of these times, and rose a second after each."""
    condition = checks.happen(checks.begin(Gate.HEALTH), Happening.HEALTHY)
    for at in times:
        for happening, later in ((Happening.UNHEALTHY, 0), (Happening.HEALTHY, 1)):
            condition = checks.damp(condition, checks.happen(condition, happening), at + later)
    return condition


FALLEN = {
    "never": ((), 0.0),
    "as often as is let pass": ((0, 10, 20), 0.0),
    "once more": ((0, 10, 20, 30), 41.0),
    "and again: twice as long": ((0, 10, 20, 30, 50), 71.0),
    "and again": ((0, 10, 20, 30, 50, 100), 141.0),
    "for ever: the longest": (range(0, 200, 10), 191 + LONGEST_HOLD_S),
    "as often, over a longer time": ((0, 300, 601, 901), 0.0),
}


@pytest.mark.parametrize(("times", "until"), FALLEN.values(), ids=FALLEN)
def test_how_long_it_is_held_back(times, until):
    """Doubled with each fall within ten minutes, up to five; a HEALTHCHECK that flaps is damped as a CHECK_* is."""
    condition = falls_at(*times)
    assert condition.flaps.until == until
    assert checks.state(condition) == ("failing" if until else "passing")
    if until:
        assert checks.why(condition) == "flaps, so it has to pass for longer: its HEALTHCHECK says unhealthy"
        assert checks.settle(condition, until - 0.1) == condition
        settled = checks.settle(condition, until)
        assert (checks.state(settled), checks.why(settled)) == ("passing", "")


def test_a_clock_that_was_set_back_holds_nobody_for_ever():
    """What is held for longer than the longest time cannot be meant."""
    condition = falls_at(1000, 1010, 1020, 1030)
    assert checks.state(checks.settle(condition, 0.0)) == "passing"


def test_a_pause_is_no_fall():
    """Nor is a draining that ended."""
    condition = falls_at(0, 10, 20)
    for happening in (Happening.PAUSED, Happening.RESUMED, Happening.STOPPING, Happening.EXPIRED) * 5:
        condition = checks.damp(condition, checks.happen(condition, happening, 50.0), 30.0)
    assert checks.state(condition) == "passing"


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 100.0)), max_size=60))
def test_what_passes_for_long_enough_comes_back(turns):
    """Whatever it did before: within the longest hold after its last fall."""
    condition, now = falls_at(), 0.0
    for well, passed_s in turns:
        now += passed_s
        after = checks.happen(condition, Happening.HEALTHY if well else Happening.UNHEALTHY)
        condition = checks.settle(checks.damp(condition, after, now), now)
        assert len(condition.flaps.falls) <= progress.MOST
        assert not condition.flaps.until or len(condition.flaps.falls) > FALLS
    condition = checks.damp(condition, checks.happen(condition, Happening.HEALTHY), now)
    assert checks.state(checks.settle(condition, now + LONGEST_HOLD_S)) == "passing"
    assert progress.rose(condition.flaps, now + WINDOW_S + 1) == Flaps()
