"""Reading topics as an onlooker: no group, no commits."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as ClientError

from stream_classifier.errors import KafkaError
from stream_classifier.kafka.clients import build, call, common_properties, failure, is_permanent
from stream_classifier.kafka.messages import to_record
from stream_classifier.kafka.topics import Topics

_PATIENCE_SECONDS = 60.0

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping

    from confluent_kafka import Message

    from stream_classifier.events.record import Record
    from stream_classifier.settings import KafkaSettings


def read(
    kafka: KafkaSettings, names: Collection[str], *, from_beginning: bool = False, idle_seconds: float = 0.2
) -> Generator[Record | None, None, None]:
    """Records of topics as they come, without end. The first thing given is a None, once reading has begun.

    Args:
        kafka: Where Kafka is.
        names: Which topics; they must exist.
        from_beginning: Begin with the oldest records instead of the next ones.
        idle_seconds: How often to give None while nothing comes.

    Raises:
        KafkaError: A topic is missing, must not be read, or Kafka cannot be reached.
        SettingsError: The client does not take its properties.
    """
    topics = Topics(kafka)
    topics.reach()
    partitions = topics.require(dict.fromkeys(names, "READ"))
    consumer = _consumer(kafka)
    placed = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
    for at in placed:
        # Asked here and now: a logical offset would be resolved later, records before that moment could be missed, and
        # a client that has not met the broker yet takes half a second over it.
        low, high = call("asking for the offsets", consumer.get_watermark_offsets, at, timeout=10)
        at.offset = low if from_beginning else high
    consumer.assign(placed)
    try:
        yield None
        while True:
            yield _next(consumer, idle_seconds)
    finally:
        consumer.close()


def contents(
    kafka: KafkaSettings,
    topic: str,
    *,
    first: Mapping[int, int] | None = None,
    ends: Mapping[int, int] | None = None,
    wait_for_transactions: bool = False,
) -> Generator[Record, None, None]:
    """The committed records of a topic as it is now, in the order of each partition, and then the end.

    Args:
        kafka: Where Kafka is.
        topic: It must exist.
        first: Where to begin in a partition; others are read from their beginning.
        ends: The partitions to read, and the offset before which to stop in each at the latest; all without it.
        wait_for_transactions: Whether "now" includes what stands behind the beginning of an open transaction, so that
            its end has to be waited for.

    Raises:
        KafkaError: The topic is missing, must not be read, Kafka cannot be reached, or nothing came for a minute.
        SettingsError: The client does not take its properties.
    """
    topics = Topics(kafka)
    topics.reach()
    count = topics.require({topic: "READ"})[topic]
    consumer = _consumer(kafka, tell_ends=True)
    known = topics.ends(topic, count) if wait_for_transactions else {}
    left: dict[int, int] = {}
    placed = []
    for partition in (number for number in range(count) if ends is None or number in ends):
        at = TopicPartition(topic, partition)
        low, high = call("asking for the offsets", consumer.get_watermark_offsets, at, timeout=10)
        at.offset = max(low, (first or {}).get(partition, low))
        end = known.get(partition, high or 0)  # without one, what the client calls the end is that of what is committed
        if ends is not None:
            end = min(end, ends[partition])
        if at.offset < end:
            left[partition] = end
            placed.append(at)
    consumer.assign(placed)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        while left:
            message = consumer.poll(0.2)
            number, position = (None, None) if message is None else (message.partition(), _position_after(message))
            if message is None or position is None or number not in left:
                if time.monotonic() > deadline:
                    raise KafkaError(
                        f"{topic}: the rest did not come within {_PATIENCE_SECONDS:g} s; does the broker run, and is a "
                        "transaction open that nobody ends?"
                    )
                continue
            if message.error() is None and position <= left[number]:
                yield to_record(message)
            if position >= left[number]:
                del left[number]
            deadline = time.monotonic() + _PATIENCE_SECONDS
    finally:
        consumer.close()


def _position_after(message: Message) -> int | None:
    """The offset that is read next; None when the message is an error that the client mends by itself."""
    error, offset = message.error(), message.offset()
    if error is None and offset is not None:
        return offset + 1
    if error is None or error.code() == ClientError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
        return offset
    _raise_if_permanent(error)
    return None


def _raise_if_permanent(error: ClientError) -> None:
    # The client looks for the coordinator of its group all the same; the group does not matter here.
    if is_permanent(error) and error.code() != ClientError.GROUP_AUTHORIZATION_FAILED:
        raise failure(error, "reading")


def _consumer(kafka: KafkaSettings, *, tell_ends: bool = False) -> Consumer:
    properties = {
        **common_properties(kafka),
        **kafka.consumer,
        "group.id": f"stream-classifier-reader-{uuid.uuid4().hex}",
        # kafka.consumer may hold what only this protocol allows; the group is never joined.
        "group.protocol": kafka.group_protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": tell_ends,
    }
    return build(Consumer, properties)


def _next(consumer: Consumer, wait: float) -> Record | None:
    message = consumer.poll(wait)
    if message is None:
        return None
    if (error := message.error()) is not None:
        _raise_if_permanent(error)
        return None
    return to_record(message)
