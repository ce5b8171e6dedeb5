"""CloudEvents 1.0 in Kafka records, by the Kafka protocol binding and the JSON event format, both 1.0.2."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_classifier.events.cloudevents import CloudEventsForm
from stream_classifier.events.decode import PASS_THROUGH, Task
from stream_classifier.events.record import Headers, Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.settings import Settings

RESULT = b'{"label":"delivery"}'
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "opened"}
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]


def form(**changes: Any) -> CloudEventsForm:
    document: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "none:1", "group_id": "g"},
        "input": {"topics": ["in"], "format": "cloudevents"},
        "output": {"topic": "out"},
        "dead_letter": {"topic": "dead"},
        "labels": {"path": "labels.yaml"},
    }
    for section, values in changes.items():
        document[section] |= values
    return CloudEventsForm(Settings.model_validate(document))


def binary(content_type: str | None = "application/json", **changes: str | None) -> Headers:
    headers: Headers = [
        (f"ce_{name}", value.encode()) for name, value in (ATTRIBUTES | changes).items() if value is not None
    ]
    return headers if content_type is None else [*headers, ("content-type", content_type.encode())]


def record(value: bytes | None, headers: Headers) -> Record:
    return Record("in", 0, 0, None, value, headers)


def code(value: bytes | None, headers: Headers) -> str:
    answer = form().decode(record(value, headers))
    assert isinstance(answer, Refusal), answer
    assert "parcel" not in answer.message
    return answer.code


@pytest.mark.parametrize("content_type", [None, "application/json", "application/vnd.shop+json; charset=utf-8"])
def test_in_binary_mode_the_value_is_the_data(content_type: str | None) -> None:
    mine, event = form(), record(b'{ "text":"t", "n":1.0 }', binary(content_type))
    assert mine.decode(event) == Task("t", None)
    assert mine.enrich(event, RESULT) == b'{ "text":"t", "n":1.0 ,"classification":{"label":"delivery"}}'
    assert mine.restyle is None


def test_in_structured_mode_the_data_is_a_member() -> None:
    value = (
        b'{"data":{"text":"old"}, "data" : {"text":"t","labels":["a","b"]} ,"specversion":"1.0","id":"1","source":"/s",'
    )
    value += b'"type":"x","ext":12345678901234567890}'
    mine, event = form(), record(value, STRUCTURED)
    assert mine.decode(event) == Task("t", ("a", "b"))
    spliced = value.replace(b'"b"]}', b'"b"],"classification":{"label":"delivery"}}')
    assert mine.enrich(event, RESULT) == spliced


@given(
    data=st.dictionaries(st.text(), st.none() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text())),
    extensions=st.dictionaries(st.from_regex(r"x[a-z0-9]{1,10}", fullmatch=True), st.text()),
)
def test_nothing_of_a_structured_event_is_lost(data: dict[str, Any], extensions: dict[str, str]) -> None:
    data = {name: value for name, value in data.items() if name not in {"labels", "classification"}} | {"text": "t"}
    event = extensions | ATTRIBUTES | {"data": data}
    mine, one = form(), record(orjson.dumps(event), STRUCTURED)
    assert mine.decode(one) == Task("t", None)
    out = orjson.loads(mine.enrich(one, RESULT))
    assert out["data"].pop("classification") == {"label": "delivery"}
    assert out == event


def test_a_derived_event_gets_the_attributes_that_the_settings_give() -> None:
    mine = form(output={"cloudevents_type": "ticket.labelled", "cloudevents_source": "/labels"})
    one = record(b'{"text":"t"}', binary())
    assert mine.restyle is not None
    headers = dict(mine.restyle(one, binary()))
    assert (headers["ce_type"], headers["ce_source"], headers["ce_id"]) == (b"ticket.labelled", b"/labels", b"1")
    structured = record(orjson.dumps(ATTRIBUTES | {"data": {"text": "t"}}), STRUCTURED)
    assert mine.restyle(structured, STRUCTURED) == STRUCTURED
    assert orjson.loads(mine.enrich(structured, RESULT)) == ATTRIBUTES | {
        "type": "ticket.labelled",
        "source": "/labels",
        "data": {"text": "t", "classification": {"label": "delivery"}},
    }


def test_headers_of_a_structured_event_do_not_contradict_it() -> None:
    """Such an event may have the headers of the binary mode as well; and names of headers are taken in any case."""
    mine = form(output={"cloudevents_type": "ticket.labelled"})
    assert mine.restyle is not None
    headers = [*binary(None), *STRUCTURED]
    one = record(orjson.dumps(ATTRIBUTES | {"data": {"text": "t"}}), headers)
    assert dict(mine.restyle(one, headers)) == dict(headers) | {"ce_type": b"ticket.labelled"}
    shouted: Headers = [(name.upper(), value) for name, value in binary()]
    other = record(b'{"text":"t"}', shouted)
    assert mine.decode(other) == Task("t", None)
    written = mine.restyle(other, shouted)
    assert [value for name, value in written if name.lower() == "ce_type"] == [b"ticket.labelled"]


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json; charset=UTF-8", b"Application/CloudEvents+JSON;charset=utf-8"]
)
def test_the_mode_is_told_whatever_case_and_parameters(content_type: bytes) -> None:
    mine = form()
    one = record(
        orjson.dumps(ATTRIBUTES | {"data": {"text": "t"}, "data_base64": None}), [("content-type", content_type)]
    )
    assert mine.decode(one) == Task("t", None)
    assert orjson.loads(mine.enrich(one, RESULT))["data"]["classification"] == {"label": "delivery"}


@pytest.mark.parametrize("missing", list(ATTRIBUTES))
@pytest.mark.parametrize("value", [None, ""])
def test_an_attribute_that_is_required_and_missing(missing: str, value: str | None) -> None:
    assert code(b'{"text":"parcel"}', binary(**{missing: value})) == "cloudevent_invalid"
    event: dict[str, Any] = ATTRIBUTES | {"data": {"text": "parcel"}, missing: value}
    assert code(orjson.dumps(event), STRUCTURED) == "cloudevent_invalid"


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"{oops", STRUCTURED),
        (b"[]", STRUCTURED),
        (orjson.dumps(ATTRIBUTES), STRUCTURED),
        (orjson.dumps(ATTRIBUTES | {"data": "parcel"}), STRUCTURED),
        (orjson.dumps(ATTRIBUTES | {"data_base64": base64.b64encode(b"{}").decode()}), STRUCTURED),
        (orjson.dumps(ATTRIBUTES | {"data": {"text": "t"}, "data_base64": "e30="}), STRUCTURED),
        (orjson.dumps(ATTRIBUTES | {"data": {"text": "t"}, "datacontenttype": "text/xml"}), STRUCTURED),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")]),
        (b"{}", [("content-type", b"application/cloudevents+avro")]),
        (b'{"text":"t"}', binary("text/plain")),
        (b'{"text":"t"}', binary(specversion="0.3")),
        (b'{"text":"t"}', [*binary(id=None), ("ce_id", b"\xff")]),
        (b'{"text":"t"}', []),
    ],
)
def test_what_is_no_cloudevent_of_ours(value: bytes, headers: Headers) -> None:
    assert code(value, headers) == "cloudevent_invalid"


def test_data_that_cannot_be_labelled_has_the_reasons_of_json() -> None:
    assert code(b"{oops", binary()) == "not_json"
    assert code(b'{"text":" "}', binary()) == "text_blank"
    assert code(orjson.dumps(ATTRIBUTES | {"data": {}}), STRUCTURED) == "text_missing"
    assert code(None, binary()) == "tombstone"
    assert form(input={"tombstones": "pass_through"}).decode(record(None, binary())) is PASS_THROUGH
