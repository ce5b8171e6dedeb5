"""A broker that stands still in the middle of a transaction, for longer than the transaction's calls wait for it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream_classifier.events.outgoing import TopicLimits
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.transactions import TransactionalSink
from stream_classifier.ledger import Partition
from stream_classifier.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0
TIMEOUT_MS = 2000


@pytest.fixture(scope="module")
def cluster(bootstrap_servers: str) -> Iterator[EmbeddedCluster]:
    """One of these tests' own, to be frozen; by itself it ends no transaction, however long that takes."""
    del bootstrap_servers  # skips where there is no Kafka to be had
    never = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000000000"}
    with EmbeddedCluster(properties=never) as running:
        yield running


class Writer:
    """A transactional sink, the topics around it and the group whose offsets it commits."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        (self.broker,) = cluster.pids.values()
        self.servers = cluster.bootstrap_servers
        stem = uuid.uuid4().hex[:8]
        self.output, self.input = f"out-{stem}", Partition(f"in-{stem}", 0)
        admin = AdminClient({"bootstrap.servers": self.servers})
        for made in admin.create_topics([NewTopic(name, 1) for name in (self.output, self.input.topic)]).values():
            made.result()
        self.group = Consumer({"bootstrap.servers": self.servers, "group.id": f"group-{stem}", "log_level": 0})
        kafka = KafkaSettings(
            bootstrap_servers=self.servers,
            group_id=f"group-{stem}",
            producer={"transaction.timeout.ms": TIMEOUT_MS},
        )
        self.sink: TransactionalSink[str] = TransactionalSink(kafka, [TopicLimits()], self._has_committed)
        self.sink.start()

    def _has_committed(self, offsets: object) -> bool | None:
        raise AssertionError(f"nobody should have to ask for {offsets}")

    def send(self, token: str) -> None:
        """Send a record, and see that the broker has it: its time is as short as that of the transaction."""
        self.sink.send(token, (self.output, None, token.encode(), [], int(time.time() * 1000)))
        assert self.sink._producer.flush(PATIENCE) == 0

    def commit(self, offset: int) -> None:
        self.sink.commit({self.input: (offset, "")}, self.group.consumer_group_metadata())

    def until_called(self) -> None:
        """Wait until the call that is under way has ended."""
        end = time.monotonic() + PATIENCE
        while not (self.sink.ready or self.sink.broken):
            assert time.monotonic() < end
            assert self.sink.poll(0.01).acknowledged == []

    def until_recovered(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.sink.recover():
            assert time.monotonic() < end
            time.sleep(0.01)

    def until_acknowledged(self) -> list[str]:
        end = time.monotonic() + PATIENCE
        while not (tokens := self.sink.poll(0.01).acknowledged):
            assert time.monotonic() < end
            assert not self.sink.broken, self.sink.errors
        return tokens

    def committed(self) -> int:
        return int(self.group.committed([TopicPartition(*self.input)], timeout=PATIENCE)[0].offset)

    def written(self) -> list[bytes | None]:
        """What a reader of committed records sees."""
        reader = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "unused",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        reader.assign([TopicPartition(self.output, 0, OFFSET_BEGINNING)])
        found: list[bytes | None] = []
        while True:
            message = reader.poll(PATIENCE)
            assert message is not None
            if message.error() is not None:
                reader.close()
                return found
            found.append(message.value())


@pytest.mark.parametrize("lost", [True, False])
def test_offsets_that_could_not_be_sent_and_partitions_that_were_lost_meanwhile(
    cluster: EmbeddedCluster, *, lost: bool
) -> None:
    """What the transaction holds is of partitions that will be read again: it must not be gone on with. Else it is."""
    writer = Writer(cluster)
    writer.send("first")
    os.kill(writer.broker, signal.SIGSTOP)
    try:
        writer.commit(1)
        if lost:
            writer.sink.doom()
        writer.until_called()
    finally:
        os.kill(writer.broker, signal.SIGCONT)
    assert "_TIMED_OUT" in writer.sink.errors
    assert writer.sink.broken == lost
    if lost:
        writer.until_recovered()
    writer.send("second")
    writer.commit(2)
    wanted = ["second"] if lost else ["first", "second"]
    assert writer.until_acknowledged() == wanted
    assert writer.written() == [token.encode() for token in wanted]
    assert writer.committed() == 2
