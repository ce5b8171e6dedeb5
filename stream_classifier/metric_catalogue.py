"""Every metric of a worker and of a gateway, as data: for whoever writes documentation, dashboards or alerts."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import ProcessCollector

from stream_classifier.device_metrics import LABELS, DeviceMetrics
from stream_classifier.metrics import GatewayMetrics, Metrics


class Described(NamedTuple):
    """A metric.

    Attributes:
        name: As Prometheus has it: a counter's with `_total`, a histogram's without what its series end with.
        kind: `counter`, `gauge` or `histogram`.
        help: What it says.
        labels: The names of its labels, without a histogram's `le`.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]

    @property
    def series(self) -> dict[str, tuple[str, ...]]:
        """The names that a query can have for it, and the labels of each."""
        if self.kind != "histogram":
            return {self.name: self.labels}
        return {
            f"{self.name}_bucket": (*self.labels, "le"),
            f"{self.name}_sum": self.labels,
            f"{self.name}_count": self.labels,
        }


def catalogue() -> tuple[Described, ...]:
    """What `/metrics` of a worker or a gateway can show: its own metrics, those of its GPUs and of its process."""
    metrics = Metrics()
    GatewayMetrics(metrics)
    collectors = ((metrics.registry, None), (DeviceMetrics(()), LABELS), (ProcessCollector(registry=None), ()))
    return tuple(
        Described(
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            family.documentation,
            metrics.label_names[family.name] if labels is None else labels,
        )
        for collector, labels in collectors
        for family in collector.collect()
    )
