"""A refused event as it stands in the dead-letter topic: the original bytes, and the reason in the headers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from stream_classifier.events.enrich import FIRST_SOURCE, LABEL_SET, own_headers_removed

if TYPE_CHECKING:
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.events.refusal import Refusal

VALUE_BYTES = "classifier-value-bytes"
_LONGEST_SOURCE = 300  # bytes: a topic's name has at most 249


class DeadLetter(NamedTuple):
    """What is produced to the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(record: Record, refusal: Refusal, version: str) -> DeadLetter:
    """The refused record with its original key, value and headers (left out when they cannot be read)."""
    return DeadLetter(record.key, record.value, own_headers_removed(record.headers) + _reason(record, refusal, version))


def without_payload(record: Record, refusal: Refusal, version: str) -> DeadLetter:
    """The same for a record that does not fit: size and SHA-256 for the value, so that it cannot fail for its size.

    The original stays in the input topic, at `classifier-source`, for as long as that topic keeps it.
    """
    value = record.value or b""
    headers = _first_source(record.headers) + _reason(record, refusal, version)
    headers.append((VALUE_BYTES, str(len(value)).encode()))
    headers.append(("classifier-value-sha256", hashlib.sha256(value).hexdigest().encode()))
    return DeadLetter(None, None, headers)


def _first_source(headers: Headers | None) -> Headers:
    """Where an event that came round again was first. What is longer than a place can be is somebody else's."""
    own = [(name, value) for name, value in headers or [] if name == FIRST_SOURCE]
    return own[:1] if own and len(own[0][1] or b"") <= _LONGEST_SOURCE else []


def _reason(record: Record, refusal: Refusal, version: str) -> Headers:
    headers: Headers = [
        ("classifier-error-code", refusal.code.encode()),
        ("classifier-error-message", refusal.message.encode()),
        ("classifier-source", record.source.encode()),
        ("classifier-version", version.encode()),
    ]
    if record.timestamp is not None:
        headers.append(("classifier-source-timestamp", str(record.timestamp).encode()))
    if refusal.label_set is not None:
        headers.append((LABEL_SET, refusal.label_set.encode()))
    return headers
