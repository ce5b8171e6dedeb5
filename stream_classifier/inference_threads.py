"""The threads that run the model: each takes a window, and gives back what came of it."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

WorkT = TypeVar("WorkT")
ResultT = TypeVar("ResultT")


class Done(NamedTuple, Generic[ResultT]):
    """A finished piece of work.

    Attributes:
        number: What `InferenceThreads.start` gave for it.
        result: What came of it; None when it raised.
        error: What it raised, None when it did not.
    """

    number: int
    result: ResultT | None
    error: BaseException | None


class InferenceThreads(Generic[WorkT, ResultT]):
    """A few threads and the work that they have. `start` and `done` are for one thread only.

    Daemon threads, as one that hangs in native code must not keep the process from ending.

    Attributes:
        out: Pieces of work that were started and not yet taken back: number and the second at which each began to wait.

    Args:
        work: Runs in the threads, several at once.
        threads: How many.
        told: Is called in an inference thread when it has finished a piece, by who would rather not ask `done`.
    """

    def __init__(
        self, work: Callable[[WorkT], ResultT], threads: int, told: Callable[[], object] = lambda: None
    ) -> None:
        self.out: dict[int, float] = {}
        self._work = work
        self._told = told
        self._threads = threads
        self._number = 0
        self._to_do: queue.SimpleQueue[tuple[int, WorkT]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done[ResultT]] = queue.SimpleQueue()
        self._running = [
            threading.Thread(target=self._run, name=f"inference-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._running:
            thread.start()

    @property
    def whole(self) -> bool:
        """Whether all threads are still there; what one had that is gone never comes back."""
        return all(thread.is_alive() for thread in self._running)

    @property
    def idle(self) -> bool:
        """Whether a thread has nothing to do."""
        return len(self.out) < self._threads

    @property
    def room(self) -> bool:
        """Whether another piece may be started: one more than there are threads, so that none waits for its next."""
        return len(self.out) <= self._threads

    def start(self, work: WorkT, now: float) -> int:
        """Give work to the threads, and get the number by which it comes back."""
        self._number += 1
        self.out[self._number] = now
        self._to_do.put((self._number, work))
        return self._number

    def done(self, wait: float = 0) -> list[Done[ResultT]]:
        """Take back what is finished.

        Args:
            wait: Seconds to wait for the first one.
        """
        finished = []
        try:
            finished.append(self._done.get(block=wait > 0, timeout=wait or None))
            while True:
                finished.append(self._done.get_nowait())
        except queue.Empty:
            for piece in finished:
                del self.out[piece.number]
            return finished

    def _run(self) -> None:
        while True:
            number, work = self._to_do.get()
            try:
                done = Done(number, self._work(work), None)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that takes it back
                done = Done(number, None, error)
            self._done.put(done)
            self._told()
