"""What an evaluation found. Pure."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_classifier.classify.labels import Mode
from stream_classifier.evaluation.calibration import Reliability
from stream_classifier.evaluation.tally import Counts, Decided, Tally
from stream_classifier.model.bundle import Task


class LabelResult(NamedTuple):
    """How well one label is given.

    Attributes:
        name: Its name.
        precision: The share of the texts that got it that have it; None where none got it.
        recall: The share of the texts that have it that got it; None where none has it.
        f1: The harmonic mean of both; None where no text has it or got it.
        support: Texts that have it.
        given: Texts that got it.
        threshold: The least score at which it is given.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    given: int
    threshold: float


class DecidedBy(NamedTuple):
    """How well one model of a cascade does on the texts that it had the last word on.

    Attributes:
        task: Of the model: `similarity` or `entailment`.
        texts: How many.
        share: The share that they are of all texts.
        accuracy: The share of them that got just the labels that they should; None where there are none.
    """

    task: Task
    texts: int
    share: float
    accuracy: float | None


class Confusion(NamedTuple):
    """One label given for another.

    Attributes:
        gold: What the texts have.
        given: What they got; None for nothing.
        texts: How many.
    """

    gold: str
    given: str | None
    texts: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well texts are labelled.

    Attributes:
        label_set: Identity of the label set.
        model: Identity of the model.
        mode: Of the label set.
        texts: Texts that were labelled.
        failed: Texts that the model failed on; they are not in any figure.
        truncated: Texts that were longer than the model reads.
        examples_seen: Texts that are examples of the label set: they make figures look better than they are.
        seconds: What it took.
        accuracy: The share of texts that got just the labels that they should: nothing given is wrong, too.
        balanced: The mean recall of the labels that any text has.
        macro_f1: The mean F1 of the labels that any text has or got.
        ece: Expected calibration error of the best scores, in multi mode of all; 15 bins.
        coverage: The share of texts that got any label.
        accuracy_of_answered: The share of those that got just the labels that they should; None where none got any.
        decided_by: Each model of a cascade; empty without one.
        labels: Each label.
        confusion: As in `Tally`, [labels, labels + 1].
        reliability: As in `Tally`.
    """

    label_set: str
    model: str
    mode: Mode
    texts: int
    failed: int
    truncated: int
    examples_seen: int
    seconds: float
    accuracy: float
    balanced: float
    macro_f1: float
    ece: float
    coverage: float
    accuracy_of_answered: float | None
    decided_by: tuple[DecidedBy, ...]
    labels: tuple[LabelResult, ...]
    confusion: Counts
    reliability: Reliability

    @property
    def texts_per_second(self) -> float:
        """Texts a second, from the first to the last."""
        return self.texts / self.seconds if self.seconds else 0.0

    def confusions(self, most: int) -> list[Confusion]:
        """What is taken for what, the most frequent first; in multi mode a text may stand in several."""
        names = [label.name for label in self.labels]
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        if self.mode == "multi":  # another label beside the right one need not be wrong
            wrong[:, :-1] = 0
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        return [
            Confusion(names[row], [*names, None][column], int(wrong[row, column]))
            for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
            if wrong[row, column]
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it, ready to be written as JSON."""
        counts, scores, right = self.reliability
        return {
            "label_set": self.label_set,
            "model": self.model,
            "mode": self.mode,
            "texts": self.texts,
            "failed": self.failed,
            "truncated": self.truncated,
            "examples_seen": self.examples_seen,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
            "coverage": self.coverage,
            "accuracy_of_answered": self.accuracy_of_answered,
            "decided_by": [each._asdict() for each in self.decided_by],
            "seconds": self.seconds,
            "texts_per_second": self.texts_per_second,
            "labels": [label._asdict() for label in self.labels],
            "confusion": self.confusion.tolist(),
            "reliability": [
                {
                    "texts": int(count),
                    "score": score / count if count else None,
                    "right": hits / count if count else None,
                }
                for count, score, hits in zip(counts.tolist(), scores.tolist(), right.tolist(), strict=True)
            ],
        }


def evaluation(
    tally: Tally, *, model: str, failed: int, truncated: int, examples_seen: int, seconds: float
) -> Evaluation:
    """The figures that follow from what was counted.

    Args:
        tally: What was counted; one text at least.
        model: Identity of the model.
        failed: Texts that the model failed on.
        truncated: Texts that were longer than the model reads.
        examples_seen: Texts that are examples of the label set.
        seconds: What it took.
    """
    labels = tuple(
        LabelResult(
            name,
            hits / got if got else None,
            hits / support if support else None,
            2 * hits / (got + support) if got + support else None,
            support,
            got,
            threshold,
        )
        for name, threshold, hits, got, support in zip(
            tally.label_set.names,
            tally.label_set.thresholds,
            tally.hits.tolist(),
            tally.got.tolist(),
            tally.support.tolist(),
            strict=True,
        )
    )
    return Evaluation(
        label_set=tally.label_set.identity,
        model=model,
        mode=tally.label_set.mode,
        texts=tally.texts,
        failed=failed,
        truncated=truncated,
        examples_seen=examples_seen,
        seconds=seconds,
        accuracy=tally.right / tally.texts,
        balanced=_mean([label.recall for label in labels]),
        macro_f1=_mean([label.f1 for label in labels]),
        ece=tally.reliability.error,
        coverage=tally.answered / tally.texts,
        accuracy_of_answered=tally.right_of_answered / tally.answered if tally.answered else None,
        decided_by=_decided_by(tally),
        labels=labels,
        confusion=tally.confusion,
        reliability=tally.reliability,
    )


def _decided_by(tally: Tally) -> tuple[DecidedBy, ...]:
    """Both models of a cascade, also where one decided nothing."""
    tasks: tuple[Task, ...] = ("similarity", "entailment") if tally.decided else ()
    found = [(task, tally.decided.get(task, Decided())) for task in tasks]
    return tuple(
        DecidedBy(task, one.texts, one.texts / tally.texts, one.right / one.texts if one.texts else None)
        for task, one in found
    )


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
