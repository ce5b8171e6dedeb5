"""The heart of the promise: which events are in flight, in what order they leave, and how far may be committed.

Theory of operation. Each assigned partition has a lane. An event is

    admitted      when it was polled,
    settled       when its outcome is known: a label, or a reason to put it aside,
    released      when every event before it in its lane is settled too: outcomes leave in the order of the input,
    acknowledged  when the broker has the record of its outcome,

and the lane's low-water mark is the offset after the last unbroken run of acknowledged events. Unbroken in the order of
admission: transaction markers and compaction leave holes between offsets, which are nobody's events. With nothing in
flight the low-water mark is the position up to which the consumer has read, or such holes at the end of a partition
would look like lag for ever.

A revoked lane is gone with everything in it. What comes back later for one of its events (an outcome, an
acknowledgement) changes nothing, also when the partition has been assigned again meanwhile: that is a new lane. Brokers
accept late offsets for a partition that was lost, so this is the only fence.

No I/O, no clock, no Kafka.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

EventT = TypeVar("EventT")
OutcomeT = TypeVar("OutcomeT")


class Partition(NamedTuple):
    """A partition of an input topic."""

    topic: str
    number: int


class Entry(Generic[EventT, OutcomeT]):
    """One event in flight.

    Attributes:
        lane: Where it belongs.
        offset: Its offset there.
        event: What was admitted.
        size: Its bytes, as they count against the bound.
        outcome: None until it is settled.
        acknowledged: Whether the broker has the record of its outcome.
        releases: How often it was released.
    """

    __slots__ = ("acknowledged", "event", "lane", "offset", "outcome", "releases", "size")

    def __init__(self, lane: Lane[EventT, OutcomeT], offset: int, event: EventT, size: int) -> None:
        self.lane = lane
        self.offset = offset
        self.event = event
        self.size = size
        self.outcome: OutcomeT | None = None
        self.acknowledged = False
        self.releases = 0


class Lane(Generic[EventT, OutcomeT]):
    """One partition during one assignment. Changed by its ledger alone.

    Attributes:
        partition: Which one.
        in_flight: Events that are admitted and not yet below the low-water mark.
        bytes_in_flight: Their sizes together.
        low_water: Everything below this offset is done; None until something was read.
        position: Everything below this offset was read; None until something was.
        revoked: True once the partition was taken away.
        waiting: Entries that are not released, in the order of admission.
        released: Entries that are released and not below the low-water mark, in the same order.
        handed_out: The low-water mark that `Ledger.committable` gave last.
    """

    __slots__ = (
        "bytes_in_flight",
        "handed_out",
        "in_flight",
        "low_water",
        "partition",
        "position",
        "released",
        "revoked",
        "waiting",
    )

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.in_flight = 0
        self.bytes_in_flight = 0
        self.low_water: int | None = None
        self.position: int | None = None
        self.revoked = False
        self.waiting: deque[Entry[EventT, OutcomeT]] = deque()
        self.released: deque[Entry[EventT, OutcomeT]] = deque()
        self.handed_out: int | None = None


class Ledger(Generic[EventT, OutcomeT]):
    """All lanes of one consumer.

    Attributes:
        lanes: The lane of each assigned partition.
        in_flight: Events in flight in all lanes.
        bytes_in_flight: Their sizes together.
    """

    def __init__(self) -> None:
        self.lanes: dict[Partition, Lane[EventT, OutcomeT]] = {}
        self.in_flight = 0
        self.bytes_in_flight = 0
        self._releasable: set[Lane[EventT, OutcomeT]] = set()
        self._moved: set[Lane[EventT, OutcomeT]] = set()

    def assign(self, partition: Partition) -> None:
        """Open a lane.

        Raises:
            ValueError: The partition has one.
        """
        if partition in self.lanes:
            raise ValueError(f"{partition} is assigned already")
        self.lanes[partition] = Lane(partition)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Drop lanes with everything in them; partitions that have none are passed over."""
        for partition in partitions:
            if lane := self.lanes.pop(partition, None):
                lane.revoked = True
                self.in_flight -= lane.in_flight
                self.bytes_in_flight -= lane.bytes_in_flight
                self._releasable.discard(lane)
                self._moved.discard(lane)

    def admit(self, lane: Lane[EventT, OutcomeT], offset: int, event: EventT, size: int) -> Entry[EventT, OutcomeT]:
        """Take in an event that was polled.

        Raises:
            ValueError: The lane was revoked, or the consumer went back to an offset that it had passed, so that offsets
                of this lane could be committed too early.
        """
        if lane.revoked or (lane.position is not None and offset < lane.position):
            raise ValueError(f"{lane.partition}: offset {offset} after {lane.position} was read, or after a revocation")
        entry = Entry(lane, offset, event, size)
        if lane.low_water is None:
            lane.low_water = lane.handed_out = offset
        lane.position = offset + 1
        lane.waiting.append(entry)
        lane.in_flight += 1
        lane.bytes_in_flight += size
        self.in_flight += 1
        self.bytes_in_flight += size
        return entry

    def read_up_to(self, lane: Lane[EventT, OutcomeT], position: int) -> None:
        """Note that the consumer has read the partition up to here, whether or not there were events on the way."""
        if lane.revoked or (lane.position is not None and position <= lane.position):
            return
        lane.position = position
        if not lane.in_flight:
            lane.low_water = position
            self._moved.add(lane)

    def settle(self, entry: Entry[EventT, OutcomeT], outcome: OutcomeT) -> None:
        """Note an event's outcome. One that has its outcome, or whose lane was revoked, is passed over."""
        self.settle_all((entry,), (outcome,))

    def settle_all(self, entries: Collection[Entry[EventT, OutcomeT]], outcomes: Iterable[OutcomeT]) -> None:
        """Note the outcomes of a window: as `settle` does, for each."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            lane = entry.lane
            if entry.outcome is None and not lane.revoked:
                entry.outcome = outcome
                if lane.waiting[0] is entry:
                    self._releasable.add(lane)

    def release(self) -> list[Entry[EventT, OutcomeT]]:
        """The entries that may be produced now, in the order of each lane; each is given once between rollbacks."""
        entries = []
        for lane in self._releasable:
            waiting, released = lane.waiting, lane.released
            while waiting and waiting[0].outcome is not None:
                entry = waiting.popleft()
                released.append(entry)
                entry.releases += 1
                entries.append(entry)
        self._releasable.clear()
        return entries

    def acknowledge(self, entries: Collection[Entry[EventT, OutcomeT]]) -> None:
        """Note that the broker has these outcomes. Entries of revoked lanes are passed over."""
        touched = set()
        for entry in entries:
            entry.acknowledged = True
            touched.add(entry.lane)
        for lane in touched:
            if not lane.revoked:
                self._raise_low_water(lane)

    def _raise_low_water(self, lane: Lane[EventT, OutcomeT]) -> None:
        released, count, size, low_water = lane.released, 0, 0, lane.low_water
        while released and released[0].acknowledged:
            entry = released.popleft()
            low_water = entry.offset + 1
            count += 1
            size += entry.size
        if not count:
            return
        lane.in_flight -= count
        lane.bytes_in_flight -= size
        self.in_flight -= count
        self.bytes_in_flight -= size
        lane.low_water = low_water if lane.in_flight else lane.position
        self._moved.add(lane)

    def committable(self) -> dict[Partition, int]:
        """The low-water marks that rose since the last call: the offsets to commit."""
        offsets = {}
        for lane in self._moved:
            if lane.low_water is not None and lane.low_water != lane.handed_out:
                lane.handed_out = offsets[lane.partition] = lane.low_water
        self._moved.clear()
        return offsets

    def committable_with_released(self) -> dict[Partition, int]:
        """The low-water marks as they will be once everything that is released is acknowledged, where that is news.

        For a transaction, which holds the results and these offsets together; `committed` notes that it went through.
        """
        offsets = {}
        for lane in self.lanes.values():
            if lane.waiting:
                offset = lane.released[-1].offset + 1 if lane.released else lane.low_water
            else:
                offset = lane.position
            if offset is not None and (lane.released or offset != lane.handed_out):
                offsets[lane.partition] = offset
        return offsets

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Note that these offsets of `committable_with_released` were committed; their events are acknowledged."""
        for partition, offset in offsets.items():
            if (lane := self.lanes.get(partition)) is not None:
                lane.handed_out = offset

    def rollback(self) -> None:
        """Make everything releasable again from the first entry of each lane that is not acknowledged; in its order.

        Also what was acknowledged after that one: were it not repeated, the older event would be the last one that a
        reader sees of its key. No inference is repeated.
        """
        for lane in self.lanes.values():
            if lane.released:
                for entry in lane.released:
                    entry.acknowledged = False
                lane.waiting.extendleft(reversed(lane.released))
                lane.released.clear()
                self._releasable.add(lane)
