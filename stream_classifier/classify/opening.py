"""A bundle opened, and made ready to score in the way that it was made for."""

from collections.abc import Callable
from pathlib import Path

from stream_classifier.classify.scorer import Scorer
from stream_classifier.classify.similarity import Similarity
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import Device


def open_scorer(
    path: Path | None,
    *,
    device: Device = "auto",
    max_length: int | None = None,
    max_tokens: int = 512,
    label_sets_cached: int = 256,
    progress: Callable[[str], None] = lambda _: None,
) -> Scorer:
    """Opens a bundle once each of its files has been compared with the manifest.

    Args:
        path: The bundle's directory; None for the built-in model, which is built on first use.
        device: Where to run.
        max_length: Reads no more than this many tokens of a text, special tokens included; None: all the model can.
        max_tokens: The most padded tokens of one run of the model.
        label_sets_cached: Label sets that are remembered, for as much of their work as need not be done again.
        progress: Is told, in a line each, what a first build is doing.

    Raises:
        BundleError: The bundle is damaged or incomplete, or something it takes is not installed.
        UsageError: `max_length` is out of range.
    """
    encoder = Encoder.open(path, device=device, max_length=max_length, progress=progress)
    return Similarity(encoder, max_tokens=max_tokens, label_sets_cached=label_sets_cached)
