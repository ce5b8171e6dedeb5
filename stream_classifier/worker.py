"""The worker: one event's way from the input topic to the output topic, from top to bottom.

One thread owns Kafka and goes round and round in `Worker._step`; inference threads take windows of texts and give back
classifications:

    poll -> decode -> window -> (classify) -> settle -> release in order -> produce -> acknowledge -> commit

The ledger knows what is in flight and how far may be committed. Whatever is not foreseen ends the process: nothing past
the low-water mark was committed, so Kafka delivers it again. With `delivery: exactly_once`, what is produced and the
offsets are committed in one transaction, and acknowledged only then; the rest of the way is the same.
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
from stream_classifier.custody import Custody
from stream_classifier.delivery import Delivery, InFlight, Outcome
from stream_classifier.errors import StalledError, StreamClassifierError
from stream_classifier.events.decode import Awaited, Task
from stream_classifier.events.refusal import Refusal
from stream_classifier.inference_threads import InferenceThreads
from stream_classifier.interpreter import tune_interpreter
from stream_classifier.kafka.source import Source
from stream_classifier.kafka.topics import Topics
from stream_classifier.ledger import Ledger, Partition
from stream_classifier.logs import logger
from stream_classifier.pressure import Pressure
from stream_classifier.registry.opening import open_form
from stream_classifier.tracing import Untraced
from stream_classifier.windows import TOKENS_PER_EVENT, Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from stream_classifier.classify.classifier import Classified
    from stream_classifier.events.record import Record
    from stream_classifier.health import Health
    from stream_classifier.kafka.starts import Start
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings
    from stream_classifier.tracing import Tracing

_POLL_AT_MOST = 512
_STATE_SECONDS = 0.5  # between looks at what is shown in gauges
_LEAVE_SECONDS = 5.0  # to tell the group how far all is done; to leave it after a failure
_AGAIN_SECONDS = 0.2  # before it is told again
_LOOP_SECONDS = 30.0  # within which the loop promises to come round


class Classifies(Protocol):
    """What the worker needs of a classifier."""

    def cost(self, request: Request) -> float:
        """About how many tokens the model has to read for a request."""

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
        tracing: Is told of one event's way.
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
        tracing: Tracing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        batch = settings.batch
        self._settings = settings
        self._label_set = label_set
        self._model = model
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._accounting = Accounting(metrics, settings.input.topics, label_set)
        self._tracing: Tracing = tracing or Untraced()
        self._log = logger("worker")
        self._adhoc = lru_cache(settings.cache.label_sets)(LabelSet.adhoc)
        self._form = open_form(settings, metrics.retries.labels("schema_registry").inc)
        self._undecoded: list[InFlight] = []  # they wait for their schema
        self._ledger: Ledger[Record, Outcome] = Ledger()
        self._windows: Windows[tuple[InFlight, Request]] = Windows(
            max_events=batch.max_events,
            max_cost=batch.max_events * TOKENS_PER_EVENT,
            max_wait=batch.max_wait_ms / 1000,
        )
        self._pressure = Pressure(
            max_events=batch.max_in_flight, max_bytes=batch.max_in_flight_bytes, window=batch.max_events
        )
        self._cost = classifier.cost
        self._threads: InferenceThreads[list[Request], Classified] = InferenceThreads(classifier.classify, threads)
        self._with_model: dict[int, list[InFlight]] = {}
        self._alone: list[tuple[InFlight, Request]] = []  # the window that waits for the group to know of it
        self._source = Source(settings.kafka, settings.input, self)
        # As many as can have been in the model of a worker that died, again as many that waited for these, and what
        # was done and not yet committed: a commit begins when that is half of what may be in flight.
        suspects = 2 * (threads + 1) * batch.max_events + batch.max_in_flight // 2
        self._custody = Custody(self._source, self._ledger, suspects)
        self._exactly_once = settings.delivery == "exactly_once"
        self._acknowledged = 0  # events, in all
        self._commit_at = self._state_at = 0.0
        self._stopping = False
        self._failing = self._suspicious = False

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
            drained = self._drain(self._ledger.lanes, polling=True)
            self._hand_over()
            self._failing = not drained
        except BaseException as error:
            self._failing = self._health.stopping = True
            # What was foreseen is no event's fault. Else whoever takes over looks for one, as after a kill.
            self._suspicious = isinstance(error, StalledError) or not isinstance(error, StreamClassifierError)
            with contextlib.suppress(StreamClassifierError):  # what came first is what is told
                if not self._source.close(_LEAVE_SECONDS):
                    self._log.warning("not left", reason="the group does not answer; it waits for the session to end")
            self._delivery.close()
            self._form.close()
            raise
        self._health.stopping = True
        self._source.close()
        self._delivery.close()
        self._form.close()
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
        limits = topics.limits(written)
        self._delivery = Delivery(
            settings,
            limits,
            self._model,
            self._metrics,
            self._source.has_committed,
            self._tracing.writing,
            self._form,
        )
        self._delivery.start()

    # One event's way -------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        now = self._clock()
        self._health.progress(now, _LOOP_SECONDS)
        self._admit(self._poll(now))
        self._decode_again()
        self._hand_out()
        self._take_back()
        self._produce()
        self._acknowledge()
        self._commit()
        self._show_state()

    def _poll(self, now: float) -> list[Record]:
        lanes = {partition: lane.in_flight for partition, lane in self._ledger.lanes.items()}
        # What only waits for its transaction keeps nobody busy: else half of the bound would be idle meanwhile.
        events = self._ledger.in_flight - self._delivery.unfinished
        allowance = self._pressure.allow(lanes, events, self._ledger.bytes_in_flight, now)
        self._source.pause(allowance.paused)
        busy = bool(self._ledger.in_flight)
        if allowance.events or len(allowance.paused) == len(lanes):
            # A completion cannot wake poll() up, so it is short while there is something to complete.
            wait = 0.005 if busy else 0.1
            records = self._source.poll(max(1, min(allowance.events, _POLL_AT_MOST)), wait, now)
            self._tracing.polled(records, self._clock() - now)
            return records
        # Full for a moment: wait for what makes room, the model or else the broker.
        if self._threads.out:
            self._take_back(wait=0.005)
        else:
            self._acknowledge(wait=0.005)
        return []

    def _admit(self, records: list[Record]) -> None:
        ledger, lanes, now = self._ledger, self._ledger.lanes, self._clock()
        careful = self._custody.careful
        for record in records:
            at: Any = (record.topic, record.partition)  # finds what the equal Partition does, and costs less to make
            entry = ledger.admit(lanes[at], record.offset, record, len(record.value or b""))
            if careful and self._custody.is_poison(entry):
                self._log.error(
                    "put aside",
                    source=record.source,
                    reason="it was in the model at three deaths",
                    **self._tracing.names(record),
                )
                ledger.settle(entry, Refusal("killed_worker", "the worker's process ended three times with this event"))
                continue
            self._decode(entry, now)
        if records:
            self._accounting.consumed(records)
        for partition, position in self._source.ends.items():
            if (lane := lanes.get(partition)) is not None:
                ledger.read_up_to(lane, position)
                self._custody.reached_end(lane)
        self._source.ends.clear()

    def _decode(self, entry: InFlight, now: float) -> None:
        task = self._form.decode(entry.event)
        if isinstance(task, Task):
            text, labels = task
            request = Request(text, self._label_set if labels is None else self._adhoc(labels))
            self._windows.add((entry, request), self._cost(request), now)
        elif isinstance(task, Awaited):
            self._undecoded.append(entry)
        else:
            self._ledger.settle(entry, task)

    def _decode_again(self) -> None:
        if self._undecoded and self._form.has_news():
            waiting, self._undecoded, now = self._undecoded, [], self._clock()
            for entry in waiting:
                self._decode(entry, now)

    def _hand_out(self) -> None:
        if not self._custody.announced(self._clock()):
            return
        while self._threads.room and (window := self._next_window(self._clock())):
            number = self._threads.start([request for _, request in window], self._clock())
            self._with_model[number] = entries = [entry for entry, _ in window]
            self._tracing.handed_out(number, entries)

    def _next_window(self, now: float) -> list[tuple[InFlight, Request]]:
        if not self._custody.careful and not self._alone:
            return self._windows.close(now, idle=self._threads.idle)
        # A worker has died: one event for the model, once the group knows which (see `poison`).
        if self._threads.out:
            return []
        if self._delivery.unfinished or not self._delivery.settled:
            # Offsets that are under way in a transaction and those of a mark could overtake each other.
            self._commit(at_once=True)
            return []
        self._alone = self._alone or self._windows.first()
        if not self._alone or not self._custody.may_be_tried(self._alone[0][0], now):
            return []
        window, self._alone = self._alone, []
        return window

    def _take_back(self, wait: float = 0) -> None:
        for done in self._threads.done(wait):
            entries = self._with_model.pop(done.number)
            self._tracing.taken_back(done.number, done.error)
            if done.result is None:
                if isinstance(done.error, Exception):
                    raise done.error
                # Raised here, SystemExit would end the process as if all were well.
                raise StalledError(f"an inference thread was ended by {type(done.error).__name__}") from done.error
            self._accounting.inferred(done.result.measures)
            self._custody.survived(entries)
            self._ledger.settle_all(
                entries,
                (
                    result
                    if isinstance(result, Classification)
                    else Refusal("inference_failed", result.message, result.label_set)
                    for result in done.result.results
                ),
            )
        if not self._threads.whole:
            raise StalledError("an inference thread is gone: what it had was not committed; start the worker again")
        timeout = self._settings.batch.timeout_seconds
        if self._threads.out and self._clock() - min(self._threads.out.values()) > timeout:
            raise StalledError(f"the model did not give back a window within batch.timeout_seconds ({timeout:g})")

    def _produce(self, *, draining: bool = False) -> None:
        # A crash is to repeat no more than is in flight, and as many again. (No commit is answered during a drain.)
        held = self._uncommitted >= self._settings.batch.max_in_flight and not draining
        if not held and self._delivery.may_send(self._clock()):
            self._delivery.send(self._ledger.release())

    def _acknowledge(self, wait: float = 0) -> None:
        self._note_acknowledged(self._delivery.acknowledged(wait))
        if self._delivery.broken:
            recovered = self._delivery.begin_again(self._clock())
            self._note_acknowledged(self._delivery.acknowledged(0))
            if recovered:
                self._ledger.rollback()
                self._tracing.rolled_back()
            elif self._delivery.wants_confirmation and self._ledger.lanes and self._custody.confirmed(self._clock()):
                self._delivery.confirm()

    def _note_acknowledged(self, entries: list[InFlight]) -> None:
        if entries:
            self._ledger.acknowledge(entries)
            self._acknowledged += len(entries)
            self._accounting.acknowledged(entries, self._clock(), time.time() * 1000)
            self._tracing.acknowledged(entries)
        self._ledger.committed(self._delivery.take_committed())
        self._tracing.committed(self._acknowledged - self._uncommitted)

    def _commit(self, *, at_once: bool = False) -> None:
        """Commit what is acknowledged, or the transaction: now and then, and when there is much of it."""
        now, half = self._clock(), self._settings.batch.max_in_flight / 2
        much = self._delivery.unfinished >= half or (self._uncommitted >= half and not self._source.committing)
        if not (at_once or much or now >= self._commit_at):
            return
        self._commit_at = now + self._settings.commit_seconds
        if self._exactly_once:
            offsets = self._custody.marked(self._ledger.committable_with_released())
            if self._delivery.commit(offsets, self._source.group_metadata()):
                self._tracing.committing(self._acknowledged + self._delivery.unfinished)
        else:
            self._source.store(self._custody.marked(self._ledger.committable()))
            self._source.commit(self._acknowledged)
            self._tracing.committing(self._acknowledged)

    @property
    def _uncommitted(self) -> int:
        """Events that a crash at this moment would repeat, beside those in flight."""
        return 0 if self._exactly_once else self._acknowledged - self._source.confirmed

    # When the assignment changes: called inside Source.poll and Source.close ------------------------------------------

    def waits(self, seconds: float) -> None:
        """Not count this as standing still."""
        self._health.progress(self._clock(), seconds + _LOOP_SECONDS)

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        """Open a lane for each new partition."""
        self._metrics.rebalances.labels("assigned").inc()
        for partition, start in starts.items():
            self._ledger.assign(partition)
            self._ledger.read_up_to(self._ledger.lanes[partition], start.position)
        self._log.info("assigned", partitions=_named(starts))
        if abandoned := self._custody.assign(starts):
            self._log.warning(
                "the last worker with these partitions ended without handing them over: their events are labelled "
                "one at a time for a while, to find one that ends the process",
                partitions=_named(abandoned),
            )

    def revoked(self, partitions: Collection[Partition]) -> None:
        """Settle and commit what the model has of these partitions, then let go of them."""
        self._metrics.rebalances.labels("revoked").inc()
        self._log.info("revoked", partitions=_named(partitions))
        try:
            if not self._failing:
                self._drain(partitions)
            # Offsets that are on their way in a transaction could overtake these.
            if self._delivery.settled:
                self._custody.hand_over(partitions, suspicious=self._suspicious)
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
        self._custody.revoke(partitions)
        self._delivery.let_go()
        self._accounting.forget(partitions)
        self._tracing.let_go(partitions)

    def _drop_waiting(self, partitions: Collection[Partition]) -> None:
        self._windows.drop(lambda waiting: waiting[0].lane.partition in partitions)
        self._undecoded = [entry for entry in self._undecoded if entry.lane.partition not in partitions]
        self._alone = [waiting for waiting in self._alone if waiting[0].lane.partition not in partitions]

    def _drain(self, partitions: Collection[Partition], *, polling: bool = False) -> bool:
        """Wait for what the model has of these partitions, and for the acknowledgement of what was produced of them.

        What the model does not have yet is dropped: it was not committed, and whoever reads on begins with it.

        Args:
            partitions: Which ones.
            polling: Whether the client may be polled meanwhile, which it may not while it tells of a rebalance.

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
            self._produce(draining=True)
            if self._exactly_once:
                self._commit(at_once=True)
            self._acknowledge(wait=0.005)
            if polling and self._delivery.broken:
                # Perhaps since they are another's by now: a worker that was frozen learns it nowhere else.
                self._poll_for_rebalances()
        return True

    def _hand_over(self) -> None:
        """Have the group know how far all is done, before it is left.

        While it rebalances it may refuse to be told, and once it is being left nobody could tell it again.
        """
        lanes, now = self._ledger.lanes, self._clock()
        end = told = now
        end += _LEAVE_SECONDS
        self._tracing.committing(self._acknowledged)
        while not self._custody.handed_over() and now < end:
            if now >= told and self._delivery.settled:
                told = now + _AGAIN_SECONDS
                self._custody.hand_over(lanes, suspicious=False)
            self._poll_for_rebalances()
            now = self._clock()
        if self._custody.handed_over():
            self._tracing.committed(self._acknowledged)

    def _poll_for_rebalances(self) -> None:
        self._source.pause(frozenset(self._ledger.lanes))
        self._source.poll(1, 0.005, self._clock())

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
            self._health.registry = self._form.trouble
            self._metrics.ready.set(self._health.ready() is None)
            self._accounting.state(self._ledger, self._source, now)
            self._accounting.client_errors((self._source.errors, self._delivery.errors), now)


def _named(partitions: Collection[Partition]) -> list[str]:
    return sorted(f"{partition.topic}/{partition.number}" for partition in partitions)
