"""When entailment is asked, and what the scores of both are together: pure, so tried on many numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.classify.cascade_scores import combined, in_doubt
from stream_classifier.classify.cosine_scores import Floats


def shares(source: np.random.Generator, labels: int) -> Floats:
    """Scores that sum to 1, flat or peaked."""
    scores: Floats = source.dirichlet([source.choice([0.05, 1.0, 50.0])] * labels)
    return scores


@st.composite
def single(draw: Any) -> tuple[Floats, int, np.random.Generator]:
    """Scores of a text in single mode, how many labels are put to entailment, and chance."""
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return shares(source, draw(st.integers(2, 12))), draw(st.integers(2, 6)), source


@settings(deadline=None)
@given(single(), st.floats(0, 1))
def test_in_single_mode_the_best_labels_are_asked_about_when_the_best_two_are_close(
    drawn: tuple[Floats, int, Any], margin: float
) -> None:
    scores, top_k, _ = drawn
    (labels,) = in_doubt(scores[None], [0.0] * len(scores), "single", top_k=top_k, margin=margin)
    second, first = np.sort(scores)[-2:]
    if first - second <= margin:
        assert len(labels) == min(top_k, len(scores))
        assert scores[labels].tolist() == sorted(scores.tolist(), reverse=True)[: len(labels)]
    else:
        assert labels == []


@settings(deadline=None)
@given(single())
def test_in_single_mode_scores_sum_to_one_and_entailments_best_is_the_best(drawn: tuple[Floats, int, Any]) -> None:
    similar, top_k, source = drawn
    (labels,) = in_doubt(similar[None], [0.0] * len(similar), "single", top_k=top_k, margin=1)
    entailed = np.zeros(len(similar))
    entailed[labels] = shares(source, len(labels))
    scores = combined(similar, entailed, labels, "single")
    assert scores.sum() == pytest.approx(1)
    assert scores.max() == pytest.approx(scores[entailed.argmax()])
    others = [label for label in range(len(similar)) if label not in labels]
    assert np.array_equal(scores[others], similar[others])
    assert (np.argsort(scores[labels]) == np.argsort(entailed[labels])).all() or len(set(scores[labels])) < len(labels)


def test_with_no_more_labels_than_are_asked_about_the_scores_are_entailments() -> None:
    similar, entailed = np.array([0.4, 0.35, 0.25]), np.array([0.1, 0.2, 0.7])
    assert in_doubt(similar[None], [0.0] * 3, "single", top_k=5, margin=0.1) == [[0, 1, 2]]
    assert combined(similar, entailed, [0, 1, 2], "single") == pytest.approx(entailed)


def test_a_label_that_competes_with_none_is_always_asked_about() -> None:
    assert in_doubt(np.ones((2, 1)), [0.0], "single", top_k=5, margin=0) == [[0], [0]]
    assert combined(np.ones(1), np.array([0.3]), [0], "single") == pytest.approx([0.3])


def test_in_multi_mode_a_label_is_asked_about_when_its_score_is_near_its_threshold() -> None:
    """Given thresholds of their own, then a label's doubt is its own, and no more than the best few are asked about."""
    scores = np.array([[0.9, 0.6, 0.45, 0.1, 0.72], [0.9, 0.1, 0.9, 0.1, 0.1]])
    thresholds = [0.5, 0.5, 0.5, 0.2, 0.5]
    assert in_doubt(scores, thresholds, "multi", top_k=9, margin=0.2) == [[1, 2, 3], [3]]
    assert in_doubt(scores, thresholds, "multi", top_k=2, margin=0.2) == [[1, 2], [3]]
    entailed = np.array([0, 0.8, 0.3, 0.9, 0])
    assert combined(scores[0], entailed, [1, 2, 3], "multi").tolist() == [0.9, 0.8, 0.3, 0.9, 0.72]


def test_nothing_that_is_given_is_changed() -> None:
    similar = np.array([0.5, 0.5])
    combined(similar, np.array([0.9, 0.1]), [0, 1], "single")
    assert similar.tolist() == [0.5, 0.5]
