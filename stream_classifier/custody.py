"""Which partitions this worker has, as the group knows it: the marks beside the committed offsets, and who reads them.

What the marks say is in `marks`, and what they are good for in `poison`; here they are sent and waited for. Nothing
waits inside: what the group has acknowledged is seen the next time round.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from stream_classifier.marks import Mark, read_mark
from stream_classifier.poison import PoisonWatch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from stream_classifier.delivery import InFlight, Outcome
    from stream_classifier.events.record import Record
    from stream_classifier.kafka.source import Source
    from stream_classifier.kafka.starts import Start
    from stream_classifier.ledger import Lane, Ledger, Partition

_AGAIN_SECONDS = 1.0  # after which a mark that was not acknowledged is sent again


class Custody:
    """The marks of the assigned partitions. Used by the worker's thread alone.

    Args:
        source: Commits them.
        ledger: Knows how far each partition is done.
        events: As many events are looked at with care after a worker died.
    """

    def __init__(self, source: Source, ledger: Ledger[Record, Outcome], events: int) -> None:
        self._source = source
        self._lanes = ledger.lanes
        self._poison = PoisonWatch(events, uuid.uuid4().hex[:8])
        self._trying: InFlight | None = None
        self._send_at = 0.0
        self._confirming = False

    @property
    def careful(self) -> bool:
        """Whether events have to be alone in the model."""
        return self._poison.careful

    def assign(self, starts: Mapping[Partition, Start]) -> list[Partition]:
        """Take partitions over.

        Returns:
            Those whose last owner ended without handing them over, which are looked at with care.
        """
        self._send_at = 0.0
        return [partition for partition, start in starts.items() if self._poison.assign(partition, start.mark)]

    def revoke(self, partitions: Collection[Partition]) -> None:
        """Forget partitions."""
        self._poison.revoke(partitions)

    def announced(self, now: float) -> bool:
        """Whether the group knows of each partition that this worker has it: before that, nothing goes to the model.

        And has answered each time that it was told: a mark that is still under way could come after a transaction's
        offsets, and take the group back to before them.
        """
        missing = [lane for partition, lane in self._lanes.items() if partition not in self._source.marked]
        if missing and now >= self._send_at:
            self._send(missing, now)
        return not missing and not self._source.marking

    def may_be_tried(self, entry: InFlight, now: float) -> bool:
        """Whether an event can be alone in the model now: the group has to know which one it is, if it needs care."""
        partition = entry.lane.partition
        if entry is not self._trying:
            self._trying = entry
            self._poison.try_alone(partition, entry.offset)
            self._send_at = 0.0
        mark = self._poison.mark(partition)
        if mark.trying is None or self._source.marked.get(partition) == str(mark):
            return not self._source.marking
        if now >= self._send_at:
            self._send([entry.lane], now)
        return False

    def survived(self, entries: Iterable[InFlight]) -> None:
        """Note that the model gave these back."""
        if self._poison.careful:
            for partition in {entry.lane.partition for entry in entries if not entry.lane.revoked}:
                self._poison.survived(partition)

    def is_poison(self, entry: InFlight) -> bool:
        """Whether an event has been at as many deaths as it takes to be put aside."""
        return self._poison.careful and self._poison.is_poison(entry.lane.partition, entry.offset)

    def reached_end(self, lane: Lane[Record, Outcome]) -> None:
        """Note that a partition was read to its end."""
        if self._poison.careful:
            self._poison.reached_end(lane.partition, sum(entry.outcome is None for entry in lane.waiting))

    def confirmed(self, now: float) -> bool:
        """Whether the group has acknowledged all marks once more, which it does for its members only."""
        if not self._confirming:
            self._confirming = True
            self._source.marked.clear()
        self._confirming = not self.announced(now)
        return not self._confirming

    def marked(self, offsets: Mapping[Partition, int]) -> dict[Partition, tuple[int, str]]:
        """Offsets that are about to be committed, with the mark beside each."""
        return {partition: (offset, str(self._poison.mark(partition))) for partition, offset in offsets.items()}

    def hand_over(self, partitions: Iterable[Partition], *, suspicious: bool) -> None:
        """Commit what is done of these partitions, and that nobody has to look for the reason why it is not more.

        Args:
            partitions: Which ones.
            suspicious: Whether the reason may be one of their events: then whoever has them next is to look for it.
        """
        lanes = [self._lanes[partition] for partition in partitions if partition in self._lanes]
        offsets = self.marked(_low_water(lanes))
        if not suspicious:
            offsets = {
                partition: (offset, str(Mark(self._poison.mark(partition).partitions)))
                for partition, (offset, _) in offsets.items()
            }
        self._source.hand_over(offsets)

    def handed_over(self) -> bool:
        """Whether the group knows how far each partition is done, and that nobody has to look for a reason."""
        marked = self._source.marked
        return all(
            partition in marked and not read_mark(marked[partition]).by
            for partition, lane in self._lanes.items()
            if lane.low_water is not None
        )

    def _send(self, lanes: Iterable[Lane[Record, Outcome]], now: float) -> None:
        self._send_at = now + _AGAIN_SECONDS
        self._source.mark(self.marked(_low_water(lanes)))


def _low_water(lanes: Iterable[Lane[Record, Outcome]]) -> dict[Partition, int]:
    return {lane.partition: lane.low_water for lane in lanes if lane.low_water is not None}
