"""The model of the settings, made ready, and shown in the metrics: for the worker and for the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_classifier.classify.classifier import Classifier
from stream_classifier.classify.opening import open_configured
from stream_classifier.cores import available_cores
from stream_classifier.device_metrics import DeviceMetrics

if TYPE_CHECKING:
    from collections.abc import Collection

    from structlog.typing import FilteringBoundLogger

    from stream_classifier.classify.labels import LabelSet
    from stream_classifier.metrics import Metrics
    from stream_classifier.settings import Settings

_THREADS_PER_GPU = 3  # one whose batch runs, one whose batch is next, one that tokenises


def open_model(
    settings: Settings,
    label_sets: Collection[LabelSet],
    metrics: Metrics,
    log: FilteringBoundLogger,
    *,
    top_k: int,
) -> tuple[Classifier, int]:
    """A classifier, and how many inference threads suit it.

    Args:
        settings: Name the model.
        label_sets: Are made ready ahead of time.
        metrics: Say which model it is.
        log: Is told how far it is.
        top_k: How many labels a result lists in single mode.

    Raises:
        StreamClassifierError: It cannot be loaded, or cannot read the labels.
    """
    scorer = open_configured(settings, lambda line: log.info("model", progress=line))
    classifier = Classifier(scorer, top_k=top_k, results_cached=settings.cache.results)
    classifier.prepare(label_sets)
    for manifest in scorer.manifests:
        metrics.model_info.labels(manifest.name, manifest.short_hash, manifest.precision, scorer.device).set(1)
    gpus = () if scorer.device == "cpu" else settings.model.device_ids
    if gpus:
        metrics.registry.register(DeviceMetrics(gpus))
    threads = settings.model.threads or _THREADS_PER_GPU * len(gpus) or available_cores()
    labels = ", ".join(label_set.identity for label_set in label_sets)
    log.info("model loaded", model=classifier.model, labels=labels, device=scorer.device, threads=threads)
    return classifier, threads
