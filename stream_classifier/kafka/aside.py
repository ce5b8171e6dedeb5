"""One blocking call at a time, in a thread of its own, so that whoever asks for it can go on."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Aside:
    """A thread for calls that wait for a broker. `start` and `result` are for one thread only.

    A daemon thread: a call that waits for a broker which never answers must not keep the process from ending.

    Attributes:
        busy: Whether a call was started whose result has not been taken.
    """

    def __init__(self, name: str) -> None:
        self.busy = False
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def start(self, call: Callable[[], None]) -> None:
        """Begin a call.

        Raises:
            ValueError: One is under way.
        """
        if self.busy:
            raise ValueError("a call is under way")
        self.busy = True
        self._calls.put(call)

    def result(self, wait: float = 0) -> tuple[BaseException | None] | None:
        """What the call has raised, or None, in a tuple; None while it is under way.

        Args:
            wait: Seconds to wait for it.
        """
        try:
            raised = self._results.get(block=wait > 0, timeout=wait or None)
        except queue.Empty:
            return None
        self.busy = False
        return (raised,)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that takes the result
                self._results.put(error)
            else:
                self._results.put(None)
