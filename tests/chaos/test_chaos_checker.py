"""The checker finds what it is there to find: each promise is broken here once, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checker import Seen, compare

GOOD = b'{"id": 1, "text":"where is my parcel" }'
LABELLED = b'{"id": 1, "text":"where is my parcel" ,"classification":{"label":"delivery"}}'
BAD = b'{"id":1}'


def event(offset: int, value: bytes = GOOD, *, partition: int = 0, key: bytes = b"k") -> Seen:
    return Seen("in", partition, offset, key, value, (("trace", b"7"),), 1000)


def result(of: Seen, offset: int, value: bytes = LABELLED, **changes: Any) -> Seen:
    source = f"in/{of.partition}/{of.offset}".encode()
    headers = (*of.headers, ("classifier-source", source))
    return of._replace(topic="out", offset=offset, value=value, headers=headers)._replace(**changes)


EVENTS = [event(0), event(1), event(2, BAD), event(3)]
OUTPUTS = [result(EVENTS[number], place) for place, number in enumerate((0, 1, 3))]
DEAD = [result(EVENTS[2], 0, BAD)]


def test_what_is_as_it_should_be_passes() -> None:
    verdict = compare(EVENTS, OUTPUTS, DEAD)
    assert not verdict.wrong()
    assert (verdict.inputs, verdict.results, verdict.duplicates) == (4, 4, 0)
    assert not verdict.steps_back


def test_an_event_without_a_result_is_lost() -> None:
    assert compare(EVENTS, OUTPUTS[:-1], DEAD).lost == [(0, 3)]
    assert compare(EVENTS, OUTPUTS, []).lost == [(0, 2)]


def test_a_second_result_is_counted_whichever_topic_it_is_in() -> None:
    again = compare(EVENTS, [*OUTPUTS, result(EVENTS[1], 3), result(EVENTS[3], 4)], DEAD * 2)
    assert again.twice == {(0, 1): 1, (0, 2): 1, (0, 3): 1}
    assert again.steps_back == {0: 1}, "back to the second event once, and then in order"
    assert not again.wrong()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"value": LABELLED.replace(b"parcel", b"Parcel")}, "another value"),
        ({"value": LABELLED.replace(b" ,", b",")}, "another value"),
        ({"value": LABELLED[:-2] + b",}}"}, "a classification that is not JSON"),
        ({"value": LABELLED[:-1] + b',"more":1}'}, "another value"),
        ({"value": LABELLED.replace(b"label", b"lable")}, "no label"),
        ({"value": GOOD}, "another value"),
        ({"value": None}, "another value"),
        ({"key": b"other"}, "another key"),
        ({"timestamp": 1001}, "another timestamp"),
        ({"headers": (("classifier-source", b"in/0/0"),)}, "other headers"),
    ],
)
def test_a_result_that_is_not_the_events_own_bytes_is_told(changes: dict[str, Any], problem: str) -> None:
    assert compare(EVENTS, [OUTPUTS[0]._replace(**changes), *OUTPUTS[1:]], DEAD).altered == [f"in/0/0: {problem}"]


def test_a_dead_letter_that_is_not_the_events_own_bytes_is_told() -> None:
    assert compare(EVENTS, OUTPUTS, [DEAD[0]._replace(value=BAD + b" ")]).altered == ["in/0/2: another value"]


def test_an_event_in_the_wrong_topic_is_told() -> None:
    assert compare(EVENTS, OUTPUTS[1:], [*DEAD, result(EVENTS[0], 1, GOOD)]).misplaced == [(0, 0)]


def test_what_is_nobodys_result_is_told() -> None:
    assert compare(EVENTS[:-1], OUTPUTS, DEAD).foreign == ["in/0/3"]


def test_an_event_that_is_overtaken_is_told() -> None:
    """In a repetition, the older one coming first is no such thing."""
    swapped = [OUTPUTS[1], OUTPUTS[0], OUTPUTS[2]]
    assert compare(EVENTS, swapped, DEAD).overtaken == ["in/0/0"]


def test_a_key_in_two_partitions_is_told() -> None:
    assert compare(EVENTS, [*OUTPUTS[:-1], OUTPUTS[-1]._replace(partition=1)], DEAD).split == [b"k"]
