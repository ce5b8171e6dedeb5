"""What the contenders label: texts made of the sample tickets, Chinese and English, the same for a given seed."""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING

import orjson

from stream_classifier.samples import load_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEDIAN_TOKENS = 20
P95_TOKENS = 120
MOST_TOKENS = 256
REPEATED = 0.3
_SIGMA = math.log(P95_TOKENS / MEDIAN_TOKENS) / 1.645  # of a lognormal distribution with these two
_TOKENS_PER_CHARACTER = 0.36  # of the sample tickets, with the built-in model's tokenizer
_OTHER_TOKENS = 9  # the prefix that the model wants, what begins and ends a text, and the number


def short(count: int, seed: int) -> list[str]:
    """Tickets as they are, each different from the others by a number."""
    return [f"{ticket} {number}" for number, ticket in zip(range(count), _shuffled(seed), strict=False)]


def mixed(count: int, seed: int) -> list[str]:
    """Lengths spread as in comments and mails: some of a few words, some of a page."""
    chance, texts = random.Random(seed), _shuffled(seed)  # noqa: S311 - texts, not secrets
    return [
        f"{_of_length(min(chance.lognormvariate(math.log(MEDIAN_TOKENS), _SIGMA), MOST_TOKENS), texts)} {number}"
        for number in range(count)
    ]


def duplicates(count: int, seed: int) -> list[str]:
    """Tickets of which three in ten were there before, as with canned phrases and copied complaints."""
    chance = random.Random(seed)  # noqa: S311 - texts, not secrets
    texts: list[str] = []
    for text in short(count, seed):
        texts.append(chance.choice(texts) if texts and chance.random() < REPEATED else text)
    return texts


WORKLOADS: dict[str, Callable[[int, int], list[str]]] = {"short": short, "mixed": mixed, "duplicates": duplicates}


def tickets() -> list[str]:
    """The texts of the sample tickets."""
    return [orjson.loads(sample.value or b"")["text"] for sample in load_samples() if not sample.broken]


def _shuffled(seed: int) -> Iterator[str]:
    """Tickets in another order, again and again."""
    texts = tickets()
    random.Random(seed).shuffle(texts)  # noqa: S311 - texts, not secrets
    return itertools.cycle(texts)


def _of_length(tokens: float, texts: Iterator[str]) -> str:
    characters = max(4, round((tokens - _OTHER_TOKENS) / _TOKENS_PER_CHARACTER))
    text = next(texts)
    while len(text) < characters:
        text = f"{text} {next(texts)}"
    return text[:characters]
