"""Scores made more or less decided, in whatever way they came about. Pure, and row by row.

Guo et al., On Calibration of Modern Neural Networks (2017): one number, fitted on labelled texts, makes scores say how
often they are right. Here it divides the log odds of scores that a model has made already, so that it means the same
for every model and every way of scoring, and 1 leaves them as they are. No label changes its rank by it.
"""

from typing import Final, Literal

import numpy as np

from stream_classifier.classify.cosine_scores import Floats

_LEAST: Final = np.finfo(np.float64).tiny
_MOST: Final = 1 - np.finfo(np.float64).epsneg


def tempered(scores: Floats, mode: Literal["single", "multi"], temperature: float) -> Floats:
    """Divide the log odds of scores by a temperature.

    Args:
        scores: From 0 to 1, [texts, labels]; in single mode they sum to 1.
        mode: In single mode the odds are between the labels, in multi mode between a label and its absence.
        temperature: More than 0; over 1 scores become less decided, under 1 more.

    Returns:
        Scores from 0 to 1, [texts, labels]; in single mode they sum to 1.
    """
    if temperature == 1:
        return scores
    logs = np.log(np.maximum(scores, _LEAST))
    if mode == "multi":
        odds = logs - np.log1p(-np.minimum(scores, _MOST))
        likely: Floats = np.exp(-np.logaddexp(0.0, -odds / temperature))
        return likely
    weights: Floats = np.exp((logs - logs.max(axis=1, keepdims=True)) / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
