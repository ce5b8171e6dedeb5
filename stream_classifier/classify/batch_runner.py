"""Running a model on many inputs, whatever happens on the way.

Inputs run in batches of a bounded size. When memory is short, the bound is lowered; that is never an input's fault.
When a batch fails otherwise, it is cut in halves until one input stands alone. If that fails too, whoever gave it finds
out what is to blame, directly afterwards: nothing, if inputs that are known to be good fail as well.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from stream_classifier.classify.batches import cut, padded_tokens
from stream_classifier.classify.budget import TokenBudget
from stream_classifier.classify.classification import Failure
from stream_classifier.classify.measures import Batch, Measures
from stream_classifier.errors import ModelError, OutOfMemoryError
from stream_classifier.model.session import RunFailedError

CANARIES: Final = ("Where is my order?", "我的订单到哪里了")
"""Texts that every model can run."""

EncodedT = TypeVar("EncodedT")


class BatchRunner:
    """Cuts inputs into batches and runs them. Threads may share one, and share its budget.

    Args:
        max_tokens: The most padded tokens of one run; a single input that is longer runs alone.
        clock: Seconds, for the measures.
    """

    def __init__(self, *, max_tokens: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._budget = TokenBudget(max_tokens)
        self._clock = clock

    def run(
        self,
        lengths: Sequence[int],
        run: Callable[[list[int]], None],
        blame: Callable[[int, RunFailedError], Iterable[int]],
        measures: Measures,
    ) -> None:
        """Run every input, those of about the same length together.

        Args:
            lengths: Tokens of each input, at least 1.
            run: Runs the inputs at these indexes as one batch, and keeps what comes of it.
            blame: Is told of an input that failed alone, and gives the indexes of all that need not be run any more.
            measures: Where to add up what it costs.

        Raises:
            OutOfMemoryError: One input alone does not fit in memory.
            ModelError: What `blame` raises.
        """
        settled: set[int] = set()
        short_of_memory = False
        waiting = self._cut(range(len(lengths)), lengths)
        while waiting:
            batch = [index for index in waiting.pop() if index not in settled]
            if not batch:
                continue
            tokens = padded_tokens([lengths[index] for index in batch])
            if len(batch) > 1 and tokens > self._budget.tokens:  # it was lowered meanwhile
                waiting += self._cut(batch, lengths)
                continue
            started = self._clock()
            try:
                run(batch)
            except OutOfMemoryError:
                if len(batch) == 1:
                    raise
                measures.retries["out_of_memory"] += 1
                short_of_memory = True
                self._budget.shrink(tokens)
                waiting += self._cut(batch, lengths)
            except RunFailedError as error:
                if len(batch) == 1:
                    settled.update(blame(batch[0], error))
                else:
                    measures.retries["inference"] += 1
                    middle = len(batch) // 2
                    waiting += (batch[:middle], batch[middle:])
            else:
                useful = sum(lengths[index] for index in batch)
                measures.batches.append(Batch(len(batch), tokens, useful, self._clock() - started))
        if lengths and not short_of_memory:
            self._budget.good_window()

    def _cut(self, indexes: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        batches = cut([lengths[index] for index in indexes], self._budget.tokens)
        return [[indexes[place] for place in batch] for batch in batches]


def tokenized(
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], list[EncodedT]],
    blame: Callable[[RunFailedError], Failure],
    measures: Measures,
) -> list[EncodedT | Failure]:
    """Tokenise texts, each on its own; of one that fails, why.

    Args:
        texts: Any number of texts.
        tokenize: Gives one thing for each text, or fails on all of them.
        blame: Gives the failure of a text that failed alone.
        measures: Where to count what was repeated.
    """
    try:
        return [*tokenize(texts)]
    except RunFailedError as error:
        if len(texts) == 1:
            return [blame(error)]
        measures.retries["inference"] += 1
        middle = len(texts) // 2
        first = tokenized(texts[:middle], tokenize, blame, measures)
        return first + tokenized(texts[middle:], tokenize, blame, measures)


def text_to_blame(error: RunFailedError, run_canaries: Callable[[], object]) -> Failure:
    """The failure of a text that failed alone, once the canaries have shown that it is the text's.

    Raises:
        ModelError: The model fails on the canaries, too.
    """
    try:
        run_canaries()
    except RunFailedError as canary_error:
        raise ModelError(
            "the model or the device is broken, it fails on texts that are known to be good: check the bundle with "
            f"`stream-classifier model verify` ({canary_error})"
        ) from canary_error
    return failure_of_text(error)


def failure_of_text(error: RunFailedError) -> Failure:
    """The failure of a text that is to blame."""
    return Failure(f"the model fails on this text and not on others: {error}")
