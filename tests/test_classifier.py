"""The classifier on real ONNX bundles: results, what they cost, and every way in which a model can fail."""

import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.classify.budget import RECOVERS_AFTER
from stream_classifier.classify.classification import Classification, Failure
from stream_classifier.classify.classifier import Classified, Classifier, Request
from stream_classifier.classify.labels import Label, LabelSet
from stream_classifier.classify.similarity import Similarity
from stream_classifier.errors import ModelError, OutOfMemoryError, SettingsError
from stream_classifier.model.encoder import Encoder

TOPICS = LabelSet("topics", 1, "single", None, (Label("delivery"), Label("refund"), Label("password")))
WORDS = ("parcel", "courier", "late", "money", "退款", "login", "密码", "hello", "快递")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.open(tiny_bundle.build(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.open(tiny_bundle.build_broken(tmp_path_factory.mktemp("broken")))


def hungry(directory: Path, max_tokens: int) -> Encoder:
    return Encoder.open(tiny_bundle.build_hungry(directory / "hungry", max_tokens=max_tokens))


def by_similarity(
    encoder: Encoder, *, results_cached: int = 10_000, clock: Callable[[], float] = time.perf_counter, **sizes: int
) -> Classifier:
    return Classifier(Similarity(encoder, clock=clock, **sizes), results_cached=results_cached)


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


def test_texts_are_labelled_in_the_order_they_came(encoder: Encoder) -> None:
    texts = ["my parcel", "refund my money please now", "login", "快递 late"]
    classified = label(by_similarity(encoder), *texts)
    assert labels_of(classified) == ["delivery", "refund", "password", "delivery"]
    first = classified.results[0]
    assert isinstance(first, Classification)
    assert orjson.loads(first.encoded) == {
        "label": "delivery",
        "score": first.score,
        "labels": [{"label": name, "score": score} for name, score in first.labels],
        "label_set": "topics@1",
        "model": encoder.manifest.identity,
        "truncated": False,
    }
    assert sum(score for _, score in first.labels) == pytest.approx(1, abs=2e-4)


def test_nothing_asked_is_nothing_done(encoder: Encoder) -> None:
    classified = by_similarity(encoder).classify([])
    assert classified.results == []
    assert classified.measures.batches == []


def test_one_call_may_ask_for_many_label_sets(encoder: Encoder) -> None:
    """Given requests of three sets, mixed, then each is scored against its own, and new labels run with the texts."""
    money = LabelSet.adhoc(["invoice", "courier"])
    both = LabelSet.adhoc(["delivery", "refund"], mode="multi")
    requests = [Request("parcel", money), Request("parcel", TOPICS), Request("parcel refund", both)]
    classified = by_similarity(encoder).classify(requests)
    assert labels_of(classified)[:2] == ["courier", "delivery"]
    multi = classified.results[2]
    assert isinstance(multi, Classification)
    assert {name for name, _ in multi.labels} == {"delivery", "refund"}
    assert [r.label_set for r in classified.results if isinstance(r, Classification)] == ["adhoc", "topics@1", "adhoc"]


def test_in_multi_mode_another_label_changes_no_score(encoder: Encoder) -> None:
    few = LabelSet.adhoc(["delivery", "refund"], mode="multi", threshold=0)
    more = LabelSet.adhoc(["delivery", "refund", "password", "email"], mode="multi", threshold=0)
    classifier = by_similarity(encoder)
    (one,) = label(classifier, "parcel money", labels=few).results
    (other,) = label(classifier, "parcel money", labels=more).results
    assert isinstance(one, Classification)
    assert isinstance(other, Classification)
    assert dict(one.labels).items() <= dict(other.labels).items()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(some_texts(60)), min_size=1, max_size=40), st.sampled_from([1, 16, 64, 512]))
def test_a_result_is_the_same_whatever_else_is_asked(encoder: Encoder, texts: list[str], max_tokens: int) -> None:
    """Given any texts, repeated or not, when they run together under any budget, then each is as when run alone.

    Scoring gives the same bits (test_similarity.py); the tiny model's own mean is off by 1e-7, which can round the last
    decimal the other way.
    """
    together = label(by_similarity(encoder, max_tokens=max_tokens), *texts).results
    for text, result in zip(texts, together, strict=True):
        (alone,) = label(by_similarity(encoder, results_cached=0), text).results
        assert isinstance(result, Classification)
        assert isinstance(alone, Classification)
        assert result.label == alone.label
        assert dict(result.labels) == pytest.approx(dict(alone.labels), abs=1.01e-4)


def test_batches_keep_to_the_budget_and_are_measured(encoder: Encoder) -> None:
    texts = some_texts(100)
    classifier = by_similarity(encoder, max_tokens=64)
    classifier.prepare([TOPICS])
    measures = label(classifier, *texts).measures
    assert sum(batch.events for batch in measures.batches) == len(texts)
    assert sum(batch.useful_tokens for batch in measures.batches) == sum(len(text.split()) + 2 for text in texts)
    assert all(batch.events == 1 or batch.padded_tokens <= 64 for batch in measures.batches)
    assert all(batch.useful_tokens <= batch.padded_tokens for batch in measures.batches)


def test_the_clock_is_read_for_what_takes_time(encoder: Encoder) -> None:
    ticks = iter(range(10_000))
    measures = label(by_similarity(encoder, clock=lambda: next(ticks)), *some_texts(50)).measures
    assert measures.tokenize_seconds == 1
    assert {batch.seconds for batch in measures.batches} == {1}


def test_equal_texts_run_once(encoder: Encoder) -> None:
    classifier = by_similarity(encoder)
    classifier.prepare([TOPICS])
    classified = label(classifier, *["my parcel"] * 10, "login")
    assert labels_of(classified) == ["delivery"] * 10 + ["password"]
    assert sum(batch.events for batch in classified.measures.batches) == 2
    assert classified.measures.cache["results", "miss"] == 2
    assert classified.measures.cache["results", "hit"] == 9


def test_a_text_that_comes_again_is_remembered_with_its_label_set(encoder: Encoder) -> None:
    classifier = by_similarity(encoder)
    first = label(classifier, "my parcel")
    again = label(classifier, "my parcel")
    assert again.results == first.results
    assert again.measures.batches == []
    assert again.measures.cache["results", "hit"] == 1
    other = label(classifier, "my parcel", labels=LabelSet.adhoc(["email", "shipping"]))
    assert labels_of(other) == ["shipping"]


def test_only_as_much_is_remembered_as_is_allowed(encoder: Encoder) -> None:
    classifier = by_similarity(encoder, results_cached=2)
    label(classifier, "parcel", "money")
    label(classifier, "parcel")  # used again, so "money" goes first
    label(classifier, "login")
    assert label(classifier, "parcel", "login").measures.cache["results", "hit"] == 2
    assert label(classifier, "money").measures.cache["results", "miss"] == 1


def test_with_a_cache_of_nothing_every_call_runs(encoder: Encoder) -> None:
    classifier = by_similarity(encoder, results_cached=0)
    assert label(classifier, "parcel").results == label(classifier, "parcel").results
    assert len(label(classifier, "parcel").measures.batches) == 1


def test_the_labels_of_a_set_run_once(encoder: Encoder) -> None:
    classifier = by_similarity(encoder)
    first = label(classifier, "parcel").measures
    second = label(classifier, "money").measures
    assert sum(batch.events for batch in first.batches) == 1 + len(TOPICS.labels)
    assert sum(batch.events for batch in second.batches) == 1
    assert (first.cache["label_sets", "miss"], second.cache["label_sets", "hit"]) == (1, 1)


def test_a_prepared_set_is_there_when_the_first_text_comes(encoder: Encoder) -> None:
    classifier = by_similarity(encoder)
    classifier.prepare([TOPICS])
    assert label(classifier, "parcel").measures.cache["label_sets", "hit"] == 1


def test_label_sets_beyond_the_limit_are_forgotten_and_made_again(encoder: Encoder) -> None:
    classifier = by_similarity(encoder, label_sets_cached=1, results_cached=0)
    other = LabelSet.adhoc(["email", "shipping"])
    for _ in range(2):
        assert labels_of(label(classifier, "parcel")) == ["delivery"]
        again = label(classifier, "parcel", labels=other)
        assert labels_of(again) == ["shipping"]
        assert again.measures.cache["label_sets", "miss"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \u3000\u200b",
        "\x00",
        "par\x00cel",
        "😂😂😂",
        "!?...",
        "\ufeff",
        "e\u0301" * 50,
        "parcel " * 5000,
        "包" * 100_000,
        "\U0010ffff",
    ],
    ids=["empty", "blank", "null", "null inside", "emoji", "marks", "bom", "accents", "long", "no spaces", "last"],
)
def test_odd_texts_are_labelled_like_any_other(encoder: Encoder, text: str) -> None:
    assert all(isinstance(result, Classification) for result in label(by_similarity(encoder), text, "parcel").results)


def test_a_text_longer_than_the_model_reads_is_marked(encoder: Encoder) -> None:
    classifier = by_similarity(encoder)
    for _ in range(2):  # the second time out of the cache
        classified = label(classifier, "parcel " * 100, "parcel")
        assert [r.truncated for r in classified.results if isinstance(r, Classification)] == [True, False]
        assert classified.measures.truncated == 1


def with_bad_ones(bad: set[int], number: int = 64) -> list[str]:
    return [f"{text} boom" if index in bad else text for index, text in enumerate(some_texts(number))]


@pytest.mark.parametrize("bad", [{0}, {37}, {63}, {3, 4, 60}, set(range(0, 64, 2))], ids=str)
def test_texts_that_make_the_model_fail_are_blamed_alone(encoder: Encoder, bad: set[int]) -> None:
    """Given bad texts among good ones, when they run in one batch, then the good ones come out as without the bad."""
    texts = with_bad_ones(bad)
    results = label(by_similarity(encoder, max_tokens=10_000), *texts).results
    assert {index for index, result in enumerate(results) if isinstance(result, Failure)} == bad
    good = [index for index in range(64) if index not in bad]
    assert [results[index] for index in good] == label(
        by_similarity(encoder), *(texts[index] for index in good)
    ).results


def test_when_every_text_is_bad_and_the_model_is_not_every_text_is_blamed(encoder: Encoder) -> None:
    assert labels_of(label(by_similarity(encoder), *with_bad_ones(set(range(64))))) == ["inference_failed"] * 64


def test_one_bad_text_costs_a_logarithm_of_runs(encoder: Encoder) -> None:
    classifier = by_similarity(encoder, max_tokens=10_000)
    classifier.prepare([TOPICS])
    one_length = [f"parcel {number}" for number in range(255)]
    measures = label(classifier, *one_length, "boom parcel").measures
    assert measures.retries["inference"] == math.log2(256)
    assert len(measures.batches) == math.log2(256)
    assert sum(batch.events for batch in measures.batches) == 255


def test_a_failure_says_why_and_never_what_the_text_was(encoder: Encoder) -> None:
    (failure,) = label(by_similarity(encoder), "secret boom").results
    assert isinstance(failure, Failure)
    assert "fails on this text and not on others" in failure.message
    assert "boom" not in failure.message
    assert "secret" not in failure.message


def test_failures_are_not_remembered(encoder: Encoder) -> None:
    classifier = by_similarity(encoder)
    label(classifier, "boom")
    assert label(classifier, "boom").measures.cache["results", "miss"] == 1


def test_a_text_that_the_tokenizer_refuses_is_blamed_alone(encoder: Encoder) -> None:
    texts = [*some_texts(20), "half a \ud83d character"]
    classified = label(by_similarity(encoder), *texts)
    assert [index for index, result in enumerate(classified.results) if isinstance(result, Failure)] == [20]
    failure = classified.results[20]
    assert isinstance(failure, Failure)
    assert "ud83d" not in failure.message


def test_a_label_that_makes_the_model_fail_fails_the_texts_of_its_set_only(encoder: Encoder) -> None:
    bad = LabelSet.adhoc(["delivery", "boom"])
    classifier = by_similarity(encoder)
    classified = classifier.classify([Request("parcel", bad), Request("parcel", TOPICS), Request("login", bad)])
    assert labels_of(classified) == ["inference_failed", "delivery", "inference_failed"]
    failure = classified.results[0]
    assert isinstance(failure, Failure)
    assert failure.message.startswith("label 2 of 2: ")


def test_preparing_a_set_that_the_model_cannot_read_says_which(encoder: Encoder) -> None:
    with pytest.raises(SettingsError, match=r"label set bad@1: label 1 of 2: the model fails on this text"):
        by_similarity(encoder).prepare([LabelSet("bad", 1, "single", None, (Label("boom"), Label("b")))])


def test_a_broken_model_blames_no_text(broken: Encoder) -> None:
    with pytest.raises(ModelError, match="the model or the device is broken") as error:
        label(by_similarity(broken), *some_texts(64))
    assert not isinstance(error.value, OutOfMemoryError)


def test_out_of_memory_makes_batches_smaller_and_blames_nobody(encoder: Encoder, tmp_path: Path) -> None:
    """Given a device on which 100 tokens fit, when the budget is 512, then all is labelled in batches that fit."""
    texts = some_texts(100)
    classified = label(by_similarity(hungry(tmp_path, 100), max_tokens=512), *texts)
    assert labels_of(classified) == labels_of(label(by_similarity(encoder), *texts))
    assert 2 <= classified.measures.retries["out_of_memory"] <= 3  # 512 tokens, 256, 128, and then they fit
    assert classified.measures.retries["inference"] == 0
    assert max(batch.padded_tokens for batch in classified.measures.batches) <= 100


def test_after_out_of_memory_the_next_window_starts_small_and_later_ones_try_more(tmp_path: Path) -> None:
    classifier = by_similarity(hungry(tmp_path, 100), max_tokens=512, results_cached=0)
    texts = some_texts(100)
    assert label(classifier, *texts).measures.retries["out_of_memory"] > 0
    retries = [label(classifier, *texts).measures.retries["out_of_memory"] for _ in range(RECOVERS_AFTER + 1)]
    assert retries[:-1] == [0] * RECOVERS_AFTER
    assert retries[-1] > 0


def test_one_text_that_does_not_fit_ends_it(tmp_path: Path) -> None:
    classifier = by_similarity(hungry(tmp_path, 20), max_tokens=512)
    with pytest.raises(OutOfMemoryError):
        label(classifier, "parcel", "parcel " * 30, "login")


def test_a_bad_text_is_found_while_memory_is_short(tmp_path: Path) -> None:
    texts = with_bad_ones({37})
    classified = label(by_similarity(hungry(tmp_path, 100), max_tokens=512), *texts)
    assert [index for index, result in enumerate(classified.results) if isinstance(result, Failure)] == [37]


def test_threads_may_share_a_classifier(encoder: Encoder) -> None:
    """Given small caches and bad texts, when many threads classify at once, then each gets what it gets alone."""
    sets = [TOPICS, LabelSet.adhoc(["email", "shipping"]), LabelSet.adhoc(["delivery", "refund"], mode="multi")]
    texts = with_bad_ones({5, 17})
    source = random.Random(1)  # noqa: S311 - only texts
    windows = [[Request(source.choice(texts), source.choice(sets)) for _ in range(40)] for _ in range(48)]
    alone = by_similarity(encoder, results_cached=0)
    expected = [alone.classify(window).results for window in windows]

    shared = by_similarity(encoder, max_tokens=128, label_sets_cached=2, results_cached=20)
    barrier = threading.Barrier(8)

    def work(number: int) -> list[Classified]:
        barrier.wait()
        return [shared.classify(window) for window in windows[number::8]]

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(8)))
    for number, classified in enumerate(done):
        assert [each.results for each in classified] == expected[number::8]
