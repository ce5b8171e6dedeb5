"""Events with a schema: written by confluent-kafka's serializers, labelled, and read by its deserializers."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import functools
import io
import json
import re
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import orjson
import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, timestamp_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema_case import CONF, RESULT, Case, Once, refusal
from schema_registry import SchemaRegistry

from stream_classifier.errors import RegistryError, SettingsError
from stream_classifier.events.decode import Awaited, Task
from stream_classifier.events.refusal import Refusal
from stream_classifier.registry.client import RegistryClient
from stream_classifier.settings import SchemaRegistrySettings

if TYPE_CHECKING:
    from collections.abc import Iterator


ABSTAINED = RESULT | {"label": None, "labels": [], "decided_by": "similarity"}
TICKET = {
    "type": "record",
    "name": "Ticket",
    "namespace": "shop",
    "fields": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}],
}


@pytest.fixture(scope="module")
def local() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def registry(request: pytest.FixtureRequest, local: SchemaRegistry) -> str:
    return str(request.config.getoption("schema_registry") or local.url)


@pytest.fixture(scope="module")
def client(registry: str) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry}) as client:
        yield client


@pytest.fixture
def case(registry: str) -> Iterator[Any]:
    made: list[Case] = []

    def make(form: str, **changes: Any) -> Case:
        made.append(Case(registry, form, **changes))
        return made[-1]

    yield make
    for one in made:
        one.form.close()


def avro_value(client: SchemaRegistryClient, case: Case, schema: Any, event: Any) -> bytes:
    schema = schema if isinstance(schema, Schema) else json.dumps(schema)
    value: bytes | None = AvroSerializer(client, schema, conf=CONF)(event, case.context(case.input))
    assert value is not None
    return value


def read_avro(client: SchemaRegistryClient, case: Case, value: bytes) -> Any:
    return AvroDeserializer(client, conf=CONF)(value, case.context(case.output))


@pytest.mark.parametrize("result", [RESULT, ABSTAINED])
def test_avro_comes_out_as_avro(client: SchemaRegistryClient, case: Any, result: dict[str, Any]) -> None:
    mine = case("avro")
    value = avro_value(client, mine, TICKET, {"id": 2**62 + 1, "text": "where is my parcel"})
    record = mine.record(value)
    assert mine.decode(record) == Task("where is my parcel", None)
    out = mine.form.enrich(record, orjson.dumps(result))
    assert read_avro(client, mine, out) == {
        "id": 2**62 + 1,
        "text": "where is my parcel",
        "classification": {"decided_by": None} | result,
    }
    assert out[5 : len(value)] == value[5:], "what came in stays byte for byte"
    assert client.get_latest_version(f"{mine.output}-value").schema_id == struct.unpack(">I", out[1:5])[0]


def test_two_versions_of_a_schema_on_one_topic(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro")
    newer = TICKET | {"fields": [*TICKET["fields"], {"name": "shop", "type": ["null", "string"], "default": None}]}
    old = mine.label(avro_value(client, mine, TICKET, {"id": 1, "text": "a"}))
    new = mine.label(avro_value(client, mine, newer, {"id": 2, "text": "b", "shop": "s"}))
    assert read_avro(client, mine, old) == {"id": 1, "text": "a", "classification": RESULT | {"decided_by": None}}
    assert read_avro(client, mine, new) == {
        "id": 2,
        "text": "b",
        "shop": "s",
        "classification": RESULT | {"decided_by": None},
    }
    assert client.get_versions(f"{mine.output}-value") == [1, 2]
    reader = json.loads(client.get_latest_version(f"{mine.output}-value").schema.schema_str or "")
    both = AvroDeserializer(client, json.dumps(reader), conf=CONF)(old, mine.context(mine.output))
    assert isinstance(both, dict)
    assert both["shop"] is None, "the old event can be read by the new schema"


def test_an_avro_schema_that_refers_to_another(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro", input={"text_field": "body.text", "labels_field": "body.labels"})
    inner = {
        "type": "record",
        "name": "Body",
        "namespace": "shop",
        "fields": [
            {"name": "text", "type": "string"},
            {"name": "labels", "type": {"type": "array", "items": "string"}},
        ],
    }
    client.register_schema(f"{mine.input}-body", Schema(json.dumps(inner), "AVRO"))
    outer = {
        "type": "record",
        "name": "Ticket",
        "namespace": "shop",
        "fields": [{"name": "body", "type": "shop.Body"}],
    }
    schema = Schema(json.dumps(outer), "AVRO", [SchemaReference("shop.Body", f"{mine.input}-body", 1)])
    value = avro_value(client, mine, schema, {"body": {"text": "money back", "labels": ["x", "y"]}})
    record = mine.record(value)
    assert mine.decode(record) == Task("money back", ("x", "y"))
    out = read_avro(client, mine, mine.form.enrich(record, orjson.dumps(RESULT)))
    assert out["body"] == {"text": "money back", "labels": ["x", "y"]}
    assert out["classification"]["label"] == "delivery"


def test_an_event_goes_through_two_workers(client: SchemaRegistryClient, case: Any) -> None:
    first, second = case("avro"), case("avro", output={"field": "mood"})
    value = first.label(avro_value(client, first, TICKET, {"id": 1, "text": "a"}))
    out = read_avro(client, second, second.label(value))
    assert out["classification"]["label"] == out["mood"]["label"] == "delivery"


MANY = {
    "type": "record",
    "name": "Everything",
    "namespace": "shop",
    "fields": [
        {"name": "text", "type": "string"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "raw", "type": "bytes"},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "either", "type": ["null", "long", "string", {"type": "array", "items": "double"}]},
        {"name": "numbers", "type": {"type": "map", "values": "long"}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {
            "name": "inner",
            "type": {"type": "record", "name": "Inner", "fields": [{"name": "next", "type": ["null", "shop.Inner"]}]},
        },
    ],
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LONGS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
EVENTS = st.fixed_dictionaries(
    {
        "text": st.text(min_size=1).filter(lambda text: text.strip() == text and text.isalnum()),
        "price": st.decimals(-(10**15), 10**15, places=4),
        "at": st.integers(0, 2**52).map(lambda micros: EPOCH + dt.timedelta(microseconds=micros)),
        "day": st.none() | st.dates(),
        "raw": st.binary(),
        "hash": st.binary(min_size=4, max_size=4),
        "kind": st.sampled_from("AB"),
        "either": st.none() | LONGS | st.text() | st.lists(FLOATS, max_size=3),
        "numbers": st.dictionaries(st.text(), LONGS, max_size=3),
        "key": st.uuids(),
        "inner": st.just({"next": {"next": None}}),
    }
)


@given(event=EVENTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_of_an_avro_record_is_lost(local: SchemaRegistry, event: Any) -> None:
    mine, plain = MANY_CASES(local.url)
    value = avro_value(SERVED(local.url), mine, MANY, event)
    out = read_avro(SERVED(local.url), mine, mine.label(value))
    assert out.pop("classification") == RESULT | {"decided_by": None}
    assert out == event
    as_json = orjson.loads(plain.label(value))
    assert as_json["classification"] == RESULT
    assert decimal.Decimal(as_json["price"]) == event["price"]
    assert as_json["numbers"] == event["numbers"]
    assert as_json["text"] == event["text"]


MANY_CASES = Once(lambda url: (Case(url, "avro"), Case(url, "avro", output={"format": "json"})))
SERVED = Once(lambda url: SchemaRegistryClient({"url": url}))


def test_more_bytes_than_the_record_are_refused(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro")
    value = avro_value(client, mine, TICKET, {"id": 1, "text": "a"})
    for changed in (value + b"\0", value[:-1], value[:6] + b"\xff" * 12):
        assert refusal(mine, changed) == "schema_mismatch"


@pytest.mark.parametrize("form", ["avro", "protobuf", "json_schema"])
@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0\0", b'{"text":"parcel"}', b"\2\0\0\0\1\0"])
def test_a_value_without_framing_is_refused(case: Any, form: str, value: bytes) -> None:
    assert refusal(case(form), value) == "schema_mismatch"


@pytest.mark.parametrize("form", ["avro", "protobuf", "json_schema"])
def test_an_id_that_nobody_knows_is_refused(case: Any, form: str) -> None:
    assert refusal(case(form), b"\0\x7f\xff\xff\xf0\0abc") == "schema_unknown"
    assert refusal(case(form), None) == "tombstone"


@pytest.mark.parametrize("form", ["avro", "protobuf", "json_schema"])
@pytest.mark.parametrize("first", [b"\0\x80\0\0\0", b"\0\xff\xff\xff\xff"])
def test_an_id_that_cannot_be_one_is_not_asked_for(local: SchemaRegistry, form: str, first: bytes) -> None:
    """The registry's path takes 31 bits: its answer would be that of something that is no registry."""
    mine = Case(local.url, form)
    asked = len(local.asked)
    assert refusal(mine, first + b"\0where is my parcel") == "schema_unknown"
    assert len(local.asked) == asked
    mine.form.close()


def test_a_guid_is_unknown_to_a_registry_that_has_none(local: SchemaRegistry) -> None:
    """Those before version 8 do not have the path; no event can make a worker ask for ever by that."""
    mine = Case(local.url, "avro")
    local.knows_guids = False
    try:
        header = [("__value_schema_id", b"\1" + uuid.uuid4().bytes)]
        assert refusal(mine, b"parcel", header) == "schema_unknown"
    finally:
        local.knows_guids = True
        mine.form.close()


@pytest.mark.parametrize(
    ("form", "schema_type", "text"),
    [
        ("avro", "AVRO", "{oops"),
        ("avro", "AVRO", '{"type":"record","name":"T"}'),
        ("json_schema", "JSON", "{oops"),
        ("json_schema", "JSON", '{"properties":5}'),
        ("json_schema", "JSON", "[" * 100_000),
        ("protobuf", "PROTOBUF", "oops"),
    ],
)
def test_a_schema_that_nobody_can_read_ends_no_worker(
    local: SchemaRegistry, form: str, schema_type: str, text: str
) -> None:
    mine = Case(local.url, form)
    with SchemaRegistryClient({"url": local.url}) as client:
        number = client.register_schema(f"{mine.input}-value", Schema(text, schema_type))
    assert refusal(mine, struct.pack(">bI", 0, number) + b"\0parcel") == "schema_mismatch"
    mine.form.close()


@pytest.mark.parametrize(
    ("within", "begin", "end"),
    [
        (["null", "Node"], b"\2a\2", b""),
        ({"type": "array", "items": "shop.Node"}, b"\2a\2", b"\0"),
        (
            {
                "type": "map",
                "values": ["null", {"type": "record", "name": "B", "fields": [{"name": "n", "type": "Node"}]}],
            },
            b"\2a\2\2k\2",
            b"\0",
        ),
    ],
)
@pytest.mark.parametrize("output", ["same", "json"])
def test_records_in_records_end_no_process(
    client: SchemaRegistryClient, case: Any, within: Any, begin: bytes, end: bytes, output: str
) -> None:
    """fastavro reads some kilobytes of records in records until the stack, and so the process, is at its end."""
    fields = [{"name": "text", "type": "string"}, {"name": "next", "type": within}]
    schema = {"type": "record", "name": "Node", "namespace": "shop", "fields": fields}
    mine = case("avro", output={"format": output})
    number = client.register_schema(f"{mine.input}-value", Schema(json.dumps(schema), "AVRO"))
    refused = 0
    for depth in (0, 1, 20, *range(100, 300, 5), 1000, 5000, 100_000):
        record = mine.record(struct.pack(">bI", 0, number) + begin * depth + b"\2a\0" + end * depth)
        answer = mine.decode(record)
        if isinstance(answer, Refusal):
            assert answer.code == "schema_mismatch"
            refused += 1
        else:
            assert answer == Task("a", None)
            assert mine.form.enrich(record, orjson.dumps(RESULT))
            assert depth < 1000
        assert refused == 0 or depth > 50
    assert refused >= 3


NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "null"}},
        {"type": "array", "items": NOTHING},
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
        {"type": "array", "items": {"type": "fixed", "name": "None", "size": 0}},
        ["null", {"type": "map", "values": {"type": "array", "items": "null"}}],
        {"type": "array", "items": {"type": "array", "items": NOTHING}},
        {"type": "record", "name": "In", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]},
    ],
)
def test_an_array_whose_items_take_no_bytes_is_refused(client: SchemaRegistryClient, case: Any, kind: Any) -> None:
    """Some bytes would be a count, and with it as many items: fastavro would make them until the memory is full."""
    mine = case("avro")
    fields = [{"name": "text", "type": "string"}, {"name": "more", "type": kind}]
    schema = Schema(json.dumps({"type": "record", "name": "T", "fields": fields}), "AVRO")
    number = client.register_schema(f"{mine.input}-value", schema)
    assert refusal(mine, struct.pack(">bI", 0, number) + b"\2a\0") == "schema_refused"


def test_an_array_of_a_named_type_without_bytes_in_another_schema_is_refused(
    client: SchemaRegistryClient, case: Any
) -> None:
    mine = case("avro")
    client.register_schema(f"{mine.input}-nothing", Schema(json.dumps(NOTHING), "AVRO"))
    fields = [{"name": "text", "type": "string"}, {"name": "more", "type": {"type": "array", "items": "Nothing"}}]
    schema = Schema(
        json.dumps({"type": "record", "name": "T", "fields": fields}),
        "AVRO",
        [SchemaReference("Nothing", f"{mine.input}-nothing", 1)],
    )
    number = client.register_schema(f"{mine.input}-value", schema)
    value = io.BytesIO()
    fastavro.schemaless_writer(value, {"type": "array", "items": "null"}, [None] * 1_000_000)
    assert len(value.getvalue()) < 10
    assert refusal(mine, struct.pack(">bI", 0, number) + b"\2a" + value.getvalue()) == "schema_refused"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ({"type": "array", "items": ["null", "int"]}, [None, 1]),
        ({"type": "map", "values": "null"}, {"k": None}),
        (NOTHING, {"n": None}),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 1}}, [b"a"]),
        ({"type": "array", "items": {"type": "map", "values": "null"}}, [{}]),
        ({"type": "array", "items": {"type": "enum", "name": "K", "symbols": ["A"]}}, ["A"]),
    ],
)
def test_an_array_whose_items_take_bytes_is_not_refused(
    client: SchemaRegistryClient, case: Any, kind: Any, value: Any
) -> None:
    mine = case("avro")
    fields = [{"name": "text", "type": "string"}, {"name": "more", "type": kind}]
    schema = {"type": "record", "name": "T", "fields": fields}
    out = mine.label(avro_value(client, mine, schema, {"text": "a", "more": value}))
    assert read_avro(client, mine, out)["more"] == value


def test_a_type_that_is_used_twice_is_no_recursion(client: SchemaRegistryClient, case: Any) -> None:
    inner = {"type": "record", "name": "Node", "namespace": "other", "fields": [{"name": "n", "type": "int"}]}
    fields = [
        {"name": "text", "type": "string"},
        {"name": "one", "type": inner},
        {"name": "two", "type": ["null", "other.Node"]},
    ]
    schema = {"type": "record", "name": "Node", "namespace": "shop", "fields": fields}
    mine = case("avro")
    out = mine.label(avro_value(client, mine, schema, {"text": "a", "one": {"n": 1}, "two": {"n": 2}}))
    assert read_avro(client, mine, out)["two"] == {"n": 2}


def test_a_schema_of_another_kind_is_refused(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("json_schema")
    assert refusal(mine, avro_value(client, mine, TICKET, {"id": 1, "text": "a"})) == "schema_mismatch"


def test_a_schema_that_is_no_record_is_refused(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro")
    assert refusal(mine, avro_value(client, mine, "string", "where is my parcel")) == "schema_mismatch"


def test_a_field_of_that_name_is_refused(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro", output={"field": "id"})
    assert refusal(mine, avro_value(client, mine, TICKET, {"id": 1, "text": "a"})) == "field_taken"


def test_the_decoded_event_is_looked_at_as_any_other(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro")
    assert refusal(mine, avro_value(client, mine, TICKET, {"id": 1, "text": " "})) == "text_blank"
    other = case("avro", input={"text_field": "body"})
    assert refusal(other, avro_value(client, other, TICKET, {"id": 1, "text": "a"})) == "text_missing"


# Protobuf -------------------------------------------------------------------------------------------------------------

F = descriptor_pb2.FieldDescriptorProto


@functools.cache
def proto(syntax: str = "proto3", fields: int = 3) -> Any:
    """Message types `shop.Outer` and its `Ticket`, as a compiler would make them."""
    file = descriptor_pb2.FileDescriptorProto(name=f"shop_{syntax}_{fields}.proto", package="shop", syntax=syntax)
    file.dependency.append("google/protobuf/timestamp.proto")
    outer = file.message_type.add(name="Outer")
    outer.field.add(name="unused", number=1, type=F.TYPE_INT64, label=F.LABEL_OPTIONAL)
    ticket = outer.nested_type.add(name="Ticket")
    needed = F.LABEL_REQUIRED if syntax == "proto2" else F.LABEL_OPTIONAL
    ticket.field.add(name="id", number=1, type=F.TYPE_INT64, label=needed)
    ticket.field.add(name="text", number=2, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    ticket.field.add(name="labels", number=3, type=F.TYPE_STRING, label=F.LABEL_REPEATED)
    ticket.field.add(
        name="at",
        number=4,
        type=F.TYPE_MESSAGE,
        type_name=".google.protobuf.Timestamp",
        label=F.LABEL_OPTIONAL,
    )
    for number in range(5, 2 + fields):
        ticket.field.add(name=f"more_{number}", number=number, type=F.TYPE_BYTES, label=F.LABEL_OPTIONAL)
    ticket.reserved_range.add(start=100_000, end=100_002)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Outer.Ticket"))


def proto_value(client: SchemaRegistryClient, case: Case, message: Any) -> bytes:
    conf = CONF | {"skip.known.types": True}
    value: bytes | None = ProtobufSerializer(type(message), client, conf)(message, case.context(case.input))
    assert value is not None
    return value


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
@pytest.mark.parametrize("result", [RESULT, ABSTAINED])
def test_protobuf_comes_out_as_protobuf(
    client: SchemaRegistryClient, case: Any, syntax: str, result: dict[str, Any]
) -> None:
    mine = case("protobuf")
    message = proto(syntax)(id=-(2**62), text="where is my parcel", labels=["a", "b"])
    message.at.FromMilliseconds(1_790_000_000_123)
    value = proto_value(client, mine, message)
    record = mine.record(value)
    assert mine.decode(record) == Task("where is my parcel", ("a", "b"))
    out = mine.form.enrich(record, orjson.dumps(result))

    # Whoever has the old class reads the event as it was; what it does not know is the result.
    as_before = ProtobufDeserializer(type(message), CONF, client)(out, mine.context(mine.output))
    assert isinstance(as_before, type(message))
    assert as_before.id == message.id
    assert as_before.at == message.at
    assert list(as_before.labels) == ["a", "b"]

    # Whoever has the new one, too: it is made of what is registered.
    registered = client.get_latest_version(f"{mine.output}-value", "serialized")
    new = class_of(registered.schema.schema_str or "", "shop.Outer.Ticket")
    read: Any = ProtobufDeserializer(new, CONF, client)(out, mine.context(mine.output))
    assert json_format.MessageToDict(read.classification, preserving_proto_field_name=True) == {
        name: value for name, value in result.items() if value not in (None, []) and (value or syntax == "proto2")
    } | ({} if result["truncated"] or syntax == "proto3" else {"truncated": False})
    assert read.classification.HasField("label") == (result["label"] is not None)
    assert new.DESCRIPTOR.fields_by_name["classification"].number == 100_002, "reserved numbers are passed over"
    read.ClearField("classification")
    assert read.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


def class_of(serialized: str, name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(serialized))
    file.name = "registered.proto"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_a_number_stays_the_same_while_a_message_gets_more_fields(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("protobuf")
    numbers = set()
    for fields in (3, 5):
        mine.label(proto_value(client, mine, proto(fields=fields)(id=1, text="t")))
        latest = client.get_latest_version(f"{mine.output}-value", "serialized").schema.schema_str or ""
        numbers.add(class_of(latest, "shop.Outer.Ticket").DESCRIPTOR.fields_by_name["classification"].number)
    assert numbers == {100_002}


def test_protobuf_as_json(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("protobuf", output={"format": "json"})
    out = orjson.loads(mine.label(proto_value(client, mine, proto()(id=2**60, text="t"))))
    assert out == {"id": str(2**60), "text": "t", "classification": RESULT}


def test_a_field_of_that_name_is_refused_in_protobuf_as_json_too(client: SchemaRegistryClient, case: Any) -> None:
    value = proto_value(client, case("protobuf"), proto()(id=1, text="t"))
    assert refusal(case("protobuf", output={"format": "json", "field": "id"}), value) == "field_taken"
    replaced = case("protobuf", output={"format": "json", "field": "id", "overwrite": True}).label(value)
    assert orjson.loads(replaced) == {"text": "t", "id": RESULT}
    assert replaced.count(b'"id"') == 1


def test_protobuf_that_is_none_is_refused(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("protobuf")
    value = proto_value(client, mine, proto()(id=1, text="t"))
    assert refusal(mine, value + b"\xff") == "schema_mismatch"
    # A message that its schema does not have.
    assert refusal(mine, value[:5] + b"\x04\x00\x12" + value[8:]) == "schema_mismatch"
    assert refusal(mine, value[:5] + b"\x02\x01" + value[7:]) == "schema_mismatch", "nor one before the first"
    assert refusal(mine, proto_value(client, mine, proto()(id=1))) == "text_blank"


# JSON Schema ----------------------------------------------------------------------------------------------------------

OBJECT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Ticket",
    "type": "object",
    "properties": {"text": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["text"],
    "additionalProperties": False,
}


def json_value(client: SchemaRegistryClient, case: Case, schema: Any, event: Any) -> bytes:
    schema = schema if isinstance(schema, Schema) else json.dumps(schema)
    value: bytes | None = JSONSerializer(schema, client, conf=CONF)(event, case.context(case.input))
    assert value is not None
    return value


def read_json(client: SchemaRegistryClient, case: Case, value: bytes) -> Any:
    return JSONDeserializer(None, schema_registry_client=client, conf=CONF)(value, case.context(case.output))


def test_json_with_a_schema_comes_out_with_one(client: SchemaRegistryClient, case: Any) -> None:
    mine, plain = case("json_schema"), case("json_schema", output={"format": "json"})
    framing = json_value(client, mine, OBJECT, {"text": "t"})[:5]
    value = framing + '{ "text" : "外卖" , "n" : 12345678901234567890123456789 }'.encode()
    out = mine.label(value)
    number = 12345678901234567890123456789
    expected = {"text": "外卖", "n": number, "classification": RESULT}
    assert json.loads(out[5:]) == expected
    assert read_json(client, mine, out) == expected | {"n": float(number)}, "their reader knows 64 bits"
    assert out[5:].startswith(value[5:-1]), "the event's own bytes stay as they were"
    assert plain.label(value) == out[5:]


def test_json_that_its_schema_does_not_allow_is_refused(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("json_schema")
    framing = json_value(client, mine, OBJECT, {"text": "t"})[:5]
    for bad in (b"{oops", b'{"text":5}', b'{"text":"parcel","x":1}', b"[]", b"\xff"):
        assert refusal(mine, framing + bad) == "schema_mismatch"


def test_json_schemas_that_refer_to_others(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("json_schema")
    client.register_schema(f"{mine.input}-text", Schema('{"type":"string","minLength":2}', "JSON"))
    outer = OBJECT | {"properties": {"text": {"$ref": "text.json"}}}
    schema = Schema(json.dumps(outer), "JSON", [SchemaReference("text.json", f"{mine.input}-text", 1)])
    value = json_value(client, mine, schema, {"text": "money"})
    assert read_json(client, mine, mine.label(value)) == {"text": "money", "classification": RESULT}
    assert refusal(mine, value[:5] + b'{"text":"m"}') == "schema_mismatch"


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"type": "object", "properties": {"text": {"$ref": "http://127.0.0.1:9/x.json"}}}, "schema_refused"),
        ({"$id": "http://127.0.0.1:9/", "properties": {"text": {"$ref": "x.json"}}}, "schema_refused"),
        ({"properties": {"text": {"$id": "http://127.0.0.1:9/", "items": {"$ref": "x#/a"}}}}, "schema_refused"),
        ({"properties": {"text": {"$dynamicRef": "http://127.0.0.1:9/x#a"}}}, "schema_refused"),
        ({"oneOf": [{"additionalProperties": False, "properties": {"text": {}}}]}, "schema_refused"),
        ({"type": "object", "properties": {"classification": {}}}, "field_taken"),
        ({"type": "object", "properties": {"text": {"pattern": "(?i)a"}}}, "schema_refused"),
        ({"type": "object", "allOf": [{"patternProperties": {"a++": {}}}]}, "schema_refused"),
    ],
)
def test_json_schemas_that_cannot_be_added_to_are_refused(
    client: SchemaRegistryClient, case: Any, schema: Any, code: str
) -> None:
    mine = case("json_schema")
    number = client.register_schema(f"{mine.input}-value", Schema(json.dumps(schema), "JSON"))
    assert refusal(mine, struct.pack(">bI", 0, number) + b'{"text":"t"}') == code


def test_json_schemas_that_refer_to_their_own_parts(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("json_schema")
    named = OBJECT | {
        "$id": "http://127.0.0.1:9/ticket.json",
        "definitions": {"text": {"$id": "text.json", "type": "string", "minLength": 2}},
        "properties": {"text": {"$ref": "text.json"}, "n": {"$ref": "#/definitions/text"}},
    }
    value = json_value(client, mine, named, {"text": "money"})
    assert json.loads(mine.label(value)[5:]) == {"text": "money", "classification": RESULT}
    assert refusal(mine, value[:5] + b'{"text":"m"}') == "schema_mismatch"


def test_what_a_json_schema_refers_to_must_not_lead_outside_either(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("json_schema")
    client.register_schema(f"{mine.input}-text", Schema('{"$ref":"http://127.0.0.1:9/x.json"}', "JSON"))
    outer = OBJECT | {"properties": {"text": {"$ref": "text.json"}}}
    schema = Schema(json.dumps(outer), "JSON", [SchemaReference("text.json", f"{mine.input}-text", 1)])
    number = client.register_schema(f"{mine.input}-value", schema)
    assert refusal(mine, struct.pack(">bI", 0, number) + b'{"text":"t"}') == "schema_refused"


# What the machine does ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "decoder"),
    [("avro", AvroDeserializer), ("protobuf", ProtobufDeserializer), ("json_schema", JSONDeserializer)],
)
def test_memory_that_is_used_up_is_not_told_as_the_events_fault(
    client: SchemaRegistryClient, case: Any, monkeypatch: pytest.MonkeyPatch, form: str, decoder: type
) -> None:
    """As everywhere: it ends the process, and nobody loses an event by it."""
    mine = case(form)
    match form:
        case "avro":
            value = avro_value(client, mine, TICKET, {"id": 1, "text": "a"})
        case "protobuf":
            value = proto_value(client, mine, proto()(id=1, text="a"))
        case _:
            value = json_value(client, mine, OBJECT, {"text": "a"})
    mine.label(value)

    def used_up(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoder, "__call__", used_up)
    with pytest.raises(MemoryError):
        mine.decode(mine.record(value))


def test_memory_that_is_used_up_is_not_told_as_the_registrys_fault(
    monkeypatch: pytest.MonkeyPatch, registry: str
) -> None:
    """It would be asked for again, and again, by a process that has to end."""

    def used_up(*_: object) -> None:
        raise MemoryError

    client = RegistryClient(SchemaRegistrySettings.model_validate({"url": registry}))
    monkeypatch.setattr(SchemaRegistryClient, "get_subjects", used_up)
    with pytest.raises(MemoryError):
        client.reach()
    client.close()


LITTLE_MEMORY = """
import io, json, resource, struct, sys
import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from schema_case import Case

fields = [{"name": "n", "type": ["null", "int"]}]
items = {"type": "array", "items": {"type": "record", "name": "Item", "fields": fields}}
fields = [{"name": "text", "type": "string"}, {"name": "more", "type": items}]
schema = {"type": "record", "name": "Ticket", "fields": fields}
with SchemaRegistryClient({"url": sys.argv[1]}) as client:
    case = Case(sys.argv[1], "avro")
    number = client.register_schema(case.input + "-value", Schema(json.dumps(schema), "AVRO"))
    begin = struct.pack(">bI", 0, number) + b"\\2a"
    count = io.BytesIO()
    fastavro.schemaless_writer(count, "long", 4_000_000)
    value = begin + count.getvalue() + bytes(4_000_001)
    print(type(case.decode(case.record(begin + b"\\0"))).__name__, flush=True)
    (used,) = [line for line in open("/proc/self/status") if line.startswith("VmSize")]
    most = int(used.split()[1]) * 1024 + 64 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    case.decode(case.record(value))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads how large the process is from /proc")
def test_an_event_that_really_takes_all_memory_ends_the_process(local: SchemaRegistry) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, local.url],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "Task\n", done.stderr
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("MemoryError")


# What the registry does -----------------------------------------------------------------------------------------------


def test_without_auto_register_the_schema_must_be_there(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro", schema_registry={"auto_register": False})
    value = avro_value(client, mine, TICKET, {"id": 1, "text": "a"})
    assert refusal(mine, value) == "schema_refused"
    teacher = case("avro")
    teacher.label(avro_value(client, teacher, TICKET, {"id": 1, "text": "a"}))
    derived = client.get_latest_version(f"{teacher.output}-value").schema
    other = case("avro", schema_registry={"auto_register": False})
    client.register_schema(f"{other.output}-value", derived)
    assert read_avro(client, other, other.label(value))["classification"]["label"] == "delivery"


def test_a_schema_that_the_registry_does_not_take_is_the_events_fault(local: SchemaRegistry) -> None:
    mine = Case(local.url, "avro")
    local.refuses.add(f"{mine.output}-value")
    with SchemaRegistryClient({"url": local.url}) as client:
        assert refusal(mine, avro_value(client, mine, TICKET, {"id": 1, "text": "a"})) == "schema_refused"
    mine.form.close()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_registry_that_does_not_work_is_asked_again(status: int) -> None:
    with SchemaRegistry() as registry, SchemaRegistryClient({"url": registry.url}) as client:
        mine = Case(registry.url, "avro")
        value = avro_value(client, mine, TICKET, {"id": 1, "text": "a"})
        registry.down = status
        record = mine.record(value)
        assert isinstance(mine.form.decode(record), Awaited)
        end = time.monotonic() + 10
        while not mine.form.trouble:
            assert time.monotonic() < end
            time.sleep(0.002)
        assert str(status) in mine.form.trouble
        assert not mine.form.has_news()
        registry.down = None
        assert mine.decode(record) == Task("a", None)
        assert not mine.form.trouble
        asked = len(registry.asked)
        assert mine.decode(record) == Task("a", None)
        assert len(registry.asked) == asked, "a schema is asked for once"
        mine.form.close()


def test_a_registry_that_takes_no_schemas_at_the_moment_is_no_events_fault() -> None:
    with SchemaRegistry() as registry, SchemaRegistryClient({"url": registry.url}) as client:
        mine = Case(registry.url, "avro")
        record = mine.record(avro_value(client, mine, TICKET, {"id": 1, "text": "a"}))
        registry.read_only = True
        assert isinstance(mine.form.decode(record), Awaited)
        end = time.monotonic() + 10
        while not mine.form.trouble:
            assert time.monotonic() < end
            time.sleep(0.002)
        assert isinstance(mine.form.decode(record), Awaited)
        registry.read_only = False
        assert mine.decode(record) == Task("a", None)
        mine.form.close()


@pytest.mark.parametrize("secret", ["name:a-secret", "name:a-se@cret", "name:a-se/cret", "na/me:a@secret"])
def test_no_error_tells_what_stands_before_the_host(secret: str) -> None:
    settings = SchemaRegistrySettings.model_validate({"url": f"http://{secret}@127.0.0.1:9, https://{secret}@[::1]:9"})
    client = RegistryClient(settings)
    with pytest.raises(RegistryError) as raised:
        client.reach()
    client.close()
    assert not re.search("name|me:|a-se|cret", str(raised.value).partition(" (")[0])
    assert "127.0.0.1:9" in str(raised.value)


def test_at_last_it_is_given_up() -> None:
    mine = Case("http://127.0.0.1:9", "avro", schema_registry={"give_up_seconds": 0.2})
    with pytest.raises(RegistryError, match=r"asked for 0\.2 s"):
        mine.decode(mine.record(b"\0\0\0\0\1abc"))
    mine.form.close()


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("avro", "form"):
        monkeypatch.delitem(sys.modules, f"stream_classifier.registry.{name}")
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(SettingsError, match=r"needs the extra schema-registry \(fastavro is missing\)"):
        Case("http://127.0.0.1:9", "avro")


@pytest.mark.parametrize("client", [{"basic.auth.user.info": "nonsense-secret"}, {"nonsense": "secret"}])
def test_properties_that_the_client_does_not_take(client: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"schema_registry\.client cannot be used") as raised:
        Case("http://127.0.0.1:9", "avro", schema_registry={"client": client})
    assert "secret" not in str(raised.value)


def test_no_more_schemas_are_kept_than_wanted(client: SchemaRegistryClient, case: Any) -> None:
    mine = case("avro", schema_registry={"schemas": 1})
    newer = TICKET | {"fields": [*TICKET["fields"], {"name": "n", "type": "int", "default": 0}]}
    first = mine.record(avro_value(client, mine, TICKET, {"id": 1, "text": "a"}))
    second = mine.record(avro_value(client, mine, newer, {"id": 1, "text": "b", "n": 1}))
    assert mine.decode(first) == Task("a", None)
    assert mine.decode(second) == Task("b", None)
    assert len(mine.form._lookups._known) == 1
    # One that is under way is written by the schema that it was read by, whatever is kept.
    assert read_avro(client, mine, mine.form.enrich(first, orjson.dumps(RESULT)))["text"] == "a"


def test_an_id_in_a_header(local: SchemaRegistry) -> None:
    """With the schema's GUID in a header, as newer serializers can do it, the value has no framing."""
    mine = Case(local.url, "avro")
    with SchemaRegistryClient({"url": local.url}) as client:
        number = client.register_schema(f"{mine.input}-value", Schema(json.dumps(TICKET), "AVRO"))
        guid = local.guid(number)
        payload = io.BytesIO()
        fastavro.schemaless_writer(payload, fastavro.parse_schema(TICKET), {"id": 7, "text": "a"})
        headers = [("__value_schema_id", b"\1" + uuid.UUID(guid).bytes), ("mine", b"1")]
        out = mine.label(payload.getvalue(), headers=headers)
        assert read_avro(client, mine, out)["id"] == 7
        assert mine.form.restyle(mine.record(b"", headers), [*headers]) == [("mine", b"1")]
    mine.form.close()
