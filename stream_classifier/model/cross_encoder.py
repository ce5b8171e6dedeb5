"""A bundle of task entailment made ready: pairs of texts in, logits out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stream_classifier.errors import BundleError, UsageError
from stream_classifier.model.bundle import MODEL_FILE, REBUILD, TOKENIZER_FILE, Entailment, Manifest, verify
from stream_classifier.model.pair_layout import kept
from stream_classifier.model.session import ANYWHERE, OnnxSession, Place
from stream_classifier.model.tokenizer import PairTokenizer

FEWEST_ROOM = 2
"""Tokens that a pair has to have room for, besides its special ones: one of each text."""


class Pair(NamedTuple):
    """A premise and a hypothesis, each as its token ids, without special tokens and as long as it is."""

    premise: list[int]
    hypothesis: list[int]


class CrossEncoder:
    """A tokenizer and a session of one bundle, for pairs. Threads may share one.

    Attributes:
        manifest: What the bundle says of itself.
        asks: How the model is asked and its answer is read.
        device: Where the model runs.
        room: Tokens that a pair may have besides its special ones.
    """

    def __init__(
        self, manifest: Manifest, asks: Entailment, tokenizer: PairTokenizer, session: OnnxSession, *, max_length: int
    ) -> None:
        self.manifest = manifest
        self.asks = asks
        self.device = session.device
        self.room = max_length - tokenizer.layout.special_tokens
        self._tokenizer = tokenizer
        self._layout = tokenizer.layout
        self._session = session

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        place: Place = ANYWHERE,
        max_length: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Opens a bundle once each of its files has been compared with the manifest.

        Args:
            path: The bundle's directory.
            place: Where to run.
            max_length: Reads no more than this many tokens of a pair, special tokens included; None: all the model can.
            progress: Is told, in a line, when no GPU can be used and the CPU is taken instead.

        Raises:
            BundleError: The bundle is damaged or incomplete, it is not one of entailment, how its tokenizer joins a
                pair cannot be understood, or something it takes is not installed.
            UsageError: `max_length` is out of range.
        """
        manifest = verify(path)
        if manifest.entailment is None:
            raise BundleError(f"{path} is a model of {manifest.task}, not of entailment: name another bundle")
        if max_length is not None and max_length > manifest.max_length:
            raise UsageError(
                f"model.max_length is {max_length}: set at most {manifest.max_length}, {manifest.name}'s limit"
            )
        tokenizer = PairTokenizer(path / TOKENIZER_FILE, prefix=manifest.prefix)
        max_length = manifest.max_length if max_length is None else max_length
        if max_length < tokenizer.layout.special_tokens + FEWEST_ROOM:
            raise UsageError(f"model.max_length is {max_length}: {manifest.name} needs more for a pair of texts")
        session = OnnxSession(path / MODEL_FILE, "logits", place=place, precision=manifest.precision, progress=progress)
        if session.dimensions != manifest.dimensions:
            raise BundleError(
                f"{path / MODEL_FILE} gives {session.dimensions} logits, its manifest says {manifest.dimensions}:"
                f" {REBUILD}"
            )
        return cls(manifest, manifest.entailment, tokenizer, session, max_length=max_length)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are to be in pairs; see `PairTokenizer.encode`."""
        return self._tokenizer.encode(texts)

    def leaves_room(self, hypothesis: Sequence[int]) -> bool:
        """Whether something of every premise can be read beside a hypothesis."""
        return self.asks.truncation != "only_first" or len(hypothesis) < self.room

    def kept(self, pair: Pair) -> tuple[int, int]:
        """How many tokens are read of the premise, and how many of the hypothesis, which leaves room."""
        return kept(len(pair.premise), len(pair.hypothesis), self.room, self.asks.truncation)

    def length(self, pair: Pair) -> int:
        """Tokens of the pair, joined and truncated."""
        return sum(self.kept(pair)) + self._layout.special_tokens

    def logits(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Runs one batch of pairs, as it is: whoever calls decides how much runs at once.

        Args:
            pairs: At least one.

        Returns:
            float32 [pairs, classes].

        Raises:
            OutOfMemoryError: The batch does not fit in memory.
            RunFailedError: The model failed on these pairs.
        """
        lengths = [self.kept(pair) for pair in pairs]
        ids = [
            self._layout.join(pair.premise[:premise], pair.hypothesis[:hypothesis])
            for pair, (premise, hypothesis) in zip(pairs, lengths, strict=True)
        ]
        types = [self._layout.join_types(*each) for each in lengths] if self._session.takes_types else None
        return self._session.run(ids, self._tokenizer.pad_id, types)
