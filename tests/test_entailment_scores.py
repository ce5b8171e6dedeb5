"""Scores from logits: pure, so every property is tried on many numbers."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.classify.entailment_scores import Logits, entailment_scores

temperatures = st.sampled_from([0.3, 1.0, 2.5])


@st.composite
def logits(draw: Any) -> Logits:
    """Of "contradicted" and "entailed", [texts, labels, 2]."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 9)), 2
    numbers: Logits = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(0, 4, shape).astype(np.float32)
    return numbers


def all_of(found: Logits) -> Any:
    return np.ones(found.shape[:2], np.bool_)


@settings(deadline=None)
@given(logits(), temperatures)
def test_competing_labels_share_one(found: Logits, temperature: float) -> None:
    scores = entailment_scores(found, all_of(found), temperature, compete=True)
    assert ((scores >= 0) & (scores <= 1)).all()
    if found.shape[1] > 1:
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
        assert (scores.argmax(axis=1) == found[..., 1].argmax(axis=1)).all()


@settings(deadline=None)
@given(logits(), temperatures, st.booleans())
def test_scores_are_softmaxes(found: Logits, temperature: float, compete: bool) -> None:
    """Against the definition, number by number."""
    scores = entailment_scores(found, all_of(found), temperature, compete=compete)
    for row, of_text in zip(scores.tolist(), found.astype(float).tolist(), strict=True):
        entailed = [math.exp(each[1] / temperature) for each in of_text]
        contradicted = [math.exp(each[0] / temperature) for each in of_text]
        if compete and len(of_text) > 1:
            expected = [each / sum(entailed) for each in entailed]
        else:
            expected = [yes / (yes + no) for yes, no in zip(entailed, contradicted, strict=True)]
        assert row == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(logits(), st.booleans(), st.randoms(use_true_random=False))
def test_a_texts_scores_do_not_depend_on_its_neighbours_by_a_single_bit(
    found: Logits, compete: bool, random: Any
) -> None:
    together = entailment_scores(found, all_of(found), 1.3, compete=compete)
    some = random.sample(range(len(found)), random.randint(1, len(found)))
    alone = entailment_scores(found[some], all_of(found[some]), 1.3, compete=compete)
    assert np.array_equal(alone, together[some])


@settings(deadline=None)
@given(logits(), st.booleans(), st.randoms(use_true_random=False))
def test_labels_that_were_not_asked_about_change_nothing(found: Logits, compete: bool, random: Any) -> None:
    """Given that each text was asked about other labels, then they score as if these were all the labels there are."""
    asked = np.array([[random.random() < 0.6 for _ in range(found.shape[1])] for _ in found])
    asked[:, random.randrange(found.shape[1])] = True
    scores = entailment_scores(found, asked, 1.0, compete=compete)
    assert (scores[~asked] == 0).all()
    for row, of_text, its_asked in zip(scores, found, asked, strict=True):
        few = of_text[its_asked][None]
        (expected,) = entailment_scores(few, all_of(few), 1.0, compete=compete)
        assert row[its_asked] == pytest.approx(expected, rel=1e-12)


def test_logits_beyond_all_bounds_are_still_scores() -> None:
    found = np.array([[[0, 3e4], [3e4, -3e4], [-3e4, 3e4]]], np.float32)
    for compete in (True, False):
        scores = entailment_scores(found, all_of(found), 0.01, compete=compete)
        assert np.isfinite(scores).all()
        assert scores[0, 1] == 0
