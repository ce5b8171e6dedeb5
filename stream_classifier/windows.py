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

TOKENS_PER_EVENT = 32  # of a window's cost: so many long texts as take as long as a full window of usual ones
_TOKENS_AT_MOST = 512  # more is not read of a text


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
        # Each with the cost of all events up to and with it, since ever: a difference of two is the cost of a run.
        self._waiting: deque[tuple[T, float, float]] = deque()
        self._added = self._taken = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: T, cost: float, now: float) -> None:
        """Put an event at the end of those that wait."""
        self._added += cost
        self._waiting.append((event, self._added, now))

    def full(self) -> bool:
        """Whether a whole window waits."""
        return len(self._waiting) >= self._max_events or self._added - self._taken >= self._max_cost

    def close(self, now: float, *, idle: bool) -> list[T]:
        """The next window; empty when it is to go on filling.

        Args:
            now: Seconds on the clock of `add`.
            idle: Whether an inference thread has nothing to do.
        """
        waiting = self._waiting
        if not waiting or not (self.full() or (idle and now - waiting[0][2] >= self._max_wait)):
            return []
        count = min(self._max_events, len(waiting))
        while count > 1 and waiting[count - 1][1] - self._taken > self._max_cost:
            count -= 1
        self._taken = waiting[count - 1][1]
        return [waiting.popleft()[0] for _ in range(count)]

    def first(self) -> list[T]:
        """The event that has waited longest, as a window of its own; empty when none waits."""
        if not self._waiting:
            return []
        event, self._taken, _ = self._waiting.popleft()
        return [event]

    def seconds_to_close(self, now: float) -> float | None:
        """How long until an idle thread would be given what waits; None when nothing waits."""
        return max(0.0, self._waiting[0][2] + self._max_wait - now) if self._waiting else None

    def drop(self, unwanted: Callable[[T], bool]) -> None:
        """Take out the events whose partition was revoked; the others keep their order and their waiting time."""
        kept = deque[tuple[T, float, float]]()
        dropped, before = 0.0, self._taken
        for event, until, now in self._waiting:
            if unwanted(event):
                dropped += until - before
            else:
                kept.append((event, until - dropped, now))
            before = until
        self._waiting = kept
        self._added -= dropped


def estimated_tokens(text: str) -> float:
    """What a text will cost, by a guess that costs nothing: four ASCII letters a token, or one and a half others."""
    return min(_TOKENS_AT_MOST, len(text) / 4 if text.isascii() else len(text) / 1.5)
