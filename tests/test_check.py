"""`check`: everything that could keep a worker from working, each with what to do, in one go."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import tiny_bundle
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from worker_config import write_config

from stream_classifier.cli import run
from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import EmbeddedCluster
from stream_classifier.kafka.embedded.node import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker import MakeTopic, NameTopic

Topics = tuple[str, str, str]
NOBODY = ("tickets", "tickets.labelled", "tickets.dead-letter")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "bundle")


@pytest.fixture
def topics(make_topic: MakeTopic) -> Topics:
    return make_topic("tickets", partitions=2), make_topic("labelled", partitions=2), make_topic("dead-letter")


def found(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of `check`, which writes nothing to standard error."""
    shown = capsys.readouterr()
    assert not shown.err
    return shown.out.splitlines()


def test_a_worker_that_will_work(
    tmp_path: Path, bootstrap_servers: str, topics: Topics, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, bootstrap_servers, topics, model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 0
    assert found(capsys) == ["ok       settings", "ok       labels", "ok       model", "ok       kafka"]


def test_a_coordinator_that_moves_is_asked_again(
    tmp_path: Path,
    bootstrap_servers: str,
    topics: Topics,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    describe = AdminClient.describe_consumer_groups
    refusals = [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]

    def moving(self: AdminClient, groups: list[str], **options: Any) -> dict[str, Future[Any]]:
        if not refusals:
            return describe(self, groups, **options)
        answer: Future[Any] = Future()
        answer.set_exception(KafkaException(KafkaError(refusals.pop())))
        return dict.fromkeys(groups, answer)

    monkeypatch.setattr(AdminClient, "describe_consumer_groups", moving)
    config = write_config(tmp_path, bootstrap_servers, topics, model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 0
    assert not refusals
    assert found(capsys)[3:] == ["ok       kafka"]


def test_each_missing_topic_is_named(
    tmp_path: Path,
    bootstrap_servers: str,
    make_topic: MakeTopic,
    name_topic: NameTopic,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = name_topic(), name_topic()
    config = write_config(tmp_path, bootstrap_servers, (make_topic(), *missing), model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 1
    assert found(capsys)[3:] == [
        f"PROBLEM  kafka: topic {name} is missing; `stream-classifier topics create --config FILE` makes it"
        for name in missing
    ]


def test_different_numbers_of_partitions_are_worth_a_note_and_no_more(
    tmp_path: Path, bootstrap_servers: str, make_topic: MakeTopic, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = make_topic(partitions=2), make_topic(partitions=1), make_topic()
    config = write_config(tmp_path, bootstrap_servers, names, model={"path": str(bundle)})
    assert run(["check", "--config", str(config)]) == 0
    note = "note     kafka: input and output differ in partitions, so a key can change its partition number"
    assert found(capsys)[3:] == [note, "ok       kafka"]


def test_every_problem_is_told_in_one_go(
    tmp_path: Path, bootstrap_servers: str, name_topic: NameTopic, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a label set of one label, a damaged bundle and no topics, when they are checked, then each is named."""
    names = name_topic(), name_topic(), name_topic()
    config = write_config(tmp_path, bootstrap_servers, names, model={"path": str(bundle)})
    (tmp_path / "labels.yaml").write_text("name: s\nversion: 1\nlabels: [one]\n")
    (bundle / "tokenizer.json").write_text("{}")
    assert run(["check", "--config", str(config)]) == 1
    settings, labels, model, *kafka = found(capsys)
    assert settings == "ok       settings"
    assert labels == f"PROBLEM  labels: {tmp_path}/labels.yaml: labels: it takes at least 2 to choose between"
    assert model.startswith(f"PROBLEM  model: {bundle}/tokenizer.json is damaged or was changed")
    assert [line.split()[3] for line in kafka] == list(names)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"labels": {"path": "nowhere.yaml"}}, "labels: {here}/nowhere.yaml: cannot be read (No such file or"),
        ({"labels": {"use": "other"}}, "labels: there is no label set 'other' (labels.use); there are: support"),
        ({"model": {"path": "nowhere"}}, "model: {here}/nowhere"),
        (
            {"model": {"path": "bundle", "max_length": 65}},
            "model: model.max_length is 65: set at most 64, tiny's limit",
        ),
        ({"kafka": {"consumer": {"nonsense": 1}}}, "client properties: kafka.consumer or kafka.client: No such"),
        (
            {"kafka": {"producer": {"linger.ms": -7}}},
            "client properties: kafka.producer or kafka.client: Configuration",
        ),
    ],
)
def test_offline_finds_what_can_be_found_without_a_broker(
    sections: dict[str, dict[str, object]],
    problem: str,
    tmp_path: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(tmp_path, "localhost:1", NOBODY, **({"model": {"path": bundle.name}} | sections))
    assert run(["check", "--config", str(config), "--offline"]) == 1
    problems = [line for line in found(capsys) if not line.startswith("ok ")]
    assert len(problems) == 1
    assert problems[0].startswith(f"PROBLEM  {problem.format(here=tmp_path)}")


def test_offline_asks_no_broker(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, "localhost:1", NOBODY, model={"path": str(bundle)})
    assert run(["check", "--config", str(config), "--offline"]) == 0
    assert found(capsys) == ["ok       settings", "ok       labels", "ok       model", "ok       client properties"]


@pytest.mark.parametrize(
    ("servers", "client", "hosts"),
    [
        ("localhost:9092,127.0.0.1:9092,[::1]:9092", {}, None),
        ("kafka.example:9093", {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, None),
        ("a.example:1, localhost:2,SASL_PLAINTEXT://b.example:3", {}, "a.example, b.example"),
        ("a.example", {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}, "a.example"),
    ],
)
def test_a_broker_elsewhere_to_which_nothing_is_encrypted_is_worth_a_note(
    servers: str,
    client: dict[str, str],
    hosts: str | None,
    tmp_path: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    credentials = {"sasl.username": "bob", "sasl.password": "bob's"} if client else {}
    config = write_config(
        tmp_path, servers, NOBODY, kafka={"client": client | credentials}, model={"path": str(bundle)}
    )
    assert run(["check", "--config", str(config), "--offline"]) == 0
    notes = [line for line in found(capsys) if not line.startswith("ok ")]
    wanted = (
        [] if hosts is None else [f"note     kafka: nothing that goes to {hosts} is encrypted; see security.protocol"]
    )
    assert notes == wanted


# Where not everybody may do everything --------------------------------------------------------------------------------

GUARDED = ("tickets", "tickets.labelled", "tickets.dead-letter")
GROUP = f"group-of-{GUARDED[0]}"


class Guarded(NamedTuple):
    """A Kafka that asks for a password and knows rights.

    Attributes:
        address: Where it asks for a password.
        all_rights: Properties of a client that may do everything.
    """

    address: str
    all_rights: dict[str, str | int | float | bool]

    def allow(self, *rights: tuple[ResourceType, str, AclOperation]) -> None:
        """Give bob rights, and wait until the broker knows of them."""
        bindings = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, "User:bob", "*", right, AclPermissionType.ALLOW)
            for kind, name, right in rights
        ]
        admin = AdminClient(self.all_rights)
        for given in admin.create_acls(bindings).values():
            given.result()
        anything: Any = None
        every = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            anything,
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        while not set(bindings) <= set(admin.describe_acls(every).result()):
            time.sleep(0.01)

    def produce(self, topic: str, value: bytes) -> None:
        """Write a record."""
        producer = Producer(self.all_rights)
        producer.produce(topic, value)
        assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    (open_port, controller), (guarded_port, _) = free_ports(2)
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="bob\'s";'
    properties = {
        "listeners": f"PLAINTEXT://{HOST}:{open_port},CONTROLLER://{HOST}:{controller},"
        f"SASL_PLAINTEXT://{HOST}:{guarded_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{open_port},SASL_PLAINTEXT://{HOST}:{guarded_port}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    cluster = EmbeddedCluster(port=open_port, properties=properties)
    try:
        cluster.start()
    except EmbeddedKafkaError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"NO REAL KAFKA: {error}")
    all_rights: dict[str, str | int | float | bool] = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
    admin = AdminClient(all_rights)
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in GUARDED]).values():
        made.result()
    yield Guarded(f"{HOST}:{guarded_port}", all_rights)
    cluster.stop()


def as_bob(password: str) -> dict[str, Any]:
    """The client properties of bob."""
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "bob",
        "sasl.password": password,
    }


def test_each_right_that_is_lacking_is_named(
    tmp_path: Path, guarded: Guarded, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a principal with some rights, when it is checked, then the others are named; with them all is well."""
    source, output, dead_letter = GUARDED
    config = write_config(
        tmp_path, guarded.address, GUARDED, kafka={"client": as_bob("bob's")}, model={"path": str(bundle), "threads": 1}
    )
    guarded.allow((ResourceType.TOPIC, source, AclOperation.READ), (ResourceType.TOPIC, output, AclOperation.DESCRIBE))
    assert run(["check", "--config", str(config)]) == 1
    output_line, dead_letter_line, group_line = found(capsys)[3:]
    assert output_line == f"PROBLEM  kafka: topic {output}: the principal lacks WRITE; give it that ACL"
    assert dead_letter_line.startswith(f"PROBLEM  kafka: topic {dead_letter}: TOPIC_AUTHORIZATION_FAILED: ")
    assert dead_letter_line.endswith("give the principal the ACL for WRITE on it")
    assert group_line.startswith(f"PROBLEM  kafka: group {GROUP}: GROUP_AUTHORIZATION_FAILED: ")

    # Whoever may read a topic can watch it, without any right to a group.
    guarded.allow((ResourceType.TOPIC, output, AclOperation.READ))
    guarded.produce(output, b'{"text":"x"}')
    assert run(["watch", "--config", str(config), "--json", "--from-beginning", "--count", "1"]) == 0
    assert capsys.readouterr().out == '{"text":"x"}\n'

    guarded.allow(
        (ResourceType.TOPIC, output, AclOperation.WRITE),
        (ResourceType.TOPIC, dead_letter, AclOperation.WRITE),
        (ResourceType.GROUP, GROUP, AclOperation.READ),
    )
    assert run(["check", "--config", str(config)]) == 0
    assert found(capsys)[3:] == ["ok       kafka"]


def test_a_wrong_password_is_told_at_once_and_not_shown(
    tmp_path: Path, guarded: Guarded, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(
        tmp_path, guarded.address, GUARDED, kafka={"client": as_bob("hunter2")}, model={"path": str(bundle)}
    )
    assert run(["check", "--config", str(config)]) == 1
    (problem,) = found(capsys)[3:]
    assert "SASL authentication error" in problem
    assert problem.endswith("the broker refused the credentials: look at kafka.client")
    assert "hunter2" not in problem
