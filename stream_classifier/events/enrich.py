"""The result, spliced into the event's own bytes: numbers, key order and spacing stay as the user wrote them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from stream_classifier.events.record import Headers, Record
    from stream_classifier.settings import InputSettings, OutputSettings

OWN_HEADERS = "classifier-"
SOURCE = "classifier-source"
FIRST_SOURCE = "classifier-first-source"
LABEL_SET = "classifier-label-set"
_WHITE_SPACE = b" \t\r\n"
_OPENING_BRACE, _CLOSING_BRACE, _BLANK = b"{} "  # as numbers
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)


class Enricher:
    """Writes results into events as the settings describe it. Pure."""

    def __init__(self, reading: InputSettings, writing: OutputSettings) -> None:
        self._field = writing.field
        self._member = orjson.dumps(writing.field) + b":"
        self._json = reading.format != "text"
        self._overwrite = writing.overwrite
        self._glue = b"," + self._member
        self._usual = self._json and not self._overwrite

    def enrich(self, value: bytes, classification: bytes) -> bytes:
        """The event with its classification as the last member of the top level.

        Args:
            value: What `Decoder` accepted: a JSON object with at least one member of its own, or a plain text.
            classification: The member's value, as JSON.
        """
        if self._usual and value[-1] == _CLOSING_BRACE and value[-2] > _BLANK and value[-2] != _OPENING_BRACE:
            return value[:-1] + self._glue + classification + b"}"
        member = self._member + classification
        if not self._json:
            return b'{"text":' + orjson.dumps(value.decode()) + b"," + member + b"}"
        if self._overwrite:
            value = without_member(value, self._field)
        end = len(value.rstrip(_WHITE_SPACE)) - 1
        comma = b"" if value[:end].rstrip(_WHITE_SPACE).endswith(b"{") else b","
        return b"".join((value[:end], comma, member, value[end:]))


def members_of(value: bytes) -> list[tuple[str, tuple[int, int]]]:
    """Names of the top-level members of a JSON object, decoded, each with where its value begins and ends."""
    found = []
    for begin, end in _parts(value):
        if key := _TOKEN.search(value, begin, end):
            found.append((orjson.loads(key.group()), (value.index(b":", key.end()) + 1, end)))
    return found


def without_member(value: bytes, name: str) -> bytes:
    """A JSON object without its top-level members of that name (compared decoded); the rest byte for byte.

    Args:
        value: A valid JSON object.
        name: The member's name.
    """
    parts = _parts(value)
    kept = [value[begin:end] for begin, end in parts if not _is_named(value[begin:end], name)]
    if len(kept) == len(parts):
        return value
    return value[: parts[0][0]] + b",".join(kept) + value[parts[-1][1] :]


def _parts(value: bytes) -> list[tuple[int, int]]:
    """Where each member of a JSON object begins and ends; one that is empty for `{}`."""
    depth, start, parts = 0, 0, []
    for token in _TOKEN.finditer(value):
        mark = value[token.start()]
        if mark in b"{[":
            depth += 1
            if depth == 1:
                start = token.end()
        elif mark in b"}]":
            depth -= 1
        if (mark in b"," and depth == 1) or (mark in b"}" and depth == 0):
            parts.append((start, token.start()))
            start = token.end()
    return parts


def _is_named(member: bytes, name: str) -> bool:
    key = _TOKEN.search(member)
    return key is not None and orjson.loads(key.group()) == name


def own_headers_removed(headers: Headers | None) -> Headers:
    """The user's headers: this project's are taken out, except the first source of an event that came round again."""
    if not headers:
        return []
    return [header for header in headers if not header[0].startswith(OWN_HEADERS) or header[0] == FIRST_SOURCE]


def output_headers(record: Record, model: str, label_set: str) -> Headers:
    """The headers of an enriched event: the user's, and where it came from and what labelled it.

    Args:
        record: The event.
        model: The bundle's short hash.
        label_set: `name@version`, or `adhoc`.
    """
    own: Headers = [
        ("classifier-source", record.source),
        ("classifier-model", model),
        ("classifier-label-set", label_set),
    ]
    return own_headers_removed(record.headers) + own if record.headers else own


def output_timestamp(timestamp: int | None) -> int:
    """The event's own timestamp in milliseconds; 1 for 0, which the client would take for "now"; 0 ("now") for none."""
    return 0 if timestamp is None else max(timestamp, 1)
