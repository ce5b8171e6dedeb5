"""What is asked of the exporter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stream_classifier.model.bundle import Precision, Task

Pooling = Literal["mean", "cls"]
Truncation = Literal["only_first", "longest_first"]
Activations = Literal["per_token", "static"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One model to export. What is None is found out from the model, or is the default for its task.

    Attributes:
        source: Directory of the model, or its id on a hub.
        out: Directory to write the bundle to.
        task: What the model is to do.
        precision: Of the matrix products.
        activations: How activations become integers, with int7.
        calibration: File of texts, one a line, to measure activations with, for static ones.
        name: Of the bundle.
        pooling: Of similarity: how tokens' vectors become a text's.
        prefix: Of similarity: put before every text.
        temperature: Divides cosines or logits.
        max_length: The longest text in tokens.
        template: Of entailment: how a label becomes a hypothesis.
        truncation: Of entailment: what a pair that is too long loses its end of.
        entailment_id: The logit of "entailed", for models that do not name theirs.
        contradiction_id: The logit of "contradicted", likewise.
        licence: Of the weights, an SPDX identifier.
        revision: Of a model on a hub.
        weights_sha256: What the SHA-256 of the weights has to be.
        allow_pickled_weights: Takes weights that are pickled, where there are no others.
        allow_unfused: Takes a graph with fewer fused attentions than the model has layers.
        limit: Over the default limit of the parity gate.
        force: Replaces a bundle that is in `out`.
    """

    source: str
    out: Path
    task: Task
    precision: Precision = "int7"
    activations: Activations = "per_token"
    calibration: Path | None = None
    name: str | None = None
    pooling: Pooling | None = None
    prefix: str | None = None
    temperature: float | None = None
    max_length: int | None = None
    template: str | None = None
    truncation: Truncation | None = None
    entailment_id: int | None = None
    contradiction_id: int | None = None
    licence: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None
    allow_pickled_weights: bool = False
    allow_unfused: bool = False
    limit: float | None = None
    force: bool = False
