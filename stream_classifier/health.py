"""Whether the worker is alive, and whether it is ready. The time is an argument."""

from __future__ import annotations


class Health:
    """What /healthz and /readyz answer; written by the worker's thread, read by the HTTP server's.

    Attributes:
        model: Whether the model is loaded.
        group: Whether the consumer is a member of its group, with partitions or without.
        registry: What is wrong with the schema registry; None for nothing.
        stopping: Whether the worker is on its way out.
    """

    def __init__(self, now: float) -> None:
        self.model = False
        self.group = False
        self.registry: str | None = None
        self.stopping = False
        self._deadline = now

    def progress(self, now: float, within: float) -> None:
        """The loop has come round, and promises to do so again within so many seconds."""
        self._deadline = now + within

    def alive(self, now: float) -> str | None:
        """None when alive, else what is wrong."""
        late = now - self._deadline
        return None if late <= 0 else f"the loop is {late:.1f} s late"

    def ready(self) -> str | None:
        """None when ready for work, else what is missing."""
        if self.stopping:
            return "stopping"
        if not self.model:
            return "the model is not loaded"
        return self.registry if self.group else "not a member of the consumer group"
