"""Two real models in turn, through the classifier."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest
import tiny_bundle
import tiny_entailment
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.classify.cascade import Cascade
from stream_classifier.classify.classification import Classification, Failure
from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.classify.entailment import Among, Entailment
from stream_classifier.classify.labels import Label, LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.opening import open_scorer
from stream_classifier.classify.scorer import Asked
from stream_classifier.classify.similarity import Similarity
from stream_classifier.errors import BundleError, ModelError, OutOfMemoryError, SettingsError
from stream_classifier.model.cross_encoder import CrossEncoder
from stream_classifier.model.encoder import Encoder
from stream_classifier.settings import CascadeSettings

if TYPE_CHECKING:
    from pathlib import Path

# Similarity reads a description, and entailment does not: on "parcel" the two disagree.
DIFFERENT = LabelSet(
    "different",
    1,
    "single",
    None,
    (Label("login", description="delivery courier"), Label("delivery", description="refund"), Label("money")),
)
TOPICS = LabelSet.adhoc(["delivery", "refund", "password", "courier late", "email"])
MULTI = LabelSet.adhoc(["delivery", "refund", "password"], mode="multi")
ONE = LabelSet.adhoc(["delivery"])
WORDS = ("parcel", "courier", "late", "money", "退款", "login", "密码", "hello", "快递")


@pytest.fixture(scope="module")
def similarity_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("similarity"))


@pytest.fixture(scope="module")
def entailment_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_entailment.build(tmp_path_factory.mktemp("entailment"))


@pytest.fixture(scope="module")
def encoder(similarity_bundle: Path) -> Encoder:
    return Encoder.open(similarity_bundle)


@pytest.fixture(scope="module")
def cross_encoder(entailment_bundle: Path) -> CrossEncoder:
    return CrossEncoder.open(entailment_bundle)


def cascade(
    encoder: Encoder, cross_encoder: CrossEncoder, *, top_k: int = 5, margin: float = 0.2, max_tokens: int = 512
) -> Cascade:
    return Cascade(
        Similarity(encoder, max_tokens=max_tokens),
        Entailment(cross_encoder, max_tokens=max_tokens),
        top_k=top_k,
        margin=margin,
    )


def label(scorer: Cascade, *texts: str, labels: LabelSet) -> Classified:
    return Classifier(scorer).classify([Request(text, labels) for text in texts])


def good(classified: Classified) -> list[Classification]:
    assert not [result for result in classified.results if isinstance(result, Failure)]
    return [result for result in classified.results if isinstance(result, Classification)]


def some_texts(number: int) -> list[str]:
    source = random.Random(3)  # noqa: S311 - only texts
    texts = set[str]()
    while len(texts) < number:
        texts.add(" ".join(source.choices(WORDS, k=source.randint(1, 30))))
    return sorted(texts)


def test_entailment_decides_where_similarity_is_in_doubt(encoder: Encoder, cross_encoder: CrossEncoder) -> None:
    """Given a text about which the two disagree, then the margin says whose answer it is, and the result says so."""
    (sure,) = good(label(cascade(encoder, cross_encoder, margin=0.1), "parcel", labels=DIFFERENT))
    (unsure,) = good(label(cascade(encoder, cross_encoder, margin=1), "parcel", labels=DIFFERENT))
    assert (sure.label, sure.decided_by) == ("login", "similarity")
    assert (unsure.label, unsure.decided_by) == ("delivery", "entailment")
    assert list(orjson.loads(unsure.encoded))[-2:] == ["truncated", "decided_by"]
    assert orjson.loads(sure.encoded)["decided_by"] == "similarity"
    assert sum(score for _, score in unsure.labels) == pytest.approx(1, abs=2e-4)


def test_doubt_is_in_scores_as_they_would_be_seen(encoder: Encoder, cross_encoder: CrossEncoder) -> None:
    """Given a text that similarity is sure of, when the set's temperature draws its scores together, then it is not."""
    scorer = cascade(encoder, cross_encoder, margin=0.1)
    (sure,) = good(label(scorer, "parcel", labels=DIFFERENT))
    (unsure,) = good(label(scorer, "parcel", labels=replace(DIFFERENT, temperature=100.0)))
    assert (sure.decided_by, unsure.decided_by) == ("similarity", "entailment")


def test_examples_are_for_similarity(encoder: Encoder, cross_encoder: CrossEncoder) -> None:
    """Given labels with examples, a cascade proposes by them, and entailment alone refuses what it cannot use."""
    taught = LabelSet(
        "taught", 1, "single", None, (Label("first", examples=("parcel",)), Label("second", examples=("money",)))
    )
    classifier = Classifier(cascade(encoder, cross_encoder, margin=0))
    classifier.prepare([taught])
    results = good(classifier.classify([Request(text, taught) for text in ("courier", "refund")]))
    assert [result.label for result in results] == ["first", "second"]
    with pytest.raises(SettingsError, match=r"label set taught@1: it has examples, which only models of embeddings"):
        Classifier(Entailment(cross_encoder)).prepare([taught])


def test_both_models_are_named(encoder: Encoder, cross_encoder: CrossEncoder) -> None:
    classifier = Classifier(cascade(encoder, cross_encoder))
    both = encoder.manifest, cross_encoder.manifest
    assert classifier.model == "+".join(manifest.identity for manifest in both)
    assert classifier.short_hash == "+".join(manifest.short_hash for manifest in both)


@pytest.mark.parametrize("labels", [DIFFERENT, TOPICS, MULTI, ONE], ids=["different", "topics", "multi", "one"])
@pytest.mark.parametrize(("top_k", "margin"), [(2, 0.3), (3, 1.0), (5, 0.0)])
def test_scores_are_put_together_from_those_of_each_model(
    encoder: Encoder, cross_encoder: CrossEncoder, labels: LabelSet, top_k: int, margin: float
) -> None:
    """Text by text, from what each model says when it is asked alone."""
    texts, single = some_texts(30), labels.mode == "single"
    [found] = cascade(encoder, cross_encoder, top_k=top_k, margin=margin).score([Asked(labels, texts)], Measures())
    assert found.decided_by is not None
    for text, scores, by in zip(texts, found.scores.tolist(), found.decided_by, strict=True):
        [similar] = Similarity(encoder).score([Asked(labels, [text])], Measures())
        expected = similar.scores[0].tolist()
        ranked = sorted(range(len(expected)), key=lambda index: -expected[index])
        if single and len(ranked) > 1:
            candidates = ranked[:top_k] if expected[ranked[0]] - expected[ranked[1]] <= margin else []
        elif single:
            candidates = [0]
        else:
            candidates = [index for index in ranked if abs(expected[index] - 0.5) <= margin][:top_k]
        if candidates:
            asked = Among(labels, [text], [candidates])
            [entailed] = Entailment(cross_encoder).among([asked], Measures())
            share = sum(expected[index] for index in candidates) if single else 1
            for index in candidates:
                expected[index] = share * entailed.scores[0, index]
        assert by == ("entailment" if candidates else "similarity")
        assert scores == pytest.approx(expected, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(some_texts(30)), st.sampled_from([DIFFERENT, TOPICS, MULTI, ONE])),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from([1, 32, 512]),
)
def test_a_result_is_the_same_whatever_else_is_asked(
    encoder: Encoder, cross_encoder: CrossEncoder, asked: list[tuple[str, LabelSet]], max_tokens: int
) -> None:
    requests = [Request(*each) for each in asked]
    together = Classifier(cascade(encoder, cross_encoder, max_tokens=max_tokens)).classify(requests)
    alone = Classifier(cascade(encoder, cross_encoder), results_cached=0)
    for request, result in zip(requests, good(together), strict=True):
        (its_own,) = good(alone.classify([request]))
        assert (result.label, result.decided_by) == (its_own.label, its_own.decided_by)
        assert dict(result.labels) == pytest.approx(dict(its_own.labels), abs=1.01e-4)


def test_entailment_is_not_run_where_similarity_is_sure(encoder: Encoder, cross_encoder: CrossEncoder) -> None:
    """Given a prepared set, then a text costs one run of one text, and two more pairs when two labels are asked about;
    the second time it costs nothing."""
    classifier = Classifier(cascade(encoder, cross_encoder, top_k=2))
    classifier.prepare([TOPICS])
    sure = classifier.classify([Request("退款", TOPICS), Request("money", TOPICS)])
    assert [each.decided_by for each in good(sure)] == ["similarity"] * 2
    assert sum(batch.events for batch in sure.measures.batches) == 2
    unsure = classifier.classify([Request("password login", TOPICS)])
    assert [each.decided_by for each in good(unsure)] == ["entailment"]
    assert sum(batch.events for batch in unsure.measures.batches) == 1 + 2
    again = classifier.classify([Request("password login", TOPICS)])
    assert (again.results, again.measures.batches) == (unsure.results, [])


def test_a_text_is_truncated_when_a_model_that_read_it_was_too_short_for_it(
    encoder: Encoder, cross_encoder: CrossEncoder
) -> None:
    """Given a text of which only entailment reads less than all, then it is marked when entailment has read it."""
    longest = tiny_entailment.MAX_LENGTH - 2
    text = "parcel " * longest
    found = [
        good(label(cascade(encoder, cross_encoder, margin=margin), text, labels=DIFFERENT))[0] for margin in (0.1, 1)
    ]
    assert [(each.decided_by, each.truncated) for each in found] == [("similarity", False), ("entailment", True)]


def test_what_an_event_costs_grows_up_to_the_labels_that_are_asked_about(
    encoder: Encoder, cross_encoder: CrossEncoder
) -> None:
    scorer = cascade(encoder, cross_encoder, top_k=5)
    sets = [LabelSet("s", 1, "single", None, tuple(Label(f"label {n:04}") for n in range(count))) for count in (5, 500)]
    few, many = (scorer.cost("where is my parcel", labels) for labels in sets)
    assert few == pytest.approx(many)
    assert few > 5 * Similarity(encoder).cost("where is my parcel", sets[0])


# When a model fails ---------------------------------------------------------------------------------------------------


def test_a_text_fails_with_the_model_that_reads_it(encoder: Encoder, cross_encoder: CrossEncoder) -> None:
    """Given texts that either model cannot run, then those fail that are put to it, and no others."""
    clash = LabelSet(
        "clash", 1, "single", None, (Label("login", description="delivery courier"), Label("clash delivery"))
    )
    texts = ["boom parcel", "parcel clash", "parcel"]
    for margin, failed in ((0.0, [True, False, False]), (1.0, [True, True, False])):
        results = label(cascade(encoder, cross_encoder, margin=margin), *texts, labels=clash).results
        assert [isinstance(result, Failure) for result in results] == failed


def test_a_label_that_entailment_cannot_run_fails_those_that_are_asked_about_it(
    encoder: Encoder, cross_encoder: CrossEncoder
) -> None:
    """Given a label on which only the second model fails, then texts whose best labels are others are not touched."""
    bad = LabelSet.adhoc(["delivery", "refund", "clash clash", "courier", "money"])
    scorer = cascade(encoder, cross_encoder, top_k=2, margin=1)
    texts = ["parcel", "hello", "退款", "clash"]
    results = label(scorer, *texts, labels=bad).results
    alone = [label(scorer, text, labels=bad).results[0] for text in texts]
    failed = [isinstance(result, Failure) for result in results]
    assert [isinstance(result, Failure) for result in alone] == failed
    assert (failed[0], failed[2]) == (False, False)
    assert True in failed
    failure = results[failed.index(True)]
    assert isinstance(failure, Failure)
    assert failure.message.startswith("label 3 of 5: ")


def test_preparing_a_set_that_either_model_cannot_read_says_which(
    encoder: Encoder, cross_encoder: CrossEncoder
) -> None:
    for name in ("boom", "clash clash"):
        bad = LabelSet("bad", 1, "single", None, (Label("delivery"), Label(name)))
        with pytest.raises(SettingsError, match="label set bad@1: label 2 of 2: "):
            Classifier(cascade(encoder, cross_encoder)).prepare([bad])


def test_a_model_that_is_broken_ends_it(encoder: Encoder, cross_encoder: CrossEncoder, tmp_path: Path) -> None:
    broken = Encoder.open(tiny_bundle.build_broken(tmp_path / "first"))
    with pytest.raises(ModelError, match="the model or the device is broken"):
        label(cascade(broken, cross_encoder), "parcel", labels=TOPICS)
    other = CrossEncoder.open(tiny_entailment.build(tmp_path / "second", broken=True))
    assert good(label(cascade(encoder, other, margin=0), "password login", labels=TOPICS))
    with pytest.raises(ModelError, match="the model or the device is broken"):
        label(cascade(encoder, other, margin=1), "parcel", labels=TOPICS)


def test_memory_that_is_short_for_the_second_model_makes_its_batches_smaller(
    encoder: Encoder, cross_encoder: CrossEncoder, tmp_path: Path
) -> None:
    hungry = CrossEncoder.open(tiny_entailment.build(tmp_path, max_tokens=60))
    found = label(cascade(encoder, hungry, margin=1), *some_texts(20), labels=TOPICS)
    assert found.measures.retries["out_of_memory"] > 0
    usual = label(cascade(encoder, cross_encoder, margin=1), *some_texts(20), labels=TOPICS)
    assert [each.label for each in good(found)] == [each.label for each in good(usual)]
    hungrier = CrossEncoder.open(tiny_entailment.build(tmp_path, max_tokens=5))
    with pytest.raises(OutOfMemoryError):
        label(cascade(encoder, hungrier, margin=1), "parcel", labels=TOPICS)


# Opening one ----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_opened_for_what_it_is(similarity_bundle: Path, entailment_bundle: Path) -> None:
    second = CascadeSettings(path=entailment_bundle)
    assert isinstance(open_scorer(similarity_bundle), Similarity)
    assert isinstance(open_scorer(entailment_bundle), Entailment)
    opened = open_scorer(similarity_bundle, cascade=second)
    assert isinstance(opened, Cascade)
    assert [manifest.task for manifest in opened.manifests] == ["similarity", "entailment"]


def test_a_cascade_takes_a_bundle_of_each_task(similarity_bundle: Path, entailment_bundle: Path) -> None:
    with pytest.raises(BundleError, match="is a model of entailment, which gives no embeddings"):
        open_scorer(entailment_bundle, cascade=CascadeSettings(path=entailment_bundle))
    with pytest.raises(BundleError, match="is a model of similarity, not of entailment"):
        open_scorer(similarity_bundle, cascade=CascadeSettings(path=similarity_bundle))
