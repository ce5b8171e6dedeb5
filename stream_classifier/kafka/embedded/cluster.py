"""A cluster of real Kafka brokers on this machine, in one `with` statement.

with EmbeddedCluster(brokers=3) as kafka:
    Producer({"bootstrap.servers": kafka.bootstrap_servers})
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stream_classifier.errors import EmbeddedKafkaError, UsageError
from stream_classifier.kafka.embedded.aot import Training
from stream_classifier.kafka.embedded.brokers import BROKER_CLASS, Brokers, StartFailedError, aot_refused
from stream_classifier.kafka.embedded.directories import HeldDirectory, cache_directory, hold_kept, hold_temporary
from stream_classifier.kafka.embedded.identity import IDENTITY_FILE, Identity
from stream_classifier.kafka.embedded.java import KAFKA_VERSION, Java, provide_java
from stream_classifier.kafka.embedded.node import is_free
from stream_classifier.kafka.embedded.unavailable import unavailable

_STOP_SECONDS = 10  # of three brokers the last waits for a quorum that is gone; it has written everything by then
_TRAINING_STOP_SECONDS = 30
_ATTEMPTS = 5


class _Running(NamedTuple):
    """What there is between start and stop."""

    java: Java
    held: HeldDirectory
    brokers: Brokers
    training: Training | None


class EmbeddedCluster:
    """One or more brokers, each a controller too (KRaft), which end when this process does, however it ends.

    Args:
        brokers: how many; topics are on three of them if there are as many.
        directory: where the data stays, for the next cluster with the same directory to find. None: a temporary one,
            removed at the end.
        port: the first broker's. None: a free one; in a kept directory the one it had before, if it is free.
        properties: for every broker's `server.properties`; they override ours.
        progress: takes a line at a time about what takes long.

    Raises:
        UsageError: no broker at all was asked for.
    """

    def __init__(
        self,
        brokers: int = 1,
        directory: Path | None = None,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if brokers < 1:
            raise UsageError(f"A Kafka of {brokers} brokers cannot be started: ask for 1 at least.")
        self._count = brokers
        self._directory = directory
        self._port = port
        self._properties = dict(properties or {})
        self._progress = progress or (lambda _: None)
        self._state: _Running | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all brokers, as Kafka's clients take them."""
        return self._running.brokers.bootstrap_servers

    @property
    def cluster_id(self) -> str:
        """What Kafka calls this cluster; a kept directory keeps it."""
        return self._running.brokers.identity.cluster_id

    @property
    def pids(self) -> dict[int, int]:
        """The process of each broker that was not killed here, by the broker's number; the first is 1."""
        return self._running.brokers.pids

    @property
    def dead(self) -> list[int]:
        """The brokers that ended although nobody asked them to."""
        return self._running.brokers.dead

    def log(self, broker: int) -> str:
        """Give what a broker has printed since the cluster was started: warnings and errors."""
        return self._running.brokers.log(broker)

    def start(self) -> None:
        """Start all brokers, and wait until each of them knows all the others.

        Raises:
            EmbeddedKafkaError: something is missing that cannot be had, the port is taken, or a broker ended.
            UsageError: the directory holds something else, or is in use.
        """
        if self._state:
            raise RuntimeError("this cluster is running already")
        java = provide_java(self._progress)
        held = hold_kept(self._directory, IDENTITY_FILE) if self._directory else hold_temporary(cache_directory())
        training: Training | None = None
        try:
            identity = Identity.of(held.path, self._count)
            self._progress(f"Starting Apache Kafka {KAFKA_VERSION} ...")
            if self._count == 1:  # one of three does not end in order when the others are gone
                training = java.aot_cache.train()
            brokers = self._start_brokers(java, held.path, identity, training)
        except BaseException:
            if training:
                training.end()
            held.release()
            raise
        self._state = _Running(java, held, brokers, training)

    def stop(self) -> None:
        """End all brokers: in order if the data is kept, at once if it is not. Does nothing if none is running."""
        if not self._state:
            return
        java, held, brokers, training = self._state
        try:
            if training and brokers.pids and not brokers.dead:
                self._progress("Preparing faster starts of Kafka (some seconds, once) ...")
                brokers.end(_TRAINING_STOP_SECONDS)
                if not training.finish(lambda options: java.command(BROKER_CLASS, options=options)):
                    self._progress("Faster starts could not be prepared: Kafka works as it is, a second slower.")
            elif held.kept:
                self._progress("Stopping Apache Kafka ...")
                brokers.end(_STOP_SECONDS)
        finally:
            brokers.kill()
            self._state = None
            if training:
                training.end()
            held.release()

    def kill(self, broker: int) -> None:
        """End a broker as a power cut would (kill -9)."""
        self._running.brokers.kill([broker])

    def restart(self, broker: int) -> None:
        """Start a broker again that was killed or died, on its old port and data, and wait until it answers.

        Raises:
            EmbeddedKafkaError: it ended again.
        """
        try:
            self._running.brokers.restart(broker)
        except StartFailedError as error:
            raise _did_not_start(error) from None

    @property
    def _running(self) -> _Running:
        if self._state is None:
            raise RuntimeError("this cluster is not running")
        return self._state

    def _start_brokers(self, java: Java, directory: Path, identity: Identity, training: Training | None) -> Brokers:
        """Start them, once more on other ports if somebody took one, or without an AOT cache that does not fit."""
        failed: StartFailedError | None = None
        for _ in range(_ATTEMPTS):
            if self._port:
                if not is_free(self._port):
                    raise EmbeddedKafkaError(
                        f"Port {self._port} is taken: choose another one (--port), or stop what listens there."
                    )
                identity = identity.with_first_port(self._port)
            identity.write(directory)
            brokers = Brokers(java, directory, identity, self._properties)
            try:
                brokers.start(training.options if training else None)
            except StartFailedError as error:
                failed = error
                if error.port_taken:
                    identity = identity.on_other_ports()
                elif error.aot_refused:
                    java.aot_cache.discard()
                else:
                    break
            else:
                if any(aot_refused(brokers.log(broker)) for broker in brokers.pids):
                    java.aot_cache.discard()  # the next cluster makes one that fits
                return brokers
        raise _did_not_start(failed)


def _did_not_start(error: StartFailedError | None) -> EmbeddedKafkaError:
    return unavailable(f"The embedded Kafka did not start ({error})", "correct what it names")
