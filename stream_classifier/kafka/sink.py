"""The producing side: in order, and with an answer for each record.

Owned by one thread. Delivery reports arrive inside `poll`, and nothing counts as written before its own has come.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from stream_classifier.kafka.clients import build, failure, is_permanent, producer_properties

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_classifier.errors import KafkaError
    from stream_classifier.events.outgoing import Outgoing, TopicLimits
    from stream_classifier.events.refusal import Code
    from stream_classifier.settings import KafkaSettings

TokenT = TypeVar("TokenT")

# The broker will never take these records, whatever we do, and does not mean the other ones.
REFUSALS: dict[int, Code] = {
    ClientError.MSG_SIZE_TOO_LARGE: "output_too_large",
    ClientError.RECORD_LIST_TOO_LARGE: "output_too_large",
    ClientError.INVALID_MSG_SIZE: "output_too_large",
    ClientError.INVALID_TIMESTAMP: "timestamp_refused",
}

ANY_PARTITION = -1  # the partitioner's choice


class Reports(NamedTuple, Generic[TokenT]):
    """What became of records, since `Sink.poll` was last called.

    Attributes:
        acknowledged: Written to all in-sync replicas.
        refused: Refused for what they are, with the reason code. Neighbours in the same produce batch are refused with
            them: each has to be tried alone before it is blamed.
        undelivered: Given up by the client, or by a broken connection; nothing is wrong with them.
    """

    acknowledged: list[TokenT]
    refused: list[tuple[TokenT, Code]]
    undelivered: list[TokenT]


def take_refusal(refused: list[tuple[TokenT, Code]], token: TokenT) -> Code | None:
    """Take a record out of those that were refused, with the reason code; None when it is not among them."""
    for index, (its_token, code) in enumerate(refused):
        if its_token is token:
            del refused[index]
            return code
    return None


class Sink(Generic[TokenT]):
    """The worker's producer.

    Attributes:
        errors: Names of errors that the client mends by itself, since they were last asked for.
        broken: Whether `recover` has to be called before anything else can be sent.

    Args:
        kafka: Where Kafka is.
        limits: What the topics that are written to refuse.
    """

    def __init__(self, kafka: KafkaSettings, limits: Iterable[TopicLimits]) -> None:
        sizes = [limit.max_bytes for limit in limits]
        self.errors: list[str] = []
        self.broken = False
        self._properties = producer_properties(kafka, largest=max(sizes), smallest=min(sizes))
        self._reports: Reports[TokenT] = Reports([], [], [])
        self._permanent: KafkaError | None = None
        self._delivered = self._on_delivery  # bound once, not for every record
        self._producer = self._build()

    def _build(self) -> Producer:
        return build(Producer, {**self._properties, "error_cb": self._on_error})

    def send(self, token: TokenT, record: Outgoing) -> None:
        """Hand over a record; what becomes of it is told by a later `poll`.

        Args:
            token: Names the record in the reports.
            record: What to produce.
        """
        topic, key, value, headers, timestamp = record
        delivered = partial(self._delivered, token)
        while True:
            try:
                # By position: keywords cost half a microsecond a record.
                self._producer.produce(topic, value, key, ANY_PARTITION, delivered, None, timestamp, headers)
            except BufferError:
                self._producer.poll(0.1)  # its queue is full: let some of it be delivered
            except KafkaException as error:
                self._sort(token, error.args[0], topic)
                return
            else:
                return

    def _on_delivery(self, token: TokenT, error: ClientError | None, message: Message) -> None:
        # The path of nearly every record; must not raise.
        if error is None:
            self._reports.acknowledged.append(token)
        else:
            self._sort(token, error, message.topic())

    def _sort(self, token: TokenT, error: ClientError, topic: str | None) -> None:
        if (code := REFUSALS.get(error.code())) is not None:
            self._reports.refused.append((token, code))
        elif is_permanent(error) and not error.fatal():
            self._permanent = failure(error, f"producing to {topic}")
        else:
            self.errors.append(error.name())
            self._reports.undelivered.append(token)

    def _on_error(self, error: ClientError) -> None:
        if is_permanent(error) and not error.fatal():
            self._permanent = failure(error, "producing")
        else:
            self.errors.append(error.name())

    def poll(self, wait: float) -> Reports[TokenT]:
        """Take the delivery reports that have come.

        Args:
            wait: Seconds to wait for one.

        Raises:
            KafkaError: Kafka refuses to be written to, and trying again will not help.
        """
        self._producer.poll(wait)
        if self._permanent is not None:
            raise self._permanent
        reports, self._reports = self._reports, Reports([], [], [])
        self.broken = self.broken or bool(reports.refused or reports.undelivered)
        return reports

    def send_alone(self, token: TokenT, record: Outgoing, wait: float) -> Code | None:
        """Send a record that shares its produce batch with no other.

        Args:
            token: Names the record in the reports.
            record: What to produce.
            wait: Seconds to wait for the others before it, and again for its answer.

        Returns:
            The reason code when Kafka refuses it, which is then not reported again.
        """
        self._producer.flush(wait)
        self.send(token, record)
        self._producer.flush(wait)
        return take_refusal(self._reports.refused, token)

    def recover(self) -> bool:
        """Begin anew with a fresh client: the old one gave up on records, so its order cannot be relied on.

        Returns:
            True: it is done, and every record that is not acknowledged by then has to be sent again.
        """
        self._producer.purge()
        self._producer.flush(1)  # what is acknowledged by now need not be sent again
        self._reports.undelivered.clear()
        self._reports.refused.clear()
        self.errors[:] = [name for name in self.errors if not name.startswith("_PURGE")]  # our own doing
        self._producer = self._build()
        self.broken = False
        return True
