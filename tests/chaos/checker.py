"""The independent checker: reads the topics as anybody could, and compares. It shares no code with the product.

    verdict = compare(read(servers, "tickets"), read(servers, "labelled"), read(servers, "dead-letter"))

What it holds the worker to, whatever happened meanwhile: every input has a result; a labelled event is the event's own
bytes with one member more before the last brace; a dead letter is the event's own bytes; nothing else was written; and
no result of a key comes before the first result of an older event of the same key.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as ClientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import Message

_MEMBER = re.compile(rb',"classification":(\{.*\})\Z', re.DOTALL)

Source = tuple[int, int]
"""Partition and offset of an input."""


class Seen(NamedTuple):
    """A record as it stands in a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int

    @property
    def source(self) -> Source:
        """Of which input it is the result.

        Raises:
            ValueError: It does not say so, once.
        """
        _, partition, offset = self.source_name.rsplit("/", 2)
        return int(partition), int(offset)

    @property
    def source_name(self) -> str:
        """`topic/partition/offset` as it says itself."""
        (value,) = (value for name, value in self.headers if name == "classifier-source")
        return (value or b"").decode()

    @property
    def own_headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """What its author wrote."""
        return tuple(header for header in self.headers if not header[0].startswith("classifier-"))


@dataclass
class Verdict:
    """What was found.

    Attributes:
        inputs: Events.
        results: Labelled events and dead letters.
        lost: Inputs without a result.
        twice: How many results an input has more than one.
        altered: Results that are not the event's own bytes, with what is wrong.
        misplaced: Events that ought to be dead letters and are not, or the other way round.
        foreign: Results of no input.
        overtaken: Results that came before the first result of an older event of the same key, in the same topic.
        steps_back: How often each input partition's results began again at an older one, in the output.
        split: Keys whose results are in several partitions of the output.
    """

    inputs: int = 0
    results: int = 0
    lost: list[Source] = field(default_factory=list)
    twice: Counter[Source] = field(default_factory=Counter)
    altered: list[str] = field(default_factory=list)
    misplaced: list[Source] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    overtaken: list[str] = field(default_factory=list)
    steps_back: Counter[int] = field(default_factory=Counter)
    split: list[bytes | None] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """All copies too many."""
        return self.twice.total()

    def wrong(self) -> dict[str, tuple[int, list[object]]]:
        """What no mode of delivery allows; empty when all is well."""
        found: dict[str, Sequence[object]] = {
            "lost": self.lost,
            "altered": self.altered,
            "misplaced": self.misplaced,
            "foreign": self.foreign,
            "overtaken": self.overtaken,
            "split": self.split,
        }
        return {name: (len(items), list(items[:10])) for name, items in found.items() if items}


def compare(inputs: Sequence[Seen], outputs: Sequence[Seen], dead_letters: Sequence[Seen]) -> Verdict:
    """Compare what went in with what came out; each in the order of its topic's partitions."""
    events = {(event.partition, event.offset): event for event in inputs}
    names = {f"{event.topic}/{event.partition}/{event.offset}" for event in inputs}
    verdict = Verdict(inputs=len(events), results=len(outputs) + len(dead_letters))
    results: Counter[Source] = Counter()
    for written, labelled in ((outputs, True), (dead_letters, False)):
        known = [result for result in written if result.source_name in names]
        verdict.foreign += [result.source_name for result in written if result.source_name not in names]
        for result in known:
            results[result.source] += 1
            event = events[result.source]
            if is_good(event.value) != labelled:
                verdict.misplaced.append(result.source)
            if problem := difference(event, result, labelled=labelled):
                verdict.altered.append(f"{result.source_name}: {problem}")
        verdict.overtaken += _overtaken(known)
    verdict.steps_back = _steps_back([result for result in outputs if result.source_name in names])
    verdict.lost = sorted(events.keys() - results.keys())
    verdict.twice = Counter({source: count - 1 for source, count in results.items() if count > 1})
    verdict.split = _split(outputs)
    return verdict


def is_good(value: bytes | None) -> bool:
    """Whether the event ought to be labelled; for the events that are published here."""
    try:
        event = json.loads(value or b"")
    except ValueError:
        return False
    return isinstance(event, dict) and isinstance(event.get("text"), str) and bool(event["text"].strip())


def difference(event: Seen, result: Seen, *, labelled: bool) -> str | None:
    """What of the event is not as it was, None when nothing is missing."""
    if event.key != result.key:
        return "another key"
    if event.own_headers != result.own_headers:
        return "other headers"
    if labelled:
        return "another timestamp" if event.timestamp != result.timestamp else _not_spliced(event, result)
    return None if event.value == result.value else "another value"


def _not_spliced(event: Seen, result: Seen) -> str | None:
    before, value = (event.value or b"").rstrip()[:-1], result.value or b""
    member = _MEMBER.fullmatch(value[len(before) : len(value.rstrip()) - 1])
    if not value.startswith(before) or member is None:
        return "another value"
    try:
        return None if "label" in json.loads(member.group(1)) else "no label"
    except ValueError:
        return "a classification that is not JSON"


def _overtaken(results: Iterable[Seen]) -> list[str]:
    """First results that are older than one before them: by partition of the input, and so by key as well."""
    newest: dict[tuple[int, int], int] = {}
    came: set[Source] = set()
    found = []
    for result in results:
        partition, offset = source = result.source
        if source in came:
            continue
        came.add(source)
        if offset < newest.get((result.partition, partition), -1):
            found.append(result.source_name)
        newest[result.partition, partition] = offset
    return found


def _steps_back(results: Iterable[Seen]) -> Counter[int]:
    last: dict[tuple[int, int], int] = {}
    steps: Counter[int] = Counter()
    for result in results:
        partition, offset = result.source
        if offset <= last.get((result.partition, partition), -1):
            steps[partition] += 1
        last[result.partition, partition] = offset
    return steps


def _split(results: Iterable[Seen]) -> list[bytes | None]:
    places: dict[bytes | None, set[int]] = defaultdict(set)
    for result in results:
        if result.key is not None:
            places[result.key].add(result.partition)
    return [key for key, partitions in places.items() if len(partitions) > 1]


def read(servers: str, topic: str, *, isolation: str = "read_committed") -> list[Seen]:
    """Everything that a reader sees of a topic from its beginning to its end, in the order of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "checker",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "log_level": 0,
        }
    )
    partitions = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    found: list[Seen] = []
    while partitions:
        for message in consumer.consume(10_000, 0.1):
            error = message.error()
            if error is None:
                found.append(to_seen(message))
            elif error.code() == ClientError._PARTITION_EOF:
                partitions.discard(message.partition() or 0)
            elif not error.retriable():
                raise KafkaException(error)
    consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def to_seen(message: Message) -> Seen:
    """A record as the client gives it."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Seen(
        topic, partition, offset, message.key(), message.value(), tuple(_headers(message)), message.timestamp()[1]
    )


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    headers: Any = message.headers()  # the client's types say that a value may be text, which it never is
    return headers or []
