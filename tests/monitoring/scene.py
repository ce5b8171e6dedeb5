"""Workers under load with a Prometheus that scrapes them: everything that dashboards show, and can be made to happen.

Two workers share a group, at_least_once; the second one joins later, so that there is a rebalance. A third one reads
the same events in a group of its own, exactly_once.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import orjson
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from worker_process import Process

from monitoring.prometheus import Prometheus
from stream_classifier.kafka.embedded.node import free_ports

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

JOBS = {"tickets": ("first", "second"), "tickets-exactly-once": ("third",)}
PARTITIONS = 4

Value = bytes | None


def mixed(words: Sequence[str], seed: int = 0) -> Iterator[Value]:
    """Events without end: most of them well, and in forty some of each kind that something is counted for.

    Args:
        words: What texts are made of.
        seed: The same one gives the same events.
    """
    some = random.Random(seed)  # noqa: S311 - no secret

    def text(least: int, most: int) -> str:
        return " ".join(some.choices(words, k=some.randint(least, most)))

    odd: dict[int, Callable[[], dict[str, Any] | Value]] = {
        3: lambda: {"text": "nothing that has a label"},
        4: lambda: {"text": "nor has this"},
        7: lambda: {"text": text(1, 20), "labels": [words[0], words[1]]},
        11: lambda: {"text": text(200, 300)},
        13: lambda: b"no JSON",
        17: lambda: {"no": "text"},
        19: lambda: {"text": f"boom {some.random()}"},  # the tiny model fails on it
        23: lambda: None,
        29: lambda: {"text": words[0]},  # it comes again and again
    }
    for number in itertools.count():
        made = odd[number % 40]() if number % 40 in odd else {"text": text(1, 20)}
        yield orjson.dumps({"id": f"t-{number}"} | made) if isinstance(made, dict) else made


class Scene:
    """Load, three workers and a Prometheus, while the context is entered.

    Args:
        servers: The broker.
        directory: For settings, logs and data.
        labels: The label set.
        model: A bundle.
        prometheus: What is run.
        rules: Files of rules.
        events: What is published.
        rate: Events a second.
    """

    def __init__(
        self,
        servers: str,
        directory: Path,
        *,
        labels: str,
        model: Path | None,
        prometheus: str,
        rules: Sequence[Path],
        events: Iterator[Value],
        rate: Callable[[float], float],
    ) -> None:
        stem = f"tickets-{uuid.uuid4().hex[:12]}"
        topics = [stem, f"{stem}.labelled", f"{stem}.dead-letter"]
        admin = AdminClient({"bootstrap.servers": servers})
        made = admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=1) for name in topics])
        for name in topics:
            made[name].result()
        self._topic = stem
        self._directory = directory
        self._events = events
        self._rate = rate
        (directory / "labels.yaml").write_text(labels, encoding="utf-8")
        self._settings: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap_servers": servers, "commit_interval_ms": 500},
            "input": {"topics": [topics[0]], "tombstones": "pass_through"},
            "output": {"topic": topics[1]},
            "dead_letter": {"topic": topics[2], "stop_above": 1},
            "model": {"path": str(model) if model else None, "threads": 1},
            "labels": {"path": "labels.yaml"},
        }
        ports = [port for pair in free_ports(2) for port in pair]
        self._ports = dict(zip(("first", "second", "third"), ports, strict=False))
        targets = {job: [f"127.0.0.1:{self._ports[name]}" for name in names] for job, names in JOBS.items()}
        self.prometheus = Prometheus(prometheus, directory, ports[3], targets, rules)
        self.workers: dict[str, Process] = {}
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
        self._stop = threading.Event()
        self._load = threading.Thread(target=self._publish, name="load", daemon=True)

    def __enter__(self) -> Self:
        try:
            self.prometheus.__enter__()
            for name in ("first", "third"):
                self._start(name)
            self._load.start()
            for name in ("first", "third"):
                self._until_scraped(name)
            self._start("second")
            self._until_scraped("second")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        if self._load.ident:
            self._load.join()
            self._producer.flush(10)
        for worker in self.workers.values():
            worker.kill()
        self.prometheus.__exit__(kind, error, trace)

    def _start(self, name: str) -> None:
        exactly_once = name in JOBS["tickets-exactly-once"]
        document = self._settings | {
            "delivery": "exactly_once" if exactly_once else "at_least_once",
            "kafka": self._settings["kafka"] | {"group_id": f"{self._topic}-{exactly_once}"},
            "observability": {"port": self._ports[name], "log_format": "json"},
        }
        config = self._directory / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        self.workers[name] = Process(config, self._directory / f"{name}.log")

    def _until_scraped(self, name: str) -> None:
        """Wait until Prometheus has seen it label something."""
        seen = f'stream_classifier_events_labelled_total{{instance="127.0.0.1:{self._ports[name]}"}} > 0'
        self.workers[name].until(
            lambda: bool(self.prometheus.ask("query", query=seen)["result"]), f"{name} was seen to label"
        )

    def _publish(self) -> None:
        begin = time.monotonic()
        for number, value in enumerate(self._events):
            if self._stop.is_set():
                return
            # One key in two events is the same: partitions differ in what they get.
            key = b"much" if number % 2 else str(number).encode()
            self._producer.produce(self._topic, value, key)
            self._producer.poll(0)
            self._stop.wait(1 / self._rate(time.monotonic() - begin))
