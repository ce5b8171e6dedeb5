"""Asks a worker process all the time what it says of itself, and how much memory it has."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from worker_process import Process

_EVERY = 0.1  # seconds


class Probe:
    """Samples from a thread of its own while the context is entered.

    Attributes:
        alive: What /healthz has answered, each time; None where nobody did.
        ready: The same of /readyz.
        memory: Resident bytes, each time.

    Args:
        process: The worker.
    """

    def __init__(self, process: Process) -> None:
        self.alive: list[int | None] = []
        self.ready: list[int | None] = []
        self.memory: list[int] = []
        self._process = process
        self._resident = psutil.Process(process.popen.pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe")

    def __enter__(self) -> Self:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def sample(self) -> None:
        """Ask once."""
        self.alive.append(self._process.status("/healthz"))
        self.ready.append(self._process.status("/readyz"))
        self.memory.append(self._resident.memory_info().rss)

    @property
    def growth(self) -> int:
        """Bytes by which the most memory is above that of the beginning."""
        return max(self.memory) - self.memory[0]

    @property
    def unready(self) -> float:
        """For which share of the samples the worker was not ready."""
        return sum(status != 200 for status in self.ready) / len(self.ready)

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            self.sample()
