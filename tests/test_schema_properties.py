"""Events with a schema, whatever is in them: nothing is lost, and bytes that are none are refused."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import functools
import json
import struct
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_case import CONF, RESULT, Case
from schema_registry import SchemaRegistry

from stream_classifier.events.decode import Task
from stream_classifier.events.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMS = ("avro", "protobuf", "json_schema")
TEXTS = st.text(st.characters(categories=["L", "N"]), min_size=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
UINT32, UINT64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)

# Protobuf -------------------------------------------------------------------------------------------------------------

F = descriptor_pb2.FieldDescriptorProto
SCALARS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "double": (F.TYPE_DOUBLE, st.floats(allow_nan=False)),
    "float": (F.TYPE_FLOAT, st.floats(width=32, allow_nan=False)),
    "int64": (F.TYPE_INT64, INT64),
    "uint64": (F.TYPE_UINT64, UINT64),
    "int32": (F.TYPE_INT32, INT32),
    "fixed64": (F.TYPE_FIXED64, UINT64),
    "fixed32": (F.TYPE_FIXED32, UINT32),
    "bool": (F.TYPE_BOOL, st.booleans()),
    "string": (F.TYPE_STRING, st.text()),
    "bytes": (F.TYPE_BYTES, st.binary()),
    "uint32": (F.TYPE_UINT32, UINT32),
    "sfixed32": (F.TYPE_SFIXED32, INT32),
    "sfixed64": (F.TYPE_SFIXED64, INT64),
    "sint32": (F.TYPE_SINT32, INT32),
    "sint64": (F.TYPE_SINT64, INT64),
}
SECONDS = st.integers(-62_135_596_800, 253_402_300_799)  # 0001-01-01 to 9999-12-31
NANOS = st.integers(0, 10**9 - 1)
KNOWN: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "Timestamp": ("timestamp", st.fixed_dictionaries({"seconds": SECONDS, "nanos": NANOS})),
    "Duration": ("duration", st.fixed_dictionaries({"seconds": st.integers(0, 10**11), "nanos": NANOS})),
    "Struct": ("struct", st.just({"fields": {"a": {"list_value": {"values": [{"number_value": 1.5}]}}}})),
    "FieldMask": ("field_mask", st.just({"paths": ["a.b_c", "d"]})),
    "StringValue": ("wrappers", st.fixed_dictionaries({"value": st.text()})),
    "Int64Value": ("wrappers", st.fixed_dictionaries({"value": INT64})),
    "Empty": ("empty", st.just({})),
    "Any": ("any", st.just({"type_url": "type.googleapis.com/google.protobuf.Empty"})),
}


@functools.cache
def message_type(syntax: str) -> Any:
    """A message with a field of each kind, some of them three times: alone, in a oneof, and repeated."""
    file = descriptor_pb2.FileDescriptorProto(name=f"everything_{syntax}.proto", package="shop", syntax=syntax)
    file.dependency.extend(sorted({f"google/protobuf/{place}.proto" for place, _ in KNOWN.values()}))
    file.enum_type.add(name="Kind").value.add(name="A", number=0)
    file.enum_type[0].value.add(name="B", number=7)
    ticket = file.message_type.add(name="Ticket")
    needed = F.LABEL_REQUIRED if syntax == "proto2" else F.LABEL_OPTIONAL
    ticket.field.add(name="text", number=1, type=F.TYPE_STRING, label=needed)
    ticket.field.add(name="kind", number=2, type=F.TYPE_ENUM, type_name=".shop.Kind", label=F.LABEL_OPTIONAL)
    ticket.field.add(name="next", number=3, type=F.TYPE_MESSAGE, type_name=".shop.Ticket", label=F.LABEL_REPEATED)
    entry = ticket.nested_type.add(name="NumbersEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=F.TYPE_SINT64, label=F.LABEL_OPTIONAL)
    ticket.field.add(
        name="numbers",
        number=4,
        type=F.TYPE_MESSAGE,
        type_name=".shop.Ticket.NumbersEntry",
        label=F.LABEL_REPEATED,
    )
    ticket.oneof_decl.add(name="choice")
    for number, (name, (kind, _)) in enumerate(SCALARS.items(), 10):
        ticket.field.add(name=f"one_{name}", number=number, type=kind, label=F.LABEL_OPTIONAL)
        ticket.field.add(name=f"many_{name}", number=number + 50, type=kind, label=F.LABEL_REPEATED)
        ticket.field.add(name=f"choice_{name}", number=number + 1000, type=kind, label=F.LABEL_OPTIONAL, oneof_index=0)
    for number, name in enumerate(KNOWN, 100):
        ticket.field.add(
            name=f"known_{name.lower()}",
            number=number,
            type=F.TYPE_MESSAGE,
            type_name=f".google.protobuf.{name}",
            label=F.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    for name in file.dependency:
        pool.AddSerializedFile(descriptor_pool.Default().FindFileByName(name).serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Ticket"))


@st.composite
def tickets(draw: st.DrawFn, deep: int = 2) -> dict[str, Any]:
    """Members of such a message."""
    members: dict[str, Any] = {"text": draw(TEXTS)}
    optional: dict[str, st.SearchStrategy[Any]] = {
        "kind": st.sampled_from([0, 7]),
        "numbers": st.dictionaries(st.text(), INT64, max_size=3),
        **{f"one_{name}": values for name, (_, values) in SCALARS.items()},
        **{f"many_{name}": st.lists(values, max_size=3) for name, (_, values) in SCALARS.items()},
        **{f"known_{name.lower()}": values for name, (_, values) in KNOWN.items()},
    }
    for name in draw(st.lists(st.sampled_from(sorted(optional)), max_size=6, unique=True)):
        members[name] = draw(optional[name])
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(SCALARS)))
        members[f"choice_{name}"] = draw(SCALARS[name][1])
    if deep:
        members["next"] = draw(st.lists(tickets(deep - 1), max_size=2))
    return members


def message(kind: Any, members: dict[str, Any]) -> Any:
    members = members | {"next": [message(kind, inner) for inner in members.get("next", [])]}
    return kind(**members)


class Opened(NamedTuple):
    """A registry, a client of it, and for each format one that writes the same, and one that writes JSON.

    There is one for all examples: a new schema each time would be asked for each time.
    """

    client: SchemaRegistryClient
    same: dict[str, Case]
    as_json: dict[str, Case]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    with SchemaRegistry() as registry, SchemaRegistryClient({"url": registry.url}) as client:
        forms = (*FORMS, "protobuf2")
        same = {form: Case(registry.url, form.rstrip("2")) for form in forms}
        as_json = {form: Case(registry.url, form.rstrip("2"), output={"format": "json"}) for form in forms}
        yield Opened(client, same, as_json)
        for case in (*same.values(), *as_json.values()):
            case.form.close()


@functools.cache
def written_class(client: SchemaRegistryClient, topic: str) -> Any:
    """The message type of labelled events, made of what was registered."""
    registered = client.get_latest_version(f"{topic}-value", "serialized").schema.schema_str or ""
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(registered))
    file.name = "registered.proto"
    pool = descriptor_pool.DescriptorPool()
    for name in file.dependency:
        pool.AddSerializedFile(descriptor_pool.Default().FindFileByName(name).serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Ticket"))


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
@given(members=tickets())
@settings(max_examples=40, deadline=None)
def test_nothing_of_a_protobuf_message_is_lost(opened: Opened, syntax: str, members: dict[str, Any]) -> None:
    form = "protobuf2" if syntax == "proto2" else "protobuf"
    mine = opened.same[form]
    kind = message_type(syntax)
    event = message(kind, members)
    value = ProtobufSerializer(kind, opened.client, CONF | {"skip.known.types": True})(event, mine.context(mine.input))
    assert value is not None
    out = mine.label(value)

    new = written_class(opened.client, mine.output)
    read: Any = ProtobufDeserializer(new, CONF, opened.client)(out, mine.context(mine.output))
    assert read.classification.label == RESULT["label"]
    assert [(one.label, one.score) for one in read.classification.labels] == [("delivery", 0.83), ("refund", 0.11)]
    read.ClearField("classification")
    assert read.SerializeToString(deterministic=True) == event.SerializeToString(deterministic=True)

    as_json = orjson.loads(opened.as_json[form].label(value))
    assert as_json.pop("classification") == RESULT
    assert as_json == json.loads(json_format.MessageToJson(event, preserving_proto_field_name=True))


# JSON Schema ----------------------------------------------------------------------------------------------------------

OBJECT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string"},
        "big": {"type": "integer"},
        "kind": {"enum": ["A", "B", None]},
        "next": {"$ref": "#"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "more": {},
    },
    "patternProperties": {"^x-": {"type": ["number", "string"]}},
    "additionalProperties": False,
}
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = {
    "big": st.integers(-(2**63), 2**64 - 1),
    "kind": st.sampled_from(["A", "B", None]),
    "tags": st.lists(st.text(), max_size=3, unique=True),
    "more": ANYTHING,
    "x-cost": FINITE | st.text(),
}
OBJECTS = st.recursive(
    st.fixed_dictionaries({"text": TEXTS}, optional=MEMBERS),
    lambda inner: st.fixed_dictionaries({"text": TEXTS, "next": inner}, optional=MEMBERS),
    max_leaves=3,
)


@given(event=OBJECTS)
@settings(max_examples=60, deadline=None)
def test_nothing_of_json_with_a_schema_is_lost(opened: Opened, event: dict[str, Any]) -> None:
    mine = opened.same["json_schema"]
    serialize = JSONSerializer(json.dumps(OBJECT), opened.client, conf=CONF)
    value = serialize(event, mine.context(mine.input))
    assert value is not None
    out = mine.label(value)
    assert out[5 : 5 + len(value) - 6] == value[5:-1], "the event's own bytes stay as they were"
    read: Any = JSONDeserializer(None, schema_registry_client=opened.client, conf=CONF)(out, mine.context(mine.output))
    assert read.pop("classification") == RESULT
    assert read == event
    assert opened.as_json["json_schema"].label(value) == out[5:]


# Whatever bytes -------------------------------------------------------------------------------------------------------

RECORD = {
    "type": "record",
    "name": "Ticket",
    "fields": [
        {"name": "text", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "time", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "either", "type": ["null", "double", {"type": "map", "values": "float"}]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    ],
}


@functools.cache
def sample(client: SchemaRegistryClient, case: Case, form: str) -> bytes:
    """A valid value, whose schema is registered by it."""
    context = case.context(case.input)
    value: bytes | None
    match form:
        case "avro":
            event = {"text": "parcel", "at": EPOCH, "day": EPOCH.date(), "time": dt.time(1), "either": {"a": 1.5}}
            event |= {"price": decimal.Decimal("1.5"), "key": uuid.UUID(int=5), "kind": "A"}
            value = AvroSerializer(client, json.dumps(RECORD), conf=CONF)(event, context)
        case "json_schema":
            value = JSONSerializer(json.dumps(OBJECT), client, conf=CONF)({"text": "parcel", "tags": ["a"]}, context)
        case _:
            kind = message_type("proto2" if form == "protobuf2" else "proto3")
            members = {"text": "parcel", "next": [{"text": "a"}], "many_sint64": [1, 2], "numbers": {"a": 1}}
            full = message(kind, members)
            full.known_timestamp.FromSeconds(5)
            full.known_any.Pack(full.known_timestamp)
            full.known_fieldmask.paths.append("a_b")
            full.known_struct["a"] = 1.5
            full.known_duration.FromSeconds(5)
            value = ProtobufSerializer(kind, client, CONF | {"skip.known.types": True})(full, context)
    assert value is not None
    return value


# What is put in place of some bytes: where, in thousandths of the value; how many; and what. Bytes of a number or of a
# length are changed most often, as what is around them stays what it was.
OVERWRITE = st.tuples(st.integers(0, 999), st.just(1), st.binary(min_size=1, max_size=1))
SPLICE = st.tuples(st.integers(0, 1000), st.integers(0, 3), st.binary(max_size=6))
INSTEAD = st.tuples(st.just(0), st.just(10_000), st.binary(max_size=60))
CHANGES = st.lists(OVERWRITE, min_size=1, max_size=3) | st.lists(SPLICE, max_size=3) | st.lists(INSTEAD, max_size=1)


@pytest.mark.parametrize("form", [*FORMS, "protobuf2"])
@given(
    changes=st.lists(OVERWRITE, min_size=1, max_size=3) | st.lists(SPLICE, max_size=3) | st.lists(INSTEAD, max_size=1)
)
@settings(max_examples=250, deadline=None)
def test_whatever_follows_the_id_of_a_schema_is_labelled_or_refused(
    opened: Opened, form: str, changes: list[tuple[int, int, bytes]]
) -> None:
    """Given bytes that are no value, or nearly one, then they are refused, or can be written in both outputs."""
    value = sample(opened.client, opened.same[form], form)
    # In Protobuf the next byte tells the message, and so what is fetched: another property's matter.
    fixed = 6 if form.startswith("protobuf") else 5
    framing, payload = value[:fixed], bytearray(value[fixed:])
    for place, taken, put in changes:
        at = len(payload) * place // 1000
        payload[at : at + taken] = put
    for mine in (opened.same[form], opened.as_json[form]):
        record = mine.record(framing + payload)
        answer = mine.decode(record)
        if isinstance(answer, Refusal):
            assert "parcel" not in answer.message
            continue
        assert isinstance(answer, Task)
        out = mine.form.enrich(record, orjson.dumps(RESULT))
        if mine is opened.as_json[form]:
            assert orjson.loads(out)["classification"] == RESULT
        else:
            assert out[0] == 0
            assert struct.unpack(">I", out[1:5])[0] != struct.unpack(">I", framing[1:5])[0]


@given(indexes=st.binary(max_size=12))
@settings(max_examples=40, deadline=None)
def test_whatever_place_of_a_message_is_named_it_is_labelled_or_refused(opened: Opened, indexes: bytes) -> None:
    mine = opened.same["protobuf"]
    value = sample(opened.client, mine, "protobuf")
    assert isinstance(mine.decode(mine.record(value[:5] + indexes + value[6:])), Task | Refusal)


@pytest.mark.parametrize(
    "members",
    [
        {"known_timestamp": {"seconds": 2**62}},
        {"known_duration": {"seconds": 2**62}},
        {"known_fieldmask": {"paths": ["aB"]}},
        {"known_any": {"type_url": "type.googleapis.com/shop.Unknown", "value": b"parcel"}},
        {"known_any": {"type_url": "type.googleapis.com/google.protobuf.Timestamp", "value": b"\0\0"}},
        {"known_struct": {"fields": {"a": {"number_value": float("nan")}}}},
        {"known_struct": {"fields": {"a": {"list_value": {"values": [{"number_value": float("inf")}]}}}}},
    ],
    ids=lambda members: next(iter(members)),
)
def test_a_message_that_json_has_no_word_for_is_refused_where_json_is_written(
    opened: Opened, members: dict[str, Any]
) -> None:
    mine, plain = opened.same["protobuf"], opened.as_json["protobuf"]
    kind = message_type("proto3")
    serialize = ProtobufSerializer(kind, opened.client, CONF | {"skip.known.types": True})
    value = serialize(kind(text="parcel", **members), mine.context(mine.input))
    assert mine.label(value or b"").startswith(b"\0")
    answer = plain.decode(plain.record(value))
    assert isinstance(answer, Refusal), answer
    assert answer.code == "schema_mismatch"


@pytest.mark.parametrize("depth", [10, 240, 260, 300])
def test_avro_that_is_too_deep_for_json_is_refused_where_json_is_written(opened: Opened, depth: int) -> None:
    """orjson writes some 250 levels, which a schema can have without recursion, too."""
    kind: Any = "int"
    deep: Any = 5
    for _ in range(depth):
        kind, deep = {"type": "array", "items": kind}, [deep]
    fields = [{"name": "text", "type": "string"}, {"name": "deep", "type": kind}]
    schema = json.dumps({"type": "record", "name": f"Deep{depth}", "fields": fields})
    mine, plain = opened.same["avro"], opened.as_json["avro"]
    value = AvroSerializer(opened.client, schema, conf=CONF)({"text": "a", "deep": deep}, mine.context(mine.input))
    assert value is not None
    assert mine.label(value).startswith(b"\0")
    record = plain.record(value)
    answer = plain.decode(record)
    if depth < 250:
        assert orjson.loads(plain.form.enrich(record, orjson.dumps(RESULT)))["deep"] == deep
    else:
        assert isinstance(answer, Refusal), answer
        assert answer.code == "schema_mismatch"
