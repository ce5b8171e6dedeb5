"""A stream of events that does not stop for anything: many keys, distinct ids, and some that are no events at all."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Self

from confluent_kafka import Producer

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

KEYS = 41
_TICK = 0.05  # seconds
_BURSTS = (0, 0, 0, 4, 12, 80)  # events in a tick: quiet moments, and more at once than may be in flight
_TEXTS = (
    "where is my parcel",
    "我要退款",
    "外卖送得太慢了",
    "I cannot login",
    "money back please",
    "my parcel is late",
)
_BAD = (
    b'{"id":%d,"text":',
    b'{"id":%d}',
    b'{"id":%d,"text":["a","list"]}',
    b"%d",
)


class Load:
    """Publishes to a topic from a thread of its own while the context is entered.

    Attributes:
        round: Stands in every event, so that a result tells when its event was published.

    Args:
        servers: The brokers.
        topic: The input.
        seed: Of what is published when.
        rate: Multiplies the number of events, some 320 a second.
    """

    def __init__(self, servers: str, topic: str, seed: int, *, rate: float = 1) -> None:
        self.round = 0
        self._topic = topic
        self._rate = rate
        self._random = random.Random(f"load of {seed}")  # noqa: S311 - chance, not secrecy
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "message.timeout.ms": 600_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._ends: dict[int, int] = {}
        self._failed: list[str] = []
        self._number = 0
        self._going = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._going.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def pause(self) -> None:
        """Publish nothing more, until `go_on`."""
        self._going.clear()

    def go_on(self) -> None:
        """Undo that."""
        self._going.set()

    def ends(self) -> dict[int, int]:
        """The offset after the last acknowledged event of each partition."""
        assert not self._failed, f"the events themselves could not be published: {self._failed[:3]}"
        return dict(self._ends)

    def flush(self) -> dict[int, int]:
        """Wait until everything that was published is acknowledged, and give `ends`."""
        self.pause()
        deadline = time.monotonic() + 120
        while len(self._producer):
            assert time.monotonic() < deadline, "what was published is not acknowledged"
            time.sleep(0.02)
        return self.ends()

    def _run(self) -> None:
        tick = time.monotonic()
        while not self._ended.is_set():
            if self._going.is_set():
                for _ in range(round(self._random.choice(_BURSTS) * self._rate)):
                    self._publish()
            tick += _TICK
            while (left := tick - time.monotonic()) > 0:
                self._producer.poll(left)
        self._producer.flush(60)

    def _publish(self) -> None:
        number, chance = self._number, self._random
        self._number += 1
        if chance.random() < 0.04:
            value = chance.choice(_BAD) % number
        else:
            own = b',"labels":["urgent","not urgent"]' if chance.random() < 0.05 else b""
            blank = b" " * chance.randrange(3)
            value = b'{"id": %d,"round":%d, "text":"%s"%s%s}' % (
                number,
                self.round,
                chance.choice(_TEXTS).encode(),
                own,
                blank,
            )
        key = b"customer-%d" % chance.randrange(KEYS)
        self._producer.produce(
            self._topic, value, key, headers=[("trace", b"%d" % number)], on_delivery=self._delivered
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(error.name())
            return
        partition, offset = message.partition() or 0, message.offset() or 0
        self._ends[partition] = max(self._ends.get(partition, 0), offset + 1)
