"""The DNS server's metrics, gathered when they are asked for: counting on the way would cost more than answering.

Pure: reads counters, keeps none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dnsserver.faults import Faults
from dnsserver.responder import Responder


class Sockets(Protocol):
    """What is asked of the open sockets."""

    @property
    def overflowed(self) -> int:
        """Datagrams that the kernel dropped because a buffer was full."""
        ...

    @property
    def unsent(self) -> int:
        """Replies that the kernel did not take."""
        ...

    @property
    def connections(self) -> int:
        """TCP connections that are open."""
        ...

    @property
    def refused(self) -> int:
        """TCP connections closed at once, because their client had its share."""
        ...

    @property
    def evicted(self) -> int:
        """TCP connections closed because they were silent, slow, or in the way of others."""
        ...


class Figures(Collector):
    """Metrics of a responder.

    Args:
        responder: what answers.
        sockets: the open sockets; None before they are open.
        age_s: seconds since the store's last sign of life.
        faults: of our own.
    """

    def __init__(
        self,
        responder: Responder,
        sockets: Callable[[], Sockets | None],
        age_s: Callable[[], float],
        faults: Faults,
    ) -> None:
        self._responder, self._sockets, self._age_s, self._faults = responder, sockets, age_s, faults

    def collect(self) -> Iterable[Metric]:
        """All metrics as they are now."""
        yield self._queries()
        yield from self._answers()
        yield from self._limits()
        sockets = self._sockets()
        if sockets is not None:
            yield CounterMetricFamily(
                "pilotfish_dns_overflowed", "Datagrams dropped because a buffer was full", value=sockets.overflowed
            )
            yield CounterMetricFamily("pilotfish_dns_unsent", "Replies that could not be sent", value=sockets.unsent)
            yield GaugeMetricFamily(
                "pilotfish_dns_tcp_connections", "TCP connections that are open", value=sockets.connections
            )
            closed = CounterMetricFamily("pilotfish_dns_tcp_closed", "TCP connections that we ended", labels=["why"])
            closed.add_metric(["share"], sockets.refused)
            closed.add_metric(["silent"], sockets.evicted)
            yield closed

    def _queries(self) -> Metric:
        queries = CounterMetricFamily(
            "pilotfish_dns_queries", "Messages answered", labels=["transport", "type", "rcode"]
        )
        for counted, count in self._responder.counts().items():
            queries.add_metric([counted.transport.value, counted.type, counted.rcode], count)
        return queries

    def _limits(self) -> Iterable[Metric]:
        limiter = self._responder.guests.limiter
        if limiter is None:
            return
        limited = CounterMetricFamily(
            "pilotfish_dns_limited", "Answers over UDP beyond --rate-limit, by what became of them", labels=["how"]
        )
        limited.add_metric(["truncated"], limiter.slipped)
        limited.add_metric(["dropped"], limiter.dropped)
        yield limited

    def _answers(self) -> Iterable[Metric]:
        responder = self._responder
        answered = sum(responder.counts().values())
        hits, zone = max(0, answered - responder.misses), responder.zone
        refused = len(zone.own.registry.refused) + len(zone.foreign.refused)
        yield CounterMetricFamily("pilotfish_dns_cache_hits", "Answers that were finished before", value=hits)
        yield CounterMetricFamily("pilotfish_dns_dropped", "Messages without a reply", value=responder.dropped)
        yield GaugeMetricFamily("pilotfish_dns_cache_entries", "Finished answers held", value=responder.kept)
        yield GaugeMetricFamily("pilotfish_dns_refused_records", "Records that are left out", value=refused)
        yield CounterMetricFamily(
            "pilotfish_dns_faults", "Messages and lines lost to faults of ours", value=self._faults.count
        )
        yield GaugeMetricFamily("pilotfish_dns_data_age_seconds", "Since the store was heard", value=self._age_s())
