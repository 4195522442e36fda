"""What the registrator counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

STATES = ("starting", "passing", "failing", "draining")


class Metrics:
    """Counters and gauges of one registrator."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "pilotfish_registrator_events", "Events of the engine that concerned a container", registry=registry
        )
        self.looks = Counter("pilotfish_registrator_inspections", "Containers that were inspected", registry=registry)
        self.reconcile_fixed = Counter(
            "pilotfish_registrator_reconcile_fixed",
            "Containers of which only the periodic comparison with the engine told",
            registry=registry,
        )
        self.store_fixed = Counter(
            "pilotfish_registrator_store_fixed",
            "Keys that were not in the store as they had been written, and were mended",
            registry=registry,
        )
        self.connected = Gauge(
            "pilotfish_registrator_docker_connected", "1 while the engine's events are heard", registry=registry
        )
        self._commits = Counter("pilotfish_registrator_commits", "Transactions that wrote", registry=registry)
        self._operations = Counter("pilotfish_registrator_operations", "Keys that were written", registry=registry)
        self._endpoints = Gauge("pilotfish_registrator_endpoints", "Endpoints by state", ["state"], registry=registry)
        self._counts = {
            name: Gauge(f"pilotfish_registrator_{name}", text, registry=registry)
            for name, text in (
                ("containers", "Containers that run"),
                ("left_out_ports", "Ports that are not published, each for a reason"),
                ("notices", "Remarks about tags and addresses"),
                ("route_conflicts", "Routes that are refused because somebody else has them"),
                ("blocked_exports", "Exports that are not written because somebody else has the key"),
            )
        }

    def committed(self, operations: int) -> None:
        """Count a transaction."""
        self._commits.inc()
        self._operations.inc(operations)

    def show(self, count: Callable[[], Mapping[str, int]], endpoints: Callable[[], Mapping[str, int]]) -> None:
        """Show what there is when asked: counts by gauge name, endpoints by state."""
        for name, gauge in self._counts.items():
            gauge.set_function(lambda name=name: float(count().get(name, 0)))  # type: ignore[misc]
        for state in STATES:
            self._endpoints.labels(state).set_function(lambda state=state: float(endpoints().get(state, 0)))  # type: ignore[misc]
