"""What is produced for each outcome, and what a topic would refuse. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream_classifier.events.dead_letter import dead_letter, without_payload
from stream_classifier.events.enrich import output_headers, output_timestamp, own_headers_removed
from stream_classifier.events.form import PlainForm
from stream_classifier.events.refusal import Refusal

if TYPE_CHECKING:
    from stream_classifier.events.form import Form
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.settings import Settings

DEFAULT_MAX_BYTES = 1_048_588
NEVER_MS = 2**63 - 1
_RECORD_OVERHEAD = 100  # bytes that a batch and a record take around key, value and headers
_HEADER_OVERHEAD = 10
_FEW_HEADERS = 3  # our own: a topic's name, which Kafka limits to 249 letters, a hash, and a label set's name


class TopicLimits(NamedTuple):
    """What a topic refuses.

    Attributes:
        max_bytes: Of one produce batch, and so of one record with its overhead.
        past_ms: How far in the past a timestamp may lie.
        future_ms: How far in the future.
    """

    max_bytes: int = DEFAULT_MAX_BYTES
    past_ms: int = NEVER_MS
    future_ms: int = NEVER_MS


Outgoing = tuple[str, bytes | None, bytes | None, "Headers", int]
"""A record to produce: topic, key, value, headers, and a timestamp in milliseconds, 0 for the time of sending.

A plain tuple: one is made for every event, and a named one takes several times as long to make.
"""


class Writer:
    """Makes the records of the output and of the dead-letter topic.

    Args:
        settings: Everything that can be set.
        limits: What each of the two topics refuses.
        model: The bundle's short hash.
        version: This project's.
        form: How events look; None for what needs nothing but the settings.
    """

    def __init__(
        self,
        settings: Settings,
        limits: dict[str, TopicLimits],
        *,
        model: str,
        version: str,
        form: Form | None = None,
    ) -> None:
        looks: Form = form or PlainForm(settings)
        self._enrich, self._restyle = looks.enrich, looks.restyle
        self._output = settings.output.topic
        self._dead_letter = settings.dead_letter.topic
        self._output_bytes, self._past_ms, self._future_ms = limits[self._output]
        self._surely_fits = self._output_bytes - 2000
        self._dead_letter_bytes = limits[self._dead_letter].max_bytes
        self._model = model
        self._version = version

    def labelled(self, record: Record, classification: bytes, label_set: str, now: int) -> Outgoing | Refusal:
        """The enriched event, or why the output topic would not take it.

        Args:
            record: An event with a value.
            classification: The member's value, as JSON.
            label_set: `name@version`, or `adhoc`.
            now: Milliseconds since 1970.
        """
        value = self._enrich(record, classification)
        headers = output_headers(record, self._model, label_set)
        if self._restyle is not None:
            headers = self._restyle(record, headers)
        written = self._within_limits(record, value, headers, now)
        return written._replace(label_set=label_set) if isinstance(written, Refusal) else written

    def passed_through(self, record: Record, now: int) -> Outgoing | Refusal:
        """A tombstone as it came."""
        headers = own_headers_removed(record.headers)
        headers.append(("classifier-source", record.source))
        return self._within_limits(record, None, headers, now)

    def _within_limits(self, record: Record, value: bytes | None, headers: Headers, now: int) -> Outgoing | Refusal:
        key, timestamp = record.key, output_timestamp(record.timestamp)
        # Counting every byte of every record would cost more than making it: most are far below the limit.
        little = len(headers) <= _FEW_HEADERS and len(key or b"") + len(value or b"") < self._surely_fits
        if not little and (size := record_bytes(key, value, headers)) > self._output_bytes:
            limit = f"max.message.bytes of {self._output} is {self._output_bytes}"
            return Refusal("output_too_large", f"the labelled event has up to {size} bytes; {limit}")
        if timestamp and not now - self._past_ms <= timestamp <= now + self._future_ms:
            return Refusal("timestamp_refused", f"{self._output} does not take the timestamp {timestamp}")
        return self._output, key, value, headers, timestamp

    def refused(self, record: Record, refusal: Refusal, *, payload: bool = True) -> Outgoing:
        """The dead letter; without its payload when that does not fit, or is not wanted.

        Args:
            record: The event.
            refusal: Why it is put aside.
            payload: Whether to send key, value and headers along if they fit.
        """
        letter = dead_letter(record, refusal, self._version)
        if not payload or record_bytes(*letter) > self._dead_letter_bytes:
            letter = without_payload(record, refusal, self._version)
        return self._dead_letter, *letter, 0


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """What a record takes of a topic's `max.message.bytes`, at the most."""
    size = _RECORD_OVERHEAD + len(key or b"") + len(value or b"")
    for name, content in headers:
        # A name of other than ASCII letters has up to four bytes a letter.
        size += (len(name) if name.isascii() else 4 * len(name)) + len(content or b"") + _HEADER_OVERHEAD
    return size
