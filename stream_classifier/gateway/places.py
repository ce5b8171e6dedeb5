"""How much may be under way, and no more than that: what comes over the bound is refused at once, and never queued."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stream_classifier.gateway.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator


class Places:
    """So many of one kind.

    Args:
        bound: How many.
        retry_after: Seconds that whoever finds none is told to wait.

    Attributes:
        taken: How many are taken.
    """

    def __init__(self, bound: int, retry_after: float) -> None:
        self.taken = 0
        self._bound = bound
        self._retry_after = retry_after

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place, for as long as the context is entered.

        Raises:
            Problem: All are taken: `overloaded`.
        """
        if self.taken >= self._bound:
            raise Problem("overloaded", retry_after=self._retry_after)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
