"""What a worker writes beside each committed offset, for whoever reads the partition after it.

Kafka keeps a short text with every committed offset, and gives it to the next owner of the partition. Ours says

    clean partitions=6                          handed over: everything that was begun is done
    running partitions=6 by=0f3a99c1                        a worker has it; found by another one, that worker died
    running partitions=6 by=0f3a99c1 trying=4711 times=2    and event 4711 was alone in the model, for the second time

`by` is a name that a worker's process gives itself: it may lose its partitions and get them back, and knows then that
nobody has died.

`partitions` is how many the topic had when the group began with it. A partition of a higher number was added later, so
its events are all new, whatever `input.start_at` says.

Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(r"(?:clean|running) partitions=(\d{1,9})(?: by=(\w{1,64})(?: trying=(\d{1,19}) times=(\d{1,9}))?)?")


class Mark(NamedTuple):
    """What the text says.

    Attributes:
        partitions: How many the topic had when the group began with it; 0 when not known.
        by: The worker that has the partition; empty when it was handed over.
        trying: The offset of the event that is alone in the model.
        times: How often that event was tried alone, this time included.
    """

    partitions: int = 0
    by: str = ""
    trying: int | None = None
    times: int = 0

    def __str__(self) -> str:
        if not self.by:
            return f"clean partitions={self.partitions}"
        text = f"running partitions={self.partitions} by={self.by}"
        return text if self.trying is None else f"{text} trying={self.trying} times={self.times}"


def read_mark(text: str | None) -> Mark:
    """The mark of a committed offset. A text that another program wrote says nothing to us."""
    found = _FORM.fullmatch(text or "")
    if found is None:
        return Mark()
    partitions, by, trying, times = found.groups()
    return Mark(int(partitions), by or "", None if trying is None else int(trying), int(times or 0))
