"""Redriving: the events that go back, and the notes of that in the dead-letter topic, in one transaction.

It can be killed at any moment and run again: what a reader of committed records sees of a dead letter is its event and
its note, or neither, and a noted one is left alone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from stream_classifier.errors import KafkaError
from stream_classifier.events.letter import notes, returning
from stream_classifier.events.redrive import Letters
from stream_classifier.kafka.clients import build, failure, producer_properties
from stream_classifier.kafka.reader import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from stream_classifier.events.letter import Place, Returning
    from stream_classifier.events.outgoing import TopicLimits
    from stream_classifier.events.record import Record
    from stream_classifier.settings import KafkaSettings

# How long an open transaction of a killed redrive may hold up those who read what is committed.
_TRANSACTION_MS = 15_000
_ANSWER_SECONDS = 30.0
_ATTEMPTS = 3
_FENCED = (ClientError._FENCED, ClientError.INVALID_PRODUCER_EPOCH, ClientError.PRODUCER_FENCED)  # noqa: SLF001 - its name


_BATCH_RECORDS, _BATCH_BYTES = 500, 8_000_000  # of one transaction: short enough for its timeout


def redrive(
    kafka: KafkaSettings,
    topic: str,
    letters: Letters,
    chosen: Collection[Place],
    partitions: dict[str, int],
    limits: dict[str, TopicLimits],
    *,
    current_time: bool,
) -> Iterator[int]:
    """Publish the events of dead letters, but those that somebody else has redriven since they were read.

    Args:
        kafka: Where Kafka is.
        topic: The dead-letter topic.
        letters: What was read of it.
        chosen: Which dead letters; each has its payload, and came from an input topic.
        partitions: How many each input topic has.
        limits: What the input topics and the dead-letter topic refuse.
        current_time: Whether the events get the time at which they go back.

    Yields:
        After each transaction, how many went back in it.

    Raises:
        KafkaError: Something went wrong. What was told of stays, and nothing else went back.
        SettingsError: The client does not take its properties.
    """
    redriver = Redriver(kafka, topic, limits.values())
    # Since the letters were read, another redrive may have taken some. From here on, none can.
    later = Letters()
    for record in contents(kafka, topic, first=letters.next_offsets(), wait_for_transactions=True):
        later.add(record)
    left = set(chosen) - later.redriven
    first: dict[int, int] = {}
    ends: dict[int, int] = {}
    for partition, offset in left:
        first[partition] = min(offset, first.get(partition, offset))
        ends[partition] = max(offset + 1, ends.get(partition, 0))
    records = contents(kafka, topic, first=first, ends=ends)
    for batch in _batches(record for record in records if (record.partition, record.offset) in left):
        done = [(record.partition, record.offset) for record in batch]
        events = [returning(record, partitions, current_time=current_time) for record in batch]
        redriver.publish([*events, *notes(topic, done)])
        yield len(batch)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.value or b"")
        if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Redriver:
    """Publishes in transactions, of which each is seen whole or not at all.

    One at a time for each dead-letter topic: the transactional id is made of the topic's name, so a new one ends the
    transaction of an older one and shuts it out. Once it is there, no other can note anything behind its back.

    Args:
        kafka: Where Kafka is.
        dead_letter: The topic whose letters go back.
        limits: What the topics that are written to refuse.

    Raises:
        KafkaError: Kafka does not take transactions from this principal, or did not answer.
        SettingsError: The client does not take its properties.
    """

    def __init__(self, kafka: KafkaSettings, dead_letter: str, limits: Iterable[TopicLimits]) -> None:
        sizes = [limit.max_bytes for limit in limits]
        self._failed: list[ClientError] = []
        self._dead_letter = dead_letter
        properties = {
            **producer_properties(kafka, largest=max(sizes), smallest=min(sizes)),
            "transactional.id": f"{dead_letter}.redrive",
            "transaction.timeout.ms": _TRANSACTION_MS,
            "message.timeout.ms": _TRANSACTION_MS,
        }
        self._producer = build(Producer, properties)
        self._call(self._producer.init_transactions, _ANSWER_SECONDS)

    def publish(self, records: Iterable[Returning]) -> None:
        """Publish records, all of them or none.

        Raises:
            KafkaError: None of them was published, or Kafka did not say, and the notes will show it; what was published
                before stays.
        """
        self._failed.clear()
        self._call(self._producer.begin_transaction)
        for record in records:
            self._produce(record)
        self._call(self._producer.commit_transaction, _ANSWER_SECONDS)

    def _produce(self, record: Returning) -> None:
        topic, partition, key, value, headers, timestamp = record
        while True:
            try:
                self._producer.produce(topic, value, key, partition, self._on_delivery, None, timestamp, headers)
            except BufferError:
                self._producer.poll(0.1)  # its queue is full: let some of it be delivered
            except KafkaException as error:
                self._abort(error.args[0])
            else:
                self._producer.poll(0)
                return

    def _on_delivery(self, error: ClientError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error)

    def _call(self, function: Callable[..., Any], *arguments: float) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                function(*arguments)
            except KafkaException as error:
                problem = error.args[0]
                if not problem.retriable() or attempt == _ATTEMPTS - 1:
                    self._abort(problem)
            else:
                return

    def _abort(self, problem: ClientError) -> NoReturn:
        """End the transaction, and tell why. What cannot be ended here is ended by the broker, by its timeout."""
        if problem.code() in _FENCED:
            raise KafkaError(
                f"another redrive of {self._dead_letter} has begun, and this one is shut out; nothing goes back twice"
            )
        if not problem.fatal():
            with contextlib.suppress(KafkaException):  # what came first is what is told
                self._producer.abort_transaction(_ANSWER_SECONDS)
        # A purged record failed because another one had.
        told = [error for error in self._failed if not error.name().startswith("_PURGE")]
        raise failure(told[0] if told else problem, f"redriving from {self._dead_letter}")
