"""The texts that wait for the model, without those that nobody waits for any more. Pure: the time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from stream_classifier.windows import Windows

T = TypeVar("T")


class Place(Generic[T]):
    """Where something stands that was put to those that wait.

    Attributes:
        item: What.
        waits: Whether it still does: it was neither handed out nor given up.
    """

    __slots__ = ("item", "waits")

    def __init__(self, item: T) -> None:
        self.item = item
        self.waits = True


class Waiting(Generic[T]):
    """Windows from which what waits can be taken out again, each at little cost.

    Args:
        windows: Says when a window closes; used by nobody else.
    """

    def __init__(self, windows: Windows[Place[T]]) -> None:
        self._windows = windows
        self._given_up = 0  # of those in the windows

    def __len__(self) -> int:
        return len(self._windows) - self._given_up

    def add(self, item: T, cost: float, now: float) -> Place[T]:
        """Put something at the end."""
        place = Place(item)
        self._windows.add(place, cost, now)
        return place

    def give_up(self, place: Place[T]) -> None:
        """Take something out, if it still waits."""
        if not place.waits:
            return
        place.waits = False
        self._given_up += 1
        # Each search goes through all of them: so it waits until half of them are to be found.
        if 2 * self._given_up > len(self._windows):
            self._clear()

    def window(self, now: float, *, idle: bool) -> list[T]:
        """The next window, in the order in which its items came; empty when it is to go on filling.

        Args:
            now: Seconds on the clock of `add`.
            idle: Whether an inference thread has nothing to do.
        """
        if self._given_up:
            self._clear()
        window = self._windows.close(now, idle=idle)
        for place in window:
            place.waits = False
        return [place.item for place in window]

    def seconds_to_close(self, now: float) -> float | None:
        """How long until an idle thread would be given what waits; None when nothing waits."""
        if self._given_up:
            self._clear()
        return self._windows.seconds_to_close(now)

    def _clear(self) -> None:
        self._windows.drop(lambda place: not place.waits)
        self._given_up = 0
