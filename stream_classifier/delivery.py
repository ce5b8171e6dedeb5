"""From an outcome to an acknowledged record: what is written where, and what happens when Kafka does not take it.

The two modes of delivery share everything but the sink: a plain one acknowledges each record as the broker does, a
transactional one acknowledges all of a transaction when that has been committed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from stream_classifier import __version__
from stream_classifier.backoff import delay
from stream_classifier.classify.classification import Classification
from stream_classifier.errors import KafkaError
from stream_classifier.events.decode import PassThrough
from stream_classifier.events.outgoing import Outgoing, TopicLimits, Writer
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.kafka.sink import Sink
from stream_classifier.kafka.transactions import TransactionalSink
from stream_classifier.ledger import Entry
from stream_classifier.logs import logger
from stream_classifier.refusals import RecentRefusals

if TYPE_CHECKING:
    from stream_classifier.events.form import Form
    from stream_classifier.ledger import Partition
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings

Outcome = Classification | Refusal | PassThrough
InFlight = Entry[Record, Outcome]
Write = Callable[[InFlight, int], Outgoing]
"""Makes the record for an outcome; takes milliseconds since 1970."""
Writing = Callable[[Write, Mapping[str, TopicLimits]], Write]
"""Wraps it; is told what each topic refuses."""

_ALONE_SECONDS = 10.0
_FIRST_DELAY, _MOST_DELAY = 0.1, 10.0  # seconds before producing again


class Delivery:
    """Produces outcomes, and tells which the broker has.

    Attributes:
        errors: Names of errors that the client mends by itself, since they were last asked for.

    Args:
        settings: Everything that can be set.
        limits: What the output and the dead-letter topic refuse.
        model: The bundle's short hash.
        metrics: Is kept up to date.
        has_committed: Tells whether the group has these offsets; None when it cannot be told now.
        writing: Wraps what makes the records; see `Tracing`.
        form: How events look.
    """

    def __init__(
        self,
        settings: Settings,
        limits: dict[str, TopicLimits],
        model: str,
        metrics: Metrics,
        has_committed: Callable[[Mapping[Partition, int]], bool | None],
        writing: Writing,
        form: Form,
    ) -> None:
        self._writer = Writer(settings, limits, model=model, version=__version__, form=form)
        self._transactions: TransactionalSink[InFlight] | None = None
        self._sink: Sink[InFlight] | TransactionalSink[InFlight]
        if settings.delivery == "exactly_once":
            self._sink = self._transactions = TransactionalSink(settings.kafka, limits.values(), has_committed)
        else:
            self._sink = Sink(settings.kafka, limits.values())
        self._recent = RecentRefusals(settings.dead_letter.stop_above)
        self._dead_letter = settings.dead_letter.topic
        self._metrics = metrics
        self._log = logger("delivery")
        self._suspects: set[InFlight] = set()
        self._without_payload: set[InFlight] = set()
        self._failures = 0
        self._not_before = 0.0
        self._write = writing(self._outgoing, limits)
        self.errors = self._sink.errors

    def start(self) -> None:
        """Get ready to send.

        Raises:
            KafkaError: Kafka does not let this worker write in transactions.
        """
        if self._transactions:
            self._transactions.start()

    def send(self, entries: list[InFlight]) -> None:
        """Produce outcomes, in their order.

        Raises:
            TooManyRefusedError: More are refused than `dead_letter.stop_above` allows.
        """
        wall = int(time.time() * 1000)
        for entry in entries:
            outgoing = self._write(entry, wall)
            if entry.releases == 1:  # a repetition was counted the first time
                if isinstance(entry.outcome, Refusal):
                    self._recent.refused(entry.outcome.code)
                else:
                    self._recent.accepted()
            if self._sink.broken:
                continue  # this one was not sent, and is sent again after the ones before it
            if self._suspects and entry in self._suspects:
                self._suspects.discard(entry)
                self._send_alone(entry)
            else:
                self._sink.send(entry, outgoing)

    def _outgoing(self, entry: InFlight, wall: int) -> Outgoing:
        record, outcome = entry.event, entry.outcome
        if isinstance(outcome, Classification):
            written = self._writer.labelled(record, outcome.encoded, outcome.label_set, wall)
        elif isinstance(outcome, PassThrough):
            written = self._writer.passed_through(record, wall)
        elif isinstance(outcome, Refusal):
            written = outcome
        else:
            raise AssertionError(f"{record.source} was released without an outcome")  # noqa: TRY004 - the ledger's fault
        if isinstance(written, Refusal):
            entry.outcome = written
            return self._writer.refused(record, written, payload=entry not in self._without_payload)
        return written

    def acknowledged(self, wait: float) -> list[InFlight]:
        """The outcomes that the broker has, since this was last called.

        Args:
            wait: Seconds to wait for the first one.

        Raises:
            KafkaError: Kafka refuses to be written to, and trying again will not help.
        """
        reports = self._sink.poll(wait)
        if failed := len(reports.undelivered) + len(reports.refused):
            self._metrics.produce_errors.inc(failed)
            # One refused record fails all of its produce batch. They are sent again in their turn, each alone.
            self._suspects.update(entry for entry, _ in reports.refused)
        if reports.acknowledged:
            self._failures = 0
            self._without_payload.difference_update(reports.acknowledged)
        return reports.acknowledged

    def _send_alone(self, entry: InFlight) -> None:
        """Alone, a record shows whether it is the one that is refused."""
        code = self._sink.send_alone(entry, self._write(entry, int(time.time() * 1000)), _ALONE_SECONDS)
        if code is None:
            return
        if not isinstance(entry.outcome, Refusal):
            label_set = entry.outcome.label_set if isinstance(entry.outcome, Classification) else None
            entry.outcome = Refusal(code, "the output topic refused this record", label_set)
            self._recent.refused(code)
        elif entry not in self._without_payload:
            self._without_payload.add(entry)
        else:
            raise KafkaError(
                f"{self._dead_letter} refuses even a record without its payload ({code}); look at its "
                "max.message.bytes and message.timestamp settings"
            )
        self._send_alone(entry)

    @property
    def broken(self) -> bool:
        """Whether the client gave records up, so that `begin_again` has to be called."""
        return self._sink.broken

    def begin_again(self, now: float) -> bool:
        """Go on with replacing the client or aborting the transaction, after which all is sent again.

        Returns:
            Whether that is done now. What is still acknowledged is told by `acknowledged`; everything else has to be
            sent again.
        """
        if not self._sink.recover():
            return False
        cause = "transaction" if self._transactions else "produce"
        if self._transactions:
            self._metrics.transactions.labels("aborted").inc()
        self._metrics.retries.labels(cause).inc()
        self._log.warning("producing again", failures=self._failures, errors=sorted(set(self.errors)))
        self._suspects = {entry for entry in self._suspects if not entry.lane.revoked}
        self._without_payload = {entry for entry in self._without_payload if not entry.lane.revoked}
        jitter = random.random()  # noqa: S311 - spreads load, hides nothing
        self._not_before = now + delay(self._failures, first=_FIRST_DELAY, most=_MOST_DELAY, jitter=jitter)
        self._failures += 1
        return True

    def may_send(self, now: float) -> bool:
        """Whether it is time to send; false for a while after a failure, and while a transaction is being committed."""
        ready = self._transactions.ready if self._transactions else not self._sink.broken
        return ready and now >= self._not_before

    # Only with transactions -------------------------------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Records of the transaction that is under way."""
        return self._transactions.records if self._transactions else 0

    @property
    def settled(self) -> bool:
        """Whether no offsets are on their way in a transaction."""
        return self._transactions is None or self._transactions.settled

    @property
    def wants_confirmation(self) -> bool:
        """Whether sending waits until the group has confirmed that this worker is a member."""
        return self._transactions is not None and self._transactions.unconfirmed and not self._transactions.in_doubt

    def confirm(self) -> None:
        """The group has confirmed it."""
        if self._transactions:
            self._transactions.unconfirmed = False

    def commit(self, offsets: Mapping[Partition, tuple[int, str]], group: bytes | None) -> bool:
        """Begin to commit the transaction, with these offsets and the mark beside each, if it is the time to.

        Returns:
            Whether it was.
        """
        if self._transactions is None or not self._transactions.ready or not offsets or group is None:
            return False
        self._transactions.commit(offsets, group)
        return True

    def take_committed(self) -> dict[Partition, int]:
        """The offsets of transactions that went through since this was last called."""
        if self._transactions is None or not self._transactions.committed:
            return {}
        committed, self._transactions.committed = self._transactions.committed, {}
        self._metrics.transactions.labels("committed").inc()
        return committed

    def let_go(self) -> None:
        """Partitions were taken away: a transaction that holds results of theirs, but not their offsets, is aborted."""
        if self._transactions:
            self._transactions.doom()

    def close(self) -> None:
        """Leave no transaction open behind."""
        if self._transactions:
            self._transactions.close()
