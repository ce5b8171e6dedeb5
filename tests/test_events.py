"""Decoding and enriching, for whatever bytes come."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_classifier.events.decode import Decoder, PassThrough, Task, is_blank
from stream_classifier.events.enrich import Enricher, own_headers_removed, without_member
from stream_classifier.events.outgoing import TopicLimits, Writer, record_bytes
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.settings import InputSettings, OutputSettings, Settings

RESULT = b'{"label":"x"}'
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reading(**values: Any) -> InputSettings:
    return InputSettings(topics=("in",), **values)


def writing(**values: Any) -> OutputSettings:
    return OutputSettings(topic="out", **values)


def decode(value: bytes | None, **values: Any) -> Task | Refusal | PassThrough:
    return Decoder(reading(**values), writing()).decode(Record("in", 0, 0, None, value))


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_task_or_have_a_reason(value: bytes) -> None:
    answer = decode(value)
    assert isinstance(answer, Task | Refusal)
    try:
        value.decode()
    except UnicodeDecodeError:
        assert isinstance(answer, Refusal)
        assert answer.code == "not_utf8", "UTF-8 is checked before anything else"
    else:
        assert not isinstance(answer, Refusal) or answer.code != "not_utf8"


@given(
    before=st.dictionaries(st.text(), JSON, max_size=5), text=st.text(min_size=1), indent=st.sampled_from([None, 0, 2])
)
def test_what_comes_out_is_what_came_in_and_one_member_more(
    before: dict[str, Any], text: str, indent: int | None
) -> None:
    event = {name: item for name, item in before.items() if name not in {"text", "labels", "classification"}}
    try:
        value = json.dumps({**event, "text": text}, ensure_ascii=False, indent=indent).encode()
        orjson.loads(value)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return  # Python's json is laxer than the rules: lone surrogates
    answer = decode(value)
    if is_blank(text):
        assert isinstance(answer, Refusal)
        assert answer.code == "text_blank"
        return
    assert answer == Task(text, None)
    enriched = Enricher(reading(), writing()).enrich(value, RESULT)
    assert enriched.replace(b',"classification":' + RESULT, b"", 1) == value
    assert orjson.loads(enriched) == {**orjson.loads(value), "classification": {"label": "x"}}
    assert list(orjson.loads(enriched))[-1] == "classification"


@given(
    members=st.lists(st.tuples(st.sampled_from(["a", "b", 'c"}', "d\\", "é"]), JSON), max_size=6),
    space=st.sampled_from(["", " ", "\n\t"]),
)
def test_a_member_is_cut_out_and_the_rest_stays_byte_for_byte(members: list[tuple[str, Any]], space: str) -> None:
    def written(chosen: list[tuple[str, Any]]) -> bytes:
        parts = [f"{space}{json.dumps(name)}{space}:{json.dumps(item)}{space}" for name, item in chosen]
        return f" {{{','.join(parts)}}}{space}".encode()

    value = written(members)
    kept = written([member for member in members if member[0] != "a"])
    if any(name == "a" for name, _ in members):
        assert without_member(value, "a") == kept
    else:
        assert without_member(value, "a") == value


def test_overwriting_cuts_every_member_of_the_name_however_it_is_spelled() -> None:
    value = b'{"cl\\u0061ss":1, "text":"t" ,"deep":{"class":2},"class":"}"}'
    enriched = Enricher(reading(), writing(field="class", overwrite=True)).enrich(value, b"3")
    assert enriched == b'{ "text":"t" ,"deep":{"class":2},"class":3}'


@pytest.mark.parametrize("text", ["", " ", "\u3000", "\u200b\ufeff", "\u00ad", "\u2066\u2069 \t"])
def test_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "。", "👍", "\u200ba", "\x00", "़"])
def test_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_text_in_a_nested_member_and_labels_too() -> None:
    value = b'{"a":{"b":"hello","l":["x","y"]},"text":"not this"}'
    assert decode(value, text_field="a.b", labels_field="a.l") == Task("hello", ("x", "y"))
    refused = decode(b'{"a":["b"]}', text_field="a.b")
    assert isinstance(refused, Refusal)
    assert refused.code == "text_missing"


def test_own_headers_are_replaced_and_the_first_source_stays() -> None:
    headers: Any = [("a", b"1"), ("classifier-source", b"x"), ("classifier-first-source", b"y"), ("a", None)]
    assert own_headers_removed(headers) == [("a", b"1"), ("classifier-first-source", b"y"), ("a", None)]
    assert own_headers_removed(None) == []


def writer(**limits: Any) -> Writer:
    settings = Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "unused", "group_id": "unused"},
            "input": {"topics": ["in"]},
            "output": {"topic": "out"},
            "dead_letter": {"topic": "dead"},
            "labels": {"path": "unused"},
        }
    )
    return Writer(settings, {"out": TopicLimits(**limits), "dead": TopicLimits(**limits)}, model="m", version="1")


@given(size=st.integers(0, 6000), header=st.integers(0, 3000))
def test_what_passes_is_never_larger_than_the_topic_allows(size: int, header: int) -> None:
    value = b'{"text":"%s"}' % (b"x" * size)
    record = Record("in", 0, 7, b"key", value, [("h", b"v" * header)], 1000)
    outgoing = writer(max_bytes=5000).labelled(record, RESULT, "s@1", 2000)
    if isinstance(outgoing, Refusal):
        assert outgoing.code == "output_too_large"
        assert size + header > 4000
    else:
        assert record_bytes(*outgoing[1:4]) <= 5000


@pytest.mark.parametrize(("timestamp", "taken"), [(900, True), (899, False), (1200, True), (1201, False), (None, True)])
def test_timestamps_at_the_edge_of_what_the_topic_takes(timestamp: int | None, taken: bool) -> None:
    record = Record("in", 0, 7, None, b'{"text":"t"}', None, timestamp)
    outgoing = writer(past_ms=100, future_ms=200).labelled(record, RESULT, "s@1", 1000)
    assert isinstance(outgoing, Refusal) is not taken


def test_a_record_shows_its_place_and_never_its_value() -> None:
    assert repr(Record("in", 1, 7, b"k", b"a user's text")) == "Record(in/1/7)"
