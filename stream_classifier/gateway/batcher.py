"""From many requests to few windows: everybody's texts share the runs of one model.

All of it belongs to the event loop's thread, but for what the inference threads run. A text waits in a window until an
inference thread is idle, or the window is full. One whose client has gone, or whose deadline has passed, is taken out,
and is not computed unless a thread has it already.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from stream_classifier import inference_accounting
from stream_classifier.classify.classification import Classification
from stream_classifier.errors import StalledError
from stream_classifier.gateway.problems import Problem
from stream_classifier.gateway.waiting import Waiting
from stream_classifier.inference_threads import InferenceThreads
from stream_classifier.windows import TOKENS_PER_EVENT, Windows

if TYPE_CHECKING:
    from stream_classifier.classify.classification import Failure  # noqa: F401 - mypy reads it in a string
    from stream_classifier.classify.classifier import Classified, Classifier, Request
    from stream_classifier.gateway.problems import Code
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings

Answer = asyncio.Future["Classification | Failure"]


class Batcher:
    """Has texts labelled, many at a time.

    Args:
        settings: How windows are made.
        classifier: Labels texts; runs in the inference threads.
        threads: How many of these.
        metrics: Is kept up to date.
        loop: Of the thread that uses this.

    Attributes:
        broken: Has an exception as soon as the model is found to be broken; then nothing is labelled any more.
    """

    def __init__(
        self,
        settings: Settings,
        classifier: Classifier,
        *,
        threads: int,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        batch = settings.batch
        self.broken: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._classifier = classifier
        self._metrics = metrics
        self._timeout = batch.timeout_seconds
        self._waiting: Waiting[tuple[Request, Answer]] = Waiting(
            Windows(
                max_events=batch.max_events,
                max_cost=batch.max_events * TOKENS_PER_EVENT,
                max_wait=settings.gateway.max_wait_ms / 1000,
            )
        )
        self._threads: InferenceThreads[list[Request], Classified] = InferenceThreads(
            classifier.classify, threads, self._tell
        )
        self._with_model: dict[int, list[tuple[Request, Answer]]] = {}
        self._look: asyncio.Handle | None = None  # the next one
        self._look_at = 0.0

    @property
    def waiting(self) -> int:
        """Texts that no inference thread has yet."""
        return len(self._waiting)

    async def classify(
        self, request: Request, *, until: float | None = None, gone: asyncio.Future[None] | None = None
    ) -> Classification:
        """Have a text labelled.

        Args:
            request: The text and its labels.
            until: The second of the loop's clock after which nobody wants the result any more; None: it is waited for.
            gone: Is done when nobody wants it for another reason: the client has gone.

        Raises:
            Problem: There is no result: `deadline_exceeded`, `client_gone`, `inference_failed`, or `model_lost`.
        """
        if self.broken.done():
            raise Problem("model_lost")
        answer: Answer = self._loop.create_future()
        place = self._waiting.add((request, answer), self._classifier.cost(request), self._loop.time())
        # Not at once: what has come in the same moment shares its window.
        self._look_in(0)
        if gone is not None:
            gone.add_done_callback(lambda _: answer.cancel())
        try:
            async with asyncio.timeout_at(until):
                result = await answer
        except TimeoutError:
            raise Problem("deadline_exceeded") from None
        except asyncio.CancelledError:
            if gone is not None and gone.done() and not gone.cancelled():
                raise Problem("client_gone") from None
            raise
        finally:
            self._waiting.give_up(place)
        if not isinstance(result, Classification):
            raise Problem("inference_failed")
        return result

    def refuse(self, code: Code) -> None:
        """Give everybody who waits this problem instead of a result, also for what the model has."""
        windows = [*self._with_model.values()]
        while window := self._waiting.window(float("inf"), idle=True):
            windows.append(window)
        for _, answer in itertools.chain.from_iterable(windows):
            if not answer.done():
                answer.set_exception(Problem(code))

    def check(self) -> None:
        """Find out whether the model still works; to be called now and then."""
        late = self._threads.out and self._loop.time() - min(self._threads.out.values()) > self._timeout
        if late:
            self._break(StalledError(f"the model did not give back a window within {self._timeout:g} s"))
        elif not self._threads.whole:
            self._break(StalledError("an inference thread is gone: start the gateway again"))

    def _look_in(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        if self._look is not None:
            if self._look_at <= at:
                return
            self._look.cancel()
        self._look, self._look_at = self._loop.call_later(seconds, self._hand_out), at

    def _hand_out(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        now = self._loop.time()
        while self._threads.room and (window := self._waiting.window(now, idle=self._threads.idle)):
            number = self._threads.start([request for request, _ in window], now)
            self._with_model[number] = window
        # While all threads are busy, the one that gets idle first looks in.
        if self._threads.idle and (seconds := self._waiting.seconds_to_close(now)) is not None:
            self._look_in(seconds)

    def _tell(self) -> None:
        """Called by inference threads."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits for it
            self._loop.call_soon_threadsafe(self._take_back)

    def _take_back(self) -> None:
        for done in self._threads.done():
            if done.result is None:
                if isinstance(done.error, Exception):
                    self._break(done.error)
                else:  # SystemExit would end the process as if all were well
                    self._break(StalledError(f"an inference thread was ended by {type(done.error).__name__}"))
                return
            window = self._with_model.pop(done.number)
            inference_accounting.inferred(self._metrics, done.result.measures)
            by_set: dict[str, list[Classification]] = {}
            for (_, answer), result in zip(window, done.result.results, strict=True):
                if not answer.done():
                    answer.set_result(result)
                if isinstance(result, Classification):
                    by_set.setdefault(result.label_set, []).append(result)
            for name, results in by_set.items():
                inference_accounting.given(self._metrics, name, results)
        self._hand_out()

    def _break(self, error: BaseException) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)
            self.refuse("model_lost")
