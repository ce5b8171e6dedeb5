"""Pairs of texts in, logits out, on tiny real bundles: what is read, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tiny_bundle
import tiny_entailment

from stream_classifier.errors import BundleError, OutOfMemoryError, UsageError
from stream_classifier.model.bundle import read_manifest
from stream_classifier.model.cross_encoder import CrossEncoder, Pair
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import RunFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PAIRS = [("where is my parcel", "delivery"), ("where is my parcel", "refund"), ("我要退款", "this is about money")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_entailment.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> CrossEncoder:
    return CrossEncoder.open(bundle)


def logits(encoder: CrossEncoder, *pairs: tuple[str, str]) -> NDArray[np.float32]:
    return encoder.logits([Pair(*encoder.tokenize(pair)) for pair in pairs])


def test_texts_that_share_a_topic_entail_each_other(encoder: CrossEncoder, bundle: Path) -> None:
    assert encoder.manifest == read_manifest(bundle)
    assert (encoder.device, encoder.room) == ("cpu", tiny_entailment.MAX_LENGTH - 3)
    found = logits(encoder, *PAIRS)
    assert found.shape == (3, 3)
    assert found.argmax(axis=1).tolist() == [0, 2, 0]


def test_with_and_without_token_types_the_texts_are_told_apart(encoder: CrossEncoder, tmp_path: Path) -> None:
    other = CrossEncoder.open(tiny_entailment.build(tmp_path, pairs="roberta"))
    assert other.room == tiny_entailment.MAX_LENGTH - 4
    np.testing.assert_allclose(logits(other, *PAIRS), logits(encoder, *PAIRS), atol=1e-6)


def test_a_pair_has_the_same_logits_alone_and_in_any_batch(encoder: CrossEncoder) -> None:
    pairs = [(f"parcel {'refund ' * (n % 9)}", f"delivery {'money ' * (n % 5)}") for n in range(40)]
    together = logits(encoder, *pairs)
    alone = np.concatenate([logits(encoder, pair) for pair in pairs])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_threads_share_a_cross_encoder(encoder: CrossEncoder) -> None:
    pairs = [(f"parcel {'refund ' * (n % 7)}", f"退款 {n}") for n in range(100)]
    alone = [logits(encoder, pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: logits(encoder, pair), pairs))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_what_is_beyond_the_room_is_not_read(bundle: Path) -> None:
    """Given 12 tokens for both texts together, then of a longer premise the first of them are read."""
    short = CrossEncoder.open(bundle, max_length=15)
    hypothesis = short.tokenize(["delivery late"])[0]
    fits, too_long = short.tokenize(["money " * 10, "money " * 10 + "parcel courier shipping"])
    assert (short.length(Pair(fits, hypothesis)), short.length(Pair(too_long, hypothesis))) == (15, 15)
    assert short.kept(Pair(too_long, hypothesis)) == (10, 2)
    one, other = short.logits([Pair(fits, hypothesis), Pair(too_long, hypothesis)])
    assert np.array_equal(one, other)


def test_a_hypothesis_has_to_leave_room_for_a_premise(bundle: Path, tmp_path: Path) -> None:
    only_first = CrossEncoder.open(bundle, max_length=9)
    assert [only_first.leaves_room([5] * length) for length in (5, 6, 7)] == [True, False, False]
    longest_first = CrossEncoder.open(tiny_entailment.build(tmp_path, truncation="longest_first"), max_length=9)
    assert longest_first.leaves_room([5] * 7)
    assert longest_first.kept(Pair([5] * 7, [5] * 7)) == (3, 3)


@pytest.mark.parametrize("max_length", [tiny_entailment.MAX_LENGTH + 1, 4, 0, -1])
def test_a_maximum_length_out_of_range_is_refused(bundle: Path, max_length: int) -> None:
    with pytest.raises(UsageError, match=rf"model\.max_length is {max_length}: "):
        CrossEncoder.open(bundle, max_length=max_length)


def test_a_bundle_of_the_other_task_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is a model of similarity, not of entailment: name another bundle"):
        CrossEncoder.open(tiny_bundle.build(tmp_path))
    with pytest.raises(BundleError, match="is a model of entailment, which gives no embeddings: name another bundle"):
        Encoder.open(bundle)


def test_a_graph_of_the_other_task_is_refused(tmp_path: Path) -> None:
    directory = tiny_entailment.build(tmp_path / "entailment")
    for name in ("model.onnx", "model.onnx.data"):
        (directory / name).write_bytes((tiny_bundle.build(tmp_path / "similarity") / name).read_bytes())
    with pytest.raises(BundleError, match="does not take input_ids and attention_mask and give logits"):
        CrossEncoder.open(tiny_entailment.sign(directory))


def test_logits_that_are_not_as_many_as_the_manifest_says_are_refused(tmp_path: Path) -> None:
    directory = tiny_entailment.sign(tiny_entailment.build(tmp_path), dimensions=4)
    with pytest.raises(BundleError, match="gives 3 logits, its manifest says 4"):
        CrossEncoder.open(directory)


def test_a_damaged_bundle_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    directory = tiny_entailment.build(tmp_path)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json is damaged"):
        CrossEncoder.open(directory)


def test_failures_of_the_model_are_told_apart_and_tell_of_no_text(encoder: CrossEncoder, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"a batch of 2 x 5 tokens: InvalidArgument in Gather$"):
        logits(encoder, ("parcel", "delivery"), ("boom", "delivery"))
    with pytest.raises(RunFailedError, match="the tokenizer failed on one of 2 texts"):
        encoder.tokenize(["parcel", "\ud800"])
    hungry = CrossEncoder.open(tiny_entailment.build(tmp_path, max_tokens=10))
    assert logits(hungry, *[("parcel", "delivery")] * 2).shape == (2, 3)
    with pytest.raises(OutOfMemoryError, match=r"a batch of 3 x 5 tokens: .*batch\.max_tokens"):
        logits(hungry, *[("parcel", "delivery")] * 3)
