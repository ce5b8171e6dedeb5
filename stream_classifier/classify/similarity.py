"""Scoring by embeddings: a label fits a text as well as their embeddings are alike."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from stream_classifier.classify.cache import Cache
from stream_classifier.classify.classification import Failure
from stream_classifier.classify.cosine_scores import (
    Embeddings,
    cosines,
    margin_vectors,
    multi_scores,
    single_scores,
)
from stream_classifier.classify.embedding import Embedded, Embedder
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked, Scores
from stream_classifier.classify.topics import UNRELATED_TOPICS
from stream_classifier.errors import ModelError, SettingsError
from stream_classifier.model.encoder import Encoder
from stream_classifier.windows import estimated_tokens


class Similarity:
    """Scores by the cosine of embeddings; see `cosine_scores` for how. Threads may share one.

    Args:
        encoder: The model.
        max_tokens: The most padded tokens of one run of the model.
        label_sets_cached: Label sets whose embeddings are kept.
        clock: Seconds, for the measures.

    Attributes:
        manifests: What the model's bundle says of itself.
        device: Where the model runs.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_tokens: int = 512,
        label_sets_cached: int = 256,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.manifests = (encoder.manifest,)
        self.device = encoder.device
        self._embedder = Embedder(encoder, max_tokens=max_tokens, clock=clock)
        self._temperature = encoder.temperature
        self._vectors: Cache[bytes, Embeddings] = Cache(label_sets_cached)
        self._topics: Embeddings | None = None

    def prepare(self, label_set: LabelSet) -> None:
        """Embed the labels ahead of time; see `Scorer.prepare`."""
        _, [vectors] = self._embed([], [label_set], Measures())
        if isinstance(vectors, Failure):
            raise SettingsError(f"label set {label_set.identity}: {vectors.message}")

    def cost(self, text: str, label_set: LabelSet) -> float:
        """Estimated tokens of the text, and of the labels where the event brought them; see `Scorer.cost`."""
        of_labels = sum(map(estimated_tokens, label_set.names)) if label_set.version is None else 0
        return estimated_tokens(text) + of_labels

    def score(self, asked: Sequence[Asked], measures: Measures) -> list[Scores]:
        """Score each label by its embedding; see `Scorer.score`. All texts and new labels share batches."""
        rows = {text: row for row, text in enumerate(dict.fromkeys(text for one in asked for text in one.texts))}
        embedded, vectors = self._embed(list(rows), [label_set for label_set, _ in asked], measures)
        return [
            self._scores(one.label_set, found, embedded, [rows[text] for text in one.texts])
            for one, found in zip(asked, vectors, strict=True)
        ]

    def _scores(self, label_set: LabelSet, vectors: Embeddings | Failure, texts: Embedded, rows: list[int]) -> Scores:
        truncated = [texts.truncated[row] for row in rows]
        if isinstance(vectors, Failure):
            return Scores(
                np.zeros((len(rows), len(label_set.labels))), truncated, dict.fromkeys(range(len(rows)), vectors)
            )
        to_scores = multi_scores if label_set.mode == "multi" else single_scores
        scores = to_scores(cosines(texts.rows[rows], vectors), self._temperature)
        failures = {index: texts.failures[row] for index, row in enumerate(rows) if row in texts.failures}
        return Scores(scores, truncated, failures)

    def _embed(
        self, texts: list[str], label_sets: list[LabelSet], measures: Measures
    ) -> tuple[Embedded, list[Embeddings | Failure]]:
        """Embeddings of texts, and the vectors of label sets: new ones are run together with the texts."""
        digests = [label_set.digest for label_set in label_sets]
        vectors: dict[bytes, Embeddings | Failure] = {**self._vectors.get(digests)}
        new = [label_set for label_set in label_sets if label_set.digest not in vectors]
        measures.cache["label_sets", "hit"] += len(vectors)
        measures.cache["label_sets", "miss"] += len(new)

        rows = {text: row for row, text in enumerate(texts)}
        for label_set in new:
            for label in label_set.labels:
                rows.setdefault(label.reads, len(rows))
        embedded = self._embedder.embed(list(rows), measures)
        fresh = {}
        for label_set in new:
            of_labels = [rows[label.reads] for label in label_set.labels]
            failed = [place for place, row in enumerate(of_labels) if row in embedded.failures]
            if failed:
                message = embedded.failures[of_labels[failed[0]]].message
                vectors[label_set.digest] = Failure(f"label {failed[0] + 1} of {len(of_labels)}: {message}")
            else:
                fresh[label_set.digest] = self._vectors_for(label_set, embedded.rows[of_labels], measures)
        self._vectors.put(fresh)
        vectors |= fresh
        return embedded, [vectors[digest] for digest in digests]

    def _vectors_for(self, label_set: LabelSet, labels: Embeddings, measures: Measures) -> Embeddings:
        """What texts are compared with: the labels, or in multi mode their margins over unrelated topics."""
        if label_set.mode == "single":
            return labels
        if self._topics is None:
            embedded = self._embedder.embed(UNRELATED_TOPICS, measures)
            if embedded.failures:
                raise ModelError("the model fails on this program's own texts: use another model bundle")
            self._topics = embedded.rows  # two threads may both come here; they find the same
        return margin_vectors(labels, self._topics)
