"""From what the worker did to the metrics, a batch at a time: one event alone is cheap, its counters would not be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stream_classifier.classify.classification import Classification
from stream_classifier.events.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from stream_classifier.classify.measures import Measures
    from stream_classifier.events.decode import PassThrough
    from stream_classifier.events.record import Record
    from stream_classifier.ledger import Entry, Lane, Partition
    from stream_classifier.metrics import Metrics

    Outcome = Classification | Refusal | PassThrough

ADHOC = "adhoc"


class Accounting:
    """Writes metrics. Used by the worker's thread alone."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def consumed(self, records: Collection[Record]) -> None:
        """Records were polled."""
        for topic, count in Counter(record.topic for record in records).items():
            self._metrics.consumed.labels(topic).inc(count)

    def inferred(self, measures: Measures) -> None:
        """A window came back from the model."""
        metrics, batches = self._metrics, measures.batches
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

    def acknowledged(self, entries: Collection[Entry[Record, Outcome]], now: float, wall: float) -> None:
        """The broker has these outcomes.

        Args:
            entries: What was acknowledged.
            now: Seconds on the clock of `Record.polled_at`.
            wall: Milliseconds since 1970.
        """
        metrics = self._metrics
        metrics.processing_seconds.observe([now - entry.event.polled_at for entry in entries])
        metrics.end_to_end_seconds.observe(
            # Clocks differ: an event of a moment that is still to come was labelled at once.
            [max(0.0, wall - at) / 1000 for entry in entries if (at := entry.event.timestamp) is not None]
        )
        by_set: dict[str, list[Classification]] = {}
        for entry in entries:
            outcome = entry.outcome
            if isinstance(outcome, Classification):
                same_set = by_set.get(outcome.label_set)
                if same_set is None:
                    by_set[outcome.label_set] = [outcome]
                else:
                    same_set.append(outcome)
            elif isinstance(outcome, Refusal):
                metrics.dead_letters.labels(outcome.code).inc()
            else:
                metrics.tombstones_passed.inc()
        for name, outcomes in by_set.items():
            metrics.labelled.labels(name).inc(len(outcomes))
            metrics.truncated.inc(sum(outcome.truncated for outcome in outcomes))
            metrics.confidence.observe([outcome.score for outcome in outcomes], name)
            for label, count in Counter(outcome.label for outcome in outcomes).items():
                if label is None:
                    metrics.abstained.labels(name).inc(count)
                else:
                    metrics.labels_assigned.labels(name, "other" if name == ADHOC else label).inc(count)

    def commits(self, committed: Collection[bool]) -> None:
        """Offset commits were answered."""
        for result, count in Counter("ok" if went_well else "failed" for went_well in committed).items():
            self._metrics.commits.labels(result).inc(count)

    def client_errors(self, names: Collection[str]) -> None:
        """The Kafka client met errors that it mends by itself."""
        for name, count in Counter(names).items():
            self._metrics.retries.labels(f"kafka_{name.strip('_').lower()}").inc(count)

    def state(self, lanes: Mapping[Partition, Lane[Record, Outcome]], in_flight: int, now: float) -> None:
        """What is under way at this moment."""
        self._metrics.in_flight.set(in_flight)
        self._metrics.assigned.set(len(lanes))
        oldest = now
        for lane in lanes.values():
            if first := lane.released or lane.waiting:
                oldest = min(oldest, first[0].event.polled_at)
        self._metrics.oldest.set(now - oldest)

    def lag(self, partition: Partition, events: int) -> None:
        """How far a partition is behind."""
        self._metrics.lag.labels(partition.topic, str(partition.number)).set(events)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These partitions are another's now: their lag is not ours to tell."""
        for partition in partitions:
            self._metrics.lag.remove_by_labels({"topic": partition.topic, "partition": str(partition.number)})
