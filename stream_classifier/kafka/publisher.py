"""Publishing to an input topic, each record's delivery checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from stream_classifier.errors import KafkaError
from stream_classifier.kafka.clients import common_properties, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream_classifier.settings import KafkaSettings

_ANSWER_SECONDS = 60.0


def publish(
    kafka: KafkaSettings,
    topic: str,
    records: Iterable[tuple[bytes | None, bytes | None]],
    delivered: Callable[[int], None] = lambda _: None,
) -> int:
    """Publish records, as fast as the broker takes them, in their order.

    Args:
        kafka: Where Kafka is.
        topic: Where to.
        records: Key and value of each; may be endless, and may wait.
        delivered: Is told how many were acknowledged so far.

    Returns:
        How many were acknowledged: all of them.

    Raises:
        KafkaError: One could not be delivered.
    """
    acknowledged = 0
    failed: list[ClientError] = []

    def on_delivery(error: ClientError | None, _: Message) -> None:
        nonlocal acknowledged
        if error is not None:
            failed.append(error)
        else:
            acknowledged += 1

    properties = {
        "linger.ms": 5,
        **common_properties(kafka),
        **kafka.producer,
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.timeout.ms": int(_ANSWER_SECONDS * 1000),
        "message.max.bytes": 100_000_000,  # how much is too much is for the topic to say
    }
    try:
        producer = Producer(properties)
        for key, value in records:
            while True:
                try:
                    producer.produce(topic, value, key, on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
            _raise_first(failed, topic, acknowledged)
            delivered(acknowledged)
    except KafkaException as error:
        raise failure(error.args[0], f"publishing to {topic}, after {acknowledged} records") from None
    while int(producer.flush(0.2)):
        _raise_first(failed, topic, acknowledged)
        delivered(acknowledged)
    _raise_first(failed, topic, acknowledged)
    delivered(acknowledged)
    return acknowledged


def _raise_first(failed: list[ClientError], topic: str, acknowledged: int) -> None:
    if failed:
        if failed[0].code() == ClientError._MSG_TIMED_OUT:  # noqa: SLF001 - librdkafka's name
            raise KafkaError(
                f"publishing to {topic}: no answer within {_ANSWER_SECONDS:g} s, after {acknowledged} records; "
                "does the broker run?"
            )
        raise failure(failed[0], f"publishing to {topic}, after {acknowledged} records")
