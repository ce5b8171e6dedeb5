"""The catalogue of metrics: every name that dashboards and alerts may use stands here, once.

Labels are bounded: topics, partitions, reasons and label sets come from the settings, and ad-hoc labels count as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_PREFIX = "stream_classifier_"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class BatchHistogram(Collector):
    """A histogram that takes many observations at once, which prometheus_client's own cannot.

    Observing events one by one would cost more than everything else that the worker does for them.
    """

    def __init__(
        self, registry: CollectorRegistry, name: str, help_: str, buckets: Sequence[float], label: str | None = None
    ) -> None:
        self._name = _PREFIX + name
        self._help = help_
        self._bounds = np.array(buckets, dtype=np.float64)
        self._label = label
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)
        if label is None:
            self.observe(())

    def observe(self, values: Sequence[float], label: str = "") -> None:
        """Add observations. One thread only; `collect` may run in another."""
        observed = np.array(values, dtype=np.float64)
        places = np.searchsorted(self._bounds, observed)
        # A new array each time: `collect` sees the one or the other, never half of a change.
        counts = np.bincount(places, minlength=len(self._bounds) + 1)
        self._counts[label] = self._counts[label] + counts if label in self._counts else counts
        self._sums[label] = self._sums.get(label, 0.0) + float(observed.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What prometheus_client asks for."""
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label] if self._label else None)
        for label, counts in list(self._counts.items()):
            bounds = [*map(str, self._bounds.tolist()), "+Inf"]
            buckets = list(zip(bounds, np.cumsum(counts).tolist(), strict=True))
            family.add_metric([label] if self._label else [], buckets, self._sums[label])
        yield family


class Metrics:
    """All of them, in a registry of their own; see `help` of each in /metrics.

    Attributes:
        registry: What is served.
        label_names: Those of each family, by its name: a family tells them only once it has samples.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.label_names: dict[str, tuple[str, ...]] = {}

        counter, gauge, histogram = self.counter, self.gauge, self.histogram
        self.consumed = counter("events_consumed", "Events polled from the input.", "topic")
        self.labelled = counter("events_labelled", "Labelled events acknowledged by the broker.", "label_set")
        self.labels_assigned = counter("labels_assigned", "Labels given; ad-hoc ones as other.", "label_set", "label")
        self.abstained = counter("abstained", "Events for which no label reached its threshold.", "label_set")
        self.dead_letters = counter("dead_letters", "Events acknowledged in the dead-letter topic.", "reason")
        self.tombstones_passed = counter("tombstones_passed", "Tombstones passed through.")
        self.truncated = counter("truncated", "Texts of which the model read only the beginning.")
        self.batches = counter("batches", "Runs of the model.")
        self.tokens = counter("tokens", "Tokens run through the model.", "kind")
        self.cache_requests = counter("cache_requests", "Look-ups in the caches.", "cache", "result")
        self.commits = counter("commits", "Offset commits.", "result")
        self.produce_errors = counter("produce_errors", "Records that Kafka did not take at the first attempt.")
        self.retries = counter("retries", "Repetitions, by what made them necessary.", "cause")
        self.transactions = counter("transactions", "Transactions, by how they ended.", "result")
        self.rebalances = counter("rebalances", "Changes of the assignment.", "kind")
        self.gaps = counter("gaps", "Gaps that retention had left in the input and that were passed over.")

        self.batch_events = histogram("batch_events", "Texts, or pairs of a text and a label, in one run.", _EVENTS)
        self.batch_tokens = histogram("batch_tokens", "Padded tokens of one run of the model.", _TOKENS)
        self.inference_seconds = histogram("inference_seconds", "One run of the model.", _SHORT_SECONDS)
        self.tokenize_seconds = histogram("tokenize_seconds", "Tokenising one window.", _SHORT_SECONDS)
        self.end_to_end_seconds = histogram(
            "end_to_end_seconds", "From the record's timestamp to the acknowledged result.", _SECONDS
        )
        self.processing_seconds = histogram("processing_seconds", "From polled to the acknowledged result.", _SECONDS)
        self.confidence = histogram("confidence", "Score of the best label.", _SHARES, "label_set")

        self.in_flight = gauge("in_flight_events", "Events polled and not yet below the low-water mark.")
        self.oldest = gauge("oldest_unsettled_seconds", "Age, since it was polled, of the oldest event in flight.")
        self.lag = gauge("consumer_lag", "Events behind the end of the partition.", "topic", "partition")
        self.assigned = gauge("assigned_partitions", "Partitions that this worker has.")
        self.paused = gauge("paused", "Partitions that are paused, as too much is in flight.")
        self.model_info = gauge("model_info", "1 for the model in use.", "model", "hash", "precision", "device")
        self.ready = gauge("ready", "1 when the worker is ready, as /readyz says.")
        # A counter that is first seen at 1 has not grown, as Prometheus sees it: so all begin at 0. Those
        # whose labels other files know, `Accounting` begins.
        for kind in ("assigned", "revoked", "lost"):
            self.rebalances.labels(kind)
        for kind in ("useful", "padding"):
            self.tokens.labels(kind)
        for result in ("ok", "failed"):
            self.commits.labels(result)
        for result in ("committed", "aborted"):
            self.transactions.labels(result)

    def counter(self, name: str, help_: str, *labels: str) -> Counter:
        """One more of them, that only grows."""
        self.label_names[_PREFIX + name] = labels
        return Counter(_PREFIX + name, help_, labels, registry=self.registry)

    def gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        """One more of them, that is as it is at the moment."""
        self.label_names[_PREFIX + name] = labels
        return Gauge(_PREFIX + name, help_, labels, registry=self.registry)

    def histogram(self, name: str, help_: str, buckets: Sequence[float], label: str | None = None) -> BatchHistogram:
        """One more of them, that counts how many were how large."""
        self.label_names[_PREFIX + name] = (label,) if label else ()
        return BatchHistogram(self.registry, name, help_, buckets, label)


class GatewayMetrics:
    """Those that a gateway has beside the others; a worker's /metrics is without them.

    Args:
        metrics: Where they are added.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter(
            "gateway_requests", "Requests answered; 499: the client had gone.", "route", "status"
        )
        self.stream_lines = metrics.counter("gateway_stream_lines", "Lines of streams answered.", "result")
        self.rejected = metrics.counter("gateway_rejected", "Requests and lines that got an error.", "reason")
        self.in_flight = metrics.gauge("gateway_in_flight_requests", "Requests of one text that are under way.")
        self.waiting = metrics.gauge("gateway_waiting_texts", "Texts that wait for the model to take them.")
        self.streams = metrics.gauge("gateway_streams", "Streams that are under way.")
        self.request_seconds = metrics.histogram(
            "gateway_request_seconds", "From a request's headers to the end of its answer.", _SHORT_SECONDS, "route"
        )
        for result in ("ok", "failed"):
            self.stream_lines.labels(result)
