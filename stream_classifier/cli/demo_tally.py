"""Counts what became of the demo's tickets: every one labelled or put aside, how often the label is the gold one."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from stream_classifier.events.record import Record
    from stream_classifier.samples import Sample
    from stream_classifier.settings import Settings


class Tally:
    """What was published, and what came back.

    Attributes:
        keys: The record key of each sample; those that come round again have keys of their own.

    Args:
        settings: The demo worker's.
        samples: What is published, in its order.
    """

    def __init__(self, settings: Settings, samples: list[Sample]) -> None:
        self._settings = settings
        rounds: Counter[str] = Counter()
        self.keys: list[str] = []
        for sample in samples:
            rounds[sample.id] += 1
            self.keys.append(sample.id if rounds[sample.id] == 1 else f"{sample.id}~{rounds[sample.id]}")
        self._samples = dict(zip(self.keys, samples, strict=True))
        self._outcomes: dict[str, str | None] = {}
        self._wrong: list[str] = []
        self._reasons: Counter[str] = Counter()
        self._agreeing = 0
        self._latencies: list[float] = []
        self._published = self._received = 0.0  # the first one, and the last one; milliseconds since 1970

    @property
    def received(self) -> int:
        """How many came back, labelled or put aside."""
        return len(self._outcomes)

    @property
    def complete(self) -> bool:
        """Whether all have come back."""
        return self.received == len(self._samples)

    def receive(self, record: Record, now: float) -> str:
        """Count a record of the output or the dead-letter topic.

        Args:
            record: The record.
            now: Milliseconds since 1970.

        Returns:
            What to say of it.
        """
        self._received = now
        self._published = min(self._published or now, record.timestamp or now)
        key = (record.key or b"").decode()
        sample = self._samples[key]
        if record.topic == self._settings.dead_letter.topic:
            headers = dict(record.headers or [])
            code = headers.get("classifier-error-code") or b"?"
            reason = code.decode() if isinstance(code, bytes) else code
            self._outcomes[key] = reason
            self._reasons[reason] += 1
            if reason != sample.broken:
                self._wrong.append(f"{key} was put aside as {reason}, expected {sample.broken or sample.gold}")
            return f"dead letter: {reason} ({key}{', broken on purpose' if sample.broken else ''})"
        label = orjson.loads(record.value or b"{}")[self._settings.output.field]["label"]
        self._outcomes[key] = label
        if sample.broken:
            self._wrong.append(f"{key} was labelled, though it is broken on purpose ({sample.broken})")
        if record.timestamp is not None:
            self._latencies.append(now - record.timestamp)
        self._agreeing += label == sample.gold
        return "" if label == sample.gold else f"  (a person chose: {sample.gold})"

    def speed(self) -> str:
        """Events a second since the first was published, and the usual latency."""
        rate = f"{self._rate():.0f}/s"
        return f"{rate}  {statistics.median(self._latencies):.0f} ms" if self._latencies else rate

    def _rate(self) -> float:
        return self.received / max((self._received - self._published) / 1000, 1e-9)

    def summary(self) -> list[str]:
        """What to say at the end."""
        labelled = self.received - self._reasons.total()
        latencies = sorted(self._latencies) or [0.0]
        p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self._reasons.items()))
        share = f"{self._agreeing / max(1, labelled):.0%}"
        return [
            "",
            f"labelled      {labelled} of {len(self._samples)} events",
            f"put aside     {self._reasons.total()} ({reasons or 'none'})",
            f"agreement     {self._agreeing} of {labelled} ({share}) have the label that a person chose, untrained",
            f"throughput    {self._rate():.0f} events/s, from the first published to the last read",
            f"latency       p50 {p50:.0f} ms, p99 {p99:.0f} ms, from in the topic to read as labelled",
        ]

    def problem(self) -> str | None:
        """What did not come out as it should; None when all did."""
        missing = len(self._samples) - self.received
        if missing:
            return f"{missing} of {len(self._samples)} events did not come back"
        if self._wrong:
            return f"{len(self._wrong)} events came out otherwise than expected; the first: {self._wrong[0]}"
        return None
