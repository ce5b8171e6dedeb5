"""The Kafka that the tests run on: always a real one. `conftest.py` hands these fixtures to every test.

`KAFKA_BOOTSTRAP_SERVERS` names one that runs already; else `--broker=embedded` (the default) starts ours, and
`--broker=testcontainers` starts Apache Kafka's image on a machine with a Docker engine. Where ours cannot be had, the
tests that need a broker are skipped with the reason; with `CI=true` they fail, since nothing skips there.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Protocol

import pytest
from compose_file import SERVICES
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic

from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.embedded.node import HOST, free_ports, server_properties

__all__ = ["MakeTopic", "NameTopic", "bootstrap_servers", "make_topic", "name_topic", "pytest_addoption"]

# KIP-848: members learn of a change of their group by their heartbeats, one in five seconds as the broker has it.
QUICK = {"group.consumer.min.heartbeat.interval.ms": "500", "group.consumer.heartbeat.interval.ms": "500"}


class NameTopic(Protocol):
    def __call__(self, stem: str = "topic") -> str:
        """Give a name that no topic has."""


class MakeTopic(Protocol):
    def __call__(self, stem: str = "topic", *, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic that is this test's alone, and give its name once every partition has a leader."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        choices=("embedded", "testcontainers"),
        default="embedded",
        help="where the tests' Kafka comes from, unless KAFKA_BOOTSTRAP_SERVERS names one (default: embedded)",
    )


@pytest.fixture(scope="session")
def bootstrap_servers(pytestconfig: pytest.Config) -> Iterator[str]:
    """The address of the real Kafka that the whole session shares."""
    address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    with ExitStack() as stack:
        if not address:
            contained = pytestconfig.getoption("--broker") == "testcontainers"
            address = stack.enter_context(_apache_kafka_image() if contained else _embedded(pytestconfig))
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        _await(admin, lambda metadata: bool(metadata.brokers), f"Kafka at {address}")
        yield address


@pytest.fixture
def name_topic() -> NameTopic:
    """Names for topics that the test makes itself, or that are not to exist."""
    return lambda stem="topic": f"{stem}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make_topic(bootstrap_servers: str, name_topic: NameTopic) -> Iterator[MakeTopic]:
    """Makes topics that are gone after the test.

    They keep what they hold: some tests publish records with old timestamps, which the broker would delete at any time.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    made: list[str] = []

    def make(stem: str = "topic", *, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = name_topic(stem)
        kept = {"retention.ms": "-1", **(config or {})}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=kept)
        admin.create_topics([new])[name].result()
        made.append(name)
        _await(admin, lambda metadata: _leaders(metadata, name) == partitions, f"a leader for each partition of {name}")
        return name

    yield make
    if made:
        for deletion in admin.delete_topics(made).values():
            deletion.result()


def _leaders(metadata: ClusterMetadata, topic: str) -> int:
    """Count the partitions that can be written to: a topic is made a moment before every broker knows of it."""
    known = metadata.topics.get(topic)
    return sum(partition.leader >= 0 for partition in known.partitions.values()) if known else 0


def _await(admin: AdminClient, condition: Callable[[ClusterMetadata], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if condition(admin.list_topics(timeout=5)):
                return
        except KafkaException:  # nobody answers yet
            continue
        time.sleep(0.01)
    pytest.fail(f"waited 30 s in vain for {what}", pytrace=False)


@contextmanager
def _embedded(config: pytest.Config) -> Iterator[str]:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        if terminal and capture:
            with capture.global_and_fixture_disabled():
                terminal.ensure_newline()
                terminal.write_line(line)

    cluster = EmbeddedCluster(properties=QUICK, progress=say)
    missing = ""
    with ExitStack() as stack:
        try:
            stack.enter_context(cluster)
        except EmbeddedKafkaError as error:
            missing = str(error)
        if missing and os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        if missing:
            pytest.skip(f"NO REAL KAFKA: {missing}")
        yield cluster.bootstrap_servers


@contextmanager
def _apache_kafka_image() -> Iterator[str]:
    """Run docker-compose.yml's image of the same Kafka with the same settings.

    testcontainers' own KafkaContainer starts Confluent's image by scripts that Apache's does not have.
    """
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - needed by those who ask for it

    ports = free_ports(1)
    (client, controller) = ports[0]
    settings = (
        server_properties(1, ports)
        | QUICK
        | {"listeners": f"PLAINTEXT://0.0.0.0:{client},CONTROLLER://{HOST}:{controller}"}
    )
    container = DockerContainer(SERVICES["kafka"]["image"]).with_bind_ports(client, client)
    for name, value in settings.items():
        container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
    with container:
        yield f"{HOST}:{client}"
