"""A temperature over scores: pure, so every property is tried on many numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_classifier.classify.cosine_scores import Floats, single_scores
from stream_classifier.classify.labels import Mode
from stream_classifier.classify.temperature import tempered

modes = st.sampled_from(["single", "multi"])
temperatures = st.floats(0.1, 10)
cosine_rows = arrays.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 30)), elements=st.floats(-1, 1))


def scores_of(cosines: Floats, mode: Mode) -> Floats:
    if mode == "single":
        return single_scores(cosines, 0.1)
    return 1 / (1 + np.exp(-5 * cosines))


@settings(deadline=None)
@given(cosine_rows, temperatures)
def test_it_is_the_softmaxes_own_temperature_times_it(cosines: Floats, temperature: float) -> None:
    np.testing.assert_allclose(
        tempered(single_scores(cosines, 0.1), "single", temperature),
        single_scores(cosines, 0.1 * temperature),
        rtol=1e-6,
        atol=1e-12,
    )


@settings(deadline=None)
@given(cosine_rows, temperatures)
def test_in_multi_mode_it_divides_the_log_odds(cosines: Floats, temperature: float) -> None:
    np.testing.assert_allclose(
        tempered(scores_of(cosines, "multi"), "multi", temperature), 1 / (1 + np.exp(-5 * cosines / temperature))
    )


@settings(deadline=None)
@given(cosine_rows, modes, temperatures)
def test_no_label_changes_its_rank(cosines: Floats, mode: Mode, temperature: float) -> None:
    scores = scores_of(np.round(cosines, 3), mode)
    changed = tempered(scores, mode, temperature)
    assert ((changed >= 0) & (changed <= 1)).all()
    ranked = np.argsort(scores, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(changed, ranked, axis=1), axis=1) >= -1e-12).all()
    if mode == "single":
        np.testing.assert_allclose(changed.sum(axis=1), 1)


@settings(deadline=None)
@given(cosine_rows, modes, temperatures, st.randoms(use_true_random=False))
def test_a_texts_scores_do_not_depend_on_its_neighbours_by_a_single_bit(
    cosines: Floats, mode: Mode, temperature: float, random: Any
) -> None:
    scores = scores_of(cosines, mode)
    together = tempered(scores, mode, temperature)
    some = random.sample(range(len(scores)), random.randint(1, len(scores)))
    assert tempered(scores[some], mode, temperature).tobytes() == together[some].tobytes()


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_at_one_scores_are_what_they_were(mode: Mode) -> None:
    scores = np.array([[0.1, 0.9]])
    assert tempered(scores, mode, 1.0).tobytes() == scores.tobytes()


@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_certain_scores_stay_numbers(mode: Mode, temperature: float) -> None:
    """Scores of 0 and 1, and the row of a text that failed, which is 0 all over."""
    changed = tempered(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), mode, temperature)
    assert np.isfinite(changed).all()
    assert changed[0].argmax() == 1
