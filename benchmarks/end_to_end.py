"""The worker end to end against what the same model can do in process with perfect batching and no Kafka.

    make bench-worker
    python benchmarks/end_to_end.py [--events 5000] [--rounds 3]

Texts are the sample tickets, each made different from the others by a number, so that no cache helps. The ceiling
tokenises them all, sorts them all by length, cuts them by the same token budget and runs the batches in as many
threads: no Kafka, no windows, no scores. The worker labels them from topic to topic on the embedded broker, which
shares the machine with it. The two alternate; the figure is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
from streams import create, fill, machine, run_worker, settings

from stream_classifier.classify.batches import cut
from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.similarity import Similarity
from stream_classifier.cores import available_cores
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path, load_samples

BUDGET = 512  # the default of batch.max_tokens


def texts(count: int) -> list[str]:
    """Different texts of the sample tickets' lengths."""
    tickets = [orjson.loads(sample.value or b"")["text"] for sample in load_samples() if not sample.broken]
    return [f"{text} {number}" for number, text in zip(range(count), itertools.cycle(tickets), strict=False)]


def ceiling(encoder: Encoder, wanted: list[str], threads: int) -> float:
    """Texts a second in process."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        parts = [wanted[index::threads] for index in range(threads)]
        ids = [row for encoded in pool.map(encoder.tokenize, parts) for row in encoded.ids]
        batches = cut([len(row) for row in ids], BUDGET)
        list(pool.map(lambda batch: encoder.embed([ids[index] for index in batch]), batches))
    return len(wanted) / (time.perf_counter() - begin)


def main() -> None:
    """Run both in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    threads = available_cores()
    wanted = texts(options.events)
    with label_set_path() as path:
        label_set = choose(load_label_sets(path), None)
    encoder = Encoder.open(None)
    classifier = Classifier(Similarity(encoder, max_tokens=BUDGET), results_cached=0)
    classifier.prepare([label_set])
    tokens = sorted(map(len, encoder.tokenize(wanted).ids))
    print(machine())
    print(
        f"{encoder.manifest.identity} ({encoder.manifest.precision}), {threads} threads, {len(wanted):,} texts of "
        f"{tokens[len(tokens) // 2]} tokens (median; p95 {tokens[int(len(tokens) * 0.95)]})"
    )
    print("round   in process, texts/s   worker, events/s   ratio")
    ratios = []
    with EmbeddedCluster(1) as cluster:
        servers = cluster.bootstrap_servers
        create(servers, "events")
        fill(servers, "events", (orjson.dumps({"text": text}) for text in wanted))
        for number in range(options.rounds):
            target = f"labelled-{number}"
            create(servers, target, f"{target}.dead-letter")
            alone = ceiling(encoder, wanted, threads)
            chosen = settings(servers, "events", target, cache={"results": 0})
            together = run_worker(chosen, label_set, classifier, len(wanted), threads=threads)
            ratios.append(together / alone)
            print(f"{number + 1:>5}   {alone:>19,.0f}   {together:>16,.0f}   {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
