"""What the model can do in process: all texts at once, sorted by length, no Kafka, no windows, no scores."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from stream_classifier.classify.batches import cut

if TYPE_CHECKING:
    from stream_classifier.model.encoder import Encoder

BUDGET = 512
"""Padded tokens of a batch: the default of `batch.max_tokens` on a CPU."""


def embed_all(encoder: Encoder, texts: list[str], threads: int) -> tuple[float, list[int]]:
    """Tokenise all texts, sort them all by length, cut them by the budget, and run the batches in so many threads.

    Returns:
        Seconds, and the tokens of each text.
    """
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        parts = [texts[index::threads] for index in range(threads)]
        ids = [row for encoded in pool.map(encoder.tokenize, parts) for row in encoded.ids]
        lengths = [len(row) for row in ids]
        list(pool.map(lambda batch: encoder.embed([ids[index] for index in batch]), cut(lengths, BUDGET)))
    return time.perf_counter() - begin, lengths
