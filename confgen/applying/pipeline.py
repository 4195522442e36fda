r"""The way of a configuration from bytes to workers that serve it, as a table.

Pure: `TABLE` says for each state and event what comes next and what to do; `io_apply` does it and reports how it
went. From every state there is a way back to IDLE, and none of them leaves a configuration in place that nobody has
proved, except where nothing better is known and the state says so (ALARM), and where we are told to end after nginx was
told (LEAVE): it refuses what is wrong by itself, and whoever starts it next goes back to the last good one.

    staged tree -> nginx -t on what is new in it -> swap -> reload -> proof -> accepted
                                                                \-> swap back -> reload -> proof -> refused
"""

from __future__ import annotations

from enum import Enum, unique
from typing import NamedTuple


@unique
class State(Enum):
    """Where a configuration stands."""

    IDLE = "idle"
    STAGING = "staging"  # its files are being written, aside
    CHECKING = "checking"  # nginx -t reads them where they are
    SWAPPING = "swapping"  # `current` is being pointed at them
    RELOADING = "reloading"  # nginx is started, or told
    PROVING = "proving"  # do new connections see it, and has every older worker stopped accepting?
    RESTORING = "restoring"  # `current` goes back to the last good one
    RELOADING_OLD = "reloading the last good one"
    PROVING_OLD = "proving the last good one"


@unique
class Event(Enum):
    """How an action went."""

    CHANGED = "a configuration is wanted that is not served"
    DONE = "done"
    FAILED = "failed"
    ABSENT = "nobody runs nginx, and it is not ours to start"
    STOPPED = "we are told to end"


@unique
class Action(Enum):
    """What to do next."""

    STAGE = "write the files aside"
    CHECK = "let nginx read them"
    SWAP = "point current at them"
    RELOAD = "start nginx, or tell it"
    PROVE = "ask new connections"
    ACCEPT = "remember it as the last good one"
    WAIT = "leave it for the nginx that will be started"
    RESTORE = "point current at the last good one"
    REFUSE = "remove it and report; the last good one serves"
    ALARM = "report: what is served is not what is on disk, or nothing is"
    DISCARD = "remove it; nobody has seen it"
    LEAVE = "the next start compares what is served with what is wanted"


class Step(NamedTuple):
    """The next state, and what to do on the way there."""

    state: State
    action: Action


_S, _E, _A = State, Event, Action

TABLE: dict[tuple[State, Event], Step] = {
    (_S.IDLE, _E.CHANGED): Step(_S.STAGING, _A.STAGE),
    (_S.STAGING, _E.DONE): Step(_S.CHECKING, _A.CHECK),
    (_S.STAGING, _E.FAILED): Step(_S.IDLE, _A.REFUSE),
    (_S.STAGING, _E.STOPPED): Step(_S.IDLE, _A.DISCARD),
    (_S.CHECKING, _E.DONE): Step(_S.SWAPPING, _A.SWAP),
    (_S.CHECKING, _E.FAILED): Step(_S.IDLE, _A.REFUSE),
    (_S.CHECKING, _E.STOPPED): Step(_S.IDLE, _A.DISCARD),
    (_S.SWAPPING, _E.DONE): Step(_S.RELOADING, _A.RELOAD),
    (_S.SWAPPING, _E.FAILED): Step(_S.IDLE, _A.REFUSE),
    (_S.SWAPPING, _E.STOPPED): Step(_S.IDLE, _A.LEAVE),
    (_S.RELOADING, _E.DONE): Step(_S.PROVING, _A.PROVE),
    (_S.RELOADING, _E.FAILED): Step(_S.RESTORING, _A.RESTORE),
    (_S.RELOADING, _E.ABSENT): Step(_S.IDLE, _A.WAIT),
    (_S.RELOADING, _E.STOPPED): Step(_S.IDLE, _A.LEAVE),
    (_S.PROVING, _E.DONE): Step(_S.IDLE, _A.ACCEPT),
    (_S.PROVING, _E.FAILED): Step(_S.RESTORING, _A.RESTORE),
    (_S.PROVING, _E.STOPPED): Step(_S.IDLE, _A.LEAVE),
    (_S.RESTORING, _E.DONE): Step(_S.RELOADING_OLD, _A.RELOAD),
    (_S.RESTORING, _E.FAILED): Step(_S.IDLE, _A.ALARM),
    (_S.RESTORING, _E.STOPPED): Step(_S.IDLE, _A.LEAVE),
    (_S.RELOADING_OLD, _E.DONE): Step(_S.PROVING_OLD, _A.PROVE),
    (_S.RELOADING_OLD, _E.FAILED): Step(_S.IDLE, _A.ALARM),
    (_S.RELOADING_OLD, _E.ABSENT): Step(_S.IDLE, _A.ALARM),
    (_S.RELOADING_OLD, _E.STOPPED): Step(_S.IDLE, _A.LEAVE),
    (_S.PROVING_OLD, _E.DONE): Step(_S.IDLE, _A.REFUSE),
    (_S.PROVING_OLD, _E.FAILED): Step(_S.IDLE, _A.ALARM),
    (_S.PROVING_OLD, _E.STOPPED): Step(_S.IDLE, _A.LEAVE),
}


class NoSuchStep(Exception):
    """An event that cannot happen in this state: a fault of ours."""


def step(state: State, event: Event) -> Step:
    """What comes after an event.

    Raises:
        NoSuchStep: the table has no such row.

    >>> step(State.CHECKING, Event.FAILED).action
    <Action.REFUSE: 'remove it and report; the last good one serves'>
    """
    if (state, event) not in TABLE:
        raise NoSuchStep(f"{event.name} cannot happen while {state.value}")
    return TABLE[state, event]


USUAL_FILES = 1000


def patience(files: int) -> float:
    """How many times the usual nginx may take to read a configuration: in proportion to its files, from 1,000 on.

    Debian's needs 0.15 s of CPU for 1,000 services, 1 s for 3,000 and 8 s for 10,000: it looks for each upstream among
    all others.

    >>> patience(20), patience(10_000)
    (1.0, 10.0)
    """
    return max(1.0, files / USUAL_FILES)


def due(now: float, last_reload: float, *, quiet_s: float, wait_s: float) -> float:
    """When a change that is known now may be applied, on the clock of the arguments (seconds).

    At once after `quiet_s` without a reload, else `wait_s` after the last one: a single change is fast, a burst costs
    a reload each `wait_s`.

    >>> due(10.0, 3.0, quiet_s=0.5, wait_s=0.5), due(10.0, 9.9, quiet_s=0.5, wait_s=0.5)
    (10.0, 10.4)
    """
    return now if now - last_reload >= quiet_s else max(now, last_reload + wait_s)
