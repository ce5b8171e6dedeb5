"""What an evaluation counts, fits and compares: pure, and each figure by another way to it."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_classifier.classify.classification import decide
from stream_classifier.classify.cosine_scores import Floats, single_scores
from stream_classifier.classify.labels import Label, LabelSet, Mode
from stream_classifier.classify.temperature import tempered
from stream_classifier.evaluation.calibration import BINS, Reliability, Truths
from stream_classifier.evaluation.fitting import (
    FEWEST_POSITIVES,
    TEMPERATURES,
    answered_at,
    best_threshold,
    fit_temperature,
    halves,
    likelihood_loss,
    threshold_for,
)
from stream_classifier.evaluation.proposal import propose
from stream_classifier.evaluation.results import Confusion, Evaluation, evaluation
from stream_classifier.evaluation.significance import Comparison
from stream_classifier.evaluation.tally import Tally

NAMES = "abcdefgh"


def label_set(labels: int, mode: Mode = "single", threshold: float | None = None) -> LabelSet:
    return LabelSet("letters", 1, mode, threshold, tuple(Label(name) for name in NAMES[:labels]))


def truths_of(gold: list[int], labels: int) -> Truths:
    truths: Truths = np.arange(labels) == np.array(gold)[:, None]
    return truths


@st.composite
def labelled(draw: Any, mode: Mode) -> tuple[LabelSet, Floats, Truths]:
    """A label set with thresholds, scores with many ties, and what is right."""
    labels, texts = draw(st.integers(2, 6)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    thresholds = draw(st.lists(st.sampled_from([None, 0.0, 0.2, 0.5, 0.9]), min_size=labels, max_size=labels))
    chosen = LabelSet(
        "letters", 1, mode, 0.3, tuple(Label(name, threshold=own) for name, own in zip(NAMES, thresholds, strict=False))
    )
    scores = np.round(random.random((texts, labels)), 1)
    if mode == "multi":
        return chosen, scores, random.random((texts, labels)) < 0.4
    scores = (scores + 0.01) / (scores + 0.01).sum(axis=1, keepdims=True)
    return chosen, scores, truths_of(random.integers(0, labels, texts).tolist(), labels)


def tallied(chosen: LabelSet, scores: Floats, truths: Truths) -> Evaluation:
    tally = Tally(chosen)
    for part in np.array_split(np.arange(len(scores)), 3):
        if len(part):
            tally.add(scores[part], truths[part])
    return evaluation(tally, model="m@1", failed=0, truncated=0, examples_seen=0, seconds=2.0)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@settings(deadline=None)
@given(st.one_of(labelled("single"), labelled("multi")))
def test_figures_are_those_of_what_the_classifier_decides(example: tuple[LabelSet, Floats, Truths]) -> None:
    """Given scores, when they are decided as for events, then counting by hand gives the same figures."""
    chosen, scores, truths = example
    decided = decide(chosen, scores, [False] * len(scores), model="m@1", top_k=1)
    got: list[set[str]] = []
    for result in decided:
        names = {name for name, _ in result.labels} if chosen.mode == "multi" else {result.label or ""} - {""}
        got.append(names)
    gold = [{name for name, has in zip(chosen.names, row, strict=True) if has} for row in truths.tolist()]
    found = tallied(chosen, scores, truths)
    assert found.accuracy == pytest.approx(mean([a == b for a, b in zip(got, gold, strict=True)]))
    assert found.coverage == pytest.approx(mean([bool(a) for a in got]))
    answered = [a == b for a, b in zip(got, gold, strict=True) if a]
    assert found.accuracy_of_answered == (pytest.approx(mean([*map(float, answered)])) if answered else None)
    recalls, f1s = [], []
    for label in found.labels:
        hits = sum(label.name in a and label.name in b for a, b in zip(got, gold, strict=True))
        have, given_to = (sum(label.name in one for one in sets) for sets in (gold, got))
        assert (label.support, label.given) == (have, given_to)
        assert label.recall == (pytest.approx(hits / have) if have else None)
        assert label.precision == (pytest.approx(hits / given_to) if given_to else None)
        recalls += [hits / have] if have else []
        f1s += [2 * hits / (have + given_to)] if have + given_to else []
    assert found.balanced == pytest.approx(mean(recalls))
    assert found.macro_f1 == pytest.approx(mean(f1s))
    for place, name in enumerate(chosen.names):
        nothing = sum(name in b and not a for a, b in zip(got, gold, strict=True))
        assert found.confusion[place, -1] == nothing
        for column, other in enumerate(chosen.names):
            both = sum(name in b and other in a for a, b in zip(got, gold, strict=True))
            assert found.confusion[place, column] == both


def test_the_calibration_error_is_the_weighted_mean_of_differences() -> None:
    scores = np.array([0.95, 0.95, 0.95, 0.95, 0.2, 0.2])
    right = np.array([True, True, True, False, False, True])
    assert Reliability.of(scores, right).error == pytest.approx(4 / 6 * abs(0.95 - 0.75) + 2 / 6 * abs(0.2 - 0.5))


def test_scores_of_one_and_of_nothing_have_their_bins() -> None:
    found = Reliability.of(np.array([0.0, 1.0]), np.array([False, True]))
    assert (found.counts[0], found.counts[BINS - 1], found.error) == (1, 1, 0)
    assert Reliability.of(np.zeros(0), np.zeros(0, np.bool_)).error == 0


def test_scores_that_are_probabilities_are_calibrated() -> None:
    random = np.random.default_rng(0)
    scores = random.random(200_000)
    assert Reliability.of(scores, random.random(200_000) < scores).error < 0.01


def test_confusions_are_the_most_frequent_first_and_name_what_got_nothing() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.45, 0.55]])
    found = tallied(label_set(2, threshold=0.6), scores, truths_of([1, 1, 1, 0], 2))
    assert found.confusions(5) == [Confusion("b", "a", 2), Confusion("a", None, 1)]
    assert found.confusions(1) == [Confusion("b", "a", 2)]
    assert found.texts_per_second == 2


# Comparing ------------------------------------------------------------------------------------------------------------


def test_a_comparison_counts_pairs() -> None:
    first, second = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    compared = Comparison.of(first, second)
    assert compared == (1, 1, 2, 1)
    assert compared.difference == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    # The sign test by hand: 2 * (1 + 12 + 66) / 2**12, and so on.
    [(2, 10, 2 * 79 / 4096), (10, 2, 2 * 79 / 4096), (0, 5, 2 / 32), (3, 3, 1.0), (0, 0, 1.0), (0, 1, 1.0)],
)
def test_mcnemars_test_is_a_coin_thrown(only_first: int, only_second: int, p_value: float) -> None:
    assert Comparison(40, only_first, only_second, 7).p_value == pytest.approx(p_value)


def test_mcnemars_test_of_many_texts_is_near_the_exact_one() -> None:
    # The binomial distribution by its own recurrence, in logarithms.
    tosses, fewer = 10_050, 4_900
    logs = [-tosses * math.log(2)]
    for heads in range(fewer):
        logs.append(logs[-1] + math.log((tosses - heads) / (heads + 1)))
    exact = 2 * math.fsum(math.exp(each) for each in logs)
    assert Comparison(0, tosses - fewer, fewer, 0).p_value == pytest.approx(exact, rel=0.02)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 300)] * 4))
def test_the_interval_holds_the_difference_nearly_and_turns_with_it(counts: tuple[int, int, int, int]) -> None:
    assume(sum(counts))
    compared = Comparison(*counts)
    low, high = compared.interval
    # The adjustment adds two texts, and draws the difference towards 0 by so much.
    assert low - 2 / sum(counts) <= compared.difference <= high + 2 / sum(counts)
    turned = Comparison(counts[0], counts[2], counts[1], counts[3]).interval
    assert turned == pytest.approx((-high, -low))
    assert 0 <= compared.p_value <= 1


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        first, second = random.random((2, 150)) < np.array([[0.6], [0.7]])
        low, high = Comparison.of(first, second).interval
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.98


# Fitting --------------------------------------------------------------------------------------------------------------


def drawn(texts: int, labels: int, temperature: float, seed: int = 0) -> tuple[Floats, Truths]:
    """Scores that would be probabilities at a temperature, and truths drawn from those."""
    random = np.random.default_rng(seed)
    scores = single_scores(random.normal(0, 2, (texts, labels)), 1.0)
    likely = tempered(scores, "single", temperature)
    return scores, truths_of([int(random.choice(labels, p=row)) for row in likely], labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_truths_were_drawn_with_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(8_000, 4, temperature), "single") == pytest.approx(temperature, rel=0.06)


def test_the_temperature_of_multi_scores_is_found() -> None:
    random = np.random.default_rng(2)
    odds = random.normal(0, 3, (8_000, 3))
    scores, truths = 1 / (1 + np.exp(-odds)), random.random(odds.shape) < 1 / (1 + np.exp(-odds / 2))
    assert fit_temperature(scores, truths, "multi") == pytest.approx(2, rel=0.06)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(5, 60), st.integers(0, 1000))
def test_no_other_temperature_makes_the_truth_more_likely(labels: int, texts: int, seed: int) -> None:
    scores, truths = drawn(texts, labels, 1.0, seed)
    best = likelihood_loss(tempered(scores, "single", fit_temperature(scores, truths, "single")), truths, "single")
    for other in np.geomspace(*TEMPERATURES, 30):
        assert best <= likelihood_loss(tempered(scores, "single", float(other)), truths, "single") + 1e-4


def test_truths_that_are_always_first_lead_to_the_end_of_the_range() -> None:
    scores, _ = drawn(50, 3, 1.0)
    truths = truths_of(scores.argmax(axis=1).tolist(), 3)
    assert fit_temperature(scores, truths, "single") == pytest.approx(TEMPERATURES[0], rel=0.01)


best_scores = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.25, 0.6, 0.61, 1.0]), st.booleans()), min_size=1)


@given(best_scores, st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_a_threshold_for_an_accuracy_gives_as_many_labels_as_can_be(
    rows: list[tuple[float, bool]], accuracy: float
) -> None:
    best, right = np.array([score for score, _ in rows]), np.array([hit for _, hit in rows])
    threshold = threshold_for(accuracy, best, right)
    possible = [answered_at(cut, best, right) for cut in (0.0, 0.15, 0.22, 0.5, 0.605, 0.8)]
    enough = [answered.coverage for answered in possible if answered.coverage and answered.accuracy >= accuracy]
    if threshold is None:
        assert not enough
    else:
        answered = answered_at(threshold, best, right)
        assert answered.accuracy >= accuracy
        assert answered.coverage == max(enough)


@given(best_scores)
def test_a_labels_best_threshold_has_the_best_f1(rows: list[tuple[float, bool]]) -> None:
    scores, has = np.array([score for score, _ in rows]), np.array([hit for _, hit in rows])

    def f1(threshold: float) -> float:
        got = scores >= threshold
        return float(2 * (got & has).sum() / (got.sum() + has.sum()))

    threshold = best_threshold(scores, has)
    if has.sum() < FEWEST_POSITIVES:
        assert threshold is None
    else:
        assert threshold is not None
        assert f1(threshold) == pytest.approx(max(f1(cut) for cut in (0.0, 0.15, 0.22, 0.5, 0.605, 0.8)))


def test_halves_are_halves_and_the_same_each_time() -> None:
    first = halves(101)
    assert first.sum() == 50
    assert (first == halves(101)).all()
    assert not (first == halves(101, seed=1)).all()


# Proposals ------------------------------------------------------------------------------------------------------------


def test_a_proposal_makes_scores_say_how_often_they_are_right() -> None:
    scores, truths = drawn(6_000, 4, 2.5)
    proposal = propose(label_set(4), scores, truths, accuracy=0.6, with_thresholds=True)
    assert proposal.temperature == pytest.approx(2.5, rel=0.06)
    assert proposal.reliability_before.error > 0.1
    assert proposal.reliability_after.error < 0.03
    assert proposal.loss_after < proposal.loss_before
    trade_off = dict(proposal.trade_off)
    answered = trade_off[0.6]
    assert answered
    assert answered.threshold == proposal.threshold
    assert answered.accuracy == pytest.approx(0.6, abs=0.03)
    assert 0 < answered.coverage < 1
    assert trade_off[0.99] is None


def test_what_is_measured_was_not_fitted_on() -> None:
    """Given truths that are noise, when thresholds are fitted to them, then no figure says that they help."""
    random = np.random.default_rng(3)
    scores = random.random((400, 6))
    truths = random.random((400, 6)) < 0.2
    proposal = propose(label_set(6, "multi", threshold=0.0), scores, truths, accuracy=0.9, with_thresholds=True)
    fitted_on_itself = []
    for place, label in enumerate(proposal.by_label):
        assert label.threshold is not None
        got = tempered(scores, "multi", proposal.temperature)[:, place] >= label.threshold
        fitted_on_itself.append(2 * (got & truths[:, place]).sum() / (got.sum() + truths[:, place].sum()))
    assert np.mean([label.f1 or 0 for label in proposal.by_label]) < np.mean(fitted_on_itself) - 0.005


def test_in_multi_mode_each_label_gets_its_threshold_unless_it_has_too_few_texts() -> None:
    random = np.random.default_rng(4)
    truths = random.random((500, 3)) < np.array([0.3, 0.3, 0.004])
    likely = np.where(truths, random.normal(0.8, 0.05, truths.shape), random.normal([0.3, 0.7, 0.3], 0.05))
    scores = np.clip(likely, 0.001, 0.999)
    proposal = propose(label_set(3, "multi"), scores, truths, accuracy=0.9, with_thresholds=True)
    assert list(proposal.thresholds) == ["a", "b"]
    assert proposal.thresholds["a"] < proposal.thresholds["b"]
    first, second, third = proposal.by_label
    assert (third.threshold, third.f1) == (None, None)
    assert second.f1_now < 0.6
    assert second.f1 is not None
    assert second.f1 > 0.8
    assert first.f1_now > 0.95


def test_thresholds_may_be_left_alone() -> None:
    scores, truths = drawn(200, 4, 1.0)
    for mode in ("single", "multi"):
        proposal = propose(label_set(4, mode), scores, truths, accuracy=0.9, with_thresholds=False)
        assert (proposal.threshold, proposal.thresholds) == (None, {})
