"""Texts to token ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

from stream_classifier.errors import BundleError
from stream_classifier.model.bundle import REBUILD
from stream_classifier.model.pair_layout import layout_of
from stream_classifier.model.session import RunFailedError


class Encoded(NamedTuple):
    """Token ids of some texts.

    Attributes:
        ids: Of each text its ids, special tokens included, without padding.
        truncated: Of each text, whether it was longer than the model reads.
    """

    ids: list[list[int]]
    truncated: list[bool]


class BundleTokenizer:
    """The tokenizer of a bundle. Threads may share one.

    Args:
        path: The bundle's tokenizer.json.
        prefix: Put before each text.
        max_length: The longest text in tokens, special tokens included. Longer ones lose their end, never their
            special tokens.

    Attributes:
        pad_id: The id that fills up the shorter texts of a batch.

    Raises:
        BundleError: The file cannot be read.
    """

    def __init__(self, path: Path, *, prefix: str, max_length: int) -> None:
        self._tokenizer, self.pad_id = _read(path)
        self._tokenizer.enable_truncation(max_length)
        self._prefix = prefix

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenises texts, each on its own: no text's ids depend on the others.

        Raises:
            RunFailedError: The tokenizer cannot read one of the texts, say for a lone surrogate.
        """
        encodings = _encodings(self._tokenizer, [self._prefix + text for text in texts], special_tokens=True)
        return Encoded(
            ids=[encoding.ids for encoding in encodings],
            truncated=[bool(encoding.overflowing) for encoding in encodings],
        )


class PairTokenizer:
    """The tokenizer of a bundle whose model reads pairs of texts. Threads may share one.

    The texts of a pair are tokenised each on its own, without special tokens and as long as they are, so that one that
    is in many pairs is tokenised once; `layout` then says how they are joined.

    Args:
        path: The bundle's tokenizer.json.
        prefix: Put before each text.

    Attributes:
        pad_id: The id that fills up the shorter pairs of a batch.
        layout: How two texts become a pair.

    Raises:
        BundleError: The file cannot be read, or how it joins a pair cannot be understood.
    """

    def __init__(self, path: Path, *, prefix: str) -> None:
        self._tokenizer, self.pad_id = _read(path)
        self._tokenizer.no_truncation()
        self._prefix = prefix
        try:
            self.layout = layout_of(self._tokenizer)
        except Exception as error:  # ours, and tokenizers' bare Exception
            reason = f"how it joins a pair of texts cannot be understood ({error})"
            raise BundleError(f"{path}: {reason}: {REBUILD}") from error

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens, each tokenised on its own.

        Raises:
            RunFailedError: The tokenizer cannot read one of the texts, say for a lone surrogate.
        """
        prefixed = [self._prefix + text for text in texts]
        return [encoding.ids for encoding in _encodings(self._tokenizer, prefixed, special_tokens=False)]


def _read(path: Path) -> tuple[Tokenizer, int]:
    """A tokenizer that pads nothing, and the id that it would have padded with."""
    # The worker's inference threads are the parallelism; tokenizers' own pool beside them would only compete.
    # Tokenizers reads this at each call and has no other switch.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with the file
        raise BundleError(f"{path} cannot be read as a tokenizer: {REBUILD}") from error
    pad_id: int = (tokenizer.padding or {"pad_id": 0})["pad_id"]
    tokenizer.no_padding()
    return tokenizer, pad_id


def _encodings(tokenizer: Tokenizer, texts: Sequence[str], *, special_tokens: bool) -> list[Encoding]:
    try:
        return tokenizer.encode_batch_fast(texts, add_special_tokens=special_tokens)
    except Exception as error:  # TypeError for what is no text, bare Exception for whatever else
        cause = type(error).__name__
        raise RunFailedError(f"the tokenizer failed on one of {len(texts)} texts: {cause}") from error
