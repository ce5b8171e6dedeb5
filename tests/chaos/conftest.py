"""What the chaos tests can ask for: brokers with short patience, a model, the size, and the table at the end."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import tiny_bundle

from chaos.scene import SESSION_MS
from chaos.size import Size, asked_for
from chaos.table import Table
from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import EmbeddedCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A group gives up on a silent member, and a coordinator on a silent transaction, as soon as a test can bear to wait.
SHORT_PATIENCE = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
# And a controller on a silent broker.
SHORT_PATIENCE_OF_CONTROLLERS = {
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
}


SIZE = asked_for()
TABLE = Table()


@pytest.fixture
def table() -> Table:
    """Where a test says what it has seen."""
    return TABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table."""
    if lines := TABLE.lines():
        terminalreporter.section(f"chaos, seed {SIZE.seed}")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def size() -> Size:
    """How much chaos."""
    return SIZE


@pytest.fixture(autouse=True)
def _seed_is_told(size: Size) -> None:
    """A failing test shows this."""
    print(f"play it again: make chaos SEED={size.seed}" + f" ROUNDS={size.rounds}" * bool(size.rounds))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is quick to load."""
    return tiny_bundle.build(tmp_path_factory.mktemp("chaos") / "bundle")


@pytest.fixture(scope="session")
def servers() -> Iterator[str]:
    """A broker of the chaos tests' own."""
    with _cluster(1, SHORT_PATIENCE) as cluster:
        yield cluster.bootstrap_servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    """Three brokers, three copies of everything, two of them in sync at least."""
    with _cluster(3, SHORT_PATIENCE | SHORT_PATIENCE_OF_CONTROLLERS) as cluster:
        yield cluster


@contextmanager
def _cluster(brokers: int, properties: dict[str, str]) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(brokers=brokers, properties=properties)
    try:
        cluster.start()
    except EmbeddedKafkaError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(f"NO REAL KAFKA: {error}")
    try:
        yield cluster
    finally:
        cluster.stop()
