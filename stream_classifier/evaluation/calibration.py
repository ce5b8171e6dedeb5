"""Whether scores say how often they are right. Pure."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_classifier.classify.cosine_scores import Floats

BINS: Final = 15
"""Bins of equal width, as in Guo et al. (2017)."""

Truths = NDArray[np.bool_]


class Reliability(NamedTuple):
    """Scores by bins, and how many of them were right.

    Attributes:
        counts: Scores in each bin, [bins].
        scores: Their sum, [bins].
        right: How many of them were right, [bins].
    """

    counts: Floats
    scores: Floats
    right: Floats

    @classmethod
    def of(cls, scores: Floats, right: Truths) -> "Reliability":
        """Put scores into bins.

        Args:
            scores: From 0 to 1, of any shape.
            right: Whether what has this score is so, of the same shape.
        """
        flat = scores.ravel()
        places = np.minimum((flat * BINS).astype(np.int64), BINS - 1)
        ones = np.ones(len(flat))
        sums = [np.bincount(places, weights, BINS).astype(np.float64) for weights in (ones, flat, right.ravel())]
        return cls(*sums)

    def plus(self, other: "Reliability") -> "Reliability":
        """Both together."""
        return Reliability(*(one + another for one, another in zip(self, other, strict=True)))

    @property
    def error(self) -> float:
        """Expected calibration error: the mean difference of score and share that is right, weighted by counts."""
        total = float(self.counts.sum())
        return float(np.abs(self.scores - self.right).sum()) / total if total else 0.0


def nothing() -> Reliability:
    """Of no scores at all."""
    return Reliability(np.zeros(BINS), np.zeros(BINS), np.zeros(BINS))
