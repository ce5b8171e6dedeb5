"""How many padded tokens one run may have: less after running out of memory, and more again when that is long past."""

import threading
from typing import Final

CPU_TOKENS: Final = 512
"""Padded tokens of one run on a CPU core. More fall out of its caches: with 1,024 the built-in model is 15 to 20 %
slower."""

GPU_TOKENS: Final = 16_384
"""Padded tokens of one run on a GPU: enough to keep all of one busy. An estimate; `make gpu-check` measures it."""

RECOVERS_AFTER: Final = 32
"""Windows without trouble after which a lowered budget is doubled."""


def suitable_tokens(device: str) -> int:
    """Padded tokens of one run that suit a device."""
    return CPU_TOKENS if device == "cpu" else GPU_TOKENS


class TokenBudget:
    """The budget that all inference threads share.

    Args:
        max_tokens: What it starts with, and never exceeds.

    Attributes:
        max_tokens: As given.
    """

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._tokens = max_tokens
        self._good_windows = 0
        self._lock = threading.Lock()

    @property
    def tokens(self) -> int:
        """The budget now, at least 1."""
        return self._tokens

    def shrink(self, failed_tokens: int) -> None:
        """Lowers the budget to half of what did not fit.

        Half of that, not half of the budget: when several threads run out of memory at once, they say it together.

        Args:
            failed_tokens: Padded tokens of the run that ran out of memory.
        """
        with self._lock:
            self._tokens = max(1, min(self._tokens, failed_tokens // 2))
            self._good_windows = 0

    def good_window(self) -> None:
        """Counts a window that ran without trouble, and doubles the budget when there were enough of them."""
        if self._tokens == self.max_tokens:
            return
        with self._lock:
            self._good_windows += 1
            if self._good_windows >= RECOVERS_AFTER:
                self._tokens = min(self.max_tokens, self._tokens * 2)
                self._good_windows = 0
