"""Waiting before a repetition, and what the health pages say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.backoff import delay
from stream_classifier.health import Health


@given(attempt=st.integers(0, 10_000), jitter=st.floats(0, 1))
def test_delays_grow_and_stay_within_their_limit(attempt: int, jitter: float) -> None:
    wait = delay(attempt, first=0.1, most=5, jitter=jitter)
    assert 0.05 <= wait <= 5
    assert wait <= delay(attempt + 1, first=0.1, most=5, jitter=jitter)


def test_delays_double() -> None:
    assert [delay(attempt, first=1, most=10, jitter=1) for attempt in range(5)] == [1, 2, 4, 8, 10]


def test_alive_until_the_promised_time_is_over() -> None:
    health = Health(now=0)
    health.progress(10, within=5)
    assert health.alive(15) is None
    assert health.alive(16) == "the loop is 1.0 s late"


def test_ready_says_what_is_missing() -> None:
    health = Health(now=0)
    assert health.ready() == "the model is not loaded"
    health.model = True
    assert health.ready() == "not a member of the consumer group"
    health.group = True
    assert health.ready() is None
    health.stopping = True
    assert health.ready() == "stopping"
