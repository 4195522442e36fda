"""What DNS answers were worth, judged from a prober's log and the history of what was true when. Pure.

"Answered" is not enough: an answer must have been true at some time between shortly before its question and its
arrival, and what has been true all that time must be in it.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping, Sequence

import msgspec

GOOD_RCODES = frozenset(("NOERROR", "NXDOMAIN"))


class Asked(msgspec.Struct, frozen=True):
    """One question as the prober saw it; times in seconds of the monotonic clock.

    Attributes:
        seq: its number.
        at: when it was sent.
        took_s: until the answer came, or was given up.
        server: "address:port".
        name: as asked, without the last dot.
        type: "A", "SRV", ...
        rcode: such as "NOERROR"; None when no answer came.
        answers: the texts of the records of the type asked for, sorted: "10.0.0.1", "10 50 80 web.svc.internal."
        truncated: the TC flag.
        error: why there is no rcode: "timeout", or what was wrong with the message.
    """

    seq: int
    at: float
    took_s: float
    server: str
    name: str
    type: str
    rcode: str | None = None
    answers: tuple[str, ...] = ()
    truncated: bool = False
    error: str | None = None

    @property
    def until(self) -> float:
        """When the answer came."""
        return self.at + self.took_s


class Fact(msgspec.Struct, frozen=True):
    """From `at` on, `value` was there (`present`) or not. Facts about one value are in the order of time."""

    at: float
    value: str
    present: bool = True


class Finding(msgspec.Struct, frozen=True):
    """An answer that was not right: the question's number, who answered, and the values at fault."""

    seq: int
    at: float
    server: str
    name: str
    values: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What a run of questions showed.

    Attributes:
        asked: how many questions there were.
        good: how many answers were right.
        lost: questions that got no answer.
        refused: answers with an rcode that says nothing about the name (SERVFAIL, REFUSED, ...).
        stale: answers with something that had been gone for longer than the bound.
        missing: answers without something that had been there for longer than the bound.
        invented: answers with something that was never there.
        longest_gap_s: the longest time that a server went without a right or a stale answer, over all servers.
    """

    asked: int
    good: int
    lost: tuple[Finding, ...]
    refused: tuple[Finding, ...]
    stale: tuple[Finding, ...]
    missing: tuple[Finding, ...]
    invented: tuple[Finding, ...]
    longest_gap_s: float

    @property
    def bad(self) -> int:
        """How many questions were not answered rightly."""
        return self.asked - self.good


def judge(rows: Sequence[Asked], history: Mapping[str, Iterable[Fact]], bound_s: float) -> Verdict:
    """Compare answers with what was true.

    Args:
        rows: the prober's log.
        history: facts by name, or by (name, type) written "name/TYPE", which is looked for first; names in lower case,
            without the last dot. What is not in it never was.
        bound_s: how long an answer may lag behind what is true.
    """
    times = {name: _by_value(facts) for name, facts in history.items()}
    found: dict[str, list[Finding]] = collections.defaultdict(list)
    good = 0
    for row in sorted(rows, key=lambda row: row.at):
        wrong = _wrong(row, _facts(times, row), bound_s)
        good += not wrong
        for kind, values in wrong.items():
            found[kind].append(Finding(row.seq, row.at, row.server, row.name, values))
    kinds = ("lost", "refused", "stale", "missing", "invented")
    return Verdict(
        asked=len(rows), good=good, longest_gap_s=longest_gap_s(rows), **{kind: tuple(found[kind]) for kind in kinds}
    )


def _by_value(facts: Iterable[Fact]) -> Mapping[str, list[Fact]]:
    values: dict[str, list[Fact]] = collections.defaultdict(list)
    for fact in facts:
        values[fact.value].append(fact)
    return values


def _facts(times: Mapping[str, Mapping[str, list[Fact]]], row: Asked) -> Mapping[str, list[Fact]]:
    name = row.name.lower().rstrip(".")
    return times.get(f"{name}/{row.type}", times.get(name, {}))


def _wrong(row: Asked, values: Mapping[str, list[Fact]], bound_s: float) -> dict[str, tuple[str, ...]]:
    """What is wrong with one answer, and with which values."""
    if row.rcode is None:
        return {"lost": (row.error or "no answer",)}
    if row.rcode not in GOOD_RCODES:
        return {"refused": (row.rcode,)}
    since, until = row.at - bound_s, row.until
    answered = set(row.answers)
    held = {value: _held(facts, since, until) for value, facts in values.items()}
    stale = tuple(value for value in row.answers if value in held and not held[value][0])
    missing = tuple(value for value, (_, always) in sorted(held.items()) if always and value not in answered)
    invented = tuple(value for value in row.answers if value not in held)
    wrong = {"stale": stale, "missing": missing, "invented": invented}
    return {kind: found for kind, found in wrong.items() if found}


def _held(facts: Sequence[Fact], since: float, until: float) -> tuple[bool, bool]:
    """Whether a value was there at some time, and at all times, from `since` to `until`."""
    before = [fact for fact in facts if fact.at <= since]
    states = [bool(before) and before[-1].present, *(fact.present for fact in facts if since < fact.at <= until)]
    return any(states), all(states)


def longest_gap_s(rows: Iterable[Asked]) -> float:
    """The longest time that any server went without answering, in seconds.

    Counted from the sending of the first question to the arrival of the first answer, between arrivals, and from the
    last arrival to the end of the last question.
    """
    by_server: dict[str, list[Asked]] = collections.defaultdict(list)
    for row in rows:
        by_server[row.server].append(row)
    return max((_gap_s(mine) for mine in by_server.values()), default=0.0)


def _gap_s(rows: Sequence[Asked]) -> float:
    came = sorted(row.until for row in rows if row.rcode in GOOD_RCODES)
    marks = [min(row.at for row in rows), *came, max(row.until for row in rows)]
    return max(later - earlier for earlier, later in itertools.pairwise(marks))


def text(verdict: Verdict) -> str:
    """Say it in a few lines, for a failing test."""
    lines = [f"{verdict.good} of {verdict.asked} right, longest gap {verdict.longest_gap_s:.3f} s"]
    for kind in ("lost", "refused", "stale", "missing", "invented"):
        found = getattr(verdict, kind)
        lines += [f"{kind}: {len(found)}, first {found[0]}"] if found else []
    return "\n".join(lines)
