"""A bundle made ready: texts in, embeddings out. What the classifier stands on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream_classifier.errors import BundleError, UsageError
from stream_classifier.model.bundle import FEWEST_TOKENS, MODEL_FILE, REBUILD, TOKENIZER_FILE, Manifest, verify
from stream_classifier.model.default import build_default, default_path, is_built
from stream_classifier.model.session import ANYWHERE, OnnxSession, Place
from stream_classifier.model.tokenizer import BundleTokenizer, Encoded


def _quietly(_: str) -> None:
    pass


class Encoder:
    """A tokenizer and a session of one bundle. Threads may share one.

    Attributes:
        manifest: What the bundle says of itself.
        device: Where the model runs.
        dimensions: Length of an embedding.
        temperature: What cosines are divided by before a softmax.
    """

    def __init__(self, manifest: Manifest, tokenizer: BundleTokenizer, session: OnnxSession) -> None:
        self.manifest = manifest
        self.device = session.device
        self.dimensions = manifest.dimensions
        self.temperature = manifest.temperature
        self._tokenizer = tokenizer
        self._session = session

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        place: Place = ANYWHERE,
        max_length: int | None = None,
        progress: Callable[[str], None] = _quietly,
    ) -> Self:
        """Opens a bundle once each of its files has been compared with the manifest.

        A damaged bundle is refused, the built-in one too: what damaged it should be known before it is built again.

        Args:
            path: The bundle's directory; None for the built-in model, which is built on first use.
            place: Where to run.
            max_length: Reads no more than this many tokens of a text, special tokens included; None: all the model can.
            progress: Is told, in a line each, what a first build is doing.

        Raises:
            BundleError: The bundle is damaged or incomplete, it is not one of similarity, or something it takes is not
                installed.
            UsageError: `max_length` is out of range.
        """
        if path is None:
            path = default_path()
            if not is_built(path):
                build_default(progress=progress)
        manifest = verify(path)
        if manifest.task != "similarity":
            raise BundleError(f"{path} is a model of {manifest.task}, which gives no embeddings: name another bundle")
        tokenizer = _tokenizer(
            path / TOKENIZER_FILE, manifest, manifest.max_length if max_length is None else max_length
        )
        session = OnnxSession(path / MODEL_FILE, place=place, precision=manifest.precision, progress=progress)
        if session.dimensions != manifest.dimensions:
            raise BundleError(
                f"{path / MODEL_FILE} gives {session.dimensions} dimensions, its manifest says {manifest.dimensions}:"
                f" {REBUILD}"
            )
        return cls(manifest, tokenizer, session)

    def tokenize(self, texts: Sequence[str]) -> Encoded:
        """Token ids of texts, each truncated to what the model reads; see `BundleTokenizer.encode`."""
        return self._tokenizer.encode(texts)

    def embed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Embeds one batch of tokenised texts, as it is: whoever calls decides how much runs at once.

        Returns:
            Embeddings of unit length, float32 [texts, dimensions].

        Raises:
            OutOfMemoryError: The batch does not fit in memory.
            RunFailedError: The model failed on these texts.
        """
        if not ids:
            return np.empty((0, self.dimensions), np.float32)
        return self._session.run(ids, self._tokenizer.pad_id)


def _tokenizer(path: Path, manifest: Manifest, max_length: int) -> BundleTokenizer:
    """The bundle's tokenizer, unless the prefix and the special tokens would leave no room for a text."""
    if max_length > manifest.max_length:
        raise UsageError(
            f"model.max_length is {max_length}: set at most {manifest.max_length}, {manifest.name}'s limit"
        )
    if max_length >= FEWEST_TOKENS:
        tokenizer = BundleTokenizer(path, prefix=manifest.prefix, max_length=max_length)
        [no_text], _ = tokenizer.encode([""])
        if len(no_text) < max_length:
            return tokenizer
    raise UsageError(f"model.max_length is {max_length}: {manifest.name} needs more for its prefix alone")
