"""How good the labels of the embedded model are, on two public data sets.

    make bench-quality DATA=DIR
    python benchmarks/quality.py DIR

DIR holds banking77/train.csv and test.csv (PolyAI-LDN/task-specific-datasets) and crosswoz/test.csv (user turns of one
domain), each with the columns text and category. All rows of the test files are labelled. Examples are drawn from
banking77's training file, so many of each label, by the seeds 0, 1 and 2. ECE (15 bins) is that of the test rows, and
then that of the half on which the temperature was not fitted, for both halves together.

A text is embedded once, whatever is measured with it: `Remembering` is the model with a memory.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from quality_labels import LISTS, SENTENCES
from streams import machine

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.embedding import Embedder
from stream_classifier.classify.labels import Label, LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.similarity import Similarity
from stream_classifier.classify.temperature import tempered
from stream_classifier.cores import available_cores
from stream_classifier.evaluation.calibration import Reliability, nothing
from stream_classifier.evaluation.fitting import fit_temperature, halves
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.tokenizer import Encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SEEDS = (0, 1, 2)
CHUNK = 512


class Rows(NamedTuple):
    """A labelled file."""

    texts: list[str]
    categories: list[str]


class Measured(NamedTuple):
    """What came of one label set."""

    accuracy: float
    balanced: float
    ece: float
    ece_fitted: float
    temperature: float


class Remembering(Encoder):
    """The encoder, with a memory: each text is tokenised and run once, and its row is the same in any batch."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.manifest, encoder._tokenizer, encoder._session)  # noqa: SLF001 - the same model
        self._rows: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._encoded: dict[str, tuple[list[int], bool]] = {}

    def tokenize(self, texts: Sequence[str]) -> Encoded:
        """Tokenise those that are new."""
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if new:
            encoded = super().tokenize(new)
            self._encoded |= dict(zip(new, zip(encoded.ids, encoded.truncated, strict=True), strict=True))
        found = [self._encoded[text] for text in texts]
        return Encoded([ids for ids, _ in found], [truncated for _, truncated in found])

    def embed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Run a batch, unless all of it is known."""
        keys = [tuple(tokens) for tokens in ids]
        if any(key not in self._rows for key in keys):
            self._rows |= dict(zip(keys, super().embed(ids), strict=True))
        return np.array([self._rows[key] for key in keys])


def read(path: Path) -> Rows:
    """Names of labels with spaces for underscores, as people would write them."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Rows([row["text"] for row in rows], [row["category"].replace("_", " ") for row in rows])


def label_set(names: Sequence[str], **more: Mapping[str, object]) -> LabelSet:
    """A set; for each keyword its value by label."""
    # (mypy cannot know which keywords these are)
    labels = tuple(Label(name, **{key: values[name] for key, values in more.items()}) for name in names)  # type: ignore[arg-type]
    return LabelSet("benchmark", 1, "single", None, labels)


def drawn(train: Rows, names: Sequence[str], count: int, seed: int) -> dict[str, object]:
    """So many examples of each label, at random."""
    random = np.random.default_rng(seed)
    categories = np.array(train.categories)
    texts = np.array(train.texts, object)
    return {name: tuple(random.permutation(np.unique(texts[categories == name]))[:count]) for name in names}


def measure(classifier: Classifier, chosen: LabelSet, rows: Rows) -> Measured:
    """Label all rows and compare."""
    scores = np.concatenate(
        [
            classifier.scores(chosen, rows.texts[start : start + CHUNK]).scores
            for start in range(0, len(rows.texts), CHUNK)
        ]
    )
    gold = np.array([chosen.names.index(category) for category in rows.categories])
    right = scores.argmax(axis=1) == gold
    truths = np.arange(len(chosen.names)) == gold[:, None]
    fitted, temperatures = nothing(), []
    first = halves(len(gold))
    for half in (first, ~first):
        temperatures.append(fit_temperature(scores[half], truths[half], "single"))
        other = tempered(scores[~half], "single", temperatures[-1])
        fitted = fitted.plus(Reliability.of(other.max(axis=1), right[~half]))
    return Measured(
        float(right.mean()),
        float(np.mean([right[gold == label].mean() for label in np.unique(gold)])),
        Reliability.of(scores.max(axis=1), right).error,
        fitted.error,
        statistics.mean(temperatures),
    )


def show(name: str, results: Sequence[Measured]) -> None:
    """A row of the table: the mean, and the standard deviation of the accuracy where there are several."""
    mean = Measured(*(statistics.mean(column) for column in zip(*results, strict=True)))
    spread = f" ± {statistics.stdev(one.accuracy for one in results):.3f}" if len(results) > 1 else ""
    print(
        f"{name:<46} {mean.accuracy:.3f}{spread:<8} {mean.balanced:>8.3f} {mean.ece:>8.3f} "
        f"{mean.ece_fitted:>12.3f} {mean.temperature:>11.2f}",
        flush=True,
    )


def main() -> None:
    """Measure everything, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    encoder = Remembering(Encoder.open(None))
    classifier = Classifier(Similarity(encoder))
    train, test = read(options.data / "banking77" / "train.csv"), read(options.data / "banking77" / "test.csv")
    turns = read(options.data / "crosswoz" / "test.csv")
    print(machine())
    print(f"{encoder.manifest.identity} ({encoder.manifest.precision}, {encoder.manifest.activations})")
    texts = [*test.texts, *turns.texts]
    embedder = Embedder(encoder, max_tokens=512)
    begin = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        list(pool.map(lambda chunk: embedder.embed(chunk, Measures()), chunks))
    print(f"{len(texts):,} texts embedded, {len(texts) / (time.perf_counter() - begin):,.0f} a second")
    print(f"{'':<46} accuracy         balanced      ECE   ECE, fitted temperature")
    names = sorted(set(train.categories))
    show("banking77, bare names", [measure(classifier, label_set(names), test)])
    for count in (1, 3, 5, 10, 20):
        results = [
            measure(classifier, label_set(names, examples=drawn(train, names, count, seed)), test) for seed in SEEDS
        ]
        show(f"banking77, {count} examples a label", results)
    show("crosswoz, bare names", [measure(classifier, label_set(tuple(LISTS)), turns)])
    show("crosswoz, described by lists", [measure(classifier, label_set(tuple(LISTS), description=LISTS), turns)])
    described = label_set(tuple(LISTS), description=SENTENCES)
    show("crosswoz, described by sentences", [measure(classifier, described, turns)])


if __name__ == "__main__":
    main()
