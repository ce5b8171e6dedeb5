"""When the events that wait become a window for the model.

A window is what one inference thread takes at a time. It closes when it is full (by events, or by what they will
cost), or when a thread is idle and the first event has waited long enough. While every thread is busy it goes on
filling, so windows grow under load and latency stays low without it.

Pure: the time is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Windows(Generic[T]):
    """Events that wait to be handed out, in their order.

    Args:
        max_events: Events of one window, at most.
        max_cost: Cost of one window, at most, in the unit of `add`; an event that costs more is a window of its own.
        max_wait: Seconds that the first event of a window waits for others while a thread is idle.
    """

    def __init__(self, *, max_events: int, max_cost: float, max_wait: float) -> None:
        self._max_events = max_events
        self._max_cost = max_cost
        self._max_wait = max_wait
        self._waiting: deque[tuple[T, float, float]] = deque()
        self._cost = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: T, cost: float, now: float) -> None:
        """Put an event at the end of those that wait."""
        self._waiting.append((event, cost, now))
        self._cost += cost

    def full(self) -> bool:
        """Whether a whole window waits."""
        return len(self._waiting) >= self._max_events or self._cost >= self._max_cost

    def close(self, now: float, *, idle: bool) -> list[T]:
        """The next window; empty when it is to go on filling.

        Args:
            now: Seconds on the clock of `add`.
            idle: Whether an inference thread has nothing to do.
        """
        waiting = self._waiting
        if not waiting or not (self.full() or (idle and now - waiting[0][2] >= self._max_wait)):
            return []
        window: list[T] = []
        cost = 0.0
        while waiting and len(window) < self._max_events and (not window or cost + waiting[0][1] <= self._max_cost):
            event, its_cost, _ = waiting.popleft()
            window.append(event)
            cost += its_cost
        self._cost = self._cost - cost if waiting else 0.0
        return window

    def seconds_to_close(self, now: float) -> float | None:
        """How long until an idle thread would be given what waits; None when nothing waits."""
        return max(0.0, self._waiting[0][2] + self._max_wait - now) if self._waiting else None

    def drop(self, unwanted: Callable[[T], bool]) -> None:
        """Take out the events whose partition was revoked; the others keep their order and their waiting time."""
        self._waiting = deque(item for item in self._waiting if not unwanted(item[0]))
        self._cost = sum(cost for _, cost, _ in self._waiting)
