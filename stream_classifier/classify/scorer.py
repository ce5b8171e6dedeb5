"""What every way of scoring has in common: texts and label sets in, a score for each label out."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stream_classifier.classify.classification import Failure
from stream_classifier.classify.cosine_scores import Floats
from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.model.bundle import Manifest, Task


class Asked(NamedTuple):
    """The texts that are to be labelled with one label set.

    Attributes:
        label_set: The labels to choose from.
        texts: At least one, no two alike.
    """

    label_set: LabelSet
    texts: Sequence[str]


class Scores(NamedTuple):
    """What became of the texts that were asked about.

    Attributes:
        scores: From 0 to 1, [texts, labels]; the row of a text that failed means nothing.
        truncated: Of each text, whether it was longer than the model reads.
        failures: Why, for each text that failed, by its index.
        decided_by: Of each text, which of two ways of scoring had the last word; None where there is but one.
    """

    scores: Floats
    truncated: Sequence[bool]
    failures: dict[int, Failure]
    decided_by: Sequence[Task] | None = None


class Scorer(Protocol):
    """A model that is made ready, and the way in which it scores. Threads may share one."""

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """What the bundles that it runs say of themselves, in the order of their use; mostly it is one."""

    @property
    def device(self) -> str:
        """Where it runs."""

    def prepare(self, label_set: LabelSet) -> None:
        """Do ahead of time what a label set takes, so that the first text need not wait for it.

        Raises:
            SettingsError: The model cannot read a label.
            OutOfMemoryError: A label alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good.
        """

    def cost(self, text: str, label_set: LabelSet) -> float:
        """About how many tokens the model has to read to label a text: a guess that costs nothing, for windows."""

    def score(self, asked: Sequence[Asked], measures: Measures) -> list[Scores]:
        """Score the labels of each label set for its texts.

        A text's scores depend on the text, the label set and the model, and on nothing that is asked beside it.

        Args:
            asked: At least one, no two with equal label sets.
            measures: Where to add up what it costs.

        Returns:
            One for each that was asked.

        Raises:
            OutOfMemoryError: One text alone does not fit in memory.
            ModelError: The model fails on texts that are known to be good: no text is to blame.
        """
