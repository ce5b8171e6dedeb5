"""What comes out: a classification, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import orjson

from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import LabelSet
from stream_classifier.model.bundle import Task

SCORE_DECIMALS: Final = 4


@dataclass(frozen=True, slots=True)
class Classification:
    """The labels of one text.

    Attributes:
        label: The best label; None when no label reaches its threshold.
        score: The best score, whether or not it reaches a threshold.
        labels: Names and scores, best first: the best few in single mode, all over their own thresholds in multi mode.
        label_set: Identity of the label set.
        model: Identity of the model bundle.
        truncated: Whether the text was longer than the model reads.
        decided_by: With two models, which of them had the last word; None with one.
        encoded: All of this as JSON, ready to become a member of an event.
    """

    label: str | None
    score: float
    labels: tuple[tuple[str, float], ...]
    label_set: str
    model: str
    truncated: bool
    decided_by: Task | None = None
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        members: dict[str, object] = {
            "label": self.label,
            "score": self.score,
            "labels": [{"label": label, "score": score} for label, score in self.labels],
            "label_set": self.label_set,
            "model": self.model,
            "truncated": self.truncated,
        }
        if self.decided_by is not None:
            members["decided_by"] = self.decided_by
        object.__setattr__(self, "encoded", orjson.dumps(members))


@dataclass(frozen=True, slots=True)
class Failure:
    """A text that the model cannot label, though it labels others.

    Attributes:
        message: Why, without the text.
        code: The reason code of the dead letter.
        label_set: Identity of the label set that it was to be labelled with; None when that is not known.
    """

    message: str
    code: str = "inference_failed"
    label_set: str | None = None


def decide(
    label_set: LabelSet,
    scores: Floats,
    truncated: Sequence[bool],
    *,
    model: str,
    top_k: int,
    decided_by: Sequence[Task] | None = None,
) -> list[Classification]:
    """Turn scores into classifications. Thresholds are compared with the rounded scores, which are what one sees.

    Args:
        label_set: Whose labels the scores are for.
        scores: [texts, labels].
        truncated: Of each text, whether it was longer than the model reads.
        model: Identity of the bundle.
        top_k: How many labels to list in single mode.
        decided_by: Of each text, which of two models had the last word; None with one model.

    Returns:
        One classification a text.
    """
    multi = label_set.mode == "multi"
    listed = len(label_set.labels) if multi else top_k
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :listed]
    ranked_scores = np.round(np.take_along_axis(scores, ranked, axis=1), SCORE_DECIMALS)
    reached = ranked_scores >= np.array(label_set.thresholds)[ranked]
    names, identity = label_set.names, label_set.identity
    by_whom: Sequence[Task | None] = [None] * len(truncated) if decided_by is None else decided_by
    results = []
    for ranks, row, over, was_truncated, by in zip(
        ranked.tolist(), ranked_scores.tolist(), reached.tolist(), truncated, by_whom, strict=True
    ):
        labels = [(names[rank], score) for rank, score in zip(ranks, row, strict=True)]
        if multi:
            labels = [label for label, is_over in zip(labels, over, strict=True) if is_over]
            label, score = labels[0] if labels else (None, row[0])
        else:
            label, score = (labels[0][0] if over[0] else None), row[0]
        results.append(Classification(label, score, tuple(labels), identity, model, was_truncated, by))
    return results
