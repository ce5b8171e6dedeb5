"""Temperatures and thresholds fitted to labelled texts. Pure: a search along one line, and nothing is trained.

What is fitted and measured on the same texts looks better than it is. So everything is fitted on each half and
measured on the other, and only what is proposed in the end is fitted on all.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_classifier.classify.classification import SCORE_DECIMALS
from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import Mode
from stream_classifier.classify.temperature import tempered
from stream_classifier.evaluation.calibration import Truths

TEMPERATURES: Final = (0.05, 20.0)
"""Between which the best one is looked for."""

FEWEST_POSITIVES: Final = 5
"""Texts that a label must fit before a threshold of its own is worth proposing."""

_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_STEPS: Final = 40
_LEAST: Final = 1e-12


def halves(texts: int, seed: int = 0) -> NDArray[np.bool_]:
    """Which texts are in the first of two random halves, [texts]. The same number gives the same halves."""
    first = np.zeros(texts, np.bool_)
    first[np.random.default_rng(seed).permutation(texts)[: texts // 2]] = True
    return first


def likelihood_loss(scores: Floats, truths: Truths, mode: Mode) -> float:
    """The mean negative log likelihood of the truth, in nats: per text in single mode, per label of a text in multi.

    Args:
        scores: [texts, labels].
        truths: Which labels each text has, [texts, labels]; exactly one in single mode.
        mode: As the scores were made.
    """
    if mode == "single":
        return float(-np.log(np.maximum(scores[truths], _LEAST)).mean())
    return float(-np.log(np.maximum(np.where(truths, scores, 1 - scores), _LEAST)).mean())


def fit_temperature(scores: Floats, truths: Truths, mode: Mode) -> float:
    """The temperature that makes the truth most likely.

    The loss is convex in the temperature's inverse, so that it has one valley, and golden-section search finds it.

    Args:
        scores: At temperature 1, [texts, labels].
        truths: Which labels each text has, [texts, labels].
        mode: As the scores were made.

    Returns:
        A temperature within `TEMPERATURES`, to three digits.
    """

    def loss(log_temperature: float) -> float:
        return likelihood_loss(tempered(scores, mode, math.exp(log_temperature)), truths, mode)

    low, high = (math.log(bound) for bound in TEMPERATURES)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return float(f"{math.exp((low + high) / 2):.3g}")


class Answered(NamedTuple):
    """What becomes of texts at a threshold.

    Attributes:
        threshold: The least score at which a label is given.
        coverage: The share of texts that get one.
        accuracy: The share of those that get the right one; 1 where none gets one.
    """

    threshold: float
    coverage: float
    accuracy: float


def answered_at(threshold: float, best: Floats, right: Truths) -> Answered:
    """What becomes of texts at a threshold.

    Args:
        threshold: The least score.
        best: The best score of each text, [texts].
        right: Whether the label with that score is the text's, [texts].
    """
    over = np.round(best, SCORE_DECIMALS) >= threshold
    return Answered(threshold, float(over.mean()), float(right[over].mean()) if over.any() else 1.0)


def threshold_for(accuracy: float, best: Floats, right: Truths) -> float | None:
    """The least threshold at which so many of the labels that are given are right.

    Args:
        accuracy: The share that has to be right.
        best: The best score of each text, [texts].
        right: Whether the label with that score is the text's, [texts].

    Returns:
        0 where all may be given; None where no threshold does it.
    """
    order = np.argsort(-best, kind="stable")
    scores, hits = np.round(best[order], SCORE_DECIMALS), np.cumsum(right[order])
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))  # texts with the same score get a label together
    enough = last[hits[last] >= accuracy * (last + 1)]
    if not len(enough):
        return None
    return 0.0 if enough[-1] == len(best) - 1 else _between(scores, int(enough[-1]))


def best_threshold(scores: Floats, truths: Truths) -> float | None:
    """The threshold at which a label's F1 is best.

    Args:
        scores: Of one label, [texts].
        truths: Which of the texts it fits, [texts].

    Returns:
        None where it fits too few for that to be known.
    """
    positives = int(truths.sum())
    if positives < FEWEST_POSITIVES:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hits = np.round(scores[order], SCORE_DECIMALS), np.cumsum(truths[order])
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    f1 = 2 * hits[last] / (last + 1 + positives)
    return _between(ranked, int(last[np.argmax(f1)]))


def _between(descending: Floats, last: int) -> float:
    """A threshold that the scores up to this place reach, and the next one does not: the middle of both."""
    following = float(descending[last + 1]) if last + 1 < len(descending) else 0.0
    middle = round((float(descending[last]) + following) / 2, SCORE_DECIMALS)
    return middle if middle > following else float(descending[last])
