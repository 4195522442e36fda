"""One template resource while it is at work: when it is due, how it went, and what is counted of all of them."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Counter, Gauge

from confgen.resources.io_confdir import Loaded
from confgen.resources.resource import Command
from pilotfish.catalog.telemetry import Telemetry

IDLE = "waiting for its keys"
MOST_NOTICES = 100  # that are shown of one resource


class Entry:
    """One resource at work.

    Attributes:
        loaded: the resource and its template.
        wake: set when it has to be rendered.
        first, last: when the first and the last change came that is not rendered yet.
        busy: it is being placed.
        commands: the reload commands of its files; None before it was placed.
        status, problems, notices, revision, changed_at, failures, in_place: what /api/state shows.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.wake = asyncio.Event()
        self.first = self.last = 0.0
        self.busy = False
        self.commands: set[Command] | None = None
        self.status, self.problems, self.in_place = IDLE, list[str](), list[str]()
        self.notices = list[str]()
        self.revision, self.changed_at, self.failures = 0, 0.0, 0

    def touch(self) -> None:
        """Its keys changed."""
        self.last = time.monotonic()
        if not self.wake.is_set():
            self.first = self.last
        self.wake.set()

    @property
    def at_work(self) -> bool:
        """True while it is being placed, or will be at once."""
        return self.busy or (self.wake.is_set() and self.loaded.resource.wait is None)

    def due(self, started: float, between_s: float) -> float:
        """When to render: once it was quiet, and not too soon after the last time."""
        wait = self.loaded.resource.wait
        collected = min(self.last + wait.quiet_s, self.first + wait.longest_s) if wait else self.first
        return max(collected, started + between_s)

    def state(self) -> dict[str, object]:
        """What /api/state shows of it."""
        return {
            "resource": self.loaded.resource.name,
            "dest": self.loaded.resource.dest,
            "status": self.status,
            "problems": self.problems,
            "revision": self.revision,
            "changed_at": self.changed_at or None,
            "failures": self.failures,
            "written_in_place": self.in_place,
            "notices": [*self.loaded.resource.notices, *self.notices[:MOST_NOTICES]],
        }


class Metrics:
    """This part's metrics."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self.runs = Counter(
            "pilotfish_confgen_renderings", "Template resources rendered, by outcome", ["outcome"], registry=registry
        )
        self.failing = Gauge(
            "pilotfish_confgen_failing_resources",
            "Template resources that failed last, or cannot be read",
            registry=registry,
        )
        self.resources = Gauge("pilotfish_confgen_resources", "Template resources", registry=registry)
