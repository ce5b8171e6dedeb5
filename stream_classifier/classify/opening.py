"""A bundle opened, and made ready to score in the way that it was made for."""

from collections.abc import Callable
from pathlib import Path

from stream_classifier.classify.budget import suitable_tokens
from stream_classifier.classify.cascade import Cascade
from stream_classifier.classify.entailment import Entailment
from stream_classifier.classify.scorer import Scorer
from stream_classifier.classify.similarity import Similarity
from stream_classifier.model.bundle import read_manifest
from stream_classifier.model.cross_encoder import CrossEncoder
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import ANYWHERE, Place
from stream_classifier.settings import CascadeSettings, Settings


def open_configured(settings: Settings, progress: Callable[[str], None]) -> Scorer:
    """Opens what a worker's settings name; see `open_scorer`."""
    model = settings.model
    return open_scorer(
        model.path,
        place=Place(model.device, model.device_ids, model.device_memory_mib),
        max_length=model.max_length,
        max_tokens=settings.batch.max_tokens,
        label_sets_cached=settings.cache.label_sets,
        cascade=model.cascade,
        progress=progress,
    )


def open_scorer(
    path: Path | None,
    *,
    place: Place = ANYWHERE,
    max_length: int | None = None,
    max_tokens: int | None = None,
    label_sets_cached: int = 256,
    cascade: CascadeSettings | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Scorer:
    """Opens a bundle once each of its files has been compared with the manifest.

    Args:
        path: The bundle's directory; None for the built-in model, which is built on first use.
        place: Where to run.
        max_length: Reads no more than this many tokens of a text, special tokens included; None: all the model can.
        max_tokens: The most padded tokens of one run of the model; None: as many as suit where it runs.
        label_sets_cached: Label sets that are remembered, for as much of their work as need not be done again.
        cascade: A bundle of entailment, and when it decides over one of similarity.
        progress: Is told, in a line each, what a first build is doing.

    Raises:
        BundleError: A bundle is damaged or incomplete, it is not of the task that it is to do, or something that it
            takes is not installed.
        UsageError: `max_length` is out of range.
    """

    def entailment(bundle: Path) -> Entailment:
        cross_encoder = CrossEncoder.open(bundle, place=place, max_length=max_length, progress=progress)
        tokens = max_tokens or suitable_tokens(cross_encoder.device)
        return Entailment(cross_encoder, max_tokens=tokens, label_sets_cached=label_sets_cached)

    if cascade is None and path is not None and read_manifest(path).task == "entailment":
        return entailment(path)
    encoder = Encoder.open(path, place=place, max_length=max_length, progress=progress)
    tokens = max_tokens or suitable_tokens(encoder.device)
    similarity = Similarity(encoder, max_tokens=tokens, label_sets_cached=label_sets_cached)
    if cascade is None:
        return similarity
    return Cascade(similarity, entailment(cascade.path), top_k=cascade.top_k, margin=cascade.margin)
