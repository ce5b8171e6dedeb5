"""Events in JSON with a schema: the result is spliced in as into all JSON, and the schema gets one property more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import orjson
from confluent_kafka.schema_registry.json_schema import JSONDeserializer

from stream_classifier.events.enrich import Enricher
from stream_classifier.events.form import Decoded
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
from stream_classifier.registry.json_patterns import bound_patterns, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka.schema_registry import Schema

    from stream_classifier.events.record import Record
    from stream_classifier.registry.held import Held
    from stream_classifier.settings import Settings

_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")
_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_CLASSIFICATION = {
    "type": "object",
    "description": "Written by stream-classifier.",
    "properties": {
        "label": {"type": ["string", "null"]},
        "score": _NUMBER,
        "labels": {"type": "array", "items": {"type": "object", "properties": {"label": _TEXT, "score": _NUMBER}}},
        "label_set": _TEXT,
        "model": _TEXT,
        "truncated": {"type": "boolean"},
        "decided_by": _TEXT,
    },
}


class JsonSchemaCodec:
    """Reads and writes the events of one schema; the attributes and errors are those of `AvroCodec`."""

    schema_type = "JSON"
    fetched_as = None

    def __init__(self, held: Held, _: tuple[int, ...], settings: Settings) -> None:
        check_type(held.schema, self.schema_type)
        self.output_id = 0
        self._as_json = settings.output.format == "json"
        document = _document(held)
        if not self._as_json:
            field = settings.output.field
            self.output_schema = _derived(held.schema, document, field, overwrite=settings.output.overwrite)
        self._enricher = Enricher(settings.input, settings.output)
        bound_patterns()
        self._deserialize = JSONDeserializer(
            None,
            schema_registry_client=HeldClient(held),
            conf={"subject.name.strategy.type": "TOPIC"},
            json_decode=orjson.loads,
        )

    def decode(self, record: Record) -> Decoded:
        """See `Codec`."""
        try:
            members: object = self._deserialize(record.value, context_of(record))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # What validates has errors of its own for schemas that refer to nothing, beside those for values.
            raise ValueError(type(error).__name__) from None
        if not isinstance(members, dict):
            raise ValueError("not an object")  # noqa: TRY004 - the event's value, as all other cases
        return Decoded(members, len(record.value or b""))

    def plain(self, record: Record) -> bytes:
        """The event as JSON, which is what it is."""
        return payload_of(record, self.schema_type)

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """See `Codec`."""
        enriched = self._enricher.enrich(self.plain(record), classification)
        return enriched if self._as_json else framed(self.output_id) + enriched


def _document(held: Held) -> dict[str, Any]:
    document = json.loads(held.schema.schema_str or "null")
    if not isinstance(document, dict):
        raise UnfitError("schema_mismatch", "its schema is not that of an object")
    named = {name: json.loads(schema.schema_str or "null") for name, schema in held.named().items()}
    bases = {"", *named, *_bases(document), *(base for part in named.values() for base in _bases(part))}
    for name, part in [("", document), *named.items()]:
        # They would be fetched while events are decoded, from wherever they point to.
        if not all(place.partition("#")[0] in bases for place in _references(part, name)):
            raise UnfitError("schema_refused", "its schema refers to a place outside of the registry")
        if (pattern := next(unreadable(part), None)) is not None:
            raise UnfitError("schema_refused", f"its schema has a pattern that is none of ECMA 262: {pattern[:100]}")
    return document


def _derived(schema: Schema, document: dict[str, Any], field: str, *, overwrite: bool) -> Schema:
    properties = document.get("properties", {})
    if field in properties and not overwrite:
        raise field_taken(field)
    branches = [branch for name in ("allOf", "anyOf", "oneOf") for branch in document.get(name, [])]
    if "$ref" in document or any(_is_closed(branch) for branch in branches):
        raise UnfitError(
            "schema_refused", f"the place of {field} is in a part of its schema that allows no more members"
        )
    changed = document | {"properties": properties | {field: _CLASSIFICATION}}
    if isinstance(document.get("maxProperties"), int):
        changed["maxProperties"] = document["maxProperties"] + 1
    return with_text(schema, json.dumps(changed))


def _is_closed(branch: object) -> bool:
    return isinstance(branch, dict) and (
        "$ref" in branch or any(branch.get(name) is False for name in ("additionalProperties", "unevaluatedProperties"))
    )


def _references(part: object, base: str) -> Iterator[str]:
    """Where a schema refers to, each place as a whole: what is relative goes by the nearest `$id`."""
    if isinstance(part, dict):
        base = _base(part, base)
        for name in _REFERRING:
            if isinstance(part.get(name), str):
                yield urljoin(base, part[name])
        for inner in part.values():
            yield from _references(inner, base)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner, base)


def _bases(part: object, base: str = "") -> Iterator[str]:
    """The places that a schema gives to itself and to its parts."""
    if isinstance(part, dict):
        base = _base(part, base)
        yield base
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _bases(inner, base)


def _base(part: dict[str, Any], base: str) -> str:
    own = part.get("$id")
    return urljoin(base, own).partition("#")[0] if isinstance(own, str) else base
