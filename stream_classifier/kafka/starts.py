"""Where reading a partition begins: at the committed offset, or where `input.start_at` says, or after a gap.

What the broker is asked here is asked while the consumer is inside one of its callbacks, so it is asked by a client of
its own: after a `list_topics` of the consumer's, the next of its callbacks would end the process (confluent-kafka 2.16
loses track of the thread). It is a new one for each question: an old one would go on asking the leaders that it knows,
and one of them may be gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka import KafkaError as ClientError
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_classifier.errors import KafkaError
from stream_classifier.kafka.clients import build, common_properties, failure, is_permanent
from stream_classifier.ledger import Partition
from stream_classifier.marks import Mark, read_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from confluent_kafka import Consumer

    from stream_classifier.settings import InputSettings, KafkaSettings

AnswerT = TypeVar("AnswerT")

PATIENCE_SECONDS = 120.0  # that the brokers may be away for in the middle of a rebalance
_ATTEMPT_SECONDS = 10.0
_AGAIN_SECONDS = 0.1


class Start(NamedTuple):
    """Where reading a partition begins.

    Attributes:
        position: The first offset that is read, if it is there.
        mark: What was found beside the committed offset.
    """

    position: int
    mark: Mark


class Gap(NamedTuple):
    """Events that retention deleted before they were read."""

    partition: Partition
    wanted: int
    found: int


class Starts:
    """Finds where partitions begin.

    Attributes:
        gaps: Gaps that were passed over since they were last asked for (`input.on_gap: continue`).

    Args:
        kafka: Where Kafka is.
        reading: Where to begin without a committed offset, and what to do about gaps.
    """

    def __init__(self, kafka: KafkaSettings, reading: InputSettings) -> None:
        self.gaps: list[Gap] = []
        self._reading = reading
        self._properties = common_properties(kafka)

    def of(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> dict[Partition, Start]:
        """Where these begin.

        Args:
            consumer: The group's member that has been given them.
            partitions: Which ones.

        Raises:
            KafkaError: Kafka refuses to tell, or did not for two minutes; or there is a gap, and `input.on_gap: stop`.
        """
        committed = _committed(consumer, list(partitions))
        ranges = self.ranges(committed)
        counts = {
            topic: self._partitions_at_first(consumer, topic)
            for topic in {partition.topic for partition, (offset, _) in committed.items() if offset < 0}
        }
        return {
            partition: self._start(partition, offset, mark, ranges[partition], counts.get(partition.topic, 0))
            for partition, (offset, mark) in committed.items()
        }

    def _start(
        self, partition: Partition, committed: int, mark: Mark, present: tuple[int, int], partitions_at_first: int
    ) -> Start:
        low, high = present
        if committed < 0:
            new = partition.number >= partitions_at_first
            position = low if new or self._reading.start_at == "earliest" else high
            return Start(position, Mark(partitions_at_first))
        if committed > high:
            raise KafkaError(
                f"{partition.topic}/{partition.number}: the group has committed {committed}, the topic ends at {high}: "
                "was it made anew? Reset the group's offsets, or take another kafka.group_id"
            )
        if committed < low:
            self.note_gap(Gap(partition, committed, low))
            return Start(low, mark)
        return Start(committed, mark)

    def _partitions_at_first(self, consumer: Consumer, topic: str) -> int:
        """How many partitions a topic had when the group began with it: other members may have done so already."""
        known = _patiently(
            f"asking for the partitions of {topic}", lambda: self._client().list_topics(topic, timeout=_ATTEMPT_SECONDS)
        )
        count = len(known.topics[topic].partitions)
        everywhere = _committed(consumer, [TopicPartition(topic, number) for number in range(count)])
        return min((mark.partitions for _, mark in everywhere.values() if mark.partitions), default=count)

    def ranges(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """The first offset that each partition still has, and the one after its last.

        Raises:
            KafkaError: Kafka refuses to tell, or did not for two minutes.
        """
        first = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # it has no types
        end = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def _offsets(self, partitions: Collection[Partition], which: OffsetSpec) -> dict[Partition, int]:
        def ask() -> dict[Partition, int]:
            client = self._client()
            answers = client.list_offsets(
                {TopicPartition(*partition): which for partition in partitions},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=_ATTEMPT_SECONDS,
            )
            offsets = {Partition(at.topic, at.partition): future.result().offset for at, future in answers.items()}
            if any(offset < 0 for offset in offsets.values()):
                # The client was told of no error and of no offset, as happens while a partition changes its leader.
                raise KafkaException(ClientError(ClientError.LEADER_NOT_AVAILABLE))
            return offsets

        return _patiently("asking for the offsets of the input", ask)

    def _client(self) -> AdminClient:
        return build(AdminClient, self._properties)

    def note_gap(self, gap: Gap) -> None:
        """Pass over a gap.

        Raises:
            KafkaError: `input.on_gap: stop`.
        """
        if self._reading.on_gap == "stop":
            topic, number = gap.partition
            raise KafkaError(
                f"{topic}/{number}: the next event to label is {gap.wanted}, the first one still there is {gap.found}: "
                f"retention deleted events before they were labelled; `input.on_gap: continue` goes on without them"
            )
        self.gaps.append(gap)


def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> dict[Partition, tuple[int, Mark]]:
    """The group's offset of each partition, below 0 where it has none, and the mark beside it."""

    def ask() -> dict[Partition, tuple[int, Mark]]:
        found: list[TopicPartition] = consumer.committed(partitions, timeout=_ATTEMPT_SECONDS)
        for at in found:
            if at.error is not None:
                raise KafkaException(at.error)
        return {Partition(at.topic, at.partition): (at.offset, read_mark(at.metadata)) for at in found}

    return _patiently("reading the group's committed offsets", ask)


def _patiently(doing: str, ask: Callable[[], AnswerT]) -> AnswerT:
    """Ask a broker, and again when it went away meanwhile."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if is_permanent(error.args[0]) or time.monotonic() > end:
                raise failure(error.args[0], doing) from None
        time.sleep(_AGAIN_SECONDS)
