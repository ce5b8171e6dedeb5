"""What exactly_once costs against at_least_once, in one run on one broker.

    make bench-delivery
    python benchmarks/delivery_modes.py [--events 200000] [--rounds 5] [--embedded] [--threads 2]

With a null model, so that nothing but the worker around it counts; or with `--embedded` with the real one, on different
texts. The two modes alternate, each time with a group and topics of their own; the figure is the median of the ratios
of neighbouring runs. All settings but `delivery` are the defaults.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING

import orjson
from end_to_end import texts
from perfect_batches import BUDGET
from plumbing import NullClassifier, events
from streams import create, fill, machine, run_worker, settings

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.similarity import Similarity
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.model.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_classifier.worker import Classifies

MODES = ("at_least_once", "exactly_once")


def main() -> None:
    """Run both modes in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()
    labels = LabelSet.adhoc(["delivery", "refund", "account"])
    classifier: Classifies = NullClassifier()
    if options.embedded:
        classifier = Classifier(Similarity(Encoder.open(None), max_tokens=BUDGET), results_cached=0)
        classifier.prepare([labels])
    count = options.events or (3000 if options.embedded else 200_000)
    values: Iterable[bytes] = (
        (orjson.dumps({"text": text}) for text in texts(count)) if options.embedded else events(count)
    )
    print(machine())
    print(f"{count:,} events, {options.threads} threads, {'the embedded' if options.embedded else 'a null'} model")
    print("round   " + "   ".join(f"{mode + ', events/s':>26}" for mode in MODES) + "   ratio")
    ratios = []
    with EmbeddedCluster(1) as cluster:
        servers = cluster.bootstrap_servers
        create(servers, "events")
        fill(servers, "events", values)
        for number in range(options.rounds):
            rates = []
            for mode in MODES:
                target = f"{mode}-{number}"
                create(servers, target, f"{target}.dead-letter")
                chosen = settings(servers, "events", target, delivery=mode, cache={"results": 0})
                rates.append(run_worker(chosen, labels, classifier, count, threads=options.threads))
            ratios.append(rates[1] / rates[0])
            print(f"{number + 1:>5}   " + "   ".join(f"{rate:>26,.0f}" for rate in rates) + f"   {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
