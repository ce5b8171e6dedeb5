"""The one settings schema: frozen, documented, and refusing what it does not know.

The table in docs/configuration.md is generated from this file and checked by a test, so a description here is
documentation. `settings_file` reads a file and the environment into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# librdkafka properties that the guarantees rest on, and the one place where each can be chosen instead.
RESERVED_PROPERTIES = {
    "acks": "results are acknowledged by all in-sync replicas",
    "allow.auto.create.topics": "a typing error must not create a topic",
    "auto.commit.interval.ms": "use kafka.commit_interval_ms",
    "auto.offset.reset": "use input.start_at and input.on_gap",
    "bootstrap.servers": "use kafka.bootstrap_servers",
    "delivery.report.only.error": "the worker goes by these reports",
    "enable.auto.commit": "offsets are committed only after the result was acknowledged",
    "enable.auto.offset.store": "offsets are committed only after the result was acknowledged",
    "enable.gapless.guarantee": "it stops the producer where this worker would produce again",
    "enable.idempotence": "it keeps the order of a partition's events",
    "enable.partition.eof": "the worker follows the end of each partition by it",
    "group.id": "use kafka.group_id",
    "group.instance.id": "use kafka.instance_id",
    "group.protocol": "use kafka.group_protocol",
    "isolation.level": "events of aborted transactions must not be labelled",
    "max.in.flight": "it keeps the order of a partition's events",
    "max.in.flight.requests.per.connection": "it keeps the order of a partition's events",
    "metadata.broker.list": "use kafka.bootstrap_servers",
    "partition.assignment.strategy": "use kafka.group_protocol",
    "partitioner": "the same key must go to the same partition number as in Java clients",
    "request.required.acks": "results are acknowledged by all in-sync replicas",
    "transactional.id": "use delivery: exactly_once, and kafka.instance_id",
}

# An open transaction of a worker that died holds up everybody who reads committed records for so long.
TRANSACTION_TIMEOUT_MS = 15_000
_CALCULATED_WITH = frozenset({"batch.size", "transaction.timeout.ms"})


def _properties(value: Any) -> Any:  # noqa: ANN401 - whatever stood in the file
    if not isinstance(value, Mapping):
        return value
    problems = []
    for name, item in value.items():
        if reason := RESERVED_PROPERTIES.get(str(name)):
            problems.append(f"{name} cannot be set here: {reason}")
        elif not isinstance(name, str) or not re.fullmatch(r"[a-z0-9.]+", name):
            # This keeps out the client's callbacks, too: error_cb and the like.
            problems.append(f"{name} is not the name of a librdkafka property: they have small letters and dots")
        elif not isinstance(item, str | int | float):
            problems.append(f"{name} takes a string, a number, true or false, or {{file: PATH}}")
        elif name in _CALCULATED_WITH and not str(item).isdecimal():
            problems.append(f"{name} takes a whole number")
    if problems:
        raise ValueError("; ".join(problems))
    return value


def _topic_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in {".", ".."}:
        raise ValueError("a topic's name is 1 to 249 of the letters a-z and A-Z, digits, and . _ -")
    return name


def _field_path(path: str) -> str:
    if not all(path.split(".")):
        raise ValueError("a dotted path names a member, and a member of that one, and so on: no part of it is empty")
    return path


# Not shown by repr(): they hold passwords and keys.
Properties = Annotated[dict[str, str | int | float | bool], BeforeValidator(_properties), Field(repr=False)]
FieldPath = Annotated[str, AfterValidator(_field_path)]
TopicName = Annotated[str, AfterValidator(_topic_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def keys_of(field: FieldInfo) -> dict[str, FieldInfo]:
    """The settings inside a section, which may be one that can be left out; none of a field that is no section."""
    for schema in (field.annotation, *get_args(field.annotation)):
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            return schema.model_fields
    return {}


class KafkaSettings(_Section):
    """Where Kafka is, and who this worker is to it."""

    bootstrap_servers: str = Field(min_length=1, description="`host:port` of one or more brokers, with commas between.")
    group_id: str = Field(min_length=1, description="The consumer group; workers with the same one share the work.")
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic",
        description="`classic` rebalances cooperatively on any broker; `consumer` is KIP-848's (brokers 4.0 or newer).",
    )
    instance_id: str | None = Field(
        None,
        min_length=1,
        description="A stable name of this worker: static membership, so a quick restart moves no partition, and with "
        "`delivery: exactly_once` the name by which it ends what an earlier life of it left open.",
    )
    commit_interval_ms: int | None = Field(
        None,
        ge=10,
        le=60_000,
        description="How often offsets are committed, at the latest. `null`: 1000, or 100 with "
        "`delivery: exactly_once`, where results can be seen only from then on.",
    )
    client: Properties = Field(
        default_factory=dict,
        description="Any librdkafka property, for all clients: security, say. A secret can be `{file: PATH}`. "
        "Properties that the guarantees rest on are refused.",
    )
    consumer: Properties = Field(default_factory=dict, description="librdkafka properties of the consumer only.")
    producer: Properties = Field(default_factory=dict, description="librdkafka properties of the producer only.")


class InputSettings(_Section):
    """What is read, and where the text is in it."""

    topics: tuple[TopicName, ...] = Field(min_length=1, description="The topics to label.")
    start_at: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a partition starts for which the group has no committed offset."
    )
    on_gap: Literal["stop", "continue"] = Field(
        "stop",
        description="When retention deleted events before they were labelled: end and name the gap, or count it and "
        "go on.",
    )
    text_field: FieldPath = Field("text", description="Dotted path of the text in the event.")
    labels_field: FieldPath = Field("labels", description="Dotted path of an event's own labels, which are optional.")
    format: Literal["json", "text", "avro", "protobuf", "json_schema", "cloudevents"] = Field(
        "json",
        description='`text`: the whole value is the text, and `{"text": ..., "classification": ...}` is written. '
        "`avro`, `protobuf`, `json_schema`: with a schema of `schema_registry`. See docs/formats.md.",
    )
    max_text_bytes: int = Field(
        100_000, ge=1, description="A longer text, in bytes of UTF-8, is refused: `text_too_large`."
    )
    tombstones: Literal["dead_letter", "pass_through"] = Field(
        "dead_letter", description="What happens to records without a value."
    )

    @field_validator("topics")
    @classmethod
    def _distinct(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(topics)) != len(topics):
            raise ValueError("a topic is named twice")
        return topics


class OutputSettings(_Section):
    """Where labelled events go, and how they look."""

    topic: TopicName = Field(description="The topic of labelled events.")
    field: str = Field("classification", min_length=1, description="The member that is added to each event.")
    overwrite: bool = Field(
        False, description="Replace a member of that name which an event already has, instead of refusing the event."
    )
    top_k: int = Field(5, ge=1, description="How many labels are listed with their scores (single-label sets).")
    format: Literal["same", "json"] = Field(
        "same", description="`json`: events that have a schema are written as JSON, without it. `same`: as they came."
    )
    cloudevents_type: str | None = Field(
        None, min_length=1, description="The `type` of labelled CloudEvents. `null`: as it came."
    )
    cloudevents_source: str | None = Field(
        None,
        min_length=1,
        description="The `source` of labelled CloudEvents, for readers who must not take one for the event that came "
        "in. `null`: as it came.",
    )


class DeadLetterSettings(_Section):
    """Where refused events go."""

    topic: TopicName = Field(description="The topic of refused events, with their original bytes.")
    stop_above: float = Field(
        0.5,
        gt=0,
        le=1,
        description="When more than this share of the last 1,000 events was refused, the worker stops instead of "
        "moving a whole topic aside. `1` never stops.",
    )


class BatchSettings(_Section):
    """How events are gathered for the model, and how much may be under way."""

    max_events: int = Field(256, ge=1, le=100_000, description="Events in one window at most.")
    max_wait_ms: int = Field(
        20, ge=0, le=60_000, description="How long a window may go on filling while an inference thread is idle."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Padded tokens of one model run inside a window. `null`: 512 on a CPU, 16384 on a GPU."
    )
    max_in_flight: int = Field(
        4096,
        ge=1,
        description="Events polled and not yet acknowledged, at most; with `delivery: exactly_once`, as many again may "
        "wait for their transaction.",
    )
    max_in_flight_bytes: int = Field(64_000_000, ge=1, description="The same bound in bytes.")
    timeout_seconds: float = Field(
        60, gt=0, description="A window that the model has had for longer than this ends the process (exit 1)."
    )

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.max_events > self.max_in_flight:
            raise ValueError("max_events is more than max_in_flight: such a window could never fill")
        return self


class CascadeSettings(_Section):
    """A second model, which decides where the first is in doubt."""

    path: Path = Field(description="Directory of a model bundle of entailment.")
    top_k: int = Field(5, ge=2, description="How many labels of a text it is asked about, at most: the best ones.")
    margin: float = Field(
        0.2,
        ge=0,
        le=1,
        description="It is asked where the best two scores are no further apart, or in a multi-label set where a score "
        "is no further from its threshold. `1`: always.",
    )


class ModelSettings(_Section):
    """Which model, and on what it runs."""

    path: Path | None = Field(
        None, description="Directory of a model bundle. `null`: the embedded multilingual default."
    )
    cascade: CascadeSettings | None = Field(
        None,
        description="A model of entailment that decides where the one at `model.path`, of similarity, is in doubt. "
        "`null`: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="`cuda`: NVIDIA GPUs, or an error. `auto`: these where they can be used and the bundle is in "
        "float, else the CPU.",
    )
    device_ids: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="Numbers of the GPUs; each gets a copy of the model."
    )
    device_memory_mib: int | None = Field(
        None, ge=64, description="Memory that a copy may take on its GPU. `null`: all that there is."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Inference threads. `null`: as many as this process has cores; on GPUs three for each, so that one "
        "has the next batch when another is done.",
    )
    max_length: int | None = Field(
        None,
        ge=8,
        description="Tokens that are read of a text, or of a text and a label together, at most. `null`: as many as "
        "the model can.",
    )


class LabelsSettings(_Section):
    """Which labels."""

    path: Path = Field(description="A label set (YAML), or a directory of them.")
    use: str | None = Field(None, description="The set's name, where the directory has several.")


class CacheSettings(_Section):
    """What is remembered, so that it is not computed again."""

    label_sets: int = Field(
        256, ge=1, description="Label sets whose embeddings or tokens are kept, ad-hoc ones included."
    )
    results: int = Field(10_000, ge=0, description="Results that are kept for repeated texts. `0`: none.")


class ObservabilitySettings(_Section):
    """Metrics, health, logs and traces."""

    host: str = Field("127.0.0.1", description="Address that serves /metrics, /healthz and /readyz.")
    port: int = Field(9108, ge=0, le=65_535, description="Its port. `0`: any free one, which the log names.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    tracing: bool = Field(
        False,
        description="Send OpenTelemetry spans, by OTLP over HTTP, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says "
        "(docs/tracing.md). Takes the extra `otel`.",
    )
    tracing_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The share of the events without a `traceparent` that are followed. Of those that have one, all "
        "are that it says are sampled.",
    )


class ShutdownSettings(_Section):
    """How the worker ends."""

    drain_seconds: float = Field(
        25,
        gt=0,
        description="How long the events that the model has may take when the worker stops or loses partitions.",
    )


class SchemaRegistrySettings(_Section):
    """Where the schemas of events are."""

    url: str = Field(
        pattern=r"^https?://", description="`https://host:port` of the schema registry, or several with commas between."
    )
    client: Properties = Field(
        default_factory=dict,
        description="Any property of confluent-kafka's schema registry client: `basic.auth.user.info`, "
        "`ssl.ca.location`. A secret can be `{file: PATH}`.",
    )
    auto_register: bool = Field(
        True, description="Register the schemas of labelled events. `false`: they have to be there already."
    )
    schemas: int = Field(1000, ge=1, description="How many schemas are kept in memory.")
    give_up_seconds: float = Field(
        300, gt=0, description="How long the registry is asked again before the worker ends (exit 1)."
    )


def _key_hashes(keys: dict[str, str]) -> dict[str, str]:
    for name, digest in keys.items():
        if not name.strip() or not name.isprintable():
            raise ValueError("a key's name is not blank and has no control characters")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError(
                f"{name} takes the hash that `stream-classifier gateway-key` prints: 64 hexadecimal digits"
            )
    return keys


def _origin(origin: str) -> str:
    if not re.fullmatch(r"https?://[^/\s*]+", origin):
        raise ValueError("an origin is https://HOST or https://HOST:PORT, with no path and no *")
    return origin


class GatewaySettings(_Section):
    """What `stream-classifier gateway` serves, to whom, and how much at once."""

    host: str = Field("127.0.0.1", description="Address at which the gateway listens.")
    port: int = Field(8080, ge=0, le=65_535, description="Its port. `0`: any free one, which the log names.")
    max_in_flight: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Requests of one text that are under way at most. Over it they are answered with 503 at once.",
    )
    max_wait_ms: int = Field(
        2,
        ge=0,
        le=60_000,
        description="How long the gateway's window may go on filling while an inference thread is idle.",
    )
    deadline_seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="How long a request may take. After it, it is answered with 504, and not computed if it still "
        "waits.",
    )
    retry_after_seconds: int = Field(
        1, ge=1, le=3600, description="When to come again, as a refusal for too much load says in `Retry-After`."
    )
    request_bytes: int = Field(
        250_000,
        ge=1000,
        le=100_000_000,
        description="A larger request, or line of a stream, is refused: 413. The memory that requests take is up to "
        "`gateway.max_in_flight` times this.",
    )
    streams: int = Field(
        8, ge=1, le=10_000, description="Requests to `/classify/stream` that are under way at most, else 503."
    )
    stream_lines: int = Field(
        32,
        ge=1,
        le=100_000,
        description="Lines of one stream that are read and not yet answered at most. Over it, it is not read on.",
    )
    top_k: int = Field(20, ge=1, description="How many labels are listed with their scores (single-label sets).")
    keys: Annotated[dict[str, str], AfterValidator(_key_hashes)] = Field(
        default_factory=dict,
        description="For each client's name the SHA-256 of its key; `stream-classifier gateway-key` makes one. None: "
        "everybody is let in.",
    )
    key_requests_per_second: float | None = Field(
        None,
        gt=0,
        description="Requests, and lines of streams, that one key may have a second on average. `null`: any number.",
    )
    key_burst: int = Field(20, ge=1, description="How many of them at once, after a pause.")
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        (), description="Origins whose pages may call the gateway from a browser: `https://app.example`."
    )


WITH_SCHEMA = frozenset({"avro", "protobuf", "json_schema"})


class Settings(_Section):
    """Everything that can be set."""

    kafka: KafkaSettings
    input: InputSettings
    output: OutputSettings
    dead_letter: DeadLetterSettings
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once",
        description="`exactly_once`: results, dead letters and offsets are written in transactions; readers have to "
        "set `isolation.level: read_committed`.",
    )
    batch: BatchSettings = BatchSettings()
    model: ModelSettings = ModelSettings()
    labels: LabelsSettings
    schema_registry: SchemaRegistrySettings | None = None
    cache: CacheSettings = CacheSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    gateway: GatewaySettings = GatewaySettings()

    @property
    def transaction_seconds(self) -> float:
        """Seconds after which the broker aborts a transaction that is not committed."""
        properties = {**self.kafka.client, **self.kafka.producer}
        return int(properties.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)) / 1000

    @property
    def commit_seconds(self) -> float:
        """Seconds between commits."""
        return (self.kafka.commit_interval_ms or (100 if self.delivery == "exactly_once" else 1000)) / 1000

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        targets = [self.output.topic, self.dead_letter.topic]
        if targets[0] == targets[1]:
            raise ValueError("output.topic and dead_letter.topic are the same")
        if shared := sorted(set(targets) & set(self.input.topics)):
            raise ValueError(f"{shared[0]} is both read and written: its events would come round for ever")
        if self.delivery == "exactly_once" and self.commit_seconds > self.transaction_seconds / 3:
            raise ValueError(
                "kafka.commit_interval_ms is more than a third of kafka.producer's transaction.timeout.ms "
                f"({1000 * self.transaction_seconds:g}): transactions would run out of time"
            )
        if self.output.field in {path.partition(".")[0] for path in (self.input.text_field, self.input.labels_field)}:
            raise ValueError("output.field is also the name of a field that is read")
        return self

    @model_validator(mode="after")
    def _format_fits(self) -> Self:
        form, field = self.input.format, self.output.field
        if form in WITH_SCHEMA and self.schema_registry is None:
            raise ValueError(f"input.format: {form} needs schema_registry.url")
        if form in {"avro", "protobuf"} and self.output.format == "same":
            if self.output.overwrite:
                raise ValueError(
                    f"output.overwrite cannot be used with input.format: {form}, but with output.format: json"
                )
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", field):
                raise ValueError(f"output.field is no name that {form} takes: letters, digits and _ only")
        return self
