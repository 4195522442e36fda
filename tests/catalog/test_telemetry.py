"""Log lines, consolidation, readiness and metrics."""

from __future__ import annotations

import json
import logging
import time

import pytest
from prometheus_client.exposition import generate_latest

from pilotfish.catalog.metrics import summed
from pilotfish.catalog.telemetry import REPEAT_WINDOW_S, Consolidate, JsonFormatter, Readiness, Telemetry, TextFormatter


def record(message: str, created: float = 0.0, level: int = logging.WARNING, **extra: object) -> logging.LogRecord:
    """A log record of the part `dns`, made at `created`."""
    made = logging.LogRecord("pilotfish.dns", level, "", 0, message, (), None)
    made.created, made.msecs = created, created % 1 * 1000
    vars(made).update(extra)
    return made


def formatter(kind: type[logging.Formatter]) -> logging.Formatter:
    made = kind()
    made.converter = time.gmtime
    return made


def test_text_line():
    """Time, level, part, message, then the extras."""
    line = formatter(TextFormatter).format(record("gone", 1.5, prefix="/x"))
    assert line == "1970-01-01T00:00:01.500Z warning dns: gone prefix=/x"


def test_text_cannot_be_forged():
    """A newline or an escape sequence in a message or an extra stays inside its line."""
    line = formatter(TextFormatter).format(record("a\nb\x1b[31m", 0.0, name_="c\nd"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert r"a\nb\x1b[31m" in line


def test_json_line():
    """One object a line, numbers as numbers."""
    line = formatter(JsonFormatter).format(record('say "hi"', 0.0, count=3, cause="x"))
    expected = {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "warning",
        "part": "dns",
        "message": 'say "hi"',
        "count": 3,
    }
    assert json.loads(line) == expected


CONSOLIDATION = {
    "the first passes": ([(0.0, "a")], [True]),
    "a repetition does not": ([(0.0, "a"), (1.0, "a")], [True, False]),
    "another cause does": ([(0.0, "a"), (1.0, "b")], [True, True]),
    "after the window it does again": ([(0.0, "a"), (1.0, "a"), (REPEAT_WINDOW_S, "a")], [True, False, True]),
}


@pytest.mark.parametrize(("lines", "expected"), CONSOLIDATION.values(), ids=CONSOLIDATION.keys())
def test_consolidation(lines, expected):
    """One line per cause and window."""
    consolidate = Consolidate()
    assert [consolidate.filter(record(text, created)) for created, text in lines] == expected


def test_consolidation_says_how_many_were_left_out():
    """The line after the window counts those before it."""
    consolidate = Consolidate()
    for created in (0.0, 1.0, 2.0):
        consolidate.filter(record("a", created))
    last = record("a", REPEAT_WINDOW_S)
    assert consolidate.filter(last)
    assert last.getMessage() == "a (and 2 times more before)"


def test_consolidation_is_bounded():
    """Ever new causes do not fill the memory."""
    consolidate = Consolidate()
    for number in range(3000):
        consolidate.filter(record(f"cause {number}"))
    assert len(consolidate._seen) <= 1000


def test_readiness():
    """Ready when nothing is missing."""
    ready = Readiness()
    ready.bad("store", "not read yet")
    ready.bad("nginx", "down")
    ready.good("store")
    assert ready.missing == {"nginx": "down"}


def test_convergence_and_sum():
    """Two processes' histograms add up; times of creation are left out."""
    parts = [Telemetry(name, lambda: 100.0) for name in ("dns", "confgen")]
    for part in parts:
        part.converged("dns", 99.9)
    text = generate_latest(summed(generate_latest(part.registry).decode() for part in parts)).decode()
    assert 'pilotfish_convergence_seconds_count{stage="dns"} 2.0' in text
    assert 'pilotfish_build_info{part="confgen"' in text
    assert "_created" not in text
