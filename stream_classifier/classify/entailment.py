"""Scoring by entailment: a label fits a text as far as the text entails a statement about it."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_classifier.classify.batch_runner import CANARIES, BatchRunner, failure_of_text, text_to_blame, tokenized
from stream_classifier.classify.cache import Cache
from stream_classifier.classify.classification import Failure
from stream_classifier.classify.entailment_scores import Logits, entailment_scores
from stream_classifier.classify.labels import LabelSet, problem_with_template
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked, Scores
from stream_classifier.errors import BundleError, SettingsError
from stream_classifier.model.bundle import REBUILD
from stream_classifier.model.cross_encoder import CrossEncoder, Pair
from stream_classifier.model.session import RunFailedError
from stream_classifier.windows import estimated_tokens

Tokens = list[int]


class Among(NamedTuple):
    """Texts, and which labels of a label set each is to be compared with.

    Attributes:
        label_set: The labels.
        texts: At least one, no two alike.
        labels: Of each text, indexes of labels of the set, at least one.
    """

    label_set: LabelSet
    texts: Sequence[str]
    labels: Sequence[Sequence[int]]


class Comparison(NamedTuple):
    """One run of a text with a label.

    Attributes:
        asked: Index of the `Among`.
        text: Index of the text in it.
        label: Index of the label in its set.
        pair: What the model reads.
    """

    asked: int
    text: int
    label: int
    pair: Pair


class _Answers(NamedTuple):
    """What the model said of the texts of an `Among`.

    Attributes:
        logits: Of "contradicted" and "entailed", float32 [texts, labels, 2].
        asked: What it was asked about, [texts, labels].
        truncated: Of each text, whether it was longer than what was read of it beside some label.
    """

    logits: Logits
    asked: NDArray[np.bool_]
    truncated: list[bool]

    @classmethod
    def of(cls, among: Among) -> "_Answers":
        shape = len(among.texts), len(among.label_set.labels)
        return cls(np.zeros((*shape, 2), np.float32), np.zeros(shape, np.bool_), [False] * len(among.texts))


class Entailment:
    """Scores by a model that reads text and label together; see `entailment_scores` for how. Threads may share one.

    Texts and labels are tokenised once each. The pairs of all texts with all labels are then sorted by length and cut
    into batches together, whichever text and label set they are of.

    Args:
        encoder: The model.
        max_tokens: The most padded tokens of one run of the model.
        label_sets_cached: Label sets whose tokens are kept.
        clock: Seconds, for the measures.

    Attributes:
        manifests: What the model's bundle says of itself.
        device: Where the model runs.

    Raises:
        BundleError: The bundle's template cannot be used.
    """

    def __init__(
        self,
        encoder: CrossEncoder,
        *,
        max_tokens: int = 512,
        label_sets_cached: int = 256,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if problem := problem_with_template(encoder.asks.template):
            raise BundleError(f"{encoder.manifest.name}: {problem}: {REBUILD}")
        self.manifests = (encoder.manifest,)
        self.device = encoder.device
        self._encoder = encoder
        self._runner = BatchRunner(max_tokens=max_tokens, clock=clock)
        self._hypotheses: Cache[bytes, list[Tokens]] = Cache(label_sets_cached)
        self._clock = clock

    def prepare(self, label_set: LabelSet) -> None:
        """Tokenise the labels, and have the model read each of them once; see `Scorer.prepare`.

        Raises:
            SettingsError: The label set has examples, too: they would be of no use.
        """
        if label_set.has_examples:
            raise SettingsError(
                f"label set {label_set.identity}: it has examples, which only models of embeddings can use, and "
                f"{self.manifests[0].name} is one of entailment: take them out, or let it decide in a model.cascade"
            )
        self.warm(label_set)

    def warm(self, label_set: LabelSet) -> None:
        """The same, where somebody else uses the examples.

        Raises:
            SettingsError: The model cannot read a label.
        """
        [scores] = self.score([Asked(label_set, CANARIES[:1])], Measures())
        if scores.failures:
            raise SettingsError(f"label set {label_set.identity}: {scores.failures[0].message}")

    def cost(self, text: str, label_set: LabelSet) -> float:
        """Estimated tokens of the text with each label; see `Scorer.cost`."""
        template = self._encoder.asks.template
        of_labels = sum(estimated_tokens(label.hypothesis(template)) for label in label_set.labels)
        return len(label_set.labels) * estimated_tokens(text) + of_labels

    def score(self, asked: Sequence[Asked], measures: Measures) -> list[Scores]:
        """Score each label by whether the text entails it; see `Scorer.score`."""
        return self.among(
            [Among(one.label_set, one.texts, [range(len(one.label_set.labels))] * len(one.texts)) for one in asked],
            measures,
        )

    def among(self, asked: Sequence[Among], measures: Measures) -> list[Scores]:
        """Score some labels of each text; the scores of the others are 0.

        See `Scorer.score`, which this does otherwise. A text fails when one of its pairs does: by its own fault, or by
        the label's if that fails a text that is known to be good, too.
        """
        started = self._clock()
        hypotheses = self._hypotheses_of([one.label_set for one in asked], measures)
        rows = {text: row for row, text in enumerate(dict.fromkeys(text for one in asked for text in one.texts))}
        premises = tokenized(list(rows), self._encoder.tokenize, self._blame, measures)
        measures.tokenize_seconds += self._clock() - started

        failures: list[dict[int, Failure]] = [{} for _ in asked]
        comparisons: list[Comparison] = []
        for place, (one, of_set) in enumerate(zip(asked, hypotheses, strict=True)):
            for index, (text, labels) in enumerate(zip(one.texts, one.labels, strict=True)):
                premise = premises[rows[text]]
                if isinstance(of_set, Failure):
                    failures[place][index] = of_set
                elif isinstance(premise, Failure):
                    failures[place][index] = premise
                else:
                    comparisons += [Comparison(place, index, label, Pair(premise, of_set[label])) for label in labels]
        logits = self._run(comparisons, asked, failures, measures)

        answers = [_Answers.of(one) for one in asked]
        for (place, index, label, pair), row in zip(comparisons, logits, strict=True):
            answers[place].logits[index, label] = row
            answers[place].asked[index, label] = True
            answers[place].truncated[index] |= self._encoder.kept(pair)[0] < len(pair.premise)
        temperature = self._encoder.manifest.temperature
        results = []
        for one, answer, failed in zip(asked, answers, failures, strict=True):
            compete = one.label_set.mode == "single"
            scores = entailment_scores(answer.logits, answer.asked, temperature, compete=compete)
            results.append(Scores(scores, answer.truncated, failed))
        return results

    def _run(
        self,
        comparisons: list[Comparison],
        asked: Sequence[Among],
        failures: list[dict[int, Failure]],
        measures: Measures,
    ) -> Logits:
        """Logits of "contradicted" and "entailed" of each comparison, 0 where its text failed; adds to the failures."""
        asks = self._encoder.asks
        logits = np.zeros((len(comparisons), 2), np.float32)

        def run(batch: list[int]) -> None:
            found = self._encoder.logits([comparisons[index].pair for index in batch])
            logits[batch] = found[:, [asks.contradiction_id, asks.entailment_id]]

        def blame(index: int, error: RunFailedError) -> list[int]:
            place, text, label, pair = comparisons[index]
            try:
                self._run_canaries(pair.hypothesis)
            except RunFailedError:
                of_labels = len(asked[place].label_set.labels)
                failure = Failure(f"label {label + 1} of {of_labels}: {self._blame(error).message}")
                texts = {text for text, labels in enumerate(asked[place].labels) if label in labels}
            else:
                failure, texts = failure_of_text(error), {text}
            failures[place] |= {text: failure for text in texts if text not in failures[place]}
            return [at for at, each in enumerate(comparisons) if each.asked == place and each.text in texts]

        self._runner.run([self._encoder.length(each.pair) for each in comparisons], run, blame, measures)
        return logits

    def _hypotheses_of(self, label_sets: list[LabelSet], measures: Measures) -> list[list[Tokens] | Failure]:
        """Of each label set the token ids of its labels as hypotheses, or why there are none."""
        digests = [label_set.digest for label_set in label_sets]
        found: dict[bytes, list[Tokens] | Failure] = {**self._hypotheses.get(digests)}
        new = [label_set for label_set in label_sets if label_set.digest not in found]
        measures.cache["label_sets", "hit"] += len(found)
        measures.cache["label_sets", "miss"] += len(new)
        for label_set in new:
            hypotheses = [label.hypothesis(self._encoder.asks.template) for label in label_set.labels]
            encoded = tokenized(hypotheses, self._encoder.tokenize, self._blame, measures)
            tokens: list[Tokens] = []
            for number, each in enumerate(encoded, 1):
                if isinstance(each, Failure) or not self._encoder.leaves_room(each):
                    problem = each.message if isinstance(each, Failure) else self._no_room(each)
                    found[label_set.digest] = Failure(f"label {number} of {len(encoded)}: {problem}")
                    break
                tokens.append(each)
            else:
                found[label_set.digest] = tokens
                self._hypotheses.put({label_set.digest: tokens})
        return [found[digest] for digest in digests]

    def _no_room(self, hypothesis: Tokens) -> str:
        return (
            f"its hypothesis has {len(hypothesis)} tokens, and {self._encoder.room} are read of it and a text together:"
            " shorten it or its template"
        )

    def _run_canaries(self, hypothesis: Tokens) -> None:
        self._encoder.logits([Pair(premise, hypothesis) for premise in self._encoder.tokenize(CANARIES)])

    def _blame(self, error: RunFailedError) -> Failure:
        """The failure of a text or a label that failed alone, unless the model fails on what is known to be good."""
        return text_to_blame(error, lambda: self._run_canaries(self._encoder.tokenize(CANARIES)[0]))
