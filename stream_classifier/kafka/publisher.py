"""Publishing to an input topic, each record's delivery checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from stream_classifier.errors import KafkaError
from stream_classifier.kafka.clients import build, common_properties, failure

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
        records: Key and value of each; may be endless, and may wait. What it raises is raised here, once the records
            before it have been delivered.
        delivered: Is told how many were acknowledged so far.

    Returns:
        How many were acknowledged: all of them.

    Raises:
        KafkaError: One could not be delivered.
        SettingsError: The client does not take its properties.
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
    producer = build(Producer, properties)

    def check() -> None:
        _raise_first(failed, topic, acknowledged)
        delivered(acknowledged)

    try:
        try:
            for key, value in records:
                _produce(producer, topic, key, value, on_delivery)
                producer.poll(0)
                check()
        finally:
            while int(producer.flush(0.2)):
                check()
            check()
    except KafkaException as error:
        raise failure(error.args[0], f"publishing to {topic}, after {acknowledged} records") from None
    return acknowledged


def _produce(
    producer: Producer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    on_delivery: Callable[[ClientError | None, Message], None],
) -> None:
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=on_delivery)
        except BufferError:
            producer.poll(0.1)  # its queue is full: let some of it be delivered
        else:
            return


def _raise_first(failed: list[ClientError], topic: str, acknowledged: int) -> None:
    if not failed:
        return
    doing = f"publishing to {topic}, after {acknowledged} records"
    if failed[0].code() == ClientError._MSG_TIMED_OUT:  # noqa: SLF001 - librdkafka's name
        raise KafkaError(f"{doing}: no answer within {_ANSWER_SECONDS:g} s; does the broker run?")
    if failed[0].code() == ClientError.MSG_SIZE_TOO_LARGE:
        raise KafkaError(f"{doing}: a record is larger than the topic's max.message.bytes; raise that, or shorten it")
    raise failure(failed[0], doing)
