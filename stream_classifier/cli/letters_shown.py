"""Dead letters as the commands show them: no control character reaches a terminal."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stream_classifier.events.letter import parse_source, read_letter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stream_classifier.events.letter import Letter
    from stream_classifier.events.record import Record
    from stream_classifier.events.redrive import Group, Plan

_NAMED = 5  # places that are named of those that cannot go back


def table(groups: Sequence[Group]) -> Iterator[str]:
    """Groups as lines of equal columns, with a header."""
    rows = [("reason", "count", "redriven", "first", "last", "example", "source")]
    for group in groups:
        first, last = _time(group.first) or "?", _time(group.last) or "?"
        numbers = str(group.total), str(group.redriven)
        rows.append((_safe(group.code or "?"), *numbers, first, last, group.example.name, _safe(group.example.source)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def group_members(group: Group) -> dict[str, Any]:
    """A group for programs."""
    return {
        "reason": group.code,
        "count": group.total,
        "redriven": group.redriven,
        "first": _time(group.first),
        "last": _time(group.last),
        "example": group.example.name,
        "source": group.example.source,
    }


def as_json_line(content: dict[str, Any]) -> str:
    """JSON in ASCII only, so that nothing in it can make a terminal do things."""
    return json.dumps(content)


def explained(planned: Plan, topics: Sequence[str]) -> Iterator[str]:
    """What a redrive would do, for people.

    Args:
        planned: It.
        topics: The input topics.
    """
    targets: dict[str, Counter[str]] = {}
    for letter in planned.returning:
        if (source := parse_source(letter.source)) is not None:
            targets.setdefault(source.topic, Counter())[letter.code] += 1
    for topic, codes in targets.items():
        reasons = ", ".join(f"{_safe(code)} {times}" for code, times in codes.most_common())
        yield f"to {topic}: {codes.total()} ({reasons})"
    if not planned.returning:
        yield "nothing to redrive"
    if unreadable := sum(letter.code == "header_unreadable" for letter in planned.returning):
        yield f"{unreadable} of them go without their headers, which could not be read"
    yield from _staying(planned, topics)


def _staying(planned: Plan, topics: Sequence[str]) -> Iterator[str]:
    if planned.before:
        yield f"{count(planned.before)} redriven before: they stay; --again takes them once more"
    if planned.without_payload:
        originals = _some(letter.source for letter in planned.without_payload)
        yield (
            f"{count(planned.without_payload)} without payload cannot go back from here; the originals are at "
            f"{originals}, for as long as their topic keeps them"
        )
    if planned.foreign:
        names = ", ".join(topics)
        yield (
            f"{count(planned.foreign)} did not come from one of input.topics ({names}) and stay: "
            f"{_some(letter.name for letter in planned.foreign)}"
        )
    if planned.refused:
        yield (
            f"{count(planned.refused)} stay, since their topic would refuse the size or the timestamp now: "
            f"{_some(letter.name for letter in planned.refused)}; --current-time gives them another timestamp"
        )
    if planned.expired:
        yield (
            f"{count(planned.expired)} stay, since their topic would delete events of that age at once: "
            f"{_some(letter.name for letter in planned.expired)}; --current-time gives them another timestamp"
        )


def count(letters: list[Letter]) -> str:
    """How many they are, in words."""
    return f"{len(letters)} dead letter{'' if len(letters) == 1 else 's'}"


def _some(names: Iterable[str]) -> str:
    shown = [_safe(name) for name in names]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)  # beyond the year 9999


def _safe(text: str) -> str:
    """As one line, with control characters spelled out: they could make a terminal do things."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _shown(content: bytes | str | None) -> str:
    if content is None:
        return "(none)"
    if isinstance(content, bytes):
        content = content.decode("utf-8", "backslashreplace")
    return _safe(content)


def lines(record: Record, *, redriven: bool, payload: bool) -> Iterator[str]:
    """One dead letter for people; the user's own content only with the payload."""
    letter = read_letter(record)
    yield f"place: {letter.name}"
    yield f"time: {_time(record.timestamp) or '?'}"
    yield f"redriven: {'yes' if redriven else 'no'}"
    for name, value in record.headers or []:
        if name.startswith("classifier-"):
            yield f"{_safe(name)}: {_shown(value)}"
    for name, value in record.headers or []:
        if not name.startswith("classifier-"):
            yield f"header {_safe(name)}: {_shown(value) if payload else _size(value)}"
    yield f"key: {_shown(record.key) if payload else _size(record.key)}"
    yield f"value: {_shown(record.value) if payload else _size(record.value)}"


def _size(content: bytes | str | None) -> str:
    return "(none)" if content is None else f"({len(content)} bytes; --payload shows them)"


def members(record: Record, *, redriven: bool, payload: bool) -> dict[str, Any]:
    """The same for programs; the user's own content in base 64."""
    letter = read_letter(record)
    headers = record.headers or []
    whole: dict[str, Any] = {
        "place": letter.name,
        "timestamp": record.timestamp,
        "redriven": redriven,
        **{name: _decoded(value) for name, value in headers if name.startswith("classifier-")},
        "key_bytes": None if record.key is None else len(record.key),
        "value_bytes": None if record.value is None else len(record.value),
    }
    if payload:
        whole["headers"] = [[name, _base64(value)] for name, value in headers if not name.startswith("classifier-")]
        whole["key_base64"] = _base64(record.key)
        whole["value_base64"] = _base64(record.value)
    return whole


def _decoded(content: bytes | str | None) -> str | None:
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else content


def _base64(content: bytes | str | None) -> str | None:
    if content is None:
        return None
    return base64.b64encode(content if isinstance(content, bytes) else content.encode()).decode()
