"""Lines of a library that may come at any rate, as a few lines of ours."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

_SECONDS = 60.0


class SparseHandler(logging.Handler):
    """Writes the first line at once, and then one a minute at most, with the number of those that came meanwhile.

    Values in a line could be a secret (an address with a password, say): numbers are shown, and of the rest the type.

    Args:
        log: Where to.
        clock: Seconds; only differences matter.
    """

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._clock = clock
        self._next = 0.0
        self._untold = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Called by the library, in any of its threads, one at a time."""
        self._untold += 1
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _SECONDS
        self._log.warning("opentelemetry", said=_without_values(record), lines=self._untold)
        self._untold = 0


def _without_values(record: logging.LogRecord) -> str:
    """The line with the names of its values' types in the place of what is not a number."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    shown = tuple(
        value if isinstance(value, int | float | None) else f"<{type(value).__name__}>" for value in arguments
    )
    try:
        return str(record.msg) % shown if shown else str(record.msg)
    except (TypeError, ValueError):  # it wants a number, and has something else
        return str(record.msg)
