"""A reader of the results while things break: how far they are, how long they stood still, and no commit too early."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as ClientError

from chaos.checker import to_seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.load import Load

PATIENCE = 180.0


class Coverage:
    """Which offsets of each input partition have a result; below `low` all have."""

    def __init__(self) -> None:
        self.low: dict[int, int] = {}
        self.distinct = 0
        self._above: dict[int, set[int]] = {}

    def add(self, partition: int, offset: int) -> None:
        """Note a result; one more of the same changes nothing."""
        low, above = self.low.get(partition, 0), self._above.setdefault(partition, set())
        if offset < low or offset in above:
            return
        self.distinct += 1
        above.add(offset)
        while low in above:
            above.remove(low)
            low += 1
        self.low[partition] = low

    def waiting(self, ends: dict[int, int]) -> list[int]:
        """The partitions that have an input below these offsets without a result."""
        return [partition for partition, end in ends.items() if self.low.get(partition, 0) < end]

    def reaches(self, ends: dict[int, int]) -> bool:
        """Whether everything below these offsets has a result."""
        return not self.waiting(ends)


class Watcher:
    """Reads both result topics as a reader of committed records, from a thread of its own.

    Attributes:
        longest_stall: Seconds for which no new result came of an input partition while one of its events waited.
        samples: How many times the group's committed offsets were compared with the results.
        unanswered: Why samples could not be taken, and how often.
        early_commits: Commits past an event that had no result at that moment.

    Args:
        servers: The brokers.
        topics: Input, output and dead letters.
        partitions: Of each of them.
        group: The workers' consumer group.
        load: What is published.
    """

    def __init__(self, servers: str, topics: tuple[str, str, str], partitions: int, group: str, load: Load) -> None:
        self.longest_stall = 0.0
        self.samples = 0
        self.unanswered: Counter[str] = Counter()
        self.early_commits: list[str] = []
        self._input, *self._results = topics
        self._inputs = [TopicPartition(self._input, number) for number in range(partitions)]
        self._load = load
        self._coverage = Coverage()
        quiet: dict[str, str | int | float | bool] = {
            "bootstrap.servers": servers,
            "log_level": 0,
            "reconnect.backoff.max.ms": 500,
        }
        # Asks only, and never joins the group whose offsets it asks for.
        self._asking = Consumer(quiet | {"group.id": group, "isolation.level": "read_uncommitted"})
        self._consumer = Consumer(
            quiet
            | {
                "group.id": "watcher",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
            }
        )
        self._positions = {(topic, number): 0 for topic in self._results for number in range(partitions)}
        self._due: list[tuple[dict[int, int], dict[tuple[str, int], int]]] = []
        self._stood: dict[int, tuple[int, float]] = {}
        self._sample_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def __enter__(self) -> Self:
        self._consumer.assign([TopicPartition(*at, OFFSET_BEGINNING) for at in self._positions])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._consumer.close()
        self._asking.close()

    def until_done(self, ends: dict[int, int], look: Callable[[], None], patience: float = PATIENCE) -> None:
        """Wait until all inputs below these offsets have results.

        Args:
            ends: As `Load.ends` gives them.
            look: Called now and then.
            patience: Seconds.
        """
        deadline = time.monotonic() + patience
        while not self._coverage.reaches(ends):
            look()
            assert self._thread.is_alive(), "the watcher failed"
            assert time.monotonic() < deadline, (
                f"results are at {self._coverage.low}, the inputs at {ends}, after {patience:g} s"
            )
            time.sleep(0.02)

    @property
    def distinct(self) -> int:
        """How many inputs have a result."""
        return self._coverage.distinct

    def until_sampled(self) -> None:
        """Wait until the offsets that are committed by now were compared with the results."""
        deadline, wanted = time.monotonic() + PATIENCE, self.samples + len(self._due) + 2
        while self.samples < wanted:
            assert self._thread.is_alive(), "the watcher failed"
            assert time.monotonic() < deadline, f"{self.samples} samples, and not {self.unanswered}, {self._due[:1]}"
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._read()
            self._note_stalls(time.monotonic())
            if time.monotonic() >= self._sample_at:
                self._sample()
                self._sample_at = time.monotonic() + 0.25
            self._check_samples()

    def _note_stalls(self, now: float) -> None:
        ends = self._load.ends()
        waiting = self._coverage.waiting(ends)
        for partition in ends:
            low, since = self._stood.get(partition, (-1, now))
            if partition not in waiting or low != self._coverage.low.get(partition, 0):
                since = now
            self._stood[partition] = (self._coverage.low.get(partition, 0), since)
            self.longest_stall = max(self.longest_stall, now - since)

    def _read(self) -> None:
        for message in self._consumer.consume(2000, 0.05):
            error = message.error()
            at = (message.topic() or "", message.partition() or 0)
            if error is None:
                seen = to_seen(message)
                self._coverage.add(*seen.source)
                self._positions[at] = seen.offset + 1
            elif error.code() == ClientError._PARTITION_EOF:
                self._positions[at] = max(self._positions[at], message.offset() or 0)

    def _sample(self) -> None:
        """Note what is committed, and after that up to where the results must be read to judge it."""
        try:
            self._asking.list_topics(timeout=2)  # by itself it does not look for leaders that have moved
            committed = {
                found.partition: found.offset for found in self._asking.committed(self._inputs, 2) if found.offset > 0
            }
            ends = {at: self._asking.get_watermark_offsets(TopicPartition(*at), 2)[1] for at in self._positions}
        except KafkaException as error:
            self.unanswered[error.args[0].name()] += 1  # the brokers have other worries; the next sample will do
            return
        if committed:
            self._due.append((committed, ends))

    def _check_samples(self) -> None:
        while self._due and all(self._positions[at] >= end for at, end in self._due[0][1].items()):
            committed, ends = self._due.pop(0)
            self.samples += 1
            if not self._coverage.reaches(committed):
                self.early_commits.append(
                    f"{self._input}: committed {committed}, results {self._coverage.low} {ends} {self._positions}"
                )
