"""Scoring by embeddings: a label fits a text as well as their embeddings are alike."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from stream_classifier.classify.cache import Cache
from stream_classifier.classify.classification import Failure
from stream_classifier.classify.cosine_scores import Embeddings, cosines, multi_scores, single_scores
from stream_classifier.classify.embedding import Embedded, Embedder
from stream_classifier.classify.few_shot import Compared, discriminants, margins
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked, Scores
from stream_classifier.classify.topics import UNRELATED_TOPICS
from stream_classifier.errors import ModelError, SettingsError
from stream_classifier.model.encoder import Encoder
from stream_classifier.windows import estimated_tokens


class Similarity:
    """Scores by embeddings; see `cosine_scores` for how, and `few_shot` for labels with examples.

    Threads may share one.

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
        self._compared: Cache[bytes, Compared] = Cache(label_sets_cached)
        self._topics: Embeddings | None = None

    def prepare(self, label_set: LabelSet) -> None:
        """Embed the labels ahead of time; see `Scorer.prepare`."""
        _, [compared] = self._embed([], [label_set], Measures())
        if isinstance(compared, Failure):
            raise SettingsError(f"label set {label_set.identity}: {compared.message}")

    def cost(self, text: str, label_set: LabelSet) -> float:
        """Estimated tokens of the text, and of the labels where the event brought them; see `Scorer.cost`."""
        of_labels = sum(map(estimated_tokens, label_set.names)) if label_set.version is None else 0
        return estimated_tokens(text) + of_labels

    def score(self, asked: Sequence[Asked], measures: Measures) -> list[Scores]:
        """Score each label by its embedding; see `Scorer.score`. All texts and new labels share batches."""
        rows = {text: row for row, text in enumerate(dict.fromkeys(text for one in asked for text in one.texts))}
        embedded, compared = self._embed(list(rows), [label_set for label_set, _ in asked], measures)
        return [
            self._scores(one.label_set, found, embedded, [rows[text] for text in one.texts])
            for one, found in zip(asked, compared, strict=True)
        ]

    def _scores(self, label_set: LabelSet, compared: Compared | Failure, texts: Embedded, rows: list[int]) -> Scores:
        truncated = [texts.truncated[row] for row in rows]
        if isinstance(compared, Failure):
            return Scores(
                np.zeros((len(rows), len(label_set.labels))), truncated, dict.fromkeys(range(len(rows)), compared)
            )
        near = cosines(texts.rows[rows], compared.vectors) + compared.offsets
        if label_set.mode == "multi":
            scores = multi_scores(near, self._temperature)
        else:  # discriminants have a temperature of their own, and are divided by it already
            scores = single_scores(near, 1.0 if label_set.has_examples else self._temperature)
        failures = {index: texts.failures[row] for index, row in enumerate(rows) if row in texts.failures}
        return Scores(scores, truncated, failures)

    def _embed(
        self, texts: list[str], label_sets: list[LabelSet], measures: Measures
    ) -> tuple[Embedded, list[Compared | Failure]]:
        """Embeddings of texts, and what label sets are compared by: new ones are run together with the texts."""
        digests = [label_set.digest for label_set in label_sets]
        compared: dict[bytes, Compared | Failure] = {**self._compared.get(digests)}
        new = [label_set for label_set in label_sets if label_set.digest not in compared]
        measures.cache["label_sets", "hit"] += len(compared)
        measures.cache["label_sets", "miss"] += len(new)

        rows = {text: row for row, text in enumerate(texts)}
        for label_set in new:
            for label in label_set.labels:
                for text in (label.reads, *label.examples):
                    rows.setdefault(text, len(rows))
        embedded = self._embedder.embed(list(rows), measures)
        fresh = {}
        for label_set in new:
            if failure := _failure(label_set, embedded, rows):
                compared[label_set.digest] = failure
            else:
                fresh[label_set.digest] = self._compared_by(label_set, embedded.rows, rows, measures)
        self._compared.put(fresh)
        compared |= fresh
        return embedded, [compared[digest] for digest in digests]

    def _compared_by(
        self, label_set: LabelSet, embeddings: Embeddings, rows: dict[str, int], measures: Measures
    ) -> Compared:
        """What texts are compared with: the labels, or in multi mode their margins over unrelated topics."""
        names = embeddings[[rows[label.reads] for label in label_set.labels]]
        examples = [embeddings[[rows[text] for text in label.examples]] for label in label_set.labels]
        if label_set.mode == "single":
            return discriminants(names, examples) if label_set.has_examples else Compared(names, np.zeros(len(names)))
        if self._topics is None:
            embedded = self._embedder.embed(UNRELATED_TOPICS, measures)
            if embedded.failures:
                raise ModelError("the model fails on this program's own texts: use another model bundle")
            self._topics = embedded.rows  # two threads may both come here; they find the same
        return margins(names, examples, self._topics, self._temperature)


def _failure(label_set: LabelSet, embedded: Embedded, rows: dict[str, int]) -> Failure | None:
    """Why a label set cannot be used: the first of its texts that failed, by its place."""
    if not embedded.failures:
        return None
    for number, label in enumerate(label_set.labels, 1):
        for place, text in enumerate((label.reads, *label.examples)):
            if failure := embedded.failures.get(rows[text]):
                which = f"example {place} of label" if place else "label"
                return Failure(f"{which} {number} of {len(label_set.labels)}: {failure.message}")
    return None
