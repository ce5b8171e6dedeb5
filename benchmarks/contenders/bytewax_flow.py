"""Bytewax: a dataflow of one worker, mapping events one by one or what `collect` gathers."""

from __future__ import annotations

from datetime import timedelta

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from contender_model import Model, job

Messages = list[KafkaSourceMessage]


def main() -> None:
    """Label until killed."""
    wanted = job()
    model = Model(wanted.model, wanted.threads)
    flow = Dataflow("labels")
    found = kop.input(
        "input",
        flow,
        brokers=[wanted.servers],
        topics=[wanted.source],
        batch_size=max(wanted.batch, 64),
        add_config={"group.id": wanted.group},
    )

    def labelled(messages: Messages) -> list[KafkaSinkMessage]:
        events = model.enrich([orjson.loads(message.value) for message in messages])
        return [
            KafkaSinkMessage(message.key, orjson.dumps(event)) for message, event in zip(messages, events, strict=True)
        ]

    if wanted.batch == 1:
        results = op.map("label", found.oks, lambda message: labelled([message])[0])
    else:
        keyed = op.key_on("one key", found.oks, lambda _: "all")
        collected = op.collect("collect", keyed, timeout=timedelta(milliseconds=20), max_size=wanted.batch)
        results = op.flat_map("label", op.key_rm("no key", collected), labelled)
    kop.output("output", results, brokers=[wanted.servers], topic=wanted.target)
    run_main(flow)


if __name__ == "__main__":
    main()
