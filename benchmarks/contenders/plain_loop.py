"""confluent-kafka by itself: poll a batch, predict, produce, flush, commit. A batch of 1 is the naive loop."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer
from contender_model import Model, job


def main() -> None:
    """Label until killed."""
    wanted = job()
    model = Model(wanted.model, wanted.threads)
    consumer = Consumer(
        {
            "bootstrap.servers": wanted.servers,
            "group.id": wanted.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([wanted.source])
    producer = Producer({"bootstrap.servers": wanted.servers, "linger.ms": 0})
    while True:
        messages = [message for message in consumer.consume(wanted.batch, timeout=0.02) if not message.error()]
        if not messages:
            continue
        values = model.enrich_bytes([message.value() or b"" for message in messages])
        for message, value in zip(messages, values, strict=True):
            producer.produce(wanted.target, value, message.key())
        producer.flush()
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
