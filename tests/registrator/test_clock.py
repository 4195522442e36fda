"""A clock that is set while something waits for a time of day."""

from __future__ import annotations

import pytest

from registrator.clock import DayClock

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
