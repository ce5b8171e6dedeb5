"""One Kafka record as the worker holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_classifier.events.form import Codec

# Values that were read are bytes; strings stand here because the client's own type has them, and lists are invariant.
Headers = list[tuple[str, str | bytes | None]]


class Record:
    """What was read from an input topic, byte for byte.

    Attributes:
        topic: The input topic.
        partition: The number of its partition.
        offset: The place in that partition.
        key: The key's bytes, None when it has none.
        value: The value's bytes, None for a tombstone.
        headers: In their order, repeated ones too; None when there are none, or when a name is not UTF-8.
        headers_readable: False when a header's name is not UTF-8.
        timestamp: Milliseconds since 1970; None when the record has none.
        polled_at: When it arrived, in seconds on the worker's own clock.
        codec: Reads and writes it; only set once it was decoded by a schema.
    """

    __slots__ = (
        "codec",
        "headers",
        "headers_readable",
        "key",
        "offset",
        "partition",
        "polled_at",
        "timestamp",
        "topic",
        "value",
    )

    codec: Codec  # left unset: nothing is to be paid for it by events without a schema

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        timestamp: int | None = None,
        headers_readable: bool = True,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.value = value
        self.headers = headers
        self.timestamp = timestamp
        self.headers_readable = headers_readable
        self.polled_at = 0.0

    @property
    def source(self) -> str:
        """`topic/partition/offset`: names the event, and the id to deduplicate by."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def __repr__(self) -> str:
        # Never the value: it is a user's text.
        return f"Record({self.source})"
