"""What a worker does with good input, on a real broker."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from stream import Stream, header, offsets_are_in_order

from stream_classifier.errors import KafkaError, StalledError
from stream_classifier.kafka.embedded import tool_command

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic, NameTopic


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "bundle")


@pytest.fixture
def make_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path) -> Any:
    def make(**named: Any) -> Stream:
        return Stream(bootstrap_servers, make_topic, tmp_path, bundle, **named)

    return make


def ticket(number: int, text: str = "where is my parcel") -> bytes:
    return orjson.dumps({"id": number, "text": text})


def test_an_event_comes_out_as_it_was_with_its_classification_at_the_end(make_stream: Any) -> None:
    stream = make_stream()
    value = b' {"id": 1.10, "n":12345678901234567890123,\t"text":"\\u9000\\u6b3e", "d": {"x":"}"} } \n'
    headers: Any = [("trace", b"\x00\xff"), ("trace", None), ("classifier-model", b"another's"), ("empty", b"")]
    stream.publish(value, key=b"\x00key", headers=headers, timestamp=1_700_000_000_123)
    with stream.worker() as running:
        stream.await_outcomes(1, running.check)
        identity, short_hash = running.model.identity, running.model.short_hash
    (record,) = stream.labelled
    start = b' {"id": 1.10, "n":12345678901234567890123,\t"text":"\\u9000\\u6b3e", "d": {"x":"}"} ,"classification":'
    assert record.value.startswith(start)
    assert record.value.endswith(b"} \n")
    result = orjson.loads(record.value)["classification"]
    assert result["label"] == "refund"
    assert result["label"] == result["labels"][0]["label"]
    assert [name["label"] for name in result["labels"]].count("refund") == 1
    assert sum(label["score"] for label in result["labels"]) == pytest.approx(1, abs=0.001)
    assert (result["label_set"], result["model"], result["truncated"]) == ("support@3", identity, False)
    assert list(result) == ["label", "score", "labels", "label_set", "model", "truncated"]
    assert record.key == b"\x00key"
    assert record.timestamp == 1_700_000_000_123
    assert record.headers == [
        ("trace", b"\x00\xff"),
        ("trace", None),
        ("empty", b""),
        ("classifier-source", f"{stream.input}/0/0".encode()),
        ("classifier-model", short_hash.encode()),
        ("classifier-label-set", b"support@3"),
    ]


def test_the_oldest_timestamp_stays_old(make_stream: Any) -> None:
    """0 would be taken for "now" by the client: it becomes 1."""
    stream = make_stream()
    stream.publish(ticket(1), timestamp=1)
    stream.run(1)
    assert [record.timestamp for record in stream.labelled] == [1]


def test_labels_of_an_events_own(make_stream: Any) -> None:
    stream = make_stream()
    stream.publish(
        b'{"text":"\xe6\x88\x91\xe8\xa6\x81 \xe9\x80\x80\xe6\xac\xbe","labels":["money","password"]}', ticket(2)
    )
    with stream.worker() as running:
        stream.await_outcomes(2, running.check)
        running.until(lambda: running.metric("labels_assigned_total", label_set="adhoc", label="other") == 1, "counted")
        assert running.metric("labels_assigned_total", label_set="support@3", label="delivery") == 1
    own, configured = (orjson.loads(record.value)["classification"] for record in stream.labelled)
    assert (own["label"], own["label_set"]) == ("money", "adhoc")
    assert {entry["label"] for entry in own["labels"]} == {"money", "password"}
    assert configured["label_set"] == "support@3"


def test_plain_texts(make_stream: Any) -> None:
    stream = make_stream(settings={"input": {"format": "text"}})
    stream.publish('我的"快递"\\ 呢'.encode(), b'{"text":5}')
    stream.run(2)
    first, second = (orjson.loads(record.value) for record in stream.labelled)
    assert list(first) == ["text", "classification"]
    assert first["text"] == '我的"快递"\\ 呢'
    assert second["text"] == '{"text":5}'


def test_fields_of_other_names_deep_inside_and_overwriting(make_stream: Any) -> None:
    settings = {
        "input": {"text_field": "message.body", "labels_field": "ask.labels"},
        "output": {"field": "topic", "overwrite": True},
    }
    stream = make_stream(settings=settings)
    stream.publish(b'{"topic":1,"message":{"body":"parcel"},"t\\u006fpic":{"a":[2]},"ask":{"labels":["login","late"]}}')
    stream.run(1)
    (record,) = stream.labelled
    assert record.value.startswith(
        b'{"message":{"body":"parcel"},"ask":{"labels":["login","late"]},"topic":{"label":"late"'
    )


def test_tombstones_pass_when_they_are_to(make_stream: Any) -> None:
    stream = make_stream(settings={"input": {"tombstones": "pass_through"}})
    stream.publish(None, key=b"gone", headers=[("a", b"b")], timestamp=1_700_000_000_000)
    stream.publish(ticket(1))
    with stream.worker() as running:
        stream.await_outcomes(2, running.check)
        running.until(lambda: running.metric("tombstones_passed_total") == 1, "counted")
    tombstone, _ = stream.labelled
    assert (tombstone.key, tombstone.value, tombstone.timestamp) == (b"gone", None, 1_700_000_000_000)
    assert tombstone.headers == [("a", b"b"), ("classifier-source", f"{stream.input}/0/0".encode())]
    assert stream.dead_letters == []


def test_order_and_partitions_are_kept(make_stream: Any) -> None:
    """Labelled, refused and slow events mixed in four partitions: each comes out in the order of its partition."""
    stream = make_stream(partitions=4, settings={"batch": {"max_events": 7, "max_tokens": 40, "max_wait_ms": 0}})
    for number in range(400):
        words = "parcel late money password " * (1 + number % 9)
        value = b"{oops" if number % 37 == 0 else ticket(number, words + ("boom" if number % 53 == 0 else ""))
        stream.publish(value, key=str(number % 11).encode())
    stream.run(400)
    labelled, dead = stream.labelled, stream.dead_letters
    assert len(labelled) + len(dead) == 400
    assert {header(letter, "classifier-error-code") for letter in dead} == {b"not_json", b"inference_failed"}
    assert offsets_are_in_order(labelled)
    for record in labelled:
        source = header(record, "classifier-source")
        assert isinstance(source, bytes)
        assert int(source.split(b"/")[1]) == record.partition, "the same key goes to the same partition number"
    assert stream.committed() == {number: end for number, end in stream.ends(stream.input).items() if end}


def test_a_key_goes_where_java_clients_send_it(make_stream: Any) -> None:
    """murmur2 of "t-1", "t-2", ... modulo 4, as Java's own console producer places them on the input."""
    stream = make_stream(partitions=4)
    lines = "".join(f't-{number}|{{"text":"parcel"}}\n' for number in range(40))
    command = tool_command(
        "ConsoleProducer",
        "--bootstrap-server",
        stream.servers,
        "--topic",
        stream.input,
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "key.separator=|",
    )
    subprocess.run(command, input=lines.encode(), check=True, capture_output=True, timeout=60)
    stream.run(40)
    placed = {record.key: record.partition for record in stream.contents(stream.input)}
    assert len(set(placed.values())) > 1
    assert {record.key: record.partition for record in stream.labelled} == placed


def test_an_independent_consumer_reads_what_was_written(make_stream: Any) -> None:
    stream = make_stream()
    stream.publish(*[ticket(number) for number in range(5)], key=b"k")
    stream.run(5)
    command = tool_command(
        "consumer.ConsoleConsumer",
        "--bootstrap-server",
        stream.servers,
        "--topic",
        stream.output,
        "--from-beginning",
        "--max-messages",
        "5",
        "--timeout-ms",
        "20000",
        "--formatter-property",
        "print.key=true",
        "--formatter-property",
        "print.headers=true",
    )
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 5
    for offset, line in enumerate(lines):
        headers, key, value = line.split("\t")
        assert f"classifier-source:{stream.input}/0/{offset}" in headers
        assert key == "k"
        assert orjson.loads(value)["classification"]["label"] == "delivery"


def test_a_restarted_worker_goes_on_where_it_stopped(make_stream: Any) -> None:
    stream = make_stream(partitions=2)
    stream.publish(*[ticket(number) for number in range(30)])
    stream.run(30)
    stream.publish(*[ticket(number) for number in range(30, 40)])
    stream.run(40)
    assert sorted(orjson.loads(record.value)["id"] for record in stream.labelled) == list(range(40))


def test_an_empty_topic_is_waited_for(make_stream: Any) -> None:
    stream = make_stream()
    with stream.worker() as running:
        running.until(lambda: running.health.ready() is None, "ready")
        running.until(lambda: running.metric("assigned_partitions") == 1, "assigned")
        running.until(
            lambda: (
                running.metrics.registry.get_sample_value(
                    "stream_classifier_consumer_lag", {"topic": stream.input, "partition": "0"}
                )
                == 0
            ),
            "lag 0",
        )
        assert running.health.alive(time.monotonic()) is None
    assert running.health.ready() == "stopping"


def test_start_at_latest_leaves_what_was_there_and_misses_nothing_after(make_stream: Any) -> None:
    """Also when the worker ends before anything was labelled: where it started is committed."""
    stream = make_stream(settings={"input": {"start_at": "latest"}})
    stream.publish(ticket(1))
    with stream.worker() as running:
        running.until(lambda: bool(stream.committed()), "the start is committed")
    stream.publish(ticket(2))
    stream.run(1)
    assert [orjson.loads(record.value)["id"] for record in stream.labelled] == [2]


def delete_before(stream: Stream, offset: int) -> None:
    """What retention does."""
    admin = AdminClient({"bootstrap.servers": stream.servers})
    for future in admin.delete_records([TopicPartition(stream.input, 0, offset)]).values():
        future.result()


def test_events_that_retention_deleted_stop_the_worker(make_stream: Any) -> None:
    stream = make_stream()
    stream.publish(*[ticket(number) for number in range(3)])
    stream.run(3)
    stream.publish(*[ticket(number) for number in range(3, 9)])
    delete_before(stream, 6)
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, KafkaError)
    assert "the next event to label is 3, the first one still there is 6" in str(error)
    assert stream.committed() == {0: 3}


def test_or_are_counted_when_the_worker_is_to_go_on(make_stream: Any) -> None:
    stream = make_stream(settings={"input": {"on_gap": "continue"}})
    stream.publish(*[ticket(number) for number in range(3)])
    stream.run(3)
    stream.publish(*[ticket(number) for number in range(3, 9)])
    delete_before(stream, 6)
    with stream.worker() as running:
        stream.await_outcomes(6, running.check)
        running.until(lambda: running.metric("gaps_total") == 1, "counted")
    assert [orjson.loads(record.value)["id"] for record in stream.labelled] == [0, 1, 2, 6, 7, 8]
    assert stream.committed() == {0: 9}


def test_transaction_markers_are_no_lag_and_aborted_events_are_not_labelled(make_stream: Any) -> None:
    stream = make_stream()
    producer = Producer({"bootstrap.servers": stream.servers, "transactional.id": stream.group})
    producer.init_transactions(30)
    for number, commit in ((1, True), (2, False), (3, True)):
        producer.begin_transaction()
        producer.produce(stream.input, ticket(number))
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    with stream.worker() as running:
        stream.await_outcomes(2, running.check)
        running.until(lambda: stream.committed() == {0: 6}, "the position after the last marker is committed")
        running.until(
            lambda: running.metric("consumer_lag", topic=stream.input, partition="0") == 0, "markers are no lag"
        )
    assert [orjson.loads(record.value)["id"] for record in stream.labelled] == [1, 3]


def test_the_counts_are_right(make_stream: Any) -> None:
    stream = make_stream(partitions=2)
    stream.publish(*[ticket(number, "parcel " * 80 if number < 3 else "parcel") for number in range(20)], b"{", b"[]")
    with stream.worker() as running:
        stream.await_outcomes(22, running.check)
        running.until(lambda: running.metric("events_labelled_total", label_set="support@3") == 20, "labelled")
        running.until(lambda: running.metric("in_flight_events") == 0, "nothing in flight")
        assert running.metric("events_consumed_total", topic=stream.input) == 22
        running.until(lambda: running.metric("dead_letters_total", reason="not_json") == 1, "put aside")
        running.until(lambda: running.metric("dead_letters_total", reason="not_an_object") == 1, "this one, too")
        assert running.metric("labels_assigned_total", label_set="support@3", label="delivery") == 20
        assert running.metric("truncated_total") == 3
        assert running.metric("processing_seconds_count") == 22
        assert running.metric("end_to_end_seconds_count") == 22
        assert running.metric("confidence_count", label_set="support@3") == 20
        assert running.metric("ready") == 1
        assert running.metric("rebalances_total", kind="assigned") >= 1
        assert running.metric("batches_total") >= 1
        assert running.metric("tokens_total", kind="useful") > 20
        running.until(lambda: running.metric("commits_total", result="ok") >= 1, "committed")
    assert running.metric("consumer_lag", topic=stream.input, partition="0") == 0
    lag = running.metrics.registry.get_sample_value(
        "stream_classifier_consumer_lag", {"topic": stream.input, "partition": "0"}
    )
    assert lag is None, "a partition that was given up has no lag here"


def test_what_is_in_flight_stays_bounded(make_stream: Any) -> None:
    """A backlog far over the bound, in partitions of very different size: never more in flight, all labelled."""
    settings = {"batch": {"max_events": 8, "max_in_flight": 32, "max_tokens": 16}, "cache": {"results": 0}}
    stream = make_stream(partitions=3, settings=settings)
    for number in range(1500):
        stream.publish(ticket(number), partition=0 if number % 10 else 1 + number % 2)
    most = 0
    with stream.worker() as running:
        while running.metric("events_labelled_total", label_set="support@3") < 1500:
            running.check()
            most = max(most, running.in_flight)
            time.sleep(0.001)
    assert 0 < most <= 32
    assert len(stream.labelled) == 1500
    assert offsets_are_in_order(stream.labelled)


def test_missing_topics_are_named_and_not_created(make_stream: Any, name_topic: NameTopic) -> None:
    missing = name_topic("missing")
    stream = make_stream(settings={"output": {"topic": missing}})
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, KafkaError)
    assert f"no such topic: {missing}" in str(error)
    topics = AdminClient({"bootstrap.servers": stream.servers}).list_topics(timeout=10).topics
    assert missing not in topics


def test_a_model_that_hangs_ends_the_worker(make_stream: Any) -> None:
    """The deadline is the shortest there is: whatever the model does, it takes longer."""
    stream = make_stream(settings={"batch": {"timeout_seconds": 0.000001}})
    stream.publish(*[ticket(number) for number in range(2000)])
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, StalledError)
    assert "batch.timeout_seconds" in str(error)


def test_events_with_many_labels_of_their_own_do_not_fill_a_window_beyond_its_time(make_stream: Any) -> None:
    """Labels cost as texts do: 100 long ones, different for every event, close a window after a few events."""
    stream = make_stream()
    for number in range(40):
        labels = [f"{number} {label} " + "parcel " * 27 for label in range(100)]
        stream.publish(orjson.dumps({"id": number, "text": "parcel", "labels": labels}))
    with stream.worker() as running:
        stream.await_outcomes(40, running.check)
        windows = running.metric("tokenize_seconds_count")
    assert windows >= 10
    assert len(stream.labelled) == 40


def test_a_gap_that_opens_while_the_worker_runs_is_passed_when_it_is_to_go_on(make_stream: Any) -> None:
    settings = {
        "input": {"on_gap": "continue"},
        "batch": {"max_events": 1, "max_in_flight": 1},
        "kafka": {"commit_interval_ms": 50, "consumer": {"queued.min.messages": 1, "fetch.message.max.bytes": 200}},
    }
    stream = make_stream(settings=settings)
    with stream.worker() as running:
        stream.publish(ticket(0))
        stream.await_outcomes(1, running.check)
        running.pause_everything()
        running.until(lambda: running.metric("paused") == 1, "paused")
        stream.publish(*[ticket(number) for number in range(1, 9)])
        delete_before(stream, 6)
        running.pause_as_usual()
        running.until(lambda: running.metric("gaps_total") == 1, "the gap is counted")
        stream.await_outcomes(4, running.check)
    assert [orjson.loads(record.value)["id"] for record in stream.labelled] == [0, 6, 7, 8]
    assert stream.committed() == {0: 9}


def test_offsets_beyond_the_end_are_no_gap(make_stream: Any) -> None:
    """A topic that was made anew: labelling all of it again is not what `continue` asks for."""
    stream = make_stream(settings={"input": {"on_gap": "continue"}})
    stream.publish(ticket(1))
    request = ConsumerGroupTopicPartitions(stream.group, [TopicPartition(stream.input, 0, 50)])
    admin = AdminClient({"bootstrap.servers": stream.servers})
    admin.alter_consumer_group_offsets([request])[stream.group].result()
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, KafkaError)
    assert "the group has committed 50, the topic ends at 1" in str(error)
    assert stream.labelled == []
