"""What the three kinds of schemas have in common: the framing of a value, and the schema of the result."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from confluent_kafka.schema_registry import Schema, dual_schema_id_deserializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext

if TYPE_CHECKING:
    from stream_classifier.events.record import Record
    from stream_classifier.events.refusal import Code


class UnfitError(Exception):
    """Events of this schema cannot be labelled. Never leaves this room.

    Attributes:
        code: The reason code of their dead letters.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def with_text(schema: Schema, text: str) -> Schema:
    """The same schema with other words: what it refers to, its tags and its rules stay.

    Raises:
        UnfitError: It has rules for the value as a whole, to which nothing can be appended.
    """
    if schema.rule_set is not None and schema.rule_set.encoding_rules:
        raise UnfitError("schema_refused", "the schema has encoding rules, which change the value as a whole")
    return Schema(text, schema.schema_type, schema.references, schema.metadata, schema.rule_set)


def check_type(schema: Schema, schema_type: str) -> None:
    """See that a schema is of the kind that input.format says.

    Raises:
        UnfitError: It is of another kind.
    """
    if (schema.schema_type or "AVRO") != schema_type:
        raise UnfitError("schema_mismatch", f"its schema is {schema.schema_type}, and input.format says {schema_type}")


def context_of(record: Record) -> SerializationContext:
    """What confluent-kafka's deserializers want to know of a record."""
    return SerializationContext(record.topic, MessageField.VALUE, record.headers)


def payload_of(record: Record, schema_type: str) -> bytes:
    """The value without what names its schema, which may also stand in a header."""
    return dual_schema_id_deserializer(record.value or b"", context_of(record), SchemaId(schema_type)).read()


def framed(output_id: int) -> bytes:
    """What stands in front of a value: a zero byte and the schema's number."""
    return struct.pack(">bI", 0, output_id)


def field_taken(field: str) -> UnfitError:
    """The schema already has a member of that name."""
    return UnfitError("field_taken", f"its schema already has a member {field}; output.field can be another")
