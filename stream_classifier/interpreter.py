"""Python's own settings, for a process that moves many small objects between a few threads."""

from __future__ import annotations

import gc
import sys

_SWITCH_SECONDS = 0.001
_OBJECTS_BETWEEN_LOOKS = 50_000


def tune_interpreter() -> None:
    """Set them, for the whole process; called when what lives long has been loaded."""
    # The Kafka thread computes for long between its waits; an inference thread gets its turn sooner than 5 ms later.
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Events are freed by reference counting. Looking for cycles after every 700 of them, as Python does, cost a quarter
    # of the speed of the plumbing (benchmarks/plumbing.py).
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS, 20, 100)
