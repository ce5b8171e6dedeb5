"""A broker that is slow or holds its clients back, and a backlog that is far larger than what may be under way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
from confluent_kafka.admin import AdminClient, NewTopic
from in_and_out import everything_is_committed, nothing_is_lost
from stream import PATIENCE, RunningWorker, Stream, header
from worker_process import Process

from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.embedded.java import provide_java

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from broker import MakeTopic

BOUND = 64


@pytest.fixture(scope="module")
def cluster(bootstrap_servers: str) -> Iterator[EmbeddedCluster]:
    """One of these tests' own, to be frozen; a quota there is over two seconds instead of eleven."""
    del bootstrap_servers  # skips where there is no Kafka to be had
    with EmbeddedCluster(properties={"quota.window.num": "2"}) as running:
        yield running


def count_leaders(admin: AdminClient, topic: str) -> int:
    return sum(found.leader >= 0 for found in admin.list_topics(topic, timeout=10).topics[topic].partitions.values())


@pytest.fixture
def make_stream(cluster: EmbeddedCluster, tmp_path: Path, delivery: str) -> Callable[..., Stream]:
    bundle = tiny_bundle.build(tmp_path / "bundle")
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})

    def make_topic(stem: str = "topic", *, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"{stem}-{uuid.uuid4().hex[:12]}"
        admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])[name].result()
        deadline = time.monotonic() + PATIENCE
        while count_leaders(admin, name) < partitions:
            assert time.monotonic() < deadline
        return name

    def make(**named: Any) -> Stream:
        batch = {"max_events": 16, "max_in_flight": BOUND}
        settings = {"batch": batch, "kafka": {"commit_interval_ms": 200}}
        return Stream(
            cluster.bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=settings, **named
        )

    return make


def bound(delivery: str) -> int:
    """In `exactly_once` as many again may wait for their transaction."""
    return BOUND if delivery == "at_least_once" else 2 * BOUND


def watch_until_all_is_committed(stream: Stream, running: RunningWorker, delivery: str) -> None:
    """Nothing but the speed changes: it stays healthy, below its bound and in its group."""

    def done() -> bool:
        assert running.health.alive(time.monotonic()) is None
        assert running.health.ready() is None
        assert running.in_flight <= bound(delivery)
        return everything_is_committed(stream)

    running.until(done, "all is labelled and committed")
    assert running.metric("rebalances_total", kind="assigned") == 1
    assert running.metric("rebalances_total", kind="revoked") == 0
    assert running.metric("rebalances_total", kind="lost") == 0


def test_quota_throttling(make_stream: Callable[..., Stream], cluster: EmbeddedCluster, delivery: str) -> None:
    """The broker holds the worker's clients down to some kilobytes a second, in both directions."""
    rate, events = 40_000, 240
    client = f"held-back-{uuid.uuid4().hex}"
    limits = f"producer_byte_rate={rate},consumer_byte_rate={rate}"
    command = provide_java(lambda _: None).command(
        "kafka.admin.ConfigCommand",
        *("--bootstrap-server", cluster.bootstrap_servers, "--alter", "--add-config", limits),
        *("--entity-type", "clients", "--entity-name", client),
    )
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    stream = make_stream()
    for number in range(events):  # one by one: a batch larger than the quota allows at once would never be fetched
        stream.publish(orjson.dumps({"id": number, "text": "where is my parcel", "more": "x" * 400}))
    kafka = stream.settings.kafka.model_copy(update={"client": {"client.id": client}})
    with RunningWorker(stream.settings.model_copy(update={"kafka": kafka})) as running:
        running.until(lambda: running.health.ready() is None, "ready")
        begin = time.monotonic()
        watch_until_all_is_committed(stream, running, delivery)
        took = time.monotonic() - begin
    assert took > 400 * events / rate / 2, "it was not held back at all"
    nothing_is_lost(stream, delivery, once=True)


def test_the_disk_of_the_broker_slow(
    make_stream: Callable[..., Stream], cluster: EmbeddedCluster, delivery: str
) -> None:
    """Every record is forced to the disk, and for some seconds the broker stands still five sixths of the time.

    What a client sees of a slow disk is that: answers that come late, in bursts. A disk that fails is another thing.
    """
    to_disk = {"flush.messages": "1"}
    stream = make_stream(source=to_disk, output=to_disk, dead_letter=to_disk)
    (broker,) = cluster.pids.values()
    with stream.worker() as running:
        running.until(lambda: running.health.ready() is None, "ready")
        running.until(lambda: running.metric("assigned_partitions") == 1, "assigned")
        for number in range(1500):
            stream._producer.produce(stream.input, b'{"id":%d,"text":"where is my parcel"}' % number)
        with frozen_in_bursts(broker):
            for _ in range(40):
                running.check()
                assert running.health.alive(time.monotonic()) is None
                assert running.in_flight <= bound(delivery)
                time.sleep(0.1)
        assert stream._producer.flush(PATIENCE) == 0
        watch_until_all_is_committed(stream, running, delivery)
    nothing_is_lost(stream, delivery, once=True)


@contextlib.contextmanager
def frozen_in_bursts(process: int) -> Iterator[None]:
    end = threading.Event()

    def freeze() -> None:
        while not end.is_set():
            os.kill(process, signal.SIGSTOP)
            end.wait(0.5)
            os.kill(process, signal.SIGCONT)
            end.wait(0.1)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    try:
        yield
    finally:
        end.set()
        freezer.join()


def memory(process: Process, name: str) -> int:
    """What the kernel says, in MiB: `VmRSS` now, or `VmHWM`, the most so far."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(f"{name}:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks the Linux kernel for the process's memory")
def test_memory_on_backlog(bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, delivery: str) -> None:
    """Given a backlog of 120 MB, of which every second event is put aside, then a worker that may have 4 MB under way
    never takes half of that more than it took when it began."""
    settings: dict[str, dict[str, Any]] = {
        "batch": {"max_events": 16, "max_in_flight_bytes": 4_000_000},
        "kafka": {"consumer": {"queued.max.messages.kbytes": 4096, "fetch.queue.backoff.ms": 20}},
        "dead_letter": {"stop_above": 1},
        "observability": {"port": 0, "log_format": "json", "log_level": "info"},
    }
    bundle = tiny_bundle.build(tmp_path / "bundle")
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=settings, partitions=4)
    process = Process(stream.config, tmp_path / "worker.log")
    try:
        process.until(process.is_ready, "ready")
        before = memory(process, "VmRSS")
        filler = b"x" * 100_000
        for number in range(1200):
            text = b'"where is my parcel"' if number % 2 else b"5"
            stream._producer.produce(stream.input, b'{"id":%d,"text":%s,"more":"%s"}' % (number, text, filler))
            stream._producer.poll(0)
        assert stream._producer.flush(PATIENCE) == 0
        process.until(partial(everything_is_committed, stream), "all is done and committed")
        most = memory(process, "VmHWM")
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(PATIENCE) == 0
    finally:
        process.popen.kill()
        process.popen.wait()
    assert most - before < 60, f"from {before} to {most} MiB"
    nothing_is_lost(stream, delivery, once=True)
    assert {header(letter, "classifier-error-code") for letter in stream.dead_letters} == {b"text_not_a_string"}
