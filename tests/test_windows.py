"""When a window closes, example by example and against what must always hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.windows import Windows


def windows(max_events: int = 3, max_cost: float = 100, max_wait: float = 0.02) -> Windows[int]:
    return Windows(max_events=max_events, max_cost=max_cost, max_wait=max_wait)


def test_a_full_window_closes_at_once_though_every_thread_is_busy() -> None:
    waiting = windows()
    for event in range(4):
        waiting.add(event, 1, now=0)
    assert waiting.close(0, idle=False) == [0, 1, 2]
    assert waiting.close(0, idle=False) == []
    assert len(waiting) == 1


def test_an_idle_thread_waits_for_the_first_event_only() -> None:
    waiting = windows()
    waiting.add(0, 1, now=0)
    waiting.add(1, 1, now=0.019)
    assert waiting.close(0.019, idle=True) == []
    assert waiting.seconds_to_close(0.015) == 0.02 - 0.015
    assert waiting.close(0.02, idle=True) == [0, 1]
    assert waiting.seconds_to_close(0.02) is None


def test_while_threads_are_busy_a_window_goes_on_filling() -> None:
    waiting = windows()
    waiting.add(0, 1, now=0)
    assert waiting.close(99, idle=False) == []
    assert waiting.close(99, idle=True) == [0]


def test_without_waiting_an_idle_thread_takes_what_there_is() -> None:
    waiting = windows(max_wait=0)
    waiting.add(0, 1, now=5)
    assert waiting.close(5, idle=True) == [0]


def test_cost_closes_a_window_and_an_event_over_it_stands_alone() -> None:
    waiting = windows(max_events=10, max_cost=100)
    waiting.add(0, 60, now=0)
    assert not waiting.full()
    waiting.add(1, 60, now=0)
    waiting.add(2, 500, now=0)
    assert waiting.close(0, idle=False) == [0]
    assert waiting.close(0, idle=False) == [1]
    assert waiting.close(0, idle=False) == [2]
    assert not waiting.full()


def test_revoked_events_are_dropped_and_the_rest_keep_their_turn() -> None:
    waiting = windows()
    for event in range(3):
        waiting.add(event, 1, now=event)
    waiting.drop(lambda event: event == 0)
    assert not waiting.full()
    assert waiting.close(1.02, idle=True) == [1, 2]


@given(
    costs=st.lists(st.floats(0, 50), max_size=40),
    max_events=st.integers(1, 7),
    max_cost=st.floats(1, 60),
    idle=st.lists(st.booleans(), min_size=1),
)
def test_every_event_leaves_once_in_order_within_the_bounds(
    costs: list[float], max_events: int, max_cost: float, idle: list[bool]
) -> None:
    waiting = windows(max_events, max_cost, 0.5)
    left: list[int] = []
    for number, cost in enumerate(costs):
        waiting.add(number, cost, now=number)
        window = waiting.close(number, idle=idle[number % len(idle)])
        left += window
        assert len(window) <= max_events
        assert len(window) <= 1 or sum(costs[event] for event in window) <= max_cost
    for now in range(len(costs), 3 * len(costs) + 1):
        left += waiting.close(now, idle=True)
    assert left == list(range(len(costs)))
