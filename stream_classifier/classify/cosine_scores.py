"""Scores from embeddings. Pure, and row by row: nothing else in the batch can change a text's score by a single bit.

Single mode. The scores of a text are the softmax of its cosines to the labels, divided by the bundle's temperature.
They sum to 1, and one label's gain is another's loss.

Multi mode. A label's score does not depend on the other labels: several can be right at once, and a label that is
added leaves the scores and the thresholds of the others as they are. A cosine by itself will not do, though. Those of
E5 lie between .71 and .99, and how high they are is more a matter of the language and the wording than of the topic.
So a label is compared with unrelated topics that resemble it in just these ways: those ten of `UNRELATED_TOPICS`
whose embeddings are nearest to its own, mostly the ones in its language. Its score is its softmax against fifty
topics that fit the text as well as those ten do on average: 1 / (1 + 50 exp(-margin / temperature)).

Measured with the built-in model on eight pairs of texts (tickets, crosswoz, banking77; 74 to 260 of each) and labels
(with and without descriptions, in Chinese and English): at the default threshold of .5 the mean F1 is .57; at the
best threshold for each pair it would be .70, and for bare cosines, tried on four of the pairs, .40 to .53. Comparing
a label with its set's mean cosine instead gives .69 and .74, but then labels compete: of a set of two, a text could
never have both.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]

NEAREST_TOPICS: Final = 10
RIVALS: Final = 50
MULTI_THRESHOLD: Final = 0.5
"""The threshold of a label in multi mode where neither it nor its set gives one."""


def cosines(texts: Embeddings, vectors: Embeddings | Floats) -> Floats:
    """The inner product of each text with each vector: the cosine, where both have unit length.

    One matrix-vector product a text, all of one shape: the product of two matrices is faster, but the order in which it
    sums depends on the number of rows.

    Args:
        texts: [texts, dimensions].
        vectors: [vectors, dimensions].

    Returns:
        [texts, vectors].
    """
    products: Floats = np.matmul(vectors.astype(np.float64)[None], texts.astype(np.float64)[:, :, None]).squeeze(2)
    return products


def single_scores(cosines: Floats, temperature: float) -> Floats:
    """The softmax over the labels.

    Args:
        cosines: Of each text to each label, [texts, labels].
        temperature: The bundle's; the smaller, the more decided.

    Returns:
        Scores from 0 to 1 that sum to 1 for each text, [texts, labels].
    """
    exponents = (cosines - cosines.max(axis=1, keepdims=True)) / temperature
    weights: Floats = np.exp(exponents)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def margin_vectors(labels: Embeddings, topics: Embeddings) -> Embeddings:
    """Vectors whose inner product with a text is how much nearer it is to a label than to unrelated topics.

    Args:
        labels: [labels, dimensions].
        topics: Unrelated topics, [topics, dimensions].

    Returns:
        Each label less the mean of the topics nearest to it, [labels, dimensions].
    """
    nearest = np.argsort(-cosines(labels, topics), axis=1, kind="stable")[:, :NEAREST_TOPICS]
    means: Floats = topics.astype(np.float64)[nearest].mean(axis=1)
    return (labels - means).astype(np.float32)


def multi_scores(margins: Floats, temperature: float) -> Floats:
    """The softmax of each label by itself against fifty unrelated topics.

    Args:
        margins: How much nearer each text is to each label than to the topics, [texts, labels].
        temperature: The bundle's.

    Returns:
        Scores from 0 to 1, each on its own, [texts, labels].
    """
    scores: Floats = np.exp(-np.logaddexp(0.0, np.log(RIVALS) - margins / temperature))
    return scores
