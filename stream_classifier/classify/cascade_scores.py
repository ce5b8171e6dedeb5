"""When two models are better than one, and what their scores are together. Pure, and row by row.

Single mode. Similarity is in doubt where its best two scores are no further apart than the margin. Then its best
labels are put to entailment. A label's score is the chance that the answer is among these, as similarity has it, times
the chance that it is the one of them, as entailment has it. So the scores of a text still sum to 1, the best of these
labels is the best of all (its share is at least their mean, and no other label had more than the least of them), and a
threshold means what it means for similarity. Of a set of one label similarity can say nothing, so it is always put to
entailment, whose score it gets.

Multi mode. Each label stands for itself, so each is in doubt by itself, where its score is no further from its
threshold than the margin. The best of the labels in doubt are put to entailment, and get its scores in place of
similarity's.
"""

from collections.abc import Sequence

import numpy as np

from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import Mode


def in_doubt(scores: Floats, thresholds: Sequence[float], mode: Mode, *, top_k: int, margin: float) -> list[list[int]]:
    """What is to be put to entailment.

    Args:
        scores: By similarity, [texts, labels].
        thresholds: Of each label, the least score at which it is given.
        mode: Of the label set.
        top_k: How many labels of a text are put to entailment, at most.
        margin: How far apart scores have to be for similarity to be sure.

    Returns:
        For each text indexes of labels, the best first; none where similarity is sure.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")
    if mode == "multi":
        unsure = np.abs(scores - np.array(thresholds)) <= margin
        pairs = zip(ranked.tolist(), unsure, strict=True)
        return [[label for label in labels if of_text[label]][:top_k] for labels, of_text in pairs]
    if scores.shape[1] == 1:
        return [[0] for _ in scores]
    best = np.take_along_axis(scores, ranked[:, :2], axis=1)
    unsure = best[:, 0] - best[:, 1] <= margin
    return [labels[:top_k] if is_unsure else [] for labels, is_unsure in zip(ranked.tolist(), unsure, strict=True)]


def combined(similar: Floats, entailed: Floats, labels: Sequence[int], mode: Mode) -> Floats:
    """The scores of a text that was put to entailment.

    Args:
        similar: By similarity, [labels].
        entailed: By entailment, [labels]; in single mode those that it was asked about sum to 1, if they are several.
        labels: Indexes of those that it was asked about.
        mode: Of the label set.

    Returns:
        Scores from 0 to 1, [labels]; in single mode of several labels they sum to 1.
    """
    asked = list(labels)
    scores = similar.copy()
    scores[asked] = entailed[asked] * (similar[asked].sum() if mode == "single" else 1)
    return scores
