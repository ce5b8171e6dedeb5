"""What the worker tells of one event's way to whoever traces it, and `Untraced`, for when nobody does.

A call stands for a batch of events, never for one: without tracing it costs a few calls of empty methods for some
hundred events. The one thing that has to be done for each event, to put the trace's context into the headers of what
is produced, is a wrapper around the function that makes the record; without tracing there is no wrapper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stream_classifier.delivery import InFlight, Write
    from stream_classifier.events.outgoing import TopicLimits
    from stream_classifier.events.record import Record
    from stream_classifier.ledger import Partition


class Tracing(Protocol):
    """Follows events. Called by the worker's thread alone."""

    def polled(self, records: Collection[Record], seconds: float) -> None:
        """These were just polled, which took so long."""

    def handed_out(self, number: int, entries: Collection[InFlight]) -> None:
        """This window was given to the inference threads under this number."""

    def taken_back(self, number: int, error: BaseException | None) -> None:
        """It came back; the error is what the classifier raised."""

    def writing(self, write: Write, limits: Mapping[str, TopicLimits]) -> Write:
        """Wrap what makes the records that are produced.

        Args:
            write: Makes the record. It is called once for each attempt to produce it.
            limits: What each topic refuses: no record becomes larger than that by its context.
        """

    def acknowledged(self, entries: Collection[InFlight]) -> None:
        """The broker has these outcomes."""

    def committing(self, events: int) -> None:
        """A commit is under way; with it, so many events are committed in all."""

    def committed(self, events: int) -> None:
        """So many events are committed in all."""

    def rolled_back(self) -> None:
        """What was produced and not acknowledged is sent again."""

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Partitions were taken away: what is unfinished of them is another worker's to do."""

    def names(self, record: Record) -> dict[str, str]:
        """`trace_id` and `span_id` for a log line about this event; empty when it is not followed."""

    def close(self) -> None:
        """End what is open, and send what was not sent yet, if that can be done soon."""


class Untraced:
    """Follows nothing."""

    def polled(self, records: Collection[Record], seconds: float) -> None:
        """Nothing."""

    def handed_out(self, number: int, entries: Collection[InFlight]) -> None:
        """Nothing."""

    def taken_back(self, number: int, error: BaseException | None) -> None:
        """Nothing."""

    def writing(self, write: Write, limits: Mapping[str, TopicLimits]) -> Write:
        """The same function."""
        del limits
        return write

    def acknowledged(self, entries: Collection[InFlight]) -> None:
        """Nothing."""

    def committing(self, events: int) -> None:
        """Nothing."""

    def committed(self, events: int) -> None:
        """Nothing."""

    def rolled_back(self) -> None:
        """Nothing."""

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Nothing."""

    def names(self, record: Record) -> dict[str, str]:
        """None."""
        del record
        return {}

    def close(self) -> None:
        """Nothing."""
