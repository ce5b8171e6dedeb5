"""One contender, one workload, one broker: how many events a second, how late each result is, and what it says."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
import yaml
from confluent_kafka import Consumer, Producer
from streams import create, document

from stream_classifier.errors import StreamClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WARM_UP = 64
STARTS_WITHIN = 60.0
"""Seconds until the first results are there."""
STALLS_AFTER = 60.0
"""Seconds without a result after which a contender is taken to have stopped."""


class Names(NamedTuple):
    """Topics and group of one run."""

    source: str
    target: str
    group: str


class Contender(NamedTuple):
    """A way to label a stream.

    Attributes:
        name: As the table has it.
        batch: Events at once; None where the contender decides.
        command: What starts it.
    """

    name: str
    batch: int | None
    command: Callable[[Names], list[str]]

    @property
    def full_name(self) -> str:
        """With the batch."""
        if self.batch is None:
            return self.name
        return f"{self.name}, {'one at a time' if self.batch == 1 else f'batches of {self.batch}'}"


class ContenderFailedError(StreamClassifierError):
    """A contender ended, or had no result for too long."""


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        seconds: From the first event that was published to the last result.
        latencies: Seconds from when each event was meant to be published to when its result was read, [events].
        labels: The label and the score of each event.
    """

    seconds: float
    latencies: NDArray[np.float64]
    labels: list[tuple[str, float]]


def run(servers: str, contender: Contender, texts: Sequence[str], log: Path, *, rate: float | None = None) -> Outcome:
    """Let a contender label texts.

    It has labelled some others when the clock starts, so that what it takes to start does not count.

    Args:
        servers: The broker.
        contender: Who.
        texts: What.
        log: Where it writes what it has to say.
        rate: Events a second, sent when they are due whatever becomes of those before; None for all at once.

    Raises:
        ContenderFailedError: It did not label them all.
    """
    tag = uuid.uuid4().hex[:8]
    names = Names(f"events-{tag}", f"labelled-{tag}", f"group-{tag}")
    create(servers, names.source, names.target, f"{names.target}.dead-letter")
    with log.open("wb") as out:
        process = subprocess.Popen(contender.command(names), stdout=out, stderr=out)  # noqa: S603 - our own scripts
    reader = _Reader(servers, names.target, process, log)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 1, "partitioner": "murmur2_random"})
    try:
        # One by one, until it answers: some read only what comes after they have joined.
        deadline = time.monotonic() + STARTS_WITHIN
        warm = itertools.count(1)
        while not reader.poll(0.1):
            if time.monotonic() > deadline:
                raise ContenderFailedError(f"{contender.full_name} labelled nothing in {STARTS_WITHIN:g} s; see {log}")
            _publish(producer, names.source, -next(warm), "where is my parcel")
        for _ in range(WARM_UP):
            _publish(producer, names.source, -next(warm), "where is my parcel")
        reader.read_until(next(warm) - 1)
        reader.forget()

        due = np.zeros(len(texts)) if rate is None else np.arange(len(texts)) / rate
        begin = time.perf_counter()
        publisher = threading.Thread(target=_publish_when_due, args=(producer, names.source, texts, due, begin))
        publisher.start()
        reader.read_until(len(texts))
        publisher.join()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.close()
    came = np.array([reader.came[number] for number in range(len(texts))]) - begin
    return Outcome(float(came.max()), came - due, [reader.labels[number] for number in range(len(texts))])


def _publish(producer: Producer, topic: str, number: int, text: str) -> None:
    value = orjson.dumps({"id": number, "text": text})
    producer.produce(topic, value, str(number % 5000).encode())
    producer.poll(0)


def _publish_when_due(
    producer: Producer, topic: str, texts: Sequence[str], due: NDArray[np.float64], begin: float
) -> None:
    for number, (text, at) in enumerate(zip(texts, due.tolist(), strict=True)):
        if (early := begin + at - time.perf_counter()) > 0:
            time.sleep(early)
        _publish(producer, topic, number, text)
    producer.flush()


class _Reader:
    """Reads results as they come.

    Args:
        servers: The broker.
        topic: Of the results.
        process: Who writes them.
        log: What it said.

    Attributes:
        came: When the result of each event was read.
        labels: Its label and score.
    """

    def __init__(self, servers: str, topic: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.came: dict[int, float] = {}
        self.labels: dict[int, tuple[str, float]] = {}
        self._process = process
        self._log = log
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"reader-{topic}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([topic])

    def poll(self, seconds: float) -> bool:
        """Read for so long; whether there was anything."""
        messages = self._consumer.consume(500, timeout=seconds)
        now = time.perf_counter()
        for message in messages:
            if message.error():
                continue
            event = orjson.loads(message.value() or b"")
            self.came.setdefault(event["id"], now)
            self.labels[event["id"]] = (event["classification"]["label"], event["classification"]["score"])
        if not messages and self._process.poll() is not None:
            raise ContenderFailedError(f"it ended with {self._process.returncode}; see {self._log}")
        return bool(messages)

    def read_until(self, count: int) -> None:
        """Read until there are results of so many events."""
        last = time.monotonic()
        while len(self.came) < count:
            if self.poll(0.02):
                last = time.monotonic()
            elif time.monotonic() - last > STALLS_AFTER:
                raise ContenderFailedError(f"no result came for {STALLS_AFTER:g} s; see {self._log}")

    def forget(self) -> None:
        """Count from here on."""
        self.came.clear()
        self.labels.clear()

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def worker_config(names: Names, servers: str, directory: Path, labels: Path, delivery: str) -> Path:
    """Settings of this project's worker: names, and the defaults for the rest."""
    chosen = document(
        servers,
        names.source,
        names.target,
        kafka={"bootstrap_servers": servers, "group_id": names.group},
        labels={"path": str(labels)},
        delivery=delivery,
        observability={"port": 0, "log_level": "warning"},
    )
    path = directory / f"{names.group}.yaml"
    path.write_text(yaml.safe_dump(chosen), encoding="utf-8")
    return path
