"""What is asked in a thread of its own, again and again until it is answered, while the worker goes on."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from stream_classifier.backoff import delay
from stream_classifier.errors import RegistryError
from stream_classifier.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

KeyT = TypeVar("KeyT", bound="Hashable")
AnswerT = TypeVar("AnswerT")

_FIRST_DELAY, _MOST_DELAY = 0.1, 5.0  # seconds before asking again
_CLOSE_SECONDS = 1.0


class Lookups(Generic[KeyT, AnswerT]):
    """Answers by key: at once when they are known.

    All but the asking is done by one thread.

    Args:
        ask: Gets an answer and for how many seconds it holds. Raises RegistryError when it has to be asked again.
        kept: How many answers are kept.
        patience: Seconds of asking in vain until `has_news` raises.
        retried: Is called for each repetition, in the other thread.
        clock: Seconds; only differences matter.
    """

    def __init__(
        self,
        ask: Callable[[KeyT], tuple[AnswerT, float]],
        *,
        kept: int,
        patience: float,
        retried: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._kept = kept
        self._patience = patience
        self._retried = retried
        self._clock = clock
        self._log = logger("registry")
        self._known: OrderedDict[KeyT, tuple[AnswerT, float]] = OrderedDict()
        self._asked: set[KeyT] = set()
        self._questions: queue.SimpleQueue[KeyT] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[KeyT, AnswerT, float] | BaseException] = queue.SimpleQueue()
        self._trouble: tuple[str, float] | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, key: KeyT) -> AnswerT | None:
        """The answer; None when it is still to come, for which it is asked then."""
        if (known := self._known.get(key)) is not None:
            answer, until = known
            if self._clock() < until:
                self._known.move_to_end(key)
                return answer
        if key not in self._asked:
            self._asked.add(key)
            self._questions.put(key)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="schema-registry", daemon=True)
                self._thread.start()
        return None

    def has_news(self) -> bool:
        """Whether an answer came since this was last called.

        Raises:
            RegistryError: The registry has not answered for as long as there is patience.
        """
        news = False
        while True:
            try:
                told = self._answers.get_nowait()
            except queue.Empty:
                break
            if isinstance(told, BaseException):
                raise told
            key, answer, seconds = told
            self._known[key] = answer, self._clock() + seconds
            self._asked.discard(key)
            news = True
        while len(self._known) > self._kept:
            self._known.popitem(last=False)
        trouble = self._trouble
        if trouble is not None and self._clock() - trouble[1] > self._patience:
            raise RegistryError(f"{trouble[0]}; asked for {self._patience:g} s (schema_registry.give_up_seconds)")
        return news

    @property
    def trouble(self) -> str | None:
        """Why there is no answer at the moment; None when nothing is wrong."""
        trouble = self._trouble
        return None if trouble is None else trouble[0]

    def close(self) -> None:
        """Ask no more."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                key = self._questions.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                self._ask_until_answered(key)
            except BaseException as error:  # noqa: BLE001 - raised again in the worker's thread
                self._answers.put(error)
                return

    def _ask_until_answered(self, key: KeyT) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                answer, seconds = self._ask(key)
            except RegistryError as error:
                since = self._clock() if self._trouble is None else self._trouble[1]
                if failures == 0:
                    self._log.warning("asking again", reason=str(error))
                self._trouble = str(error), since
                self._retried()
                jitter = random.random()  # noqa: S311 - spreads load, hides nothing
                self._closing.wait(delay(failures, first=_FIRST_DELAY, most=_MOST_DELAY, jitter=jitter))
                failures += 1
            else:
                if self._trouble is not None:
                    self._log.info("the schema registry answers again")
                    self._trouble = None
                self._answers.put((key, answer, seconds))
                return
