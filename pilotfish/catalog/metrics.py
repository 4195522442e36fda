"""Several Prometheus texts made one, for a parent that shows its children's metrics with its own.

Pure. Samples of the same name and labels are added, which is right for counters and histograms; our gauges carry a
label that tells the parts apart. The times at which counters were made are left out: their sum means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample


class _Summed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def summed(texts: Iterable[str]) -> CollectorRegistry:
    """One registry with the sum of all texts (Prometheus text format 0.0.4).

    Raises:
        ValueError: a text is not in that format.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            if family.name.endswith("_created"):
                continue
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            held = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                held[key] = held.get(key, 0.0) + sample.value
    for name, family in families.items():
        family.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()]
    registry = CollectorRegistry()
    registry.register(_Summed(list(families.values())))
    return registry
