"""The worker: one event's way from the input topic to the output topic, from top to bottom.

One thread owns Kafka and goes round and round in `Worker._step`; inference threads take windows of texts and give back
classifications:

    poll -> decode -> window -> (classify) -> settle -> release in order -> produce -> acknowledge -> commit

The ledger knows what is in flight and how far may be committed. Whatever is not foreseen ends the process: nothing past
the low-water mark was committed, so Kafka delivers it again.
"""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from stream_classifier.accounting import Accounting
from stream_classifier.classify.classification import Classification
from stream_classifier.classify.classifier import Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.delivery import Delivery, InFlight, Outcome
from stream_classifier.errors import StalledError, StreamClassifierError
from stream_classifier.events.decode import Decoder, Task
from stream_classifier.events.refusal import Refusal
from stream_classifier.inference_threads import InferenceThreads
from stream_classifier.interpreter import tune_interpreter
from stream_classifier.kafka.source import Source
from stream_classifier.kafka.topics import Topics
from stream_classifier.ledger import Ledger, Partition
from stream_classifier.logs import logger
from stream_classifier.pressure import Pressure
from stream_classifier.windows import Windows, estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from stream_classifier.classify.classifier import Classified
    from stream_classifier.events.record import Record
    from stream_classifier.health import Health
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings

_POLL_AT_MOST = 512
_TOKENS_PER_EVENT = 32  # of a window's cost: so many long texts as take as long as a full window of usual ones
_STATE_SECONDS = 0.5  # between looks at what is shown in gauges
_LOOP_SECONDS = 30.0  # within which the loop promises to come round


class Classifies(Protocol):
    """What the worker needs of a classifier."""

    def classify(self, requests: Sequence[Request]) -> Classified:
        """Classifications in the order of the requests; called from several threads at once."""


class Worker:
    """Labels events until it is told to stop.

    Args:
        settings: Everything that can be set.
        label_set: The set for events that bring no labels of their own.
        classifier: Labels texts.
        model: Names the model in the headers: its bundle's short hash.
        threads: Inference threads.
        metrics: Is kept up to date.
        health: Is kept up to date.
        clock: Seconds; only differences matter.
    """

    def __init__(
        self,
        settings: Settings,
        label_set: LabelSet,
        classifier: Classifies,
        *,
        model: str,
        threads: int,
        metrics: Metrics,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        batch = settings.batch
        self._settings = settings
        self._label_set = label_set
        self._model = model
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._accounting = Accounting(metrics)
        self._log = logger("worker")
        self._adhoc = lru_cache(settings.cache.label_sets)(LabelSet.adhoc)
        self._decoder = Decoder(settings.input, settings.output)
        self._ledger: Ledger[Record, Outcome] = Ledger()
        self._windows: Windows[tuple[InFlight, Request]] = Windows(
            max_events=batch.max_events,
            max_cost=batch.max_events * _TOKENS_PER_EVENT,
            max_wait=batch.max_wait_ms / 1000,
        )
        self._pressure = Pressure(
            max_events=batch.max_in_flight, max_bytes=batch.max_in_flight_bytes, window=batch.max_events
        )
        self._threads: InferenceThreads[list[Request], Classified] = InferenceThreads(classifier.classify, threads)
        self._with_model: dict[int, list[InFlight]] = {}
        self._source = Source(settings.kafka, settings.input, self)
        self._commit_at = self._state_at = 0.0
        self._stopping = False
        self._failing = False

    def stop(self) -> None:
        """Ask for the end; for signal handlers."""
        self._stopping = True

    def run(self) -> None:
        """Label events until `stop`, then drain, commit and leave the group.

        Raises:
            StreamClassifierError: What ended it otherwise; nothing unacknowledged was committed.
        """
        self._connect()
        self._source.subscribe()
        tune_interpreter()
        try:
            while not self._stopping:
                self._step()
            self._log.info("draining", in_flight=self._ledger.in_flight)
            drained = self._drain(self._ledger.lanes)
            self._failing = not drained
        except BaseException:
            self._failing = self._health.stopping = True
            with contextlib.suppress(StreamClassifierError):  # what came first is what is told
                self._source.close()
            raise
        self._health.stopping = True
        self._source.close()
        if not drained:
            raise StalledError(
                "what was under way did not come back within shutdown.drain_seconds "
                f"({self._settings.shutdown.drain_seconds:g}); it was not committed, and will be labelled again"
            )
        self._log.info("stopped")

    def _connect(self) -> None:
        settings = self._settings
        written = (settings.output.topic, settings.dead_letter.topic)
        topics = Topics(settings.kafka)
        topics.reach()
        topics.require(dict.fromkeys(settings.input.topics, "READ") | dict.fromkeys(written, "WRITE"))
        self._delivery = Delivery(settings, topics.limits(written), self._model, self._metrics)

    # One event's way -------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        now = self._clock()
        self._health.progress(now, _LOOP_SECONDS)
        self._admit(self._poll(now))
        self._hand_out()
        self._take_back()
        self._produce()
        self._acknowledge()
        self._commit()
        self._show_state()

    def _poll(self, now: float) -> list[Record]:
        lanes = {partition: lane.in_flight for partition, lane in self._ledger.lanes.items()}
        allowance = self._pressure.allow(lanes, self._ledger.in_flight, self._ledger.bytes_in_flight, now)
        self._source.pause(allowance.paused)
        busy = bool(self._ledger.in_flight)
        if allowance.events or len(allowance.paused) == len(lanes):
            # A completion cannot wake poll() up, so it is short while there is something to complete.
            wait = 0.005 if busy else 0.1
            return self._source.poll(max(1, min(allowance.events, _POLL_AT_MOST)), wait, now)
        self._take_back(wait=0.005)  # full for a moment: wait for what makes room
        return []

    def _admit(self, records: list[Record]) -> None:
        ledger, lanes, decode, now = self._ledger, self._ledger.lanes, self._decoder.decode, self._clock()
        for record in records:
            at: Any = (record.topic, record.partition)  # finds what the equal Partition does, and costs less to make
            entry = ledger.admit(lanes[at], record.offset, record, len(record.value or b""))
            task = decode(record)
            if isinstance(task, Task):
                text, labels = task
                label_set, cost = self._label_set, estimated_tokens(text)
                if labels is not None:
                    label_set, cost = self._adhoc(labels), cost + sum(map(estimated_tokens, labels))
                self._windows.add((entry, Request(text, label_set)), cost, now)
            else:
                ledger.settle(entry, task)
        if records:
            self._accounting.consumed(records)
        for partition, position in self._source.ends.items():
            if (lane := lanes.get(partition)) is not None:
                ledger.read_up_to(lane, position)
        self._source.ends.clear()

    def _hand_out(self) -> None:
        while self._threads.room:
            now = self._clock()
            window = self._windows.close(now, idle=self._threads.idle)
            if not window:
                return
            number = self._threads.start([request for _, request in window], now)
            self._with_model[number] = [entry for entry, _ in window]

    def _take_back(self, wait: float = 0) -> None:
        for done in self._threads.done(wait):
            entries = self._with_model.pop(done.number)
            if done.result is None:
                raise done.error or StalledError("an inference thread ended without a word")
            self._accounting.inferred(done.result.measures)
            self._ledger.settle_all(
                entries,
                (
                    result if isinstance(result, Classification) else Refusal("inference_failed", result.message)
                    for result in done.result.results
                ),
            )
        timeout = self._settings.batch.timeout_seconds
        if self._threads.out and self._clock() - min(self._threads.out.values()) > timeout:
            raise StalledError(f"the model did not give back a window within batch.timeout_seconds ({timeout:g})")

    def _produce(self) -> None:
        if self._delivery.may_send(self._clock()):
            self._delivery.send(self._ledger.release())

    def _acknowledge(self, wait: float = 0) -> None:
        self._note_acknowledged(self._delivery.acknowledged(wait))
        if self._delivery.begin_again(self._clock()):
            self._note_acknowledged(self._delivery.acknowledged(0))
            self._ledger.rollback()

    def _note_acknowledged(self, entries: list[InFlight]) -> None:
        if entries:
            self._ledger.acknowledge(entries)
            self._accounting.acknowledged(entries, self._clock(), time.time() * 1000)

    def _commit(self) -> None:
        now = self._clock()
        if now >= self._commit_at:
            self._commit_at = now + self._settings.kafka.commit_interval_ms / 1000
            self._source.store(self._ledger.committable())
            self._source.commit()

    # When the assignment changes: called inside Source.poll and Source.close ------------------------------------------

    def assigned(self, positions: Mapping[Partition, int | None]) -> None:
        """Open a lane for each new partition."""
        self._metrics.rebalances.labels("assigned").inc()
        for partition, position in positions.items():
            self._ledger.assign(partition)
            if position is not None:
                self._ledger.read_up_to(self._ledger.lanes[partition], position)
        self._log.info("assigned", partitions=_named(positions))

    def revoked(self, partitions: Collection[Partition]) -> None:
        """Settle and commit what the model has of these partitions, then let go of them."""
        self._metrics.rebalances.labels("revoked").inc()
        self._log.info("revoked", partitions=_named(partitions))
        try:
            if not self._failing:
                self._drain(partitions)
            self._source.store(self._ledger.committable())
            self._source.commit_now()
        finally:
            self._let_go(partitions)

    def lost(self, partitions: Collection[Partition]) -> None:
        """Let go of partitions that may be another's already."""
        self._metrics.rebalances.labels("lost").inc()
        self._log.warning("lost", partitions=_named(partitions))
        self._let_go(partitions)

    def _let_go(self, partitions: Collection[Partition]) -> None:
        self._drop_waiting(partitions)
        self._ledger.revoke(partitions)
        self._accounting.forget(partitions)

    def _drop_waiting(self, partitions: Collection[Partition]) -> None:
        self._windows.drop(lambda waiting: waiting[0].lane.partition in partitions)

    def _drain(self, partitions: Collection[Partition]) -> bool:
        """Wait for what the model has of these partitions, and for the acknowledgement of what was produced of them.

        What the model does not have yet is dropped: it was not committed, and whoever reads on begins with it.

        Returns:
            Whether that happened within `shutdown.drain_seconds`.
        """
        wait = self._settings.shutdown.drain_seconds
        end = self._clock() + wait
        self._health.progress(self._clock(), wait + _LOOP_SECONDS)
        self._drop_waiting(partitions)
        while self._is_busy_with(partitions):
            if self._clock() > end:
                self._log.warning("drain timed out", seconds=wait)
                return False
            self._take_back(wait=0.005)
            self._produce()
            self._acknowledge(wait=0.005)
        return True

    def _is_busy_with(self, partitions: Collection[Partition]) -> bool:
        lanes = self._ledger.lanes
        return any(
            lane.released or (lane.waiting and lane.waiting[0].outcome is not None)
            for lane in (lanes[partition] for partition in partitions if partition in lanes)
        ) or any(
            entry.outcome is None and entry.lane.partition in partitions and not entry.lane.revoked
            for entries in self._with_model.values()
            for entry in entries
        )

    # What an operator sees --------------------------------------------------------------------------------------------

    def _show_state(self) -> None:
        now = self._clock()
        if now >= self._state_at:
            self._state_at = now + _STATE_SECONDS
            self._health.group = self._source.joined
            self._metrics.ready.set(self._health.ready() is None)
            self._accounting.state(self._ledger, self._source, now)
            self._accounting.client_errors((self._source.errors, self._delivery.errors), now)


def _named(partitions: Collection[Partition]) -> list[str]:
    return sorted(f"{partition.topic}/{partition.number}" for partition in partitions)
