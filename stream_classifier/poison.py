"""Finding the event that kills the process.

Theory of operation. An event that takes the whole process down (a crash in native code, a text that makes the model use
up all memory, one on which it hangs) would do so for ever: Kafka delivers it again to the next worker. Nothing in the
process survives to tell, so the marks beside the committed offsets have to (`marks`).

A partition whose last owner ended without handing it over is looked at with care: for some time its events are alone
in the model, one after the other, and before each of them the mark says which one it is. If the process dies, the
next owner knows the event, and tries it once more. Is that fatal too, then the event has been there at three deaths: it
is put aside as `killed_worker`.

Most workers that end so were simply killed, and then nothing is found. So the care is over after as many events as can
have been in the model, or when the partition has been read to its end.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_classifier.marks import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_classifier.ledger import Partition

FATAL_TRIES = 2  # alone in the model; the death before them, in company, makes three


class PoisonWatch:
    """The marks of the assigned partitions, and which of these are looked at with care.

    Args:
        events: After so many events the care is over.
        name: This worker's, for its marks.
    """

    def __init__(self, events: int, name: str) -> None:
        self._events = events
        self._left = 0
        self._name = name
        self._marks: dict[Partition, Mark] = {}
        self._care: dict[Partition, int] = {}  # events to go
        self._found: dict[Partition, Mark] = {}

    @property
    def careful(self) -> bool:
        """Whether events have to be alone in the model."""
        return bool(self._care)

    def assign(self, partition: Partition, found: Mark) -> bool:
        """Take over a partition.

        Args:
            partition: Which one.
            found: The mark beside its committed offset.

        Returns:
            Whether it is looked at with care.
        """
        if found.by in {"", self._name}:
            self._marks[partition] = Mark(found.partitions, self._name)
            return False
        self._marks[partition] = found._replace(by=self._name)
        self._found[partition] = found
        self._care[partition] = self._left = self._events
        return True

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions."""
        for partition in partitions:
            self._marks.pop(partition, None)
            self._found.pop(partition, None)
            self._care.pop(partition, None)

    def is_poison(self, partition: Partition, offset: int) -> bool:
        """Whether an event has been at as many deaths as it takes to be put aside."""
        found = self._found.get(partition)
        return found is not None and found.trying == offset and found.times >= FATAL_TRIES

    def try_alone(self, partition: Partition, offset: int) -> Mark | None:
        """Note that an event is going to be alone in the model.

        Returns:
            The mark that has to be committed before; None when the partition needs no care.
        """
        if partition not in self._care:
            return None
        found = self._found.get(partition)
        times = found.times if found is not None and found.trying == offset else 0
        mark = self._marks[partition]._replace(trying=offset, times=times + 1)
        self._marks[partition] = mark
        return mark

    def survived(self, partition: Partition) -> None:
        """Note that the event that was tried came back."""
        if partition not in self._care:
            return
        self._marks[partition] = Mark(self._marks[partition].partitions, self._name)
        self._care[partition] -= 1
        self._left -= 1
        if self._left <= 0:
            for each in list(self._care):
                self._relax(each)
        elif self._care[partition] <= 0:
            self._relax(partition)

    def reached_end(self, partition: Partition, left: int) -> None:
        """Note that a partition was read to its end: what comes later cannot have been in the model before.

        Args:
            partition: Which one.
            left: Its events that are still to be tried.
        """
        if partition in self._care:
            self._care[partition] = min(self._care[partition], left)
            if not left:
                self._relax(partition)

    def _relax(self, partition: Partition) -> None:
        del self._care[partition]
        self._found.pop(partition, None)
        self._marks[partition] = Mark(self._marks[partition].partitions, self._name)

    def mark(self, partition: Partition) -> Mark:
        """What stands beside the next committed offset of an assigned partition."""
        return self._marks[partition]
