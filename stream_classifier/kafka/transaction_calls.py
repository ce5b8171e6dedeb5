"""Calls of the client that have to do with transactions, and that wait for a broker."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from stream_classifier.kafka.clients import build, call, producer_properties, transactional_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from stream_classifier.settings import KafkaSettings

AGAIN_SECONDS = 0.1  # before a call is tried again
_TRY_SECONDS = 10.0


def abort(producer: Producer, late: Collection[str]) -> None:
    """Abort the open transaction.

    Args:
        producer: Whose.
        late: Topics of records that the client gave up.

    Raises:
        KafkaException: That cannot be done.
    """
    patiently(producer.abort_transaction)
    for topic in late:
        # Adding the partitions of a deleted topic to a transaction is tried until the records' time is up. The client
        # does not look for the topic by itself then; when it has found that there is none, it says so.
        with contextlib.suppress(KafkaException):
            producer.list_topics(topic, timeout=AGAIN_SECONDS)


def try_transactions(kafka: KafkaSettings) -> None:
    """Begin as a worker does, under a name that no worker has.

    Raises:
        KafkaError: This principal may not, or no transaction coordinator answered.
    """
    properties = producer_properties(kafka, largest=1_000_000, smallest=1_000_000)
    producer = build(Producer, transactional_properties(properties, f"{kafka.group_id}-check"))
    call("beginning a transaction", producer.init_transactions, _TRY_SECONDS)


def patiently(transaction_call: Callable[[], object]) -> None:
    """Make a call again for as long as it says that this can help."""
    while True:
        try:
            transaction_call()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            time.sleep(AGAIN_SECONDS)
        else:
            return
