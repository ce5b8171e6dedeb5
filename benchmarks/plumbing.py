"""What the worker costs around the model: with a null model, against a bare loop, on one broker in one run.

    make bench-plumbing
    python benchmarks/plumbing.py [--events 200000] [--rounds 5]
    python benchmarks/plumbing.py --memory

The bare loop consumes, splices a constant result into each event, produces it and commits once a second: the least that
any worker could do. It keeps no ledger, no order across failures, no windows, no metrics, no dead letters, and writes
no headers. The two alternate, each time with a group and a topic of results of its own; the figure is the median of the
ratios of neighbouring runs.

`--memory` shows the worker's resident memory while it labels 1,000,000 events instead.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from typing import TYPE_CHECKING

import psutil
from confluent_kafka import Consumer, Producer
from streams import create, fill, machine, run_worker, settings

from stream_classifier.classify.classification import Classification
from stream_classifier.classify.classifier import Classified, Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.windows import estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

THREADS = 2
MOST_IN_FLIGHT = 50_000
EVENT = (
    '{"id":"t-%07d","text":"Where is my parcel? It was promised for Monday, order %09d","channel":"chat",'
    '"customer":{"tier":"gold","orders":12}}'
)
RESULT = Classification("delivery", 0.83, (("delivery", 0.83), ("refund", 0.11)), "adhoc", "null@00000000", False)


class NullClassifier:
    """Gives every text the same result, at once."""

    def cost(self, request: Request) -> float:
        """As for similarity."""
        return estimated_tokens(request.text)

    def classify(self, requests: Sequence[Request]) -> Classified:
        """As many results as there are requests."""
        return Classified([RESULT] * len(requests), Measures())


def events(count: int) -> Iterator[bytes]:
    """Events of about 150 bytes."""
    return ((EVENT % (number, number)).encode() for number in range(count))


def bare(servers: str, source: str, target: str, count: int) -> float:
    """Events a second of the bare loop, from the first that was consumed to the last that was acknowledged."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 0,
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

    while acknowledged < count:
        messages = consumer.consume(1000, 0.1 if consumed < count else 0.001)
        begin = begin or (time.perf_counter() if messages else 0.0)
        for message in messages:
            value = message.value()
            if message.error() is not None or value is None:
                raise RuntimeError(message.error())
            producer.produce(target, value[:-1] + spliced, message.key(), -1, delivered, None, message.timestamp()[1])
        consumed += len(messages)
        producer.poll(0.01 if consumed - acknowledged > MOST_IN_FLIGHT else 0)
        if consumed and (now := time.perf_counter()) > commit_at:
            commit_at = now + 1
            consumer.commit(asynchronous=True)
    seconds = time.perf_counter() - begin
    consumer.close()
    return count / seconds


def ours(servers: str, source: str, target: str, count: int, watch: Callable[[int], None] = lambda _: None) -> float:
    """Events a second of the worker, measured in the same way."""
    chosen = settings(servers, source, target)
    labels = LabelSet.adhoc(["delivery", "refund"])
    return run_worker(chosen, labels, NullClassifier(), count, threads=THREADS, watch=watch)


def compare(servers: str, count: int, rounds: int) -> None:
    """Run both in turn, and print the table."""
    fill(servers, "events", events(count))
    ratios = []
    print(f"{count:,} events of about 150 bytes, {THREADS} inference threads with a null model")
    print("round   bare loop, events/s   worker, events/s   ratio")
    for number in range(rounds):
        rates = []
        for name, run in (("bare", bare), ("ours", ours)):
            target = f"{name}-{number}"
            create(servers, target, f"{target}.dead-letter")
            rates.append(run(servers, "events", target, count))
        ratios.append(rates[1] / rates[0])
        print(f"{number + 1:>5}   {rates[0]:>19,.0f}   {rates[1]:>16,.0f}   {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def memory(servers: str, count: int = 1_000_000) -> None:
    """Print the resident memory at each 100,000 events."""
    fill(servers, "events", events(count))
    create(servers, "labelled", "labelled.dead-letter")
    process = psutil.Process()
    sizes: dict[int, float] = {}

    def watch(labelled: int) -> None:
        step = labelled // 100_000
        if step not in sizes:
            sizes[step] = process.memory_info().rss / 2**20
            print(f"{labelled:>9,} events   {sizes[step]:6.1f} MiB")

    ours(servers, "events", "labelled", count, watch)
    after = [size for step, size in sizes.items() if step]
    print(
        f"from 100,000 events on: {min(after):.1f} to {max(after):.1f} MiB ({max(after) / after[0] - 1:+.1%} at most)"
    )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    print(machine())
    with EmbeddedCluster(1) as cluster:
        create(cluster.bootstrap_servers, "events")
        if options.memory:
            memory(cluster.bootstrap_servers)
        else:
            compare(cluster.bootstrap_servers, options.events, options.rounds)


if __name__ == "__main__":
    main()
