"""Quix Streams: `apply` for one event at a time; for batches a sink, which is where it hands events over in batches.

Its count windows collect by key, so that they hardly ever fill where keys are customers.
"""

from __future__ import annotations

import orjson
from contender_model import Job, Model, job
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch


class LabellingSink(BatchingSink):
    """Labels a batch, and produces it.

    Args:
        wanted: The job.
        application: Gives a producer.
    """

    def __init__(self, wanted: Job, application: Application) -> None:
        super().__init__()
        self._model = Model(wanted.model, wanted.threads)
        self._target = wanted.target
        self._batch = wanted.batch
        self._producer = application.get_producer()

    def write(self, batch: SinkBatch) -> None:
        """What Quix Streams calls before it commits, with all of a partition since the last commit."""
        items = list(batch)
        for begin in range(0, len(items), self._batch):
            part = items[begin : begin + self._batch]
            for item, event in zip(part, self._model.enrich([item.value for item in part]), strict=True):
                self._producer.produce(self._target, orjson.dumps(event), item.key)
        self._producer.flush()


def main() -> None:
    """Label until killed."""
    wanted = job()
    application = Application(
        broker_address=wanted.servers,
        consumer_group=wanted.group,
        auto_offset_reset="earliest",
        commit_every=0 if wanted.batch == 1 else wanted.batch * 4,
        commit_interval=5.0 if wanted.batch == 1 else 0.25,
        loglevel="ERROR",
    )
    stream = application.dataframe(application.topic(wanted.source, value_deserializer="json"))
    if wanted.batch == 1:
        model = Model(wanted.model, wanted.threads)
        stream = stream.apply(lambda event: model.enrich([event])[0])
        stream.to_topic(application.topic(wanted.target, value_serializer="json"))
    else:
        stream.sink(LabellingSink(wanted, application))
    application.run()


if __name__ == "__main__":
    main()
