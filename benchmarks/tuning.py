"""What a setting does to throughput and to latency: the defaults against one changed setting at a time.

    make bench-tuning
    python benchmarks/tuning.py [--events 1500] [--rate 60] [--seconds 10] [--rounds 3] [--only batch.max_tokens]

Texts are those of `end_to_end.py`, the model is the built-in one, and the broker shares the machine. Throughput is that
of a topic that is full already: each variant alternates with the defaults, and the figures are medians of the ratios of
neighbouring runs, of events a second, and of the processor's time for an event, which others on the machine disturb
less. Latency is what a reader of the output sees, who reads committed records: from a record's timestamp to its
arrival, at so many events a second.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka import Consumer, Producer
from end_to_end import texts
from perfect_batches import BUDGET
from streams import create, fill, machine, run_worker, settings

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.similarity import Similarity
from stream_classifier.cores import available_cores
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULTS = "the defaults"
THROUGHPUT: Sequence[tuple[str, Any]] = [
    ("batch.max_tokens", 128),
    ("batch.max_tokens", 2048),
    ("batch.max_tokens", 8192),
    ("batch.max_events", 16),
    ("batch.max_events", 1024),
    ("model.threads", 1),
    ("model.threads", 4),
    ("kafka.producer", {"compression.type": "lz4"}),
    ("delivery", "exactly_once"),
]
LATENCY: Sequence[tuple[str, Any]] = [
    ("batch.max_wait_ms", 0),
    ("batch.max_wait_ms", 100),
    ("model.threads", 1),
    ("kafka.producer", {"linger.ms": 100}),
    ("delivery", "exactly_once"),
]


class Bench:
    """One broker, one model, and a worker with other settings each time."""

    def __init__(self, servers: str) -> None:
        with label_set_path() as path:
            self._label_set = choose(load_label_sets(path), None)
        self._encoder = Encoder.open(None)
        self._servers = servers
        self._runs = 0

    def _label(self, source: str, target: str, events: int, name: str, value: Any) -> float:  # noqa: ANN401 - of any setting
        max_tokens = value if name == "batch.max_tokens" else BUDGET
        threads = value if name == "model.threads" else available_cores()
        classifier = Classifier(Similarity(self._encoder, max_tokens=max_tokens), results_cached=0)
        classifier.prepare([self._label_set])
        chosen = settings(self._servers, source, target, cache={"results": 0})
        document = chosen.model_dump(exclude_unset=True)
        section, _, key = name.partition(".")
        if key:
            document.setdefault(section, {})[key] = value
        elif name != DEFAULTS:
            document[section] = value
        return run_worker(type(chosen).model_validate(document), self._label_set, classifier, events, threads=threads)

    def throughput(self, source: str, events: int, name: str, value: Any) -> tuple[float, float]:  # noqa: ANN401 - of any setting
        """Events a second, of a topic that is full, and milliseconds of the processor for an event."""
        self._runs += 1
        target = f"labelled-{self._runs}"
        create(self._servers, target, f"{target}.dead-letter")
        begin = time.process_time()
        rate = self._label(source, target, events, name, value)
        return rate, 1000 * (time.process_time() - begin) / events

    def latency(self, rate: float, seconds: float, name: str, value: Any) -> tuple[float, float]:  # noqa: ANN401 - of any setting
        """Milliseconds to a reader of the output: of half, and of 95 in 100 of the events."""
        self._runs += 1
        source, target = f"steady-{self._runs}", f"steady-labelled-{self._runs}"
        create(self._servers, source, target, f"{target}.dead-letter")
        count = int(rate * seconds)
        found: list[float] = []
        reader = threading.Thread(target=_read, args=(self._servers, target, count, found))
        reader.start()
        writer = threading.Thread(target=_publish, args=(self._servers, source, texts(count), rate, found))
        writer.start()
        self._label(source, target, count, name, value)
        for thread in (writer, reader):
            thread.join()
        found = sorted(found[1:])
        return found[len(found) // 2], found[int(len(found) * 0.95)]


def _publish(servers: str, topic: str, wanted: list[str], rate: float, found: list[float]) -> None:
    """Publish the first, and the others once that has come out: the group has been joined then."""
    producer = Producer({"bootstrap.servers": servers})
    begin = time.monotonic()
    for number, text in enumerate(wanted):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        producer.produce(topic, orjson.dumps({"text": text}))
        producer.poll(0)
        if not number:
            producer.flush()
            while not found:
                time.sleep(0.01)
            begin = time.monotonic()
    producer.flush()


def _read(servers: str, topic: str, count: int, found: list[float]) -> None:
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10}
    )
    consumer.subscribe([topic])
    while len(found) < count:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            found.append(time.time() * 1000 - message.timestamp()[1])
    consumer.close()


def _shown(name: str, value: Any) -> str:  # noqa: ANN401 - of any setting
    if isinstance(value, dict):
        return ", ".join(f"{name}: {key}: {each}" for key, each in value.items())
    return name if value is None else f"{name}: {value}"


def main() -> None:
    """Run all variants in turn, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="only the variants of this setting")
    options = parser.parse_args()
    full, steady = (
        [each for each in variants if options.only in {None, each[0]}] for variants in (THROUGHPUT, LATENCY)
    )
    ratios: dict[str, list[tuple[float, float]]] = {}
    delays: dict[str, list[tuple[float, float]]] = {}
    rates: list[float] = []
    print(machine())
    with EmbeddedCluster(1) as cluster:
        bench = Bench(cluster.bootstrap_servers)
        create(cluster.bootstrap_servers, "full")
        fill(cluster.bootstrap_servers, "full", (orjson.dumps({"text": text}) for text in texts(options.events)))
        for _ in range(options.rounds):
            for name, value in full:
                rate, cost = bench.throughput("full", options.events, DEFAULTS, None)
                other_rate, other_cost = bench.throughput("full", options.events, name, value)
                rates.append(rate)
                ratios.setdefault(_shown(name, value), []).append((other_rate / rate, other_cost / cost))
            for name, value in [(DEFAULTS, None), *steady]:
                found = bench.latency(options.rate, options.seconds, name, value)
                delays.setdefault(_shown(name, value), []).append(found)
    print(
        f"{options.events:,} events, {options.rounds} rounds, {statistics.median(rates):,.0f} events/s with the "
        "defaults. Over these: events/s, and the processor's time for an event (median, and from to)"
    )
    for shown, pairs in ratios.items():
        print(f"  {shown:<45} {'   '.join(_spread(each) for each in zip(*pairs, strict=True))}")
    print(f"{options.rate:g} events/s for {options.seconds:g} s: milliseconds until a reader has it, p50 and p95")
    for shown, pairs in delays.items():
        halves, most = zip(*pairs, strict=True)
        print(f"  {shown:<45} {statistics.median(halves):>5.0f} {statistics.median(most):>5.0f}")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
