"""Arroyo (sentry-arroyo): a chain of strategies: task, produce, commit; for batches between two steps more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload, KafkaProducer
from arroyo.backends.kafka.configuration import build_kafka_configuration, build_kafka_consumer_configuration
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import (
    BatchStep,
    CommitOffsets,
    ProcessingStrategy,
    ProcessingStrategyFactory,
    Produce,
    RunTask,
    UnbatchStep,
)
from arroyo.types import BaseValue, Commit, Message, Partition, Topic, Value
from contender_model import Job, Model, job

if TYPE_CHECKING:
    from collections.abc import Mapping

Batch = list[BaseValue[KafkaPayload]]


class Strategies(ProcessingStrategyFactory[KafkaPayload]):
    """The chain.

    Args:
        wanted: The job.
    """

    def __init__(self, wanted: Job) -> None:
        self._wanted = wanted
        self._model = Model(wanted.model, wanted.threads)
        self._producer = KafkaProducer(build_kafka_configuration({}, bootstrap_servers=[wanted.servers]))

    def create_with_partitions(
        self, commit: Commit, partitions: Mapping[Partition, int]
    ) -> ProcessingStrategy[KafkaPayload]:
        """What Arroyo asks for at each assignment."""
        del partitions
        produce = Produce(self._producer, Topic(self._wanted.target), CommitOffsets(commit))
        if self._wanted.batch == 1:
            return RunTask(self._label_one, produce)
        return BatchStep(self._wanted.batch, 0.02, RunTask(self._label_batch, UnbatchStep(produce)))

    def _label_one(self, message: Message[KafkaPayload]) -> KafkaPayload:
        [value] = self._model.enrich_bytes([message.payload.value])
        return KafkaPayload(message.payload.key, value, [])

    def _label_batch(self, message: Message[Batch]) -> Batch:
        values = self._model.enrich_bytes([one.payload.value for one in message.payload])
        return [
            Value(KafkaPayload(one.payload.key, value, []), one.committable)
            for one, value in zip(message.payload, values, strict=True)
        ]


def main() -> None:
    """Label until killed."""
    wanted = job()
    consumer = KafkaConsumer(
        build_kafka_consumer_configuration(
            {}, bootstrap_servers=[wanted.servers], group_id=wanted.group, auto_offset_reset="earliest"
        )
    )
    StreamProcessor(consumer, Topic(wanted.source), Strategies(wanted)).run()


if __name__ == "__main__":
    main()
