"""librdkafka's properties for each client, from the settings, and its errors in our words."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import KafkaError as ClientError

from stream_classifier import __version__
from stream_classifier.errors import KafkaError, SettingsError
from stream_classifier.kafka.credentials import distrust, why_unusable
from stream_classifier.settings import TRANSACTION_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_classifier.settings import KafkaSettings

_UNHEARD = logging.getLogger("stream_classifier.librdkafka")
_UNHEARD.addHandler(logging.NullHandler())
_UNHEARD.propagate = False

Properties = dict[str, Any]
ClientT = TypeVar("ClientT")

# Rights, names and configurations: waiting does not mend them.
_ADVICE = {
    ClientError.TOPIC_AUTHORIZATION_FAILED: "the principal lacks the right to a topic: give it the ACL",
    ClientError.GROUP_AUTHORIZATION_FAILED: "the principal lacks the right to kafka.group_id: give it the ACL",
    ClientError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "the principal lacks the right to the transactional id: give it "
    "WRITE on those that begin with kafka.group_id and a dash",
    ClientError.CLUSTER_AUTHORIZATION_FAILED: "the principal lacks a right to the cluster: give it the ACL",
    ClientError.UNKNOWN_TOPIC_OR_PART: "a topic is missing: `stream-classifier topics create` makes it",
    ClientError.TOPIC_EXCEPTION: "a topic's name is not one that Kafka takes",
    ClientError._UNKNOWN_TOPIC: "a topic is missing: `stream-classifier topics create` makes it",  # noqa: SLF001 - its name
    ClientError._UNKNOWN_PARTITION: "it is missing, or was made anew: `stream-classifier topics create` makes it",  # noqa: SLF001
    ClientError._AUTHENTICATION: "the broker refused the credentials: look at kafka.client",  # noqa: SLF001
    ClientError.SASL_AUTHENTICATION_FAILED: "the broker refused the credentials: look at kafka.client",
    ClientError.UNSUPPORTED_SASL_MECHANISM: "the broker does not know this sasl.mechanism: look at kafka.client",
    ClientError.UNSUPPORTED_VERSION: "the broker is too old for kafka.group_protocol: consumer; use classic",
    ClientError.INVALID_TRANSACTION_TIMEOUT: "transaction.timeout.ms is more than the broker's "
    "transaction.max.timeout.ms",
    ClientError.INVALID_SESSION_TIMEOUT: "kafka.consumer's session.timeout.ms is not between the broker's "
    "group.min.session.timeout.ms and group.max.session.timeout.ms",
    ClientError.UNRELEASED_INSTANCE_ID: "another member has this kafka.instance_id, and keeps it: give each worker "
    "its own",
    ClientError.FENCED_INSTANCE_ID: "another worker runs under the same kafka.instance_id: give each its own",
    ClientError.INCONSISTENT_GROUP_PROTOCOL: "the group's other members use another protocol or assignor",
}

# How a broker answers a member of KIP-848's protocol in a group whose members speak the classic one.
_CLASSIC_GROUP = ClientError(ClientError.GROUP_ID_NOT_FOUND).str()


def common_properties(settings: KafkaSettings) -> Properties:
    """What every client gets."""
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": f"stream-classifier-{__version__}",
        "allow.auto.create.topics": False,
        # What it has to say comes through error_cb, into our own log; its own lines would stand among ours. Whoever
        # asks for its debugging output gets that.
        **({} if "debug" in settings.client else {"logger": _UNHEARD}),
        # A broker that went away is tried again soon: ten seconds, the default, is half of most patience.
        "reconnect.backoff.max.ms": 2000,
        **settings.client,
    }


def consumer_properties(settings: KafkaSettings) -> Properties:
    """What the consumer gets; what the guarantees rest on comes last, so that nothing replaces it."""
    properties: Properties = {
        # Little is prefetched: pausing throws it away, and it is memory that no bound of ours counts.
        "queued.min.messages": 10_000,
        "queued.max.messages.kbytes": 16_384,
        "fetch.queue.backoff.ms": 20,
        # The loop only looks in now and then while a window is being drained.
        "max.poll.interval.ms": 300_000,
        # Partitions that are added wait so long to be seen; five minutes is the client's default.
        "topic.metadata.refresh.interval.ms": 30_000,
        **common_properties(settings),
        **settings.consumer,
        "group.id": settings.group_id,
        "group.protocol": settings.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        # By this the worker learns that it joined its group even when it was given no partition.
        "statistics.interval.ms": 1000,
    }
    if settings.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
    if settings.instance_id is not None:
        properties["group.instance.id"] = settings.instance_id
    return properties


def producer_properties(settings: KafkaSettings, *, largest: int, smallest: int) -> Properties:
    """What the producer gets.

    Args:
        settings: The settings.
        largest: The larger of the limits (bytes) of the topics that are written.
        smallest: The smaller one. A produce batch stays below it: one over the limit fails with all its records.
    """
    return {
        "linger.ms": 5,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        **common_properties(settings),
        **settings.producer,
        "batch.size": max(1, min(int(settings.producer.get("batch.size", 1_000_000)), smallest - 512)),
        "message.max.bytes": max(1000, largest),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
    }


def transactional_properties(properties: Properties, name: str) -> Properties:
    """What the producer gets for transactions.

    Args:
        properties: A producer's.
        name: The transactional id.
    """
    return {
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        **properties,
        "transactional.id": name,
        "delivery.report.only.error": True,
    }


def build(kind: Callable[[Properties], ClientT], properties: Properties) -> ClientT:
    """Make a client.

    Raises:
        SettingsError: It does not take `kafka.client`, `kafka.consumer` or `kafka.producer`. Shows no value, which may
            be a secret.
    """
    try:
        return kind(properties)
    except KafkaException as error:
        message = re.sub(r'value ".*" for', "value for", error.args[0].str(), flags=re.DOTALL)
        where = "kafka.consumer or " * (kind is Consumer) + "kafka.producer or " * (kind is Producer) + "kafka.client"
        advice = why_unusable(message) or "librdkafka's CONFIGURATION.md has the properties"
        raise SettingsError(f"{where}: {message}; {advice}") from None


def is_hopeless(error: ClientError) -> bool:
    """Whether trying again cannot help, nor would another client."""
    if (known := distrust(error)) is not None:
        return known.permanent
    return error.code() in _ADVICE


def is_permanent(error: ClientError) -> bool:
    """Whether trying again with this client cannot help."""
    if (known := distrust(error)) is not None:
        return known.permanent
    # The consumer tells of its own end as a message of this code, which is not marked as fatal.
    return bool(error.fatal()) or error.code() == ClientError._FATAL or is_hopeless(error)  # noqa: SLF001 - its name


def failure(error: ClientError, doing: str) -> KafkaError:
    """Our error for one of the client's, with what to do about it where that is known."""
    advice = _ADVICE.get(error.code(), "look at the broker's log")
    if error.fatal() and error.code() == ClientError._FATAL:  # noqa: SLF001 - librdkafka's names for its own codes
        advice = "the client gave up for good"
    if _CLASSIC_GROUP in error.str():
        advice = "others of this group have kafka.group_protocol: classic; stop all of them, then start with consumer"
    if (known := distrust(error)) is not None:
        advice = known.advice
    text = re.sub(r" \(after \d+ms in state \w+\)$", "", error.str())
    return KafkaError(f"{doing}: {error.name()}: {text}; {advice}")


def check_properties(settings: KafkaSettings, *, transactions: bool) -> None:
    """Make a worker's clients, and have them do nothing.

    Args:
        settings: The settings.
        transactions: Whether the producer is to write in transactions.

    Raises:
        SettingsError: They do not take `kafka.client`, `kafka.consumer` or `kafka.producer`.
    """
    build(Consumer, consumer_properties(settings)).close()
    properties = producer_properties(settings, largest=1_000_000, smallest=1_000_000)
    build(Producer, transactional_properties(properties, "unused") if transactions else properties)


def call(doing: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - passed through
    """Call the client, and give its exception our form.

    Raises:
        KafkaError: The call failed.
    """
    try:
        return function(*arguments, **named)
    except KafkaException as error:
        raise failure(error.args[0], doing) from None
