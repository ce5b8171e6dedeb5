"""The histogram of our own against prometheus_client's, and labels that stay few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from stream_classifier.metric_catalogue import catalogue
from stream_classifier.metrics import BatchHistogram, Metrics

BUCKETS = (0.1, 0.5, 1, 5)


@given(batches=st.lists(st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 1, 4, 5, 5.5, 100]), max_size=6), max_size=6))
def test_the_same_as_prometheus_clients_own(batches: list[list[float]]) -> None:
    registry, theirs = CollectorRegistry(), CollectorRegistry()
    ours = BatchHistogram(registry, "x", "help", BUCKETS, "kind")
    reference = Histogram("stream_classifier_x", "help", ["kind"], buckets=BUCKETS, registry=theirs)
    for number, batch in enumerate(batches):
        ours.observe(batch, str(number % 2))
        reference.labels(str(number % 2))
        for value in batch:
            reference.labels(str(number % 2)).observe(value)

    def samples(exposition: bytes) -> dict[str, float]:
        lines = [
            line for line in exposition.decode().splitlines() if not line.startswith("#") and "_created" not in line
        ]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    assert samples(generate_latest(registry)) == pytest.approx(samples(generate_latest(theirs)))


def test_a_histogram_without_labels_is_there_before_anything_was_observed() -> None:
    metrics = Metrics()
    assert metrics.registry.get_sample_value("stream_classifier_processing_seconds_count") == 0
    assert metrics.registry.get_sample_value("stream_classifier_processing_seconds_bucket", {"le": "+Inf"}) == 0


def test_the_catalogue_tells_the_names_and_labels_that_queries_can_have() -> None:
    described = {metric.name: metric for metric in catalogue()}
    assert len(described) == len(catalogue())
    assert all(metric.help for metric in described.values())
    confidence = described["stream_classifier_confidence"].series
    assert confidence["stream_classifier_confidence_bucket"] == ("label_set", "le")
    assert confidence["stream_classifier_confidence_count"] == ("label_set",)
    assigned = described["stream_classifier_labels_assigned_total"]
    assert assigned.series == {"stream_classifier_labels_assigned_total": ("label_set", "label")}
    assert described["stream_classifier_device_busy_ratio"].labels == ("device",)
    assert described["process_start_time_seconds"].kind == "gauge"
