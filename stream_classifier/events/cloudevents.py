"""CloudEvents 1.0 in Kafka records, in both content modes.

Which mode a record has is told by its `content-type` header, as in section 3 of the Kafka protocol binding 1.0.2: with
`application/cloudevents` in front the value is the whole event, in JSON (structured mode); otherwise the attributes
stand in headers that begin with `ce_` and the value is the data (binary mode). Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from stream_classifier.events.decode import Decoder
from stream_classifier.events.enrich import Enricher, members_of, without_member
from stream_classifier.events.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_classifier.events.decode import PassThrough, Task
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.settings import Settings

_CONTENT_TYPE: Final = "content-type"
_PREFIX: Final = "ce_"
_STRUCTURED: Final = "application/cloudevents"
"""What the content type of a structured event begins with."""
_REQUIRED: Final = ("id", "source", "specversion", "type")


class CloudEventsForm:
    """Reads the text out of an event's data and writes the result into it; the attributes stay as they are.

    Args:
        settings: Everything that can be set.
    """

    trouble: str | None = None

    def __init__(self, settings: Settings) -> None:
        self._decoder = Decoder(settings.input, settings.output)
        self._enricher = Enricher(settings.input, settings.output)
        given = {"type": settings.output.cloudevents_type, "source": settings.output.cloudevents_source}
        self._given = {name: value for name, value in given.items() if value is not None}
        self.restyle: Callable[[Record, Headers], Headers] | None = self._with_given_attributes if self._given else None

    def decode(self, record: Record) -> Task | Refusal | PassThrough:
        """See `Form`."""
        if record.value is None or not record.headers_readable:
            return self._decoder.unread(record)
        headers = _last_values(record.headers)
        content_type = _media_type(headers.get(_CONTENT_TYPE))
        if not content_type.startswith(_STRUCTURED):
            attributes = {name.removeprefix(_PREFIX): value for name, value in headers.items() if name[:3] == _PREFIX}
            problem = _problem_with(attributes, content_type)
            return _invalid(problem) if problem else self._decoder.decode(record)
        if content_type != f"{_STRUCTURED}+json":
            return _invalid(f"{content_type} is not supported in structured mode, only {_STRUCTURED}+json")
        return self._decode_structured(record.value)

    def _decode_structured(self, value: bytes) -> Task | Refusal:
        try:
            event = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            return _invalid(f"the value is not JSON at line {error.lineno}, column {error.colno}")
        if not isinstance(event, dict):
            return _invalid("the value is JSON, but not an object")
        problem = _problem_with(event, _media_type(event.get("datacontenttype")))
        if problem is None and event.get("data_base64") is not None:
            problem = "data_base64 is not read"  # nor is it when there is data as well, which the format forbids
        if problem is None and not isinstance(event.get("data"), dict):
            problem = "data is not a JSON object"
        return _invalid(problem) if problem else self._decoder.read(event["data"], len(value))

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """See `Form`. The result becomes a member of `data`, whose other bytes stay as they were."""
        value = record.value or b""
        if not _is_structured(record):
            return self._enricher.enrich(value, classification)
        begin, end = [span for name, span in members_of(value) if name == "data"][-1]
        value = value[:begin] + self._enriched_data(value[begin:end], classification) + value[end:]
        for name, text in self._given.items():
            value = without_member(value, name)
            at = value.rindex(b"}")
            value = b"".join((value[:at], b",", orjson.dumps(name), b":", orjson.dumps(text), value[at:]))
        return value

    def _enriched_data(self, member: bytes, classification: bytes) -> bytes:
        at = member.index(b"{")
        return member[:at] + self._enricher.enrich(member[at:], classification)

    def _with_given_attributes(self, record: Record, headers: Headers) -> Headers:
        given: Headers = [(_PREFIX + name, value.encode()) for name, value in self._given.items()]
        if _is_structured(record):  # where attributes may stand in headers as well (section 3.3.3)
            present = {name.lower() for name, _ in headers}
            given = [header for header in given if header[0] in present]
        replaced = {name for name, _ in given}
        return [header for header in headers if header[0].lower() not in replaced] + given

    def has_news(self) -> bool:
        """Nothing is ever awaited."""
        return False

    def close(self) -> None:
        """Nothing goes on behind it."""


def _is_structured(record: Record) -> bool:
    return _media_type(_last_values(record.headers).get(_CONTENT_TYPE)).startswith(_STRUCTURED)


def _last_values(headers: Headers | None) -> dict[str, str]:
    # What is not UTF-8 is no attribute's value, and is refused as one that is missing.
    return {name.lower(): _text(value) for name, value in headers or []}


def _text(value: str | bytes | None) -> str:
    if not isinstance(value, bytes):
        return value or ""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""


def _media_type(value: object) -> str:
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else ""


def _problem_with(attributes: Mapping[str, Any], data_type: str) -> str | None:
    for name in _REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            return f"the attribute {name} is missing"
    if attributes["specversion"] != "1.0":
        return "its specversion is not 1.0"
    subtype = data_type.rpartition("/")[2]
    if data_type and subtype != "json" and not subtype.endswith("+json"):
        return "its data is not JSON, as its content type says"
    return None


def _invalid(problem: str) -> Refusal:
    return Refusal("cloudevent_invalid", f"not a CloudEvent that can be labelled: {problem}")
