"""What is served at this moment, as far as is known, and what is shown of it. The parts of the generator share it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from confgen.applying.blame import Blame
from confgen.applying.history import Pin
from confgen.applying.quarantine import Entry
from confgen.nginx.view import Views
from pilotfish.catalog.telemetry import Telemetry

CONFIG, NGINX, ADDRESS = "configuration", "nginx", "proxy address"  # names in /ready
QUARANTINE, PINNED, WORKERS = "quarantine", "pinned", "workers"


class Metrics:
    """This part's metrics."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self.applied = Counter(
            "pilotfish_confgen_configurations", "Configurations, by what became of them", ["outcome"], registry=registry
        )
        self.seconds = Histogram(
            "pilotfish_confgen_apply_seconds", "From staging a configuration to its proof", registry=registry
        )
        self.starts = Counter("pilotfish_confgen_nginx_starts", "nginx found dead and started", registry=registry)
        self._routes = Gauge("pilotfish_confgen_hosts", "Hosts that are answered for", registry=registry)
        self._notes = Gauge("pilotfish_confgen_refused", "Wishes that are not served", registry=registry)
        self._up = Gauge("pilotfish_confgen_nginx_up", "1 while nginx answers", registry=registry)
        self._generations = Gauge(
            "pilotfish_confgen_worker_generations", "Generations of nginx's workers that live", registry=registry
        )
        self._quarantined = Gauge(
            "pilotfish_confgen_quarantined", "1 for each service in quarantine", ["service"], registry=registry
        )
        self._shown: frozenset[str] = frozenset()

    def show(self, views: Views, *, serving: bool) -> None:
        """Bring the gauges up to date."""
        self._routes.set(views.host_count)
        self._notes.set(sum(len(view.notes) for view in views.services.values()))
        self._up.set(serving)

    def generations(self, living: int) -> None:
        """Show how many generations of workers live."""
        self._generations.set(living)

    def quarantined(self, services: Iterable[str]) -> None:
        """Show who is in quarantine, and nobody else."""
        now = frozenset(services)
        for service in self._shown - now:
            self._quarantined.remove(service)
        for service in now:
            self._quarantined.labels(service).set(1)
        self._shown = now


class Standing:
    """What is served, and where it is shown.

    Args:
        telemetry: of this part.

    Attributes:
        telemetry: readiness and log.
        metrics: of this part.
        generation: of the configuration that was applied last; empty before the first.
        revision: of the store, up to which that configuration says everything.
        serving: nginx answers.
        blame: why the newest configuration was not applied; None when it was.
        outcome: of the last one, in lower case.
        pin: the generation that an operator holds; None: the store says what is served.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry, self.metrics = telemetry, Metrics(telemetry)
        self.generation, self.revision, self.serving = "", 0, False
        self.blame: Blame | None = None
        self.pin: Pin | None = None
        self.outcome = "nothing applied yet"


def routes(views: Views) -> list[dict[str, object]]:
    """All served places: host, path, service, and how many servers stand behind it (0: 503)."""
    return [
        {
            "host": host.text,
            "path": location.path,
            "service": view.name,
            "servers": [server.address.text for server in location.upstream.servers] if location.upstream else [],
        }
        for view in views.services.values()
        for site in (*view.sites, *(site for _, site in view.parts))
        for host in site.hosts
        for location in site.locations
    ]


def quarantined(entries: Iterable[Entry]) -> list[dict[str, object]]:
    """Who is in quarantine, as /api/state shows it."""
    return [
        {
            "service": one.service,
            "served": one.level.value,
            "since": one.since,
            "tries": one.tries,
            "file": one.file,
            "line": one.line,
            "reason": one.reason,
        }
        for one in entries
    ]
