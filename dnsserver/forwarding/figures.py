"""Metrics of forwarding, gathered when they are asked for.

Pure: reads counters, keeps none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.health import Healths, Server
from pilotfish.catalog.values import join_host_port


class Counts(Protocol):
    """What is asked of a forwarder."""

    servers: tuple[Server, ...]
    cache: ForwardCache
    healths: Healths
    joined: int
    shed: int
    prefetched: int

    @property
    def queries(self) -> Mapping[tuple[str, str], int]:
        """Messages sent, by server and what came of them."""
        ...

    @property
    def wrong(self) -> Mapping[str, int]:
        """Messages received that were no replies, by what was wrong."""
        ...

    @property
    def in_flight(self) -> int:
        """Questions that are out."""
        ...

    @property
    def waiting(self) -> int:
        """Those who wait for an answer."""
        ...


class ForwardFigures(Collector):
    """Metrics of a forwarder."""

    def __init__(self, forwarder: Counts) -> None:
        self._forwarder = forwarder

    def collect(self) -> Iterable[Metric]:
        """All metrics as they are now."""
        yield from self._messages()
        yield from self._servers()
        yield from self._questions()
        yield from self._cache()

    def _messages(self) -> Iterable[Metric]:
        sent = CounterMetricFamily(
            "pilotfish_dns_forward_queries", "Messages to name servers", labels=["server", "outcome"]
        )
        for (server, outcome), count in sorted(self._forwarder.queries.items()):
            sent.add_metric([server, outcome], count)
        yield sent
        wrong = CounterMetricFamily(
            "pilotfish_dns_forward_mismatched", "Messages from name servers that were no replies", labels=["reason"]
        )
        for reason, count in sorted(self._forwarder.wrong.items()):
            wrong.add_metric([reason], count)
        yield wrong

    def _servers(self) -> Iterable[Metric]:
        healthy = GaugeMetricFamily(
            "pilotfish_dns_forward_healthy",
            "1 while a name server answers, 0 while it is left alone",
            labels=["server"],
        )
        rtt = GaugeMetricFamily(
            "pilotfish_dns_forward_rtt_seconds", "Smoothed round trip time of a name server", labels=["server"]
        )
        for server in self._forwarder.servers:
            health = self._forwarder.healths[server]
            healthy.add_metric([join_host_port(*server)], not (health.dead or health.looping))
            rtt.add_metric([join_host_port(*server)], health.rtt_s)
        yield healthy
        yield rtt

    def _questions(self) -> Iterable[Metric]:
        forwarder = self._forwarder
        yield GaugeMetricFamily("pilotfish_dns_forward_in_flight", "Questions that are out", value=forwarder.in_flight)
        yield GaugeMetricFamily(
            "pilotfish_dns_forward_waiting", "Those who wait for an answer", value=forwarder.waiting
        )
        yield CounterMetricFamily(
            "pilotfish_dns_forward_joined", "Questions that were out already", value=forwarder.joined
        )
        yield CounterMetricFamily(
            "pilotfish_dns_forward_shed", "Questions not asked because too many were out", value=forwarder.shed
        )
        yield CounterMetricFamily(
            "pilotfish_dns_forward_prefetched", "Questions asked again in good time", value=forwarder.prefetched
        )

    def _cache(self) -> Iterable[Metric]:
        cache = self._forwarder.cache
        yield GaugeMetricFamily("pilotfish_dns_forward_cache_entries", "Forwarded answers held", value=len(cache))
        yield GaugeMetricFamily("pilotfish_dns_forward_cache_bytes", "Their size, about", value=cache.octets)
        yield CounterMetricFamily("pilotfish_dns_forward_cache_hits", "Answers given from it", value=cache.hits)
        yield CounterMetricFamily(
            "pilotfish_dns_forward_cache_misses", "Questions it had no answer to", value=cache.misses
        )
        yield CounterMetricFamily("pilotfish_dns_forward_stale", "Answers given past their end", value=cache.stale)
