"""One stream of a test's own on the real broker: topics, a worker, what was published and what came out."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.labels import choose, load_label_sets
from stream_classifier.classify.opening import open_scorer
from stream_classifier.health import Health
from stream_classifier.kafka.messages import to_record
from stream_classifier.kafka.reader import read
from stream_classifier.metrics import Metrics
from stream_classifier.settings_file import load_settings
from stream_classifier.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from broker import MakeTopic

    from stream_classifier.events.record import Headers, Record
    from stream_classifier.settings import Settings
    from stream_classifier.tracing import Tracing
    from stream_classifier.worker import Classifies

PATIENCE = 60.0

LABELS = """
name: support
version: 3
labels: [delivery, refund, account]
"""


class Stream:
    """Topics, settings and a worker.

    Args:
        servers: The broker.
        make_topic: Makes topics.
        directory: For the settings and the labels.
        bundle: The model.
        partitions: Of each topic.
        settings: Over the defaults, section by section.
        delivery: The mode.
        output: Properties of the output topic.
        source: Properties of the input topic.
        dead_letter: Properties of the dead-letter topic.
    """

    def __init__(
        self,
        servers: str,
        make_topic: MakeTopic,
        directory: Path,
        bundle: Path,
        *,
        partitions: int = 1,
        settings: dict[str, dict[str, Any]] | None = None,
        delivery: str = "at_least_once",
        source: dict[str, str] | None = None,
        output: dict[str, str] | None = None,
        dead_letter: dict[str, str] | None = None,
    ) -> None:
        self.servers = servers
        self.input = make_topic("tickets", partitions=partitions, config=source)
        self.output = make_topic("labelled", partitions=partitions, config=output)
        self.dead_letter = make_topic("dead-letter", partitions=1, config=dead_letter)
        self.group = f"group-{uuid.uuid4().hex[:12]}"
        self.config = directory / "worker.yaml"
        (directory / "labels.yaml").write_text(LABELS, encoding="utf-8")
        document: dict[str, Any] = {
            "delivery": delivery,
            "kafka": {"bootstrap_servers": servers, "group_id": self.group, "commit_interval_ms": 50},
            "input": {"topics": [self.input]},
            "output": {"topic": self.output},
            "dead_letter": {"topic": self.dead_letter},
            "model": {"path": str(bundle), "threads": 2},
            "labels": {"path": "labels.yaml"},
            "observability": {"port": 0, "log_format": "json", "log_level": "error"},
        }
        for section, values in (settings or {}).items():
            document[section] = document.get(section, {}) | values
        self.config.write_text(yaml.safe_dump(document), encoding="utf-8")
        self.settings: Settings = load_settings(self.config, {})
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "message.max.bytes": 50_000_000,
                "linger.ms": 0,
                "partitioner": "murmur2_random",  # as Java clients do
            }
        )
        self._asking = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": self.group,
                "isolation.level": "read_uncommitted",
                "log_level": 0,
            }
        )

    def publish(
        self,
        *values: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        timestamp: int = 0,
        partition: int = -1,
    ) -> None:
        """Publish records to the input, one after the other."""
        for value in values:
            self._producer.produce(
                self.input, value, key, partition=partition, headers=headers or [], timestamp=timestamp
            )
        assert self._producer.flush(PATIENCE) == 0

    def worker(self, classifier: Classifies | None = None, tracing: Tracing | None = None) -> RunningWorker:
        """A worker in a thread of this process, which runs while the context is entered."""
        return RunningWorker(self.settings, classifier, tracing)

    def run(self, outcomes: int) -> None:
        """Run a worker until so many outcomes have come out in all, then let it drain and commit."""
        with self.worker() as running:
            self.await_outcomes(outcomes, running.check)

    def await_outcomes(self, count: int, check: Callable[[], None] = lambda: None) -> None:
        """Wait until the output and the dead-letter topic hold so many records together."""
        deadline = time.monotonic() + PATIENCE
        seen = 0
        records = read(self.settings.kafka, [self.output, self.dead_letter], from_beginning=True, idle_seconds=0.02)
        for record in records:
            seen += record is not None
            if seen >= count:
                break
            check()
            assert time.monotonic() < deadline, f"{seen} of {count} outcomes came within {PATIENCE:g} s"
        records.close()

    @property
    def labelled(self) -> list[Record]:
        """What the output topic holds, in the order of each partition."""
        return self.contents(self.output)

    @property
    def dead_letters(self) -> list[Record]:
        """What the dead-letter topic holds."""
        return self.contents(self.dead_letter)

    def contents(self, topic: str) -> list[Record]:
        """All committed records of a topic as it is now."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "unused",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,  # what a transaction leaves at the end is no record that could be awaited
                "log_level": 0,
            }
        )
        left = set(self.ends(topic))
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        found: list[Record] = []
        deadline = time.monotonic() + PATIENCE
        while left:
            assert time.monotonic() < deadline, f"{topic} was not read to its end within {PATIENCE:g} s"
            message = consumer.poll(1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(to_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition() or 0)
        consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record of each partition."""
        return {number: ends for number, (_, ends) in self._watermarks(topic).items()}

    def _watermarks(self, topic: str) -> dict[int, tuple[int, int]]:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "unused"})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        marks = {number: _until_led(consumer, TopicPartition(topic, number)) for number in partitions}
        consumer.close()
        return marks

    def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        return {number: found.offset for number, found in self._committed().items()}

    def marks(self) -> dict[int, str]:
        """What is beside these offsets."""
        return {number: found.metadata or "" for number, found in self._committed().items()}

    def _committed(self) -> dict[int, TopicPartition]:
        # (AdminClient.list_consumer_group_offsets ends the process when the broker is not the group's coordinator yet:
        # librdkafka issue 5040.)
        numbers = self._asking.list_topics(self.input, timeout=10).topics[self.input].partitions
        answer = self._until_coordinated([TopicPartition(self.input, number) for number in numbers])
        return {found.partition: found for found in answer if found.offset >= 0}

    def _until_coordinated(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer: list[TopicPartition] = self._asking.committed(partitions, timeout=30)
            except KafkaException as error:
                # A broker that has just begun with its groups' offsets says so for a moment.
                if error.args[0].code() != KafkaError.NOT_COORDINATOR or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return answer


class RunningWorker:
    """A worker in a thread: what the `worker` command does, less the process and its signals."""

    def __init__(
        self, settings: Settings, classifier: Classifies | None = None, tracing: Tracing | None = None
    ) -> None:
        self.metrics, self.health = Metrics(), Health(time.monotonic())
        scorer = open_scorer(
            settings.model.path,
            max_tokens=settings.batch.max_tokens or 512,
            cascade=settings.model.cascade,
            progress=lambda _: None,
        )
        own = Classifier(scorer, results_cached=settings.cache.results)
        classifier = classifier or own
        self._worker = Worker(
            settings,
            choose(load_label_sets(settings.labels.path), settings.labels.use),
            classifier,
            model=own.short_hash,
            threads=settings.model.threads or 2,
            metrics=self.metrics,
            health=self.health,
            tracing=tracing,
        )
        self.health.model = True
        self.model = scorer.manifests[0]
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self.error = error

    def check(self) -> None:
        """Raise what ended the worker."""
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._worker.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker did not stop"
        if error is None:
            self.check()

    def ends_with(self) -> BaseException:
        """Wait for the worker to end by itself, and give its error."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker did not end by itself"
        assert self.error is not None, "the worker ended without an error"
        error, self.error = self.error, None
        return error

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something to become true of the running worker."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.check()
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}"
            time.sleep(0.01)

    @property
    def in_flight(self) -> int:
        """Events in flight at this very moment; the gauge is some time behind."""
        return self._worker._ledger.in_flight

    def pause_everything(self) -> None:
        """Have it think that it is at its bound, so that it pauses all partitions, until `pause_as_usual`."""
        source, lanes = self._worker._source, self._worker._ledger.lanes
        self._usual_pause = source.pause
        source.pause = lambda partitions: self._usual_pause(partitions | frozenset(lanes))  # type: ignore[method-assign]

    def pause_as_usual(self) -> None:
        """Undo that."""
        self._worker._source.pause = self._usual_pause  # type: ignore[method-assign]

    def metric(self, name: str, **labels: str) -> float:
        """The value of a sample; 0 when there is none."""
        value = self.metrics.registry.get_sample_value(f"stream_classifier_{name}", labels)
        return 0.0 if value is None else value


def _until_led(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The first offset of a partition and the one after its last; one that was just made has no leader at first."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=10)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def header(record: Record, name: str) -> bytes | str | None:
    """The value of a header that is there once."""
    values = [value for its_name, value in record.headers or [] if its_name == name]
    assert len(values) == 1, f"{name} is there {len(values)} times"
    return values[0]


def offsets_are_in_order(records: Sequence[Record]) -> bool:
    """Whether each partition holds the records of each input partition in the order of their offsets."""
    last: dict[tuple[int, str], int] = {}
    for record in records:
        source = header(record, "classifier-source")
        assert isinstance(source, bytes)
        partition, _, offset = source.decode().rpartition("/")
        if int(offset) <= last.get((record.partition, partition), -1):
            return False
        last[record.partition, partition] = int(offset)
    return True
