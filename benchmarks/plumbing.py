"""What the worker costs around the model: with a null model, against a bare loop, on the same broker in one run.

    python benchmarks/plumbing.py [--events 200000] [--rounds 3] [--memory]

The bare loop consumes, splices a constant result into each event and produces it, and commits once a second: the least
that any worker could do. It keeps no ledger, no order, no windows, no metrics and no dead letters. The two alternate,
each with a fresh group and topic of results; the ratio of their medians is the figure. `--memory` shows the resident
memory of a worker between 100,000 and 1,000,000 events instead.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stream_classifier.classify.classification import Classification
from stream_classifier.classify.classifier import Classified, Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.health import Health
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.metrics import Metrics
from stream_classifier.settings import Settings
from stream_classifier.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARTITIONS = 4
EVENT = '{"id":"t-%07d","text":"Where is my parcel? It was promised for Monday, order %09d","channel":"chat","customer":{"tier":"gold","orders":12}}'
RESULT = Classification("delivery", 0.83, (("delivery", 0.83), ("refund", 0.11)), "support@1", "null@00000000", False)


class NullClassifier:
    """Gives every text the same result, at once."""

    def classify(self, requests: Sequence[Request]) -> Classified:
        """As many results as there are requests."""
        return Classified([RESULT] * len(requests), Measures())


def settings(servers: str, group: str, source: str, target: str) -> Settings:
    """The worker's settings, all at their defaults but the names."""
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": servers, "group_id": group},
            "input": {"topics": [source]},
            "output": {"topic": target},
            "dead_letter": {"topic": f"{target}.dead-letter"},
            "labels": {"path": Path("unused")},
        }
    )


def create(servers: str, *topics: str) -> None:
    """Make topics."""
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result()


def fill(servers: str, topic: str, events: int) -> None:
    """Publish the events."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    for number in range(events):
        while True:
            try:
                producer.produce(topic, (EVENT % (number, number)).encode(), str(number % 5000).encode())
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush()


def bare(servers: str, source: str, target: str, events: int) -> float:
    """Events a second of the bare loop, from the first record to the last acknowledgement."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    consumer.subscribe([source])
    acknowledged, consumed, begin, commit_at = 0, 0, 0.0, 0.0
    spliced = b',"classification":' + RESULT.encoded + b"}"

    def delivered(error: object, _: object) -> None:
        nonlocal acknowledged
        if error is not None:
            raise RuntimeError(error)
        acknowledged += 1

    while acknowledged < events:
        messages = consumer.consume(1000, 0.1 if consumed < events else 0.001)
        if messages and not begin:
            begin = time.perf_counter()
        for message in messages:
            if message.error():
                raise RuntimeError(message.error())
            value = message.value()
            producer.produce(
                target, value[:-1] + spliced, message.key(), on_delivery=delivered, timestamp=message.timestamp()[1]
            )
        consumed += len(messages)
        producer.poll(0)
        if consumed - acknowledged > 50_000:  # noqa: PLR2004 - about what fits in its queues
            producer.poll(0.01)
        if (now := time.perf_counter()) > commit_at and consumed:
            commit_at = now + 1
            consumer.commit(asynchronous=True)
    seconds = time.perf_counter() - begin
    consumer.close()
    return events / seconds


def ours(servers: str, source: str, target: str, events: int, watch: Callable[[int], None] = lambda _: None) -> float:
    """Events a second of the worker, measured in the same way."""
    metrics = Metrics()
    worker = Worker(
        settings(servers, uuid.uuid4().hex, source, target),
        LabelSet.adhoc(["delivery", "refund"]),
        NullClassifier(),
        model="00000000",
        threads=2,
        metrics=metrics,
        health=Health(0),
    )
    seconds = 0.0

    def stop_when_done() -> None:
        nonlocal seconds
        begin = 0.0
        while True:
            consumed = sum(sample.value for sample in _samples(metrics, "events_consumed"))
            labelled = sum(sample.value for sample in _samples(metrics, "events_labelled"))
            now = time.perf_counter()
            if consumed and not begin:
                begin = now
            watch(int(labelled))
            if labelled >= events:
                seconds = now - begin
                worker.stop()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=stop_when_done, daemon=True)
    thread.start()
    worker.run()
    thread.join()
    return events / seconds


def _samples(metrics: Metrics, name: str) -> list:
    family = metrics.consumed if name == "events_consumed" else metrics.labelled
    return [sample for metric in family.collect() for sample in metric.samples if sample.name.endswith("_total")]


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["bare", "ours"])
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as _, EmbeddedCluster(1) as cluster:
        servers = cluster.bootstrap_servers
        create(servers, "events")
        fill(servers, "events", options.events)
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        for number in range(options.rounds):
            for name, run in (("bare", bare), ("ours", ours)):
                if options.only not in {None, name}:
                    continue
                target = f"{name}-{number}"
                create(servers, target, f"{target}.dead-letter")
                rates[name].append(run(servers, "events", target, options.events))
                print(name, round(rates[name][-1]))
        if options.only is None:
            print("ratio", statistics.median(rates["ours"]) / statistics.median(rates["bare"]))


if __name__ == "__main__":
    main()
