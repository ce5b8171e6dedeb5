"""How a command that runs for long is told to end, and says why it ended."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from stream_classifier.errors import StreamClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

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


def stop_on_signals(stop: Callable[[], object], seconds: float, log: FilteringBoundLogger) -> None:
    """Call `stop` at the first SIGTERM or SIGINT, and end the process if it is still there so many seconds later."""

    def told(_: int, __: FrameType | None) -> None:
        # Whoever insists is heard by the kernel, also while the client waits for a broker that is gone; nothing past
        # the low-water mark is committed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        stop()
        deadline = threading.Timer(seconds, overrun)
        deadline.daemon = True
        deadline.start()

    def overrun() -> None:
        log.error("ended", reason=f"still not stopped {seconds:g} s after it was told to")
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
