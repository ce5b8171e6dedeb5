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

import orjson
from perfect_batches import BUDGET, embed_all
from streams import create, fill, machine, run_worker, settings
from workloads import tickets

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.similarity import Similarity
from stream_classifier.cores import available_cores
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path


def texts(count: int) -> list[str]:
    """Different texts of the sample tickets' lengths."""
    return [f"{text} {number}" for number, text in zip(range(count), itertools.cycle(tickets()), strict=False)]


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
            alone = len(wanted) / embed_all(encoder, wanted, threads)[0]
            chosen = settings(servers, "events", target, cache={"results": 0})
            together = run_worker(chosen, label_set, classifier, len(wanted), threads=threads)
            ratios.append(together / alone)
            print(f"{number + 1:>5}   {alone:>19,.0f}   {together:>16,.0f}   {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
