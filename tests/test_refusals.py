"""A few bad events are put aside; a topic of them stops the worker."""

from __future__ import annotations

import pytest

from stream_classifier.errors import TooManyRefusedError
from stream_classifier.refusals import RecentRefusals


def test_half_of_the_last_thousand_may_be_refused_and_not_one_more() -> None:
    recent = RecentRefusals(0.5)
    for _ in range(500):
        recent.refused("text_missing")
    with pytest.raises(
        TooManyRefusedError, match="501 of the last 501 events were refused, most of them as text_missing"
    ):
        recent.refused("not_json")


def test_old_refusals_are_forgotten() -> None:
    recent = RecentRefusals(0.5)
    for _ in range(500):
        recent.refused("text_missing")
    for _ in range(1000):
        recent.accepted()
    for _ in range(500):
        recent.refused("text_missing")
    with pytest.raises(TooManyRefusedError):
        recent.refused("text_missing")


def test_one_never_stops() -> None:
    recent = RecentRefusals(1)
    for _ in range(3000):
        recent.refused("text_missing")
