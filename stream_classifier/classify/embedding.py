"""From texts to embeddings, whatever happens on the way.

Texts run in batches of a bounded size. When memory is short, the bound is lowered; that is never a text's fault. When
a batch fails otherwise, it is cut in halves until one text stands alone. If that fails too, the text is blamed, but
only if texts that are known to be good run directly afterwards; else the model or the device is broken, and no text
is to blame.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from stream_classifier.classify.batches import cut, padded_tokens
from stream_classifier.classify.budget import TokenBudget
from stream_classifier.classify.classification import Failure
from stream_classifier.classify.cosine_scores import Embeddings
from stream_classifier.classify.measures import Batch, Measures
from stream_classifier.errors import ModelError, OutOfMemoryError
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import RunFailedError

CANARIES: Final = ("Where is my order?", "我的订单到哪里了")
"""Texts that every model can run."""


class Embedded(NamedTuple):
    """What became of some texts.

    Attributes:
        rows: Embeddings of unit length, [texts, dimensions]; of a text that failed the row is 0.
        truncated: Of each text, whether it was longer than the model reads.
        failures: Why, for each text that failed, by its index.
    """

    rows: Embeddings
    truncated: list[bool]
    failures: dict[int, Failure]


class Embedder:
    """Embeds texts in batches of a bounded size. Threads may share one, and share its budget.

    Args:
        encoder: The model.
        max_tokens: The most padded tokens of one run; a single text that is longer runs alone.
        clock: Seconds, for the measures.
    """

    def __init__(self, encoder: Encoder, *, max_tokens: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._encoder = encoder
        self._budget = TokenBudget(max_tokens)
        self._clock = clock

    def embed(self, texts: Sequence[str], measures: Measures) -> Embedded:
        """Embed texts; results are in their order, and no text's depends on the others.

        Args:
            texts: Any number of texts; each is run, so equal ones should be given once.
            measures: Where to add up what it costs.

        Raises:
            OutOfMemoryError: One text alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good.
        """
        if not texts:
            return Embedded(np.zeros((0, self._encoder.dimensions), np.float32), [], {})
        started = self._clock()
        ids, truncated, failures = self._tokenize(texts, measures)
        measures.tokenize_seconds += self._clock() - started

        rows = np.zeros((len(texts), self._encoder.dimensions), np.float32)
        lengths = [len(tokens) for tokens in ids]
        short_of_memory = False
        waiting = self._cut([index for index in range(len(texts)) if index not in failures], lengths)
        while waiting:
            batch = waiting.pop()
            tokens = padded_tokens([lengths[index] for index in batch])
            if len(batch) > 1 and tokens > self._budget.tokens:  # it was lowered meanwhile
                waiting += self._cut(batch, lengths)
                continue
            started = self._clock()
            try:
                rows[batch] = self._encoder.embed([ids[index] for index in batch])
            except OutOfMemoryError:
                if len(batch) == 1:
                    raise
                measures.retries["out_of_memory"] += 1
                short_of_memory = True
                self._budget.shrink(tokens)
                waiting += self._cut(batch, lengths)
            except RunFailedError as error:
                if len(batch) == 1:
                    failures[batch[0]] = self._blame(error)
                else:
                    measures.retries["inference"] += 1
                    middle = len(batch) // 2
                    waiting += (batch[:middle], batch[middle:])
            else:
                useful = sum(lengths[index] for index in batch)
                measures.batches.append(Batch(len(batch), tokens, useful, self._clock() - started))
        if not short_of_memory:
            self._budget.good_window()
        return Embedded(rows, truncated, failures)

    def _cut(self, indexes: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        batches = cut([lengths[index] for index in indexes], self._budget.tokens)
        return [[indexes[place] for place in batch] for batch in batches]

    def _tokenize(
        self, texts: Sequence[str], measures: Measures
    ) -> tuple[list[list[int]], list[bool], dict[int, Failure]]:
        """Token ids of all texts, [] of one that fails; and which were truncated, and why one failed."""
        try:
            encoded = self._encoder.tokenize(texts)
        except RunFailedError as error:
            if len(texts) == 1:
                return [[]], [False], {0: self._blame(error)}
            measures.retries["inference"] += 1
            middle = len(texts) // 2
            ids, truncated, failures = self._tokenize(texts[:middle], measures)
            more_ids, more_truncated, more_failures = self._tokenize(texts[middle:], measures)
            failures |= {middle + index: failure for index, failure in more_failures.items()}
            return ids + more_ids, truncated + more_truncated, failures
        return encoded.ids, encoded.truncated, {}

    def _blame(self, error: RunFailedError) -> Failure:
        """The failure of a text that failed alone, once the canaries have shown that it is the text's."""
        try:
            self._encoder.embed(self._encoder.tokenize(CANARIES).ids)
        except RunFailedError as canary_error:
            raise ModelError(
                "the model or the device is broken, it fails on texts that are known to be good: check the bundle with "
                f"`stream-classifier model verify` ({canary_error})"
            ) from canary_error
        return Failure(f"the model fails on this text and not on others: {error}")
