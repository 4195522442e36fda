"""What became of numbered HTTP requests, judged from the client's log, the servers' logs and what was true when. Pure.

Status codes alone miss three of four ways to fail: a request may be lost though it was answered, served twice, or
answered by somebody who should not have got it.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

SAFE_TO_REPEAT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))  # RFC 9110 section 9.2.2


class Sent(msgspec.Struct, frozen=True):
    """One request as the client saw it; times in seconds of the monotonic clock.

    Attributes:
        seq: its number, "17", or "run.17" in a named run.
        at: when it was sent; `at + took_s` is when its answer was whole, or given up.
        took_s: how long it took.
        proxy: "address:port" it went to.
        method: "GET" or "POST".
        status: None when there was no whole answer.
        by: who says to have served it.
        echoed: the number that came back.
        error: why there was no whole answer.
        reused: it went over a connection that had served others.
        repeated: it was a GET whose reused connection was found closed, and was sent again on a new one.
    """

    seq: str
    at: float
    took_s: float
    proxy: str
    method: str
    status: int | None = None
    by: str | None = None
    echoed: str | None = None
    error: str | None = None
    reused: bool = False
    repeated: bool = False


class Served(msgspec.Struct, frozen=True):
    """One request as a server logged it: the number it read, and the server's id."""

    seq: str
    by: str


class Serving(msgspec.Struct, frozen=True):
    """Who may serve from when to when, in seconds of the monotonic clock."""

    by: str
    since: float = -math.inf
    until: float = math.inf


class Span(msgspec.Struct, frozen=True):
    """Failures of one kind through one proxy that followed each other: from the first to the end of the last."""

    proxy: str
    what: str
    since: float
    until: float
    count: int


class Verdict(msgspec.Struct, frozen=True):
    """What became of a run; numbers are those of the requests, in the order in which they were sent.

    Attributes:
        sent: how many there were.
        good: how many were answered with 2xx by somebody who may, and served exactly once as far as is known.
        failed: no whole answer, or a status other than 2xx.
        lost: answered, but no server has seen them (not known without the servers' logs), or never ended.
        doubled: served more than once.
        doubled_unsafe: those of them that must not be repeated (POST).
        wrong: answered by somebody who was not to serve at that time.
        mixed: answered with another request's number.
        spans: the failures, joined over time.
    """

    sent: int
    good: int
    failed: tuple[str, ...]
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    doubled_unsafe: tuple[str, ...]
    wrong: tuple[str, ...]
    mixed: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def bad(self) -> int:
        """How many requests were not good."""
        return self.sent - self.good

    @property
    def worst_s(self) -> float:
        """The longest span of failures, in seconds; 0 without any."""
        return max((span.until - span.since for span in self.spans), default=0.0)


def judge(
    sent: Sequence[Sent],
    allowed: Collection[str | Serving],
    *,
    served: Iterable[Served] | None = None,
    bound_s: float = 0.0,
    numbers: Iterable[str] = (),
    join_s: float = 1.0,
) -> Verdict:
    """Join both ends' logs.

    Args:
        sent: the client's log.
        allowed: who may serve: ids, or Servings with times.
        served: the servers' logs; None: they are not known, and what they alone show is not judged.
        bound_s: how long after its time a server may still be sent requests.
        numbers: numbers that were given out; those without a row in `sent` are lost.
        join_s: failures closer together than this are one span.
    """
    times = collections.Counter(row.seq for row in served or ())
    windows = _windows(allowed)
    rows = sorted(sent, key=lambda row: row.at)
    found: dict[str, list[str]] = {
        kind: [] for kind in ("failed", "lost", "doubled", "doubled_unsafe", "wrong", "mixed")
    }
    good = 0
    for row in rows:
        kinds = _kinds(row, windows, times, bound_s, judge_servers=served is not None)
        good += not kinds
        for kind in kinds:
            found[kind].append(row.seq)
    known = {row.seq for row in rows}
    never = [seq for seq in numbers if seq not in known]
    found["lost"] += never
    return Verdict(
        sent=len(rows) + len(never),
        good=good,
        spans=_spans((row for row in rows if _failure(row)), join_s),
        **{kind: tuple(seqs) for kind, seqs in found.items()},
    )


def _windows(allowed: Collection[str | Serving]) -> Mapping[str, list[Serving]]:
    windows: dict[str, list[Serving]] = collections.defaultdict(list)
    for each in allowed:
        serving = Serving(each) if isinstance(each, str) else each
        windows[serving.by].append(serving)
    return windows


def _kinds(
    row: Sent, windows: Mapping[str, list[Serving]], times: Mapping[str, int], bound_s: float, *, judge_servers: bool
) -> list[str]:
    """Everything that is wrong with one request."""
    kinds = []
    count = times.get(row.seq, 0)
    if _failure(row):
        kinds.append("failed")
    elif judge_servers and not count:
        kinds.append("lost")
    if count > 1:
        kinds += ["doubled"] if row.method in SAFE_TO_REPEAT else ["doubled", "doubled_unsafe"]
    if row.by is not None and not _may_serve(row, windows.get(row.by, []), bound_s):
        kinds.append("wrong")
    if row.echoed is not None and row.echoed != row.seq:
        kinds.append("mixed")
    return kinds


def _failure(row: Sent) -> str:
    """How a request failed; "" for a good one. Failures of one text make a span."""
    if row.error is not None or row.status is None:
        return row.error or "no answer"
    return "" if 200 <= row.status < 300 else f"status {row.status}"


def _may_serve(row: Sent, windows: Sequence[Serving], bound_s: float) -> bool:
    end = row.at + row.took_s
    return any(window.since <= end and row.at <= window.until + bound_s for window in windows)


def _spans(failures: Iterable[Sent], join_s: float) -> tuple[Span, ...]:
    open_spans: dict[tuple[str, str], Span] = {}
    closed: list[Span] = []
    for row in failures:
        key, end = (row.proxy, _failure(row)), row.at + row.took_s
        span = open_spans.get(key)
        if span is not None and row.at - span.until <= join_s:
            joined = msgspec.structs.replace(span, until=max(span.until, end), count=span.count + 1)
            open_spans[key] = joined
            continue
        if span is not None:
            closed.append(span)
        open_spans[key] = Span(*key, since=row.at, until=end, count=1)
    return tuple(sorted(itertools.chain(closed, open_spans.values()), key=lambda span: span.since))


def text(verdict: Verdict) -> str:
    """Say it in a few lines, for a failing test."""
    kinds = ("failed", "lost", "doubled", "doubled_unsafe", "wrong", "mixed")
    counts = {kind: getattr(verdict, kind) for kind in kinds}
    lines = [f"{verdict.good} of {verdict.sent} good"]
    lines += [
        f"{kind}: {len(seqs)} ({', '.join(seqs[:5])}{', ...' if len(seqs) > 5 else ''})"
        for kind, seqs in counts.items()
        if seqs
    ]
    lines += [f"{span.proxy} {span.what}: {span.count} in {span.until - span.since:.3f} s" for span in verdict.spans]
    return "\n".join(lines)
