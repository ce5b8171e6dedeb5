"""Labels with examples: the mathematics, on numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.classify.cosine_scores import (
    Embeddings,
    Floats,
    cosines,
    margin_vectors,
    multi_scores,
    single_scores,
)
from stream_classifier.classify.few_shot import (
    NAME_WEIGHT,
    SHRINKAGE,
    TEMPERATURE,
    Compared,
    discriminants,
    margins,
)

MULTI_TEMPERATURE = 0.012


def unit(rows: Any) -> Embeddings:
    vectors: Embeddings = np.asarray(rows, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def near(random: np.random.Generator, centre: Any, count: int, spread: float = 0.1) -> Embeddings:
    """Unit vectors about a centre."""
    return unit(centre + random.normal(0, spread, (count, len(centre))))


@st.composite
def label_sets(draw: Any, least_with_examples: int = 2) -> tuple[Embeddings, list[Embeddings]]:
    """Names and examples, as many as may be, of some labels none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimensions = draw(st.sampled_from([4, 16, 64]))
    counts = draw(st.lists(st.integers(0, 8), min_size=2, max_size=12))
    for place in range(least_with_examples):
        counts[place] = max(counts[place], 1)
    names = unit(random.normal(size=(len(counts), dimensions)))
    shift = random.normal(0, 0.3, dimensions)
    return names, [near(random, name + shift, count) for name, count in zip(names, counts, strict=True)]


def scores_of(compared: Compared, texts: Embeddings) -> Floats:
    return single_scores(cosines(texts, compared.vectors) + compared.offsets, 1.0)


def reference(names: Embeddings, examples: list[Embeddings], texts: Embeddings) -> Floats:
    """The same by the book: Gaussians with a mean each and one shrunk covariance, and their posteriors, tempered."""
    dimensions = names.shape[1]
    with_examples = [label for label, rows in enumerate(examples) if len(rows)]
    name_rows = names.astype(np.float64)
    own_names = name_rows[with_examples]
    own_means = np.array([examples[label].astype(np.float64).mean(axis=0) for label in with_examples])
    centred_names, centred_means = own_names - own_names.mean(axis=0), own_means - own_means.mean(axis=0)
    slope = np.clip(np.vdot(centred_names, centred_means) / np.vdot(centred_names, centred_names), 0, 1)
    means, covariance, total = [], np.zeros((dimensions, dimensions)), 0
    for name, given_rows in zip(name_rows, examples, strict=True):
        moved = own_means.mean(axis=0) + slope * (name - own_names.mean(axis=0))
        points = [moved] * NAME_WEIGHT + list(given_rows.astype(np.float64))
        means.append(np.mean(points, axis=0))
        if len(given_rows):
            for point in points:
                covariance += np.outer(point - means[-1], point - means[-1])
            total += len(given_rows)
    covariance /= total
    shrinkage = float(np.clip(dimensions / (dimensions + total), *SHRINKAGE))
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / dimensions * np.eye(dimensions)
    precision = np.linalg.inv(covariance)
    temperature = TEMPERATURE / max(1.0, total / len(names)) ** (1 / 6)
    posteriors = []
    for text in texts.astype(np.float64):
        logs = np.array([-0.5 * (text - mean) @ precision @ (text - mean) for mean in means]) / temperature
        weights = np.exp(logs - logs.max())
        posteriors.append(weights / weights.sum())
    return np.array(posteriors)


@settings(deadline=None)
@given(label_sets(), st.integers(0, 2**32 - 1))
def test_the_scores_are_those_of_gaussians_with_one_shrunk_covariance(
    labels: tuple[Embeddings, list[Embeddings]], seed: int
) -> None:
    names, examples = labels
    texts = unit(np.random.default_rng(seed).normal(size=(5, names.shape[1])))
    scores = scores_of(discriminants(names, examples), texts)
    np.testing.assert_allclose(scores, reference(names, examples, texts), rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(label_sets(), st.randoms(use_true_random=False))
def test_the_order_of_labels_and_examples_changes_no_score(
    labels: tuple[Embeddings, list[Embeddings]], random: Any
) -> None:
    names, examples = labels
    order = random.sample(range(len(names)), len(names))
    shuffled = [rows[random.sample(range(len(rows)), len(rows))] for rows in examples]
    texts = unit(np.random.default_rng(1).normal(size=(6, names.shape[1])))
    topics = unit(np.random.default_rng(2).normal(size=(20, names.shape[1])))
    scores = scores_of(discriminants(names, examples), texts)
    again = scores_of(discriminants(names[order], [shuffled[label] for label in order]), texts)
    np.testing.assert_allclose(again, scores[:, order], rtol=1e-6, atol=1e-9)
    compared = margins(names, examples, topics, MULTI_TEMPERATURE)
    other = margins(names[order], [shuffled[label] for label in order], topics, MULTI_TEMPERATURE)
    np.testing.assert_allclose(other.vectors, compared.vectors[order], atol=1e-6)
    np.testing.assert_allclose(other.offsets, compared.offsets[order], atol=1e-6)


@settings(deadline=None)
@given(label_sets(), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_texts_scores_do_not_depend_on_its_neighbours_by_a_single_bit(
    labels: tuple[Embeddings, list[Embeddings]], count: int, random: Any
) -> None:
    compared = discriminants(*labels)
    texts = unit(np.random.default_rng(3).normal(size=(count, labels[0].shape[1])))
    together = scores_of(compared, texts)
    some = random.sample(range(count), random.randint(1, count))
    assert scores_of(compared, texts[some]).tobytes() == together[some].tobytes()


@settings(deadline=None)
@given(label_sets(least_with_examples=0))
def test_in_multi_mode_a_label_stands_for_itself(labels: tuple[Embeddings, list[Embeddings]]) -> None:
    """Given a set, when all labels but one are taken away, then that one is compared as before."""
    names, examples = labels
    topics = unit(np.random.default_rng(4).normal(size=(20, names.shape[1])))
    every = margins(names, examples, topics, MULTI_TEMPERATURE)
    last = margins(names[-1:], examples[-1:], topics, MULTI_TEMPERATURE)
    np.testing.assert_allclose(last.vectors[0], every.vectors[-1], atol=1e-6)
    np.testing.assert_allclose(last.offsets[0], every.offsets[-1], atol=1e-6)
    without = np.array([not len(rows) for rows in examples])
    bare = margin_vectors(names, topics)
    assert every.vectors[without].tobytes() == bare[without].tobytes()
    assert not every.offsets[without].any()


def test_in_multi_mode_a_text_like_the_examples_is_over_the_threshold_and_another_is_not() -> None:
    random = np.random.default_rng(5)
    here, there, name = np.eye(64)[:3]
    topics = unit(np.eye(64)[10:30])
    [vector], [offset] = margins(unit([name]), [near(random, here, 6, 0.05)], topics, MULTI_TEMPERATURE)
    texts = np.concatenate([near(random, here, 40, 0.05), near(random, there, 40, 0.05), unit([name + there])])
    scores = multi_scores(cosines(texts, vector[None]) + offset, MULTI_TEMPERATURE)[:, 0]
    assert (scores[:40] > 0.5).mean() > 0.8
    assert (scores[40:] < 0.5).all()


def test_examples_find_labels_where_names_do_not() -> None:
    """Given names that say nothing, when there are a few examples, then texts like them get their labels."""
    random = np.random.default_rng(6)
    centres = random.normal(size=(5, 32))
    names = unit(random.normal(size=(5, 32)))
    compared = discriminants(names, [near(random, centre, 4, 0.8) for centre in centres])
    gold = np.repeat(np.arange(5), 40)
    texts = np.concatenate([near(random, centre, 40, 0.8) for centre in centres])
    assert (scores_of(compared, texts).argmax(axis=1) == gold).mean() > 0.9
    assert (cosines(texts, names).argmax(axis=1) == gold).mean() < 0.5


def test_labels_without_examples_hold_their_own_against_those_with() -> None:
    """Given texts that all lie elsewhere than names, when only some labels have examples, then all get their texts.

    By the cosine to the mean of name and examples, the labels with examples would take nearly everything.
    """
    random = np.random.default_rng(7)
    names = unit(random.normal(size=(8, 64)))
    elsewhere = unit(random.normal(size=(1, 64)))[0] * 2
    examples = [near(random, name + elsewhere, 4 if label < 4 else 0) for label, name in enumerate(names)]
    gold = np.repeat(np.arange(8), 30)
    texts = np.concatenate([near(random, name + elsewhere, 30) for name in names])
    right = scores_of(discriminants(names, examples), texts).argmax(axis=1) == gold
    assert right[gold < 4].mean() > 0.9
    assert right[gold >= 4].mean() > 0.9
    means = np.array([np.vstack([name[None], rows]).mean(axis=0) for name, rows in zip(names, examples, strict=True)])
    taken = cosines(texts, unit(means)).argmax(axis=1)
    assert (taken[gold >= 4] < 4).mean() > 0.5


@pytest.mark.parametrize("counts", [(1, 1), (1, 0, 1), (3, 0), (100, 1, 0)])
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_few_or_equal_examples_still_make_scores(counts: tuple[int, ...], spread: float) -> None:
    """With one example each, with all alike, with those of one label only: scores are numbers that sum to 1."""
    random = np.random.default_rng(8)
    names = unit(random.normal(size=(len(counts), 48)))
    examples = [near(random, name, count, spread) for name, count in zip(names, counts, strict=True)]
    texts = unit(random.normal(size=(10, 48)))
    np.testing.assert_allclose(scores_of(discriminants(names, examples), texts).sum(axis=1), 1)
    own = scores_of(discriminants(names, examples), np.concatenate([rows[:1] for rows in examples if len(rows)]))
    assert own.argmax(axis=1).tolist() == [label for label, count in enumerate(counts) if count]


def test_equal_names_are_told_apart_by_their_examples() -> None:
    random = np.random.default_rng(9)
    first, second = np.eye(16)[:2]
    examples = [near(random, first, 3), near(random, second, 3)]
    scores = scores_of(discriminants(unit([np.eye(16)[2]] * 2), examples), unit([first, second]))
    assert scores.argmax(axis=1).tolist() == [0, 1]
