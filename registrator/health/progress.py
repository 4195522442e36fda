"""What results of checks make of an endpoint: thresholds, and the damping of one that flaps. Pure.

`Progress` is the state of a CHECK_*: so many good results in a row bring an endpoint back, so many bad ones take it
out. `Flaps` counts how often an endpoint fell, whatever found it failing; one that falls again and again has to stand
for longer each time before it is believed (as BGP's route flap damping does, RFC 2439). Times are UNIX times in seconds
that are handed in.
"""

from __future__ import annotations

import msgspec

from registrator.rules.probe import Probe

NOT_CHECKED = "not checked yet"
SAME_AGAIN = 2  # with a CHECK_FALL of 1, reasons that alternate would be written at every check


class Progress(msgspec.Struct, frozen=True):
    """How a CHECK_* stands.

    Attributes:
        probe: the check.
        passing: as far as it is believed.
        opened: it passed once since the container started, or is trusted to.
        streak: results in a row that say otherwise than `passing`.
        why: what the check found when it last changed its mind; it is written to the store, so a failing endpoint
            keeps its reason until another one was found `fall` times in a row, and at least SAME_AGAIN times.
        other: the reason found last, where it differs from `why`.
        seen: how often in a row.
    """

    probe: Probe
    passing: bool = False
    opened: bool = False
    streak: int = 0
    why: str = NOT_CHECKED
    other: str = ""
    seen: int = 0


def start(probe: Probe) -> Progress:
    """A check that has found nothing yet.

    >>> from registrator.rules.probe import How
    >>> start(Probe(How.TCP)).opened
    False
    """
    return Progress(probe, passing=probe.trusted, opened=probe.trusted, why="" if probe.trusted else NOT_CHECKED)


def resumed(probe: Probe, *, passed: bool, failing: str | None) -> Progress:
    """A check as another process left it.

    Args:
        probe: the check.
        passed: it passed once.
        failing: it was out, for this reason; None: it was not.
    """
    if not passed:
        return start(probe)
    return Progress(probe, passing=failing is None, opened=True, why=failing or "")


def found(was: Progress, problem: str) -> Progress:
    """Take in one result; `problem` is empty for a good one, else it says what was wrong, the same for the same."""
    if not problem:
        return _good(was)
    return _bad(was, problem) if was.passing else _still_bad(was, problem)


def _good(was: Progress) -> Progress:
    if was.passing:
        return msgspec.structs.replace(was, streak=0)
    if was.streak + 1 < was.probe.rise:
        return msgspec.structs.replace(was, streak=was.streak + 1)
    return Progress(was.probe, passing=True, opened=True, why="")


def _bad(was: Progress, problem: str) -> Progress:
    if was.streak + 1 < was.probe.fall:
        return msgspec.structs.replace(was, streak=was.streak + 1)
    return Progress(was.probe, passing=False, opened=was.opened, why=problem)


def _still_bad(was: Progress, problem: str) -> Progress:
    again = msgspec.structs.replace(was, streak=0)
    if problem == was.why:
        return msgspec.structs.replace(again, other="", seen=0)
    seen = was.seen + 1 if problem == was.other else 1
    if was.why == NOT_CHECKED or seen >= max(SAME_AGAIN, was.probe.fall):
        return msgspec.structs.replace(again, why=problem, other="", seen=0)
    return msgspec.structs.replace(again, other=problem, seen=seen)


FALLS = 3  # within WINDOW_S; each one more keeps it out for longer
WINDOW_S = 600.0  # longer than LONGEST_HOLD_S: one that is held for the longest time is not forgotten meanwhile
FIRST_HOLD_S = 10.0
LONGEST_HOLD_S = 300.0
MOST = 20  # falls that are remembered: the longest hold needs nine


class Flaps(msgspec.Struct, frozen=True):
    """How often an endpoint fell of late.

    Attributes:
        falls: when it turned from passing to failing, oldest first; those of the last WINDOW_S.
        until: since it passes again, it is not believed before then; 0: it is.
        why: it fell when it began to flap; kept while it does, so that its record is not written at every turn.
    """

    falls: tuple[float, ...] = ()
    until: float = 0.0
    why: str = ""

    @property
    def flapping(self) -> bool:
        """True when it fell so often that it has to stand before it is believed."""
        return len(self.falls) > FALLS


STEADY = Flaps()


def fell(was: Flaps, now: float, why: str) -> Flaps:
    """It turned from passing to failing, because of `why`."""
    falls = (*_recent(was, now), now)[-MOST:]
    return Flaps(falls, why=was.why if was.flapping and len(falls) > FALLS else why)


def rose(was: Flaps, now: float) -> Flaps:
    """Its checks pass again.

    >>> rose(Flaps((1.0, 2.0, 3.0, 4.0)), 5.0).until
    15.0
    """
    still = Flaps(_recent(was, now), why=was.why)
    if not still.flapping:
        return Flaps(still.falls)
    hold_s = FIRST_HOLD_S * 2.0 ** (len(still.falls) - FALLS - 1)
    return msgspec.structs.replace(still, until=now + min(LONGEST_HOLD_S, hold_s))


def _recent(flaps: Flaps, now: float) -> tuple[float, ...]:
    return tuple(at for at in flaps.falls if 0 <= now - at < WINDOW_S)


def is_over(flaps: Flaps, now: float) -> bool:
    """True when it was held for long enough, or the clock was set back behind it."""
    return bool(flaps.until) and not now < flaps.until <= now + LONGEST_HOLD_S
