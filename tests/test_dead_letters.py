"""`dead-letters list|show|redrive` on a real broker: what is chosen, what is shown, and nothing goes back twice."""

from __future__ import annotations

import base64
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka import KafkaError as ClientError
from stream import PATIENCE, Stream, header

from stream_classifier.cli import run
from stream_classifier.errors import KafkaError
from stream_classifier.events.dead_letter import dead_letter, without_payload
from stream_classifier.events.letter import Returning, is_note, notes
from stream_classifier.events.outgoing import TopicLimits
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.kafka.messages import to_record
from stream_classifier.kafka.reader import contents
from stream_classifier.kafka.redrive import Redriver
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker import MakeTopic

    from stream_classifier.events.refusal import Code

HOUR_MS = 3_600_000
YESTERDAY = int(time.time() * 1000) - 24 * HOUR_MS


@pytest.fixture
def make_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path) -> Callable[..., Stream]:
    bundle = tiny_bundle.build(tmp_path / "bundle")

    def make(**named: Any) -> Stream:
        return Stream(bootstrap_servers, make_topic, tmp_path, bundle, **named)

    return make


@pytest.fixture
def stream(make_stream: Callable[..., Stream]) -> Stream:
    return make_stream()


class Letters:
    """Dead letters written straight into the topic, by the worker's own code."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._producer = Producer({"bootstrap.servers": stream.servers, "linger.ms": 20, "log_level": 0})
        self._offset = 0

    def add(
        self,
        code: Code = "not_json",
        value: bytes | None = b"{oops",
        *,
        topic: str | None = None,
        label_set: str | None = None,
        payload: bool = True,
        timestamp: int = 0,
        headers: Any = None,
        source_timestamp: int | None = None,
    ) -> None:
        its_time = YESTERDAY + self._offset if source_timestamp is None else source_timestamp
        event = Record(topic or self._stream.input, 0, self._offset, b"key", value, headers, its_time)
        self._offset += 1
        write = dead_letter if payload else without_payload
        key, value, written = write(event, Refusal(code, "why it was refused", label_set), "1.0")
        self._producer.produce(self._stream.dead_letter, value, key, headers=written, timestamp=timestamp)

    def fill(self, count: int) -> None:
        for number in range(count):
            self.add(value=b'{"number":%d' % number)
            if number % 10_000 == 0:
                self._producer.poll(0)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(PATIENCE) == 0


@pytest.fixture
def letters(stream: Stream) -> Letters:
    return Letters(stream)


def command(stream: Stream, *arguments: str) -> int:
    status = run(["dead-letters", arguments[0], "--config", str(stream.config), *arguments[1:]])
    if arguments[0] == "redrive" and "--dry-run" not in arguments:
        for topic in (stream.input, stream.dead_letter):
            committed_records(stream, topic)  # until all of it can be read
    return status


def reasons(stream: Stream, capsys: pytest.CaptureFixture[str], *filters: str) -> dict[str, int]:
    """What `list --json` says there is of each reason."""
    assert command(stream, "list", "--json", *filters) == 0
    found = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {group["reason"]: group["count"] for group in found}


def plain_consumer(servers: str, isolation: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "unused",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "log_level": 0,
        }
    )


def uncommitted_ends(servers: str, topic: str) -> dict[int, int]:
    """The offset after the last record of each partition, whether or not it is committed."""
    consumer = plain_consumer(servers, "read_uncommitted")
    ends = {}
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        ends[number] = int(end)
    consumer.close()
    return ends


def committed_records(stream: Stream, topic: str) -> list[Record]:
    """What a topic of few partitions holds for those who read what is committed, by the plain client."""
    left = uncommitted_ends(stream.servers, topic)
    consumer = plain_consumer(stream.servers, "read_committed")
    consumer.assign([TopicPartition(topic, number, 0) for number in left])
    records = []
    deadline = time.monotonic() + PATIENCE
    while left:
        assert time.monotonic() < deadline
        for message in consumer.consume(1000, 0.05):
            number = message.partition()
            if (error := message.error()) is None:
                records.append(to_record(message))
            else:
                assert error.code() == ClientError._PARTITION_EOF
                # A transaction counts from a moment after its end was told to who wrote it.
                if (message.offset() or 0) >= left.get(number or 0, 0):
                    left.pop(number or 0, None)
    consumer.close()
    return records


def went_back(stream: Stream) -> list[Record]:
    return committed_records(stream, stream.input)


def numbers(records: list[Record]) -> Counter[int]:
    return Counter(int((record.value or b"").removeprefix(b'{"number":')) for record in records)


def of_process(stream: Stream, *arguments: str) -> list[str]:
    config = ["--config", str(stream.config)]
    return [sys.executable, "-m", "stream_classifier", "dead-letters", arguments[0], *config, *arguments[1:]]


# list -----------------------------------------------------------------------------------------------------------------


def test_list_groups_by_reason(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    stream.publish(b"{oops", b'{"id":1}', b"{oops", b'{"text":"where is my parcel"}')
    stream.run(4)
    capsys.readouterr()
    assert command(stream, "list") == 0
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[0] == ["reason", "count", "redriven", "first", "last", "example", "source"]
    assert [row[:3] for row in rows[1:]] == [["not_json", "2", "0"], ["text_missing", "1", "0"]]
    assert [row[5:] for row in rows[1:]] == [["0/2", f"{stream.input}/0/2"], ["0/1", f"{stream.input}/0/1"]]
    assert command(stream, "list", "--json") == 0
    first = orjson.loads(capsys.readouterr().out.splitlines()[0])
    assert first.pop("first") <= first.pop("last")
    assert first == {
        "reason": "not_json",
        "count": 2,
        "redriven": 0,
        "example": "0/2",
        "source": f"{stream.input}/0/2",
    }


def test_every_filter_of_list_and_redrive(stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    now = int(time.time() * 1000)
    letters.add("not_json", timestamp=now - 30 * HOUR_MS)
    letters.add("tombstone", None, timestamp=now - 3 * HOUR_MS)
    letters.add("text_blank", topic="another.topic", timestamp=now - 3 * HOUR_MS)
    letters.add("output_too_large", label_set="support@3")
    letters.add("timestamp_refused", label_set="adhoc")
    letters.flush()
    a_day_ago = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(now / 1000 - 86_400))
    old, middle, new = {"not_json"}, {"tombstone", "text_blank"}, {"output_too_large", "timestamp_refused"}
    for filters, expected in (
        ([], old | middle | new),
        (["--reason", "not_json"], {"not_json"}),
        (["--reason", "not_json", "--reason", "tombstone"], {"not_json", "tombstone"}),
        (["--source-topic", "another.topic"], {"text_blank"}),
        (["--source-topic", stream.input], old | new | {"tombstone"}),
        (["--label-set", "support"], {"output_too_large"}),
        (["--label-set", "support@3"], {"output_too_large"}),
        (["--label-set", "support@4"], set()),
        (["--label-set", "adhoc"], {"timestamp_refused"}),
        (["--since", "2h"], new),
        (["--since", "1d"], middle | new),
        (["--until", "120m"], old | middle),
        (["--since", a_day_ago], middle | new),
        (["--until", a_day_ago], old),
        (["--since", a_day_ago, "--until", "2h", "--source-topic", stream.input], {"tombstone"}),
    ):
        assert set(reasons(stream, capsys, *filters)) == expected, filters
        assert command(stream, "redrive", "--dry-run", *filters) == (1 if "text_blank" in expected else 0)
        line = next((line for line in capsys.readouterr().out.splitlines() if line.startswith("to ")), "()")
        told = {part.split()[0] for part in line.partition("(")[2].rstrip(")").split(", ") if part}
        assert told == expected - {"text_blank"}, filters


def test_an_empty_topic_is_said_to_be_empty(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(stream, "list") == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{stream.dead_letter} holds no such dead letters\n")
    assert command(stream, "list", "--json") == 0
    assert capsys.readouterr().out == ""
    assert command(stream, "redrive") == 0
    assert capsys.readouterr().out == "nothing to redrive\n"
    assert stream.ends(stream.dead_letter) == {0: 0}
    assert stream.ends(stream.input) == {0: 0}


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none_is_one_line(option: str, stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(stream, "list", option, "yesterday") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stream-classifier: {option}: 'yesterday' is neither an ISO 8601 time such as ")
    assert error.count("\n") == 1


def test_what_was_labelled_before_it_was_refused_names_its_label_set(make_stream: Callable[..., Stream]) -> None:
    stream = make_stream(output={"max.message.bytes": "3000"})
    large = b'"text":"parcel","more":"%s"}' % (b"x" * 3000)
    stream.publish(b"{" + large, b'{"labels":["a","b"],' + large, b"{oops")
    stream.run(3)
    known = [
        [value for name, value in record.headers or [] if name == "classifier-label-set"]
        for record in committed_records(stream, stream.dead_letter)
    ]
    assert known == [[b"support@3"], [b"adhoc"], []]


# show -----------------------------------------------------------------------------------------------------------------

NASTY = b"\x1b]0;gone\x07 \xff \xe2\x80\xae" + "私".encode()


def test_show_hides_what_is_the_users_unless_it_is_asked_for(
    stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]
) -> None:
    letters.add(value=b"private text " + NASTY, headers=[("tenant", b"private tenant" + NASTY)])
    letters.flush()
    for arguments in ([], ["--json"]):
        assert command(stream, "show", "0/0", *arguments) == 0
        shown = capsys.readouterr().out
        assert "private" not in shown
        assert f"{stream.input}/0/0" in shown
        assert "not_json" in shown
        assert "why it was refused" in shown
    assert command(stream, "show", "0/0", "--payload") == 0
    shown = capsys.readouterr().out
    assert r"value: private text \x1b]0;gone\x07 \xff \u202e私" in shown
    assert r"header tenant: private tenant\x1b]0;" in shown
    assert "key: key\n" in shown
    assert "redriven: no\n" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_show_gives_the_bytes_to_programs(
    stream: Stream, letters: Letters, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    letters.add(value=NASTY, headers=[("tenant", NASTY)])
    letters.flush()
    assert command(stream, "show", "0/0", "--payload", "--json") == 0
    line = capsysbinary.readouterr().out
    assert line.isascii()
    whole = orjson.loads(line)
    assert base64.b64decode(whole["value_base64"]) == NASTY
    assert base64.b64decode(dict(whole["headers"])["tenant"]) == NASTY
    assert base64.b64decode(whole["key_base64"]) == b"key"
    assert whole["classifier-error-code"] == "not_json"
    assert command(stream, "show", "0/0", "--raw") == 0
    assert capsysbinary.readouterr().out == NASTY


def test_raw_bytes_do_not_reach_a_terminal(stream: Stream, letters: Letters) -> None:
    letters.add(value=NASTY)
    letters.flush()
    shown, status = on_a_terminal(of_process(stream, "show", "0/0", "--raw"))
    assert status == 2
    assert shown.startswith("stream-classifier: --raw: the value could make a terminal do things")


@pytest.mark.parametrize("place", ["0", "0/x", "0/-1", "/", "0/1/2", "../0", ""])
def test_a_place_that_is_none_is_one_line(place: str, stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("show", "redrive"):
        assert run(["dead-letters", name, "--config", str(stream.config), place]) == 2
        error = capsys.readouterr().err
        assert error == (
            f"stream-classifier: {place!r} is not a place: PARTITION/OFFSET in the dead-letter topic, such as 0/17\n"
        )


@pytest.mark.parametrize("place", ["0/1", "1/0", "7/99999"])
def test_a_place_without_a_dead_letter_is_one_line_and_changes_nothing(
    place: str, stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]
) -> None:
    letters.add()
    letters.flush()
    for arguments in (["show", place], ["redrive", "0/0", place]):
        assert command(stream, *arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"stream-classifier: {stream.dead_letter} has no dead letter at {place}; ")
        assert error.count("\n") == 1
    assert stream.ends(stream.input) == {0: 0}
    assert stream.ends(stream.dead_letter) == {0: 1}


# redrive --------------------------------------------------------------------------------------------------------------


def change(stream: Stream, **sections: dict[str, Any]) -> None:
    """The same stream, with other settings from now on."""
    document = yaml.safe_load(stream.config.read_text())
    for name, keys in sections.items():
        document[name] = document.get(name, {}) | keys
    stream.config.write_text(yaml.safe_dump(document))
    stream.settings = load_settings(stream.config, {})


def test_a_redriven_event_is_labelled_once_the_cause_is_gone_and_keeps_its_first_source_over_two_rounds(
    make_stream: Callable[..., Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    stream = make_stream(partitions=3, settings={"input": {"text_field": "body"}})
    headers: Any = [("tenant", b"7"), ("empty", b""), ("null", None), ("tenant", b"8")]
    value = b'{"id": 1.0,  "text":"where is my parcel"}'
    stream.publish(value, key=b"its key", headers=headers, timestamp=YESTERDAY, partition=2)
    stream.run(1)
    for _ in range(2):  # the cause is still there: it comes back each time
        assert command(stream, "redrive") == 0
        stream.run(len(committed_records(stream, stream.dead_letter)) + 1)
    assert "redriven: 1\n" in capsys.readouterr().out
    assert [header(record, "classifier-source") for record in without_notes(stream)] == [
        f"{stream.input}/2/{offset}".encode() for offset in source_offsets(stream)
    ]
    change(stream, input={"text_field": "text"})
    assert command(stream, "redrive") == 0
    stream.run(len(committed_records(stream, stream.dead_letter)) + 1)
    (labelled,) = committed_records(stream, stream.output)
    assert orjson.loads(labelled.value or b"")["classification"]["label"] == "delivery"
    assert (labelled.value or b"").startswith(value[:-1])
    assert (labelled.key, labelled.timestamp) == (b"its key", YESTERDAY)
    assert (labelled.headers or [])[:4] == headers
    assert header(labelled, "classifier-first-source") == f"{stream.input}/2/0".encode()
    assert header(labelled, "classifier-source") == f"{stream.input}/2/{source_offsets(stream)[-1]}".encode()
    assert len(without_notes(stream)) == 3
    assert {record.partition for record in went_back(stream)} == {2}


def without_notes(stream: Stream) -> list[Record]:
    return [record for record in committed_records(stream, stream.dead_letter) if not is_note(record)]


def source_offsets(stream: Stream) -> list[int]:
    return [record.offset for record in went_back(stream)]


def test_dry_run_changes_nothing(stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    letters.add()
    letters.add("text_blank")
    letters.flush()
    topics = (stream.input, stream.output, stream.dead_letter)
    before = [stream.ends(topic) for topic in topics]
    assert command(stream, "redrive", "--dry-run") == 0
    assert capsys.readouterr().out == f"to {stream.input}: 2 (not_json 1, text_blank 1)\n"
    assert [stream.ends(topic) for topic in topics] == before == [{0: 0}, {0: 0}, {0: 2}]


def test_run_twice_each_goes_back_once(stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    letters.fill(1200)
    assert command(stream, "redrive", "0/3", "0/700") == 0
    assert command(stream, "redrive") == 0
    assert command(stream, "redrive") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("to ")] == [
        "redriven: 2",
        "2 dead letters redriven before: they stay; --again takes them once more",
        "redriven: 1198",
        "nothing to redrive",
        "1200 dead letters redriven before: they stay; --again takes them once more",
    ]
    assert numbers(went_back(stream)) == dict.fromkeys(range(1200), 1)
    assert reasons(stream, capsys) == {"not_json": 1200}
    assert command(stream, "list", "--json") == 0
    assert orjson.loads(capsys.readouterr().out)["redriven"] == 1200
    assert command(stream, "show", "0/3") == 0
    assert "redriven: yes\n" in capsys.readouterr().out
    assert command(stream, "redrive", "--again", "0/3") == 0
    assert numbers(went_back(stream))[3] == 2


def test_records_keep_key_time_and_the_order_of_their_partition(stream: Stream, letters: Letters) -> None:
    letters.fill(700)
    assert command(stream, "redrive", "--yes") == 0
    back = went_back(stream)
    assert [record.timestamp for record in back] == [YESTERDAY + number for number in range(700)]
    assert {record.key for record in back} == {b"key"}
    assert list(numbers(back)) == list(range(700))


def test_killed_at_random_moments_and_run_again_nothing_goes_back_twice_and_nothing_is_missing(
    stream: Stream, letters: Letters
) -> None:
    total = 12_000
    letters.fill(total)
    arguments = of_process(stream, "redrive", "--yes")
    onlooker = plain_consumer(stream.servers, "read_uncommitted")

    def written() -> int:
        """How many records there are of any transaction, and of the ends of transactions."""
        _, end = onlooker.get_watermark_offsets(TopicPartition(stream.input, 0), timeout=10)
        return int(end)

    ends = []
    for number in range(3):
        begun = written()
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + PATIENCE
            while written() <= begun + 300 * number and process.poll() is None:
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT if number == 1 else signal.SIGKILL)  # one of them by Ctrl-C
            ends.append(process.wait())
    assert written() < total, "it was never killed in the middle"
    onlooker.close()
    assert ends == [-signal.SIGKILL, 130, -signal.SIGKILL], "it ended before it could be killed"
    assert command(stream, "redrive", "--yes") == 0
    assert numbers(went_back(stream)) == dict.fromkeys(range(total), 1)


@pytest.mark.parametrize("commits", [1, 2])
def test_killed_right_before_a_commit_it_is_not_seen_and_is_done_again(
    commits: int, stream: Stream, letters: Letters
) -> None:
    """What the killed transaction wrote is in the topics, and no reader of committed records sees it."""
    letters.fill(700)
    script = f"""
import os, signal, sys
from stream_classifier.cli import run
from stream_classifier.kafka.redrive import Redriver
commits = 0
usual = Redriver._call
def call(self, function, *arguments):
    global commits
    commits += function.__name__ == "commit_transaction"
    if commits == {commits}:
        assert self._producer.flush(30) == 0
        os.kill(os.getpid(), signal.SIGKILL)
    usual(self, function, *arguments)
Redriver._call = call
run(sys.argv[1:])
"""
    arguments = ["dead-letters", "redrive", "--config", str(stream.config)]
    killed = subprocess.run(
        [sys.executable, "-c", script, *arguments], timeout=PATIENCE, check=False, stdout=subprocess.DEVNULL
    )
    assert killed.returncode == -signal.SIGKILL
    written = uncommitted_ends(stream.servers, stream.input)[0], uncommitted_ends(stream.servers, stream.dead_letter)[0]
    # With the end of the first transaction, where there was one.
    assert written == ((500, 701) if commits == 1 else (701, 703))
    assert command(stream, "redrive", "--yes") == 0
    assert numbers(went_back(stream)) == dict.fromkeys(range(700), 1)


def test_a_second_redrive_shuts_out_the_first_one(stream: Stream, letters: Letters) -> None:
    letters.fill(2)
    limits = [TopicLimits()]
    first = Redriver(stream.settings.kafka, stream.dead_letter, limits)
    event = Returning(stream.input, 0, None, b'{"number":0', [], 0)
    first.publish([event, *notes(stream.dead_letter, [(0, 0)])])
    assert command(stream, "redrive", "--yes") == 0
    with pytest.raises(KafkaError, match=r"another redrive of .* has begun, and this one is shut out"):
        first.publish([event, *notes(stream.dead_letter, [(0, 0)])])
    assert numbers(went_back(stream)) == {0: 1, 1: 1}


def test_what_another_redrive_took_after_it_was_read_is_left_alone(
    stream: Stream, letters: Letters, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the question and the answer, another one redrives: no event goes back twice."""
    letters.fill(5)

    def ask(*_: object, **__: object) -> bool:
        done = subprocess.run(of_process(stream, "redrive", "0/1", "0/2"), timeout=PATIENCE, check=False)
        return done.returncode == 0

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", ask)
    assert command(stream, "redrive") == 0
    shown = capsys.readouterr()
    assert "redriven: 3\n" in shown.out
    assert "2 were redriven by somebody else meanwhile" in shown.err
    assert numbers(went_back(stream)) == dict.fromkeys(range(5), 1)


def test_an_open_transaction_in_front_of_a_note_does_not_hide_it(stream: Stream, letters: Letters) -> None:
    """Reading waits until whoever writes to the topic in a transaction has ended it, and sees what stands behind."""
    letters.fill(1)
    writer = Producer({"bootstrap.servers": stream.servers, "transactional.id": stream.group})
    writer.init_transactions(PATIENCE)
    writer.begin_transaction()
    writer.produce(stream.dead_letter, b"never committed")
    writer.flush(PATIENCE)
    for note in notes(stream.dead_letter, [(0, 0)]):
        letters._producer.produce(stream.dead_letter, headers=note.headers)
    letters.flush()
    got: list[Record] = []

    def read() -> None:
        got.extend(contents(stream.settings.kafka, stream.dead_letter, wait_for_transactions=True))

    assert len(list(contents(stream.settings.kafka, stream.dead_letter))) == 1, "it did wait"
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(1.5)
    assert reading.is_alive(), "it did not wait"
    writer.abort_transaction(PATIENCE)
    reading.join(PATIENCE)
    assert not reading.is_alive()
    assert [is_note(record) for record in got] == [False, True]


def test_what_cannot_go_back_is_said_with_where_the_originals_are_and_the_rest_goes(
    stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]
) -> None:
    letters.add(value=b'{"number":0')
    letters.add("text_too_large", payload=False)
    letters.add(topic="another.topic")
    letters.add("header_unreadable", value=b'{"number":3')
    letters._producer.produce(stream.dead_letter, b"somebody else's")
    letters.flush()
    for _ in range(2):
        assert command(stream, "redrive") == 1
        shown = capsys.readouterr().out
        assert (
            "1 dead letter without payload cannot go back from here; the originals are at "
            f"{stream.input}/0/1, for as long as their topic keeps them\n"
        ) in shown
        assert f"2 dead letters did not come from one of input.topics ({stream.input}) and stay: 0/2, 0/4\n" in shown
    assert sorted(numbers(went_back(stream))) == [0, 3]


def test_an_event_that_its_topic_would_refuse_now_fails_no_other(
    make_stream: Callable[..., Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    stream = make_stream(source={"max.message.bytes": "2000", "message.timestamp.before.max.ms": str(HOUR_MS)})
    letters = Letters(stream)
    letters.add(value=b"x" * 3000)
    letters.flush()
    assert command(stream, "redrive") == 1
    assert "1 dead letter stay, since" in capsys.readouterr().out
    assert went_back(stream) == []


def test_an_event_that_its_topic_would_delete_at_once_for_its_age_stays_unless_it_gets_the_current_time(
    make_stream: Callable[..., Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    stream = make_stream(source={"retention.ms": str(48 * HOUR_MS)})
    letters = Letters(stream)
    letters.add(value=b'{"number":0')
    letters.add(value=b'{"number":1', source_timestamp=YESTERDAY - 48 * HOUR_MS)
    letters.flush()
    assert command(stream, "redrive") == 1
    assert "1 dead letter stay, since their topic would delete events of that age" in capsys.readouterr().out
    assert command(stream, "redrive", "--current-time") == 0
    first, second = went_back(stream)
    assert (first.value, first.timestamp) == (b'{"number":0', YESTERDAY)
    assert second.value == b'{"number":1'
    assert abs((second.timestamp or 0) - time.time() * 1000) < HOUR_MS


def test_watch_does_not_show_notes(stream: Stream, letters: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    letters.add()
    letters.flush()
    assert command(stream, "redrive") == 0
    letters.add("tombstone", None)
    letters.flush()
    assert committed_records(stream, stream.dead_letter)[1].headers == [("classifier-redriven", b"0")]
    capsys.readouterr()
    watch = ["watch", "--config", str(stream.config), "--dead-letters", "--from-beginning", "--count", "2"]
    assert run(watch) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["not_json", "tombstone"]


def on_a_terminal(arguments: list[str], typed: bytes = b"") -> tuple[str, int]:
    """Run a command on a terminal of its own, and give what it showed, and its exit code."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
        return shown.decode().replace("\r\n", "\n"), process.wait(PATIENCE)


def test_on_a_terminal_it_asks_first(stream: Stream, letters: Letters) -> None:
    letters.fill(2)
    shown, status = on_a_terminal(of_process(stream, "redrive"), b"n\n")
    assert "Publish 2 dead letters? [y/N]: " in shown
    assert "stream-classifier: nothing was changed" in shown
    assert status == 1
    assert stream.ends(stream.input) == {0: 0}
    shown, status = on_a_terminal(of_process(stream, "redrive"), b"y\n")
    assert "redriven: 2\n" in shown
    assert status == 0
    assert len(went_back(stream)) == 2
