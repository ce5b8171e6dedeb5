"""What is in the stack's topics, read by the plain client: events, dead letters, and what the group has committed."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import Consumer, TopicPartition

from containers.commands import CheckError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

    from stream_classifier.settings import Settings

_SECONDS = 60.0


class Topics:
    """The topics and the group of a worker's settings."""

    def __init__(self, servers: str, settings: Settings) -> None:
        self._settings = settings
        self._properties = {"bootstrap.servers": servers, "group.id": settings.kafka.group_id}

    def await_labelled(self, count: int) -> None:
        """Wait for so many labelled events, and look at each.

        Raises:
            CheckError: They did not come, or one is not labelled.
        """
        field = self._settings.output.field
        for message in itertools.islice(self._messages(self._settings.output.topic, endless=True), count):
            result = orjson.loads(message.value() or b"{}").get(field)
            if not isinstance(result, dict) or "label" not in result:
                raise CheckError(f"{message.topic()}/{message.partition()}/{message.offset()} is not a labelled event")

    def settled(self) -> Counter[tuple[int, int]]:
        """How often each input (partition, offset) has an event or a dead letter now."""
        found: Counter[tuple[int, int]] = Counter()
        for topic in (self._settings.output.topic, self._settings.dead_letter.topic):
            found.update(_source(message) for message in self._messages(topic, endless=False))
        return found

    def committed(self) -> dict[int, int]:
        """How far the group has committed each partition of the input."""
        consumer = Consumer(self._properties)
        try:
            partitions = _partitions(consumer, self._settings.input.topics[0])
            return {each.partition: max(0, each.offset) for each in consumer.committed(partitions, timeout=_SECONDS)}
        finally:
            consumer.close()

    def _messages(self, topic: str, *, endless: bool) -> Iterator[Message]:
        """All of a topic, from the beginning to what is there now, or for as long as more comes."""
        consumer = Consumer(self._properties)
        try:
            partitions = _partitions(consumer, topic)
            ends = {each.partition: consumer.get_watermark_offsets(each, timeout=_SECONDS)[1] for each in partitions}
            left = sum(ends.values())
            consumer.assign([TopicPartition(topic, each.partition, 0) for each in partitions])
            deadline = time.monotonic() + _SECONDS
            while endless or left > 0:
                if (message := consumer.poll(0.2)) is None:
                    if time.monotonic() > deadline:
                        raise CheckError(f"nothing more came in {topic} within {_SECONDS:g} s")
                    continue
                if (error := message.error()) is not None:
                    raise CheckError(f"reading {topic}: {error.str()}")
                deadline = time.monotonic() + _SECONDS
                left -= 1
                yield message
        finally:
            consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[TopicPartition]:
    metadata = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
    return [TopicPartition(topic, number) for number in metadata.partitions]


def _source(message: Message) -> tuple[int, int]:
    """The partition and the offset that an event or a dead letter was made of, as its header says."""
    headers = dict(message.headers() or [])
    source = headers.get("classifier-source")
    if not isinstance(source, bytes):
        raise CheckError(f"{message.topic()}/{message.partition()}/{message.offset()} does not say what it was made of")
    _, partition, offset = source.decode().rsplit("/", 2)
    return int(partition), int(offset)
