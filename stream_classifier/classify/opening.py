"""A bundle opened, and made ready to score in the way that it was made for."""

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from stream_classifier.classify.cascade import Cascade
from stream_classifier.classify.entailment import Entailment
from stream_classifier.classify.scorer import Scorer
from stream_classifier.classify.similarity import Similarity
from stream_classifier.model.bundle import read_manifest
from stream_classifier.model.cross_encoder import CrossEncoder
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import Device
from stream_classifier.settings import CascadeSettings


def open_scorer(
    path: Path | None,
    *,
    device: Device = "auto",
    max_length: int | None = None,
    max_tokens: int = 512,
    label_sets_cached: int = 256,
    cascade: CascadeSettings | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Scorer:
    """Opens a bundle once each of its files has been compared with the manifest.

    Args:
        path: The bundle's directory; None for the built-in model, which is built on first use.
        device: Where to run.
        max_length: Reads no more than this many tokens of a text, special tokens included; None: all the model can.
        max_tokens: The most padded tokens of one run of the model.
        label_sets_cached: Label sets that are remembered, for as much of their work as need not be done again.
        cascade: A bundle of entailment, and when it decides over one of similarity.
        progress: Is told, in a line each, what a first build is doing.

    Raises:
        BundleError: A bundle is damaged or incomplete, it is not of the task that it is to do, or something that it
            takes is not installed.
        UsageError: `max_length` is out of range.
    """
    sizes: _Sizes = {"max_tokens": max_tokens, "label_sets_cached": label_sets_cached}
    if cascade is None and path is not None and read_manifest(path).task == "entailment":
        return Entailment(CrossEncoder.open(path, device=device, max_length=max_length), **sizes)
    similarity = Similarity(Encoder.open(path, device=device, max_length=max_length, progress=progress), **sizes)
    if cascade is None:
        return similarity
    entailment = Entailment(CrossEncoder.open(cascade.path, device=device, max_length=max_length), **sizes)
    return Cascade(similarity, entailment, top_k=cascade.top_k, margin=cascade.margin)


class _Sizes(TypedDict):
    max_tokens: int
    label_sets_cached: int
