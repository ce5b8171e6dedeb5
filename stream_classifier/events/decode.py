"""From the bytes of an event to the text and the labels that are asked for, or to the reason why not."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from stream_classifier.events.refusal import Refusal

if TYPE_CHECKING:
    from stream_classifier.events.record import Record
    from stream_classifier.settings import InputSettings, OutputSettings

MAX_OWN_LABELS = 100
MAX_LABEL_CHARACTERS = 200
_MISSING: Final = object()


class Task(NamedTuple):
    """What is to be classified.

    Attributes:
        text: The event's text, not blank.
        labels: The event's own labels; None when the configured set applies.
    """

    text: str
    labels: tuple[str, ...] | None


class PassThrough:
    """A tombstone that goes to the output as it is, so that a compacted topic can be labelled."""


PASS_THROUGH: Final = PassThrough()


class Awaited:
    """What an event needs to be read is being asked for; it is decoded again when that is there."""


AWAITED: Final = Awaited()


class Decoder:
    """Reads events as the settings describe them. Pure: the same record gives the same answer."""

    def __init__(self, reading: InputSettings, writing: OutputSettings) -> None:
        self._text_path = reading.text_field.split(".")
        self._labels_path = reading.labels_field.split(".")
        self._text_name = reading.text_field
        self._labels_name = reading.labels_field
        self._shallow = len(self._text_path) == len(self._labels_path) == 1
        self._max_bytes = reading.max_text_bytes
        self._json = reading.format != "text"
        self._tombstones_pass = reading.tombstones == "pass_through"
        self._taken = None if writing.overwrite else writing.field

    def decode(self, record: Record) -> Task | Refusal | PassThrough:
        """Take the text and the labels out of a record, or say why that cannot be done."""
        value = record.value
        if value is None or not record.headers_readable:
            return self.unread(record)
        return self._decode_json(value) if self._json else self._decode_text(value)

    def unread(self, record: Record) -> Refusal | PassThrough:
        """What becomes of a record without a value, or whose headers cannot be read."""
        if not record.headers_readable:
            return Refusal("header_unreadable", "the name of a header is not UTF-8")
        return PASS_THROUGH if self._tombstones_pass else Refusal("tombstone", "the record has no value")

    def _decode_text(self, value: bytes) -> Task | Refusal:
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            return Refusal("not_utf8", f"the value is not UTF-8 at byte {error.start}")
        return self._check_text(text, len(value)) or Task(text, None)

    def _decode_json(self, value: bytes) -> Task | Refusal:
        try:
            event = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            # orjson checks UTF-8 before anything else, so what it accepts is UTF-8, and what it refuses may not be.
            try:
                value.decode()
            except UnicodeDecodeError as encoding_error:
                return Refusal("not_utf8", f"the value is not UTF-8 at byte {encoding_error.start}")
            return Refusal("not_json", f"the value is not JSON at line {error.lineno}, column {error.colno}")
        if not isinstance(event, dict):
            return Refusal("not_an_object", "the value is JSON, but not an object")
        return self.read(event, len(value))

    def read(self, event: dict[str, Any], size: int) -> Task | Refusal:  # noqa: PLR0911 - one return for each reason code
        """Take the text and the labels out of an event that has been decoded.

        Args:
            event: Its members.
            size: Bytes that its text has at the most.
        """
        text = event.get(self._text_name, _MISSING) if self._shallow else _at(event, self._text_path)
        if text is _MISSING:
            return Refusal("text_missing", f"there is no member {self._text_name}; input.text_field names it")
        if not isinstance(text, str):
            return Refusal("text_not_a_string", f"the member {self._text_name} is not a string")
        if refusal := self._check_text(text, size):
            return refusal
        if self._taken is not None and self._taken in event:
            return Refusal("field_taken", f"there already is a member {self._taken}; output.overwrite replaces it")

        labels = event.get(self._labels_name) if self._shallow else _at(event, self._labels_path)
        if labels is _MISSING or labels is None:
            return Task(text, None)
        if problem := problem_with_labels(labels):
            return Refusal("labels_invalid", problem)
        return Task(text, tuple(labels))

    def _check_text(self, text: str, value_bytes: int) -> Refusal | None:
        # JSON only ever lengthens a text, so one that came in few bytes needs no counting.
        if value_bytes > self._max_bytes and (size := len(text.encode())) > self._max_bytes:
            return Refusal(
                "text_too_large", f"the text has {size} bytes; input.max_text_bytes allows {self._max_bytes}"
            )
        if is_blank(text):
            return Refusal("text_blank", "the text is empty, or only white space and format characters")
        return None


def is_blank(text: str) -> bool:
    """Whether nothing is left after removing Unicode white space and format characters (category Cf)."""
    if text[:1].isalnum():
        return False  # nearly every text; saves looking it up
    return all(character.isspace() or unicodedata.category(character) == "Cf" for character in text)


def _at(event: dict[str, Any], path: list[str]) -> Any:  # noqa: ANN401 - any JSON value
    found: Any = event
    for name in path:
        if not isinstance(found, dict):
            return _MISSING
        found = found.get(name, _MISSING)
    return found


def problem_with_labels(labels: object) -> str | None:
    """What is wrong with the labels that an event or a request brings along, without quoting them; None for nothing."""
    if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_OWN_LABELS:
        return f"labels must be an array of 1 to {MAX_OWN_LABELS} strings"
    if not all(
        isinstance(label, str) and len(label) <= MAX_LABEL_CHARACTERS and not is_blank(label) for label in labels
    ):
        return f"each label must be a string of 1 to {MAX_LABEL_CHARACTERS} characters, not blank"
    if len(set(labels)) != len(labels):
        return "a label is named twice"
    return None
