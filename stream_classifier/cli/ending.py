"""How a command that ran for long says why it ended."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from stream_classifier.errors import StreamClassifierError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def log_end(log: FilteringBoundLogger, error: Exception) -> int:
    """Log what ended the command; gives its exit code."""
    if isinstance(error, StreamClassifierError):
        log.error("ended", reason=str(error))  # foreseen: the reason says it all
        return error.exit_code
    # Its message could quote a text; where it came from is enough to look it up.
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:]]
    log.error("ended by a defect", error=type(error).__name__, where=where)
    return 1
