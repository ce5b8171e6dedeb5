"""What all routes share: the settings, the label sets, who may ask, and what is under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stream_classifier import inference_accounting
from stream_classifier.gateway.asked import Reader
from stream_classifier.gateway.keys import Keys
from stream_classifier.gateway.places import Places
from stream_classifier.gateway.problems import Problem
from stream_classifier.metrics import GatewayMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.gateway.batcher import Batcher
    from stream_classifier.gateway.keys import Client
    from stream_classifier.health import Health
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings


class Service:
    """One gateway's state. It belongs to the event loop's thread.

    Args:
        settings: Everything that can be set.
        label_sets: Those of the settings, by their names.
        default: The one for requests that name none and bring no labels; None: there is no such one.
        metrics: Is kept up to date.
        health: Is kept up to date, and served.
        loop: Of the thread that uses this.

    Attributes:
        settings: As above.
        label_sets: As above.
        default: As above.
        metrics: As above.
        counted: The metrics of the gateway itself.
        health: As above.
        reader: Reads requests.
        texts: The requests of one text that are under way.
        streams: The streams that are.
        batcher: Labels texts, as soon as the model is loaded.
        draining: Is set when the gateway is to end: what is under way is answered, and nothing else.
    """

    def __init__(
        self,
        settings: Settings,
        label_sets: Mapping[str, LabelSet],
        default: LabelSet | None,
        *,
        metrics: Metrics,
        health: Health,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        gateway = settings.gateway
        self.settings = settings
        self.label_sets = label_sets
        self.default = default
        self.metrics = metrics
        self.counted = GatewayMetrics(metrics)
        self.health = health
        self.reader = Reader(label_sets, default, settings.cache.label_sets)
        self.texts = Places(gateway.max_in_flight, gateway.retry_after_seconds)
        self.streams = Places(gateway.streams, gateway.retry_after_seconds)
        self.batcher: Batcher | None = None
        self.draining = asyncio.Event()
        self._keys = Keys(gateway, loop.time())
        self._loop = loop
        inference_accounting.begin(metrics, label_sets.values())
        self.counted.in_flight.set_function(lambda: self.texts.taken)
        self.counted.streams.set_function(lambda: self.streams.taken)
        self.counted.waiting.set_function(lambda: 0 if self.batcher is None else self.batcher.waiting)
        metrics.ready.set_function(lambda: health.ready() is None)

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return self._loop.time()

    def client(self, authorization: str | None) -> Client:
        """Whose request this is; see `Keys.client`."""
        return self._keys.client(authorization)

    def admit(self, authorization: str | None) -> Client:
        """Whose request this is, once it has been counted as one of theirs.

        Raises:
            Problem: They have no key, or ask too often: `key_missing`, `key_unknown`, `rate_limited`.
        """
        client = self.client(authorization)
        if wait := client.take(self.now()):
            raise Problem(
                "rate_limited",
                "this key asks more often than it may: try again after the seconds of Retry-After",
                status=429,
                retry_after=wait,
            )
        return client

    def open(self) -> Batcher:
        """What labels texts.

        Raises:
            Problem: Not now: `starting` or `draining`.
        """
        if self.draining.is_set():
            raise Problem("draining", retry_after=self.settings.gateway.retry_after_seconds)
        if self.batcher is None:
            raise Problem("starting", retry_after=self.settings.gateway.retry_after_seconds)
        return self.batcher
