"""How much may be under way, and which partitions have to wait.

Pure: the time is an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_classifier.ledger import Partition

_RESERVE = 1 / 4  # of the bound, for the others when some partitions hold more than their share


class Allowance(NamedTuple):
    """What the consumer may do next.

    Attributes:
        events: How many events may be polled; 0 when a bound is reached.
        paused: The partitions that must not be fetched from meanwhile.
    """

    events: int
    paused: frozenset[Partition]


class Pressure:
    """Keeps what is in flight below a bound, and shares it fairly.

    At the bound the worker first just does not poll: most often there is room again in a few milliseconds, and pausing
    throws away what the client has fetched already. When the pressure lasts, partitions are paused, so that the
    consumer can go on polling, without which it would fall out of its group.

    The first to be paused are those that hold more than their share, because they have much to do or because their
    first event is slow. The rest of the bound is kept for the others, so that one partition cannot keep them out. Only
    when that is used up too, all are paused, until a whole window has room.

    Args:
        max_events: Events in flight, at most.
        max_bytes: Bytes in flight; passed by no more than what the client had fetched already.
        window: Events of one window.
        patience: Seconds at a bound before partitions are paused.
    """

    def __init__(self, *, max_events: int, max_bytes: int, window: int, patience: float = 0.2) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._window = window
        self._patience = patience
        self._at_bound_since: float | None = None
        self._all_paused = False
        self._over: frozenset[Partition] = frozenset()

    def allow(self, lanes: Mapping[Partition, int], events: int, size: int, now: float) -> Allowance:
        """What may be polled now.

        Args:
            lanes: Events in flight of each assigned partition.
            events: Events in flight in all.
            size: Bytes in flight in all.
            now: Seconds.
        """
        share = self._max_events / max(1, len(lanes))
        self._over = frozenset(partition for partition in self._over if lanes.get(partition, 0) > share / 2)
        fill = max(events / self._max_events, size / self._max_bytes)
        if self._all_paused and fill > max(0.0, 1 - self._window / self._max_events):
            return Allowance(0, frozenset(lanes))
        self._all_paused = False

        bound = 1 - _RESERVE if len(lanes) > 1 and not self._over else 1.0
        if fill < bound:
            self._at_bound_since = None
            return Allowance(max(1, int(bound * self._max_events) - events), self._over)
        if self._at_bound_since is None:
            self._at_bound_since = now
        if now - self._at_bound_since >= self._patience:
            self._at_bound_since = now
            over = frozenset(partition for partition, count in lanes.items() if count > share)
            if fill < 1 and over - self._over and len(over) < len(lanes):
                self._over |= over
            else:
                self._all_paused = True
                return Allowance(0, frozenset(lanes))
        return Allowance(0, self._over)
