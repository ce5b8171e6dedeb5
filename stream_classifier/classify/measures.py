"""What a call of `Classifier.classify` cost: for metrics, and for whoever wonders where the time went."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

CacheName = Literal["results", "label_sets"]
CacheResult = Literal["hit", "miss"]
RetryCause = Literal["inference", "out_of_memory"]


class Batch(NamedTuple):
    """One run of the model that succeeded.

    Attributes:
        events: Texts in it, the labels of a label set that is new among them; or pairs of a text and a label.
        padded_tokens: Tokens computed: the longest one's, times their number.
        useful_tokens: Tokens of the texts or pairs themselves.
        seconds: Time taken.
    """

    events: int
    padded_tokens: int
    useful_tokens: int
    seconds: float


@dataclass(slots=True)
class Measures:
    """What one call cost.

    Attributes:
        batches: The runs of the model that succeeded, in their order; checks with the canary texts are not among them.
        tokenize_seconds: Time taken to tokenise.
        truncated: Results for texts that are longer than the model reads.
        cache: Requests and label sets, by whether they were remembered. A text that comes twice in one call is one
            miss and one hit.
        retries: Runs that failed and were cut smaller, by cause.
    """

    batches: list[Batch] = field(default_factory=list)
    tokenize_seconds: float = 0.0
    truncated: int = 0
    cache: Counter[tuple[CacheName, CacheResult]] = field(default_factory=Counter)
    retries: Counter[RetryCause] = field(default_factory=Counter)
