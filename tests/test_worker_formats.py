"""Events in other formats than plain JSON through the worker on a real broker."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import tiny_bundle
import yaml
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from schema_case import CONF
from schema_registry import SchemaRegistry
from stream import Stream, header, offsets_are_in_order
from test_schema_forms import OBJECT, TICKET, class_of, proto

from stream_classifier.cli import run
from stream_classifier.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker import MakeTopic

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- test: (\w+) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL))
UNKNOWN = b"\0\x7f\xff\xff\xf0\0abcde"  # in Protobuf, the zero is the first message
TEXTS = ("where is my parcel", "money refund")
LABELS = ["delivery", "refund"]


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as registry:
        yield registry


@pytest.fixture
def client(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.build(tmp_path / "bundle")


def example(name: str, url: str) -> dict[str, dict[str, Any]]:
    """Settings of docs/formats.md, with the registry of the test."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(EXAMPLES[name])
    if "schema_registry" in found:
        found["schema_registry"] = {"url": url}
    return found


def serializer(form: str, client: SchemaRegistryClient) -> Any:
    if form == "avro":
        return AvroSerializer(client, json.dumps(TICKET), conf=CONF)
    if form == "json_schema":
        return JSONSerializer(json.dumps(OBJECT), client, conf=CONF)
    return ProtobufSerializer(proto(), client, CONF | {"skip.known.types": True})


def event(form: str, number: int, text: str) -> Any:
    if form == "protobuf":
        return proto()(id=number, text=text)
    return {"id": number, "text": text} if form == "avro" else {"n": number, "text": text}


def read(form: str, client: SchemaRegistryClient, topic: str, value: bytes | None) -> tuple[str, str]:
    """The text and the label of a labelled event."""
    context = SerializationContext(topic, MessageField.VALUE)
    if form == "protobuf":
        latest = client.get_latest_version(f"{topic}-value", "serialized")
        message = class_of(latest.schema.schema_str or "", "shop.Outer.Ticket").FromString((value or b"")[8:])
        return message.text, message.classification.label
    reads: Any = (
        AvroDeserializer(client, conf=CONF)
        if form == "avro"
        else JSONDeserializer(None, schema_registry_client=client, conf=CONF)
    )
    found = reads(value, context)
    return found["text"], found["classification"]["label"]


@pytest.mark.parametrize("form", ["avro", "protobuf", "json_schema"])
def test_events_with_a_schema_are_labelled_and_a_wrong_id_is_put_aside(
    bootstrap_servers: str,
    make_topic: MakeTopic,
    tmp_path: Path,
    bundle: Path,
    delivery: str,
    form: str,
    registry: SchemaRegistry,
    client: SchemaRegistryClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = example(form, registry.url)
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=changes)
    published = int(time.time() * 1000) - 3_600_000  # no older: the broker deletes what is past its retention
    write = serializer(form, client)
    context = SerializationContext(stream.input, MessageField.VALUE)
    values = [write(event(form, number, text), context) for number, text in enumerate(TEXTS)]
    stream.publish(values[0], UNKNOWN, values[1], key=b"its key", headers=[("tenant", b"7")], timestamp=published)
    stream.run(3)
    assert [read(form, client, stream.output, record.value) for record in stream.labelled] == list(
        zip(TEXTS, LABELS, strict=True)
    )
    for record in stream.labelled:
        assert record.key == b"its key"
        assert record.timestamp == published
        assert header(record, "tenant") == b"7"
    (letter,) = stream.dead_letters
    assert letter.value == UNKNOWN
    assert header(letter, "classifier-error-code") == b"schema_unknown"
    assert stream.committed() == {0: 3}

    config = str(stream.config)
    capsys.readouterr()
    assert run(["check", "--config", config]) == 0
    assert "ok       schema registry" in capsys.readouterr().out
    assert run(["watch", "--config", config, "--from-beginning", "--count", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for line, text, label in zip(shown, TEXTS, LABELS, strict=True):
        assert re.fullmatch(rf"\d\.\d\d {label} +{text}", line)
    assert run(["watch", "--config", config, "--from-beginning", "--count", "1", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["classification"]["label"] == "delivery"
    assert run(["publish", "-", "--config", config]) == 2
    assert "take a producer" in capsys.readouterr().err


def test_events_with_a_schema_can_be_written_as_json(
    bootstrap_servers: str,
    make_topic: MakeTopic,
    tmp_path: Path,
    bundle: Path,
    delivery: str,
    registry: SchemaRegistry,
    client: SchemaRegistryClient,
) -> None:
    changes = example("avro_as_json", registry.url)
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=changes)
    context = SerializationContext(stream.input, MessageField.VALUE)
    stream.publish(serializer("avro", client)({"id": 7, "text": TEXTS[1]}, context))
    stream.run(1)
    (record,) = stream.labelled
    event = orjson.loads(record.value or b"")
    assert (event["id"], event["text"], event["classification"]["label"]) == (7, TEXTS[1], "refund")


def test_check_tells_of_a_registry_that_does_not_answer_or_lacks_a_subject(
    bootstrap_servers: str,
    make_topic: MakeTopic,
    tmp_path: Path,
    bundle: Path,
    registry: SchemaRegistry,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = registry.url.replace("//", "//name:a-password@")
    (tmp_path / "registry-secret").write_text("name:a-password")
    changes: dict[str, dict[str, Any]] = {
        "input": {"format": "avro"},
        "schema_registry": {"url": registry.url, "client": {"basic.auth.user.info": {"file": "registry-secret"}}},
    }
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, settings=changes)
    registry.down = 401
    assert run(["check", "--config", str(stream.config)]) == 1
    shown = capsys.readouterr()
    assert re.search(r"PROBLEM  schema registry: .* answers HTTP 401", shown.out)

    changes["schema_registry"] = {"url": url, "auto_register": False}
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, settings=changes)
    assert run(["check", "--config", str(stream.config)]) == 1
    told = capsys.readouterr()
    registry.down = None
    assert run(["check", "--config", str(stream.config)]) == 1
    lacking = capsys.readouterr()
    assert f"PROBLEM  schema registry: the registry has no subject {stream.output}-value" in lacking.out
    assert "a-password" not in "".join((*shown, *told, *lacking))


@pytest.mark.both_modes
def test_nothing_is_lost_while_the_registry_is_down(
    bootstrap_servers: str,
    make_topic: MakeTopic,
    tmp_path: Path,
    bundle: Path,
    delivery: str,
    registry: SchemaRegistry,
    client: SchemaRegistryClient,
) -> None:
    """Given a registry that does not answer, then the worker waits, says so, and labels all in order afterwards."""
    changes: dict[str, dict[str, Any]] = {
        "input": {"format": "avro"},
        "schema_registry": {"url": registry.url},
        "batch": {"max_events": 8, "max_in_flight": 16},  # fewer than there are events
    }
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=changes)
    write, context = serializer("avro", client), SerializationContext(stream.input, MessageField.VALUE)
    values = [write({"id": number, "text": TEXTS[number % 2]}, context) for number in range(40)]
    registry.down = 503
    stream.publish(*values)
    with stream.worker() as running:
        running.until(lambda: running.metric("retries_total", cause="schema_registry") >= 2, "it asks again")
        running.until(lambda: "HTTP 503" in str(running.health.ready()), "it says that it is not ready")
        assert running.health.alive(0) is None
        assert not stream.labelled
        assert not stream.dead_letters
        registry.down = None
        stream.await_outcomes(40, running.check)
        running.until(lambda: running.health.ready() is None, "it is ready again")
    assert not stream.dead_letters
    labelled = stream.labelled
    assert [read("avro", client, stream.output, one.value)[1] for one in labelled] == LABELS * 20
    assert offsets_are_in_order(labelled)
    assert stream.committed() == {0: 40}


def test_a_registry_that_stays_away_ends_the_worker(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str, registry: SchemaRegistry
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "input": {"format": "avro"},
        "schema_registry": {"url": registry.url, "give_up_seconds": 0.3},
    }
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=changes)
    registry.down = 401
    stream.publish(UNKNOWN)
    with stream.worker() as running:
        error = running.ends_with()
    assert isinstance(error, RegistryError)
    assert "HTTP 401" in str(error)
    assert not stream.dead_letters
    assert stream.committed().get(0, 0) == 0


def test_a_worker_stops_while_the_registry_is_down(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str, registry: SchemaRegistry
) -> None:
    changes: dict[str, dict[str, Any]] = {"input": {"format": "avro"}, "schema_registry": {"url": registry.url}}
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=changes)
    registry.down = 503
    stream.publish(UNKNOWN)
    with stream.worker() as running:
        running.until(lambda: running.metric("retries_total", cause="schema_registry") >= 1, "it asks again")
    assert stream.committed().get(0, 0) == 0
    registry.down = None
    stream.run(1)
    assert len(stream.dead_letters) == 1


BINARY = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"ticket.opened"),
    ("content-type", b"application/json"),
]
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
EVENT = b'{"specversion":"1.0","id":"2","source":"/shop","type":"ticket.opened", "data" : { "text":"money refund" } }'


def test_cloudevents_of_both_modes_are_labelled(
    bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    changes = example("cloudevents", "")
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle, delivery=delivery, settings=changes)
    stream.publish(b'{"text":"where is my parcel"}', headers=list(BINARY))
    stream.publish(EVENT, headers=list(STRUCTURED))
    stream.publish(b'{"text":"where is my parcel"}', headers=list(BINARY[1:]))
    stream.run(3)
    binary, structured = stream.labelled
    assert orjson.loads(binary.value or b"")["classification"]["label"] == "delivery"
    headers = dict(binary.headers or [])
    assert (headers["ce_id"], headers["content-type"]) == (b"1", b"application/json")
    assert (headers["ce_type"], headers["ce_source"]) == (b"com.example.ticket.labelled", b"/stream-classifier")
    event = orjson.loads(structured.value or b"")
    assert event["data"]["classification"]["label"] == "refund"
    assert (event["id"], event["type"]) == ("2", "com.example.ticket.labelled")
    assert (structured.headers or [])[:1] == STRUCTURED
    (letter,) = stream.dead_letters
    assert header(letter, "classifier-error-code") == b"cloudevent_invalid"
    assert letter.value == b'{"text":"where is my parcel"}'
