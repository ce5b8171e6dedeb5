"""What the benchmarks share: topics, events, a worker that stops when all is labelled, and the name of the machine."""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stream_classifier.health import Health
from stream_classifier.metrics import Metrics
from stream_classifier.settings import Settings
from stream_classifier.worker import Classifies, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Counter

    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.tracing import Tracing

PARTITIONS = 4


def machine() -> str:
    """Cores, processor and Python."""
    model = next(
        (line.partition(":")[2].strip() for line in _processor_lines() if line.startswith("model name")),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}"


def _processor_lines() -> list[str]:
    information = Path("/proc/cpuinfo")
    return information.read_text().splitlines() if information.exists() else []


def create(servers: str, *topics: str) -> None:
    """Make topics."""
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result()


def fill(servers: str, topic: str, values: Iterable[bytes]) -> None:
    """Publish events, 5,000 different keys in turn."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    for number, value in enumerate(values):
        while True:
            try:
                producer.produce(topic, value, str(number % 5000).encode())
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()


def document(servers: str, source: str, target: str, **sections: object) -> dict[str, object]:
    """The worker's settings as they stand in a file: names, what is given, and the defaults for the rest."""
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": uuid.uuid4().hex},
        "input": {"topics": [source]},
        "output": {"topic": target},
        "dead_letter": {"topic": f"{target}.dead-letter"},
        **sections,
    }


def settings(servers: str, source: str, target: str, **sections: object) -> Settings:
    """The same, read; for workers that are given their labels."""
    sections.setdefault("labels", {"path": "unused"})
    return Settings.model_validate(document(servers, source, target, **sections))


def run_worker(
    chosen: Settings,
    label_set: LabelSet,
    classifier: Classifies,
    events: int,
    *,
    threads: int,
    tracing: Tracing | None = None,
    watch: Callable[[int], None] = lambda _: None,
    metrics: Metrics | None = None,
) -> float:
    """Run a worker until so many events are labelled and acknowledged.

    Returns:
        Events a second, from the first that was polled to the last that was acknowledged.
    """
    metrics = metrics or Metrics()
    worker = Worker(
        chosen,
        label_set,
        classifier,
        model="00000000",
        threads=threads,
        metrics=metrics,
        health=Health(0),
        tracing=tracing,
    )
    seconds = 0.0

    def total(counter: Counter) -> float:
        # One family alone: a look at all of them takes time from the worker, whose interpreter this shares.
        return sum(
            sample.value for family in counter.collect() for sample in family.samples if sample.name.endswith("_total")
        )

    def stop_when_done() -> None:
        nonlocal seconds
        while not total(metrics.consumed):
            time.sleep(0.001)
        begin = time.perf_counter()
        while (labelled := total(metrics.labelled)) < events:
            watch(int(labelled))
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        worker.stop()

    thread = threading.Thread(target=stop_when_done, daemon=True)
    thread.start()
    worker.run()
    thread.join()
    return events / seconds
