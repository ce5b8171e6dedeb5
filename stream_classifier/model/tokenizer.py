"""Texts to token ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from stream_classifier.errors import BundleError
from stream_classifier.model.bundle import REBUILD
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
        # The worker's inference threads are the parallelism; tokenizers' own pool beside them would only compete.
        # Tokenizers reads this at each call and has no other switch.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with the file
            raise BundleError(f"{path} cannot be read as a tokenizer: {REBUILD}") from error
        self.pad_id: int = (self._tokenizer.padding or {"pad_id": 0})["pad_id"]
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._prefix = prefix

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenises texts, each on its own: no text's ids depend on the others.

        Raises:
            RunFailedError: The tokenizer cannot read one of the texts, say for a lone surrogate.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast([self._prefix + text for text in texts])
        except Exception as error:  # TypeError for what is no text, bare Exception for whatever else
            cause = type(error).__name__
            raise RunFailedError(f"the tokenizer failed on one of {len(texts)} texts: {cause}") from error
        return Encoded(
            ids=[encoding.ids for encoding in encodings],
            truncated=[bool(encoding.overflowing) for encoding in encodings],
        )
