"""From texts to embeddings: all of them, in batches, with the failure of each text that has none."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stream_classifier.classify.batch_runner import CANARIES, BatchRunner, text_to_blame, tokenized
from stream_classifier.classify.classification import Failure
from stream_classifier.classify.cosine_scores import Embeddings
from stream_classifier.classify.measures import Measures
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import RunFailedError


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
    """Embeds texts in batches of a bounded size; see `BatchRunner`. Threads may share one, and share its budget.

    Args:
        encoder: The model.
        max_tokens: The most padded tokens of one run; a single text that is longer runs alone.
        clock: Seconds, for the measures.
    """

    def __init__(self, encoder: Encoder, *, max_tokens: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._encoder = encoder
        self._runner = BatchRunner(max_tokens=max_tokens, clock=clock)
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
        rows = np.zeros((len(texts), self._encoder.dimensions), np.float32)
        if not texts:
            return Embedded(rows, [], {})
        started = self._clock()
        encoded = tokenized(texts, self._tokenize, self._blame, measures)
        measures.tokenize_seconds += self._clock() - started

        failures = {index: each for index, each in enumerate(encoded) if isinstance(each, Failure)}
        whole = [(index, *each) for index, each in enumerate(encoded) if not isinstance(each, Failure)]
        truncated = [False] * len(texts)
        for index, _, was_truncated in whole:
            truncated[index] = was_truncated

        def run(batch: list[int]) -> None:
            rows[[whole[place][0] for place in batch]] = self._encoder.embed([whole[place][1] for place in batch])

        def blame(place: int, error: RunFailedError) -> tuple[int]:
            failures[whole[place][0]] = self._blame(error)
            return (place,)

        self._runner.run([len(ids) for _, ids, _ in whole], run, blame, measures)
        return Embedded(rows, truncated, failures)

    def _tokenize(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """Of each text its token ids, and whether it was truncated."""
        return list(zip(*self._encoder.tokenize(texts), strict=True))

    def _blame(self, error: RunFailedError) -> Failure:
        return text_to_blame(error, lambda: self._encoder.embed(self._encoder.tokenize(CANARIES).ids))
