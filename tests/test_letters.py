"""Dead letters as they are read back, the notes of what was redriven, and which can go back: pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.events.dead_letter import dead_letter, without_payload
from stream_classifier.events.letter import (
    Returning,
    Source,
    is_note,
    notes,
    parse_source,
    read_letter,
    read_note,
    returning,
)
from stream_classifier.events.outgoing import TopicLimits, record_bytes
from stream_classifier.events.record import Headers, Record
from stream_classifier.events.redrive import Choice, Letters, grouped, plan
from stream_classifier.events.refusal import Refusal

PLACES = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2**40) | st.integers(0, 400)), max_size=200)


def letter(
    place: int = 0,
    *,
    event: Record | None = None,
    refusal: Refusal | None = None,
    payload: bool = True,
    timestamp: int | None = 1000,
) -> Record:
    """A dead letter as it is read from partition 0, made by what makes them."""
    write = dead_letter if payload else without_payload
    event = event or Record("tickets", 2, 7, b"key", b"value", [("tenant", b"7")], 500)
    key, value, headers = write(event, refusal or Refusal("not_json", "why"), "1.0")
    return Record("dead", 0, place, key, value, as_read(headers), timestamp)


def as_read(headers: Headers) -> Headers:
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in headers]


def note_records(made: list[Returning], offset: int = 2**62) -> list[Record]:
    return [Record("dead", note.partition, offset, note.key, note.value, note.headers) for note in made]


@given(PLACES)
def test_notes_name_exactly_the_places_that_they_are_made_for(places: set[tuple[int, int]]) -> None:
    read = [place for record in note_records(notes("dead", places)) for place in read_note(record)]
    assert set(read) == places
    assert len(read) == len(places)


@given(PLACES)
def test_a_note_is_small_and_stands_in_the_partition_that_it_speaks_of(places: set[tuple[int, int]]) -> None:
    for note in notes("dead", places):
        assert note.topic == "dead"
        assert record_bytes(note.key, note.value, note.headers) < 2500
        (record,) = note_records([note])
        assert is_note(record)
        assert {partition for partition, _ in read_note(record)} == {note.partition}


@given(st.binary(max_size=40))
def test_a_note_that_holds_anything_else_names_nothing_that_stands_behind_it(content: bytes) -> None:
    record = Record("dead", 0, 20, None, None, [("classifier-redriven", content)])
    assert all(0 <= offset <= 20 for _, offset in read_note(record))


def test_a_dead_letter_is_no_note_whatever_headers_its_event_had() -> None:
    event = Record("tickets", 0, 0, None, b"v", [("classifier-redriven", b"0-9")])
    assert not is_note(letter(event=event))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("tickets/2/7", Source("tickets", 2, 7)),
        ("a.b_c-d/0/9223372036854775807", Source("a.b_c-d", 0, 2**63 - 1)),
        ("tickets/2", None),
        ("a/b/2/7", None),
        ("tickets/-1/7", None),
        ("tickets/2/7\n", None),
        ("", None),
    ],
)
def test_sources(text: str, source: Source | None) -> None:
    assert parse_source(text) == source


def test_what_goes_back_is_the_event_and_its_first_source() -> None:
    headers: Any = [("tenant", b"7"), ("empty", b""), ("null", None), ("tenant", b"8")]
    event = Record("tickets", 2, 7, b"key", b"value", headers, 500)
    first = [("classifier-first-source", b"tickets/2/7")]
    assert returning(letter(event=event), {"tickets": 3}) == Returning(
        "tickets", 2, b"key", b"value", headers + first, 500
    )


def test_the_first_source_stays_the_first_one() -> None:
    event = Record("tickets", 1, 9, None, b"v", [("classifier-first-source", b"tickets/0/1"), ("a", b"1")], 500)
    headers = [("a", b"1"), ("classifier-first-source", b"tickets/0/1")]
    assert returning(letter(event=event), {"tickets": 3}).headers == headers
    bare = letter(event=event, payload=False)
    assert ("classifier-first-source", b"tickets/0/1") in (bare.headers or [])
    assert ("a", b"1") not in (bare.headers or [])


def test_a_first_source_that_is_too_long_to_be_one_does_not_keep_a_dead_letter_from_fitting() -> None:
    event = Record("tickets", 1, 9, None, b"v", [("classifier-first-source", b"x" * 2_000_000)])
    bare = letter(event=event, payload=False)
    assert record_bytes(bare.key, bare.value, bare.headers or []) < 1000


@pytest.mark.parametrize(("timestamp", "sent"), [(0, 1), (500, 500), (None, 0)])
def test_the_time_is_the_events_own(timestamp: int | None, sent: int) -> None:
    event = Record("tickets", 2, 7, None, b"v", None, timestamp)
    assert returning(letter(event=event), {"tickets": 3}).timestamp == sent
    assert returning(letter(event=event), {"tickets": 3}, current_time=True).timestamp == 0


def test_the_key_chooses_where_the_partition_is_no_more() -> None:
    assert returning(letter(), {"tickets": 3}).partition == 2
    assert returning(letter(), {"tickets": 2}).partition == -1


def letters(*records: Record) -> Letters:
    read = Letters()
    for record in records:
        read.add(record)
    return read


@pytest.mark.parametrize(
    ("choice", "places"),
    [
        (Choice(), {0, 1, 2, 3}),
        (Choice(reasons=frozenset({"not_json"})), {0, 1}),
        (Choice(reasons=frozenset({"not_json", "tombstone"})), {0, 1, 2}),
        (Choice(source_topic="tickets"), {0, 2, 3}),
        (Choice(source_topic="ticket"), set()),
        (Choice(label_set="support"), {3}),
        (Choice(label_set="support@3"), {3}),
        (Choice(label_set="support@2"), set()),
        (Choice(since=2000), {1, 3}),
        (Choice(until=2000), {0}),
        (Choice(since=1000, until=2001), {0, 1}),
        (Choice(places=frozenset({(0, 1), (0, 3)})), {1, 3}),
        (Choice(places=frozenset({(0, 1)}), reasons=frozenset({"tombstone"})), set()),
    ],
)
def test_every_part_of_a_choice_must_agree(choice: Choice, places: set[int]) -> None:
    read = letters(
        letter(0, timestamp=1000),
        letter(1, timestamp=2000, event=Record("tickets2", 0, 0, None, b"v")),
        letter(2, timestamp=None, refusal=Refusal("tombstone", "why")),
        letter(3, timestamp=3000, refusal=Refusal("output_too_large", "why", "support@3")),
    )
    assert {offset for (_, offset), found in read.found.items() if choice.takes(found)} == places


def test_a_plan_sorts_by_what_would_become_of_each() -> None:
    read = letters(
        letter(0),
        letter(1, event=Record("elsewhere", 0, 0, None, b"v")),
        letter(2, payload=False),
        letter(3, event=Record("tickets", 0, 0, None, b"v", None, 1101)),
        letter(4, event=Record("tickets", 0, 0, None, b"v", None, 10)),
        Record("dead", 0, 5, None, b"somebody else's"),
        letter(6),
        *note_records(notes("dead", [(0, 6)]), 7),
        letter(8, refusal=Refusal("tombstone", "why"), event=Record("tickets", 0, 1, b"k", None, None, 900)),
        letter(9, event=Record("tickets", 0, 0, None, b"v", None, 150)),
    )
    limits = {"tickets": TopicLimits(5000, past_ms=900, future_ms=100)}
    kept = {"tickets": 800}
    planned = plan(read, Choice(), limits, kept, 1000, again=False, current_time=False)
    assert [[found.place[1] for found in part] for part in planned] == [[0, 8], [6], [2], [1, 5], [3, 4], [9]]
    assert planned.obstacles == 6
    again = plan(read, Choice(), limits, kept, 1000, again=True, current_time=True)
    assert [found.place[1] for found in again.returning] == [0, 3, 4, 6, 8, 9]
    assert again.before == []


def test_an_event_that_is_too_large_for_its_topic_stays() -> None:
    read = letters(letter(0), letter(1, event=Record("tickets", 0, 0, None, b"x" * 5000)))
    limits, kept = {"tickets": TopicLimits(5000)}, {"tickets": 1000}
    planned = plan(read, Choice(), limits, kept, 1000, again=False, current_time=True)
    assert [found.place[1] for found in planned.refused] == [1]


def test_groups_count_what_was_redriven_and_give_the_newest_that_was_not() -> None:
    read = letters(
        letter(0, timestamp=1000),
        letter(1, timestamp=3000),
        letter(2, timestamp=2000),
        letter(3, refusal=Refusal("tombstone", "why"), timestamp=None),
        *note_records(notes("dead", [(0, 1)]), 4),
    )
    first, second = grouped(read, Choice())
    assert (first.code, first.total, first.redriven, first.first, first.last) == ("not_json", 3, 1, 1000, 3000)
    assert first.example.place == (0, 2)
    assert (second.code, second.total, second.first, second.last) == ("tombstone", 1, None, None)


def test_no_payload_is_kept_of_what_was_read() -> None:
    assert "value" not in repr(read_letter(letter(event=Record("t", 0, 0, b"key", b"a text", [("a", b"text")]))))
