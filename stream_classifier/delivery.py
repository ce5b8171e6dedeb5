"""From an outcome to an acknowledged record: what is written where, and what happens when Kafka does not take it."""

from __future__ import annotations

import random
import time
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
from stream_classifier.ledger import Entry
from stream_classifier.logs import logger
from stream_classifier.refusals import RecentRefusals

if TYPE_CHECKING:
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings

Outcome = Classification | Refusal | PassThrough
InFlight = Entry[Record, Outcome]

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
    """

    def __init__(self, settings: Settings, limits: dict[str, TopicLimits], model: str, metrics: Metrics) -> None:
        self._writer = Writer(settings, limits, model=model, version=__version__)
        self._sink: Sink[InFlight] = Sink(settings.kafka, limits.values())
        self._recent = RecentRefusals(settings.dead_letter.stop_above)
        self._dead_letter = settings.dead_letter.topic
        self._metrics = metrics
        self._log = logger("delivery")
        self._broken = False
        self._suspects: set[InFlight] = set()
        self._failures = 0
        self._not_before = 0.0
        self.errors = self._sink.errors

    def send(self, entries: list[InFlight]) -> None:
        """Produce outcomes, in their order.

        Raises:
            TooManyRefusedError: More are refused than `dead_letter.stop_above` allows.
        """
        wall = int(time.time() * 1000)
        for entry in entries:
            outgoing = self._outgoing(entry, wall)
            if entry.releases == 1:  # a repetition was counted the first time
                if isinstance(entry.outcome, Refusal):
                    self._recent.refused(entry.outcome.code)
                else:
                    self._recent.accepted()
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
            return self._writer.refused(record, written)
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
            self._broken = True
            # One refused record fails all of its produce batch. They are sent again in their turn, each alone.
            self._suspects.update(entry for entry, _ in reports.refused)
        if reports.acknowledged:
            self._failures = 0
        return reports.acknowledged

    def _send_alone(self, entry: InFlight) -> None:
        """Alone, a record shows whether it is the one that is refused."""
        wall = int(time.time() * 1000)
        code = self._sink.send_alone(entry, self._outgoing(entry, wall), _ALONE_SECONDS)
        if code and not isinstance(entry.outcome, Refusal):
            label_set = entry.outcome.label_set if isinstance(entry.outcome, Classification) else None
            entry.outcome = Refusal(code, "the output topic refused this record", label_set)
            self._recent.refused(code)
            code = self._sink.send_alone(entry, self._outgoing(entry, wall), _ALONE_SECONDS)
        if code and isinstance(entry.outcome, Refusal):
            bare = self._writer.refused(entry.event, entry.outcome, payload=False)
            code = self._sink.send_alone(entry, bare, _ALONE_SECONDS)
        if code:
            raise KafkaError(
                f"{self._dead_letter} refuses even a record without its payload ({code}); look at its "
                "max.message.bytes and message.timestamp settings"
            )

    def begin_again(self, now: float) -> bool:
        """After the client gave records up: replace it, for what is not acknowledged to be sent once more.

        Returns:
            Whether it was replaced just now. What the old one still acknowledged is told by `acknowledged`; everything
            else has to be sent again.
        """
        if not self._broken:
            return False
        self._broken = False
        self._metrics.retries.labels("produce").inc()
        self._log.warning("producing again", failures=self._failures, errors=sorted(set(self.errors)))
        self._sink.rebuild()
        self._suspects = {entry for entry in self._suspects if not entry.lane.revoked}
        jitter = random.random()  # noqa: S311 - spreads load, hides nothing
        self._not_before = now + delay(self._failures, first=_FIRST_DELAY, most=_MOST_DELAY, jitter=jitter)
        self._failures += 1
        return True

    def may_send(self, now: float) -> bool:
        """Whether it is time to send; false for a while after a failure."""
        return now >= self._not_before
