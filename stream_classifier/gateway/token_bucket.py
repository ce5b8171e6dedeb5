"""How often something may happen: so often a second on average, and so often at once. Pure: the time is an argument."""

from __future__ import annotations


class TokenBucket:
    """A bucket into which tokens drip, and from which each use takes one.

    Args:
        per_second: Tokens that drip in.
        burst: Tokens that it holds at most; it begins full.
        now: Seconds on the clock of `take`.
    """

    def __init__(self, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token if there is one.

        Args:
            now: Seconds; where the clock went back, nothing has dripped in.

        Returns:
            0 when it was taken, else the seconds until there will be one, if nobody else takes it.
        """
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = max(now, self._at)
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0
