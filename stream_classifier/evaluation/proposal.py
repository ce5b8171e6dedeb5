"""What to change in a label set, by texts that are labelled; and what that gains, measured on other texts. Pure.

Every figure after a change comes from halves: fitted on one, measured on the other, both ways, all texts together.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from stream_classifier.classify.classification import SCORE_DECIMALS
from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import LabelSet, Mode
from stream_classifier.classify.temperature import tempered
from stream_classifier.evaluation.calibration import Reliability, Truths
from stream_classifier.evaluation.fitting import (
    Answered,
    answered_at,
    best_threshold,
    fit_temperature,
    halves,
    likelihood_loss,
    threshold_for,
)

TARGETS: Final = (0.8, 0.9, 0.95, 0.99)
"""Shares of right labels that thresholds are shown for, beside the one that is asked for."""


class LabelThreshold(NamedTuple):
    """The threshold of a label in multi mode.

    Attributes:
        name: The label's.
        support: Texts that have it.
        threshold_now: Its threshold as it is.
        f1_now: Its F1 with that, at the temperature as it is.
        threshold: The one with the best F1; None where too few texts have the label.
        f1: Its F1 with thresholds and temperatures of the other half; None without a threshold.
    """

    name: str
    support: int
    threshold_now: float
    f1_now: float
    threshold: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to change, and what it gains.

    Attributes:
        temperature: Fitted on all texts.
        loss_before: Mean negative log likelihood, at the temperature as it is.
        loss_after: The same on texts that the temperature was not fitted on.
        reliability_before: Scores and what is right, at the temperature as it is.
        reliability_after: The same on texts that the temperature was not fitted on.
        threshold: Of the set, in single mode; None to leave it.
        trade_off: Single mode: for shares that have to be right, the threshold, and what it does on texts that it was
            not fitted on; None where no threshold does it.
        thresholds: Multi mode: of labels, by name.
        by_label: Multi mode: each label.
    """

    temperature: float
    loss_before: float
    loss_after: float
    reliability_before: Reliability
    reliability_after: Reliability
    threshold: float | None
    trade_off: tuple[tuple[float, Answered | None], ...]
    thresholds: dict[str, float]
    by_label: tuple[LabelThreshold, ...]


def propose(
    label_set: LabelSet,
    scores: Floats,
    truths: Truths,
    *,
    accuracy: float,
    with_thresholds: bool,
    scores_now: Floats | None = None,
) -> Proposal:
    """Fit a temperature and thresholds.

    Args:
        label_set: As it is.
        scores: At temperature 1, [texts, labels].
        truths: Which labels each text has, [texts, labels]; exactly one in single mode.
        accuracy: Single mode: the share of given labels that has to be right.
        with_thresholds: Whether to propose thresholds, too.
        scores_now: At temperature 1, [texts, labels], where a cascade gives others with the set as it is than with what
            is proposed; None where they are the same.
    """
    mode = label_set.mode
    first = halves(len(scores))
    now = tempered(scores if scores_now is None else scores_now, mode, label_set.temperature)
    temperature = fit_temperature(scores, truths, mode)
    fitted = tempered(scores, mode, temperature)
    held_out = np.empty_like(scores)  # each half at the temperature of the other
    own = np.empty_like(scores)  # each half at the temperature that is fitted on it
    for half in (first, ~first):
        of_half = fit_temperature(scores[half], truths[half], mode)
        own[half] = tempered(scores[half], mode, of_half)
        held_out[~half] = tempered(scores[~half], mode, of_half)

    trade_off: tuple[tuple[float, Answered | None], ...] = ()
    by_label: tuple[LabelThreshold, ...] = ()
    if with_thresholds and mode == "single":
        targets = sorted({accuracy, *TARGETS})
        trade_off = tuple((target, _answered(target, fitted, own, held_out, truths, first)) for target in targets)
    elif with_thresholds:
        by_label = tuple(
            LabelThreshold(
                name,
                int(truths[:, place].sum()),
                label_set.thresholds[place],
                _f1(now[:, place], truths[:, place], label_set.thresholds[place]),
                *_threshold(fitted[:, place], own[:, place], held_out[:, place], truths[:, place], first),
            )
            for place, name in enumerate(label_set.names)
        )
    chosen = dict(trade_off).get(accuracy)
    return Proposal(
        temperature=temperature,
        loss_before=likelihood_loss(now, truths, mode),
        loss_after=likelihood_loss(held_out, truths, mode),
        reliability_before=_reliability(now, truths, mode),
        reliability_after=_reliability(held_out, truths, mode),
        threshold=chosen.threshold if chosen else None,
        trade_off=trade_off,
        thresholds={label.name: label.threshold for label in by_label if label.threshold is not None},
        by_label=by_label,
    )


def _reliability(scores: Floats, truths: Truths, mode: Mode) -> Reliability:
    if mode == "multi":
        return Reliability.of(scores, truths)
    return Reliability.of(*_best(scores, truths))


def _best(scores: Floats, truths: Truths) -> tuple[Floats, Truths]:
    """Of each text the best score, and whether its label is right."""
    best = scores.argmax(axis=1)[:, None]
    return np.take_along_axis(scores, best, axis=1)[:, 0], np.take_along_axis(truths, best, axis=1)[:, 0]


def _answered(
    target: float, fitted: Floats, own: Floats, held_out: Floats, truths: Truths, first: Truths
) -> Answered | None:
    """The threshold by all texts; what becomes of each half with the threshold of the other."""
    threshold = threshold_for(target, *_best(fitted, truths))
    if threshold is None:
        return None
    covered = right = 0.0
    for half in (first, ~first):
        of_half = threshold_for(target, *_best(own[half], truths[half]))
        if of_half is not None:
            answered = answered_at(of_half, *_best(held_out[~half], truths[~half]))
            covered += answered.coverage * (~half).sum()
            right += answered.coverage * answered.accuracy * (~half).sum()
    return Answered(threshold, float(covered / len(fitted)), float(right / covered) if covered else 1.0)


def _threshold(
    fitted: Floats, own: Floats, held_out: Floats, truths: Truths, first: Truths
) -> tuple[float | None, float | None]:
    """A label's best threshold by all texts, and its F1 where each half has the threshold of the other."""
    threshold = best_threshold(fitted, truths)
    if threshold is None:
        return None, None
    given = np.zeros(len(fitted), np.bool_)
    for half in (first, ~first):
        of_half = best_threshold(own[half], truths[half])
        given[~half] = np.round(held_out[~half], SCORE_DECIMALS) >= (threshold if of_half is None else of_half)
    return threshold, _f1_of(given, truths)


def _f1(scores: Floats, truths: Truths, threshold: float) -> float:
    return _f1_of(np.round(scores, SCORE_DECIMALS) >= threshold, truths)


def _f1_of(given: Truths, truths: Truths) -> float:
    both = int(given.sum()) + int(truths.sum())
    return 2 * int((given & truths).sum()) / both if both else 0.0
