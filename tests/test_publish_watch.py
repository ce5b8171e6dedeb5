"""`topics create`, `publish` and `watch` on a real broker: what goes in, byte for byte, and what is shown."""

from __future__ import annotations

import io
import itertools
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from worker_config import write_config

from stream_classifier.cli import run
from stream_classifier.samples import load_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker import MakeTopic, NameTopic

Topics = tuple[str, str, str]
Contents = list[tuple[bytes | None, bytes | None]]
PATIENCE = 30.0


@pytest.fixture
def topics(make_topic: MakeTopic) -> Topics:
    return make_topic("tickets"), make_topic("labelled"), make_topic("dead-letter")


@pytest.fixture
def config(tmp_path: Path, bootstrap_servers: str, topics: Topics) -> Path:
    return write_config(tmp_path, bootstrap_servers, topics)


@pytest.fixture
def contents(bootstrap_servers: str) -> Callable[[str], Contents]:
    """Reads the keys and values of a topic of one partition, by the plain client."""

    def read(topic: str) -> Contents:
        consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "unused"})
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE)
        consumer.assign([TopicPartition(topic, 0, 0)])
        records: Contents = []
        deadline = time.monotonic() + PATIENCE
        while len(records) < end and time.monotonic() < deadline:
            if (message := consumer.poll(0.1)) is not None:
                assert message.error() is None
                key, value = message.key(), message.value()
                assert not isinstance(key, str)
                assert not isinstance(value, str)
                records.append((key, value))
        consumer.close()
        return records

    return read


# topics create --------------------------------------------------------------------------------------------------------


@pytest.fixture
def new_topics(bootstrap_servers: str, name_topic: NameTopic) -> Iterator[Topics]:
    """Names of topics that a command makes, and that are gone after the test."""
    names = name_topic("tickets"), name_topic("labelled"), name_topic("dead-letter")
    yield names
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for deletion in admin.delete_topics(list(names)).values():
        deletion.result()


def topic_settings(servers: str, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": servers})
    found = admin.describe_configs([resource])[resource].result()
    return {name: str(entry.value) for name, entry in found.items()}


def test_topics_are_made_once(
    tmp_path: Path, bootstrap_servers: str, new_topics: Topics, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, bootstrap_servers, new_topics)
    create = ["topics", "create", "--config", str(config), "--partitions"]
    assert run([*create, "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: made, 3 partitions" for name in new_topics]
    assert run([*create, "5"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: exists, 3 partitions" for name in new_topics]
    _, output, dead_letter = (topic_settings(bootstrap_servers, name) for name in new_topics)
    assert output["max.message.bytes"] == dead_letter["max.message.bytes"] == str(1_048_588 + 65_536)
    assert dead_letter["retention.ms"] == str(30 * 24 * 3600 * 1000)
    assert output["retention.ms"] != dead_letter["retention.ms"]


def test_new_topics_follow_the_input_that_is_there(
    tmp_path: Path,
    bootstrap_servers: str,
    make_topic: MakeTopic,
    new_topics: Topics,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = make_topic("wide", partitions=4, config={"max.message.bytes": "2000000"})
    config = write_config(tmp_path, bootstrap_servers, new_topics, input={"topics": [source, new_topics[0]]})
    assert run(["topics", "create", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{source}: exists, 4 partitions",
        *(f"{name}: made, 4 partitions" for name in new_topics),
    ]
    assert topic_settings(bootstrap_servers, new_topics[2])["max.message.bytes"] == "2065536"


# publish --------------------------------------------------------------------------------------------------------------


def test_json_lines_are_published_byte_for_byte(
    config: Path, topics: Topics, contents: Callable[[str], Contents], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        '{"id": "t-1",  "text":"外卖送得太慢了", "amount": 1.10}'.encode(),
        b'{ "text": "second" , "id": 7 }  ',
        b'{"text": "no id"}',
        b'{"id": null, "text": "null id"}',
        b"{oops, the worker will say what is wrong",
        b"[1, 2]",
    ]
    file = config.with_name("tickets.jsonl")
    file.write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(lines[:2]) + b"\r\n" + b"\n".join(lines[2:]))
    assert run(["publish", str(file), "--config", str(config), "--key-field", "id"]) == 0
    assert capsys.readouterr().err == f"published 6 records to {topics[0]}\n"
    keys = [b"t-1", b"7", None, None, None, None]
    assert contents(topics[0]) == list(zip(keys, lines, strict=True))


def test_a_csv_row_becomes_an_object_of_its_columns(
    config: Path, topics: Topics, contents: Callable[[str], Contents]
) -> None:
    file = config.with_name("tickets.csv")
    file.write_text('id,text,price\n1,"late, and ""cold""",1.10\n\n2,"two\nlines",\n', encoding="utf-8")
    assert run(["publish", str(file), "--config", str(config), "--key-field", "id"]) == 0
    assert contents(topics[0]) == [
        (b"1", b'{"id":"1","text":"late, and \\"cold\\"","price":"1.10"}'),
        (b"2", b'{"id":"2","text":"two\\nlines","price":""}'),
    ]


def test_plain_lines_become_events_with_the_text_where_the_worker_looks_for_it(
    tmp_path: Path, bootstrap_servers: str, topics: Topics, contents: Callable[[str], Contents]
) -> None:
    config = write_config(tmp_path, bootstrap_servers, topics, input={"text_field": "message.body"})
    (tmp_path / "lines.txt").write_text('{a brace and "quotes"\n\n我要退款\n', encoding="utf-8")
    assert run(["publish", str(tmp_path / "lines.txt"), "--config", str(config)]) == 0
    (tmp_path / "rows.csv").write_text("message.body,id\nhello,1\n")
    assert run(["publish", str(tmp_path / "rows.csv"), "--config", str(config)]) == 0
    assert [value for _, value in contents(topics[0])] == [
        b'{"message":{"body":"{a brace and \\"quotes\\""}}',
        '{"message":{"body":"我要退款"}}'.encode(),
        b'{"id":"1","message":{"body":"hello"}}',
    ]


def test_plain_lines_stay_as_they_are_when_the_whole_value_is_the_text(
    tmp_path: Path, bootstrap_servers: str, topics: Topics, contents: Callable[[str], Contents]
) -> None:
    config = write_config(tmp_path, bootstrap_servers, topics, input={"format": "text"})
    (tmp_path / "lines.txt").write_bytes(b"where is my parcel\n\xff is not UTF-8, which the worker will say\n")
    assert run(["publish", str(tmp_path / "lines.txt"), "--config", str(config)]) == 0
    assert [value for _, value in contents(topics[0])] == [
        b"where is my parcel",
        b"\xff is not UTF-8, which the worker will say",
    ]


@pytest.mark.parametrize(
    ("piped", "published"),
    [
        (b'\n{"text":"a"}\nb\n', [b'{"text":"a"}', b"b"]),
        (b'a\n{"text":"b"}', [b'{"text":"a"}', b'{"text":"{\\"text\\":\\"b\\"}"}']),
        (b"", []),
    ],
    ids=["JSON lines", "plain lines", "nothing"],
)
def test_the_first_line_of_a_pipe_says_what_it_holds(
    piped: bytes,
    published: list[bytes],
    config: Path,
    topics: Topics,
    contents: Callable[[str], Contents],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(piped))))
    assert run(["publish", "-", "--config", str(config)]) == 0
    assert [value for _, value in contents(topics[0])] == published


@pytest.mark.parametrize(
    ("name", "content", "arguments", "code", "message"),
    [
        ("t.csv", b"id,txt\n1,a\n", [], 1, "line 1: none of the 2 columns is called 'text', as input.text_field says"),
        ("t.csv", b"text\na\n", ["--key-field", "id"], 1, "line 1: none of the 1 columns is called 'id', as --key-"),
        ("t.csv", b"text,text\na,b\n", [], 1, "line 1: two columns have the same name"),
        ("t.csv", b'text\n"a\n', [], 1, "is not CSV (unexpected end of data)"),
        ("t.txt", b"a\n", ["--key-field", "id"], 2, "--key-field: plain lines have no fields"),
        ("t.txt", b"\xff\n", [], 1, "line 1: is not UTF-8 at byte 1; convert it to UTF-8 first"),
        ("t.txt", b"a\n", ["--topic", "other"], 2, "--topic: other is not one of input.topics ("),
        ("t.jsonl", b'{"text":"%s"}' % (b"x" * 2_000_000), [], 1, "larger than the topic's max.message.bytes"),
        ("t.jsonl", b"x" * 10_000_001, [], 1, "line 1: is longer than 10,000,000 bytes"),
    ],
)
def test_what_cannot_be_published_is_one_line(
    name: str,
    content: bytes,
    arguments: list[str],
    code: int,
    message: str,
    config: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config.with_name(name).write_bytes(content)
    assert run(["publish", str(config.with_name(name)), "--config", str(config), *arguments]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_what_was_published_before_an_error_is_told(
    config: Path, topics: Topics, contents: Callable[[str], Contents], capsys: pytest.CaptureFixture[str]
) -> None:
    file = config.with_name("tickets.csv")
    file.write_bytes(b"id,text\n1,a\n2,b\n3\n4,d\n")
    assert run(["publish", str(file), "--config", str(config)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"published 2 records to {topics[0]}",
        f"stream-classifier: {file}, line 4: has 1 columns, the header has 2",
    ]
    assert len(contents(topics[0])) == 2


def test_a_file_or_a_topic_that_is_missing_is_one_line(
    tmp_path: Path, bootstrap_servers: str, name_topic: NameTopic, capsys: pytest.CaptureFixture[str]
) -> None:
    names = name_topic(), name_topic(), name_topic()
    config = write_config(tmp_path, bootstrap_servers, names)
    assert run(["publish", str(tmp_path / "nowhere.jsonl"), "--config", str(config)]) == 2
    assert capsys.readouterr().err == (
        f"stream-classifier: {tmp_path / 'nowhere.jsonl'}: cannot be read (No such file or directory)\n"
    )
    advice = "`stream-classifier topics create --config FILE` makes it"
    assert run(["publish", str(config), "--config", str(config)]) == 1
    assert capsys.readouterr().err == f"stream-classifier: no such topic: {names[0]}; {advice}\n"
    assert run(["watch", "--config", str(config)]) == 1
    assert capsys.readouterr().err == f"stream-classifier: no such topic: {names[1]}; {advice}\n"
    # Asking has not made them: `describe` does not even in a cluster that makes topics by itself.
    assert not set(names) & set(AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(timeout=10).topics)


def test_the_samples_are_published_again_and_again_no_faster_than_asked_for(
    config: Path, topics: Topics, contents: Callable[[str], Contents]
) -> None:
    samples: Contents = [(sample.id.encode(), sample.value) for sample in load_samples()]
    wanted, rate = len(samples) + 20, 500
    begin = time.monotonic()
    arguments = ["publish", "--samples", "--rate", str(rate), "--config", str(config)]
    with subprocess.Popen([sys.executable, "-m", "stream_classifier", *arguments], stderr=subprocess.PIPE) as running:
        while len(published := contents(topics[0])) < wanted:
            assert time.monotonic() < begin + PATIENCE
            assert running.poll() is None
        took = time.monotonic() - begin
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=PATIENCE)
    assert published == list(itertools.islice(itertools.cycle(samples), len(published)))
    assert (len(published) - 1) / took <= rate
    assert running.returncode == 130
    assert told.decode().splitlines()[0] == f"published {len(contents(topics[0]))} records to {topics[0]}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "publish takes FILE, or - for a pipe, or --samples: one of them"),
        (["t.jsonl", "--samples"], "publish takes FILE, or - for a pipe, or --samples: one of them"),
        (["--samples", "--key-field", "id"], "--key-field: the sample tickets have their keys already"),
    ],
)
def test_what_is_to_be_published_is_one_thing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", *arguments, "--config", "not-read.yaml"]) == 2
    assert capsys.readouterr().err == f"stream-classifier: {message}\n"


# watch ----------------------------------------------------------------------------------------------------------------


def labelled(text: str, label: str | None, score: float) -> bytes:
    return orjson.dumps({"id": 1, "text": text, "classification": {"label": label, "score": score, "labels": []}})


def produce(servers: str, topic: str, *values: bytes | None, headers: dict[str, bytes] | None = None) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    for value in values:
        producer.produce(topic, value, headers=list((headers or {}).items()))
    assert producer.flush(PATIENCE) == 0


def test_labelled_events_are_shown_as_lines_for_people(
    config: Path, topics: Topics, bootstrap_servers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(
        bootstrap_servers,
        topics[1],
        labelled("外卖送得太慢了", "delivery", 0.834),
        labelled("a bell \x07, \x1b[31m colours\nand lines", "退款\x1b[0m", 0.5),
        labelled("x" * 200, None, 0.1),
        labelled("好" * 60, None, 0.1),
        b'{"text":"not labelled"}',
        None,
    )
    assert run(["watch", "--config", str(config), "--from-beginning", "--count", "6"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "0.83 delivery                 外卖送得太慢了",
        "0.50 退款 [0m                 a bell  ,  [31m colours and lines",
        f"0.10 -                        {'x' * 71}…",
        f"0.10 -                        {'好' * 35} …",
        f"{topics[1]}/0/4: not a labelled event",
        f"{topics[1]}/0/5: not a labelled event",
    ]
    assert shown.err == f"watching {topics[1]}; Ctrl-C stops\n"


def test_json_shows_the_events_bytes_a_line_each(
    config: Path, topics: Topics, bootstrap_servers: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    events = [b'{"a": 1.10 ,"text":"x"}', b'{"a":1,\r\n  "text":"y"\n}', None]
    produce(bootstrap_servers, topics[1], *events)
    assert run(["watch", "--config", str(config), "--json", "--from-beginning", "-n", "3"]) == 0
    assert capsysbinary.readouterr().out.split(b"\n") == [
        b'{"a": 1.10 ,"text":"x"}',
        b'{"a":1,    "text":"y" }',
        b"null",
        b"",
    ]


def test_dead_letters_are_shown_without_their_payload(
    config: Path, topics: Topics, bootstrap_servers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {
        "classifier-error-code": b"not_json",
        "classifier-error-message": b"the value is not JSON\x1b[31m at line 1",
        "classifier-source": b"tickets/0/7",
        "theirs": b"private",
    }
    produce(bootstrap_servers, topics[2], b"private", headers=headers)
    watch = ["watch", "--config", str(config), "--dead-letters", "--from-beginning", "--count", "1"]
    assert run(watch) == 0
    plain = capsys.readouterr().out
    assert plain == "not_json             tickets/0/7 the value is not JSON [31m at line 1\n"
    assert run([*watch, "--json"]) == 0
    line = capsys.readouterr().out
    assert orjson.loads(line) == {"offset": 0, "partition": 0} | {
        name: value.decode() for name, value in headers.items() if name != "theirs"
    }
    assert line.count("\n") == 1


def test_watch_begins_with_the_next_event_and_ends_on_ctrl_c(
    config: Path, topics: Topics, bootstrap_servers: str
) -> None:
    produce(bootstrap_servers, topics[1], b'{"before":1}')
    arguments = ["watch", "--config", str(config), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "stream_classifier", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout
        assert watching.stderr
        assert watching.stderr.readline() == f"watching {topics[1]}; Ctrl-C stops\n".encode()
        produce(bootstrap_servers, topics[1], b'{"after":1}')
        assert watching.stdout.readline() == b'{"after":1}\n'
        watching.send_signal(signal.SIGINT)
        assert watching.communicate(timeout=PATIENCE) == (b"", b"")
    assert watching.returncode == 0


def test_watch_ends_quietly_when_its_reader_has_enough(config: Path, topics: Topics, bootstrap_servers: str) -> None:
    produce(bootstrap_servers, topics[1], b'{"a":1}', b'{"a":2}')
    arguments = ["watch", "--config", str(config), "--json", "--from-beginning"]
    with subprocess.Popen(
        [sys.executable, "-m", "stream_classifier", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout
        assert watching.stdout.readline() == b'{"a":1}\n'
        watching.stdout.close()  # like `| head -1`
        produce(bootstrap_servers, topics[1], b'{"a":3}')
        assert watching.wait(PATIENCE) == 0
        assert watching.stderr
        assert watching.stderr.read() == f"watching {topics[1]}; Ctrl-C stops\n".encode()
