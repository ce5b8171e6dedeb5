"""The consuming side alone, where a whole worker would hide when something happens."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError as ClientError
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo

from stream_classifier.custody import Custody
from stream_classifier.errors import KafkaError
from stream_classifier.kafka.clients import failure
from stream_classifier.kafka.source import Source
from stream_classifier.kafka.starts import Start, Starts
from stream_classifier.kafka.topics import Topics
from stream_classifier.ledger import Ledger, Partition
from stream_classifier.marks import Mark
from stream_classifier.settings import InputSettings, KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from broker import MakeTopic, NameTopic
    from confluent_kafka import TopicPartition

    from stream_classifier.delivery import Outcome
    from stream_classifier.events.record import Record


class Assignment:
    """Follows what is assigned."""

    def __init__(self) -> None:
        self.partitions: set[Partition] = set()

    def waits(self, seconds: float) -> None:
        """Wait."""

    def assigned(self, starts: Mapping[Partition, Start]) -> None:
        self.partitions.update(starts)

    def revoked(self, partitions: Collection[Partition]) -> None:
        self.partitions.difference_update(partitions)

    lost = revoked


def test_nothing_goes_to_the_model_while_a_mark_is_under_way(
    bootstrap_servers: str, make_topic: MakeTopic, name_topic: NameTopic
) -> None:
    """It is told again when no answer comes. The second one could come after the offsets of a transaction."""
    partition = Partition(make_topic(), 0)
    assignment = Assignment()
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, group_id=name_topic("group"))
    source = Source(kafka, InputSettings(topics=[partition.topic]), assignment)
    ledger: Ledger[Record, Outcome] = Ledger()
    custody = Custody(source, ledger, events=1)
    source.subscribe()
    end = time.monotonic() + 60

    def poll() -> None:
        assert time.monotonic() < end
        assert source.poll(1, 0.01, 0) == []

    while not assignment.partitions:
        poll()
    ledger.assign(partition)
    ledger.read_up_to(ledger.lanes[partition], 0)
    custody.assign({partition: Start(0, Mark())})
    assert not custody.announced(now=0)
    assert not custody.announced(now=0.5)
    assert not custody.announced(now=2), "it is told a second time"
    while not source.marked:
        poll()
    source.mark({partition: (0, "")})
    assert not custody.announced(now=2.5)
    while source.committing:
        assert not custody.announced(now=2.5)
        poll()
    assert custody.announced(now=2.5)
    source.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_client_that_is_closed_while_it_joins_its_group_does_not_wait(
    protocol: str, bootstrap_servers: str, make_topic: MakeTopic, name_topic: NameTopic
) -> None:
    """Given an assignment that comes at the moment of the end, when the client is closed, then it leaves at once.

    It would wait 30 s for committed offsets that a client which is being closed is never told.
    """
    topic = make_topic()
    for tenth in range(12):
        kafka = KafkaSettings.model_validate(
            {"bootstrap_servers": bootstrap_servers, "group_id": name_topic("group"), "group_protocol": protocol}
        )
        assignment = Assignment()
        source = Source(kafka, InputSettings(topics=(topic,)), assignment)
        source.subscribe()
        time.sleep(tenth * 0.05)  # the assignment comes some 0.2 s after subscribing, and nobody polls for it
        begun = time.monotonic()
        source.close()
        assert time.monotonic() - begun < 20
        assert not assignment.partitions


def test_who_changes_the_protocol_while_others_of_the_group_run_is_told_to_stop_them_first() -> None:
    """Given the answer of a broker (4.3.1) whose group has members with the classic protocol, then it says what is."""
    answer = ClientError(
        ClientError._FATAL,
        "Fatal error: Broker: The group id does not exist: ConsumerGroupHeartbeat fatal error: Broker: The group id "
        "does not exist",
    )
    assert str(failure(answer, "consuming")).endswith("; stop all of them, then start with consumer")


def test_where_a_partition_ends_is_asked_again_while_it_changes_its_leader(
    bootstrap_servers: str, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of such a partition the client gives neither an error nor an offset, but -1."""
    list_offsets = AdminClient.list_offsets
    asked = 0

    def without_a_leader(self: AdminClient, wanted: dict[TopicPartition, Any], **options: Any) -> dict[Any, Any]:
        nonlocal asked
        asked += 1
        if asked > 1:
            return list_offsets(self, wanted, **options)
        nothing: Future[Any] = Future()
        nothing.set_result(ListOffsetsResultInfo(-1, -1, -1))
        return dict.fromkeys(wanted, nothing)

    monkeypatch.setattr(AdminClient, "list_offsets", without_a_leader)
    topic = make_topic()
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, group_id="unused")
    starts = Starts(kafka, InputSettings(topics=[topic]))
    assert starts.ranges([Partition(topic, 0)]) == {Partition(topic, 0): (0, 0)}
    assert asked == 3


def test_without_a_leader_nobody_says_where_a_topic_ends(
    bootstrap_servers: str, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Future[Any] = Future()
    nothing.set_result(ListOffsetsResultInfo(-1, -1, -1))
    monkeypatch.setattr(AdminClient, "list_offsets", lambda _, wanted, **__: dict.fromkeys(wanted, nothing))
    topic = make_topic()
    topics = Topics(KafkaSettings(bootstrap_servers=bootstrap_servers, group_id="unused"))
    with pytest.raises(KafkaError, match="LEADER_NOT_AVAILABLE"):
        topics.ends(topic, 1)
