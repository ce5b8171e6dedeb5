"""What the constants of classify/few_shot.py were chosen by: no test file is among it.

    python benchmarks/few_shot.py DIR

DIR holds banking77/train.csv. Examples are drawn from it, and measured on the rest of it (balanced accuracy; for multi
mode mean F1), by other seeds than those of `quality.py`. The same is done with the sample tickets, which are in several
languages, and whose eleven labels are described.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from quality import CHUNK, read

from stream_classifier.classify.cosine_scores import (
    MULTI_THRESHOLD,
    cosines,
    margin_vectors,
    multi_scores,
    single_scores,
)
from stream_classifier.classify.embedding import Embedder
from stream_classifier.classify.few_shot import SHRINKAGE, Compared, discriminants, margins
from stream_classifier.classify.labels import Label, choose, load_label_sets
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.topics import UNRELATED_TOPICS
from stream_classifier.evaluation.fitting import fit_temperature
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path, load_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_classifier.classify.cosine_scores import Embeddings, Floats

Places = NDArray[np.int64]

COUNTS = (1, 3, 5, 10)


class Data(NamedTuple):
    """Everything, embedded: texts [texts, dimensions], their labels [texts], names, topics; and the temperature."""

    texts: Embeddings
    gold: Places
    names: Embeddings
    topics: Embeddings
    temperature: float


class Drawn(NamedTuple):
    """Some labels with examples, and the texts that are left of them (and, for multi mode, of others)."""

    names: Embeddings
    examples: list[Embeddings]
    texts: Embeddings
    gold: Places


def draw(data: Data, labels: int, count: int, seed: int, *, without: int = 0, others: float = 0) -> Drawn:
    """So many labels, of which the last few have no examples; with a share of the other labels' texts, as -1."""
    random = np.random.default_rng([seed, labels, count])
    chosen = random.permutation(len(data.names))[:labels]
    places = [random.permutation(np.flatnonzero(data.gold == label))[:count] for label in chosen]
    places[labels - without :] = [place[:0] for place in places[labels - without :]]
    number = np.full(len(data.names), -1)
    number[chosen] = np.arange(labels)
    gold = number[data.gold]
    kept = (gold >= 0) | (random.random(len(gold)) < others)
    kept[np.concatenate(places)] = False
    return Drawn(data.names[chosen], [data.texts[place] for place in places], data.texts[kept], gold[kept])


def unit(rows: Floats) -> Floats:
    """Rows of unit length."""
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


def bare(names: Embeddings, _: Sequence[Embeddings]) -> Compared:
    """The cosine to the name."""
    return Compared(names, np.zeros(len(names)))


def mean(names: Embeddings, examples: Sequence[Embeddings]) -> Compared:
    """The cosine to the mean of name and examples."""
    centres = [np.vstack([name[None], rows]).mean(axis=0) for name, rows in zip(names, examples, strict=True)]
    return Compared(unit(np.array(centres)), np.zeros(len(names)))


def unmoved(names: Embeddings, examples: Sequence[Embeddings]) -> Compared:
    """The discriminants, with names as one more example where they are."""
    dimensions = names.shape[1]
    points = [np.vstack([name[None], rows]).astype(np.float64) for name, rows in zip(names, examples, strict=True)]
    means = np.array([rows.mean(axis=0) for rows in points])
    residuals = np.concatenate([rows - centre for rows, centre in zip(points, means, strict=True)])
    total = sum(map(len, examples))
    shrinkage = float(np.clip(dimensions / (dimensions + total), *SHRINKAGE))
    covariance = residuals.T @ residuals / total
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / dimensions * np.eye(dimensions)
    vectors = np.linalg.solve(covariance, means.T).T
    return Compared(vectors, -(vectors * means).sum(axis=1) / 2)


def near(compared: Compared, texts: Embeddings) -> Floats:
    """How near each text is to each label."""
    return np.concatenate(
        [cosines(texts[start : start + CHUNK], compared.vectors) for start in range(0, len(texts), CHUNK)]
    ) + np.asarray(compared.offsets)


def recalls(compared: Compared, drawn: Drawn) -> Floats:
    """The share of each label's texts that get it, [labels]."""
    right = near(compared, drawn.texts).argmax(axis=1) == drawn.gold
    return np.array([right[drawn.gold == label].mean() for label in range(len(drawn.names))])


def mean_f1(scores: Floats, gold: Places) -> float:
    """Over the labels, at the threshold that labels have by default."""
    given, truths = scores >= MULTI_THRESHOLD, np.arange(scores.shape[1]) == gold[:, None]
    return float((2 * (given & truths).sum(axis=0) / (given.sum(axis=0) + truths.sum(axis=0))).mean())


def show_single(data: Data, tickets: Data) -> None:
    """All labels with examples; and half of 40 of banking77's."""
    ways = {"bare names": bare, "mean": mean, "discriminants, names unmoved": unmoved, "discriminants": discriminants}
    for title, labelled, labels, times in (("banking77", data, 77, 4), ("sample tickets", tickets, 11, 12)):
        heading = f"{title}, so many examples each"
        print(f"\n{heading:<34}" + "".join(f"{count:>8}" for count in COUNTS))
        for name, way in ways.items():
            found = [
                np.mean([recalls(way(*one[:2]), one) for one in _draws(labelled, labels, count, times)])
                for count in COUNTS
            ]
            print(f"{name:<34}" + "".join(f"{each:>8.3f}" for each in found), flush=True)
    print(f"\n{'40 labels, 3 examples for half':<34}{'all':>8}{'with':>8}{'without':>9}")
    for name, way in ways.items():
        rows = np.array([recalls(way(*one[:2]), one) for one in _draws(data, 40, 3, 12, without=20)])
        print(f"{name:<34}{rows.mean():>8.3f}{rows[:, :20].mean():>8.3f}{rows[:, 20:].mean():>9.3f}", flush=True)


def show_temperatures(data: Data) -> None:
    """The temperatures that fit best, over the default: 1 where the default does."""
    print(f"\n{'best temperature over the default':<34}" + "".join(f"{count:>8}" for count in (*COUNTS, 30)))
    for labels in (2, 5, 11, 40, 77):
        found = []
        for count in (*COUNTS, 30):
            fits = []
            for one in _draws(data, labels, count, 3):
                scores = single_scores(near(discriminants(*one[:2]), one.texts), 1.0)
                fits.append(np.log(fit_temperature(scores, np.arange(labels) == one.gold[:, None], "single")))
            found.append(np.exp(np.mean(fits)))
        print(f"{labels:>3} labels{'':<24}" + "".join(f"{each:>8.2f}" for each in found), flush=True)


def show_multi(data: Data) -> None:
    """Ten labels, with about as many texts of others as of each of them together."""
    print(f"\n{'multi, 10 labels: mean F1 at .5':<34}" + "".join(f"{count:>8}" for count in COUNTS))
    ways: dict[str, Callable[[Drawn], Compared]] = {
        "bare names": lambda one: Compared(margin_vectors(one.names, data.topics), np.zeros(10)),
        "means, threshold unmoved": lambda one: Compared(
            margin_vectors(mean(*one[:2]).vectors.astype(np.float32), data.topics), np.zeros(10)
        ),
        "means": lambda one: margins(*one[:2], data.topics, data.temperature),
    }
    for name, way in ways.items():
        found = []
        for count in COUNTS:
            draws = _draws(data, 10, count, 8, others=0.2)
            found.append(
                np.mean([mean_f1(multi_scores(near(way(one), one.texts), data.temperature), one.gold) for one in draws])
            )
        print(f"{name:<34}" + "".join(f"{each:>8.3f}" for each in found), flush=True)


def _draws(data: Data, labels: int, count: int, times: int, **more: Any) -> list[Drawn]:  # noqa: ANN401 - of `draw`
    return [draw(data, labels, count, seed + 10, **more) for seed in range(times)]


def main() -> None:
    """Embed the training file, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    train = read(options.data / "banking77" / "train.csv")
    encoder = Encoder.open(None)
    embedder = Embedder(encoder, max_tokens=512)

    def embedded(texts: Sequence[str]) -> Embeddings:
        return np.concatenate(
            [embedder.embed(texts[start : start + CHUNK], Measures()).rows for start in range(0, len(texts), CHUNK)]
        )

    topics = embedded(UNRELATED_TOPICS)

    def data(texts: Sequence[str], gold: Sequence[str], labels: Sequence[Label]) -> Data:
        names = [label.name for label in labels]
        places = np.array([names.index(name) for name in gold])
        return Data(embedded(texts), places, embedded([label.reads for label in labels]), topics, encoder.temperature)

    with label_set_path() as path:
        support = choose(load_label_sets(path), None)
    samples = [sample for sample in load_samples() if sample.gold in support.names and sample.value]
    tickets = data(
        [orjson.loads(sample.value or b"")["text"] for sample in samples],
        [sample.gold or "" for sample in samples],
        support.labels,
    )
    banking = data(train.texts, train.categories, [Label(name) for name in sorted(set(train.categories))])
    show_single(banking, tickets)
    show_temperatures(banking)
    show_multi(banking)


if __name__ == "__main__":
    main()
