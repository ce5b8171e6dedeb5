"""From what the worker did to the metrics, a batch at a time: one event alone is cheap, its counters would not be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

from stream_classifier import inference_accounting
from stream_classifier.classify.classification import Classification
from stream_classifier.events.refusal import Code, Refusal
from stream_classifier.logs import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.classify.measures import Measures
    from stream_classifier.delivery import InFlight, Outcome
    from stream_classifier.events.record import Record
    from stream_classifier.kafka.source import Source
    from stream_classifier.ledger import Ledger, Partition
    from stream_classifier.metrics import Metrics

_ERRORS_SECONDS = 10.0


class Accounting:
    """Writes metrics. Used by the worker's thread alone.

    Args:
        metrics: Is kept up to date; the counters whose labels are known begin at 0.
        topics: The input.
        label_set: The set for events that bring no labels of their own.
    """

    def __init__(self, metrics: Metrics, topics: Sequence[str], label_set: LabelSet) -> None:
        self._metrics = metrics
        self._log = logger("worker")
        self._errors: Counter[str] = Counter()
        self._errors_at = 0.0
        for topic in topics:
            metrics.consumed.labels(topic)
        for code in get_args(Code):
            metrics.dead_letters.labels(code)
        inference_accounting.begin(metrics, [label_set])
        for cause in ("produce", "transaction"):
            metrics.retries.labels(cause)
        metrics.labelled.labels(label_set.identity)

    def consumed(self, records: Collection[Record]) -> None:
        """Records were polled."""
        for topic, count in Counter(record.topic for record in records).items():
            self._metrics.consumed.labels(topic).inc(count)

    def inferred(self, measures: Measures) -> None:
        """A window came back from the model."""
        inference_accounting.inferred(self._metrics, measures)

    def acknowledged(self, entries: Collection[InFlight], now: float, wall: float) -> None:
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
            inference_accounting.given(metrics, name, outcomes)

    def state(self, ledger: Ledger[Record, Outcome], source: Source, now: float) -> None:
        """What is under way at this moment, how far each partition is behind, and what the consumer has to tell."""
        metrics = self._metrics
        metrics.in_flight.set(ledger.in_flight)
        metrics.assigned.set(len(ledger.lanes))
        metrics.paused.set(source.paused)
        oldest = now
        for partition, lane in ledger.lanes.items():
            if first := lane.released or lane.waiting:
                oldest = min(oldest, first[0].event.polled_at)
            high = source.high_watermark(partition)
            if high is not None and lane.low_water is not None:
                metrics.lag.labels(partition.topic, str(partition.number)).set(max(0, high - lane.low_water))
        metrics.oldest.set(now - oldest)
        for result, count in Counter("ok" if went_well else "failed" for went_well in source.commits).items():
            metrics.commits.labels(result).inc(count)
        for (topic, number), wanted, found in source.gaps:
            metrics.gaps.inc()
            self._log.warning("gap", partition=f"{topic}/{number}", wanted=wanted, found=found)
        source.commits.clear()
        source.gaps.clear()

    def client_errors(self, told: Iterable[list[str]], now: float) -> None:
        """Count the errors that the Kafka clients met and mend by themselves, and empty the lists of them.

        A broker that is down is an error every moment: it is logged at once, and then every ten seconds.
        """
        for names in told:
            for name, count in Counter(names).items():
                self._metrics.retries.labels(f"kafka_{name.strip('_').lower()}").inc(count)
            self._errors.update(names)
            names.clear()
        if self._errors and now >= self._errors_at:
            self._errors_at = now + _ERRORS_SECONDS
            self._log.warning("kafka client", errors=dict(self._errors))
            self._errors.clear()

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These partitions are another's now: their lag is not ours to tell."""
        for partition in partitions:
            self._metrics.lag.remove_by_labels({"topic": partition.topic, "partition": str(partition.number)})
