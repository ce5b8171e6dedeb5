"""Texts in, embeddings out, on tiny real bundles: padding, truncation, and what is said when the model fails."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_classifier.errors import BundleError, OutOfMemoryError, UsageError
from stream_classifier.model.bundle import read_manifest, sha256_of, write_manifest
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import OnnxSession, RunFailedError
from stream_classifier.model.tokenizer import BundleTokenizer

WORDS = st.lists(st.sampled_from([*tiny_bundle.WORDS, "anything", "你好"]), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return Encoder.open(bundle)


def rewritten(directory: Path, **fields: object) -> Path:
    """Gives the bundle another manifest that its files agree with."""
    manifest = read_manifest(directory)
    files = {name: sha256_of(directory / name) for name in manifest.files}
    write_manifest(directory, manifest.model_copy(update={"files": files} | fields))
    return directory


def test_an_encoder_says_what_it_is(encoder: Encoder, bundle: Path) -> None:
    assert encoder.manifest == read_manifest(bundle)
    assert (encoder.device, encoder.dimensions, encoder.temperature) == ("cpu", 8, 0.1)


def test_texts_of_a_topic_are_near_each_other(encoder: Encoder) -> None:
    texts = ["where is my parcel", "快递还没到", "I want a refund", "我要退款", "reset my password", "忘记密码"]
    embeddings = encoder.embed(encoder.tokenize(texts).ids)
    nearest = (embeddings @ embeddings.T - 2 * np.eye(len(texts))).argmax(axis=1)
    assert nearest.tolist() == [1, 0, 3, 2, 5, 4]


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8))
def test_a_text_has_the_same_ids_and_embedding_alone_and_in_any_batch(encoder: Encoder, texts: list[str]) -> None:
    together = encoder.tokenize(texts)
    embeddings = encoder.embed(together.ids)
    assert embeddings.shape == (len(texts), 8)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1)
    for text, ids, embedding in zip(texts, together.ids, embeddings, strict=True):
        alone = encoder.tokenize([text]).ids
        assert alone == [ids]
        assert np.abs(encoder.embed(alone)[0] - embedding).max() <= 1e-6


def test_no_texts_give_no_embeddings(encoder: Encoder) -> None:
    assert encoder.tokenize([]) == ([], [])
    assert encoder.embed([]).shape == (0, 8)


def test_a_long_text_loses_its_end_and_keeps_its_special_tokens(encoder: Encoder) -> None:
    longest = tiny_bundle.MAX_LENGTH - 2
    ids, truncated = encoder.tokenize(["parcel " * longest, "parcel " * (longest + 1), "parcel " * 10_000])
    assert [len(text) for text in ids] == [tiny_bundle.MAX_LENGTH] * 3
    assert truncated == [False, True, True]
    assert ids[0] == ids[1] == ids[2]


def test_a_shorter_maximum_length_can_be_asked_for(bundle: Path) -> None:
    ids, truncated = Encoder.open(bundle, max_length=5).tokenize(["my parcel is late", "my parcel late"])
    assert [len(text) for text in ids] == [5, 5]
    assert truncated == [True, False]


@pytest.mark.parametrize("max_length", [tiny_bundle.MAX_LENGTH + 1, 2, 0, -1])
def test_a_maximum_length_out_of_range_is_refused(bundle: Path, max_length: int) -> None:
    with pytest.raises(UsageError, match=rf"model\.max_length is {max_length}: "):
        Encoder.open(bundle, max_length=max_length)


def test_a_maximum_length_that_the_prefix_uses_up_is_refused(tmp_path: Path) -> None:
    directory = rewritten(tiny_bundle.build(tmp_path), prefix="the label is ")
    with pytest.raises(UsageError, match="needs more for its prefix alone"):
        Encoder.open(directory, max_length=5)
    assert Encoder.open(directory, max_length=6).tokenize(["parcel"]).truncated == [False]


def test_the_prefix_stands_before_every_text(bundle: Path, encoder: Encoder) -> None:
    prefixed = BundleTokenizer(bundle / "tokenizer.json", prefix="refund ", max_length=64)
    assert prefixed.encode(["parcel", ""]).ids == encoder.tokenize(["refund parcel", "refund"]).ids


def test_threads_share_an_encoder(encoder: Encoder) -> None:
    """Given one encoder, when four threads use it at once, then each gets what it would get alone."""
    texts = [f"parcel {'refund ' * (number % 7)} 退款 {number}" for number in range(200)]
    alone = [encoder.embed(encoder.tokenize([text]).ids) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: encoder.embed(encoder.tokenize([text]).ids), texts))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_text_that_breaks_the_model_fails_its_batch_and_no_other(encoder: Encoder) -> None:
    with pytest.raises(RunFailedError, match=r"a batch of 2 x 4 tokens: InvalidArgument in Gather$"):
        encoder.embed(encoder.tokenize(["parcel", "boom parcel"]).ids)
    assert encoder.embed(encoder.tokenize(["parcel"]).ids).shape == (1, 8)


def test_no_error_tells_of_the_text(encoder: Encoder) -> None:
    ids = encoder.tokenize(["boom"]).ids
    with pytest.raises(RunFailedError) as caught:
        encoder.embed(ids)
    assert str(ids[0][1]) not in str(caught.value)


def test_a_broken_model_fails_on_every_text(tmp_path: Path) -> None:
    encoder = Encoder.open(tiny_bundle.build_broken(tmp_path))
    for text in ("", "parcel", "快递"):
        with pytest.raises(RunFailedError):
            encoder.embed(encoder.tokenize([text]).ids)


def test_out_of_memory_is_told_apart(tmp_path: Path) -> None:
    encoder = Encoder.open(tiny_bundle.build_hungry(tmp_path, max_tokens=6))
    ids = encoder.tokenize(["parcel", "refund", "password"]).ids
    assert encoder.embed(ids[:2]).shape == (2, 8)
    with pytest.raises(OutOfMemoryError, match=r"a batch of 3 x 3 tokens: .*batch\.max_tokens"):
        encoder.embed(ids)
    assert encoder.embed(ids[:2]).shape == (2, 8)


def test_an_embedding_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    """Given a table with a vector of zeros, when its word comes alone, then 0 / 0 does not leave the session."""
    directory = tiny_bundle.build(tmp_path)
    (directory / "model.onnx.data").write_bytes(bytes((directory / "model.onnx.data").stat().st_size))
    encoder = Encoder.open(rewritten(directory))
    with pytest.raises(RunFailedError, match="not finite"):
        encoder.embed(encoder.tokenize(["parcel"]).ids)


def test_a_lone_surrogate_fails_in_the_tokenizer_and_harms_no_other(encoder: Encoder) -> None:
    with pytest.raises(RunFailedError, match="the tokenizer failed on one of 2 texts"):
        encoder.tokenize(["parcel", "\ud800"])
    assert encoder.tokenize(["parcel"]).truncated == [False]


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "\0parcel\0", "e\u0301" * 1000, "\u202e\u200b\ufeff", "👩‍👩‍👧" * 500, "a" * 100_000]
)
def test_any_text_can_be_embedded(encoder: Encoder, text: str) -> None:
    assert np.isfinite(encoder.embed(encoder.tokenize([text]).ids)).all()


def test_a_damaged_bundle_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    directory = tiny_bundle.build(tmp_path)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json is damaged"):
        Encoder.open(directory)


@pytest.mark.parametrize(
    ("name", "message"),
    [("tokenizer.json", "cannot be read as a tokenizer"), ("model.onnx", "cannot be loaded by ONNX Runtime")],
)
def test_a_bundle_made_with_a_wrong_file_is_refused(tmp_path: Path, name: str, message: str) -> None:
    directory = tiny_bundle.build(tmp_path)
    (directory / name).write_bytes(b"{}")
    with pytest.raises(BundleError, match=message):
        Encoder.open(rewritten(directory))


def test_dimensions_that_are_not_the_models_are_refused(tmp_path: Path) -> None:
    directory = rewritten(tiny_bundle.build(tmp_path), dimensions=9)
    with pytest.raises(BundleError, match="gives 8 dimensions, its manifest says 9"):
        Encoder.open(directory)


def test_a_model_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tiny_bundle.build(tmp_path) / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"embedding", b"embedded!"))
    with pytest.raises(BundleError, match="does not take input_ids and attention_mask and give embedding"):
        OnnxSession(path)


def test_a_missing_onnxruntime_is_one_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # Python's own way to say that there is no such module
    with pytest.raises(BundleError, match=r"pip install '\.\[cpu\]'"):
        Encoder.open(bundle)


def test_onnxruntime_says_nothing_on_stderr_even_when_a_run_fails(bundle: Path) -> None:
    """Given a fresh process, when a model is loaded, runs and fails, then only what we print comes out."""
    script = f"""
import os, sys
from pathlib import Path
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import RunFailedError
assert "onnxruntime" not in sys.modules
encoder = Encoder.open(Path({str(bundle)!r}))
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
try:
    encoder.embed(encoder.tokenize(["parcel", "boom"]).ids)
except RunFailedError:
    print("failed")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "failed\n", "")
