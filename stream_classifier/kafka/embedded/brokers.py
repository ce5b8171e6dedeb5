"""The JVMs of one cluster: formatted, started, waited for and ended."""

import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream_classifier.kafka.embedded.identity import Identity
from stream_classifier.kafka.embedded.java import Java
from stream_classifier.kafka.embedded.launch import launch
from stream_classifier.kafka.embedded.node import HOST, Node, is_listening

BROKER_CLASS = "kafka.Kafka"
_START_SECONDS = 60
_ANSWER_SECONDS = 0.5
_POLL_SECONDS = 0.02
_CRASHES = (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)


class StartFailedError(Exception):
    """A broker ended, or did not answer, while it was being started.

    Attributes:
        reason: the line of its log that tells most.
        port_taken: somebody else listens on one of its ports.
        aot_refused: the JVM found its AOT cache wanting, or crashed.
    """

    def __init__(self, log: str, status: int | None) -> None:
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        telling = [line for line in lines if "ERROR" in line or "Exception" in line]
        self.reason = (telling or lines[-1:] or [f"it printed nothing, exit status {status}"])[0]
        self.port_taken = "Address already in use" in log
        self.aot_refused = aot_refused(log) or status in _CRASHES
        super().__init__(self.reason)


def aot_refused(log: str) -> bool:
    """Tell from a JVM's log whether it could not use its AOT cache; it goes on without one then."""
    return "[error][aot" in log


class Brokers:
    """The processes and files of a cluster whose identity is settled.

    Args:
        java: runs them.
        directory: holds a directory for each broker.
        identity: the cluster's id and ports.
        properties: the user's own, for every broker.
    """

    def __init__(self, java: Java, directory: Path, identity: Identity, properties: Mapping[str, str]) -> None:
        self.identity = identity
        self._java = java
        self._properties = properties
        self._nodes = {
            broker: Node(broker, directory / f"broker-{broker}") for broker in range(1, len(identity.ports) + 1)
        }
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def bootstrap_servers(self) -> str:
        """All addresses, as Kafka's clients take them."""
        return ",".join(f"{HOST}:{ports.client}" for ports in self.identity.ports)

    @property
    def pids(self) -> dict[int, int]:
        """The process of each broker that was not killed here."""
        return {broker: process.pid for broker, process in self._processes.items()}

    @property
    def dead(self) -> list[int]:
        """The brokers that ended although nobody asked them to."""
        return [broker for broker, process in self._processes.items() if process.poll() is not None]

    def log(self, broker: int) -> str:
        """Give what a broker has printed since the cluster was started."""
        try:
            return self._nodes[broker].log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def start(self, options: Sequence[str] | None = None) -> None:
        """Start all brokers, formatting the directories of new ones, and wait until each knows all the others.

        Args:
            options: for the JVMs, in place of those that use the AOT cache.

        Raises:
            StartFailedError: one of them ended or did not answer; the others are killed.
        """
        try:
            self._format()
            for node in self._nodes.values():
                node.write_properties(self.identity.ports, self._properties, node.data)
                self._launch(node, options)
            self._await(self._nodes)
        except BaseException:
            self.kill()
            raise

    def restart(self, broker: int) -> None:
        """Start one broker again, on its old port and data; it is killed if it is still there.

        Raises:
            StartFailedError: it ended or did not answer.
        """
        self.kill([broker])
        self._launch(self._nodes[broker], append=True)
        self._await([broker])

    def end(self, seconds: float) -> None:
        """Ask all brokers to end in order, and kill those that have not done so in time."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + seconds
        try:
            for process in self._processes.values():
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass  # what is left is killed below, and by whatever else ends this wait
        finally:
            self.kill()

    def kill(self, brokers: Iterable[int] | None = None) -> None:
        """End some brokers, or all, as a power cut would (kill -9)."""
        chosen = list(self._processes if brokers is None else brokers)
        ended = [process for broker in chosen if (process := self._processes.pop(broker, None))]
        for process in ended:
            process.kill()
        for process in ended:
            process.wait()

    def _format(self) -> None:
        """Format the data directories that are not there yet, side by side; the rename makes each all or nothing."""
        fresh = {node: node.directory / "formatting" for node in self._nodes.values() if not node.data.exists()}
        for node, directory in fresh.items():
            shutil.rmtree(directory, ignore_errors=True)
            node.directory.mkdir(exist_ok=True)
            node.write_properties(self.identity.ports, self._properties, directory)
            command = self._java.command(
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={self.identity.cluster_id}",  # one word: an id may begin with a dash
                "--config=server.properties",
            )
            self._processes[node.broker] = launch(command, directory=node.directory, log=node.log)
        for node, directory in fresh.items():
            deadline = time.monotonic() + _START_SECONDS
            while (status := self._processes[node.broker].poll()) is None:
                _pause(deadline)
            if status != 0:
                raise StartFailedError(self.log(node.broker), status)
            del self._processes[node.broker]
            directory.rename(node.data)

    def _launch(self, node: Node, options: Sequence[str] | None = None, *, append: bool = False) -> None:
        self._processes[node.broker] = launch(
            self._java.command(BROKER_CLASS, "server.properties", options=options),
            directory=node.directory,
            log=node.log,
            append=append,
        )

    def _await(self, brokers: Collection[int]) -> None:
        """Wait until these brokers listen and the cluster knows them."""
        deadline = time.monotonic() + _START_SECONDS
        for broker in brokers:
            while not is_listening(self.identity.ports[broker - 1].client):
                self._check_lives(brokers)
                _pause(deadline)
        # Who listens may be a stranger, who took the port before the broker could: the cluster's id tells.
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        while not self._knows(brokers, admin):
            self._check_lives(brokers)
            _pause(deadline)

    def _knows(self, brokers: Collection[int], admin: AdminClient) -> bool:
        try:
            metadata = admin.list_topics(timeout=_ANSWER_SECONDS)
        except KafkaException:  # not ready to answer yet; a broker that never will be ends, or runs into the deadline
            return False
        return metadata.brokers.keys() >= set(brokers) and metadata.cluster_id == self.identity.cluster_id

    def _check_lives(self, brokers: Collection[int]) -> None:
        for broker in brokers:
            status = self._processes[broker].poll()
            if status is not None:
                raise StartFailedError(self.log(broker), status)


def _pause(deadline: float) -> None:
    """Let a moment pass, unless all the time that a start may take has passed."""
    if time.monotonic() > deadline:
        raise StartFailedError(f"it did not answer within {_START_SECONDS} s", None)
    time.sleep(_POLL_SECONDS)
