"""A bundle of entailment against transformers' ZeroShotClassificationPipeline with the model that it was made from.

    python benchmarks/entailment.py BUNDLE MODEL_DIR [--texts 48] [--rounds 3] [--batch-sizes 1,16]

BUNDLE is what `stream-classifier-export` made of MODEL_DIR, which transformers has to be able to load; it takes the
`export` extra, for torch and transformers. Both label the same sample tickets with the same ten labels and the bundle's
template, on the same CPU. The classifier has as many threads as there are cores, with a run in each. The pipeline has
the number of threads and the batch size that a short trial finds to be the best for it: one thread, torch's own number,
or as many as there are cores. The two alternate; the figure is the median of the ratios of neighbouring runs. The
scores are compared, too. A last line compares with the pipeline as it comes: torch's own threads, one pair at a time.
Measure on a quiet machine: torch's threads wait for each other, and lose more than ours on a
busy one.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from streams import machine

from stream_classifier.classify.entailment import Entailment
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked
from stream_classifier.cores import available_cores
from stream_classifier.model.cross_encoder import CrossEncoder
from stream_classifier.samples import load_samples

LABELS = (
    "delivery",
    "refund",
    "payment",
    "account access",
    "damaged goods",
    "praise",
    "complaint",
    "technical problem",
    "question about a product",
    "cancellation",
)


def texts(count: int) -> list[str]:
    """Different texts of the sample tickets' lengths."""
    tickets = [orjson.loads(sample.value or b"")["text"] for sample in load_samples() if not sample.broken]
    return [f"{text} {number}" for number, text in zip(range(count), itertools.cycle(tickets), strict=False)]


def ours(scorer: Entailment, wanted: list[str], threads: int) -> tuple[float, Any]:
    """Texts a second, and the scores, [texts, labels]."""
    labels = LabelSet.adhoc(LABELS)
    parts = [wanted[number::threads] for number in range(threads)]
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        scored = list(pool.map(lambda part: scorer.score([Asked(labels, part)], Measures())[0].scores, parts))
    seconds = time.perf_counter() - begin
    scores = np.empty((len(wanted), len(LABELS)))
    for number, part in enumerate(scored):
        scores[number::threads] = part
    return len(wanted) / seconds, scores


def theirs(pipeline: Any, wanted: list[str], template: str, batch_size: int) -> tuple[float, Any]:  # noqa: ANN401 - has no types
    """Texts a second, and the scores, [texts, labels]."""
    begin = time.perf_counter()
    results = pipeline(wanted, candidate_labels=LABELS, hypothesis_template=template, batch_size=batch_size)
    seconds = time.perf_counter() - begin
    found = [dict(zip(result["labels"], result["scores"], strict=True)) for result in results]
    return len(wanted) / seconds, np.array([[scores[label] for label in LABELS] for scores in found])


def main() -> None:
    """Run both in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", default="1,16", help="Of the pipeline, to be tried.")
    options = parser.parse_args()
    threads, wanted = available_cores(), texts(options.texts)
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    as_it_comes = (torch.get_num_threads(), 1)
    numbers_of_threads = sorted({1, torch.get_num_threads(), threads})
    pipeline = transformers.pipeline("zero-shot-classification", model=str(options.model), device="cpu")
    encoder = CrossEncoder.open(options.bundle)
    scorer = Entailment(encoder)
    scorer.prepare(LabelSet.adhoc(LABELS))
    template = encoder.asks.template

    lengths = sorted(map(len, encoder.tokenize(wanted)))
    print(machine())
    print(
        f"{encoder.manifest.identity} ({encoder.manifest.precision}), {threads} threads, {len(wanted)} texts of "
        f"{lengths[len(lengths) // 2]} tokens (median), {len(LABELS)} labels; torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )
    tried: dict[tuple[int, int], float] = {}
    for number, size in itertools.product(numbers_of_threads, map(int, options.batch_sizes.split(","))):
        torch.set_num_threads(number)
        tried[number, size], _ = theirs(pipeline, wanted[: max(4, len(wanted) // 4)], template, size)
        print(f"trial of the pipeline, threads {number}, batches of {size}: {tried[number, size]:.2f} texts/s")
    number, size = max(tried, key=tried.__getitem__)
    torch.set_num_threads(number)
    print("round   pipeline, texts/s   bundle, texts/s   ratio")
    ratios = []
    for number in range(options.rounds):
        slow, expected = theirs(pipeline, wanted, template, size)
        fast, scores = ours(scorer, wanted, threads)
        ratios.append(fast / slow)
        print(f"{number + 1:>5}   {slow:>17.2f}   {fast:>15.2f}   {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    if as_it_comes in tried:
        print(f"against the pipeline as it comes, by its trial above: {fast / tried[as_it_comes]:.2f}")
    agreement = (scores.argmax(axis=1) == expected.argmax(axis=1)).mean()
    print(f"same best label: {agreement:.3f}; largest difference of a score: {np.abs(scores - expected).max():.2e}")


if __name__ == "__main__":
    main()
