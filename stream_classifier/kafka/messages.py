"""From the client's messages to our records."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from stream_classifier.events.record import Record

if TYPE_CHECKING:
    from confluent_kafka import Message

# For a name that is not UTF-8 the client gives a result and leaves its exception set besides. A plain call may
# not notice, and the exception comes up somewhere later; a call by this one notices, and raises a SystemError.
_headers = methodcaller("headers")


def to_record(message: Message) -> Record:
    """What a message without an error holds."""
    try:
        headers: Any = _headers(message)
        readable = True
    except (UnicodeDecodeError, SystemError):
        headers, readable = None, False
    kind, milliseconds = message.timestamp()
    # All of these are there when there is no error; key and value are bytes, as no deserializer is set.
    return Record(
        message.topic(),  # type: ignore[arg-type]
        message.partition(),  # type: ignore[arg-type]
        message.offset(),  # type: ignore[arg-type]
        message.key(),
        message.value(),
        headers,
        milliseconds if kind else None,
        readable,
    )
