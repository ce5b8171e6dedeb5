"""One stream under attack: its topics, its worker processes, what is published, and what comes of it."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from worker_config import write_config
from worker_process import Process

from chaos.checker import Verdict, compare, read
from chaos.load import Load
from chaos.watcher import PATIENCE, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_IN_FLIGHT = 64
MOST_DUPLICATES = 2 * MAX_IN_FLIGHT
"""Of one crash: what was in flight, and what was acknowledged since the last commit, which is never more."""

SESSION_MS = 2500
TRANSACTION_MS = 4000
"""For so long, a transaction that a killed worker left open holds up those who read committed records or take over."""


class Scene:
    """Everything runs while the context is entered; `settle` ends the load and says what came of it.

    Attributes:
        workers: The running ones, by name.

    Args:
        servers: The brokers.
        directory: For settings and logs.
        bundle: The model.
        delivery: The worker's mode.
        protocol: Of its group.
        seed: Of what is published.
        partitions: Of each topic.
        rate: As for `Load`.
        settings: Over those here, section by section.
    """

    def __init__(
        self,
        servers: str,
        directory: Path,
        bundle: Path,
        *,
        delivery: str,
        protocol: str,
        seed: int,
        partitions: int = 4,
        rate: float = 1,
        settings: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.servers, self.delivery, self.protocol = servers, delivery, protocol
        self.workers: dict[str, Process] = {}
        self._directory = directory / f"{delivery}-{protocol}-{uuid.uuid4().hex[:6]}"
        self._directory.mkdir()
        stem = uuid.uuid4().hex[:8]
        self.topics = (f"in-{stem}", f"out-{stem}", f"dead-{stem}")
        self.group = f"group-{stem}"
        make_topics(servers, self.topics, partitions)
        consumer: dict[str, object] = {}
        if protocol == "classic":  # the broker decides for the other one
            consumer = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 300}
        sections: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap_servers": servers,
                "group_id": self.group,
                "group_protocol": protocol,
                "commit_interval_ms": 200,
                "consumer": consumer,
                "producer": {"transaction.timeout.ms": TRANSACTION_MS} if delivery == "exactly_once" else {},
            },
            "batch": {"max_events": 16, "max_wait_ms": 5, "max_in_flight": MAX_IN_FLIGHT},
            "model": {"path": str(bundle), "threads": 1},
            "cache": {"results": 0},
            "shutdown": {"drain_seconds": 10},
        }
        for name, keys in (settings or {}).items():
            sections[name] = sections.get(name, {}) | keys
        self.config = write_config(self._directory, servers, self.topics, **sections)
        self.load = Load(servers, self.topics[0], seed, rate=rate)
        self.watcher = Watcher(servers, self.topics, partitions, self.group, self.load)
        self._environments: dict[str, dict[str, str]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._kill_all)
        self._stack.enter_context(self.load)
        self._stack.enter_context(self.watcher)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self, name: str, *, instance_id: str | None = None, **environment: str) -> None:
        """Start a worker.

        Args:
            name: For its log and for `workers`.
            instance_id: Of static membership.
            environment: More settings, as environment variables less their prefix.
        """
        environment = {f"STREAM_CLASSIFIER_{key}": value for key, value in environment.items()}
        environment["STREAM_CLASSIFIER_DELIVERY"] = self.delivery
        if instance_id is not None:
            environment["STREAM_CLASSIFIER_KAFKA__INSTANCE_ID"] = instance_id
        self._environments[name] = environment
        self._start(name)

    def _start(self, name: str) -> None:
        log = self._directory / f"{name}-{time.monotonic_ns()}.log"
        self.workers[name] = Process(self.config, log, self._environments[name])

    def kill(self, name: str) -> None:
        """Kill -9."""
        self.workers.pop(name).kill()

    def stop(self, name: str) -> None:
        """Tell a worker to stop, and wait until it has."""
        process = self.workers.pop(name)
        process.tell_to_stop()
        code = process.popen.wait(PATIENCE)
        # Told before its loop runs, it says so and ends; told before Python is up, it dies of the signal.
        assert code in {0, -15}, f"a worker that was told to stop ended with {code}: {process.log.read_text()}"

    def look(self) -> None:
        """Fail when a worker has ended that nobody has ended."""
        for name, process in list(self.workers.items()):
            if process.is_running():
                continue
            log = process.log.read_text()
            pytest.fail(f"{name} ended by itself with {process.popen.returncode}: {log[-3000:]}")

    def until(self, name: str, condition: Callable[[Process], bool], what: str) -> None:
        """Wait for something to become true of a worker."""
        deadline = time.monotonic() + PATIENCE
        while not condition(self.workers[name]):
            self.look()
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {name} {what}"
            time.sleep(0.02)

    def until_ready(self, name: str) -> None:
        """Wait for a worker to be a member of its group."""
        self.until(name, lambda process: process.is_ready(), "is ready")

    def catch_up(self, patience: float = PATIENCE) -> None:
        """Wait until everything that is published by now has its result, while more is published."""
        self.watcher.until_done(self.load.ends(), self.look, patience)

    def settle(self) -> Verdict:
        """Publish no more, wait for the last result, stop the workers in order, and have the checker compare."""
        ends = self.load.flush()
        self.watcher.until_done(ends, self.look)
        for name in list(self.workers):
            self.stop(name)
        self.watcher.until_sampled()
        self._stack.close()
        verdict = compare(*(read(self.servers, topic) for topic in self.topics))
        assert verdict.inputs == sum(ends.values()) > 0, "the checker reads what was published"
        assert not self.watcher.early_commits, self.watcher.early_commits
        assert not verdict.wrong(), verdict.wrong()
        return verdict

    def _kill_all(self) -> None:
        for process in self.workers.values():
            process.kill()


def make_topics(servers: str, names: tuple[str, ...], partitions: int) -> None:
    """Make topics with as many copies as the brokers like, and wait for a leader of each partition."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for made in admin.create_topics([NewTopic(name, num_partitions=partitions) for name in names]).values():
        made.result()
    # A topic is there a moment before every broker knows of it.
    for server in servers.split(","):
        asked = AdminClient({"bootstrap.servers": server, "log_level": 0})
        deadline = time.monotonic() + 60
        while not _has_leaders(asked, names, partitions):
            assert time.monotonic() < deadline, f"{names} have no leaders for {server}"
            time.sleep(0.02)


def _has_leaders(admin: AdminClient, names: tuple[str, ...], partitions: int) -> bool:
    try:
        found = admin.list_topics(timeout=5).topics
    except KafkaException:
        return False
    return all(
        name in found
        and len(found[name].partitions) == partitions
        and all(partition.leader >= 0 for partition in found[name].partitions.values())
        for name in names
    )
