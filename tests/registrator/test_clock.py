"""A clock that is set while something waits for a time of day, and another host's beside it."""

from __future__ import annotations

import pytest

from registrator.engines.clock import LATE_S, DayClock, EngineClock, Moment

ROWS = {
    "it goes on": ((0.25, 0.25), []),
    "it is slewed": ((0.25, 0.75), []),
    "nobody looked for an hour": ((3600.0, 3600.0), []),
    "it is set ahead": ((0.25, 3600.25), [3600.0]),
    "it is set back": ((0.25, -3599.75), [-3600.0]),
    "the machine slept": ((0.0, 60.0), [60.0]),
}


@pytest.mark.parametrize(("passed", "jumps"), ROWS.values(), ids=ROWS)
def test_jumps(passed, jumps):
    steady, now, told = 100.0, 1_000_000.0, []
    clock = DayClock(lambda: now, lambda: steady, told.append)
    assert clock() == 1_000_000.0
    steady, now = steady + passed[0], now + passed[1]
    assert [clock(), clock()] == [now, now]
    assert told == pytest.approx(jumps)


ASKED = {
    "it agrees": ((1000.0, 1000.0, 1000.1), 0.0),
    "it agrees, and answers late": ((1005.0, 1000.0, 1010.0), 0.0),
    "they are a little apart": ((999.5, 1000.0, 1000.1), 0.0),
    "it is a minute behind": ((940.0, 1000.0, 1000.2), 60.1),
    "it is a minute ahead": ((1060.0, 1000.0, 1000.2), -59.9),
}


def ask(clock, theirs, before, after):
    """It is asked while our clock goes as it should."""
    assert clock.asked(theirs, Moment(before, before - 900), Moment(after, after - 900))


@pytest.mark.parametrize(("asked", "behind_s"), ASKED.values(), ids=ASKED)
def test_how_far_the_engine_is_behind(asked, behind_s):
    """By what it answers, as exactly as that took; clocks that agree are one clock."""
    clock = EngineClock()
    ask(clock, *asked)
    assert clock.behind_s == pytest.approx(behind_s)


@pytest.mark.parametrize("by", [3600.0, -3600.0])
def test_an_answer_over_which_our_clock_was_set_says_nothing(by):
    """Taken for one that took an hour, it would make the engine half an hour late, and every stop one of long ago."""
    clock = EngineClock()
    ask(clock, 940.0, 1000.0, 1000.0)
    assert not clock.asked(941.0, Moment(1001.0, 101.0), Moment(1001.1 + by, 101.1))
    assert clock.behind_s == 60.0
    assert clock.is_doubtful(941.0, 1001.0 + by)
    assert clock.asked(941.2, Moment(1001.2 + by, 101.2), Moment(1001.2 + by, 101.2))
    assert clock.behind_s == pytest.approx(60.0 + by)


def test_an_answer_against_an_event_that_has_overtaken_it_says_nothing():
    """The engine said what time it was, its clock was set back, an event came; its answer comes last."""
    clock = EngineClock()
    ask(clock, 1000.0, 1000.0, 1000.0)
    assert not clock.is_doubtful(1001.0, 1001.0)
    clock.heard(1001.0, Moment(1001.0, 101.0))
    assert clock.asked(4600.5, Moment(1000.5, 100.5), Moment(1001.5, 101.5))
    assert clock.behind_s == 0.0
    assert clock.asked(4602.0, Moment(1002.0, 102.0), Moment(1002.0, 102.0))  # what is asked later counts
    assert clock.behind_s == -3600.0


def test_an_answer_that_agrees_with_the_event_that_has_overtaken_it_counts():
    """Events come all the time: the first answer of all, and each that is more exact than the one before, is taken."""
    clock = EngineClock()
    clock.heard(1002.5, Moment(1000.5, 100.5))
    assert clock.asked(1002.5, Moment(1000.0, 100.0), Moment(1001.0, 101.0))
    assert clock.behind_s == pytest.approx(-2.0)
    clock.heard(1012.0, Moment(1010.1, 110.1))
    assert clock.asked(1012.0, Moment(1010.0, 110.0), Moment(1010.2, 110.2))
    assert clock.behind_s == pytest.approx(-1.9)


def test_an_answer_that_was_overtaken_says_nothing():
    """The engine's clock is set while two questions are under way: the one put last has its time as it is now."""
    clock = EngineClock()
    assert clock.asked(-2600.0, Moment(1000.2, 100.2), Moment(1000.4, 100.4))
    assert clock.asked(1000.0, Moment(1000.0, 100.0), Moment(1000.6, 100.6))
    assert clock.behind_s == pytest.approx(3600.3)


DOUBTS = {
    "of this moment": (940.0, 1000.0, False),
    "told a little late": (940.0, 1002.0, False),
    "told again": (900.0, 1000.0, True),
    "the engine's clock was set ahead": (4540.0, 1000.0, True),
    "the engine's clock was set back": (-2660.0, 1000.0, True),
    "ours was set": (940.0, 4600.0, True),
    "both were set": (4540.0, 4600.0, False),
}


@pytest.mark.parametrize(("at", "now", "doubtful"), DOUBTS.values(), ids=DOUBTS)
def test_when_the_engine_is_asked_for_its_time_anew(at, now, doubtful):
    clock = EngineClock()
    ask(clock, 940.0, 1000.0, 1000.0)
    assert clock.is_doubtful(at, now) is doubtful


@pytest.mark.parametrize("ahead_s", [-7.0, -1.0, 0.0, 1.0, 5.0, 7.0, 3600.0])
@pytest.mark.parametrize("at_s", [0.0, 3.0, 6.0])
def test_what_the_engine_tells_now_is_not_yet_to_come(ahead_s, at_s):
    """However long it took to say what time it was, and at whatever moment of that: no signal is lost for it."""
    clock, began = EngineClock(), 1_000_000.0
    assert clock.asked(began + at_s + ahead_s, Moment(began, 0.0), Moment(began + 6.0, 6.0))
    now = began + 60.0
    assert now + ahead_s <= clock.theirs(now) + LATE_S
