"""A refused event as it stands in the dead-letter topic: the original bytes, and the reason in the headers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from stream_classifier.events.enrich import own_headers_removed

if TYPE_CHECKING:
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.events.refusal import Refusal


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
    headers = _reason(record, refusal, version)
    headers.append(("classifier-value-bytes", str(len(value)).encode()))
    headers.append(("classifier-value-sha256", hashlib.sha256(value).hexdigest().encode()))
    return DeadLetter(None, None, headers)


def _reason(record: Record, refusal: Refusal, version: str) -> Headers:
    headers: Headers = [
        ("classifier-error-code", refusal.code.encode()),
        ("classifier-error-message", refusal.message.encode()),
        ("classifier-source", record.source.encode()),
        ("classifier-version", version.encode()),
    ]
    if record.timestamp is not None:
        headers.append(("classifier-source-timestamp", str(record.timestamp).encode()))
    return headers
