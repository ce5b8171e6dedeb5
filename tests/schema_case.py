"""One worker's way of reading and writing events with a schema, with topics and subjects of a test's own."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import orjson
from confluent_kafka.serialization import MessageField, SerializationContext

from stream_classifier.events.decode import Awaited, Task
from stream_classifier.events.record import Record
from stream_classifier.events.refusal import Refusal
from stream_classifier.registry.opening import open_schema_form
from stream_classifier.settings import Settings

if TYPE_CHECKING:
    from stream_classifier.events.decode import PassThrough
    from stream_classifier.registry.form import SchemaForm

CONF = {"subject.name.strategy.type": "TOPIC"}
RESULT = {
    "label": "delivery",
    "score": 0.83,
    "labels": [{"label": "delivery", "score": 0.83}, {"label": "refund", "score": 0.11}],
    "label_set": "support@3",
    "model": "tiny@9f2c41d0",
    "truncated": False,
}


class Case:
    """Topics of a test's own, whose names are also its subjects."""

    def __init__(self, url: str, form: str, **changes: Any) -> None:
        name = uuid.uuid4().hex[:12]
        self.input, self.output = f"in-{name}", f"out-{name}"
        document: dict[str, Any] = {
            "kafka": {"bootstrap_servers": "none:1", "group_id": "g"},
            "input": {"topics": [self.input], "format": form},
            "output": {"topic": self.output},
            "dead_letter": {"topic": "dead"},
            "labels": {"path": "labels.yaml"},
            "schema_registry": {"url": url},
        }
        for section, values in changes.items():
            document[section] |= values
        self.form: SchemaForm = open_schema_form(Settings.model_validate(document))

    def context(self, topic: str, headers: Any = None) -> SerializationContext:
        return SerializationContext(topic, MessageField.VALUE, headers)

    def record(self, value: bytes | None, headers: Any = None) -> Record:
        return Record(self.input, 0, 0, b"key", value, headers)

    def decode(self, record: Record) -> Task | Refusal | PassThrough:
        """As the worker does: again when there is news."""
        answer = self.form.decode(record)
        end = time.monotonic() + 20
        while isinstance(answer, Awaited):
            assert time.monotonic() < end, "no answer of the registry came"
            time.sleep(0.002)
            if self.form.has_news():
                answer = self.form.decode(record)
        return answer

    def label(self, value: bytes, result: dict[str, Any] = RESULT, headers: Any = None) -> bytes:
        record = self.record(value, headers)
        answer = self.decode(record)
        assert isinstance(answer, Task), answer
        return self.form.enrich(record, orjson.dumps(result))


def refusal(case: Case, value: bytes | None, headers: Any = None) -> str:
    answer = case.decode(case.record(value, headers))
    assert isinstance(answer, Refusal), answer
    assert "parcel" not in answer.message
    return answer.code


class Once:
    """One of a kind for all examples: a new schema each time would be asked for each time."""

    def __init__(self, make: Any) -> None:
        self._make, self._made = make, {}  # type: ignore[var-annotated]

    def __call__(self, url: str) -> Any:
        if url not in self._made:
            self._made[url] = self._make(url)
        return self._made[url]
