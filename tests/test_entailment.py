"""The classifier on real bundles of entailment: results, what they cost, and every way in which a model can fail."""

from __future__ import annotations

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest
import tiny_bundle
import tiny_entailment
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from stream_classifier.classify.classification import Classification, Failure
from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.classify.entailment import Entailment
from stream_classifier.classify.labels import Label, LabelSet
from stream_classifier.classify.opening import open_scorer
from stream_classifier.classify.similarity import Similarity
from stream_classifier.errors import BundleError, ModelError, OutOfMemoryError, SettingsError
from stream_classifier.model.bundle import read_manifest
from stream_classifier.model.cross_encoder import CrossEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOPICS = LabelSet("topics", 1, "single", None, (Label("delivery"), Label("refund"), Label("password")))
MANY = LabelSet.adhoc(["delivery", "refund", "email", "courier late", "钱"], mode="multi", threshold=0)
ONE = LabelSet.adhoc(["delivery"])
WORDS = ("parcel", "courier", "late", "money", "退款", "login", "密码", "hello", "快递")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_entailment.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> CrossEncoder:
    return CrossEncoder.open(bundle)


def by_entailment(
    encoder: CrossEncoder,
    *,
    results_cached: int = 10_000,
    clock: Callable[[], float] = time.perf_counter,
    **sizes: int,
) -> Classifier:
    return Classifier(Entailment(encoder, clock=clock, **sizes), results_cached=results_cached)


def label(classifier: Classifier, *texts: str, labels: LabelSet = TOPICS) -> Classified:
    return classifier.classify([Request(text, labels) for text in texts])


def labels_of(classified: Classified) -> list[str | None]:
    return [result.label if isinstance(result, Classification) else result.code for result in classified.results]


def some_texts(number: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 30 known words, no two alike."""
    source = random.Random(seed)  # noqa: S311 - only texts
    texts = set[str]()
    while len(texts) < number:
        texts.add(" ".join(source.choices(WORDS, k=source.randint(1, 30))))
    return sorted(texts)


def test_texts_are_labelled_in_the_order_they_came(encoder: CrossEncoder) -> None:
    texts = ["my parcel", "give my money back now please", "login", "快递 late"]
    classified = label(by_entailment(encoder), *texts)
    assert labels_of(classified) == ["delivery", "refund", "password", "delivery"]
    first = classified.results[0]
    assert isinstance(first, Classification)
    assert (first.model, first.label_set, first.truncated) == (encoder.manifest.identity, "topics@1", False)
    assert sum(score for _, score in first.labels) == pytest.approx(1, abs=2e-4)
    assert b"decided_by" not in first.encoded


class Reference:
    """The straightforward way: one pair at a time, encoded as a pair by the library, and softmaxes by the book."""

    def __init__(self, bundle: Path) -> None:
        self.manifest = read_manifest(bundle)
        assert self.manifest.entailment is not None
        self.asks = self.manifest.entailment
        self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.manifest.max_length, strategy=self.asks.truncation)
        self.session = onnxruntime.InferenceSession(str(bundle / "model.onnx"))

    def logits(self, premise: str, hypothesis: str) -> list[float]:
        pair = self.tokenizer.encode(premise, hypothesis)
        inputs = {"input_ids": [pair.ids], "attention_mask": [pair.attention_mask], "token_type_ids": [pair.type_ids]}
        taken = {put.name: inputs[put.name] for put in self.session.get_inputs()}
        found: list[float] = self.session.run(["logits"], taken)[0][0].tolist()
        return found

    def scores(self, text: str, labels: LabelSet) -> dict[str, float]:
        template, temperature = self.asks.template, self.manifest.temperature
        found = {
            each.name: [
                math.exp(logit / temperature)
                for logit in self.logits(text, (each.template or template).format(each.name))
            ]
            for each in labels.labels
        }
        yes, no = self.asks.entailment_id, self.asks.contradiction_id
        if labels.mode == "multi" or len(found) == 1:
            return {name: each[yes] / (each[yes] + each[no]) for name, each in found.items()}
        total = sum(each[yes] for each in found.values())
        return {name: each[yes] / total for name, each in found.items()}


@pytest.mark.parametrize("labels", [TOPICS, MANY, ONE], ids=["single", "multi", "one label"])
@pytest.mark.parametrize(
    "made",
    [
        {},
        {"pairs": "roberta", "truncation": "longest_first", "temperature": 2.0},
        {"classes": ("contradiction", "neutral", "entailment"), "template": "{}"},
        {"classes": ("neutral", "entailment"), "temperature": 0.7},
    ],
    ids=["bert", "roberta", "another order", "two classes"],
)
def test_scores_are_those_of_one_pair_at_a_time(made: dict[str, Any], labels: LabelSet, tmp_path: Path) -> None:
    """Also where the pair is too long, and its end is cut off."""
    bundle = tiny_entailment.build(tmp_path, **made)
    reference = Reference(bundle)
    texts = [*some_texts(40), "parcel " * 60 + "refund " * 60, "", "e\u0301 !?", "refund </s> parcel"]
    results = label(by_entailment(CrossEncoder.open(bundle), max_tokens=100), *texts, labels=labels).results
    for text, result in zip(texts, results, strict=True):
        assert isinstance(result, Classification)
        assert dict(result.labels) == pytest.approx(reference.scores(text, labels), abs=1e-4), text


def test_a_template_of_the_label_or_its_set_goes_over_the_bundles(tmp_path: Path) -> None:
    """Given templates that name another topic, then scores are those of that hypothesis; "{}" is a template, too."""
    bundle = tiny_entailment.build(tmp_path, template="{} password")
    reference = Reference(bundle)
    own = LabelSet(
        "s", 1, "single", None, (Label("delivery", template="the {} of money"), Label("refund", template="{}"))
    )
    left = LabelSet("s", 1, "single", None, (Label("delivery"), Label("refund")))
    explicit = LabelSet.adhoc(["delivery", "refund"], template="{}")
    classifier = by_entailment(CrossEncoder.open(bundle))
    found = {}
    for labels in (own, left, explicit):
        (result,) = label(classifier, "money courier", labels=labels).results
        assert isinstance(result, Classification)
        found[labels.key] = dict(result.labels)
        assert dict(result.labels) == pytest.approx(reference.scores("money courier", labels), abs=1e-4)
    assert len({tuple(sorted(each.items())) for each in found.values()}) == 3


def test_a_bundle_whose_template_has_no_place_for_the_label_is_refused(tmp_path: Path) -> None:
    encoder = CrossEncoder.open(tiny_entailment.build(tmp_path, template="this is about something"))
    with pytest.raises(
        BundleError, match=r"^tiny-entailment: the template 'this is about something' must hold \{\} once"
    ):
        Entailment(encoder)


def test_descriptions_are_not_read(encoder: CrossEncoder) -> None:
    described = LabelSet("topics", 1, "single", None, (Label("delivery", description="boom"), *TOPICS.labels[1:]))
    classifier = by_entailment(encoder)
    assert label(classifier, *WORDS, labels=described).results == label(classifier, *WORDS).results


def test_in_multi_mode_another_label_changes_no_score(encoder: CrossEncoder) -> None:
    few = LabelSet.adhoc(["delivery", "refund"], mode="multi", threshold=0)
    classifier = by_entailment(encoder)
    (one,) = label(classifier, "parcel money", labels=few).results
    (other,) = label(classifier, "parcel money", labels=MANY).results
    assert isinstance(one, Classification)
    assert isinstance(other, Classification)
    assert dict(one.labels).items() <= dict(other.labels).items()


def test_in_multi_mode_a_label_is_given_from_a_half_on(encoder: CrossEncoder) -> None:
    labels = LabelSet.adhoc(["delivery", "refund", "password"], mode="multi")
    both, none = label(by_entailment(encoder), "parcel money", "hello", labels=labels).results
    assert isinstance(both, Classification)
    assert {name for name, _ in both.labels} == {"delivery", "refund"}
    assert isinstance(none, Classification)
    assert (none.label, none.labels) == (None, ())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(some_texts(40)), st.sampled_from([TOPICS, MANY, ONE])), min_size=1, max_size=25),
    st.sampled_from([1, 16, 64, 512]),
)
def test_a_result_is_the_same_whatever_else_is_asked(
    encoder: CrossEncoder, asked: list[tuple[str, LabelSet]], max_tokens: int
) -> None:
    """Given any texts and label sets, when they run together under any budget, then each is as when run alone.

    Scoring gives the same bits (test_entailment_scores.py); the tiny model's own sums are off by 1e-7.
    """
    requests = [Request(*each) for each in asked]
    together = by_entailment(encoder, max_tokens=max_tokens).classify(requests).results
    alone = by_entailment(encoder, results_cached=0)
    for request, result in zip(requests, together, strict=True):
        (its_own,) = alone.classify([request]).results
        assert isinstance(result, Classification)
        assert isinstance(its_own, Classification)
        assert result.label == its_own.label
        assert dict(result.labels) == pytest.approx(dict(its_own.labels), abs=1.01e-4)


def test_pairs_of_all_texts_and_label_sets_share_batches_within_the_budget(encoder: CrossEncoder) -> None:
    """Given texts of few lengths and two label sets, then batches hold pairs of both, and are as full as can be."""
    requests = [Request(f"parcel {number}", labels) for number in range(20) for labels in (TOPICS, MANY)]
    classifier = by_entailment(encoder, max_tokens=120)
    classifier.prepare([TOPICS, MANY])
    measures = classifier.classify(requests).measures
    assert sum(batch.events for batch in measures.batches) == 20 * (3 + 5)
    assert all(batch.padded_tokens <= 120 for batch in measures.batches)
    assert all(batch.useful_tokens <= batch.padded_tokens for batch in measures.batches)
    tokens = 3 + 2 + 5  # special tokens, "parcel 7", "this is about delivery ."
    assert len(measures.batches) <= 20 * (3 + 5) / (120 // tokens) + 2


def test_the_clock_is_read_for_what_takes_time(encoder: CrossEncoder) -> None:
    ticks = iter(range(10_000))
    measures = label(by_entailment(encoder, clock=lambda: next(ticks)), *some_texts(50)).measures
    assert measures.tokenize_seconds == 1
    assert {batch.seconds for batch in measures.batches} == {1}


def test_the_labels_of_a_set_are_tokenised_once(encoder: CrossEncoder) -> None:
    classifier = by_entailment(encoder)
    classifier.prepare([TOPICS])
    assert label(classifier, "parcel").measures.cache["label_sets", "hit"] == 1
    assert label(classifier, "parcel", labels=MANY).measures.cache["label_sets", "miss"] == 1
    assert label(classifier, "parcel", labels=MANY).measures.cache["results", "hit"] == 1


def test_a_text_longer_than_the_model_reads_is_marked(encoder: CrossEncoder) -> None:
    """Given hypotheses of different lengths, then a text is marked when its end is lost beside one of them."""
    labels = LabelSet.adhoc(["delivery", "a refund of the money"])
    longest = tiny_entailment.MAX_LENGTH - 3 - 9  # this is about a refund of the money .
    texts = "parcel " * longest, "parcel " * longest + "late", "parcel " * 200
    classified = label(by_entailment(encoder), *texts, labels=labels)
    assert [r.truncated for r in classified.results if isinstance(r, Classification)] == [False, True, True]
    assert classified.measures.truncated == 2


def test_what_an_event_costs_grows_with_its_labels(bundle: Path, tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"progress": lambda _: None}
    entailment, similarity = open_scorer(bundle, **quiet), open_scorer(tiny_bundle.build(tmp_path), **quiet)
    assert isinstance(entailment, Entailment)
    assert isinstance(similarity, Similarity)
    sets = [LabelSet("s", 1, "single", None, tuple(Label(f"label {n:04}") for n in range(count))) for count in (2, 200)]
    few, many = (entailment.cost("where is my parcel", labels) for labels in sets)
    assert many == pytest.approx(100 * few)
    assert few > 2 * similarity.cost("where is my parcel", sets[0])
    assert similarity.cost("where is my parcel", sets[0]) == similarity.cost("where is my parcel", sets[1])


# When the model fails -------------------------------------------------------------------------------------------------


def with_bad_ones(bad: set[int], number: int = 48) -> list[str]:
    return [f"{text} boom" if index in bad else text for index, text in enumerate(some_texts(number))]


@pytest.mark.parametrize("bad", [{0}, {37}, {3, 4, 40}, set(range(0, 48, 2)), set(range(48))], ids=len)
def test_texts_that_make_the_model_fail_are_blamed_alone(bad: set[int], tmp_path: Path) -> None:
    """Given bad texts among good ones, when they run in one batch, then the good ones come out as without the bad."""
    encoder = CrossEncoder.open(tiny_entailment.build(tmp_path, template="{}", truncation="longest_first"))
    texts = [f"boom {text}" if index in bad else text for index, text in enumerate(some_texts(48))]
    results = label(by_entailment(encoder, max_tokens=10_000), *texts).results
    assert {index for index, result in enumerate(results) if isinstance(result, Failure)} == bad
    good = [index for index in range(48) if index not in bad]
    assert [results[index] for index in good] == label(
        by_entailment(encoder), *(texts[index] for index in good)
    ).results


def test_one_bad_text_costs_a_logarithm_of_runs_whatever_the_number_of_labels(encoder: CrossEncoder) -> None:
    labels = LabelSet.adhoc([f"label {number}" for number in range(16)])
    classifier = by_entailment(encoder, max_tokens=10_000)
    classifier.prepare([labels])
    measures = label(classifier, *(f"parcel {number}" for number in range(15)), "boom parcel", labels=labels).measures
    assert measures.retries["inference"] <= 2 * math.log2(16 * 16)
    assert sum(batch.events for batch in measures.batches) == 15 * 16


def test_a_failure_says_why_and_never_what_the_text_was(encoder: CrossEncoder) -> None:
    (failure,) = label(by_entailment(encoder), "secret boom").results
    assert isinstance(failure, Failure)
    assert "fails on this text and not on others" in failure.message
    assert "boom" not in failure.message
    assert "secret" not in failure.message


def test_a_text_that_the_tokenizer_refuses_is_blamed_alone(encoder: CrossEncoder) -> None:
    classified = label(by_entailment(encoder), *some_texts(20), "half a \ud83d character")
    assert [index for index, result in enumerate(classified.results) if isinstance(result, Failure)] == [20]
    failure = classified.results[20]
    assert isinstance(failure, Failure)
    assert "ud83d" not in failure.message


@pytest.mark.parametrize("template", ["boom {}", "\ud83d {}", "late " * 50 + "{}"], ids=["run", "read", "too long"])
def test_a_bad_label_fails_the_texts_of_its_set_only(encoder: CrossEncoder, template: str) -> None:
    bad = LabelSet("bad", 1, "single", None, (Label("delivery"), Label("refund", template=template)))
    classifier = by_entailment(encoder)
    requests = [Request("parcel", bad), Request("parcel", TOPICS), Request("login", bad)]
    classified = classifier.classify(requests)
    assert labels_of(classified) == ["inference_failed", "delivery", "inference_failed"]
    failure = classified.results[0]
    assert isinstance(failure, Failure)
    assert failure.message.startswith("label 2 of 2: ")
    with pytest.raises(SettingsError, match=r"^label set bad@1: label 2 of 2: ") as error:
        classifier.prepare([bad])
    assert "\n" not in str(error.value)


def test_a_label_that_leaves_no_room_is_said_to(encoder: CrossEncoder) -> None:
    long = LabelSet("long", 1, "single", None, (Label("late " * 50), Label("b")))
    message = r"its hypothesis has 54 tokens, and 45 are read of it and a text together: shorten it or its template"
    with pytest.raises(SettingsError, match=message):
        by_entailment(encoder).prepare([long])


def test_where_both_may_be_truncated_a_long_label_is_no_problem(tmp_path: Path) -> None:
    encoder = CrossEncoder.open(tiny_entailment.build(tmp_path, truncation="longest_first"))
    long = LabelSet.adhoc(["late " * 50, "refund " * 50])
    classifier = by_entailment(encoder)
    classifier.prepare([long])
    assert labels_of(label(classifier, "parcel", "money", labels=long)) == ["late " * 50, "refund " * 50]


def test_a_text_that_fails_beside_one_label_is_labelled_with_another_set(encoder: CrossEncoder) -> None:
    """Given a text and a label that fail only together, then neither the set nor the text is blamed for anything else:
    what becomes of a text does not depend on what else is asked, not even about itself."""
    clashes = LabelSet.adhoc(["delivery", "clash refund"])
    texts = ["parcel clash", "parcel", "money clash", "money"]
    requests = [Request(text, labels) for text in texts for labels in (clashes, TOPICS)]
    classified = by_entailment(encoder).classify(requests)
    failed = "inference_failed"
    assert labels_of(classified) == [failed, *["delivery"] * 3, failed, "refund", "clash refund", "refund"]


def test_a_broken_model_blames_no_text(tmp_path: Path) -> None:
    broken = CrossEncoder.open(tiny_entailment.build(tmp_path, broken=True))
    with pytest.raises(ModelError, match="the model or the device is broken") as error:
        label(by_entailment(broken), *some_texts(20))
    assert not isinstance(error.value, OutOfMemoryError)
    with pytest.raises(ModelError, match="the model or the device is broken"):
        by_entailment(broken).prepare([TOPICS])


def test_out_of_memory_makes_batches_smaller_and_blames_nobody(encoder: CrossEncoder, tmp_path: Path) -> None:
    """Given a device on which 100 tokens fit, when the budget is 512, then all is labelled in batches that fit."""
    hungry = CrossEncoder.open(tiny_entailment.build(tmp_path, max_tokens=100))
    texts = with_bad_ones({17}, 40)
    classified = label(by_entailment(hungry, max_tokens=512), *texts)
    assert labels_of(classified) == labels_of(label(by_entailment(encoder), *texts))
    assert 2 <= classified.measures.retries["out_of_memory"] <= 3  # 512 tokens, 256, 128, and then they fit
    assert max(batch.padded_tokens for batch in classified.measures.batches) <= 100


def test_one_pair_that_does_not_fit_ends_it(tmp_path: Path) -> None:
    hungry = CrossEncoder.open(tiny_entailment.build(tmp_path, max_tokens=20))
    with pytest.raises(OutOfMemoryError):
        label(by_entailment(hungry), "parcel", "parcel " * 30, "login")


def test_threads_may_share_a_classifier(encoder: CrossEncoder) -> None:
    """Given small caches and bad texts, when many threads classify at once, then each gets what it gets alone."""
    texts, source = with_bad_ones({5, 17}), random.Random(1)  # noqa: S311 - only texts
    sets = [TOPICS, MANY, ONE]
    windows = [[Request(source.choice(texts), source.choice(sets)) for _ in range(20)] for _ in range(24)]
    alone = by_entailment(encoder, results_cached=0)
    expected = [labels_of(alone.classify(window)) for window in windows]
    shared = by_entailment(encoder, max_tokens=128, label_sets_cached=2, results_cached=20)
    with ThreadPoolExecutor(4) as pool:
        assert [labels_of(done) for done in pool.map(shared.classify, windows)] == expected
