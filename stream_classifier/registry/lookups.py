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

    All but the asking is done by one thread. What has to be asked again is asked after what waits meanwhile, so that
    one key for which there is no answer does not keep the others waiting.

    Args:
        ask: Gets an answer and for how many seconds it holds. Raises RegistryError when it has to be asked again.
        kept: How many answers are kept.
        patience: Seconds of asking for one key in vain until `has_news` raises.
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
        # Both are written by the thread that asks, and replaced as a whole, as the other one reads them.
        self._trouble: dict[KeyT, tuple[str, float]] = {}  # why there is no answer, and since when it is asked for
        self._asking_since: float | None = None
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
        now, asking_since = self._clock(), self._asking_since
        longest = min(self._trouble.values(), key=lambda trouble: trouble[1], default=None)
        if longest is None and asking_since is not None:
            longest = "the schema registry does not finish its answer", asking_since
        if longest is not None and now - longest[1] > self._patience:
            raise RegistryError(f"{longest[0]}; asked for {self._patience:g} s (schema_registry.give_up_seconds)")
        return news

    @property
    def trouble(self) -> str | None:
        """Why there is no answer at the moment; None when nothing is wrong."""
        return next((reason for reason, _ in self._trouble.values()), None)

    def close(self) -> None:
        """Ask no more."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                key = self._questions.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                answered = self._ask_once(key)
            except BaseException as error:  # noqa: BLE001 - raised again in the worker's thread
                self._answers.put(error)
                return
            if answered:
                failures = 0
                continue
            self._questions.put(key)
            jitter = random.random()  # noqa: S311 - spreads load, hides nothing
            self._closing.wait(delay(failures, first=_FIRST_DELAY, most=_MOST_DELAY, jitter=jitter))
            failures += 1

    def _ask_once(self, key: KeyT) -> bool:
        self._asking_since = now = self._clock()
        try:
            answer, seconds = self._ask(key)
        except RegistryError as error:
            if not self._trouble:
                self._log.warning("asking again", reason=str(error))
            _, since = self._trouble.get(key, ("", now))
            self._trouble = {**self._trouble, key: (str(error), since)}
            self._retried()
            return False
        finally:
            self._asking_since = None
        if key in self._trouble:
            self._trouble = {other: trouble for other, trouble in self._trouble.items() if other != key}
            if not self._trouble:
                self._log.info("the schema registry answers again")
        self._answers.put((key, answer, seconds))
        return True
