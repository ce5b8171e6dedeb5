"""Sample tickets in several languages, with the label that a careful person gave each: what the demo publishes.

All of them are invented, as are the order numbers. Some are broken on purpose, and end as dead letters.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import orjson

from stream_classifier.events.enrich import without_member

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

_FOLDER = files(__name__)


@dataclass(frozen=True)
class Sample:
    """One record to publish, and what should become of it.

    Attributes:
        id: Names the sample; also the event's own `id`, where the value can hold one.
        value: The record's value, byte for byte; None for a tombstone. It holds no gold label.
        gold: The label that a person chose: one of support.yaml, or of the event's own labels. None for a broken one.
        broken: The reason code with which the record is to be refused; None for a good one.
    """

    id: str
    value: bytes | None
    gold: str | None
    broken: str | None


def load_samples() -> list[Sample]:
    """All samples in the order of tickets.jsonl: labels, languages and broken ones are mixed."""
    return [_sample(line) for line in (_FOLDER / "tickets.jsonl").read_bytes().splitlines()]


def label_set_path() -> AbstractContextManager[Path]:
    """The samples' label set, support.yaml, as a file for as long as the context is open."""
    return as_file(_FOLDER / "support.yaml")


def _sample(line: bytes) -> Sample:
    entry = orjson.loads(line)
    if "broken" in entry:
        raw = entry["raw_base64"]
        return Sample(entry["id"], None if raw is None else base64.b64decode(raw), None, entry["broken"])
    # Cut out of the bytes, since a parser would turn 1.10 into 1.1.
    return Sample(entry["id"], without_member(line, "gold"), entry["gold"], None)
