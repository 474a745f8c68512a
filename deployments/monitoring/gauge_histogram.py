"""A histogram for Prometheus that costs the same however many values it counts."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import cast

from ray.serve import metrics


class GaugeHistogram:
    """Counts values in buckets, and publishes the counts as gauges named like the parts of a Prometheus histogram.

    Ray's own `Histogram` passes every value on, and Ray's agent on each node records it once more: at 5,000 images a
    second the agent used a whole core. Queries such as `histogram_quantile(0.99, rate(..._bucket[5m]))` are the same.
    (https://prometheus.io/docs/concepts/metric_types/#histogram)

    Args:
        name: name, to which `_bucket`, `_sum` and `_count` are added.
        description: description for people.
        limits: ascending upper limits of the buckets; a last bucket without a limit is added.
        label: name of a label that tells several histograms apart; empty for a single one.
    """

    def __init__(self, name: str, description: str, limits: Sequence[float], label: str = "") -> None:
        self._limits, self._label = limits, label
        self._les = [*(f"{limit:g}" for limit in limits), "+Inf"]
        labels = (label,) if label else ()
        self._buckets = self._gauge(f"{name}_bucket", f"{description}: count up to the limit `le`", *labels, "le")
        self._sum = self._gauge(f"{name}_sum", f"{description}: sum", *labels)
        self._count = self._gauge(f"{name}_count", f"{description}: count", *labels)
        self._counts = defaultdict[str, list[int]](lambda: [0] * len(self._les))  # by value of the label
        self._sums = defaultdict[str, float](float)

    @staticmethod
    def _gauge(name: str, description: str, *labels: str) -> metrics.Gauge:
        tags = cast(tuple[str], labels)  # Ray's annotation for a tuple of any length
        return metrics.Gauge(name, description=description, tag_keys=tags)

    def observe(self, value: float, times: int = 1, *, of: str = "") -> None:
        """Count a value several times; `of` is the value of the label."""
        self._counts[of][bisect_left(self._limits, value)] += times
        self._sums[of] += times * value

    def publish(self) -> None:
        """Pass the counts on to Ray."""
        for of, counts in self._counts.items():
            tags = {self._label: of} if self._label else {}
            for le, count in zip(self._les, accumulate(counts), strict=True):
                self._buckets.set(count, {**tags, "le": le})
            self._sum.set(self._sums[of], tags)
            self._count.set(sum(counts), tags)
