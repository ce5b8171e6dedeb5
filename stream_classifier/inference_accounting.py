"""From what the model did to the metrics, a window at a time: for the worker and for the gateway."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, get_args

from stream_classifier.classify.labels import ADHOC
from stream_classifier.classify.measures import CacheName, CacheResult, RetryCause

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stream_classifier.classify.classification import Classification
    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.classify.measures import Measures
    from stream_classifier.metrics import Metrics


def begin(metrics: Metrics, label_sets: Iterable[LabelSet]) -> None:
    """Have the counters whose labels are known begin at 0."""
    for cache, result in product(get_args(CacheName), get_args(CacheResult)):
        metrics.cache_requests.labels(cache, result)
    for cause in get_args(RetryCause):
        metrics.retries.labels(cause)
    for label_set in label_sets:
        name = label_set.identity
        metrics.abstained.labels(name)
        metrics.confidence.observe((), name)
        for label in label_set.names:
            metrics.labels_assigned.labels(name, label)


def inferred(metrics: Metrics, measures: Measures) -> None:
    """A window came back from the model."""
    batches = measures.batches
    metrics.batches.inc(len(batches))
    metrics.batch_events.observe([batch.events for batch in batches])
    metrics.batch_tokens.observe([batch.padded_tokens for batch in batches])
    metrics.inference_seconds.observe([batch.seconds for batch in batches])
    metrics.tokenize_seconds.observe([measures.tokenize_seconds])
    useful = sum(batch.useful_tokens for batch in batches)
    metrics.tokens.labels("useful").inc(useful)
    metrics.tokens.labels("padding").inc(sum(batch.padded_tokens for batch in batches) - useful)
    for (cache, result), count in measures.cache.items():
        metrics.cache_requests.labels(cache, result).inc(count)
    for cause, count in measures.retries.items():
        metrics.retries.labels(cause).inc(count)


def given(metrics: Metrics, label_set: str, results: Sequence[Classification]) -> None:
    """Texts got these results, all of one label set."""
    metrics.truncated.inc(sum(result.truncated for result in results))
    metrics.confidence.observe([result.score for result in results], label_set)
    for label, count in Counter(result.label for result in results).items():
        if label is None:
            metrics.abstained.labels(label_set).inc(count)
        else:
            metrics.labels_assigned.labels(label_set, "other" if label_set == ADHOC else label).inc(count)
