"""Events in Protobuf: the result is one more field, written after the others, in a message type of its own."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.schema_registry.serde import SchemaId
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError, Message

from stream_classifier.events.enrich import Enricher
from stream_classifier.events.form import Decoded
from stream_classifier.registry.derived import UnfitError, check_type, context_of, field_taken, payload_of, with_text
from stream_classifier.registry.held import HeldClient

if TYPE_CHECKING:
    from stream_classifier.events.record import Record
    from stream_classifier.registry.held import Held
    from stream_classifier.settings import Settings

# Far above what people count up to, so that it stays the same while a message gets more fields.
_FIRST_NUMBER = 100_000
_Field = FieldDescriptorProto


class ProtobufCodec:
    """Reads and writes the events of one message type of one schema.

    The attributes and errors are those of `AvroCodec`.
    """

    schema_type = "PROTOBUF"
    fetched_as = "serialized"

    def __init__(self, held: Held, indexes: tuple[int, ...], settings: Settings) -> None:
        check_type(held.schema, self.schema_type)
        self.output_id = 0
        self._indexes = list(indexes)
        self._field = settings.output.field
        self._as_json = settings.output.format == "json"
        self._paths = [settings.input.text_field.split("."), settings.input.labels_field.split(".")]
        if min(indexes) < 0:  # which would count from the end
            raise UnfitError("schema_mismatch", "its schema has no such message")
        file = _file("default", held.schema.schema_str)
        self._deserialize = ProtobufDeserializer(
            _message_type(held, file, self._indexes), {"subject.name.strategy.type": "TOPIC"}, HeldClient(held)
        )
        if self._as_json:
            self._enricher = Enricher(settings.input, settings.output)
        else:
            _add_result(file, self._indexes, self._field)
            self.output_schema = with_text(held.schema, base64.b64encode(file.SerializeToString()).decode())
            self._output = _message_type(held, file, self._indexes)

    def decode(self, record: Record) -> Decoded:
        """See `Codec`."""
        message = self._message(record)
        if self._as_json:
            _written(message)  # what cannot be written is to be found out now
        members: dict[str, Any] = {}
        for path in self._paths:
            _pick(message, path, members)
        if self._as_json and self._field in message.DESCRIPTOR.fields_by_name:
            members.setdefault(self._field, None)  # so that the decoder sees that the name is taken
        return Decoded(members, len(record.value or b""))

    def _message(self, record: Record) -> Message:
        try:
            message: object = self._deserialize(record.value, context_of(record))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - rules of a schema may raise anything
            raise ValueError(type(error).__name__) from None
        if not isinstance(message, Message):
            raise ValueError("not a message")  # noqa: TRY004 - the event's value, as all other cases
        return message

    def plain(self, record: Record) -> bytes:
        """The event as JSON, in Protobuf's own mapping, with the names that the schema has.

        Raises:
            ValueError: The value is not what the schema says.
        """
        return _written(self._message(record))

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """See `Codec`."""
        if self._as_json:
            return self._enricher.enrich(self.plain(record), classification)
        result = json_format.ParseDict({self._field: orjson.loads(classification)}, self._output())
        framing = SchemaId(self.schema_type, self.output_id, message_indexes=self._indexes).id_to_bytes()
        # Partial: the fields that a message of proto2 requires stand in what the result is appended to.
        appended: bytes = result.SerializePartialToString()
        return framing + payload_of(record, self.schema_type) + appended


def _written(message: Message) -> bytes:
    try:
        text: str = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    except (TypeError, json_format.Error, DecodeError) as error:  # an Any whose type nobody knows, or that is not of it
        raise ValueError(type(error).__name__) from None
    return text.encode()


def _file(name: str, text: str | None) -> FileDescriptorProto:
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text or "", validate=True))
    except (ValueError, DecodeError) as error:
        raise UnfitError(
            "schema_mismatch", f"its schema is no descriptor of Protobuf ({type(error).__name__})"
        ) from None
    file.name = name
    return file


def _message_type(held: Held, file: FileDescriptorProto, indexes: list[int]) -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    by_name = held.named()
    added: set[str] = set()

    def add(wanted: FileDescriptorProto) -> None:
        for name in wanted.dependency:
            if name in added:
                continue
            added.add(name)
            if name in by_name:
                add(_file(name, by_name[name].schema_str))
            else:
                add(_well_known(name))
        pool.Add(wanted)

    try:
        add(file)
        place = _names(file, indexes)
        found: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName(place))
    except (TypeError, KeyError, IndexError) as error:
        raise UnfitError("schema_mismatch", f"its schema has no such message ({type(error).__name__})") from None
    return found


def _well_known(name: str) -> FileDescriptorProto:
    found = FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(name).CopyToProto(found)
    return found


def _names(file: FileDescriptorProto, indexes: list[int]) -> str:
    names = [file.package] if file.package else []
    types = file.message_type
    for index in indexes:
        names.append(types[index].name)
        types = types[index].nested_type
    return ".".join(names)


def _descend(file: FileDescriptorProto, indexes: list[int]) -> DescriptorProto:
    message = file.message_type[indexes[0]]
    for index in indexes[1:]:
        message = message.nested_type[index]
    return message


def _add_result(file: FileDescriptorProto, indexes: list[int], field: str) -> None:
    message = _descend(file, indexes)
    name = "".join(part.capitalize() for part in field.split("_")) + "Result"
    if field in {member.name for member in message.field} or name in {inner.name for inner in message.nested_type}:
        raise field_taken(field)
    place = f".{_names(file, indexes)}"
    result = message.nested_type.add(name=name)
    score = result.nested_type.add(name="Score")
    score.field.add(name="label", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    score.field.add(name="score", number=2, type=_Field.TYPE_DOUBLE, label=_Field.LABEL_OPTIONAL)
    _add_optional_text(file, result, "label", 1)
    result.field.add(name="score", number=2, type=_Field.TYPE_DOUBLE, label=_Field.LABEL_OPTIONAL)
    result.field.add(
        name="labels",
        number=3,
        type=_Field.TYPE_MESSAGE,
        type_name=f"{place}.{name}.Score",
        label=_Field.LABEL_REPEATED,
    )
    result.field.add(name="label_set", number=4, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    result.field.add(name="model", number=5, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    result.field.add(name="truncated", number=6, type=_Field.TYPE_BOOL, label=_Field.LABEL_OPTIONAL)
    _add_optional_text(file, result, "decided_by", 7)
    message.field.add(
        name=field,
        number=_free_number(message),
        type=_Field.TYPE_MESSAGE,
        type_name=f"{place}.{name}",
        label=_Field.LABEL_OPTIONAL,
    )


def _add_optional_text(file: FileDescriptorProto, message: DescriptorProto, name: str, number: int) -> None:
    added = message.field.add(name=name, number=number, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    if file.syntax == "proto3":  # where only a field in a oneof of its own tells that it is not there
        added.proto3_optional = True
        added.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _free_number(message: DescriptorProto) -> int:
    taken = {member.number for member in message.field}
    ranges = [(one.start, one.end) for one in (*message.reserved_range, *message.extension_range)]
    number = _FIRST_NUMBER
    while number in taken or any(start <= number < end for start, end in ranges):
        ends = [end for start, end in ranges if start <= number < end]
        number = max([number + 1, *ends])
    if number >= 1 << 29:
        raise UnfitError("schema_refused", "its schema has no number left for a field")
    return number


def _pick(message: Message, path: list[str], members: dict[str, Any]) -> None:
    """Put what is at a path of a message at the same path of a dict; nothing where nothing is set."""
    found: Any = message
    for name in path:
        described = found.DESCRIPTOR.fields_by_name.get(name) if isinstance(found, Message) else None
        if described is None or (described.has_presence and not found.HasField(name)):
            return
        found = getattr(found, name)
    if not isinstance(found, str | int | float | bool | bytes | Message):
        found = list(found)
        if not found:
            return
    *parents, last = path
    for name in parents:
        members = members.setdefault(name, {})
    members[last] = found
