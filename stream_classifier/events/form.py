"""How events look: what reads one and writes its result, whatever format it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stream_classifier.events.decode import Decoder
from stream_classifier.events.enrich import Enricher

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_classifier.events.decode import Awaited, PassThrough, Task
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.events.refusal import Refusal
    from stream_classifier.settings import Settings


class Form(Protocol):
    """What the worker needs of a format."""

    @property
    def restyle(self) -> Callable[[Record, Headers], Headers] | None:
        """Changes the headers of a labelled event, given the record it came from; None where nothing has to be."""

    @property
    def trouble(self) -> str | None:
        """What keeps events from being decoded at the moment; None for nothing."""

    def decode(self, record: Record) -> Task | Refusal | PassThrough | Awaited:
        """Take the text and the labels out of a record, or say why that cannot be done, or cannot be done yet."""

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """The value of the labelled event, of a record of which `decode` made a task.

        Args:
            record: The event.
            classification: The member's value, as JSON.
        """

    def has_news(self) -> bool:
        """Whether events that were `Awaited` can be decoded again.

        Raises:
            RegistryError: It has taken too long.
        """

    def close(self) -> None:
        """Stop whatever goes on behind it."""


class Decoded(NamedTuple):
    """An event that was decoded by its schema.

    Attributes:
        members: Those that are read, by name; nested ones in a dict of their own.
        size: Bytes that its text has at the most.
    """

    members: dict[str, Any]
    size: int


class Codec(Protocol):
    """Reads and writes the events of one schema. No I/O."""

    def decode(self, record: Record) -> Decoded:
        """An event's members.

        Raises:
            ValueError: The value is not what the schema says.
        """

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """The value of the labelled event; see `Form.enrich`."""


class PlainForm:
    """`json` and `text`: an event says all by itself."""

    restyle: Callable[[Record, Headers], Headers] | None = None
    trouble: str | None = None

    def __init__(self, settings: Settings) -> None:
        self.decode = Decoder(settings.input, settings.output).decode
        self._enrich = Enricher(settings.input, settings.output).enrich

    def enrich(self, record: Record, classification: bytes) -> bytes:
        """See `Form`."""
        if record.value is None:
            raise ValueError("a tombstone has no text that could have been labelled")
        return self._enrich(record.value, classification)

    def has_news(self) -> bool:
        """Nothing is ever awaited."""
        return False

    def close(self) -> None:
        """Nothing goes on behind it."""
