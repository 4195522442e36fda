"""Where a new stream of events begins, and what of it is old."""

from __future__ import annotations

import pytest

from registrator.engines.clock import LATE_S
from registrator.engines.engine import Event, Kind
from registrator.engines.heard import BEFORE_S, Heard

ID = "0123456789ab"
T = 1_000_000.0


def event(at, action="start"):
    return Event(Kind.KILL if action == "kill" else Kind.LOOK, ID, at, action)


# An event of T is heard at 100 of a clock that is never set; the stream breaks; at 110 the engine says that it is ...
SINCE = {
    "the clocks go on": (T + 10, T - LATE_S),
    "the engine's clock was set ahead": (T + 3610, T),
    "the engine's clock was set back": (T - 3590, T - 3600 - LATE_S),
    "it does not say": (0.0, T),
}


@pytest.mark.parametrize(("theirs", "since"), SINCE.values(), ids=SINCE)
def test_where_a_stream_begins_that_follows_another(theirs, since):
    """At the last event, as early as that is by either of the engine's clocks."""
    heard = Heard()
    assert heard.begin(T - 50, 50.0) == T - 50 - BEFORE_S
    heard.take([event(T)], 100.0, T)
    assert heard.begin(theirs, 110.0) == since


def test_where_a_stream_begins_when_none_told_anything():
    """Where the first one did: not later, or what happened in between would be lost."""
    heard = Heard()
    assert heard.begin(T, 100.0) == T - BEFORE_S
    assert heard.begin(T + 60, 160.0) == T - BEFORE_S
    assert heard.begin(T - 3600, 170.0) == T - 3600 - 70 - LATE_S


@pytest.mark.parametrize(("theirs", "told"), [(0.0, []), (0.0, [event(0.0)])], ids=["of nothing", "of events"])
def test_an_engine_that_knows_no_time(theirs, told):
    """It tells from now on; the list that follows has to do."""
    heard = Heard()
    assert heard.begin(theirs, 1.0) is None
    heard.take(told, 2.0, 0.0)
    assert heard.begin(theirs, 3.0) is None


def test_what_an_earlier_stream_told_is_not_told_again():
    """By itself: an event that comes twice on one stream is passed on twice, and so is one of no time."""
    heard = Heard()
    heard.begin(T, 1.0)
    first, second, timeless = event(T, "kill"), event(T + 1), event(0.0)
    assert heard.take([first, first, timeless], 2.0, T) == [first, first, timeless]
    heard.begin(T + 2, 3.0)
    assert heard.take([first, second, timeless], 4.0, T + 2) == [second, timeless]
    heard.begin(T + 3, 5.0)
    assert heard.take([first, second, event(T + 2)], 6.0, T + 3) == [event(T + 2)]


def test_what_was_before_the_engines_clock_was_set_back():
    """A signal of then is nothing, since nobody knows how long ago it was: unless it came after what was heard last."""
    heard = Heard()
    heard.begin(T, 1.0)
    ahead, start, later = event(T + 1800, "kill"), event(T + 1800), event(T + 1, "kill")
    assert heard.take([ahead, start, later], 2.0, T + 1) == [start, later]
    heard.begin(T - 3600, 3.0)
    old, missed, new = event(T - 1800, "kill"), event(T + 1801, "kill"), event(T - 3599, "kill")
    told = [ahead, old, start, later, missed, new]
    assert heard.take(told, 4.0, T - 3599) == [missed, new]
