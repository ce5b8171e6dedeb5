"""Events in Avro: the result is one more field at the end of the record."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import orjson
from confluent_kafka.schema_registry.avro import AvroDeserializer
from fastavro._read_py import schemaless_reader as read_with_a_limit

from stream_classifier.events.enrich import Enricher
from stream_classifier.events.form import Decoded
from stream_classifier.registry.avro_arrays import has_items_without_bytes
from stream_classifier.registry.avro_recursion import is_recursive
from stream_classifier.registry.derived import (
    UnfitError,
    check_type,
    context_of,
    field_taken,
    framed,
    payload_of,
    with_text,
)
from stream_classifier.registry.held import HeldClient
from stream_classifier.registry.json_values import as_json

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema
    from confluent_kafka.schema_registry.serde import SchemaId
    from confluent_kafka.serialization import SerializationContext

    from stream_classifier.events.record import Record
    from stream_classifier.registry.held import Held
    from stream_classifier.settings import Settings


class AvroCodec:
    """Reads and writes the events of one schema.

    Attributes:
        output_schema: Of labelled events.
        output_id: Its number in the registry.

    Raises:
        UnfitError: It is no record in Avro, or has a field of that name.
    """

    schema_type = "AVRO"
    fetched_as = None

    def __init__(self, held: Held, _: tuple[int, ...], settings: Settings) -> None:
        check_type(held.schema, self.schema_type)
        self.output_id = 0
        self._as_json = settings.output.format == "json"
        if not self._as_json:
            self.output_schema = _derived(held.schema, settings.output.field)
        self._union = fastavro.parse_schema(_union(settings.output.field))
        self._enricher = Enricher(settings.input, settings.output)
        named: dict[str, Any] = {}
        parsed = _parsed(held, held.schema, named)
        if has_items_without_bytes(parsed, named):
            raise UnfitError("schema_refused", "its schema has an array whose items take no bytes, so of any length")
        self._recursive = parsed if is_recursive(held) else None
        self._payload = io.BytesIO()
        self._deserialize = AvroDeserializer(
            HeldClient(held), conf={"subject.name.strategy.type": "TOPIC", "schema.id.deserializer": self._opened}
        )

    def _opened(self, _: bytes, __: SerializationContext | None, schema_id: SchemaId) -> io.BytesIO:
        schema_id.id = 0  # the one that is held
        return self._payload

    def decode(self, record: Record) -> Decoded:
        """See `Codec`."""
        members = self._members(record)
        if self._as_json:
            _written(members)  # what cannot be written is to be found out now
        return Decoded(members, len(record.value or b""))

    def _members(self, record: Record) -> dict[str, Any]:
        payload = payload_of(record, self.schema_type)
        self._payload = io.BytesIO(payload)
        try:
            if self._recursive:
                # fastavro's compiled reader goes down without a limit: an event of some kilobytes, a few thousand
                # records deep, would use up the stack, and so end each process that reads it. This one has Python's.
                read_with_a_limit(io.BytesIO(payload), self._recursive, None)
            # Framed: a value whose schema is named in a header may be too short for the deserializer to look at it.
            members = self._deserialize(framed(0) + payload, context_of(record))
        except MemoryError:
            raise  # the machine's fault, and not to be told as the event's
        except Exception as error:  # noqa: BLE001 - see below
            # fastavro has no error of its own for bytes that are no record: IndexError, KeyError, UnicodeDecodeError.
            raise ValueError(type(error).__name__) from None
        if self._payload.read(1):
            raise ValueError("there is more than the record")
        if not isinstance(members, dict):
            raise ValueError("not a record")  # noqa: TRY004 - the event's value, as all other cases
        return members

    def plain(self, record: Record) -> bytes:
        """The event as JSON.

        Raises:
            ValueError: The value is not what the schema says.
        """
        return _written(self._members(record))

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """See `Codec`."""
        if self._as_json:
            return self._enricher.enrich(self.plain(record), classification)
        result = io.BytesIO()
        fastavro.schemaless_writer(result, self._union, orjson.loads(classification))
        return framed(self.output_id) + payload_of(record, self.schema_type) + result.getvalue()


def _derived(schema: Schema, field: str) -> Schema:
    document = json.loads(schema.schema_str or "null")
    if not isinstance(document, dict) or document.get("type") != "record":
        raise UnfitError("schema_mismatch", "its schema is not a record")
    if any(member["name"] == field for member in document["fields"]):
        raise field_taken(field)
    added = {"name": field, "type": _union(field), "default": None, "doc": "Written by stream-classifier."}
    return with_text(schema, json.dumps(document | {"fields": [*document["fields"], added]}))


def _written(members: dict[str, Any]) -> bytes:
    try:
        return as_json(members)
    except TypeError as error:  # it goes deeper than orjson does
        raise ValueError(type(error).__name__) from None


def _parsed(held: Held, schema: Schema, named: dict[str, Any]) -> Any:  # noqa: ANN401 - fastavro's own
    for name, referred_to in held.referred_to(schema).items():
        if name not in named:
            _parsed(held, referred_to, named)
    return fastavro.parse_schema(json.loads(schema.schema_str or "null"), named)


def _union(field: str) -> list[Any]:
    """The type of the result. Its records are named after the field, so that an event can go through two workers."""
    namespace = f"stream_classifier.{field}"
    score = {
        "type": "record",
        "name": "Score",
        "namespace": namespace,
        "fields": [{"name": "label", "type": "string"}, {"name": "score", "type": "double"}],
    }
    optional = {"type": ["null", "string"], "default": None}
    return [
        "null",
        {
            "type": "record",
            "name": "Classification",
            "namespace": namespace,
            "fields": [
                {"name": "label"} | optional,
                {"name": "score", "type": "double"},
                {"name": "labels", "type": {"type": "array", "items": score}},
                {"name": "label_set", "type": "string"},
                {"name": "model", "type": "string"},
                {"name": "truncated", "type": "boolean"},
                {"name": "decided_by"} | optional,
            ],
        },
    ]
