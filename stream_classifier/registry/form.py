"""Events with a schema: Avro, Protobuf and JSON Schema in the framing of Confluent's serializers.

The value is read by confluent-kafka's own deserializer for its schema. The result is appended to the value's own bytes,
which works in each of the three: a record is its fields one after the other in Avro, a message any sequence of
fields in Protobuf, and JSON is spliced as everywhere. So nothing that came in is written anew, or can get lost.
What is appended has a schema: the event's with one member more, under the output topic's subject.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from confluent_kafka.schema_registry import dual_schema_id_deserializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import SerializationError

from stream_classifier.events.decode import AWAITED, Decoder
from stream_classifier.events.refusal import Refusal
from stream_classifier.registry.avro import AvroCodec
from stream_classifier.registry.client import NotFoundError, RefusedError, RegistryClient
from stream_classifier.registry.derived import UnfitError, context_of
from stream_classifier.registry.held import fetch
from stream_classifier.registry.json_schema import JsonSchemaCodec
from stream_classifier.registry.lookups import Lookups
from stream_classifier.registry.protobuf import ProtobufCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_classifier.events.decode import Awaited, PassThrough, Task
    from stream_classifier.events.form import Codec
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.registry.client import Key
    from stream_classifier.registry.held import Held
    from stream_classifier.settings import Settings

_CODECS: dict[str, type[AvroCodec | ProtobufCodec | JsonSchemaCodec]] = {
    "avro": AvroCodec,
    "protobuf": ProtobufCodec,
    "json_schema": JsonSchemaCodec,
}
_ID_HEADER = "__value_schema_id"
_REFUSAL_HOLDS_SECONDS = 30.0  # a schema that is missing now may be registered then

# A schema, and in Protobuf the place of the message in it.
Wanted = tuple["Key", tuple[int, ...]]


class SchemaForm:
    """Reads and writes events by the schemas of a registry.

    Args:
        settings: Everything that can be set.
        retried: Is called when the registry has to be asked again, in another thread.

    Raises:
        SettingsError: The client does not take `schema_registry.client`.
    """

    def __init__(self, settings: Settings, retried: Callable[[], object] = lambda: None) -> None:
        registry = settings.schema_registry
        if registry is None:
            raise ValueError("formats with a schema have settings of the registry")
        self._settings = settings
        self._codec = _CODECS[settings.input.format]
        self._decoder = Decoder(settings.input, settings.output)
        self._client = RegistryClient(registry)
        self._lookups: Lookups[Wanted, Codec | Refusal] = Lookups(
            self._open, kept=registry.schemas, patience=registry.give_up_seconds, retried=retried
        )
        self._subject = f"{settings.output.topic}-value"
        self._same = settings.output.format == "same"
        output = settings.output.model_copy(update={"format": "json"})
        self._as_json = settings.model_copy(update={"output": output})
        self._seen: dict[Wanted, AvroCodec | ProtobufCodec | JsonSchemaCodec] = {}

    def decode(self, record: Record) -> Task | Refusal | PassThrough | Awaited:
        """See `Form`."""
        value = record.value
        if value is None or not record.headers_readable:
            return self._decoder.unread(record)
        wanted = self._wanted(record)
        if wanted is None:
            return Refusal("schema_mismatch", "the value does not begin with the id of a schema, and no header has one")
        codec = self._lookups.get(wanted)
        if codec is None:
            return AWAITED
        if isinstance(codec, Refusal):
            return codec
        try:
            members, size = codec.decode(record)
        except ValueError:
            return Refusal("schema_mismatch", f"the value is not what the schema {wanted[0]} says")
        record.codec = codec
        return self._decoder.read(members, size)

    def _wanted(self, record: Record) -> Wanted | None:
        schema_id = SchemaId(self._codec.schema_type)
        try:
            dual_schema_id_deserializer(record.value or b"", context_of(record), schema_id)
        except (SerializationError, struct.error, ValueError, EOFError):
            return None
        key = str(schema_id.guid) if schema_id.id is None else schema_id.id
        return key, tuple(schema_id.message_indexes or ())

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """See `Form`."""
        return record.codec.enrich(record, classification)

    @staticmethod
    def restyle(_: Record, headers: Headers) -> Headers:
        """Without the header that named the schema of what came in: the value begins with the id of its own."""
        return [header for header in headers if header[0] != _ID_HEADER]

    @property
    def trouble(self) -> str | None:
        """See `Form`."""
        return self._lookups.trouble

    def has_news(self) -> bool:
        """See `Form`."""
        return self._lookups.has_news()

    def close(self) -> None:
        """See `Form`."""
        self._lookups.close()
        self._client.close()

    # For commands, which can wait -------------------------------------------------------------------------------------

    def shown(self, record: Record) -> bytes:
        """The value as JSON, read by its schema. The registry is asked once, if it was not yet.

        Raises:
            RegistryError: It cannot be asked.
            ValueError: The value has no schema, or is not what it says.
        """
        wanted = self._wanted(record)
        if wanted is None:
            raise ValueError("no id of a schema")
        if (codec := self._seen.get(wanted)) is None:
            try:
                held = fetch(self._client, wanted[0], self._codec.fetched_as)
                codec = self._seen[wanted] = self._codec(held, wanted[1], self._as_json)
            except (NotFoundError, RefusedError, UnfitError):
                raise ValueError("no such schema") from None
        return codec.plain(record)

    def problems(self) -> Iterator[str]:
        """What keeps the registry from being used as the settings say, as far as that can be asked.

        Raises:
            RegistryError: It cannot be asked.
        """
        subjects = self._client.reach()
        registry = self._settings.schema_registry
        if self._same and registry and not registry.auto_register and self._subject not in subjects:
            yield (
                f"the registry has no subject {self._subject}, and schema_registry.auto_register is off: register the "
                "schemas of labelled events there, or give the right to read it"
            )

    # In the thread that asks ------------------------------------------------------------------------------------------

    def _open(self, wanted: Wanted) -> tuple[Codec | Refusal, float]:
        key, indexes = wanted
        try:
            held = fetch(self._client, key, self._codec.fetched_as)
        except NotFoundError:
            return Refusal("schema_unknown", f"the registry has no schema {key}"), _REFUSAL_HOLDS_SECONDS
        except RefusedError as error:
            return Refusal("schema_unknown", f"the registry refuses the id {key} ({error})"), _REFUSAL_HOLDS_SECONDS
        try:
            codec = self._made(held, indexes)
            if self._same:
                codec.output_id = self._client.output_id(self._subject, codec.output_schema)
        except UnfitError as error:
            return Refusal(error.code, str(error)), _REFUSAL_HOLDS_SECONDS
        except NotFoundError:
            missing = (
                f"{self._subject} has no schema for what would become of {key}; schema_registry.auto_register is off"
            )
            return Refusal("schema_refused", missing), _REFUSAL_HOLDS_SECONDS
        except RefusedError as error:
            refused = f"the registry does not take what would become of {key} for {self._subject} ({error})"
            return Refusal("schema_refused", refused), _REFUSAL_HOLDS_SECONDS
        return codec, math.inf

    def _made(self, held: Held, indexes: tuple[int, ...]) -> AvroCodec | ProtobufCodec | JsonSchemaCodec:
        try:
            return self._codec(held, indexes, self._settings)
        except (UnfitError, MemoryError):
            raise
        except Exception as error:
            # A registry need not have looked at what it keeps, and a worker that ends by it would do so for ever.
            raise UnfitError("schema_mismatch", f"its schema cannot be read ({type(error).__name__})") from error
