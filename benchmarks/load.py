"""How late the worker is at 30, 70 and 90 % of what it can do; each event is sent when it is due, come what may.

    make bench-load
    python benchmarks/load.py [--workload mixed] [--events 3000] [--seconds 30]

What it can do is measured first, on a topic that is full. Then another process publishes at a steady rate. Three times
are told: `processing_seconds` of each event, from polled to acknowledged; the service time of a window, from handed
out to given back; and the first at its 99th percentile over the median of the second and `batch.max_wait_ms` together,
which is what an event has to take that comes just too late for a window.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import orjson
from confluent_kafka import Producer
from perfect_batches import BUDGET
from streams import create, fill, machine, run_worker, settings
from workloads import WORKLOADS

from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.similarity import Similarity
from stream_classifier.cores import available_cores
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.metrics import BatchHistogram, Metrics
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOADS = (0.3, 0.7, 0.9)
SEED = 1
_JOINED_AFTER = 5.0


class Timed:
    """A classifier that notes how long each window took it."""

    def __init__(self, classifier: Classifier) -> None:
        self.seconds: list[float] = []
        self.cost = classifier.cost
        self._classifier = classifier

    def classify(self, requests: Sequence[Request]) -> Classified:
        """As the classifier does."""
        begin = time.perf_counter()
        classified = self._classifier.classify(requests)
        self.seconds.append(time.perf_counter() - begin)
        return classified


class Kept(BatchHistogram):
    """A histogram that keeps each value."""

    values: list[float]

    def observe(self, values: Iterable[float], label: str = "") -> None:
        """Note values."""
        kept = list(values)
        self.values += kept
        super().observe(kept, label)


class KeptMetrics(Metrics):
    """Metrics of which `processing_seconds` keeps each value, in `kept`."""

    def __init__(self) -> None:
        self.kept: list[float] = []
        super().__init__()

    def histogram(self, name: str, help_: str, buckets: Sequence[float], label: str | None = None) -> BatchHistogram:
        """As there."""
        if name != "processing_seconds":
            return super().histogram(name, help_, buckets, label)
        Kept.values = self.kept
        return Kept(self.registry, name, help_, buckets, label)


def publish(servers: str, topic: str, workload: str, count: int, rate: float) -> None:
    """Publish a workload at a steady rate, once the worker has had time to join its group."""
    time.sleep(_JOINED_AFTER)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 1})
    texts = WORKLOADS[workload](count, SEED)
    begin = time.perf_counter()
    for number, text in enumerate(texts):
        if (early := begin + number / rate - time.perf_counter()) > 0:
            time.sleep(early)
        producer.produce(topic, orjson.dumps({"text": text}), str(number % 5000).encode())
        producer.poll(0)
    producer.flush()


def main() -> None:
    """Measure what the worker can do, then each load; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="mixed")
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(*orjson.loads(options.publish))
        return
    with label_set_path() as path:
        label_set = choose(load_label_sets(path), None)
    classifier = Classifier(Similarity(Encoder.open(None), max_tokens=BUDGET), results_cached=0)
    classifier.prepare([label_set])
    threads = available_cores()
    with EmbeddedCluster(1) as cluster:
        servers = cluster.bootstrap_servers

        def run(source: str, count: int, timed: Timed, metrics: Metrics) -> float:
            target = f"{source}-labelled"
            create(servers, target, f"{target}.dead-letter")
            chosen = settings(servers, source, target, cache={"results": 0})
            return run_worker(chosen, label_set, timed, count, threads=threads, metrics=metrics)

        create(servers, "full")
        fill(
            servers,
            "full",
            (orjson.dumps({"text": text}) for text in WORKLOADS[options.workload](options.events, SEED)),
        )
        capacity = run("full", options.events, Timed(classifier), Metrics())
        wait = settings(servers, "events", "labelled").batch.max_wait_ms / 1000
        print(f"{machine()}; {options.workload} texts, {threads} threads: {capacity:,.0f} events/s at full speed")
        print("load   events/s   p50, ms   p99, ms   a window, ms   p99 over a window and max_wait")
        for load in LOADS:
            rate, source = capacity * load, f"at-{load:.0%}".rstrip("%")
            count = int(rate * options.seconds)
            create(servers, source)
            timed, metrics = Timed(classifier), KeptMetrics()
            arguments = orjson.dumps([servers, source, options.workload, count, rate]).decode()
            with subprocess.Popen([sys.executable, __file__, "--publish", arguments]):  # noqa: S603 - this file
                run(source, count, timed, metrics)
            values = metrics.kept[count // 10 :]
            median, late = np.percentile(values, [50, 99])
            window = float(np.median(timed.seconds))
            print(
                f"{load:>4.0%}{rate:>11,.0f}{1000 * median:>10,.0f}{1000 * late:>10,.0f}{1000 * window:>15,.0f}"
                f"{late / (window + wait):>33.2f}"
            )


if __name__ == "__main__":
    main()
