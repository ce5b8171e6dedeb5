"""The consuming side: the group, the assignment, the records, the offsets and the lag.

Owned by one thread. Rebalances are answered inside `poll`.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as ClientError

from stream_classifier.errors import KafkaError
from stream_classifier.kafka.aside import Aside
from stream_classifier.kafka.clients import build, consumer_properties, failure, is_permanent
from stream_classifier.kafka.messages import to_record
from stream_classifier.kafka.starts import PATIENCE_SECONDS, Gap, Start, Starts
from stream_classifier.ledger import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from stream_classifier.events.record import Record
    from stream_classifier.settings import InputSettings, KafkaSettings

_JOIN_AGAIN_SECONDS = 1.0  # between attempts to take the place of a dead member of the same name
_RELEASE_SECONDS = 120.0  # twice what a broker lets a session last, unless it is told otherwise
_HELD = ClientError(ClientError.UNRELEASED_INSTANCE_ID).str()
_STEP_SECONDS = 0.5  # that a question may keep the worker's thread when it can be asked again
_METADATA_HEADER = len(b"CGMDv2:") + 4  # librdkafka's form: these, the generation, then names that end with a zero


class Rebalance(Protocol):
    """Whoever holds events of the assigned partitions. Called inside `Source.poll` and `Source.close`."""

    def waits(self, seconds: float) -> None:
        """An answer of a broker is about to be waited for, so long at most."""

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        """These partitions were added."""

    def revoked(self, partitions: Collection[Partition]) -> None:
        """These are about to be taken: the last moment to commit for them."""

    def lost(self, partitions: Collection[Partition]) -> None:
        """These are gone already, and may be another's: nothing of them may be committed."""


class Source:
    """The worker's consumer.

    Attributes:
        ends: Partitions whose end was reached since they were last asked for, with the position there.
        commits: For each commit that was answered since they were last asked for, whether it went well.
        errors: Names of errors that the client mends by itself, since they were last asked for.
        marked: The mark beside each partition's offset that the group has acknowledged last.
        confirmed: How many events are done and committed, as far as the group has answered.
        joined: Whether the consumer is a member of its group.

    Args:
        kafka: Where Kafka is.
        reading: What to read.
        rebalance: Is told of every change of the assignment.
    """

    def __init__(self, kafka: KafkaSettings, reading: InputSettings, rebalance: Rebalance) -> None:
        self.ends: dict[Partition, int] = {}
        self.commits: list[bool] = []
        self.errors: list[str] = []
        self.marked: dict[Partition, str] = {}
        self.confirmed = 0
        self._asked: deque[tuple[int, bool]] = deque()  # what each commit under way will confirm; whether it is a mark
        self.joined = False
        self._closing = False
        self._topics = list(reading.topics)
        self._starts = Starts(kafka, reading)
        self._rebalance = rebalance
        self._paused: frozenset[Partition] = frozenset()
        self._assigned: set[Partition] = set()
        self._taken: set[Partition] = set()
        self._uncommitted = False
        # An exception that leaves one of the client's callbacks makes it drop the records of the same call, so every
        # callback keeps its exception here until the call has returned.
        self._raised: BaseException | None = None
        callbacks = {
            "error_cb": self._guard(self._on_error),
            "stats_cb": self._guard(self._on_statistics),
            "on_commit": self._guard(self._on_commit),
        }
        self._properties = consumer_properties(kafka) | callbacks
        self._consumer = build(Consumer, self._properties)
        self._held_since: float | None = None  # another member has this one's name
        self._join_at = 0.0

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            self._topics,
            on_assign=self._guard(self._on_assign),
            on_revoke=self._guard(self._on_revoke),
            on_lost=self._guard(self._on_lost),
        )

    def poll(self, most: int, wait: float, now: float) -> list[Record]:
        """Answer rebalances, and take records.

        Args:
            most: Records, at most.
            wait: Seconds to wait for the first one; above 0, or rebalances would not be answered.
            now: Noted in each record as the moment of its arrival.

        Raises:
            KafkaError: The group cannot go on without a change; or retention left a gap.
        """
        if self._held_since is not None and not self._has_joined_again(wait, now):
            return []
        self._taken.clear()
        first = self._consumer.poll(wait)
        self._raise_from_callbacks()
        if first is None:
            return []
        # Only poll() answers rebalances, and before it gives a record: so these are all of the present assignment.
        self._taken.clear()
        messages = [first, *self._consumer.consume(most - 1, 0)] if most > 1 else [first]
        self._raise_from_callbacks()
        return self._records(messages, now)

    def _records(self, messages: list[Message], now: float) -> list[Record]:
        records = []
        for message in messages:
            if (error := message.error()) is not None:
                self._take_error(message, error, now)
                continue
            record = to_record(message)
            if self._taken and (record.topic, record.partition) in self._taken:
                if (record.topic, record.partition) in self._assigned:
                    raise KafkaError("a partition was revoked and given back within one call; starting again is safe")
                continue
            record.polled_at = now
            records.append(record)
        return records

    def _take_error(self, message: Message, error: ClientError, now: float) -> None:
        code, topic, number, offset = error.code(), message.topic(), message.partition(), message.offset()
        if code == ClientError._PARTITION_EOF and topic is not None and number is not None and offset is not None:  # noqa: SLF001
            self.ends[Partition(topic, number)] = offset
        elif code == ClientError._AUTO_OFFSET_RESET and topic is not None and number is not None:  # noqa: SLF001
            self._pass_gap(Partition(topic, number), error)
        elif _HELD in error.str() and not self._assigned:
            self._held(error, now)
        elif is_permanent(error):
            raise failure(error, "consuming")
        else:
            self.errors.append(error.name())

    def _held(self, error: ClientError, now: float) -> None:
        """Wait for the session of the member that has this one's name: mostly it is dead, and was this one's last life.

        With the protocol of KIP-848 a member is not replaced by a younger one of its name, and the younger one's client
        gives up for good.
        """
        self._held_since = now if self._held_since is None else self._held_since
        if now - self._held_since > _RELEASE_SECONDS:
            raise failure(ClientError(ClientError.UNRELEASED_INSTANCE_ID), "consuming")
        self.errors.append(error.name() if error.code() != ClientError._FATAL else "UNRELEASED_INSTANCE_ID")  # noqa: SLF001 - its name
        self._join_at = now + _JOIN_AGAIN_SECONDS

    def _has_joined_again(self, wait: float, now: float) -> bool:
        """Make another client once it is time to."""
        if self._join_at:
            if now < self._join_at:
                time.sleep(min(wait, self._join_at - now))
                return False
            self._join_at = 0.0
            self._consumer.close()
            self._asked.clear()
            self._consumer = build(Consumer, self._properties)
            self.subscribe()
        return True

    def _pass_gap(self, partition: Partition, error: ClientError) -> None:
        wanted = self._consumer.position([TopicPartition(*partition)])[0].offset
        low, _ = self._starts.ranges([partition])[partition]
        if low <= wanted:
            raise failure(error, f"consuming {partition.topic}/{partition.number}")
        self._starts.note_gap(Gap(partition, max(wanted, 0), low))
        # A seek is refused in this state of the client.
        self._consumer.incremental_unassign([TopicPartition(*partition)])
        self._consumer.incremental_assign([TopicPartition(*partition, low)])

    def pause(self, partitions: frozenset[Partition]) -> None:
        """Fetch from every assigned partition but these."""
        wanted = partitions & self._assigned
        if more := wanted - self._paused:
            self._consumer.pause([TopicPartition(*partition) for partition in more])
        if less := (self._paused - wanted) & self._assigned:
            self._consumer.resume([TopicPartition(*partition) for partition in less])
        self._paused = wanted

    @property
    def gaps(self) -> list[Gap]:
        """Gaps that were passed over since the list was emptied (`input.on_gap: continue`)."""
        return self._starts.gaps

    @property
    def paused(self) -> int:
        """How many partitions are paused."""
        return len(self._paused)

    def store(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Note offsets (of the next record to read), and the mark beside each, for the next commit."""
        if offsets:
            # The client refuses to store for a partition that was revoked; commit() with offsets would not.
            self._consumer.store_offsets(offsets=_placed(offsets))
            self._uncommitted = True

    def commit(self, events: int) -> None:
        """Begin to commit what was stored; the answer comes inside a later `poll`.

        Args:
            events: How many are done in all; when the group has acknowledged this commit, `confirmed` says so.
        """
        if self._uncommitted:
            self._uncommitted = False
            self._asked.append((events, False))
            self._consumer.commit(asynchronous=True)
        elif not self._asked:
            self.confirmed = events

    @property
    def committing(self) -> bool:
        """Whether the answer to a commit is still to come."""
        return bool(self._asked)

    @property
    def marking(self) -> bool:
        """Whether the answer to a mark is still to come."""
        return any(is_mark for _, is_mark in self._asked)

    def mark(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Begin to commit these offsets with these marks; `marked` has them once the group has acknowledged it.

        Unlike `commit`, also where the offset is the committed one already.
        """
        if offsets:
            self._asked.append((self.confirmed, True))
            self._consumer.commit(offsets=_placed(offsets), asynchronous=True)

    def hand_over(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Commit these as the last thing before their partitions are given up.

        The client sends it before it tells the group that they are free, and waits for the answer before that.
        """
        self._uncommitted = False
        self.mark(offsets)

    def has_committed(self, offsets: Mapping[Partition, int]) -> bool | None:
        """Whether the group has these offsets, of which it has all or none; None when that cannot be told now.

        What is another member's by now does not count: it may have moved on by itself.
        """
        ours = [TopicPartition(*partition) for partition in offsets if partition in self._assigned]
        if not ours:
            return False
        try:
            found = self._consumer.committed(ours, timeout=_STEP_SECONDS)
        except KafkaException as error:
            self.errors.append(error.args[0].name())
            return None
        if any(at.error is not None for at in found):
            return None
        return all(at.offset >= offsets[Partition(at.topic, at.partition)] for at in found)

    def group_metadata(self) -> bytes | None:
        """What shows the broker that this is a member of the group; None when it is none at this moment.

        Metadata without a member's name would be taken for that of a program which does not use groups, and accepted.
        """
        metadata: bytes = self._consumer.consumer_group_metadata()
        _, _, names = metadata[_METADATA_HEADER:].partition(b"\0")
        return None if names.startswith(b"\0") else metadata

    def high_watermark(self, partition: Partition) -> int | None:
        """The offset after the partition's last record as far as is known without asking; None when it is not."""
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        except KafkaException:
            return None  # just assigned: nothing was fetched yet
        return high if high >= 0 else None

    def close(self, wait: float | None = None) -> bool:
        """Leave the group; `Rebalance.revoked` is called for what is still assigned.

        Args:
            wait: Seconds after which a client that does not come back is abandoned, and left alone by whoever calls:
                one that may not speak to the broker any more waits for as long as its session could last. None: wait
                as long as the client does.

        Returns:
            Whether it came back.
        """
        self._closing = True
        if wait is None:
            self._consumer.close()
        else:
            leaving = Aside("leave-group")
            leaving.start(self._consumer.close)
            if (ended := leaving.result(wait)) is None:
                return False
            if ended[0] is not None:
                raise ended[0]
        self.joined = False
        self._raise_from_callbacks()
        return True

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = True
        self._held_since = None
        if not partitions or self._closing:  # a client that is being closed would wait in vain for what it asks
            return
        self._rebalance.waits(2 * PATIENCE_SECONDS)
        starts = self._starts.of(self._consumer, partitions)
        placed = [TopicPartition(*partition, start.position) for partition, start in starts.items()]
        self._assigned.update(starts)
        self._rebalance.assigned(starts)
        self._consumer.incremental_assign(placed)
        # The client remembers a pause beyond the assignment that it was made in.
        self._consumer.resume(placed)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(partitions, self._rebalance.revoked)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = False
        self._give_up(partitions, self._rebalance.lost)

    def _give_up(self, partitions: list[TopicPartition], tell: Callable[[Collection[Partition]], None]) -> None:
        gone = [Partition(partition.topic, partition.partition) for partition in partitions]
        try:
            tell(gone)
        finally:
            self._assigned.difference_update(gone)
            self._paused -= set(gone)
            self._taken.update(gone)
            for partition in gone:
                self.ends.pop(partition, None)
                self.marked.pop(partition, None)
            if partitions:
                self._consumer.incremental_unassign(partitions)

    def _on_error(self, error: ClientError) -> None:
        if is_permanent(error):
            raise failure(error, "Kafka")
        self.errors.append(error.name())

    def _on_statistics(self, text: str) -> None:
        # Joined without a partition: nobody calls _on_assign then.
        group = orjson.loads(text).get("cgrp", {})
        self.joined = group.get("join_state") == "steady" and group.get("state") == "up"

    def _on_commit(self, error: ClientError | None, partitions: list[TopicPartition]) -> None:
        events = self._asked.popleft()[0] if self._asked else self.confirmed
        if error is None:
            self.confirmed = max(self.confirmed, events)
        self._note_commit(error, partitions)
        if error is not None and is_permanent(error):
            raise failure(error, "committing")

    def _note_commit(self, error: ClientError | None, partitions: list[TopicPartition]) -> None:
        problems = [problem for problem in (error, *(at.error for at in partitions)) if problem is not None]
        if error is None:
            found = {Partition(at.topic, at.partition): at.metadata or "" for at in partitions if at.error is None}
            # What comes late, for a partition that is gone, is nobody's mark any more.
            self.marked |= {partition: mark for partition, mark in found.items() if partition in self._assigned}
        if not problems:
            self.commits.append(True)
        elif problems[0].code() != ClientError._NO_OFFSET:  # noqa: SLF001 - there was nothing to commit
            self.commits.append(False)
            self.errors.append(problems[0].name())
            self._uncommitted = True  # still stored: the next commit takes it along

    def _guard(self, callback: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: object) -> None:
            try:
                callback(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again as soon as the client's call has returned
                self._raised = self._raised or error

        return guarded

    def _raise_from_callbacks(self) -> None:
        if (error := self._raised) is not None:
            self._raised = None
            raise failure(error.args[0], "Kafka") if isinstance(error, KafkaException) else error


def _placed(offsets: Mapping[Partition, tuple[int, str]]) -> list[TopicPartition]:
    return [TopicPartition(*partition, offset, mark) for partition, (offset, mark) in offsets.items()]
