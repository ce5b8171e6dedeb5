"""Generated inputs, a thousand or a million: each ends as one label or one dead letter, with its bytes intact.

    make inputs
    STREAM_CLASSIFIER_TEST_INPUTS=1000000 STREAM_CLASSIFIER_TEST_SEED=7 pytest -s tests/test_generated_inputs.py

A real worker labels them with the tests' tiny model, on a real broker. What came out is checked by the plain client
against what was published and what the input topic holds; the project's own code for records has no part in that.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
import pytest
import tiny_bundle
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka import KafkaError as ClientError
from generated_inputs import Input, round_of_inputs
from hypothesis import example, given
from hypothesis import strategies as st
from stream import PATIENCE, Stream

from stream_classifier.events.decode import Decoder, PassThrough, Task
from stream_classifier.events.outgoing import TopicLimits, Writer
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from broker import MakeTopic

COUNT = int(os.environ.get("STREAM_CLASSIFIER_TEST_INPUTS", "4000"))
SEED = int(os.environ.get("STREAM_CLASSIFIER_TEST_SEED") or secrets.randbelow(2**31))
ROUND = 20_000
PARTITIONS = 3
FIRST_SOURCE = "classifier-first-source"
MEMBERS = ["label", "score", "labels", "label_set", "model", "truncated"]


class Sent:
    """An input that was published, and what was seen of it so far."""

    __slots__ = ("came_in", "came_out", "input", "number", "timestamp")

    def __init__(self, number: int, made: Input, timestamp: int) -> None:
        self.number = number
        self.input = made
        self.timestamp = timestamp
        self.came_in = self.came_out = False


class Checker:
    """Publishes inputs, reads all three topics, and compares.

    Attributes:
        outcomes: How many ended as what: "labelled", or a reason code.
    """

    def __init__(self, stream: Stream) -> None:
        self._input, self._output, self._dead_letter = stream.input, stream.output, stream.dead_letter
        common = {"bootstrap.servers": stream.servers, "log_level": 0}
        self._producer = Producer(
            {
                **common,
                "linger.ms": 20,
                "partitioner": "murmur2_random",
                "message.max.bytes": 2_000_000,
                "batch.size": 900_000,  # the topic's limit is for a batch
                "queue.buffering.max.messages": ROUND * 2,
            }
        )
        self._consumer = Consumer(
            {
                **common,
                "group.id": "unused",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 65_536,
            }
        )
        self._places = [
            TopicPartition(topic, number, 0)
            for topic, count in ((self._input, PARTITIONS), (self._output, PARTITIONS), (self._dead_letter, 1))
            for number in range(count)
        ]
        self._consumer.assign(self._places)
        self._under_way: dict[tuple[int, int], Sent] = {}
        self._published = 0
        self._last: dict[tuple[str, int, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self.read_back = 0
        self.outcomes: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """How many were published and not yet seen both in the input and as an outcome."""
        return len(self._under_way)

    def publish(self, inputs: list[Input]) -> None:
        """Publish, and wait until all are in the topic."""
        for made in inputs:
            number = self._published
            self._published += 1

            def delivered(error: object, message: Message, number: int = number, made: Input = made) -> None:
                assert error is None, error
                place = message.partition() or 0, message.offset() or 0
                self._under_way[place] = Sent(number, made, message.timestamp()[1])

            self._producer.produce(
                self._input,
                made.value,
                made.key,
                on_delivery=delivered,
                timestamp=made.timestamp,
                headers=made.headers,
            )
        assert self._producer.flush(PATIENCE) == 0

    def read(self, wait: float) -> int:
        """Take in what has come; gives how much that was."""
        messages = self._consumer.consume(2000, wait)
        for message in messages:
            error = message.error()
            if error is not None:
                assert error.code() == ClientError._PARTITION_EOF, error
                self._ends[str(message.topic()), message.partition() or 0] = message.offset() or 0
            elif message.topic() == self._input:
                self._came_in(message)
            else:
                self._came_out(message)
        return len(messages)

    def is_at_the_end(self) -> bool:
        """Whether everything was read that the topics hold now."""
        for at in self._places:
            _, end = self._consumer.get_watermark_offsets(at, timeout=10)
            if self._ends.get((at.topic, at.partition), 0) < (end or 0):
                return False
        return True

    def close(self) -> None:
        self._consumer.close()

    def _fail(self, what: str, sent: Sent | None) -> NoReturn:
        which = "" if sent is None else f"input {sent.number} ({(sent.input.value or b'')[:2000]!r}): "
        pytest.fail(f"{which}{what}; STREAM_CLASSIFIER_TEST_SEED={SEED} STREAM_CLASSIFIER_TEST_INPUTS={COUNT}")

    def _came_in(self, message: Message) -> None:
        place = message.partition() or 0, message.offset() or 0
        sent = self._under_way.get(place)
        if sent is None or sent.came_in:
            self._fail(f"the input topic holds what was not published, at {place}", sent)
        if (message.key(), message.value()) != (sent.input.key, sent.input.value):
            self._fail("the input topic holds something else", sent)
        sent.came_in = True
        self.read_back += 1
        self._forget(place, sent)

    def _came_out(self, message: Message) -> None:
        headers: list[tuple[str, Any]] = message.headers() or []  # type: ignore[assignment]
        topic, partition, offset = _own(headers)["classifier-source"].decode().rsplit("/", 2)
        place = int(partition), int(offset)
        sent = self._under_way.get(place)
        if topic != self._input or sent is None or sent.came_out:
            self._fail(f"{topic}/{partition}/{offset} came out twice, or was never published", sent)
        sent.came_out = True
        lane = str(message.topic()), message.partition() or 0, place[0]
        if self._last.get(lane, -1) >= place[1]:
            self._fail("came out after a later one of its partition", sent)
        self._last[lane] = place[1]
        if message.topic() == self._output:
            outcome = self._check_labelled(message, headers, sent)
        else:
            outcome = self._check_dead_letter(message, headers, sent)
        self.outcomes[outcome] += 1
        if sent.input.must is not None and outcome != sent.input.must:
            self._fail(f"must end as {sent.input.must}, and ended as {outcome}", sent)
        self._forget(place, sent)

    def _forget(self, place: tuple[int, int], sent: Sent) -> None:
        if sent.came_in and sent.came_out:
            del self._under_way[place]

    def _check_labelled(self, message: Message, headers: list[tuple[str, Any]], sent: Sent) -> str:
        value, made = message.value() or b"", sent.input
        assert isinstance(value, bytes)
        if message.key() != made.key:
            self._fail("has another key", sent)
        if headers[:-3] != _theirs(made.headers):
            self._fail("has other headers", sent)
        if message.timestamp()[1] != sent.timestamp:
            self._fail("has another timestamp", sent)
        if made.value is None or without_the_last_member(value, made.value) is None:
            self._fail("is not the event's own bytes and one member more", sent)
        return "labelled"

    def _check_dead_letter(self, message: Message, headers: list[tuple[str, Any]], sent: Sent) -> str:
        own, made = _own(headers), sent.input
        if "classifier-value-sha256" in own:
            original = made.value or b""
            if (
                message.value() is not None
                or int(own["classifier-value-bytes"]) != len(original)
                or own["classifier-value-sha256"].decode() != hashlib.sha256(original).hexdigest()
                or len(original) < 1_000_000
            ):
                self._fail("lost its payload without need, or its size and hash are wrong", sent)
        else:
            if (message.key(), message.value()) != (made.key, made.value):
                self._fail("has other bytes as a dead letter", sent)
            theirs = _theirs(made.headers)
            if headers[: len(theirs)] != theirs:
                self._fail("has other headers as a dead letter", sent)
        return own["classifier-error-code"].decode()


def _theirs(headers: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in headers if not name.startswith("classifier-") or name == FIRST_SOURCE]


def _own(headers: list[tuple[str, Any]]) -> dict[str, bytes]:
    """This project's headers; the ones that an event brought along would stand before them."""
    names = [name for name, _ in headers if name.startswith("classifier-") and name != FIRST_SOURCE]
    assert len(names) == len(set(names)), names
    return {name: value for name, value in headers if name in names}


def without_the_last_member(labelled: bytes, original: bytes) -> bytes | None:
    """A labelled event without its classification: the original; None when that is not all that it has more."""
    end = original.rindex(b"}")  # an object's last brace: behind it is only white space
    prefix, suffix = original[:end], original[end:]
    if not (labelled.startswith(prefix) and labelled.endswith(suffix)):
        return None
    member = labelled[len(prefix) : len(labelled) - len(suffix)]
    begin = b',"classification":'
    if not member.startswith(begin) or list(json.loads(member[len(begin) :])) != MEMBERS:
        return None
    pairs = json.loads(labelled.decode(), object_pairs_hook=list)
    if [name for name, _ in pairs].count("classification") != 1 or pairs[-1][0] != "classification":
        return None
    return prefix + suffix


VALUE = b'{"text":"a"}\n'
LABELLED = b'{"text":"a","classification":' + json.dumps(dict.fromkeys(MEMBERS)).encode() + b"}\n"


def test_the_check_takes_the_events_own_bytes_and_one_member_more() -> None:
    assert without_the_last_member(LABELLED, VALUE) == VALUE


@pytest.mark.parametrize(
    "labelled",
    [
        VALUE,
        LABELLED.rstrip(),
        LABELLED.replace(b'"a"', b'"b"'),
        LABELLED.replace(b'"a"', b'"a" '),
        LABELLED.replace(b"classification", b"classificatioN"),
        LABELLED.replace(b'"truncated"', b'"cut"'),
        LABELLED.replace(b',"classification"', b',"more":1,"classification"'),
    ],
)
def test_the_check_takes_nothing_else(labelled: bytes) -> None:
    assert without_the_last_member(labelled, VALUE) is None


@pytest.mark.timeout(max(120, COUNT // 200))
def test_each_generated_input_ends_as_one_label_or_one_dead_letter_with_its_bytes_intact(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, delivery: str
) -> None:
    print(f"\n{COUNT:,} inputs, STREAM_CLASSIFIER_TEST_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    stream = Stream(
        bootstrap_servers,
        make_topic,
        tmp_path,
        tiny_bundle.build(tmp_path / "bundle"),
        partitions=PARTITIONS,
        delivery=delivery,
        settings={"dead_letter": {"stop_above": 1}},
        source={"retention.ms": "-1"},  # some are very old
        output={"max.message.bytes": "200000", "retention.ms": "-1"},
    )
    checker = Checker(stream)
    begin = time.monotonic()
    with stream.worker() as running:

        def read_until_at_most(under_way: int) -> None:
            deadline = time.monotonic() + PATIENCE
            while checker.under_way > under_way:
                running.check()
                if checker.read(0.1):
                    deadline = time.monotonic() + PATIENCE
                assert time.monotonic() < deadline, f"{checker.under_way} did not come out; seed {SEED}"

        for number, first in enumerate(range(0, COUNT, ROUND)):
            checker.publish(round_of_inputs(SEED, number, min(ROUND, COUNT - first)))
            read_until_at_most(ROUND)
        read_until_at_most(0)
    seconds = time.monotonic() - begin
    while not checker.is_at_the_end():
        checker.read(0.1)
    checker.close()
    dead_letters = {code: count for code, count in checker.outcomes.most_common() if code != "labelled"}
    print(  # noqa: T201 - see above
        f"{checker.read_back:,} in, {checker.outcomes['labelled']:,} labelled, {sum(dead_letters.values()):,} dead "
        f"letters, 0 lost, 0 twice; {COUNT / seconds:,.0f} inputs/s\n{dead_letters}"
    )
    assert checker.read_back == COUNT
    assert checker.outcomes.total() == COUNT
    assert set(dead_letters) >= {
        "tombstone",
        "not_utf8",
        "not_json",
        "not_an_object",
        "text_missing",
        "text_not_a_string",
        "text_blank",
        "text_too_large",
        "labels_invalid",
        "field_taken",
        "output_too_large",
        "inference_failed",
    }
    assert sum(stream.committed().values()) == COUNT


# The same without Kafka: what hypothesis thinks of --------------------------------------------------------------------

SETTINGS = Settings.model_validate(
    {
        "kafka": {"bootstrap_servers": "unused", "group_id": "unused"},
        "input": {"topics": ["in"]},
        "output": {"topic": "out"},
        "dead_letter": {"topic": "dead"},
        "labels": {"path": "unused"},
    }
)
DECODER = Decoder(SETTINGS.input, SETTINGS.output)
WRITER = Writer(SETTINGS, {"out": TopicLimits(3000), "dead": TopicLimits(4000)}, model="m", version="1")
RESULT = orjson.dumps(dict.fromkeys(MEMBERS))
NAMES = st.sampled_from(["text", "labels", "classification", "a", "é", "}"]) | st.text(max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
EVENTS = st.builds(
    lambda event, ascii_only, indent: json.dumps(event, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    ),
    st.dictionaries(NAMES, JSON, max_size=5) | st.fixed_dictionaries({"text": st.text(min_size=1)}) | JSON,
    st.booleans(),
    st.sampled_from([None, 0, 2]),
)
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=30)), max_size=4)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    value = bytearray(draw(EVENTS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        end = at + draw(st.integers(0, 8))
        value[at:end] = draw(st.binary(max_size=8) | st.just(bytes(value[at:end]) * 2))
    return bytes(value)


@given(
    value=st.binary(max_size=300) | EVENTS | mutated() | st.none(),
    key=st.none() | st.binary(max_size=20),
    headers=HEADERS,
    timestamp=st.none() | st.integers(0, 2**62),
)
@example(value=b'{"text":"%s"}' % (b"x" * 2900), key=b"k", headers=[], timestamp=1)
@example(value=b'{"text":"%s"}' % (b"x" * 9000), key=b"k", headers=[], timestamp=1)
@example(value=b'{"text":"a"}', key=b"k" * 5000, headers=[], timestamp=1)
def test_any_record_becomes_an_output_or_a_dead_letter_from_which_the_original_can_be_had(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int | None
) -> None:
    record = Record("in", 1, 7, key, value, list(headers), timestamp)
    answer = DECODER.decode(record)
    assert not isinstance(answer, PassThrough), "the settings have tombstones refused"
    written = WRITER.labelled(record, RESULT, "s@1", 1000) if isinstance(answer, Task) else answer
    if isinstance(written, Refusal):
        topic, its_key, its_value, its_headers, its_timestamp = WRITER.refused(record, written)
        names = [name for name, _ in its_headers]
        assert (topic, its_timestamp) == ("dead", 0)
        assert names.count("classifier-error-code") == names.count("classifier-source") == 1
        if "classifier-value-sha256" in names:
            assert (its_key, its_value) == (None, None)
            assert len(value or b"") + len(key or b"") > 3000
            assert dict(its_headers)["classifier-value-bytes"] == str(len(value or b"")).encode()
        else:
            assert (its_key, its_value) == (key, value)
            assert its_headers[: len(_theirs(list(headers)))] == _theirs(list(headers))
    else:
        topic, its_key, its_value, its_headers, its_timestamp = written
        assert (topic, its_key) == ("out", key)
        assert its_timestamp == (0 if timestamp is None else max(timestamp, 1))
        assert its_headers[:-3] == _theirs(list(headers))
        assert value is not None
        assert without_the_last_member(its_value or b"", value) == value
