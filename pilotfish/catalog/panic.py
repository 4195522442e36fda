"""Says when most of a service fails at once, so that its failing endpoints are kept (`verdict.situation`).

Every reader keeps them by itself and counts such services; the registrators that have endpoints of one log it, once
when it begins and once when it ends. Pure but for the log and the registry of metrics that are handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from prometheus_client import Gauge

from pilotfish.catalog.telemetry import Telemetry


def show(telemetry: Telemetry, services: Callable[[], Collection[str]]) -> None:
    """Show in a part's metrics how many services are in panic; `services` is asked whenever the metrics are."""
    gauge = Gauge(
        "pilotfish_services_in_panic",
        "Services of which most endpoints fail at once, so that those are kept",
        ["part"],
        registry=telemetry.registry,
    )
    gauge.labels(telemetry.part).set_function(lambda: float(len(services())))


class Panics:
    """Logs what begins and what ends, each once.

    Args:
        log: where.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: frozenset[str] = frozenset()

    def look(self, services: Collection[str]) -> None:
        """Compare the services that are in panic now, and are ours to speak of, with those of the last look."""
        now = frozenset(services)
        for service in sorted(now - self._said):
            self._log.warning(
                "service %s: most of its endpoints that worked fail at once: those are kept, since the check or "
                "something behind all of them is likelier to be at fault",
                service,
            )
        for service in sorted(self._said - now):
            self._log.info("service %s: most of it fails no longer: each endpoint counts by itself again", service)
        self._said = now
