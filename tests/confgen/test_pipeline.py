"""The table: complete, without dead ends, and never leaving something unproved in place."""

from __future__ import annotations

import pytest

from confgen.applying.pipeline import TABLE, Action, Event, NoSuchStep, State, due, step

# From a fresh change: the events, and what is done last.
WAYS = [
    ("all well", "DONE DONE DONE DONE DONE", Action.ACCEPT),
    ("disk full", "FAILED", Action.REFUSE),
    ("nginx -t says no", "DONE FAILED", Action.REFUSE),
    ("link cannot be swapped", "DONE DONE FAILED", Action.REFUSE),
    ("nginx does not start, the old one does", "DONE DONE DONE FAILED DONE DONE DONE", Action.REFUSE),
    ("nobody runs nginx", "DONE DONE DONE ABSENT", Action.WAIT),
    ("port taken: reload changes nothing", "DONE DONE DONE DONE FAILED DONE DONE DONE", Action.REFUSE),
    ("nothing to go back to", "DONE DONE DONE FAILED FAILED", Action.ALARM),
    ("neither starts", "DONE DONE DONE FAILED DONE FAILED", Action.ALARM),
    ("nginx ended by others on the way back", "DONE DONE DONE DONE FAILED DONE ABSENT", Action.ALARM),
    ("the old one is not served either", "DONE DONE DONE DONE FAILED DONE DONE FAILED", Action.ALARM),
    ("told to end while staging", "STOPPED", Action.DISCARD),
    ("told to end while checking", "DONE STOPPED", Action.DISCARD),
    ("told to end while swapping", "DONE DONE STOPPED", Action.LEAVE),
    ("told to end while reloading", "DONE DONE DONE STOPPED", Action.LEAVE),
    ("told to end while proving", "DONE DONE DONE DONE STOPPED", Action.LEAVE),
    ("told to end while restoring", "DONE DONE DONE DONE FAILED STOPPED", Action.LEAVE),
    ("told to end while reloading the old one", "DONE DONE DONE DONE FAILED DONE STOPPED", Action.LEAVE),
    ("told to end while proving the old one", "DONE DONE DONE DONE FAILED DONE DONE STOPPED", Action.LEAVE),
]


@pytest.mark.parametrize(("events", "last"), [row[1:] for row in WAYS], ids=[row[0] for row in WAYS])
def test_each_way_ends_idle_with_the_right_action(events, last):
    state, action = step(State.IDLE, Event.CHANGED)
    for name in events.split():
        assert state is not State.IDLE
        state, action = step(state, Event[name])
    assert (state, action) == (State.IDLE, last)


def test_the_ways_above_are_all_rows_of_the_table():
    walked = {(State.IDLE, Event.CHANGED)}
    for _, events, _ in WAYS:
        state, _ = step(State.IDLE, Event.CHANGED)
        for name in events.split():
            walked.add((state, Event[name]))
            state, _ = step(state, Event[name])
    assert walked == set(TABLE)


def test_every_state_but_idle_knows_what_to_do_when_all_goes_well_ill_or_has_to_end():
    for state in set(State) - {State.IDLE}:
        assert {Event.DONE, Event.FAILED, Event.STOPPED} <= {event for known, event in TABLE if known is state}


def test_nothing_is_accepted_but_after_a_proof():
    before_accept = {state for (state, _), after in TABLE.items() if after.action is Action.ACCEPT}
    assert before_accept == {State.PROVING}


def test_an_impossible_event_is_a_fault_that_shows():
    with pytest.raises(NoSuchStep, match="CHANGED cannot happen while proving"):
        step(State.PROVING, Event.CHANGED)


DUE = [
    ("never reloaded", float("-inf"), 100.0),
    ("long quiet", 90.0, 100.0),
    ("just quiet enough", 99.5, 100.0),
    ("in a burst", 99.75, 100.25),
    ("right after a reload", 100.0, 100.5),
]


@pytest.mark.parametrize(("last", "when"), [row[1:] for row in DUE], ids=[row[0] for row in DUE])
def test_a_change_is_due_at_once_after_quiet_and_waits_in_a_burst(last, when):
    assert due(100.0, last, quiet_s=0.5, wait_s=0.5) == when


def test_a_stream_of_changes_reloads_at_the_set_pace():
    now, last, reloads = 0.0, float("-inf"), 0
    while now < 60.0:
        now = due(now, last, quiet_s=0.5, wait_s=0.5)
        last, reloads = now, reloads + 1
        now += 0.001  # the next change is there at once
    assert reloads <= 121
