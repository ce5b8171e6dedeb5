"""Topics that are deleted, refuse, grow, or hold what nobody expected; retention. All on a real broker."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from in_and_out import everything_is_committed, nothing_is_lost, nothing_is_there_twice, published, source
from stream import PATIENCE, RunningWorker, Stream, header

from stream_classifier.errors import KafkaError, TooManyRefusedError
from stream_classifier.marks import read_mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker import MakeTopic, NameTopic

HOUR_MS = 3_600_000
FOR_EVER = str(2**63 - 1)


@pytest.fixture
def make_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, delivery: str) -> Callable[..., Stream]:
    bundle = tiny_bundle.build(tmp_path / "bundle")

    def make(**named: Any) -> Stream:
        return Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, **named)

    return make


@pytest.fixture
def admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers})


def ticket(number: int, *, size: int = 0) -> bytes:
    return orjson.dumps({"id": number, "text": "where is my parcel", "more": "x" * size})


def ids(stream: Stream) -> list[int]:
    return [orjson.loads(record.value or b"")["id"] for record in stream.labelled]


def until_all_is_committed(stream: Stream, running: RunningWorker) -> None:
    running.until(partial(everything_is_committed, stream), "all is done and committed")


def change(admin: AdminClient, topic: str, name: str, value: str) -> None:
    """Set a topic's property, and wait until the broker says that it holds."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    deadline = time.monotonic() + PATIENCE
    while next(iter(admin.describe_configs([resource]).values())).result()[name].value != value:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def delete(admin: AdminClient, topic: str) -> None:
    """Delete a topic, and wait until it can no more be written: what the broker took before that would be gone."""
    admin.delete_topics([topic])[topic].result()
    asked = {TopicPartition(topic, 0): OffsetSpec.latest()}  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(KafkaException):
        while time.monotonic() < deadline:
            admin.list_offsets(asked, request_timeout=10)[TopicPartition(topic, 0)].result()
            time.sleep(0.02)
        pytest.fail(f"{topic} is still there")


def make_again(admin: AdminClient, topic: str) -> None:
    """The name of a topic is free a moment after it was deleted."""
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result()
    until_it_has(admin, topic, 1)


def add_partitions(admin: AdminClient, topic: str, count: int) -> None:
    admin.create_partitions([NewPartitions(topic, count)])[topic].result()
    until_it_has(admin, topic, count)


def until_it_has(admin: AdminClient, topic: str, partitions: int) -> None:
    """Wait until so many partitions of a topic can be read and written."""
    deadline = time.monotonic() + PATIENCE
    asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}  # type: ignore[no-untyped-call]
    while True:
        try:
            admin.list_topics(topic, timeout=10)  # or it would not know of them for some minutes
            for future in admin.list_offsets(asked, request_timeout=10).values():
                future.result()
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def test_a_wrong_text_field_on_a_whole_topic(make_stream: Callable[..., Stream], delivery: str) -> None:
    """Given a wrong text_field, then half of a thousand are put aside at most, and what was is not committed past. When
    the setting is corrected, then all that was not put aside is labelled."""
    stream = make_stream(settings={"input": {"text_field": "body"}}, partitions=2)
    stream.publish(*[ticket(number) for number in range(900)])
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, TooManyRefusedError)
    assert "text_missing" in str(error)
    put_aside = {source(letter) for letter in stream.dead_letters}
    assert len(stream.dead_letters) <= 500
    assert sum(stream.committed().values()) <= len(put_aside)
    assert [read_mark(mark).by for mark in stream.marks().values()] == ["", ""], "nobody has to look for a reason"

    stream.settings = stream.settings.model_copy(
        update={"input": stream.settings.input.model_copy(update={"text_field": "text"})}
    )
    with stream.worker() as running:
        until_all_is_committed(stream, running)
    nothing_is_lost(stream, delivery)
    assert {source(record) for record in stream.labelled} >= published(stream) - put_aside
    assert len(stream.labelled) >= 400


@pytest.mark.parametrize("on_gap", ["stop", "continue"])
@pytest.mark.parametrize("running_meanwhile", [False, True], ids=["at start", "while running"])
def test_retention_that_overtakes_the_group(
    on_gap: str, running_meanwhile: bool, make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """Of nine events, retention deletes the fourth to sixth before they are read."""
    fetch_little = {"queued.min.messages": 1, "fetch.message.max.bytes": 200, "fetch.queue.backoff.ms": 20}
    settings = {
        "input": {"on_gap": on_gap},
        "batch": {"max_events": 1, "max_in_flight": 1},
        "kafka": {"commit_interval_ms": 50, "consumer": fetch_little},
    }
    stream = make_stream(settings=settings)
    stream.publish(*[ticket(number) for number in range(3)])
    with stream.worker() as running:
        until_all_is_committed(stream, running)
        if running_meanwhile:
            running.pause_everything()
            running.until(lambda: running.metric("paused") == 1, "paused")
            publish_and_delete(stream, admin)
            running.pause_as_usual()
            check_gap(on_gap, stream, running)
    if not running_meanwhile:
        publish_and_delete(stream, admin)
        with stream.worker() as running:
            check_gap(on_gap, stream, running)
    if delivery == "exactly_once":
        nothing_is_there_twice(stream)


def publish_and_delete(stream: Stream, admin: AdminClient) -> None:
    stream.publish(*[ticket(number) for number in range(3, 9)])
    for future in admin.delete_records([TopicPartition(stream.input, 0, 6)]).values():
        future.result()


def check_gap(on_gap: str, stream: Stream, running: RunningWorker) -> None:
    if on_gap == "stop":
        error = running.ends_with()
        assert isinstance(error, KafkaError)
        assert "the next event to label is 3, the first one still there is 6" in str(error)
        assert ids(stream) == [0, 1, 2]
        assert stream.committed() == {0: 3}
    else:
        until_all_is_committed(stream, running)
        running.until(lambda: running.metric("gaps_total") == 1, "the gap is counted")
        assert ids(stream) == [0, 1, 2, 6, 7, 8]


REFUSALS = {
    "size": ("max.message.bytes", "20000"),
    "past": ("message.timestamp.before.max.ms", str(HOUR_MS)),
    "future": ("message.timestamp.after.max.ms", str(HOUR_MS)),
}


@pytest.mark.both_modes
@pytest.mark.parametrize("reason", REFUSALS)
def test_one_refused_record_among_50_good_ones_in_a_produce_batch(
    reason: str, make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """Given a limit that the output topic got while the worker ran, then only the one record that is over it is put
    aside, and the offsets move on."""
    settings = {"kafka": {"commit_interval_ms": 50, "producer": {"linger.ms": 300}}}
    any_time = {"message.timestamp.after.max.ms": FOR_EVER}
    stream = make_stream(settings=settings, source=any_time, output=any_time)
    with stream.worker() as running:
        running.until(lambda: running.metric("assigned_partitions") == 1, "ready")
        change(admin, stream.output, *REFUSALS[reason])
        now = int(time.time() * 1000)
        at = {"past": now - 2 * HOUR_MS, "future": now + 48 * HOUR_MS}.get(reason, now)
        for number in range(51):
            value = ticket(number, size=25_000 * (number == 25 and reason == "size"))
            stream._producer.produce(stream.input, value, timestamp=at if number == 25 else now)
        assert stream._producer.flush(PATIENCE) == 0
        until_all_is_committed(stream, running)
        assert running.metric("produce_errors_total") >= 1, "the broker refused it, not we"
    (letter,) = stream.dead_letters
    assert source(letter) == f"{stream.input}/0/25"
    code = header(letter, "classifier-error-code")
    assert code == (b"output_too_large" if reason == "size" else b"timestamp_refused")
    nothing_is_lost(stream, delivery)
    assert set(ids(stream)) == set(range(51)) - {25}


def test_a_message_that_is_too_large_after_enrichment(make_stream: Callable[..., Stream], delivery: str) -> None:
    """It would fit as it came, and does not with its classification: it is put aside as it came."""
    stream = make_stream(output={"max.message.bytes": "3000"})
    stream.publish(ticket(1), ticket(2, size=2750), ticket(3))
    with stream.worker() as running:
        until_all_is_committed(stream, running)
    (letter,) = stream.dead_letters
    assert header(letter, "classifier-error-code") == b"output_too_large"
    assert letter.value == ticket(2, size=2750)
    assert ids(stream) == [1, 3]
    nothing_is_lost(stream, delivery)


def test_a_dead_letter_that_does_not_fit_since_the_limit_was_lowered(
    make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """Refused by the broker with its payload, it is sent without it."""
    stream = make_stream()
    bad = b'{"text":%s}' % (b"5" * 5000)
    with stream.worker() as running:
        running.until(lambda: running.metric("assigned_partitions") == 1, "ready")
        change(admin, stream.dead_letter, "max.message.bytes", "2000")
        stream.publish(ticket(1), bad, ticket(2))
        until_all_is_committed(stream, running)
        assert running.metric("produce_errors_total") >= 1, "the broker refused it, not we"
    (letter,) = stream.dead_letters
    assert (letter.key, letter.value) == (None, None)
    assert header(letter, "classifier-value-bytes") == str(len(bad)).encode()
    assert header(letter, "classifier-source") == f"{stream.input}/0/1".encode()
    assert set(ids(stream)) == {1, 2}
    nothing_is_lost(stream, delivery)


def test_a_dead_letter_topic_that_refuses_even_a_record_without_its_payload(
    make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """The worker ends, and nothing is committed past the event; when the topic takes it, the next one goes on."""
    stream = make_stream(dead_letter={"max.message.bytes": "100"})
    stream.publish(ticket(1), b"{oops", ticket(2))
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, KafkaError)
    assert f"{stream.dead_letter} refuses even a record without its payload" in str(error)
    assert stream.committed().get(0, 0) <= 1
    assert stream.dead_letters == []
    change(admin, stream.dead_letter, "max.message.bytes", "10000")
    with stream.worker() as running:
        until_all_is_committed(stream, running)
    assert len(stream.dead_letters) == 1
    nothing_is_lost(stream, delivery)


def test_a_dead_letter_topic_that_is_missing_at_the_start(
    make_stream: Callable[..., Stream], name_topic: NameTopic
) -> None:
    missing = name_topic("missing")
    stream = make_stream(settings={"dead_letter": {"topic": missing}})
    stream.publish(ticket(1))
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, KafkaError)
    assert f"no such topic: {missing}; `stream-classifier topics create" in str(error)
    assert stream.committed() == {}


WRITTEN = ["output", "dead_letter"]


def some_bad(first: int) -> list[bytes]:
    return [b"{oops" if number % 5 == 2 else ticket(number) for number in range(first, first + 50)]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_topic_that_is_written_is_deleted_while_running(
    written: str, make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """The worker waits for it as long as the client does, ends, and has committed nothing past the first event that it
    could not deliver; when the topic is there again, all of them come out."""
    stream = make_stream(settings={"kafka": {"client": {"topic.metadata.propagation.max.ms": 1000}}})
    topic = getattr(stream, written)
    with stream.worker() as running:
        stream.publish(*some_bad(0))
        until_all_is_committed(stream, running)
        delete(admin, topic)
        stream.publish(*some_bad(50))
        error = running.ends_with()
    assert isinstance(error, KafkaError)
    assert topic in str(error)
    assert "stream-classifier topics create" in str(error)
    committed = stream.committed()[0]
    assert committed <= 52, "the first event that has to go there is the 51st, or the 53rd"
    make_again(admin, topic)
    with stream.worker() as running:
        until_all_is_committed(stream, running)
    came = {source(record) for record in (*stream.labelled, *stream.dead_letters)}
    assert came >= {f"{stream.input}/0/{offset}" for offset in range(committed, 100)}
    if delivery == "exactly_once":
        nothing_is_there_twice(stream)


@pytest.mark.parametrize("written", WRITTEN)
def test_a_topic_that_is_deleted_and_made_again_while_running(
    written: str, make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """The worker goes on by itself."""
    stream = make_stream()
    topic = getattr(stream, written)
    with stream.worker() as running:
        stream.publish(*some_bad(0))
        until_all_is_committed(stream, running)
        delete(admin, topic)
        stream.publish(*some_bad(50))
        make_again(admin, topic)
        until_all_is_committed(stream, running)
    came = {source(record) for record in (*stream.labelled, *stream.dead_letters)}
    assert came >= {f"{stream.input}/0/{offset}" for offset in range(50, 100)}
    if delivery == "exactly_once":
        nothing_is_there_twice(stream)


@pytest.mark.parametrize(
    ("protocol", "start_at"), [("classic", "earliest"), ("classic", "latest"), ("consumer", "latest")]
)
def test_partitions_added_to_the_input_while_running(
    protocol: str, start_at: str, make_stream: Callable[..., Stream], admin: AdminClient
) -> None:
    """What was published to them before the worker saw them is labelled too, wherever it is to start."""
    settings = {
        "kafka": {
            "group_protocol": protocol,
            "commit_interval_ms": 50,
            "consumer": {"topic.metadata.refresh.interval.ms": 1000} if protocol == "classic" else {},
        },
        "input": {"start_at": start_at},
    }
    stream = make_stream(settings=settings)
    stream.publish(ticket(0))
    with stream.worker() as running:
        running.until(lambda: running.metric("assigned_partitions") == 1, "assigned")
        running.until(lambda: bool(stream.committed()), "it has begun")
        stream.publish(ticket(1))
        add_partitions(admin, stream.input, 3)
        stream._producer.list_topics(stream.input, timeout=10)  # makes it look
        for partition in (1, 2):
            stream.publish(*[ticket(number) for number in range(10)], partition=partition)
        until_all_is_committed(stream, running)
        running.until(lambda: running.metric("assigned_partitions") == 3, "the gauge shows it")
    left = {f"{stream.input}/0/0"} if start_at == "latest" else set()
    came = [source(record) for record in stream.labelled]
    assert set(came) == published(stream) - left
    assert len(came) == len(set(came))


def test_a_worker_takes_over_a_partition_that_it_has_not_seen_yet(
    make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    """KIP-848: the broker assigns what the client's list of partitions, some minutes old, does not have."""
    settings = {
        "kafka": {
            "group_protocol": "consumer",
            "commit_interval_ms": 50,
            "consumer": {"topic.metadata.refresh.interval.ms": 300_000},
        }
    }
    stream = make_stream(settings=settings)
    with stream.worker() as elder:
        elder.until(lambda: elder.metric("assigned_partitions") == 1, "the elder has the partition")
        add_partitions(admin, stream.input, 2)
        stream._producer.list_topics(stream.input, timeout=10)  # makes it look
        with stream.worker() as younger:
            younger.until(lambda: younger.metric("assigned_partitions") == 1, "one each")
            for partition in (0, 1):
                stream.publish(ticket(1), ticket(2), partition=partition)
            elder.until(partial(everything_is_committed, stream), "all is committed")
        for partition in (0, 1):
            stream.publish(ticket(3), partition=partition)
        until_all_is_committed(stream, elder)
    nothing_is_lost(stream, delivery, once=True)


def test_partitions_added_to_the_output_while_running(
    make_stream: Callable[..., Stream], admin: AdminClient, delivery: str
) -> None:
    settings = {"kafka": {"commit_interval_ms": 50, "producer": {"topic.metadata.refresh.interval.ms": 500}}}
    stream = make_stream(settings=settings)

    def publish() -> None:
        for number in range(30):
            stream.publish(ticket(number), key=str(number).encode())

    with stream.worker() as running:
        publish()
        until_all_is_committed(stream, running)
        add_partitions(admin, stream.output, 4)
        deadline = time.monotonic() + PATIENCE
        while not any(end for number, end in stream.ends(stream.output).items() if number):
            assert time.monotonic() < deadline, "nothing came to the new partitions"
            publish()
        until_all_is_committed(stream, running)
    nothing_is_lost(stream, delivery, once=True)
