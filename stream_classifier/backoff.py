"""How long to wait before trying again. Pure."""

from __future__ import annotations


def delay(attempt: int, *, first: float, most: float, jitter: float) -> float:
    """Seconds before an attempt: doubled each time up to a limit, then scattered between half and all of it.

    Args:
        attempt: 0 for the first repetition.
        first: Seconds before the first repetition.
        most: Seconds that it never passes.
        jitter: A random number from 0 to 1; spreads workers that failed at the same moment.
    """
    wait = min(most, first * 2.0 ** min(attempt, 60))
    return wait * (0.5 + 0.5 * jitter)
