"""Every way to show credentials, right and wrong, against a real Kafka with TLS, SASL and ACLs.

The settings are those of docs/security.md. Whatever a command prints here is searched for secrets.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson
import pytest
import tiny_bundle
import token_endpoint
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka import KafkaError as ClientError
from confluent_kafka.admin import AclOperation, ResourceType
from secured_cluster import KEY_PASSWORD, SecuredCluster, StreamNames, secured_cluster
from worker_config import write_config

from stream_classifier import cli
from stream_classifier.kafka.clients import is_permanent
from stream_classifier.kafka.embedded import tool_command
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

PAGE = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
PATIENCE = 60.0

USERS = {
    name: f"secret-of-{name}-7391"
    for name in (
        "labeller",
        "operator",
        "scoped",
        "rotated",
        "lacks_input",
        "lacks_output",
        "lacks_dead_letter",
        "lacks_group",
        "lacks_sight",
        "redriver",
    )
}
WRONG = "a-wrong-secret-5528"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredCluster]:
    directory = tmp_path_factory.mktemp("secured")
    with secured_cluster(directory, users=USERS, clients=["labeller"]) as cluster:
        (directory / "key-password").write_text(f"{KEY_PASSWORD}\n", encoding="utf-8")
        (directory / "kafka-password").write_text(f"{USERS['labeller']}\n", encoding="utf-8")
        (directory / "oauth-secret").write_text(f"{USERS['labeller']}\n", encoding="utf-8")
        yield cluster


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("bundle"))


# Settings and commands ------------------------------------------------------------------------------------------------


EXACTLY_ONCE = {"STREAM_CLASSIFIER_DELIVERY": "exactly_once"}


class Setup(NamedTuple):
    """What a worker is started with.

    Attributes:
        example: Which one of docs/security.md.
        listener: Which one of the cluster's.
        changes: Over the example's properties; None takes one away.
    """

    example: str
    listener: str
    changes: Mapping[str, Any] = {}


def client_properties(secured: SecuredCluster, setup: Setup) -> dict[str, Any]:
    """The properties of an example, with the paths and the token endpoint of these tests."""
    example = EXAMPLES[setup.example]
    for there, here in (
        ("/etc/stream-classifier", str(secured.directory)),
        ("/run/secrets", str(secured.directory)),
        ("https://login.example/token", secured.tokens.url),
    ):
        example = example.replace(there, here)
    document = yaml.safe_load(example)
    assert document["kafka"]["bootstrap_servers"] == "kafka.example:9093"
    properties = document["kafka"]["client"] | dict(setup.changes)
    return {name: value for name, value in properties.items() if value is not None}


def configure(directory: Path, secured: SecuredCluster, bundle: Path, setup: Setup, names: StreamNames) -> Path:
    """Write a settings file."""
    directory.mkdir(exist_ok=True)
    kafka = {"group_id": names.group, "client": client_properties(secured, setup), "commit_interval_ms": 50}
    sections: dict[str, dict[str, Any]] = {
        "kafka": kafka,
        "model": {"path": str(bundle), "threads": 1},
        "observability": {"log_level": "debug"},
    }
    return write_config(directory, secured.address(setup.listener), names[:3], **sections)


def secrets(secured: SecuredCluster) -> list[str]:
    """What nobody may see: passwords, lines of keys, tokens."""
    key = (secured.directory / "labeller.key").read_text(encoding="utf-8").splitlines()[1:-1]
    return [*USERS.values(), WRONG, KEY_PASSWORD, *key, *secured.tokens.issued]


class Command:
    """A command in a process of its own, the output of which is searched for secrets when it has ended."""

    def __init__(
        self,
        secured: SecuredCluster,
        directory: Path,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_CLASSIFIER_")}
        program = ["-m", "stream_classifier"] if code is None else ["-c", code]
        self._secured = secured
        self._log = directory / f"output-{time.monotonic_ns()}.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment | dict(variables or {}),
                cwd=directory,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log that are complete."""
        complete = self.output.rpartition("\n")[0].splitlines()
        return [orjson.loads(line) for line in complete if line.startswith("{")]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"it ended, exit code {self.process.returncode}: {self.output}"
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}; {self.output}"
            time.sleep(0.02)

    def page(self, name: str) -> str:
        address = next(line["metrics"] for line in self.lines if "metrics" in line)
        with urllib.request.urlopen(address.replace("/metrics", name), timeout=10) as answer:  # noqa: S310 - http
            return str(answer.read().decode())

    def ended(self) -> tuple[int, str]:
        """Wait for its end; exit code and output, in which there is no secret."""
        code = self.process.wait(PATIENCE)
        output = self.output
        assert_no_secret(self._secured, output)
        return code, output

    def stop(self) -> None:
        """Have a worker end as it should."""
        self.process.terminate()
        code, output = self.ended()
        assert code == 0, output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def assert_no_secret(secured: SecuredCluster, shown: str) -> None:
    for secret in secrets(secured):
        assert secret not in shown, "a secret was printed"


def publish(secured: SecuredCluster, names: StreamNames, *values: bytes) -> None:
    producer = Producer(secured.all_rights)
    for value in values:
        producer.produce(names.input, value)
    assert producer.flush(PATIENCE) == 0


def count(secured: SecuredCluster, topic: str) -> int:
    """How many records a topic of one partition holds."""
    consumer = Consumer(secured.all_rights | {"group.id": "unused"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[1])
    finally:
        consumer.close()


EVENTS = (b'{"text":"where is my parcel"}', b'{"text":"money refund"}', b"not JSON")


def assert_labels(secured: SecuredCluster, names: StreamNames, worker: Command) -> None:
    """Publish two texts and something broken, and wait until they have come out."""
    labelled, refused = count(secured, names.output), count(secured, names.dead_letter)
    publish(secured, names, *EVENTS)
    # A transaction leaves a record of its own in each topic.
    worker.until(lambda: count(secured, names.output) >= labelled + 2, "two labelled events")
    worker.until(lambda: count(secured, names.dead_letter) >= refused + 1, "a dead letter")


# Right credentials ----------------------------------------------------------------------------------------------------

RIGHT = {
    "TLS": Setup("tls", "TLS"),
    "mutual TLS": Setup("mtls", "MTLS"),
    "SASL_SSL/PLAIN": Setup("plain", "SASL"),
    "SCRAM-SHA-256": Setup("scram", "SASL", {"sasl.mechanism": "SCRAM-SHA-256"}),
    "SCRAM-SHA-512": Setup("scram", "SASL"),
    "OAUTHBEARER": Setup("oauthbearer", "SASL"),
}


@pytest.mark.parametrize("method", RIGHT)
def test_with_the_right_credentials_and_rights_a_worker_labels(
    method: str, secured: SecuredCluster, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = RIGHT[method]
    names = secured.make_stream()
    secured.allow("ANONYMOUS" if method == "TLS" else "labeller", names.rights)
    config = str(configure(tmp_path, secured, bundle, setup, names))
    with Command(secured, tmp_path, "worker", "--config", config) as worker:
        assert cli.run(["check", "--config", config]) == 0
        assert_labels(secured, names, worker)
        worker.stop()
    assert capfd.readouterr().out.splitlines()[-1] == "ok       kafka"


def test_every_method_of_the_page_is_used() -> None:
    assert {*(setup.example for setup in RIGHT.values()), "acls"} == set(EXAMPLES)


# Wrong credentials ----------------------------------------------------------------------------------------------------


class Wrong(NamedTuple):
    """Something that is wrong, and what has to be said of it."""

    setup: Setup
    says: str
    worker_exit_code: int = 1


def as_user(name: str, password: str | None = None) -> dict[str, str]:
    return {"sasl.username": name, "sasl.password": password or USERS[name]}


WANTS_A_CERTIFICATE = "the broker wants a client certificate that it trusts: look at ssl.certificate.location"
NO_TRUST = "ssl.ca.location must hold the CA of the broker's certificate, and that certificate must name the host"
REFUSED = "the broker refused the credentials: look at kafka.client"
WRONGS = {
    "no client certificate": Wrong(
        Setup(
            "mtls",
            "MTLS",
            {"ssl.certificate.location": None, "ssl.key.location": None, "ssl.key.password": None},
        ),
        WANTS_A_CERTIFICATE,
    ),
    "certificate of another CA": Wrong(
        Setup(
            "mtls",
            "MTLS",
            {"ssl.certificate.location": "mallory.crt", "ssl.key.location": "mallory.key", "ssl.key.password": None},
        ),
        WANTS_A_CERTIFICATE,
    ),
    "wrong CA at the client": Wrong(Setup("tls", "TLS", {"ssl.ca.location": "rogue-ca.crt"}), NO_TRUST),
    "wrong host name in the certificate": Wrong(Setup("tls", "MISNAMED"), NO_TRUST),
    "plaintext client on a TLS port": Wrong(
        Setup("tls", "TLS", {"security.protocol": "PLAINTEXT"}),
        "it hangs up); does its port speak PLAINTEXT? Look at security.protocol",
    ),
    "TLS client on a plaintext port": Wrong(
        Setup("tls", "PLAINTEXT"), "this port does not speak TLS: take the broker's TLS port"
    ),
    "SASL on a port without SASL": Wrong(Setup("plain", "TLS"), "this port asks for no SASL: take the broker's SASL"),
    "wrong password, PLAIN": Wrong(Setup("plain", "SASL", as_user("labeller", WRONG)), REFUSED),
    "wrong password, SCRAM": Wrong(Setup("scram", "SASL", as_user("labeller", WRONG)), REFUSED),
    "unknown user, PLAIN": Wrong(Setup("plain", "SASL", as_user("nobody", WRONG)), REFUSED),
    "unknown user, SCRAM": Wrong(Setup("scram", "SASL", as_user("nobody", WRONG)), REFUSED),
    "unsupported mechanism": Wrong(
        Setup("plain", "RENEWED"), "the broker does not offer this sasl.mechanism at this port"
    ),
    "bad OAuth secret": Wrong(
        Setup("oauthbearer", "SASL", {"sasl.oauthbearer.client.secret": WRONG}),
        "the token endpoint refused the client: look at sasl.oauthbearer.client.id and",
    ),
    "token endpoint unreachable": Wrong(
        Setup("oauthbearer", "SASL", {"sasl.oauthbearer.token.endpoint.url": "https://localhost:1/token"}),
        "look at sasl.oauthbearer.token.endpoint.url, whether it answers",
    ),
    "token endpoint of another CA": Wrong(
        Setup("oauthbearer", "SASL", {"https.ca.location": "rogue-ca.crt"}), "whether it answers, and at https.ca"
    ),
    "token endpoint broken": Wrong(
        Setup("oauthbearer", "SASL", {"sasl.oauthbearer.token.endpoint.url": "broken"}),
        "no OAuth token); look at sasl.oauthbearer.method (oidc) and whether sasl.oauthbearer.token.endpoint.url",
    ),
    "expired token": Wrong(
        Setup("oauthbearer", "SASL", {"sasl.oauthbearer.token.endpoint.url": "expired"}),
        "the token endpoint gives tokens that have expired: do its clock",
    ),
    "wrong password of the key": Wrong(
        Setup("mtls", "MTLS", {"ssl.key.password": WRONG}), "the key cannot be read: is ssl.key.password right?", 2
    ),
    "missing CA file": Wrong(
        Setup("tls", "TLS", {"ssl.ca.location": "nowhere.crt"}), "ssl.ca.location failed: .*is the file there", 2
    ),
    "no right to read the input": Wrong(Setup("plain", "SASL", as_user("lacks_input")), "tickets-.*lacks READ; give"),
    "no right to write the output": Wrong(
        Setup("plain", "SASL", as_user("lacks_output")), "labelled-.*lacks WRITE; give"
    ),
    "no right to write dead letters": Wrong(
        Setup("plain", "SASL", as_user("lacks_dead_letter")), "dead-.*lacks WRITE; give"
    ),
    "no right to the group": Wrong(Setup("plain", "SASL", as_user("lacks_group")), "right to kafka.group_id: give it"),
    "no right to see a topic": Wrong(
        Setup("plain", "SASL", as_user("lacks_sight")),
        "dead-.*TOPIC_AUTHORIZATION_FAILED: .*give the principal the ACL for WRITE on it",
    ),
}


class Outcome(NamedTuple):
    """Exit code and output."""

    check: tuple[int, str]
    worker: tuple[int, str]


@pytest.fixture(scope="module", autouse=True)  # they may wait while other tests run
def refused(
    secured: SecuredCluster, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """What `check` and `worker` say of each wrong setting; some wait for ten seconds, so they run side by side."""
    names = secured.make_stream()
    see = AclOperation.DESCRIBE
    topic, group = ResourceType.TOPIC, ResourceType.GROUP
    input_right, output_right, dead_letter_right, group_right = names.rights
    secured.allow("labeller", names.rights)
    secured.allow("ANONYMOUS", names.rights)
    secured.allow("lacks_input", [(topic, names.input, see), output_right, dead_letter_right, group_right])
    secured.allow("lacks_output", [input_right, (topic, names.output, see), dead_letter_right, group_right])
    secured.allow("lacks_dead_letter", [input_right, output_right, (topic, names.dead_letter, see), group_right])
    secured.allow("lacks_group", [input_right, output_right, dead_letter_right, (group, "another", group_right[2])])
    secured.allow("lacks_sight", [input_right, output_right, group_right])
    directory = tmp_path_factory.mktemp("refused")
    with (
        token_endpoint.serving(secured.directory / "broker.pem", USERS) as broken,
        token_endpoint.serving(secured.directory / "broker.pem", USERS) as expired,
        ThreadPoolExecutor(8) as pool,
    ):
        broken.broken = True
        expired.lifetime = -30.0
        endpoints = {"broken": broken.url, "expired": expired.url}

        def place(name: str, value: Any) -> Any:
            if name.endswith(".location") and value:
                return str(secured.directory / value)
            return endpoints.get(value, value)

        def attempt(number: int, wrong: Wrong) -> Outcome:
            changes = {name: place(name, value) for name, value in wrong.setup.changes.items()}
            here = directory / str(number)
            config = str(configure(here, secured, bundle, wrong.setup._replace(changes=changes), names))
            with (
                Command(secured, here, "check", "--config", config) as check,
                Command(secured, here, "worker", "--config", config) as worker,
            ):
                return Outcome(check.ended(), worker.ended())

        # Those that wait go first.
        order = sorted(WRONGS, key=lambda name: "token" not in name and "port" not in name)
        yield {name: pool.submit(attempt, number, WRONGS[name]) for number, name in enumerate(order)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("what", WRONGS)
def test_each_wrong_one_ends_with_one_clear_line(what: str, refused: dict[str, Future[Outcome]]) -> None:
    wrong = WRONGS[what]
    (check_code, check_output), (worker_code, worker_output) = refused[what].result(PATIENCE)
    says = wrong.says if ".*" in wrong.says else re.escape(wrong.says)

    (problem,) = [line for line in check_output.splitlines() if not line.startswith("ok ")]
    assert problem.startswith("PROBLEM  kafka: ")
    assert re.search(says, problem)
    assert check_code == 1

    assert worker_code == wrong.worker_exit_code
    if worker_code == 1:
        last = orjson.loads(worker_output.splitlines()[-1])
        assert (last["level"], last["event"]) == ("error", "ended")
        assert [line for line in worker_output.splitlines() if '"error"' in line] == worker_output.splitlines()[-1:]
        assert re.search(says, last["reason"])
    else:
        (line,) = worker_output.splitlines()
        assert line.startswith("stream-classifier: ")
        assert re.search(says, line)


def test_a_transactional_id_without_the_right_is_one_clear_line(
    secured: SecuredCluster,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Given all rights but that to the transactional id, `delivery: exactly_once` is refused, to `check` as well."""
    monkeypatch.setenv("STREAM_CLASSIFIER_DELIVERY", "exactly_once")
    names = secured.make_stream()
    secured.allow("operator", names.rights)
    config = str(configure(tmp_path, secured, bundle, Setup("plain", "SASL", as_user("operator")), names))
    line = (
        "the principal lacks the right to the transactional id: give it WRITE on those that begin with kafka.group_id "
        "and a dash"
    )
    with Command(secured, tmp_path, "worker", "--config", config, variables=EXACTLY_ONCE) as worker:
        code, output = worker.ended()
    last = orjson.loads(output.splitlines()[-1])
    assert (code, last["event"]) == (1, "ended")
    assert last["reason"].endswith(line)
    assert cli.run(["check", "--config", config]) == 1
    (problem,) = [found for found in capsys.readouterr().out.splitlines() if found.startswith("PROBLEM")]
    assert problem.endswith(line)


# While a worker runs --------------------------------------------------------------------------------------------------


def test_a_password_that_is_changed_ends_the_worker_that_has_the_old_one(
    secured: SecuredCluster, bundle: Path, tmp_path: Path
) -> None:
    """Given a broker that asks again every two seconds, when the password was changed, then the worker says so."""
    names = secured.make_stream()
    secured.allow("rotated", names.rights)
    setup = Setup("scram", "RENEWED", as_user("rotated") | {"sasl.mechanism": "SCRAM-SHA-256"})
    config = str(configure(tmp_path, secured, bundle, setup, names))
    with Command(secured, tmp_path, "worker", "--config", config) as worker:
        assert_labels(secured, names, worker)
        secured.add_scram_user("rotated", "another-secret-0417")
        code, output = worker.ended()
    last = orjson.loads(output.splitlines()[-1])
    assert (code, last["event"]) == (1, "ended")
    assert last["reason"].endswith(REFUSED)


def test_a_right_that_is_taken_away_ends_the_worker(secured: SecuredCluster, bundle: Path, tmp_path: Path) -> None:
    names = secured.make_stream()
    secured.allow("operator", names.rights)
    setup = Setup("plain", "SASL", as_user("operator"))
    config = str(configure(tmp_path, secured, bundle, setup, names))
    with Command(secured, tmp_path, "worker", "--config", config) as worker:
        assert_labels(secured, names, worker)
        secured.forbid("operator", [names.rights[1]])
        publish(secured, names, EVENTS[0])
        code, output = worker.ended()
    last = orjson.loads(output.splitlines()[-1])
    assert (code, last["event"]) == (1, "ended")
    assert "TOPIC_AUTHORIZATION_FAILED" in last["reason"]
    assert last["reason"].endswith("the principal lacks the right to a topic: give it the ACL")


def test_a_worker_outlives_a_token_endpoint_that_is_away(secured: SecuredCluster, bundle: Path, tmp_path: Path) -> None:
    """Given a token endpoint that is away until after the last token has expired, then the worker goes on later."""
    names = secured.make_stream()
    secured.allow("labeller", names.rights)
    identity = secured.directory / "broker.pem"
    with contextlib.ExitStack() as stack:
        with token_endpoint.serving(identity, USERS) as tokens:
            tokens.lifetime = 4.0
            setup = Setup("oauthbearer", "SASL", {"sasl.oauthbearer.token.endpoint.url": tokens.url})
            config = str(configure(tmp_path, secured, bundle, setup, names))
            worker = stack.enter_context(Command(secured, tmp_path, "worker", "--config", config))
            assert_labels(secured, names, worker)
        expired = time.monotonic() + tokens.lifetime
        worker.until(lambda: any("_AUTHENTICATION" in line.get("errors", {}) for line in worker.lines), "it says so")
        worker.until(lambda: time.monotonic() > expired, "the last token is of no use any more")
        publish(secured, names, EVENTS[0])
        stack.enter_context(token_endpoint.serving(identity, USERS, tokens.server_port))
        worker.until(lambda: count(secured, names.output) == 3, "it goes on")
        worker.stop()


# Rights ---------------------------------------------------------------------------------------------------------------


def test_the_rights_of_the_page_are_enough_to_redrive(
    secured: SecuredCluster, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a principal with the rights that the page names for dead letters, then it does all three with them."""
    names = secured.make_stream()
    rows = re.findall(r"^\| `(dead-letters \w+)[^|]*\| ([^|]+) \| (`[^|]+`) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    topics = {"`dead_letter.topic`": names.dead_letter, "each of `input.topics` that events go back to": names.input}
    rights = [
        (ResourceType.TOPIC, topics[resource], AclOperation[right])
        for _, resource, operations in rows
        if resource in topics
        for right in re.findall(r"`(\w+)`", operations)
    ]
    rights.append((ResourceType.TRANSACTIONAL_ID, f"{names.dead_letter}.redrive", AclOperation.WRITE))
    secured.allow("redriver", dict.fromkeys(rights))
    producer = Producer(secured.all_rights)
    source = f"{names.input}/0/0".encode()
    headers: dict[str, str | bytes | None] = {"classifier-error-code": b"text_missing", "classifier-source": source}
    producer.produce(names.dead_letter, b"{}", headers=headers)
    assert producer.flush(PATIENCE) == 0

    config = str(configure(tmp_path, secured, bundle, Setup("plain", "SASL", as_user("redriver")), names))
    for arguments in (["list"], ["show", "0/0"], ["redrive", "--yes"]):
        status = cli.run(["dead-letters", arguments[0], "--config", config, *arguments[1:]])
        assert status == 0, capsys.readouterr().err
    assert "redriven: 1" in capsys.readouterr().out


def test_exactly_the_rights_of_the_page_are_enough(
    secured: SecuredCluster, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a principal with the page's ACLs, by Kafka's own command, and nothing else, then a worker labels, in both
    modes of delivery."""
    names = secured.make_stream()
    admin = tmp_path / "admin.properties"
    admin.write_text(secured.admin_properties, encoding="utf-8")
    replaced = {
        "kafka.example:9093": secured.all_rights["bootstrap.servers"],
        "admin.properties": str(admin),
        "User:labeller": "User:scoped",
        "tickets": names.input,
        "tickets.labelled": names.output,
        "tickets.dead-letter": names.dead_letter,
        "stream-classifier": names.group,
        "stream-classifier-": f"{names.group}-",
    }
    commands = [shlex.split(line) for line in EXAMPLES["acls"].splitlines()]
    running = [
        subprocess.Popen(
            tool_command("AclCommand", *(str(replaced.get(word, word)) for word in words)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for tool, *words in commands
        if tool == "kafka-acls.sh"
    ]
    assert len(running) == len(commands) == 4
    for process in running:
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said.decode()

    setup = Setup("plain", "SASL", as_user("scoped"))
    config = str(configure(tmp_path, secured, bundle, setup, names))
    with Command(secured, tmp_path, "worker", "--config", config) as worker:
        assert cli.run(["check", "--config", config]) == 0
        assert_labels(secured, names, worker)
        worker.stop()

    monkeypatch.setenv("STREAM_CLASSIFIER_DELIVERY", "exactly_once")
    with Command(secured, tmp_path, "worker", "--config", config, variables=EXACTLY_ONCE) as worker:
        assert cli.run(["check", "--config", config]) == 0
        assert_labels(secured, names, worker)


def test_the_other_commands_take_the_same_credentials_and_the_rights_of_the_page(
    secured: SecuredCluster, bundle: Path, tmp_path: Path
) -> None:
    topic = ResourceType.TOPIC
    names = StreamNames("orders", "orders.labelled", "orders.dead-letter", "orders-group")
    operations = (AclOperation.CREATE, AclOperation.DESCRIBE)
    secured.allow("operator", [(topic, name, operation) for name in names[:3] for operation in operations])
    setup = Setup("scram", "SASL", as_user("operator"))
    config = str(configure(tmp_path, secured, bundle, setup, names))
    texts = tmp_path / "texts.txt"
    texts.write_text("where is my parcel\n", encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str]:
        with Command(secured, tmp_path, *arguments, "--config", config) as command:
            return command.ended()

    code, output = run("topics", "create")
    assert (code, len(output.splitlines())) == (0, 3), output
    assert run("publish", str(texts)) == (
        1,
        "stream-classifier: topic orders: the principal lacks WRITE; give it that ACL\n",
    )
    secured.allow("operator", [(topic, "orders", AclOperation.WRITE)])
    code, output = run("publish", str(texts))
    assert (code, output) == (0, "published 1 record to orders\n")
    publish(secured, names._replace(input="orders.labelled"), b'{"text":"x"}')
    assert run("watch", "--json", "--from-beginning", "--count", "1") == (
        1,
        "stream-classifier: topic orders.labelled: the principal lacks READ; give it that ACL\n",
    )
    secured.allow("operator", [(topic, "orders.labelled", AclOperation.READ)])
    code, output = run("watch", "--json", "--from-beginning", "--count", "1")
    assert (code, output.splitlines()[-1]) == (0, '{"text":"x"}')


# Secrets --------------------------------------------------------------------------------------------------------------


def all_secrets(secured: SecuredCluster) -> dict[str, str]:
    """Properties that hold a secret each, or what should look like one, in their very text."""
    read = {name: (secured.directory / name).read_text(encoding="utf-8") for name in ("labeller.key", "labeller.crt")}
    return {
        "sasl.password": USERS["labeller"],
        "ssl.key.password": KEY_PASSWORD,
        "ssl.key.pem": read["labeller.key"],
        "ssl.certificate.pem": read["labeller.crt"],
        "sasl.oauthbearer.client.secret": USERS["scoped"],
    }


def given(way: str, directory: Path, held: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Properties and variables that hold these secrets."""
    if way == "variables":
        prefix = "STREAM_CLASSIFIER_KAFKA__CLIENT__"
        return {}, {f"{prefix}{name.replace('.', '_').upper()}": value for name, value in held.items()}
    if way == "settings":
        return dict(held), {}
    files = {}
    for name, value in held.items():
        path = directory / f"{name}.secret"
        path.write_text(value, encoding="utf-8")
        files[name] = {"file": str(path)}
    return files, {}


WITH_A_DEFECT = """
import stream_classifier.worker
from stream_classifier.cli import main

def fail(self):
    raise RuntimeError(f"{self._settings!r} {self._settings.kafka}")

stream_classifier.worker.Worker._step = fail
main()
"""


@pytest.mark.parametrize("way", ["settings", "files", "variables"])
def test_no_secret_is_printed(
    way: str,
    secured: SecuredCluster,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Given secrets of every kind, when everything that can print does so, then none of them is seen."""
    names = secured.make_stream()
    secured.allow("labeller", names.rights)
    held = all_secrets(secured)
    properties, variables = given(way, tmp_path, held)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    setup = Setup("plain", "SASL", {"sasl.password": None, "debug": "all"} | properties)
    config = str(configure(tmp_path, secured, bundle, setup, names))
    settings = load_settings(Path(config))
    assert {name: str(settings.kafka.client[name]).strip() for name in held} == {
        name: value.strip() for name, value in held.items()
    }
    assert_no_secret(secured, f"{settings!r} {settings} {settings.kafka!r}")
    with Command(secured, tmp_path, "--debug", "worker", "--config", config, variables=variables) as worker:
        assert cli.run(["--debug", "check", "--config", config]) == 0
        assert_labels(secured, names, worker)
        for page in ("/metrics", "/healthz"):
            assert_no_secret(secured, worker.page(page))
        worker.stop()
    shown = capfd.readouterr()
    assert_no_secret(secured, shown.out + shown.err)
    for output in (worker.output, shown.err):
        assert "sasl.password = [redacted]" in output, "the client's own lines were shown"


def test_no_secret_is_printed_when_a_worker_fails(secured: SecuredCluster, bundle: Path, tmp_path: Path) -> None:
    """Given a refusal, a defect and --debug, when the traceback is printed, then without secrets."""
    names = secured.make_stream()
    secured.allow("labeller", names.rights)
    setup = Setup("plain", "SASL", all_secrets(secured) | {"debug": "all"})
    wrong = setup._replace(changes={**setup.changes, "sasl.password": WRONG})
    config = str(configure(tmp_path, secured, bundle, setup, names))
    wrong_config = str(configure(tmp_path / "wrong", secured, bundle, wrong, names))
    with (
        Command(secured, tmp_path, "--debug", "worker", "--config", wrong_config) as refused_worker,
        Command(secured, tmp_path, "--debug", "worker", "--config", config, code=WITH_A_DEFECT) as defective,
    ):
        for command, event in ((refused_worker, "ended"), (defective, "ended by a defect")):
            code, output = command.ended()
            assert code == 1
            assert f'"event": "{event}"' in output
            assert "Traceback" in output


def test_no_secret_is_printed_of_settings_that_cannot_be_used(
    secured: SecuredCluster, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = secured.make_stream()
    key = all_secrets(secured)["ssl.key.pem"]
    certificate = all_secrets(secured)["ssl.certificate.pem"]
    unusable: list[dict[str, Any]] = [
        {"sasl.pasword": WRONG},
        {"sasl.password": [WRONG]},
        {"sasl.password": {"file": "here", "value": WRONG}},
        {"Sasl_Password": WRONG},
        {"security.protocol": WRONG},
        {"ssl.key.pem": key.replace("\n", " "), "ssl.certificate.pem": certificate},
        {"ssl.key.pem": key, "ssl.certificate.pem": certificate, "ssl.key.password": WRONG},
        {"ssl.ca.location": None, "ssl.ca.pem": key},
        {"ssl.certificate.pem": key},
    ]
    for number, changes in enumerate(unusable):
        config = configure(tmp_path / str(number), secured, bundle, Setup("plain", "SASL", changes), names)
        assert cli.run(["--debug", "check", "--config", str(config)]) in {1, 2}, changes
        shown = capfd.readouterr()
        assert_no_secret(secured, shown.out + shown.err)
        lines = (shown.out + shown.err).splitlines()
        assert len([line for line in lines if line.startswith(("PROBLEM ", "stream-classifier: "))]) == 1, lines


# A running client's errors, without waiting for them ------------------------------------------------------------------


def test_a_token_endpoint_that_is_away_is_not_for_good_and_one_that_refuses_is() -> None:
    away = "Failed to acquire SASL OAUTHBEARER token: Failed to connect to login.example"
    refusal = 'Failed to acquire SASL OAUTHBEARER token: {"error": "invalid_client"}'
    assert not is_permanent(ClientError(ClientError._AUTHENTICATION, away))
    assert is_permanent(ClientError(ClientError._AUTHENTICATION, refusal))
