"""What a worker writes beside each committed offset, for whoever reads the partition after it.

Kafka keeps a short text with every committed offset, and gives it to the next owner of the partition. Ours says

    clean partitions=6                          handed over: everything that was begun is done
    running partitions=6                        a worker has it; found at the start of another one, that worker died
    running partitions=6 trying=4711 times=2    as above, and event 4711 was alone in the model, for the second time

`partitions` is how many the topic had when the group began with it. A partition of a higher number was added later, so
its events are all new, whatever `input.start_at` says.

Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(r"(clean|running) partitions=(\d{1,9})(?: trying=(\d{1,19}) times=(\d{1,9}))?")


class Mark(NamedTuple):
    """What the text says.

    Attributes:
        partitions: How many the topic had when the group began with it; 0 when not known.
        running: Whether a worker has the partition.
        trying: The offset of the event that is alone in the model.
        times: How often that event was tried alone, this time included.
    """

    partitions: int = 0
    running: bool = False
    trying: int | None = None
    times: int = 0

    def __str__(self) -> str:
        text = f"{'running' if self.running else 'clean'} partitions={self.partitions}"
        return text if self.trying is None else f"{text} trying={self.trying} times={self.times}"


def read_mark(text: str | None) -> Mark:
    """The mark of a committed offset. A text that another program wrote says nothing to us."""
    found = _FORM.fullmatch(text or "")
    if found is None:
        return Mark()
    state, partitions, trying, times = found.groups()
    return Mark(int(partitions), state == "running", None if trying is None else int(trying), int(times or 0))
