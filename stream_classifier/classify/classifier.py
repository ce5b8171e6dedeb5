"""Texts and label sets in, classifications out: what the worker's inference threads call."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from stream_classifier.classify.cache import Cache
from stream_classifier.classify.classification import Classification, Failure, decide
from stream_classifier.classify.embedding import Embedded, Embedder
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.similarity import (
    Embeddings,
    cosines,
    margin_vectors,
    multi_scores,
    single_scores,
)
from stream_classifier.classify.topics import UNRELATED_TOPICS
from stream_classifier.errors import ModelError, SettingsError
from stream_classifier.model.encoder import Encoder


class Request(NamedTuple):
    """A text to be labelled, and the labels to choose from."""

    text: str
    label_set: LabelSet


class Classified(NamedTuple):
    """What became of some requests.

    Attributes:
        results: One for each request, in their order.
        measures: What it cost.
    """

    results: list[Classification | Failure]
    measures: Measures


class Classifier:
    """Labels texts with a model. Threads may share one.

    Args:
        encoder: The model.
        max_tokens: The most padded tokens of one run of the model.
        top_k: How many labels a result lists in single mode.
        label_sets_cached: Label sets whose embeddings are kept.
        results_cached: Results that are kept for texts that come again; with 0 none is. A text is remembered by 16
            bytes, however long it is.
        clock: Seconds, for the measures.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_tokens: int = 512,
        top_k: int = 5,
        label_sets_cached: int = 256,
        results_cached: int = 10_000,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._embedder = Embedder(encoder, max_tokens=max_tokens, clock=clock)
        self._model = encoder.manifest.identity
        self._temperature = encoder.temperature
        self._top_k = top_k
        self._results: Cache[bytes, Classification] = Cache(results_cached)
        self._vectors: Cache[bytes, Embeddings] = Cache(label_sets_cached)
        self._topics: Embeddings | None = None

    def prepare(self, label_sets: Iterable[LabelSet]) -> None:
        """Embed label sets ahead of time, so that the first text need not wait for them.

        Raises:
            SettingsError: The model cannot read a label.
            OutOfMemoryError: A label alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good.
        """
        for label_set in label_sets:
            _, vectors = self._embed([], {label_set.digest: label_set}, Measures())
            prepared = vectors[label_set.digest]
            if isinstance(prepared, Failure):
                raise SettingsError(f"label set {label_set.identity}: {prepared.message}")

    def classify(self, requests: Sequence[Request]) -> Classified:
        """Label texts.

        A text's result depends on the text, the label set and the model, and on nothing that is asked beside it. One
        that the model cannot run comes out as a `Failure`, and its neighbours are labelled. Failures are not
        remembered.

        Args:
            requests: Any number, also of different label sets. Equal ones are run once.

        Raises:
            OutOfMemoryError: One text alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good: no text is to blame.
        """
        measures = Measures()
        keys = [_key(request) for request in requests]
        results: dict[bytes, Classification | Failure] = {**self._results.get(keys)}
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in results}
        measures.cache["results", "miss"] += len(new)
        measures.cache["results", "hit"] += len(requests) - len(new)
        if new:
            fresh = dict(zip(new, self._label(list(new.values()), measures), strict=True))
            self._results.put({key: result for key, result in fresh.items() if isinstance(result, Classification)})
            results |= fresh
        in_order = [results[key] for key in keys]
        measures.truncated = sum(isinstance(result, Classification) and result.truncated for result in in_order)
        return Classified(in_order, measures)

    def _label(self, requests: list[Request], measures: Measures) -> list[Classification | Failure]:
        """Results of requests of which no two are equal."""
        texts = {text: index for index, text in enumerate(dict.fromkeys(request.text for request in requests))}
        label_sets: dict[bytes, LabelSet] = {}
        places: dict[bytes, list[int]] = {}
        for place, (_, label_set) in enumerate(requests):
            label_sets.setdefault(label_set.digest, label_set)
            places.setdefault(label_set.digest, []).append(place)
        embedded, vectors = self._embed(list(texts), label_sets, measures)

        results: dict[int, Classification | Failure] = {}
        for digest, label_set in label_sets.items():
            found = vectors[digest]
            sound: list[tuple[int, int]] = []  # (place of the request, row of its text)
            for place in places[digest]:
                row = texts[requests[place].text]
                failure = found if isinstance(found, Failure) else embedded.failures.get(row)
                if failure is None:
                    sound.append((place, row))
                else:
                    results[place] = failure
            if sound and not isinstance(found, Failure):
                rows = [row for _, row in sound]
                labelled = self._score(label_set, found, embedded.rows[rows], [embedded.truncated[row] for row in rows])
                for (place, _), result in zip(sound, labelled, strict=True):
                    results[place] = result
        return [results[place] for place in range(len(requests))]

    def _score(
        self, label_set: LabelSet, vectors: Embeddings, texts: Embeddings, truncated: list[bool]
    ) -> list[Classification]:
        to_scores = multi_scores if label_set.mode == "multi" else single_scores
        scores = to_scores(cosines(texts, vectors), self._temperature)
        return decide(label_set, scores, truncated, model=self._model, top_k=self._top_k)

    def _embed(
        self, texts: list[str], label_sets: dict[bytes, LabelSet], measures: Measures
    ) -> tuple[Embedded, dict[bytes, Embeddings | Failure]]:
        """Embeddings of texts, and the vectors of label sets: new ones are run together with the texts."""
        vectors: dict[bytes, Embeddings | Failure] = {**self._vectors.get(label_sets)}
        new = {digest: label_set for digest, label_set in label_sets.items() if digest not in vectors}
        measures.cache["label_sets", "hit"] += len(vectors)
        measures.cache["label_sets", "miss"] += len(new)
        if not new:
            return self._embedder.embed(texts, measures), vectors

        rows = {text: row for row, text in enumerate(texts)}
        for label_set in new.values():
            for label in label_set.labels:
                rows.setdefault(label.reads, len(rows))
        embedded = self._embedder.embed(list(rows), measures)
        fresh = {}
        for digest, label_set in new.items():
            of_labels = [rows[label.reads] for label in label_set.labels]
            failed = [place for place, row in enumerate(of_labels) if row in embedded.failures]
            if failed:
                message = embedded.failures[of_labels[failed[0]]].message
                vectors[digest] = Failure(f"label {failed[0] + 1} of {len(of_labels)}: {message}")
            else:
                fresh[digest] = self._vectors_for(label_set, embedded.rows[of_labels], measures)
        self._vectors.put(fresh)
        return embedded, vectors | fresh

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


def _key(request: Request) -> bytes:
    text = request.text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16, key=request.label_set.digest).digest()
