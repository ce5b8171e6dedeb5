"""Scores and what is decided by them: pure, so every property is tried on many numbers."""

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_classifier.classify.classification import Classification, Failure, decide
from stream_classifier.classify.cosine_scores import (
    Embeddings,
    Floats,
    cosines,
    margin_vectors,
    multi_scores,
    single_scores,
)
from stream_classifier.classify.labels import Label, LabelSet, Mode

temperatures = st.sampled_from([0.0065, 0.012, 0.1, 1.0])


def unit(seed: int, rows: int, dimensions: int) -> Embeddings:
    vectors: Embeddings = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@st.composite
def embedded(draw: Any) -> tuple[Embeddings, Embeddings]:
    """Texts and labels, unit vectors of the same length."""
    dimensions = draw(st.sampled_from([3, 8, 64, 384]))
    seed = draw(st.integers(0, 2**32 - 1))
    texts = unit(seed, draw(st.integers(1, 40)), dimensions)
    return texts, unit(seed + 1, draw(st.integers(1, 60)), dimensions)


@settings(deadline=None)
@given(embedded(), temperatures)
def test_single_scores_sum_to_one_and_follow_the_cosines(
    vectors: tuple[Embeddings, Embeddings], temperature: float
) -> None:
    similar = cosines(*vectors)
    scores = single_scores(similar, temperature)
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
    assert (scores.argmax(axis=1) == similar.argmax(axis=1)).all()


@settings(deadline=None)
@given(embedded(), st.randoms(use_true_random=False))
def test_a_texts_scores_do_not_depend_on_its_neighbours_by_a_single_bit(
    vectors: tuple[Embeddings, Embeddings], random: Any
) -> None:
    texts, labels = vectors
    together = single_scores(cosines(texts, labels), 0.012)
    some = random.sample(range(len(texts)), random.randint(1, len(texts)))
    assert single_scores(cosines(texts[some], labels), 0.012).tobytes() == together[some].tobytes()
    for place in some[:3]:
        alone = single_scores(cosines(texts[place : place + 1], labels), 0.012)
        assert alone.tobytes() == together[place].tobytes()


@settings(deadline=None)
@given(embedded(), temperatures, st.randoms(use_true_random=False))
def test_the_order_of_the_labels_changes_no_score(
    vectors: tuple[Embeddings, Embeddings], temperature: float, random: Any
) -> None:
    texts, labels = vectors
    order = random.sample(range(len(labels)), len(labels))
    scores = single_scores(cosines(texts, labels), temperature)
    np.testing.assert_allclose(single_scores(cosines(texts, labels[order]), temperature), scores[:, order], atol=1e-9)


@settings(deadline=None)
@given(embedded(), temperatures)
def test_another_label_changes_no_multi_score(vectors: tuple[Embeddings, Embeddings], temperature: float) -> None:
    """Given a multi-label set, when labels are added, then the others' scores stay as they are."""
    texts, labels = vectors
    topics = unit(7, 40, texts.shape[1])
    assume(len(labels) > 1)
    every = multi_scores(cosines(texts, margin_vectors(labels, topics)), temperature)
    first = multi_scores(cosines(texts, margin_vectors(labels[:1], topics)), temperature)
    np.testing.assert_allclose(first, every[:, :1], atol=1e-12)
    assert ((every >= 0) & (every <= 1)).all()


def test_multi_scores_are_odds_of_one_to_fifty_where_nothing_is_nearer_than_the_topics() -> None:
    at_no_margin, even = multi_scores(np.array([[0.0, 0.012 * math.log(50)]]), 0.012)[0]
    assert at_no_margin == pytest.approx(1 / 51)
    assert even == pytest.approx(0.5)


def test_multi_scores_of_extreme_margins_are_numbers() -> None:
    assert multi_scores(np.array([[-2.0, 2.0]]), 0.0001).tolist() == [[0.0, 1.0]]


def test_a_label_is_compared_with_the_topics_that_resemble_it() -> None:
    """Given topics in two languages, a label of one of them is compared with those of its own."""
    ours, theirs = np.eye(4, dtype=np.float32)[:2]
    topics = np.array([ours] * 10 + [theirs] * 10)
    label = np.array([[0.8, 0, 0.6, 0]], np.float32)
    np.testing.assert_allclose(margin_vectors(label, topics), label - ours, atol=1e-7)


def label_set(*thresholds: float | None, mode: Mode = "single", threshold: float | None = None) -> LabelSet:
    labels = tuple(Label(name, threshold=own) for name, own in zip("abcdef", thresholds, strict=False))
    return LabelSet("letters", 2, mode, threshold, labels)


def decided(label_set: LabelSet, *scores: float, top_k: int = 5) -> Classification:
    rows: Floats = np.array([scores])
    return decide(label_set, rows, [False], model="tiny@1", top_k=top_k)[0]


def test_single_mode_gives_the_best_label_and_lists_the_best_few() -> None:
    result = decided(label_set(None, None, None), 0.2, 0.7, 0.1, top_k=2)
    assert (result.label, result.score, result.labels) == ("b", 0.7, (("b", 0.7), ("a", 0.2)))


def test_single_mode_abstains_under_the_threshold_and_says_how_near_it_was() -> None:
    result = decided(label_set(None, None, threshold=0.8), 0.3, 0.7)
    assert (result.label, result.score, result.labels) == (None, 0.7, (("b", 0.7), ("a", 0.3)))


def test_the_best_labels_own_threshold_counts_before_the_sets() -> None:
    assert decided(label_set(None, 0.6, threshold=0.8), 0.3, 0.7).label == "b"
    assert decided(label_set(None, 0.9, threshold=0.5), 0.3, 0.7).label is None


def test_a_score_that_is_shown_as_the_threshold_reaches_it() -> None:
    assert decided(label_set(None, None, threshold=0.7), 0.3, 0.69996).label == "b"


def test_multi_mode_gives_every_label_over_its_own_threshold() -> None:
    scores = (0.55, 0.95, 0.6, 0.45)
    result = decided(label_set(None, 0.99, None, 0.4, mode="multi"), *scores, top_k=1)
    assert result.labels == (("c", 0.6), ("a", 0.55), ("d", 0.45))
    assert (result.label, result.score) == ("c", 0.6)


def test_multi_mode_with_nothing_over_a_threshold_has_no_label_and_the_best_score() -> None:
    result = decided(label_set(None, None, mode="multi"), 0.1, 0.49)
    assert (result.label, result.score, result.labels) == (None, 0.49, ())


def test_labels_of_equal_scores_stay_in_their_order() -> None:
    assert [name for name, _ in decided(label_set(None, None, None), 0.25, 0.5, 0.25).labels] == ["b", "a", "c"]


def test_a_classification_is_json_as_the_contract_has_it() -> None:
    result = Classification("退款", 0.8312, (("退款", 0.8312), ("b", 0.1)), "support@3", "e5@9f2c41d0", truncated=True)
    assert result.encoded.decode() == (
        '{"label":"退款","score":0.8312,"labels":[{"label":"退款","score":0.8312},{"label":"b","score":0.1}],'
        '"label_set":"support@3","model":"e5@9f2c41d0","truncated":true}'
    )


def test_scores_have_four_decimals() -> None:
    result = decided(label_set(None, None), 1 / 3, 2 / 3)
    assert orjson.loads(result.encoded)["labels"] == [{"label": "b", "score": 0.6667}, {"label": "a", "score": 0.3333}]


def test_a_failure_has_the_reason_code_of_the_dead_letter() -> None:
    assert Failure("why").code == "inference_failed"
