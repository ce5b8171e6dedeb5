"""Schemas in Protobuf that import others: by references, and without where everybody has the file."""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from schema_case import CONF, RESULT, Case, refusal
from schema_registry import SchemaRegistry

from stream_classifier.events.decode import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pool import DescriptorPool

F = descriptor_pb2.FieldDescriptorProto
DEFAULT = descriptor_pool.Default()
# Every file that Protobuf calls well-known, and one message of each; some of those that Google and Confluent add.
KNOWN = {
    "google/protobuf/any.proto": "google.protobuf.Any",
    "google/protobuf/api.proto": "google.protobuf.Api",
    "google/protobuf/descriptor.proto": "google.protobuf.FileOptions",
    "google/protobuf/duration.proto": "google.protobuf.Duration",
    "google/protobuf/empty.proto": "google.protobuf.Empty",
    "google/protobuf/field_mask.proto": "google.protobuf.FieldMask",
    "google/protobuf/source_context.proto": "google.protobuf.SourceContext",
    "google/protobuf/struct.proto": "google.protobuf.Struct",
    "google/protobuf/timestamp.proto": "google.protobuf.Timestamp",
    "google/protobuf/type.proto": "google.protobuf.Type",
    "google/protobuf/wrappers.proto": "google.protobuf.StringValue",
    "google/type/money.proto": "google.type.Money",
    "google/type/datetime.proto": "google.type.DateTime",
    "confluent/type/decimal.proto": "confluent.type.Decimal",
}


@pytest.fixture(scope="module")
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def client(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


@pytest.fixture
def mine(registry: SchemaRegistry) -> Iterator[Case]:
    made = Case(registry.url, "protobuf", input={"text_field": "body.text"})
    yield made
    made.form.close()


@pytest.fixture
def plain(registry: SchemaRegistry) -> Iterator[Case]:
    made = Case(registry.url, "protobuf", input={"text_field": "body.text"}, output={"format": "json"})
    yield made
    made.form.close()


def file(name: str, *imports: str, package: str = "shop") -> Any:
    made = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    made.dependency.extend(imports)
    return made


def member(message: Any, name: str, number: int, type_name: str | None = None) -> None:
    kind = F.TYPE_MESSAGE if type_name else F.TYPE_STRING
    message.field.add(name=name, number=number, type=kind, type_name=type_name, label=F.LABEL_OPTIONAL)


def files() -> list[Any]:
    """An event of which each part is in a file of its own, one of them imported publicly; that which refers is last."""
    money = file("shop/money.proto", "google/protobuf/wrappers.proto")
    member(money.message_type.add(name="Money"), "currency", 1, ".google.protobuf.StringValue")
    body = file("shop/body.proto", "shop/money.proto", "google/protobuf/timestamp.proto")
    parts = body.message_type.add(name="Body")
    member(parts, "text", 1)
    member(parts, "at", 2, ".google.protobuf.Timestamp")
    member(parts, "price", 3, ".shop.Money")
    through = file("shop/all.proto", "shop/body.proto", package="shop.all")
    through.public_dependency.append(0)
    ticket = file("shop/ticket.proto", "shop/all.proto", "shop/money.proto")
    event = ticket.message_type.add(name="Ticket")
    member(event, "body", 1, ".shop.Body")
    member(event, "paid", 2, ".shop.Money")
    return [money, body, through, ticket]


def pool_of(*made: Any) -> DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def known(name: str) -> None:
        if name not in added and not any(name == one.name for one in made):
            added.add(name)
            for inner in DEFAULT.FindFileByName(name).dependencies:
                known(inner.name)
            pool.AddSerializedFile(DEFAULT.FindFileByName(name).serialized_pb)

    for one in made:
        for name in one.dependency:
            known(name)
        pool.Add(one)
    return pool


@functools.cache
def ticket() -> Any:
    return message_factory.GetMessageClass(pool_of(*files()).FindMessageTypeByName("shop.Ticket"))


def event() -> Any:
    made = ticket()()
    made.body.text = "where is my parcel"
    made.body.at.FromMilliseconds(1_790_000_000_123)
    made.body.price.currency.value = "EUR"
    made.paid.currency.value = "CHF"
    return made


def written(client: SchemaRegistryClient, case: Case, message: Any, *, skip: bool) -> bytes:
    conf = CONF | {"skip.known.types": skip}
    value: bytes | None = ProtobufSerializer(type(message), client, conf)(message, case.context(case.input))
    assert value is not None
    return value


@pytest.mark.parametrize("skip", [False, True], ids=["each import is registered", "those that all have are not"])
def test_a_message_whose_parts_are_in_files_of_their_own(
    client: SchemaRegistryClient, mine: Case, plain: Case, skip: bool
) -> None:
    value = written(client, mine, event(), skip=skip)
    registered = client.get_latest_version(f"{mine.input}-value").schema
    assert {one.name for one in registered.references or []} == {"shop/all.proto", "shop/money.proto"}
    assert mine.decode(mine.record(value)) == Task("where is my parcel", None)
    out = mine.label(value)

    # What is registered refers to the same, and what was written is read by it.
    labelled = client.get_latest_version(f"{mine.output}-value", "serialized").schema
    assert labelled.references == registered.references
    schema = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(labelled.schema_str or ""))
    schema.name = "labelled.proto"
    new = message_factory.GetMessageClass(pool_of(*files()[:-1], schema).FindMessageTypeByName("shop.Ticket"))
    read: Any = ProtobufDeserializer(new, CONF, client)(out, mine.context(mine.output))
    assert read.classification.label == RESULT["label"]
    read.ClearField("classification")
    assert read.SerializeToString(deterministic=True) == event().SerializeToString(deterministic=True)

    as_json = orjson.loads(plain.label(value))
    assert as_json.pop("classification") == RESULT
    assert as_json == json_format.MessageToDict(event(), preserving_proto_field_name=True)
    assert as_json["body"]["at"] == "2026-09-21T14:13:20.123Z"


@pytest.mark.parametrize("skip", [False, True], ids=["registered", "not registered"])
def test_files_that_everybody_has_can_be_imported(
    client: SchemaRegistryClient, mine: Case, plain: Case, skip: bool
) -> None:
    schema = file("shop/known.proto", *KNOWN)
    outer = schema.message_type.add(name="Ticket")
    member(outer.nested_type.add(name="Body"), "text", 1)
    member(outer, "body", 1, ".shop.Ticket.Body")
    for number, name in enumerate(KNOWN.values(), 2):
        member(outer, f"known_{number}", number, f".{name}")
    made: Any = message_factory.GetMessageClass(pool_of(schema).FindMessageTypeByName("shop.Ticket"))()
    made.body.text = "money back"
    for number, _ in enumerate(KNOWN, 2):
        getattr(made, f"known_{number}").SetInParent()
    value = written(client, mine, made, skip=skip)
    registered = client.get_latest_version(f"{mine.input}-value").schema
    assert {one.name for one in registered.references or []} == (set() if skip else set(KNOWN))
    read: Any = ProtobufDeserializer(type(made), CONF, client)(mine.label(value), mine.context(mine.output))
    read.DiscardUnknownFields()
    assert read == made
    assert orjson.loads(plain.label(value)).keys() == {
        "body",
        "classification",
        *(f"known_{number}" for number, _ in enumerate(KNOWN, 2)),
    }


def test_a_reference_to_a_version_that_is_not_there(client: SchemaRegistryClient, mine: Case) -> None:
    *_, schema = files()
    text = base64.b64encode(schema.SerializeToString()).decode()
    lost = Schema(text, "PROTOBUF", [SchemaReference("shop/all.proto", f"{mine.input}-nowhere", 3)])
    number = client.register_schema(f"{mine.input}-value", lost)
    assert refusal(mine, b"\0" + number.to_bytes(4, "big") + b"\0parcel") == "schema_unknown"


def test_an_import_that_no_reference_names_is_the_schemas_fault(client: SchemaRegistryClient, mine: Case) -> None:
    *_, schema = files()
    number = client.register_schema(
        f"{mine.input}-value", Schema(base64.b64encode(schema.SerializeToString()).decode(), "PROTOBUF")
    )
    assert refusal(mine, b"\0" + number.to_bytes(4, "big") + b"\0parcel") == "schema_mismatch"
