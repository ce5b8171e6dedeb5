"""What is counted while labelled texts go by: no text is kept, and nothing grows with their number. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_classifier.classify.classification import SCORE_DECIMALS
from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import LabelSet
from stream_classifier.evaluation.calibration import Reliability, Truths, nothing
from stream_classifier.model.bundle import Task

Counts = NDArray[np.int64]


def given(label_set: LabelSet, scores: Floats) -> Truths:
    """Which labels the worker would give: decided as `classification.decide` does.

    Args:
        label_set: Whose labels the scores are for.
        scores: [texts, labels].

    Returns:
        [texts, labels]; in single mode one at most.
    """
    reached: Truths = np.round(scores, SCORE_DECIMALS) >= np.array(label_set.thresholds)
    if label_set.mode == "multi":
        return reached
    best: Truths = np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
    return reached & best


class Decided(NamedTuple):
    """What one model of a cascade had the last word on.

    Attributes:
        texts: How many.
        right: Those of them that got just the labels that they should.
    """

    texts: int = 0
    right: int = 0


class Tally:
    """Counts of what was given and what would have been right.

    Args:
        label_set: Whose labels are given.

    Attributes:
        label_set: As given.
        texts: Texts so far.
        answered: Those that got a label.
        right: Those that got just the labels that they should.
        right_of_answered: Those of them that got a label; in multi mode nothing can be right, too.
        confusion: Texts that have a label, by it and by what they got, [labels, labels + 1]; the last is nothing.
        hits: Of each label, the texts that have it and got it, [labels].
        got: Of each label, the texts that got it, [labels].
        support: Of each label, the texts that have it, [labels].
        reliability: Best scores, or in multi mode all, and whether their label was right.
        decided: By the model that had the last word, in a cascade; without one it is empty.
    """

    def __init__(self, label_set: LabelSet) -> None:
        labels = len(label_set.labels)
        self.label_set = label_set
        self.texts = self.answered = self.right = self.right_of_answered = 0
        self.confusion: Counts = np.zeros((labels, labels + 1), np.int64)
        self.hits: Counts = np.zeros(labels, np.int64)
        self.got: Counts = np.zeros(labels, np.int64)
        self.support: Counts = np.zeros(labels, np.int64)
        self.reliability: Reliability = nothing()
        self.decided: dict[Task, Decided] = {}

    def add(self, scores: Floats, truths: Truths, decided_by: Sequence[Task] = ()) -> Truths:
        """Count some texts.

        Args:
            scores: [texts, labels].
            truths: Which labels each text has, [texts, labels]; exactly one in single mode.
            decided_by: Of each text, which model of a cascade had the last word; empty without a cascade.

        Returns:
            Which of the texts got just the labels that they should, [texts].
        """
        labels = given(self.label_set, scores)
        right: Truths = (labels == truths).all(axis=1)
        some = labels.any(axis=1)
        self.texts += len(scores)
        self.answered += int(some.sum())
        self.right += int(right.sum())
        self.right_of_answered += int((right & some).sum())
        for task in dict.fromkeys(decided_by):
            its_own = np.array([by == task for by in decided_by])
            before = self.decided.get(task, Decided())
            self.decided[task] = Decided(before.texts + int(its_own.sum()), before.right + int(right[its_own].sum()))
        # Of floats, which count as exactly, and are multiplied many times as fast as integers.
        pairs = truths.T.astype(np.float64) @ np.column_stack([labels, ~some]).astype(np.float64)
        self.confusion += pairs.astype(np.int64)
        self.hits += (labels & truths).sum(axis=0)
        self.got += labels.sum(axis=0)
        self.support += truths.sum(axis=0)
        if self.label_set.mode == "multi":
            fresh = Reliability.of(scores, truths)
        else:
            best = scores.argmax(axis=1)[:, None]
            fresh = Reliability.of(np.take_along_axis(scores, best, axis=1), np.take_along_axis(truths, best, axis=1))
        self.reliability = self.reliability.plus(fresh)
        return right
