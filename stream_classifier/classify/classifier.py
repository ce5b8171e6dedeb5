"""Texts and label sets in, classifications out: what the worker's inference threads call."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from stream_classifier.classify.cache import Cache
from stream_classifier.classify.classification import Classification, Failure, decide
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked, Scorer, Scores
from stream_classifier.classify.temperature import tempered


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
        scorer: The model, and how it scores.
        top_k: How many labels a result lists in single mode.
        results_cached: Results that are kept for texts that come again; with 0 none is. A text is remembered by 16
            bytes, however long it is.

    Attributes:
        model: Identity of the bundle, or bundles: what results carry.
        short_hash: Of the bundle, or bundles: what headers carry.
    """

    def __init__(self, scorer: Scorer, *, top_k: int = 5, results_cached: int = 10_000) -> None:
        self._scorer = scorer
        self.model = "+".join(manifest.identity for manifest in scorer.manifests)
        self.short_hash = "+".join(manifest.short_hash for manifest in scorer.manifests)
        self._top_k = top_k
        self._results: Cache[bytes, Classification] = Cache(results_cached)

    def prepare(self, label_sets: Iterable[LabelSet]) -> None:
        """Make label sets ready ahead of time, so that the first text need not wait for them.

        Raises:
            SettingsError: The model cannot read a label.
            OutOfMemoryError: A label alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good.
        """
        for label_set in label_sets:
            self._scorer.prepare(label_set)

    def cost(self, request: Request) -> float:
        """About how many tokens the model has to read for a request; see `Scorer.cost`."""
        return self._scorer.cost(request.text, request.label_set)

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

    def scores(self, label_set: LabelSet, texts: Sequence[str], *, temperature: float | None = None) -> Scores:
        """The scores of all labels, before anything is decided or rounded; nothing is remembered.

        Args:
            label_set: The labels.
            texts: At least one; equal ones are run once.
            temperature: Of the scores; None for the label set's, by which a cascade finds what is in doubt in any case.

        Raises:
            OutOfMemoryError: One text alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good: no text is to blame.
        """
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        [scored] = self._scorer.score([Asked(label_set, list(rows))], Measures())
        places = [rows[text] for text in texts]
        return Scores(
            tempered(
                scored.scores[places], label_set.mode, label_set.temperature if temperature is None else temperature
            ),
            [scored.truncated[place] for place in places],
            {index: scored.failures[place] for index, place in enumerate(places) if place in scored.failures},
            None if scored.decided_by is None else [scored.decided_by[place] for place in places],
        )

    def _label(self, requests: list[Request], measures: Measures) -> list[Classification | Failure]:
        """Results of requests of which no two are equal."""
        places: dict[bytes, list[int]] = {}
        for place, (_, label_set) in enumerate(requests):
            places.setdefault(label_set.digest, []).append(place)
        asked = [
            Asked(requests[of_set[0]].label_set, [requests[place].text for place in of_set])
            for of_set in places.values()
        ]
        results: dict[int, Classification | Failure] = {}
        scored = self._scorer.score(asked, measures)
        for of_set, one, scores in zip(places.values(), asked, scored, strict=True):
            results |= zip(of_set, self._decide(one.label_set, scores), strict=True)
        return [results[place] for place in range(len(requests))]

    def _decide(self, label_set: LabelSet, scored: Scores) -> list[Classification | Failure]:
        labelled = decide(
            label_set,
            tempered(scored.scores, label_set.mode, label_set.temperature),
            scored.truncated,
            model=self.model,
            top_k=self._top_k,
            decided_by=scored.decided_by,
        )
        failures = {index: replace(failure, label_set=label_set.identity) for index, failure in scored.failures.items()}
        return [failures.get(index, result) for index, result in enumerate(labelled)]


def _key(request: Request) -> bytes:
    text = request.text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16, key=request.label_set.digest).digest()
