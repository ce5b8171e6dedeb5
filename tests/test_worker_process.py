"""Real worker processes on a real broker: killed, stopped, and never losing an event."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from stream import PATIENCE, Stream
from worker_process import Process

from stream_classifier.kafka.embedded import tool_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker import MakeTopic

A_USERS_WORD = "xyzzy-plugh"


@pytest.fixture
def make_stream(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path) -> Any:
    bundle = tiny_bundle.build(tmp_path / "bundle")

    def make(settings: dict[str, dict[str, Any]], **named: Any) -> Stream:
        settings = settings | {"observability": {"port": 0, "log_format": "json", "log_level": "info"}}
        return Stream(bootstrap_servers, make_topic, tmp_path, bundle, settings=settings, **named)

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Stream], Process]]:
    with contextlib.ExitStack() as stack:

        def start_one(stream: Stream) -> Process:
            process = Process(stream.config, tmp_path / f"worker-{time.monotonic_ns()}.log")
            stack.callback(process.popen.wait)
            stack.callback(process.popen.kill)
            return process

        yield start_one


def console_consumer(stream: Stream) -> list[tuple[str, bytes, bytes]]:
    """Source, key and value of each labelled event, by partition and in order, as Kafka's own consumer reads them."""
    found: list[tuple[str, bytes, bytes]] = []
    for partition, end in stream.ends(stream.output).items():
        if not end:
            continue
        command = tool_command(
            "consumer.ConsoleConsumer",
            "--bootstrap-server",
            stream.servers,
            "--topic",
            stream.output,
            "--partition",
            str(partition),
            "--offset",
            "0",
            "--max-messages",
            str(end),
            "--timeout-ms",
            "30000",
            "--formatter-property",
            "print.key=true",
            "--formatter-property",
            "print.headers=true",
        )
        done = subprocess.run(command, check=True, capture_output=True, timeout=120)
        for line in done.stdout.splitlines():
            headers, key, value = line.split(b"\t")
            source = re.search(rb"classifier-source:([^,]*)", headers)
            assert source
            found.append((source.group(1).decode(), key, value))
    return found


@pytest.mark.timeout(300)
def test_nothing_is_lost_when_one_of_two_workers_is_killed(
    make_stream: Any, start: Callable[[Stream], Process]
) -> None:
    """Given two workers in the middle of 8,000 events, when one is killed with -9, then the other labels the rest.

    Every event comes out at least once, and each partition's events in order, but for one step back where the survivor
    took over from the last commit.
    """
    events = 8_000
    settings = {
        "kafka": {"commit_interval_ms": 200, "consumer": {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}},
        "batch": {"max_events": 16, "max_in_flight": 64},
        "cache": {"results": 0},
    }
    stream = make_stream(settings, partitions=6)
    first, second = start(stream), start(stream)
    for process in (first, second):
        process.until(process.is_ready, "ready")
    half = "stream_classifier_assigned_partitions 3.0"
    first.until(lambda: half in first.page("/metrics"), "the first has its half")
    second.until(lambda: half in second.page("/metrics"), "the second has its half")
    for number in range(events):
        stream._producer.produce(
            stream.input, b'{"id":%d,"text":"my parcel is late"}' % number, f"customer-{number % 211}"
        )
        stream._producer.poll(0)
    assert stream._producer.flush(PATIENCE) == 0
    first.until(lambda: first.labelled() >= events / 10, "the first is in the middle of it")
    first.popen.send_signal(signal.SIGKILL)
    assert first.popen.wait(PATIENCE) == -signal.SIGKILL
    ends = {number: end for number, end in stream.ends(stream.input).items() if end}
    assert stream.committed() != ends, "it was not all done before the kill"
    second.until(lambda: stream.committed() == ends, "everything is labelled and committed")
    second.popen.terminate()
    assert second.popen.wait(PATIENCE) == 0

    came = console_consumer(stream)
    counted = Counter(source for source, _, _ in came)
    wanted = {f"{stream.input}/{number}/{offset}" for number, end in ends.items() for offset in range(end)}
    assert set(counted) == wanted, "none is missing, and nothing else is there"
    steps_back: Counter[str] = Counter()
    last: dict[str, int] = {}
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for source, key, value in came:
        partition, _, offset = source.rpartition("/")
        steps_back[partition] += int(offset) <= last.get(partition, -1)
        last[partition] = int(offset)
        event = orjson.loads(value)
        assert event["classification"]["label"] == "delivery"
        by_key[key].append(event["id"])
    assert max(steps_back.values()) <= 1, "order is kept within each assignment"
    assert all(set(ids) == set(range(min(ids), events, 211)) for ids in by_key.values())


def test_a_worker_that_is_told_to_stop_drains_commits_and_leaves(
    make_stream: Any, start: Callable[[Stream], Process]
) -> None:
    stream = make_stream({}, partitions=2)
    process = start(stream)
    process.until(process.is_ready, "ready")
    stream.publish(*[b'{"text":"my parcel %s"}' % A_USERS_WORD.encode()] * 200, b'{"text": %s' % A_USERS_WORD.encode())
    process.until(lambda: process.labelled() == 200, "labelled")
    assert process.page("/healthz") == "ok\n"
    assert A_USERS_WORD not in process.page("/metrics")
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(PATIENCE) == 0
    assert stream.committed() == {number: end for number, end in stream.ends(stream.input).items() if end}
    log = process.log.read_text()
    assert A_USERS_WORD not in log, "a user's text is not logged"
    assert [line["event"] for line in process.lines()][-1] == "stopped"


def test_a_second_signal_ends_at_once(make_stream: Any, start: Callable[[Stream], Process]) -> None:
    """Given a worker that waits for its window to be given back, when it is told twice, then it does not wait."""
    stream = make_stream({"shutdown": {"drain_seconds": 300}})
    process = start(stream)
    process.until(process.is_ready, "ready")
    for _ in range(50):
        process.popen.send_signal(signal.SIGINT)
    assert process.popen.wait(PATIENCE) in {0, -signal.SIGINT}
