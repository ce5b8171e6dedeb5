"""Scores from the logits of a model of entailment. Pure, and row by row, as those from embeddings are.

Single mode. The scores of a text are the softmax, over the labels, of the logits of "this text entails that it is about
the label". They sum to 1. "Contradicted" and "neutral" do not matter: the labels compete.

Multi mode, and single mode with one label, which has nothing to compete with. A label's score is the softmax of its own
two logits, "entailed" against "contradicted": each stands for itself.

Both as in Yin, Hay and Roth, "Benchmarking Zero-shot Text Classification" (EMNLP 2019) and in transformers' zero-shot
pipeline, whose scores these are when the temperature is 1.
"""

import numpy as np
from numpy.typing import NDArray

from stream_classifier.classify.cosine_scores import Floats

Logits = NDArray[np.float32]


def entailment_scores(logits: Logits, asked: NDArray[np.bool_], temperature: float, *, compete: bool) -> Floats:
    """How much each text entails each label.

    Args:
        logits: Of "contradicted" and "entailed", [texts, labels, 2].
        asked: Which labels each text was compared with, [texts, labels]; of the others the logits mean nothing.
        temperature: The bundle's; divides the logits.
        compete: Whether the labels of a text compete, where it has several: single mode.

    Returns:
        Scores from 0 to 1, [texts, labels], 0 for labels that were not asked about. Where labels compete, those of a
        text sum to 1, if it was asked about several.
    """
    scaled = logits.astype(np.float64) / temperature
    margins = scaled[..., 1] - scaled[..., 0]
    scores: Floats = np.where(asked, np.exp(-np.logaddexp(0.0, -margins)), 0.0)
    several = asked.sum(axis=1) > 1
    if compete and several.any():
        entailed = np.where(asked, scaled[..., 1], -np.inf)[several]
        weights = np.exp(entailed - entailed.max(axis=1, keepdims=True))
        scores[several] = weights / weights.sum(axis=1, keepdims=True)
    return scores
