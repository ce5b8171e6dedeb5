"""Texts from a pipe or a file: plain lines, JSON lines or CSV, read as they come and never as a whole."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from typing import Any, Final, Literal, NamedTuple

import orjson

from stream_classifier.errors import StreamClassifierError

Format = Literal["lines", "jsonl", "csv"]

MEMBER: Final = "classification"
"""What is added to each object; none may have it before."""

MAX_LINE_BYTES: Final = 10_000_000
_READ_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Item(NamedTuple):
    """A text, and the JSON object that its classification will be added to.

    Attributes:
        text: What to label; may be blank.
        event: The object, as it will be written.
    """

    text: str
    event: bytes


class Lines:
    """The lines of a stream, as they come, without their ends.

    Args:
        stream: Where from; a read of it gives what is there, and waits only if nothing is.
        name: How errors call it.

    Attributes:
        number: Of the line that was given last, from 1.
        bytes_read: Bytes taken from the stream so far.
    """

    def __init__(self, stream: BufferedIOBase, name: str) -> None:
        self.number = 0
        self.bytes_read = 0
        self._stream = stream
        self._name = name
        self._waiting = 0

    @property
    def ready(self) -> bool:
        """Whether a line that is not blank can be had at once."""
        return self._waiting > 0

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while chunk := self._stream.read1(_READ_BYTES):
            self.bytes_read += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            self._waiting = sum(1 for line in lines if line.strip())
            for line in lines:
                yield self._next(line)
            if len(rest) > MAX_LINE_BYTES:
                self.number += 1
                raise self.error(f"is longer than {MAX_LINE_BYTES:,} bytes")
        if rest:
            yield self._next(rest)

    def _next(self, line: bytes) -> bytes:
        self.number += 1
        self._waiting -= bool(line.strip())
        return line.removesuffix(b"\r").removeprefix(_BYTE_ORDER_MARK if self.number == 1 else b"")

    def error(self, problem: str) -> StreamClassifierError:
        """The error that says what is wrong with the line that was given last, and never what is in it."""
        return StreamClassifierError(f"{self._name}, line {self.number}: {problem}")

    def decoded(self, line: bytes) -> str:
        """The line as text.

        Raises:
            StreamClassifierError: It is not UTF-8.
        """
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"is not UTF-8 at byte {error.start + 1}; convert it to UTF-8 first") from None


def read_items(
    lines: Lines, form: Format | None, *, text_field: str, text_column: str, taken: str | None = MEMBER
) -> Iterator[Item]:
    """The texts of a stream.

    Args:
        lines: The stream.
        form: What the lines are; when None, JSON lines if the first one begins with a brace, else plain.
        text_field: Dotted path of the text in JSON lines.
        text_column: Name of the text's column in CSV.
        taken: A member, or column, that none may have; None: any may.

    Raises:
        StreamClassifierError: A line cannot be read; says which and why.
    """
    stream = iter(lines)
    if form is None:
        first = next(stream, b"")
        form = "jsonl" if first.lstrip().startswith(b"{") else "lines"
        stream = itertools.chain([first], stream)
    if form == "csv":
        return _from_csv(lines, stream, text_column, taken)
    stream = (line for line in stream if line.strip())
    if form == "jsonl":
        return (_from_json(lines, line, text_field, taken) for line in stream)
    return (from_text(lines.decoded(line)) for line in stream)


def from_text(text: str) -> Item:
    """A bare text."""
    return Item(text, orjson.dumps({"text": text}))


def _from_json(lines: Lines, line: bytes, text_field: str, taken: str | None) -> Item:
    lines.decoded(line)  # whether it is UTF-8 is said before whether it is JSON
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise lines.error(f"is not JSON at column {error.colno}") from None
    if not isinstance(event, dict):
        raise lines.error("is JSON, but not an object")
    if taken in event:
        raise lines.error(f"has a member {taken} already; take it out first")
    text: Any = event
    for name in text_field.split("."):
        if not isinstance(text, dict) or name not in text:
            raise lines.error(f"has no member {text_field}; name the text's with --text-field")
        text = text[name]
    if not isinstance(text, str):
        raise lines.error(f"the member {text_field} is not a string; name the text's with --text-field")
    return Item(text, line)


def _from_csv(lines: Lines, stream: Iterable[bytes], text_column: str, taken: str | None) -> Iterator[Item]:
    reader = csv.reader((lines.decoded(line) + "\n" for line in stream), strict=True)
    try:
        header = next(reader, [])
        if not header:
            return
        # The names in a header are not shown: without a header, the first line would be a user's text.
        for place, name in enumerate(header):
            if (first := header.index(name)) != place:
                raise lines.error(f"columns {first + 1} and {place + 1} have the same name")
        if text_column not in header:
            raise lines.error(
                f"none of the {len(header)} columns is called {text_column!r}; name it with --text-column"
            )
        if taken in header:
            raise lines.error(f"there is a column {taken} already; take it out first")
        for row in filter(None, reader):
            if len(row) != len(header):
                raise lines.error(f"has {len(row)} columns, the header has {len(header)}")
            members = dict(zip(header, row, strict=True))
            yield Item(members[text_column], orjson.dumps(members))
    except csv.Error as error:
        raise lines.error(f"is not CSV ({error})") from None
