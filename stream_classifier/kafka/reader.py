"""Reading topics as an onlooker: no group, no commits."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as ClientError

from stream_classifier.kafka.clients import build, call, common_properties, failure, is_permanent
from stream_classifier.kafka.messages import to_record
from stream_classifier.kafka.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

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


def _consumer(kafka: KafkaSettings) -> Consumer:
    properties = {
        **common_properties(kafka),
        **kafka.consumer,
        "group.id": f"stream-classifier-reader-{uuid.uuid4().hex}",
        # kafka.consumer may hold what only this protocol allows; the group is never joined.
        "group.protocol": kafka.group_protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    return build(Consumer, properties)


def _next(consumer: Consumer, wait: float) -> Record | None:
    message = consumer.poll(wait)
    if message is None:
        return None
    if (error := message.error()) is not None:
        # The client looks for the coordinator of its group all the same; the group does not matter here.
        if is_permanent(error) and error.code() != ClientError.GROUP_AUTHORIZATION_FAILED:
            raise failure(error, "reading")
        return None
    return to_record(message)
