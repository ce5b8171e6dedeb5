"""Settings from a file and the environment: what is taken, and what every refusal says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import ValidationError

from stream_classifier.errors import SettingsError
from stream_classifier.settings import RESERVED_PROPERTIES, Settings
from stream_classifier.settings_file import load_settings, setting_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_classifier.settings import KafkaSettings

SECRET = "hunter2-secret"  # noqa: S105 - what must not be seen anywhere
LEAST: dict[str, Any] = {
    "kafka": {"bootstrap_servers": "localhost:9092", "group_id": "g"},
    "input": {"topics": ["tickets"]},
    "output": {"topic": "tickets.labelled"},
    "dead_letter": {"topic": "tickets.dead-letter"},
    "labels": {"path": "labels.yaml"},
}


def document(**sections: dict[str, Any] | None) -> dict[str, Any]:
    """The least that is required, with some sections' keys over it."""
    merged = copy.deepcopy(LEAST)
    for name, keys in sections.items():
        merged[name] = None if keys is None else merged.get(name, {}) | keys
    return merged


REGISTRY = {"url": "https://registry.example:8081"}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    def load_it(content: object, **environment: str) -> Settings:
        file = tmp_path / "worker.yaml"
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        file.write_text(text, encoding="utf-8")
        return load_settings(file, {f"STREAM_CLASSIFIER_{name}": value for name, value in environment.items()})

    return load_it


@pytest.fixture
def refusal(load: Callable[..., Settings]) -> Callable[..., str]:
    """The message with which settings are refused; one line, and never a secret."""

    def refuse(content: object, **environment: str) -> str:
        with pytest.raises(SettingsError) as raised:
            load(content, **environment)
        message = str(raised.value)
        assert "\n" not in message
        assert SECRET not in message
        assert raised.value.exit_code == 2
        return message

    return refuse


def test_the_example_in_the_repository_can_be_loaded() -> None:
    settings = load_settings(Path(__file__).parents[1] / "config" / "worker.yaml", {})
    assert settings.labels.path.is_file()
    assert settings.input.topics == ("tickets",)


def test_only_what_is_required_need_be_there(load: Callable[..., Settings]) -> None:
    settings = load(document())
    assert settings.batch.max_events == 256
    assert settings.model.path is None
    assert settings.kafka.client == {}


def test_settings_are_frozen(load: Callable[..., Settings]) -> None:
    settings = load(document())
    with pytest.raises(ValidationError):
        settings.kafka.group_id = "other"  # type: ignore[misc]  # that it cannot be set is what is shown


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(kafka={"gruop_id": "g"}), "kafka.gruop_id is not a setting (did you mean kafka.group_id?)"),
        (document(bacth={"max_events": 1}), "bacth is not a setting (did you mean batch?)"),
        (document() | {"group_id": "g"}, "group_id is not a setting (did you mean kafka.group_id?)"),
        (document(output={"zzzzz": 1}), "output.zzzzz is not a setting"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_known_one_is_named(
    refusal: Callable[..., str], content: object, message: str
) -> None:
    assert refusal(content).endswith(message)


def test_every_problem_is_named_at_once(refusal: Callable[..., str]) -> None:
    content = document(
        kafka={"gruop_id": "g", "client": {"sasl.password": {"file": "nowhere"}, "acks": "1", "group.id": "x"}},
        batch={"max_events": 0, "max_wait_ms": "soon"},
        output={"topic": None},
        input={"topics": ["a b"], "format": "xml"},
    )
    del content["dead_letter"]
    message = refusal(content, MODEL__THREADS="many", NONSENSE="1")
    for part in (
        "kafka.gruop_id is not a setting",
        "kafka.client.sasl.password: its file cannot be read (No such file or directory)",
        "acks cannot be set here",
        "group.id cannot be set here: use kafka.group_id",
        "batch.max_events: Input should be greater than or equal to 1",
        "batch.max_wait_ms: Input should be a valid integer",
        "output.topic: Input should be a valid string",
        "input.topics.0: a topic's name is",
        "input.format: Input should be 'json', 'text', 'avro', 'protobuf', 'json_schema' or 'cloudevents'",
        "dead_letter.topic is required",
        "STREAM_CLASSIFIER_MODEL__THREADS: Input should be a valid integer",
        "STREAM_CLASSIFIER_NONSENSE: names no setting; write STREAM_CLASSIFIER_SECTION__KEY",
    ):
        assert part in message


@pytest.mark.parametrize("name", sorted(RESERVED_PROPERTIES))
@pytest.mark.parametrize("section", ["client", "consumer", "producer"])
def test_what_would_break_the_guarantees_is_refused_with_the_reason(
    refusal: Callable[..., str], name: str, section: str
) -> None:
    message = refusal(document(kafka={section: {name: SECRET}}))
    assert f"kafka.{section}: {name} cannot be set here: {RESERVED_PROPERTIES[name]}" in message


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"bootstrap_servers": "x"}, "bootstrap_servers is not the name of a librdkafka property"),
        ({"error_cb": "x"}, "error_cb is not the name of a librdkafka property"),
        ({"sasl.password": {"path": "x"}}, "sasl.password takes a string, a number, true or false, or {file: PATH}"),
        ({"ssl.ca.location": None}, "ssl.ca.location takes a string"),
        ({"batch.size": "64k"}, "batch.size takes a whole number"),
    ],
)
def test_what_librdkafka_could_not_take_is_refused(
    refusal: Callable[..., str], properties: dict[str, Any], message: str
) -> None:
    assert f"kafka.producer: {message}" in refusal(document(kafka={"producer": properties}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(output={"topic": "tickets"}), "tickets is both read and written"),
        (document(dead_letter={"topic": "tickets"}), "tickets is both read and written"),
        (document(dead_letter={"topic": "tickets.labelled"}), "output.topic and dead_letter.topic are the same"),
        (document(input={"topics": ["a", "a"]}), "input.topics: a topic is named twice"),
        (document(input={"topics": []}), "input.topics: Tuple should have at least 1 item"),
        (document(input={"topics": [".."]}), "input.topics.0: a topic's name is"),
        (document(input={"text_field": "a..b"}), "input.text_field: a dotted path names a member"),
        (document(output={"field": "text"}), "output.field is also the name of a field that is read"),
        (document(input={"text_field": "x.y"}, output={"field": "x"}), "output.field is also the name of a field"),
        (document(batch={"max_events": 9, "max_in_flight": 8}), "max_events is more than max_in_flight"),
        (document(batch={"timeout_seconds": float("inf")}), "batch.timeout_seconds: Input should be a finite number"),
        (document(shutdown={"drain_seconds": float("nan")}), "shutdown.drain_seconds: Input should be a finite number"),
        (document() | {"kafka": "localhost"}, "kafka takes keys of its own, each on a line below it"),
        (document(kafka={"client": ["ssl"]}), "kafka.client takes keys of its own"),
        (document(kafka=None), "kafka.bootstrap_servers is required; kafka.group_id is required"),
        (document() | {7: 8}, "7"),
    ],
)
def test_settings_that_do_not_fit_are_refused(refusal: Callable[..., str], content: object, message: str) -> None:
    assert message in refusal(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no settings; config/worker.yaml is an example"),
        ("# nothing yet\n", "holds no settings"),
        ("- a list\n", "holds no settings"),
        ("kafka:\n  group_id: [g\ninput: {}\n", ", line 3: is not YAML (expected ',' or ']', but got"),
        ("kafka:\n\tgroup_id: g\n", ", line 2: is not YAML (found character"),
        (
            "kafka: {group_id: a}\ninput: {}\nkafka: {group_id: b}\n",
            ", line 3: is not YAML (the same key stands twice)",
        ),
        ("kafka: 2024-13-45\n", "is not YAML"),
        ("[" * 5000, "is not YAML (malformed)"),
        ("kafka: \0\n", "is not YAML"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(refusal: Callable[..., str], text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml: cannot be read \(No such file or directory\)"):
        load_settings(tmp_path / "nowhere.yaml", {})
    with pytest.raises(SettingsError, match="Is a directory"):
        load_settings(tmp_path, {})
    (tmp_path / "latin.yaml").write_bytes(b"kafka: {group_id: caf\xe9}\n")
    with pytest.raises(SettingsError, match=r"latin\.yaml: is not UTF-8 text; save it as UTF-8"):
        load_settings(tmp_path / "latin.yaml", {})


def test_a_byte_order_mark_does_no_harm(load: Callable[..., Settings]) -> None:
    assert load("\ufeff" + yaml.safe_dump(document())) == load(document())


# What is commented out ------------------------------------------------------------------------------------------------


def test_sections_whose_keys_are_all_commented_out_mean_the_defaults(load: Callable[..., Settings]) -> None:
    settings = load(document(batch=None, kafka={"client": None, "producer": None}), BATCH__MAX_EVENTS="7")
    assert settings.batch.max_events == 7
    assert settings.kafka.client == settings.kafka.producer == {}


# The environment ------------------------------------------------------------------------------------------------------


def test_the_environment_goes_over_the_file(load: Callable[..., Settings]) -> None:
    settings = load(
        document(batch={"max_events": 9}, kafka={"client": {"security.protocol": "ssl", "client.id": "of the file"}}),
        KAFKA__GROUP_ID="007",
        KAFKA__INSTANCE_ID="42",
        KAFKA__CLIENT__SASL_PASSWORD="0042",  # noqa: S106 - a password of digits stays text
        KAFKA__CLIENT__SECURITY_PROTOCOL="sasl_ssl",
        KAFKA__CONSUMER="{fetch.min.bytes: 5}",
        INPUT__TOPICS="one, two",
        OUTPUT__OVERWRITE="true",
        BATCH__MAX_EVENTS="11",
        SHUTDOWN__DRAIN_SECONDS="1.5",
        MODEL__THREADS="null",
        LABELS__USE="",
    )
    assert settings.kafka.group_id == "007"
    assert settings.kafka.instance_id == "42"
    assert settings.kafka.client == {
        "security.protocol": "sasl_ssl",
        "client.id": "of the file",
        "sasl.password": "0042",
    }
    assert settings.kafka.consumer == {"fetch.min.bytes": 5}
    assert settings.input.topics == ("one", "two")
    assert settings.output.overwrite is True
    assert settings.batch.max_events == 11
    assert settings.shutdown.drain_seconds == 1.5
    assert settings.model.threads is None
    assert settings.labels.use is None


def test_every_setting_can_come_from_the_environment(load: Callable[..., Settings]) -> None:
    for name in setting_names():
        section, dot, key = name.partition(".")
        if not dot:
            continue
        variable = f"{section}__{key}".upper()
        try:
            settings = load(document(), **{variable: "[[]]"})
        except SettingsError as error:
            assert variable in str(error)  # noqa: PT017 - most settings cannot be this, and say so; the others are
        else:
            assert str(getattr(getattr(settings, section), key)) == "[[]]"


def test_topics_can_be_a_yaml_list_in_the_environment(load: Callable[..., Settings]) -> None:
    assert load(document(), INPUT__TOPICS='["one", "two"]').input.topics == ("one", "two")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KAFKA__GRUOP_ID", "g", "KAFKA__GRUOP_ID is not a setting (did you mean kafka.group_id?)"),
        ("KAFKA_GROUP_ID", "g", "KAFKA_GROUP_ID: names no setting"),
        ("OBSERVABILITY_PORT", "1", "OBSERVABILITY_PORT: names no setting"),
        ("BATCH__MAX__EVENTS", "1", "BATCH__MAX__EVENTS: names no setting"),
        ("BATCH__MAX_EVENTS", "{", "BATCH__MAX_EVENTS: holds no value that YAML can read"),
        ("BATCH__MAX_EVENTS", "2024-13-45", "BATCH__MAX_EVENTS: holds no value that YAML can read"),
        ("BATCH__MAX_EVENTS", SECRET, "BATCH__MAX_EVENTS: Input should be a valid integer"),
        ("KAFKA__CLIENT", SECRET, "KAFKA__CLIENT takes keys of its own"),
        ("KAFKA__CLIENT__ACKS", "0", "kafka.client: acks cannot be set here"),
    ],
)
def test_a_variable_that_sets_nothing_is_named(
    refusal: Callable[..., str], name: str, value: str, message: str
) -> None:
    assert message in refusal(document(), **{name: value})


def test_what_kubernetes_says_of_a_service_with_our_name_is_no_setting(load: Callable[..., Settings]) -> None:
    settings = load(
        document(),
        SERVICE_HOST="10.0.0.7",
        SERVICE_PORT="9108",
        SERVICE_PORT_METRICS="9108",
        PORT="tcp://10.0.0.7:9108",
        PORT_9108_TCP="tcp://10.0.0.7:9108",
        PORT_9108_TCP_PROTO="tcp",
        PORT_9108_TCP_PORT="9108",
        PORT_9108_TCP_ADDR="10.0.0.7",
        CANARY_SERVICE_HOST="10.0.0.8",
    )
    assert settings == load(document())


# Paths and secrets ----------------------------------------------------------------------------------------------------


def test_relative_paths_are_relative_to_the_file_that_names_them(
    load: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    settings = load(document(labels={"path": "sets/support.yaml"}, model={"path": "/models/mine"}))
    assert settings.labels.path == tmp_path / "sets" / "support.yaml"
    assert settings.model.path == Path("/models/mine")


def test_relative_paths_in_the_environment_are_relative_to_the_working_directory(
    load: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    settings = load(document(), LABELS__PATH="sets/support.yaml", MODEL__PATH="~/models/mine")
    assert settings.labels.path == Path("sets/support.yaml")
    assert settings.model.path == Path("/home/somebody/models/mine")
    assert load(document(), LABELS__PATH="~nobody-of-that-name/x").labels.path == Path("~nobody-of-that-name/x")
    assert load(document()).labels.path == tmp_path / "labels.yaml"


def test_a_secret_is_read_from_its_file_without_the_line_end(load: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    kafka = load(document(kafka={"client": {"sasl.password": {"file": "password"}}})).kafka
    assert kafka.client == {"sasl.password": SECRET}


def test_the_registrys_secret_is_read_from_its_file(
    load: Callable[..., Settings], refusal: Callable[..., str], tmp_path: Path
) -> None:
    client = {"basic.auth.user.info": {"file": "registry"}}
    content = document(input={"format": "avro"}, schema_registry=REGISTRY | {"client": client})
    assert "schema_registry.client.basic.auth.user.info: its file cannot be read" in refusal(content)
    (tmp_path / "registry").write_text(f"name:{SECRET}\n")
    settings = load(content)
    assert settings.schema_registry is not None
    assert settings.schema_registry.client["basic.auth.user.info"] == f"name:{SECRET}"
    assert SECRET not in repr(settings)
    settings = load(content, SCHEMA_REGISTRY__CLIENT__BASIC_AUTH_USER_INFO="123")
    assert settings.schema_registry is not None
    assert settings.schema_registry.client["basic.auth.user.info"] == "123"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"input": {"format": "avro"}}, "input.format: avro needs schema_registry.url"),
        ({"input": {"format": "avro"}, "schema_registry": {}}, "schema_registry.url is required"),
        ({"input": {"format": "json_schema"}, "schema_registry": {"url": "registry:8081"}}, "schema_registry.url: "),
        (
            {"input": {"format": "protobuf"}, "schema_registry": REGISTRY, "output": {"overwrite": True}},
            "output.overwrite cannot be used with input.format: protobuf",
        ),
        (
            {"input": {"format": "avro"}, "schema_registry": REGISTRY, "output": {"field": "my-class"}},
            "output.field is no name that avro takes",
        ),
    ],
)
def test_formats_that_cannot_be_used(refusal: Callable[..., str], sections: dict[str, Any], message: str) -> None:
    assert message in refusal(document(**sections))


def test_a_secret_file_that_the_environment_makes_needless_need_not_be_there(load: Callable[..., Settings]) -> None:
    content = document(kafka={"client": {"sasl.password": {"file": "nowhere"}}})
    assert load(content, KAFKA__CLIENT__SASL_PASSWORD=SECRET).kafka.client == {"sasl.password": SECRET}


def test_a_secret_file_that_is_no_text_is_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe" + SECRET.encode())
    message = refusal(document(kafka={"client": {"sasl.password": {"file": "password"}}}))
    assert "kafka.client.sasl.password: its file cannot be read (not UTF-8 text)" in message


def test_secrets_are_not_in_the_repr(load: Callable[..., Settings]) -> None:
    secret = {"sasl.password": SECRET}
    settings = load(document(kafka={"client": secret, "consumer": secret, "producer": secret}))
    kafka: KafkaSettings = settings.kafka
    assert SECRET not in repr(settings) + str(settings) + repr(kafka) + f"{kafka}"


@pytest.mark.parametrize("value", [f"*{SECRET}", f"!{SECRET}", f"&{SECRET} &{SECRET} x", f"'{SECRET}", f"@{SECRET}"])
def test_an_unquoted_password_that_breaks_the_yaml_is_not_quoted_in_the_error(
    refusal: Callable[..., str], value: str
) -> None:
    # `refusal` itself sees to it that the secret is not in the message.
    message = refusal(f"kafka:\n  client:\n    sasl.password: {value}\n")
    assert ", line" in message
    assert "is not YAML" in message


def test_secrets_are_not_in_errors_about_their_neighbours(refusal: Callable[..., str]) -> None:
    refusal(document(kafka={"client": {"sasl.password": SECRET, "ssl.key.password": [SECRET]}}))
    refusal(document(kafka={"client": {"sasl.password": SECRET, "acks": 1}}))
    refusal(document(kafka={"client": SECRET}))
    refusal(document(kafka={"bootstrap_servers": [SECRET]}))


# The model ------------------------------------------------------------------------------------------------------------


def test_a_cascade_needs_no_more_than_a_path_which_is_relative_to_the_file(
    load: Callable[..., Settings], tmp_path: Path
) -> None:
    assert load(document()).model.cascade is None
    cascade = load(document(model={"cascade": {"path": "models/nli"}})).model.cascade
    assert cascade is not None
    assert (cascade.path, cascade.top_k, cascade.margin) == (tmp_path / "models/nli", 5, 0.2)


def test_a_cascade_from_the_environment(load: Callable[..., Settings]) -> None:
    content = document(model={"cascade": {"path": "models/nli", "top_k": 3}})
    cascade = load(content, MODEL__CASCADE="{path: other, margin: 0.4}").model.cascade
    assert cascade is not None
    assert (cascade.path, cascade.top_k, cascade.margin) == (Path("other"), 3, 0.4)
    assert load(content, MODEL__CASCADE="null").model.cascade is None


@pytest.mark.parametrize(
    ("cascade", "problem"),
    [
        ({}, "model.cascade.path is required"),
        ("nli", "model.cascade takes keys of its own, each on a line below it"),
        ({"path": "nli", "topk": 5}, "model.cascade.topk is not a setting (did you mean model.cascade.top_k?)"),
        ({"path": "nli", "top_k": 1}, "model.cascade.top_k: Input should be greater than or equal to 2"),
        ({"path": "nli", "margin": 2}, "model.cascade.margin: Input should be less than or equal to 1"),
    ],
)
def test_a_cascade_that_cannot_be_used(refusal: Callable[..., str], cascade: object, problem: str) -> None:
    assert problem in refusal(document(model={"cascade": cascade}))


def test_what_is_wrong_with_a_cascade_from_the_environment_names_the_variable(refusal: Callable[..., str]) -> None:
    message = refusal(document(), MODEL__CASCADE="{top_k: 1}")
    assert "STREAM_CLASSIFIER_MODEL__CASCADE, path is required" in message
    assert "STREAM_CLASSIFIER_MODEL__CASCADE, top_k: Input should be greater than or equal to 2" in message
