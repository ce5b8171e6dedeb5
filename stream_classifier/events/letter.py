"""A dead letter as it is read back, and the notes in the dead-letter topic of what was redriven. Pure.

A note is a record without a value whose header names places of its own partition. It is written in the same
transaction as the events that went back, so that either both are seen or neither.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from stream_classifier.events.dead_letter import VALUE_BYTES
from stream_classifier.events.enrich import FIRST_SOURCE, LABEL_SET, SOURCE, output_timestamp, own_headers_removed
from stream_classifier.events.outgoing import record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream_classifier.events.record import Headers, Record

ERROR_CODE = "classifier-error-code"
SOURCE_TIMESTAMP = "classifier-source-timestamp"
REDRIVEN = "classifier-redriven"
_RANGES_A_NOTE = 50  # at most 2 kB: a note must fit wherever a dead letter does

Place = tuple[int, int]
"""Partition and offset in the dead-letter topic."""


class Source(NamedTuple):
    """Where an event stood."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """What is kept in memory of a dead letter: not its payload.

    Attributes:
        place: Where it is in the dead-letter topic.
        timestamp: When it was put aside, in milliseconds; None when the record has no time.
        code: Why; empty for a record that no worker wrote.
        source: Where the event stood, as its header says.
        label_set: What it was labelled with before it was refused, or was to be labelled with when the model failed;
            None for other reasons.
        source_timestamp: The event's own, in milliseconds; None when it had none.
        whole: Whether key, value and headers came along.
        size: Bytes that the event takes as a record of its topic, at the most.
    """

    place: Place
    timestamp: int | None
    code: str
    source: str
    label_set: str | None
    source_timestamp: int | None
    whole: bool
    size: int

    @property
    def name(self) -> str:
        """`partition/offset`."""
        return f"{self.place[0]}/{self.place[1]}"


class Returning(NamedTuple):
    """A record that is published by a redrive.

    Attributes:
        topic: Where to.
        partition: Its number there; -1 when the key shall choose.
        key: As it came.
        value: As it came.
        headers: The user's, and the first source.
        timestamp: The event's own in milliseconds; 0 for the time of sending.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


def read_letter(record: Record) -> Letter:
    """The dead letter that a record is."""
    stamp = _text(record, SOURCE_TIMESTAMP)
    return Letter(
        (record.partition, record.offset),
        record.timestamp,
        _text(record, ERROR_CODE) or "",
        _text(record, SOURCE) or "",
        _text(record, LABEL_SET),
        int(stamp) if stamp and re.fullmatch(r"[0-9]{1,18}", stamp) else None,
        not any(name == VALUE_BYTES for name, _ in record.headers or []),
        record_bytes(record.key, record.value, _returning_headers(record)),
    )


def parse_source(text: str) -> Source | None:
    """`topic/partition/offset`; None for anything else."""
    found = re.fullmatch(r"([A-Za-z0-9._-]{1,249})/([0-9]{1,10})/([0-9]{1,19})", text)
    return Source(found[1], int(found[2]), int(found[3])) if found else None


def returning(record: Record, partitions: dict[str, int], *, current_time: bool = False) -> Returning:
    """The event of a dead letter, as it goes back to where it came from.

    It goes to the partition that it came from, which is that of its key whatever chose it; where that is no more, its
    key chooses.

    Args:
        record: A dead letter from one of these topics, with its payload.
        partitions: How many each input topic has.
        current_time: Whether it gets the time at which it goes back, instead of its own.
    """
    letter = read_letter(record)
    source = parse_source(letter.source)
    if source is None or source.topic not in partitions:
        raise ValueError(f"{letter.name} did not come from one of {sorted(partitions)}")
    partition = source.partition if source.partition < partitions[source.topic] else -1
    timestamp = output_timestamp(None if current_time else letter.source_timestamp)
    return Returning(source.topic, partition, record.key, record.value, _returning_headers(record), timestamp)


def _returning_headers(record: Record) -> Headers:
    own = own_headers_removed(record.headers)
    first = _text(record, FIRST_SOURCE) or _text(record, SOURCE) or ""
    return [*((name, value) for name, value in own if name != FIRST_SOURCE), (FIRST_SOURCE, first.encode())]


def _text(record: Record, name: str) -> str | None:
    for its_name, value in record.headers or []:
        if its_name == name:
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return None


# Notes ----------------------------------------------------------------------------------------------------------------


def is_note(record: Record) -> bool:
    """Whether a record of the dead-letter topic is a note of what was redriven, and not a dead letter."""
    return any(name == REDRIVEN for name, _ in record.headers or [])


def read_note(record: Record) -> Iterator[Place]:
    """The places that a note says were redriven."""
    for part in (_text(record, REDRIVEN) or "").split(","):
        if found := re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", part):
            first = int(found[1])
            last = min(int(found[2] or first), record.offset)  # what is noted stands before the note
            yield from ((record.partition, offset) for offset in range(first, last + 1))


def notes(topic: str, places: Iterable[Place]) -> list[Returning]:
    """The notes that say that these places were redriven, each in the partition that it speaks of.

    Args:
        topic: The dead-letter topic.
        places: Any number of them.
    """
    ranges: dict[int, list[list[int]]] = {}
    for partition, offset in sorted(places):
        of_partition = ranges.setdefault(partition, [])
        if of_partition and of_partition[-1][1] == offset - 1:
            of_partition[-1][1] = offset
        else:
            of_partition.append([offset, offset])
    made = []
    for partition, of_partition in ranges.items():
        for begin in range(0, len(of_partition), _RANGES_A_NOTE):
            parts = of_partition[begin : begin + _RANGES_A_NOTE]
            text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
            made.append(Returning(topic, partition, None, None, [(REDRIVEN, text.encode())], 0))
    return made
