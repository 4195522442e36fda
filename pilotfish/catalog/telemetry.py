"""What every part shows of itself: metrics, readiness, log lines. One value per process part, handed in, no globals.

Pure but for the clock that is handed in; `io_status` serves it and `io_log` writes the lines.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Seconds; from "an answer within a reload-free change" to "a lease had to end".
CONVERGENCE_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.7, 1, 2, 5, 10, 30, 60)
REPEAT_WINDOW_S = 10.0  # one line per cause in this time; the next one says how many were left out
MAX_CAUSES = 1000


def own_version() -> str:
    """The version of the installed package; `0+unknown` from a bare checkout."""
    try:
        return version("pilotfish")
    except PackageNotFoundError:
        return "0+unknown"


class Readiness:
    """What a part still misses before it may be relied on; ready when nothing is missing."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}

    def bad(self, name: str, why: str) -> None:
        """`name` is missing, because of `why`."""
        self._missing[name] = why

    def good(self, name: str) -> None:
        """`name` is there."""
        self._missing.pop(name, None)

    @property
    def missing(self) -> dict[str, str]:
        """What is missing, with the reason for each; a copy."""
        return dict(self._missing)


class MirrorMetrics:
    """How old and how large the copies of the store are, by part and prefix.

    Attributes:
        part: whose copies.
        shown: the prefixes that it has shown.
    """

    def __init__(self, part: str, registry: CollectorRegistry) -> None:
        labels = ["part", "prefix"]
        self.part = part
        self.shown: tuple[str, ...] = ()
        self._age = Gauge(
            "pilotfish_store_age_seconds", "Since the store's last sign of life", labels, registry=registry
        )
        self._entries = Gauge("pilotfish_mirror_entries", "Entries held in memory", labels, registry=registry)
        self._revision = Gauge("pilotfish_mirror_revision", "Store revision that is applied", labels, registry=registry)
        self._repaired = Counter(
            "pilotfish_mirror_repaired", "Entries that were found wrong and mended", labels, registry=registry
        )

    def of(self, part: str) -> MirrorMetrics:
        """The same families for another part of the process."""
        other = copy.copy(self)
        other.part, other.shown = part, ()
        return other

    def show(self, prefix: str, age_s: Callable[[], float], size: Callable[[], tuple[int, int]]) -> None:
        """Show a mirror: `size` returns how many entries it holds, and its revision."""
        self._age.labels(self.part, prefix).set_function(age_s)
        self._entries.labels(self.part, prefix).set_function(lambda: float(size()[0]))
        self._revision.labels(self.part, prefix).set_function(lambda: float(size()[1]))
        self._repaired.labels(self.part, prefix)
        self.shown = (*self.shown, prefix)

    def forget(self) -> None:
        """Show this part's mirrors no more: it has ended, and they would only grow older."""
        for prefix in dict.fromkeys(self.shown):
            self.drop(prefix)

    def drop(self, prefix: str) -> None:
        """Show one mirror no more: nobody follows it any longer."""
        for family in (self._age, self._entries, self._revision, self._repaired):
            family.remove(self.part, prefix)
        self.shown = tuple(one for one in self.shown if one != prefix)

    def repaired(self, prefix: str, entries: int) -> None:
        """Count entries that were mended."""
        self._repaired.labels(self.part, prefix).inc(entries)


class Telemetry:
    """Metrics, readiness and log of one part.

    Args:
        part: "registrator", "dns", "confgen", "console" or "up".
        now: UNIX time in seconds.
    """

    def __init__(self, part: str, now: Callable[[], float]) -> None:
        self.part = part
        self.log = logging.getLogger(f"pilotfish.{part}")
        self.ready = Readiness()
        self.registry = CollectorRegistry()
        self.now = now
        self._convergence = Histogram(
            "pilotfish_convergence_seconds",
            "From the engine's event to the store, to the first possible answer, to the workers that serve it",
            ["stage"],
            buckets=CONVERGENCE_BUCKETS,
            registry=self.registry,
        )
        self.mirrors = MirrorMetrics(part, self.registry)
        build = Gauge("pilotfish_build_info", "Always 1", ["part", "version"], registry=self.registry)
        build.labels(part, own_version()).set(1)

    def converged(self, stage: str, observed: float) -> None:
        """Count one change that reached `stage` ("store", "dns", "proxy") after the event at UNIX time `observed`."""
        self._convergence.labels(stage).observe(max(0.0, self.now() - observed))


class Consolidate(logging.Filter):
    """Lets one line per cause through in REPEAT_WINDOW_S and adds how many were left out to the next.

    The cause of a record is its `cause` extra, else its message with arguments. Lines below WARNING pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True when the record is to be written."""
        if record.levelno < logging.WARNING:
            return True
        cause = (record.name, str(getattr(record, "cause", record.getMessage())))
        since, left_out = self._seen.get(cause, (float("-inf"), 0))
        if record.created - since < REPEAT_WINDOW_S:
            self._seen[cause] = (since, left_out + 1)
            return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times more before)", ()
        self._seen.pop(cause, None)
        self._seen[cause] = (record.created, 0)
        if len(self._seen) > MAX_CAUSES:
            del self._seen[next(iter(self._seen))]
        return True


_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "cause", "taskName"}


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    """`2026-11-21T09:31:16.123Z warning registrator: what happened key=value`; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        extras = "".join(f" {name}={value}" for name, value in _extras(record).items())
        part = record.name.removeprefix("pilotfish.")
        line = f"{self.stamp(record)} {record.levelname.lower()} {part}: {record.getMessage()}{extras}"
        printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
        return f"{printable}\n{self.formatException(record.exc_info)}" if record.exc_info else printable

    def stamp(self, record: logging.LogRecord) -> str:
        """UTC, RFC 3339, milliseconds."""
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"


class JsonFormatter(TextFormatter):
    """One JSON object a line: time, level, part, message and whatever extra the record carries."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, object] = {
            "time": self.stamp(record),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("pilotfish."),
            "message": record.getMessage(),
            **{name: value if isinstance(value, str | int | float | bool) else str(value)
               for name, value in _extras(record).items()},
        }  # fmt: skip
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()
