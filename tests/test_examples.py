"""Label sets with examples and temperatures, on real (tiny) models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from stream_classifier.classify.classification import Classification, Failure
from stream_classifier.classify.classifier import Classifier, Request
from stream_classifier.classify.labels import Label, LabelSet, Mode, choose, load_label_sets
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.scorer import Asked
from stream_classifier.classify.similarity import Similarity
from stream_classifier.errors import SettingsError
from stream_classifier.model.encoder import Encoder
from stream_classifier.samples import label_set_path, load_samples

# Names that the tiny model cannot tell apart: "first" and "second" are unknown to it.
BARE = LabelSet("s", 1, "single", None, (Label("first"), Label("second"), Label("password")))
TAUGHT = replace(
    BARE,
    labels=(
        Label("first", examples=("my parcel is late", "快递 courier")),
        Label("second", examples=("money", "退款 payment", "send the invoice")),
        Label("password"),
    ),
)


@pytest.fixture(scope="module")
def similarity(tmp_path_factory: pytest.TempPathFactory) -> Similarity:
    return Similarity(Encoder.open(tiny_bundle.build(tmp_path_factory.mktemp("tiny"))))


def labels_of(similarity: Similarity, label_set: LabelSet, *texts: str) -> list[str | None]:
    results = Classifier(similarity).classify([Request(text, label_set) for text in texts]).results
    return [result.label for result in results if isinstance(result, Classification)]


def test_examples_say_what_names_do_not(similarity: Similarity) -> None:
    texts = ("where is the courier", "refund", "login")
    assert labels_of(similarity, TAUGHT, *texts) == ["first", "second", "password"]
    assert labels_of(similarity, BARE, *texts) != ["first", "second", "password"]


def test_in_multi_mode_too(similarity: Similarity) -> None:
    [scores] = similarity.score([Asked(replace(TAUGHT, mode="multi"), ["courier", "refund", "login"])], Measures())
    assert (scores.scores[:, :2] > 0.5).tolist() == [[True, False], [False, True], [False, False]]


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_a_result_is_the_same_whatever_else_is_asked(similarity: Similarity, mode: Mode) -> None:
    texts = [f"{word} {other}" for word in ("parcel", "money", "login", "hello") for other in ("late", "密码", "x y z")]
    taught = replace(TAUGHT, mode=mode)
    [together] = similarity.score([Asked(taught, texts)], Measures())
    for place, text in enumerate(texts):
        _, alone = similarity.score([Asked(BARE, ["email", "hi"]), Asked(taught, [text])], Measures())
        assert alone.scores[0].tobytes() == together.scores[place].tobytes()


def test_examples_run_once_and_are_remembered_with_the_set(tmp_path: Path) -> None:
    similarity = Similarity(Encoder.open(tiny_bundle.build(tmp_path)))
    similarity.prepare(TAUGHT)
    measures = Measures()
    similarity.score([Asked(TAUGHT, ["parcel", "money"])], measures)
    assert sum(batch.events for batch in measures.batches) == 2
    assert measures.cache["label_sets", "hit"] == 1


def test_an_example_that_makes_the_model_fail_is_named_by_its_place(similarity: Similarity) -> None:
    bad = replace(
        TAUGHT, labels=(*TAUGHT.labels[:2], Label("password", examples=("login", f"secret {tiny_bundle.BOOM}")))
    )
    with pytest.raises(SettingsError, match=r"label set s@1: example 2 of label 3 of 3: the model fails") as error:
        similarity.prepare(bad)
    assert "secret" not in str(error.value)
    [scores] = similarity.score([Asked(bad, ["parcel"])], Measures())
    assert isinstance(scores.failures[0], Failure)


def test_the_digest_covers_examples_and_temperature() -> None:
    changed = (
        replace(TAUGHT, temperature=1.5),
        replace(TAUGHT, labels=(Label("first", examples=("my parcel is late",)), *TAUGHT.labels[1:])),
        BARE,
    )
    assert len({TAUGHT.digest, *(each.digest for each in changed)}) == 4


def test_a_temperature_reaches_the_results(similarity: Similarity) -> None:
    """Given one text, when the set's temperature rises, then the same label is given with a lower score."""
    scores = []
    for temperature in (0.5, 1.0, 2.0):
        (result,) = (
            Classifier(similarity).classify([Request("parcel", replace(TAUGHT, temperature=temperature))]).results
        )
        assert isinstance(result, Classification)
        assert result.label == "first"
        scores.append(result.score)
    assert scores[0] > scores[1] > scores[2]


def test_scores_of_a_classifier_are_those_it_decides_by(similarity: Similarity) -> None:
    classifier = Classifier(similarity)
    warm = replace(TAUGHT, temperature=2.0)
    texts = ["parcel", f"{tiny_bundle.BOOM} secret", "parcel", "login"]
    found = classifier.scores(warm, texts)
    scores = found.scores
    assert (scores.shape, len(found.truncated), list(found.failures)) == ((4, 3), 4, [1])
    assert scores[0].tobytes() == scores[2].tobytes()
    for row, result in zip(scores, classifier.classify([Request(text, warm) for text in texts]).results, strict=True):
        if isinstance(result, Classification):
            assert result.score == pytest.approx(np.round(row.max(), 4))


def test_with_the_built_in_model_examples_find_more_sample_tickets() -> None:
    """Given tickets in several languages, when labels have few examples, then more of the other tickets are found."""
    with label_set_path() as path:
        described = choose(load_label_sets(path), None)
    tickets: dict[str, list[str]] = {name: [] for name in described.names}
    for sample in load_samples():
        if sample.value and sample.gold in tickets:
            tickets[sample.gold].append(json.loads(sample.value)["text"])
    texts = [text for name in described.names for text in tickets[name][5:17]]
    gold = [place for place in range(len(described.names)) for _ in range(12)]
    classifier = Classifier(Similarity(Encoder.open(None)))
    right = []
    for count in (0, 1, 5):
        labels = (replace(label, examples=tuple(tickets[label.name][:count])) for label in described.labels)
        scores = classifier.scores(replace(described, labels=tuple(labels)), texts).scores
        right.append(float((scores.argmax(axis=1) == gold).mean()))
    assert right[0] - 0.03 < right[1] < right[2]
    assert right[2] > right[0] + 0.05
