"""Every kind of bad input on a real broker: a dead letter with the original bytes, and neighbours that are labelled."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import raw_producer
import tiny_bundle
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from stream import Stream, header

from stream_classifier import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic

    from stream_classifier.events.record import Record

GOOD = (b'{"id":1,"text":"where is my parcel"}', b'{"id":2,"text":"money refund"}')
DAY_MS = 86_400_000

BAD = {
    "tombstone": None,
    "not_utf8": b'{"text":"\xff\xfe"}',
    "not_json": b"{oops",
    "not_an_object": b"[1,2]",
    "text_missing": b'{"id":1}',
    "text_not_a_string": b'{"text":5}',
    "text_blank": '{"text":"\u200b　"}'.encode(),
    "text_too_large": b'{"text":"%s"}' % (b"x" * 100_001),
    "labels_invalid": b'{"text":"t","labels":["a","a"]}',
    "field_taken": b'{"text":"t","classification":null}',
    "inference_failed": b'{"text":"my parcel went boom"}',
}
MORE_BAD = {
    "ten thousand deep": ("not_json", b'{"text":"t","d":%s1%s}' % (b"[" * 10_000, b"]" * 10_000)),
    "lone surrogate": ("not_json", b'{"text":"\\ud800"}'),
    "raw null byte": ("not_json", b'{"text":"a\x00b"}'),
    "only null bytes": ("not_json", b"\x00" * 64),
    "empty": ("not_json", b""),
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "bundle")


HEADERS: Any = [("tenant", b"7"), ("empty", b""), ("null", None), ("tenant", b"8")]
PUBLISHED = 1_790_000_000_000


def publish_bad(stream: Stream, value: bytes | None) -> None:
    stream.publish(value, key=b"its key", headers=HEADERS, timestamp=PUBLISHED)


def check_letter(stream: Stream, letter: Record, offset: int, value: bytes | None, code: str) -> None:
    assert letter.value == value
    assert letter.key == b"its key"
    assert (letter.headers or [])[:4] == HEADERS
    assert header(letter, "classifier-error-code") == code.encode()
    assert header(letter, "classifier-source") == f"{stream.input}/0/{offset}".encode()
    assert header(letter, "classifier-source-timestamp") == str(PUBLISHED).encode()
    assert header(letter, "classifier-version") == __version__.encode()
    assert letter.timestamp is not None
    assert abs(letter.timestamp - time.time() * 1000) < DAY_MS, "a dead letter has the time at which it was put aside"
    message = header(letter, "classifier-error-message")
    assert isinstance(message, bytes)
    assert message
    assert b"boom" not in message
    assert b"oops" not in message


def check_one_bad_among_good(stream: Stream, bad: bytes | None, code: str) -> None:
    stream.publish(GOOD[0])
    publish_bad(stream, bad)
    stream.publish(GOOD[1])
    stream.run(3)
    labelled = [orjson.loads(record.value or b"") for record in stream.labelled]
    assert [event["id"] for event in labelled] == [1, 2]
    assert [event["classification"]["label"] for event in labelled] == ["delivery", "refund"]
    (letter,) = stream.dead_letters
    check_letter(stream, letter, 1, bad, code)
    assert stream.committed() == {0: 3}


@pytest.mark.both_modes
def test_each_reason_is_a_dead_letter_and_its_neighbours_are_labelled(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    """Given one bad event of each kind, each between two good ones, then each is put aside with its own reason."""
    bad = [*BAD.items(), *MORE_BAD.values()]
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery)
    stream.publish(GOOD[0])
    for _, value in bad:
        publish_bad(stream, value)
        stream.publish(GOOD[1])
    stream.run(2 * len(bad) + 1)

    labelled = [orjson.loads(record.value or b"") for record in stream.labelled]
    assert [event["id"] for event in labelled] == [1] + [2] * len(bad)
    assert [event["classification"]["label"] for event in labelled] == ["delivery"] + ["refund"] * len(bad)
    for place, ((code, value), letter) in enumerate(zip(bad, stream.dead_letters, strict=True)):
        check_letter(stream, letter, 2 * place + 1, value, code)
        of_set = [value for name, value in letter.headers or [] if name == "classifier-label-set"]
        assert of_set == ([b"support@3"] if code == "inference_failed" else [])
    assert stream.committed() == {0: 2 * len(bad) + 1}


def test_a_header_that_is_not_utf8_is_a_dead_letter_without_headers(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery)
    stream.publish(GOOD[0])
    raw_producer.produce(bootstrap_servers, stream.input, key=b"k", value=GOOD[0], header=(b"\xff\xfe", b"x"))
    stream.publish(GOOD[1])
    stream.run(3)
    (letter,) = stream.dead_letters
    assert (letter.key, letter.value) == (b"k", GOOD[0])
    assert header(letter, "classifier-error-code") == b"header_unreadable"
    assert all(name.startswith("classifier-") for name, _ in letter.headers or [])
    assert len(stream.labelled) == 2
    assert stream.committed() == {0: 3}


def test_a_result_that_the_output_topic_would_refuse_for_its_size(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    stream = Stream(
        bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, output={"max.message.bytes": "3000"}
    )
    check_one_bad_among_good(stream, b'{"text":"parcel","more":"%s"}' % (b"x" * 3000), "output_too_large")


def test_a_result_that_the_output_topic_would_refuse_for_its_time(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    limits = {"message.timestamp.before.max.ms": str(DAY_MS)}
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, output=limits)
    check_one_bad_among_good(stream, GOOD[0], "timestamp_refused")


def test_the_broker_refuses_what_was_allowed_at_the_start(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    """Given a limit that is lowered while the worker runs, when one record of a produce batch is over it, then that
    one alone is put aside, and what a reader sees last of each key is in order."""
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery)
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    with stream.worker() as running:
        running.until(lambda: running.health.ready() is None, "ready")
        entry = ConfigEntry("max.message.bytes", "3000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, stream.output, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()
        large = b'{"text":"parcel","more":"%s"}' % (b"x" * 3000)
        for number in range(150):
            stream._producer.produce(stream.input, b'{"id":%d,"text":"parcel"}' % number if number != 20 else large)
        stream._producer.flush()
        running.until(lambda: stream.committed() == {0: 150}, "all are done")
        assert running.metric("produce_errors_total") >= 1
    assert [header(letter, "classifier-error-code") for letter in stream.dead_letters] == [b"output_too_large"]
    came = [orjson.loads(record.value or b"")["id"] for record in stream.labelled]
    assert set(came) == set(range(150)) - {20}
    last = {number: place for place, number in enumerate(came)}
    assert [number for number, _ in sorted(last.items(), key=lambda item: item[1])] == sorted(last), (
        "the last are in order"
    )


def test_ten_megabytes_of_text_leave_a_dead_letter_that_fits(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    stream = Stream(
        bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, source={"max.message.bytes": "20000000"}
    )
    value = b'{"text":"%s"}' % (b"parcel " * 1_500_000)
    stream.publish(GOOD[0], value, GOOD[1])
    stream.run(3)
    (letter,) = stream.dead_letters
    assert letter.value is None
    assert header(letter, "classifier-error-code") == b"text_too_large"
    assert header(letter, "classifier-value-bytes") == str(len(value)).encode()
    assert header(letter, "classifier-value-sha256") == hashlib.sha256(value).hexdigest().encode()
    assert header(letter, "classifier-source") == f"{stream.input}/0/1".encode()
    assert len(stream.labelled) == 2
    assert stream.committed() == {0: 3}
