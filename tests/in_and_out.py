"""Whether everything that went in came out: what each test of a fault asks at its end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException
from stream import Stream, header

if TYPE_CHECKING:
    from stream_classifier.events.record import Record


def source(record: Record) -> str:
    """Where an outcome comes from: topic, partition and offset."""
    value = header(record, "classifier-source")
    assert isinstance(value, bytes)
    return value.decode()


def published(stream: Stream) -> set[str]:
    """The source of every event of the input."""
    return {f"{stream.input}/{record.partition}/{record.offset}" for record in stream.contents(stream.input)}


def nothing_is_lost(stream: Stream, delivery: str, *, once: bool = False) -> None:
    """Each event of the input has an outcome, and no more than one where that is promised or asked for."""
    counted, wanted = _outcomes(stream), published(stream)
    missing = wanted - set(counted)
    assert not missing, f"{len(missing)} events have no outcome, such as {min(missing)}"
    assert set(counted) == wanted, "outcomes of events that nobody published"
    if once or delivery == "exactly_once":
        _are_there_once(counted)


def nothing_is_there_twice(stream: Stream) -> None:
    """No event has two outcomes."""
    _are_there_once(_outcomes(stream))


def _outcomes(stream: Stream) -> Counter[str]:
    return Counter(source(record) for record in (*stream.labelled, *stream.dead_letters))


def _are_there_once(counted: Counter[str]) -> None:
    twice = [name for name, count in counted.items() if count > 1]
    assert not twice, f"{len(twice)} events have more than one outcome, such as {twice[0]}"


def everything_is_committed(stream: Stream) -> bool:
    """Whether the group has committed the end of each partition that holds anything."""
    try:
        committed = stream.committed()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.COORDINATOR_LOAD_IN_PROGRESS:  # a broker that has just been started
            return False
        raise
    return committed == {number: end for number, end in stream.ends(stream.input).items() if end}
