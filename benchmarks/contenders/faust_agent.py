"""Faust (faust-streaming): an agent, over events one by one or over `take`."""

from __future__ import annotations

import sys
from pathlib import Path

import faust
from contender_model import Model, job


def main() -> None:
    """Label until killed."""
    wanted = job()
    model = Model(wanted.model, wanted.threads)
    application = faust.App(
        wanted.group,
        broker=f"kafka://{wanted.servers}",
        store="memory://",
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=str(Path(wanted.model) / wanted.group),
        stream_wait_empty=False,
    )
    source = application.topic(wanted.source, value_serializer="json", key_serializer="raw")
    target = application.topic(wanted.target, value_serializer="json", key_serializer="raw")

    async def one_by_one(stream: faust.Stream) -> None:
        async for key, event in stream.items():
            await target.send(key=key, value=model.enrich([event])[0])

    async def in_batches(stream: faust.Stream) -> None:
        async for events in stream.take(wanted.batch, within=0.02):
            for event in model.enrich(events):
                await target.send(value=event)

    application.agent(source)(one_by_one if wanted.batch == 1 else in_batches)
    sys.argv = [sys.argv[0], "worker", "--loglevel", "error", "--without-web"]
    application.main()


if __name__ == "__main__":
    main()
