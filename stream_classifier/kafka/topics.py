"""Topics: whether they are there, what they accept, and making them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition, admin
from confluent_kafka import KafkaError as ClientError

from stream_classifier.errors import KafkaError
from stream_classifier.events.outgoing import DEFAULT_MAX_BYTES, NEVER_MS, TopicLimits
from stream_classifier.kafka.clients import build, call, common_properties, failure, is_permanent
from stream_classifier.kafka.credentials import distrust

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stream_classifier.settings import KafkaSettings


_COPIES = 3  # of each partition, where there are so many brokers
_ATTEMPT_SECONDS = 0.5
_PAUSE_SECONDS = 0.2
_COORDINATOR_SECONDS = 3.0  # for one that may be gone, without that being known yet, to answer
_ANY_TOPIC = "__consumer_offsets"  # the answer is of no interest
# A group's coordinator is gone, is about to be another broker, or has yet to read what it has to know: a later question
# may be answered.
_COORDINATOR_MOVES = frozenset(
    {
        ClientError.NOT_COORDINATOR,
        ClientError.COORDINATOR_NOT_AVAILABLE,
        ClientError.COORDINATOR_LOAD_IN_PROGRESS,
        ClientError._TIMED_OUT,  # noqa: SLF001 - librdkafka's name
    }
)


class TopicState(NamedTuple):
    """What was found of a topic.

    Attributes:
        partitions: How many; 0 when it does not exist.
        operations: Names of what this principal may do with it; None when the broker does not say.
        error: Why it could not be described, where that is not that it is missing.
    """

    partitions: int
    operations: frozenset[str] | None
    error: str | None = None

    def lacks(self, right: str) -> str | None:
        """What keeps this principal from it, where that is known.

        Args:
            right: What is to be done: READ or WRITE.
        """
        if self.error:
            return f"{self.error}; give the principal the ACL for {right} on it"
        if self.operations is not None and right not in self.operations:
            return f"the principal lacks {right}; give it that ACL"
        return None


class NewTopic(NamedTuple):
    """A topic to make.

    Attributes:
        name: Its name.
        partitions: How many.
        properties: Its own, where they are not the broker's.
    """

    name: str
    partitions: int
    properties: dict[str, str]


class Topics:
    """Asks and changes topics.

    Args:
        kafka: Where Kafka is.
        patience: Seconds that a broker has to answer.

    Raises:
        SettingsError: The client does not take `kafka.client`.
    """

    def __init__(self, kafka: KafkaSettings, *, patience: float = 10.0) -> None:
        self._patience = patience
        # How long the broker may take over it, and how long its answer is waited for.
        self._timeouts = {"operation_timeout": patience, "request_timeout": patience + _ATTEMPT_SECONDS}
        self._servers = kafka.bootstrap_servers
        self._protocol = str(kafka.client.get("security.protocol", "plaintext"))
        self._asks_for_tokens = "OAUTHBEARER" in (kafka.client.get(f"sasl.mechanism{s}") for s in ("", "s"))
        self._errors: list[ClientError] = []
        self._properties = {**common_properties(kafka), "error_cb": self._errors.append}
        self._admin = build(admin.AdminClient, self._properties)

    def reach(self) -> None:
        """Get an answer from the cluster.

        Raises:
            KafkaError: None came, or the credentials were refused.
        """
        end = time.monotonic() + self._patience
        while True:
            try:
                self._admin.list_topics(timeout=min(_ATTEMPT_SECONDS, max(0.01, end - time.monotonic())))
            except KafkaException as error:
                self._admin.poll(0)  # what is wrong is told to error_cb, in here
                if (refusal := self._refusal()) is not None:
                    raise failure(refusal, f"reaching Kafka at {self._servers}") from None
                if time.monotonic() >= end:
                    raise self._unreachable(error.args[0]) from None
            else:
                return

    def _refusal(self) -> ClientError | None:
        """What the client was told of that trying again does not mend."""
        return next((error for error in reversed(self._errors) if is_permanent(error)), None)

    def _unreachable(self, error: ClientError) -> KafkaError:
        told = [problem for problem in self._errors if problem.code() != ClientError._ALL_BROKERS_DOWN]  # noqa: SLF001
        for problem in reversed(told):
            if distrust(problem) is not None:
                return failure(problem, f"reaching Kafka at {self._servers}")
        why, advice = error.name(), "look at kafka.bootstrap_servers and kafka.client, and whether the broker runs"
        if told:
            why = told[-1].str()
        elif self._errors:  # the broker, or whoever stands before it, takes each connection and closes it
            why, advice = "it hangs up", f"does its port speak {self._protocol}? Look at security.protocol"
        elif self._asks_for_tokens:
            why = "no OAuth token"
            advice = "look at sasl.oauthbearer.method (oidc) and whether sasl.oauthbearer.token.endpoint.url answers"
        return KafkaError(f"no Kafka broker answered at {self._servers} within {self._patience:g} s ({why}); {advice}")

    def describe(self, names: Collection[str]) -> dict[str, TopicState]:
        """What there is of each topic; asking creates none.

        Raises:
            KafkaError: The cluster did not answer.
        """
        futures = self._admin.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=self._patience
        )
        states = {}
        for name, future in futures.items():
            try:
                found = future.result()
            except KafkaException as error:
                problem = error.args[0]
                if problem.code() < 0:  # not the broker's answer: there was none
                    self._admin.poll(0)
                    raise failure(self._refusal() or problem, f"looking at topic {name}") from None
                missing = problem.code() == ClientError.UNKNOWN_TOPIC_OR_PART
                states[name] = TopicState(0, None, None if missing else f"{problem.name()}: {problem.str()}")
                continue
            operations = found.authorized_operations
            allowed = (
                None
                if operations is None
                else frozenset(admin.AclOperation(operation).name for operation in operations)
            )
            states[name] = TopicState(len(found.partitions), allowed)
        return states

    def require(self, rights: Mapping[str, str]) -> dict[str, int]:
        """The number of partitions of each topic.

        Args:
            rights: For each topic what is to be done with it: READ or WRITE.

        Raises:
            KafkaError: One is missing, or this principal lacks the right.
        """
        states = self.describe(rights)
        if missing := sorted(name for name, state in states.items() if not state.partitions and not state.error):
            raise KafkaError(
                f"no such topic: {', '.join(missing)}; `stream-classifier topics create --config FILE` makes it"
            )
        if lacking := [f"topic {name}: {why}" for name, right in rights.items() if (why := states[name].lacks(right))]:
            raise KafkaError("; ".join(lacking))
        return {name: state.partitions for name, state in states.items()}

    def limits(self, names: Collection[str]) -> dict[str, TopicLimits]:
        """What each topic refuses; Kafka's defaults where this principal may not read its configuration."""
        resources = [admin.ConfigResource(admin.ResourceType.TOPIC, name) for name in names]
        futures = self._admin.describe_configs(resources, request_timeout=self._patience)
        limits = {}
        for resource, future in futures.items():
            try:
                entries = {name: entry.value for name, entry in future.result().items()}
            except KafkaException:
                limits[resource.name] = TopicLimits()
                continue
            max_bytes = int(entries.get("max.message.bytes") or DEFAULT_MAX_BYTES)
            if entries.get("message.timestamp.type") == "LogAppendTime":
                limits[resource.name] = TopicLimits(max_bytes)  # the broker writes its own, and refuses none
                continue
            limits[resource.name] = TopicLimits(
                max_bytes,
                past_ms=int(entries.get("message.timestamp.before.max.ms") or NEVER_MS),
                future_ms=int(entries.get("message.timestamp.after.max.ms") or NEVER_MS),
            )
        return limits

    def kept(self, names: Collection[str]) -> dict[str, int]:
        """For how many milliseconds from its own timestamp on each topic keeps a record.

        For ever where the broker gives records its own time, or this principal may not read the configuration.
        """
        resources = [admin.ConfigResource(admin.ResourceType.TOPIC, name) for name in names]
        kept = dict.fromkeys(names, NEVER_MS)
        for resource, future in self._admin.describe_configs(resources, request_timeout=self._patience).items():
            with contextlib.suppress(KafkaException):
                entries = {name: entry.value for name, entry in future.result().items()}
                retention = int(entries.get("retention.ms") or -1)
                deletes = "delete" in (entries.get("cleanup.policy") or "delete")
                if deletes and retention >= 0 and entries.get("message.timestamp.type") != "LogAppendTime":
                    kept[resource.name] = retention
        return kept

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The offset after the last record of each partition, those of open transactions included.

        Raises:
            KafkaError: The cluster did not answer, or the topic must not be seen.
        """
        end = admin.OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client says nothing of its type
        wanted = dict.fromkeys((TopicPartition(topic, number) for number in range(partitions)), end)
        futures = self._admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=self._patience
        )
        ends = {
            at.partition: call(f"asking where {topic}/{at.partition} ends", future.result).offset
            for at, future in futures.items()
        }
        for number, offset in ends.items():
            if offset < 0:  # as happens while a partition changes its leader
                raise failure(ClientError(ClientError.LEADER_NOT_AVAILABLE), f"asking where {topic}/{number} ends")
        return ends

    def group_operations(self, group: str) -> frozenset[str] | None:
        """What this principal may do with a consumer group; None when the broker does not say.

        Raises:
            KafkaError: The group must not be seen, or had no coordinator for as long as a broker has to answer.
        """
        end = time.monotonic() + self._patience
        asking = build(Consumer, {**self._properties, "group.id": group})
        while True:
            try:
                # librdkafka 2.16 can end the process when it describes a group whose coordinator goes at that moment,
                # and does when the same client asks again after that. Committed offsets are asked for without harm: so
                # there is one that answers, and whoever describes the group has just begun.
                asking.committed([TopicPartition(_ANY_TOPIC, 0)], timeout=_COORDINATOR_SECONDS)
                client = build(admin.AdminClient, self._properties)
                futures = client.describe_consumer_groups(
                    [group], include_authorized_operations=True, request_timeout=self._patience
                )
                operations = futures[group].result().authorized_operations
                break
            except KafkaException as error:
                problem = error.args[0]
                if (told := asking.poll(0)) is not None:  # why it has found none to ask
                    problem = told.error() or problem
                if problem.code() not in _COORDINATOR_MOVES or time.monotonic() >= end:
                    raise failure(problem, f"group {group}") from None
            time.sleep(_PAUSE_SECONDS)
        asking.close()
        return None if operations is None else frozenset(admin.AclOperation(item).name for item in operations)

    def create(self, topics: Collection[NewTopic]) -> dict[str, bool]:
        """Make topics, and wait until a broker that is asked for them knows them: it learns of them a moment later.

        Args:
            topics: Names, numbers of partitions and properties.

        Returns:
            For each name, whether it was made now; False when it was there.

        Raises:
            KafkaError: One could not be made.
        """
        copies = min(_COPIES, self._brokers())
        properties = {"min.insync.replicas": "2"} if copies == _COPIES else {}
        new = [
            admin.NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=copies,
                config={**properties, **topic.properties},
            )
            for topic in topics
        ]
        made = {}
        for name, future in self._admin.create_topics(new, **self._timeouts).items():
            try:
                future.result()
                made[name] = True
            except KafkaException as error:
                if error.args[0].code() != ClientError.TOPIC_ALREADY_EXISTS:
                    raise failure(error.args[0], f"creating topic {name}") from None
                made[name] = False
        end = time.monotonic() + self._patience
        while any(not (state.partitions or state.error) for state in self.describe(made).values()):
            if time.monotonic() >= end:
                break  # they are made all the same; whoever needs them says what is missing
            time.sleep(_PAUSE_SECONDS)
        return made

    def delete(self, names: Collection[str]) -> None:
        """Delete topics with everything in them.

        Raises:
            KafkaError: One could not be deleted.
        """
        for name, future in self._admin.delete_topics(list(names), **self._timeouts).items():
            call(f"deleting topic {name}", future.result)

    def _brokers(self) -> int:
        return len(call("asking for the brokers", self._admin.list_topics, timeout=self._patience).brokers)
