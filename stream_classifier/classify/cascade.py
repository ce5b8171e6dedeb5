"""Two models in turn: similarity proposes labels, and entailment decides among them where similarity is in doubt."""

from collections.abc import Collection, Sequence

from stream_classifier.classify.cascade_scores import combined, in_doubt
from stream_classifier.classify.entailment import Among, Entailment
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked, Scores
from stream_classifier.classify.similarity import Similarity
from stream_classifier.classify.temperature import tempered
from stream_classifier.model.bundle import Task


class Cascade:
    """Scores by similarity, and by entailment what similarity is in doubt about; see `cascade_scores` for how.

    Threads may share one. A text fails when a model that reads it fails on it, and is truncated when a model that reads
    it reads only its beginning.

    Args:
        similarity: Proposes.
        entailment: Decides.
        top_k: How many labels of a text are put to entailment, at most.
        margin: How far apart scores have to be for similarity to be sure.

    Attributes:
        manifests: What both bundles say of themselves.
        device: Where the models run.
    """

    def __init__(self, similarity: Similarity, entailment: Entailment, *, top_k: int, margin: float) -> None:
        self.manifests = (*similarity.manifests, *entailment.manifests)
        self.device = similarity.device
        self._similarity = similarity
        self._entailment = entailment
        self._top_k = top_k
        self._margin = margin

    def prepare(self, label_set: LabelSet) -> None:
        """Make both models ready; see `Scorer.prepare`. Examples are for similarity."""
        self._similarity.prepare(label_set)
        self._entailment.warm(label_set)

    def cost(self, text: str, label_set: LabelSet) -> float:
        """Estimated tokens of a text that is in doubt; see `Scorer.cost`."""
        share = min(1.0, self._top_k / len(label_set.labels))
        return self._similarity.cost(text, label_set) + share * self._entailment.cost(text, label_set)

    def score(self, asked: Sequence[Asked], measures: Measures) -> list[Scores]:
        """Score by one model or both; see `Scorer.score`."""
        proposed = self._similarity.score(asked, measures)
        doubts = [self._doubts(one.label_set, scores) for one, scores in zip(asked, proposed, strict=True)]
        put = [
            Among(one.label_set, [one.texts[index] for index in of_set], list(of_set.values()))
            for one, of_set in zip(asked, doubts, strict=True)
            if of_set
        ]
        decided = iter(self._entailment.among(put, measures) if put else [])
        return [
            _together(one.label_set, scores, of_set, next(decided) if of_set else None)
            for one, scores, of_set in zip(asked, proposed, doubts, strict=True)
        ]

    def _doubts(self, label_set: LabelSet, scores: Scores) -> dict[int, list[int]]:
        """The labels to be put to entailment, by the index of the text."""
        alone = tempered(scores.scores, label_set.mode, label_set.temperature)  # as thresholds are compared with them
        doubts = in_doubt(alone, label_set.thresholds, label_set.mode, top_k=self._top_k, margin=self._margin)
        return {index: labels for index, labels in enumerate(doubts) if labels and index not in scores.failures}


def _together(label_set: LabelSet, proposed: Scores, doubts: dict[int, list[int]], decided: Scores | None) -> Scores:
    scores, truncated, failures, _ = proposed
    if decided is None:
        return Scores(scores, truncated, failures, _by_whom(len(truncated), ()))
    scores, truncated, failures = scores.copy(), [*truncated], {**failures}
    for place, (index, labels) in enumerate(doubts.items()):
        scores[index] = combined(scores[index], decided.scores[place], labels, label_set.mode)
        truncated[index] |= decided.truncated[place]
        if place in decided.failures:
            failures[index] = decided.failures[place]
    return Scores(scores, truncated, failures, _by_whom(len(truncated), doubts))


def _by_whom(texts: int, doubts: Collection[int]) -> list[Task]:
    return ["entailment" if index in doubts else "similarity" for index in range(texts)]
