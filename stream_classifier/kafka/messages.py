"""From the client's messages to our records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream_classifier.events.record import Record

if TYPE_CHECKING:
    from confluent_kafka import Message


def to_record(message: Message) -> Record:
    """What a message without an error holds."""
    try:
        headers: Any = message.headers()
        readable = True
    except UnicodeDecodeError:
        headers, readable = None, False
    kind, milliseconds = message.timestamp()
    # All of these are there when there is no error; key and value are bytes, as no deserializer is set.
    topic: Any = message.topic()
    partition: Any = message.partition()
    offset: Any = message.offset()
    key: Any = message.key()
    value: Any = message.value()
    timestamp = milliseconds if kind else None
    return Record(topic, partition, offset, key, value, headers, timestamp, headers_readable=readable)
