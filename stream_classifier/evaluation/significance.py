"""Whether one way of labelling is better than another on the same texts, or only luckier. Pure."""

import math
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from stream_classifier.evaluation.calibration import Truths

_EXACT_UP_TO: Final = 10_000


class Comparison(NamedTuple):
    """Two ways of labelling the same texts.

    Attributes:
        both: Texts that both label right.
        only_first: Texts that only the first labels right.
        only_second: Texts that only the second labels right.
        neither: Texts that none labels right.
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: Truths, second: Truths) -> "Comparison":
        """Count.

        Args:
            first: Which texts the first labels right, [texts].
            second: Which texts the second labels right, [texts].
        """
        return cls(
            int((first & second).sum()),
            int((first & ~second).sum()),
            int((~first & second).sum()),
            int((~first & ~second).sum()),
        )

    @property
    def difference(self) -> float:
        """The second's accuracy less the first's."""
        return (self.only_second - self.only_first) / sum(self)

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % interval of the difference: Bonett and Price (2012), the adjusted Wald interval for pairs."""
        total = sum(self) + 2
        gained, lost = (self.only_second + 1) / total, (self.only_first + 1) / total
        reach = NormalDist().inv_cdf(0.975) * math.sqrt((gained + lost - (gained - lost) ** 2) / total)
        return max(-1.0, gained - lost - reach), min(1.0, gained - lost + reach)

    @property
    def p_value(self) -> float:
        """How likely a difference of this size is if both are as good: McNemar (1947).

        Exact: a coin thrown for each text that only one of them labels right. With more than 10,000 such texts the
        normal distribution stands for it, with Yates's correction.
        """
        tosses, fewer = self.only_first + self.only_second, min(self.only_first, self.only_second)
        if tosses > _EXACT_UP_TO:
            deviation = max(0.0, abs(self.only_first - self.only_second) - 1) / math.sqrt(tosses)
            return math.erfc(deviation / math.sqrt(2))
        ways = tail = 1
        for heads in range(fewer):
            ways = ways * (tosses - heads) // (heads + 1)
            tail += ways
        return float(min(1.0, 2 * tail / 2**tosses))

    def as_json(self) -> dict[str, Any]:
        """All of it, ready to be written as JSON."""
        return {
            **self._asdict(),
            "difference": self.difference,
            "interval_95": list(self.interval),
            "p_value": self.p_value,
        }
