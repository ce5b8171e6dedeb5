"""Labels that have examples: what texts are compared with then. Pure, and in closed form: nothing is trained.

Single mode: linear discriminant analysis (Fisher 1936; Hastie, Tibshirani and Friedman, The Elements of Statistical
Learning, 4.3) of embeddings, with a shrunk covariance (Friedman 1989) and the names as prior means. Three things make
it work with few examples, and with some labels that have none:

- A name lies elsewhere than the texts it stands for: it is a few words, they are sentences. So names are moved to
  where their texts would lie: to the mean of the labels' examples, and there by as much as a regression of examples on
  names says. That is a label's mean where it has no examples; where it has, it counts as three of them.
- All labels share one covariance, of the examples and moved names about their labels' means. It discounts what tells
  texts apart and not labels, such as their language.
- It is shrunk towards the same variance in all directions, with few examples more than with many.

By `benchmarks/few_shot.py`: balanced accuracy on what was not drawn as an example, with 1, 3, 5 and 10 examples of each
label. "Mean" is the cosine to the mean of the name's and the examples' embeddings; "unmoved" the same analysis with
names as examples where they are.

                                  bare names   mean                      unmoved                   as it is
    banking77 train, 77 labels          .549   .609 .684 .718 .764       .635 .721 .759 .808       .647 .718 .754 .805
    tickets, 11 labels described        .616   .424 .494 .546 .618       .554 .648 .694 .754       .667 .703 .730 .769

With three examples for half of 40 labels, .814 of those with examples and .632 of the others are found; unmoved .858
and .341, by the mean .841 and .258, by bare names .625 and .633. It takes examples of two labels at least: with those
of only one, all other labels lose.

Multi mode: a label stands for itself, so it may not be compared with the others. Its vector is the mean of its name
(counted as three) and its examples, less the topics nearest to that, as in `cosine_scores`. Texts are nearer to a mean
of texts than to a name, though, so its threshold moves: a text that is as near as nine tenths of what a further
example can be expected to be has the score .5. By the same benchmark, ten labels, and beside their texts as many of
other labels: the mean F1 at the threshold .5 is .508, .572, .603 and .683 with 1, 3, 5 and 10 examples, and without
the move .126 and less; bare names have .33 to .36.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from stream_classifier.classify.cosine_scores import RIVALS, Embeddings, Floats, cosines, margin_vectors

NAME_WEIGHT: Final = 3
"""How many examples a name counts as."""

SHRINKAGE: Final = (0.6, 0.8)
"""The share of the covariance that is the same in all directions, from many examples to few.

Never more than .8, however few there are: what is shared by all labels and not about any, such as the language of a
text, shows already in a few examples, and has to be discounted.
"""

TEMPERATURE: Final = 16.0
"""What the discriminants are divided by for labels of one example each; for n each, 16 / n^(1/6).

Those that are best by likelihood on banking77's training file, for 5 to 77 labels with 1 to 30 examples, are .75 to
1.4 times as high; see `benchmarks/few_shot.py`.
"""

NEAR: Final = 0.9
"""Multi mode: the share of an example's expected margin at which a score is .5."""

LONE_EXAMPLE: Final = 0.4
"""Multi mode: how much more alike than name and example two examples are, as a share of what is missing to 1.

Only for a label with a single example; else the examples tell. Fitted on banking77's training file.
"""

_LEAST_VARIANCE: Final = 1e-6


class Compared(NamedTuple):
    """What texts are compared with: a text's score is its inner product with a label's vector, plus its offset.

    Attributes:
        vectors: [labels, dimensions].
        offsets: [labels].
    """

    vectors: Floats | Embeddings
    offsets: Floats


def discriminants(names: Embeddings, examples: Sequence[Embeddings]) -> Compared:
    """The linear discriminants of labels, divided by their temperature: softmax makes scores of them.

    Args:
        names: Embeddings of the labels' names, [labels, dimensions].
        examples: Embeddings of each label's examples, [examples, dimensions]; some may have none, not all.
    """
    dimensions = names.shape[1]
    given = [rows.astype(np.float64) for rows in examples]
    counts = np.array([len(rows) for rows in given])
    moved = _moved(names.astype(np.float64), given)
    sums = np.array([rows.sum(axis=0) for rows in given])
    means = (NAME_WEIGHT * moved + sums) / (NAME_WEIGHT + counts)[:, None]

    with_examples = np.flatnonzero(counts)
    about_means = [given[label] - means[label] for label in with_examples]
    about_means.append(np.sqrt(NAME_WEIGHT) * (moved - means)[with_examples])
    residuals = np.concatenate(about_means)
    covariance = residuals.T @ residuals / counts.sum()
    variance = max(float(np.trace(covariance)) / dimensions, _LEAST_VARIANCE)
    shrinkage = min(max(dimensions / (dimensions + int(counts.sum())), SHRINKAGE[0]), SHRINKAGE[1])
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(dimensions)

    vectors: Floats = np.linalg.solve(shrunk, means.T).T
    offsets: Floats = -(vectors * means).sum(axis=1) / 2
    temperature = TEMPERATURE / max(1.0, float(counts.mean())) ** (1 / 6)
    return Compared(vectors / temperature, offsets / temperature)


def _moved(names: Floats, examples: Sequence[Floats]) -> Floats:
    """The names, moved to where texts of their labels would lie, as the labels with examples show it."""
    with_examples = [label for label, rows in enumerate(examples) if len(rows)]
    own = names[with_examples]
    means = np.array([examples[label].mean(axis=0) for label in with_examples])
    spread = own - own.mean(axis=0)
    square = float((spread * spread).sum())
    slope = float((spread * (means - means.mean(axis=0))).sum()) / square if square > _LEAST_VARIANCE else 1.0
    moved: Floats = means.mean(axis=0) + min(max(slope, 0.0), 1.0) * (names - own.mean(axis=0))
    return moved


def margins(names: Embeddings, examples: Sequence[Embeddings], topics: Embeddings, temperature: float) -> Compared:
    """Multi mode: vectors whose inner product with a text, plus the offset, is the margin that `multi_scores` takes.

    Args:
        names: Embeddings of the labels' names, [labels, dimensions].
        examples: Embeddings of each label's examples, [examples, dimensions]; any may have none.
        topics: Unrelated topics, [topics, dimensions].
        temperature: The bundle's.
    """
    centres = names.astype(np.float64)
    lengths = np.ones(len(names))
    for label, rows in enumerate(examples):
        if len(rows):
            centres[label] = NAME_WEIGHT * centres[label] + rows.astype(np.float64).sum(axis=0)
            lengths[label] = max(float(np.linalg.norm(centres[label])), _LEAST_VARIANCE)
            centres[label] /= lengths[label]
    vectors = margin_vectors(centres.astype(np.float32), topics)
    offsets = np.zeros(len(names))
    for label, rows in enumerate(examples):
        if len(rows):
            # An example takes part in its own mean; a further one would not.
            own = float(cosines(rows, vectors[label : label + 1]).mean())
            expected = own - (1 - _alike(names[label], rows)) / lengths[label]
            offsets[label] = temperature * np.log(RIVALS) - NEAR * expected
    return Compared(vectors, offsets)


def _alike(name: Embeddings, examples: Embeddings) -> float:
    """The mean cosine of two different examples of a label."""
    count = len(examples)
    if count == 1:
        to_name = float(cosines(examples, name[None])[0, 0])
        return to_name + LONE_EXAMPLE * (1 - to_name)
    pairs = cosines(examples, examples)
    return float((pairs.sum() - np.trace(pairs)) / (count * (count - 1)))
