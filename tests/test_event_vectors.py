"""What each kind of input value must become; the vectors stand in `event_vectors.jsonl`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stream_classifier.events.decode import Decoder, Task
from stream_classifier.events.enrich import Enricher
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.settings import InputSettings, OutputSettings

VECTORS = [json.loads(line) for line in (Path(__file__).parent / "event_vectors.jsonl").read_text().splitlines()]
READING, WRITING = InputSettings(topics=("in",)), OutputSettings(topic="out")


def value_of(vector: dict[str, Any]) -> bytes | None:
    return None if vector["value"] is None else base64.b64decode(vector["value"])


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    value = value_of(vector)
    answer = Decoder(READING, WRITING).decode(Record("in", 0, 0, None, value))
    if vector["outcome"] != "labelled":
        assert isinstance(answer, Refusal)
        assert answer.code == vector["outcome"]
        return
    assert value is not None
    labels = vector.get("labels")
    assert answer == Task(vector["text"], None if labels is None else tuple(labels))
    assert Enricher(READING, WRITING).enrich(value, b'{"label":"x"}') == base64.b64decode(vector["enriched"])


def test_vectors_are_all_there() -> None:
    assert len(VECTORS) == 74
