"""A model of PyTorch becomes a bundle that says what the model says, alone and in any batch, or it becomes nothing."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import orjson
import pytest
import tiny_models
import torch
from exporting import answers, export_tiny, session, tiny_model
from onnxruntime.quantization import quantize_dynamic
from stream import Stream
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from typer.testing import CliRunner

from stream_classifier.classify.labels import LabelSet
from stream_classifier.classify.measures import Measures
from stream_classifier.classify.opening import open_scorer
from stream_classifier.classify.scorer import Asked
from stream_classifier.cli.model import app
from stream_classifier.errors import ExportError
from stream_classifier.model.bundle import Manifest, read_manifest, verify
from stream_classifier.model.encoder import Encoder
from stream_classifier_export import parity
from stream_classifier_export.making import export
from stream_classifier_export.probes import HYPOTHESES, TEXTS, probes
from stream_classifier_export.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker import MakeTopic
    from exporting import Export
    from numpy.typing import NDArray
    from typer.testing import Result

    from stream_classifier.model.bundle import Precision, Task

__all__ = ["export_tiny", "tiny_model"]

MODELS: list[tuple[str, Task, Precision]] = [
    ("bert", "entailment", "int7"),
    ("deberta-v2", "entailment", "int7"),
    ("structbert", "entailment", "int7"),
    ("xlm-roberta", "entailment", "fp32"),
    ("modernbert", "entailment", "fp32"),
    ("bert", "similarity", "int7"),
    ("xlm-roberta", "similarity", "int7"),
    ("modernbert", "similarity", "int7"),
]
"""Every architecture passes in integers; in float32, scores can be held against others' to the last digits."""

PRECISION = {(architecture, task): precision for architecture, task, precision in MODELS}
EACH = pytest.mark.parametrize(("architecture", "task"), PRECISION, ids=["-".join(model) for model in PRECISION])
NLI = pytest.mark.parametrize("architecture", list(tiny_models.MAKERS))
PAIRS = [(text, HYPOTHESES[number % len(HYPOTHESES)]) for number, text in enumerate(TEXTS)]
FITTING = [pair for pair in PAIRS if len(pair[0]) < 50]
"""How pairs that are too long are cut is the business of whoever asks."""


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(torch.softmax(torch.from_numpy(logits), dim=-1).numpy())


def expected_logits(model: Path, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
    """As transformers computes them, tokenizer and all, each pair by itself."""
    network, tokenizer = AutoModelForSequenceClassification.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    network.eval()
    with torch.no_grad():
        each = [
            network(**tokenizer(*pair, return_tensors="pt", truncation="only_first", max_length=64)).logits
            for pair in pairs
        ]
    return np.asarray(torch.cat(each).numpy())


def expected_embeddings(model: Path, texts: list[str]) -> NDArray[np.float32]:
    """The mean over the tokens, each text by itself."""
    network, tokenizer = AutoModel.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    network.eval()
    with torch.no_grad():
        each = [
            network(**tokenizer(text, return_tensors="pt", truncation=True, max_length=64)).last_hidden_state.mean(1)
            for text in texts
        ]
    return np.asarray(torch.nn.functional.normalize(torch.cat(each)).numpy())


class Exact(NamedTuple):
    """A tiny BERT in float32, and how the worker's command made it."""

    command: Result
    bundle: Path


@pytest.fixture(scope="session")
def exact(tiny_model: Callable[[str, Task], Path], tmp_path_factory: pytest.TempPathFactory) -> Exact:
    out = tmp_path_factory.mktemp("exact") / "bundle"
    options = ["--task", "similarity", "--pooling", "mean", "--precision", "fp32", "--prefix", "query: "]
    arguments = ["build", "--from", str(tiny_model("bert", "similarity")), "--out", str(out), *options]
    return Exact(CliRunner().invoke(app, arguments), out)


# What comes out -------------------------------------------------------------------------------------------------------


@EACH
def test_a_bundle_is_whole_and_says_how_it_was_made(architecture: str, task: Task, export_tiny: Export) -> None:
    precision = PRECISION[architecture, task]
    manifest = verify(export_tiny(architecture, task, precision=precision))
    assert (manifest.task, manifest.precision) == (task, precision)
    assert manifest.activations == ("per_token" if precision == "int7" else "none")
    assert (manifest.max_length, manifest.opset) == (64, 23)
    assert manifest.name == f"tiny-{architecture}-{task}"
    assert "weights sha256:" in manifest.source
    assert manifest.fused_attention == (0 if architecture == "deberta-v2" else tiny_models.LAYERS)
    assert manifest.parity is not None
    stages = [stage.stage for stage in manifest.parity.stages]
    assert stages == ["exported", "optimised", *(["int7"] if precision == "int7" else [])]
    assert {"1 x 2", "3 x 5", "2 x 64"} <= set(manifest.parity.shapes)
    for stage in manifest.parity.stages:
        assert stage.worst <= stage.limit
        assert stage.batch_worst <= 1e-6
    assert (manifest.entailment is None) == (task == "similarity")


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "deberta-v2", "modernbert"])
def test_pairs_get_the_logits_that_transformers_computes(
    architecture: str, export_tiny: Export, tiny_model: Callable[[str, Task], Path]
) -> None:
    """Given pairs in many scripts, padded to one batch, then their probabilities are those of each by itself."""
    expected = probabilities(expected_logits(tiny_model(architecture, "entailment"), FITTING))
    actual = probabilities(
        answers(export_tiny(architecture, "entailment", precision=PRECISION[architecture, "entailment"]), FITTING)
    )
    assert np.ptp(expected, axis=0).max() > 0.1  # the model does tell pairs apart
    assert np.abs(actual - expected).max() < 0.1


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert"])
def test_texts_get_the_embeddings_that_transformers_computes(
    architecture: str, export_tiny: Export, tiny_model: Callable[[str, Task], Path]
) -> None:
    encoder = Encoder.open(export_tiny(architecture, "similarity", precision="int7"))
    actual = encoder.embed(encoder.tokenize(TEXTS).ids)
    expected = expected_embeddings(tiny_model(architecture, "similarity"), list(TEXTS))
    assert np.abs(np.linalg.norm(actual, axis=1) - 1).max() < 1e-6
    assert (actual * expected).sum(axis=1).min() > 0.995
    assert (expected @ expected.T).min() < 0.9  # the model does tell texts apart


@EACH
def test_what_a_text_gets_does_not_depend_on_its_batch(architecture: str, task: Task, export_tiny: Export) -> None:
    texts: list[Any] = PAIRS if task == "entailment" else list(TEXTS)
    bundle = export_tiny(architecture, task, precision=PRECISION[architecture, task])
    together = answers(bundle, texts)
    alone = np.concatenate([answers(bundle, [text]) for text in texts])
    assert np.abs(together - alone).max() <= 2e-6


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_heads_are_split_and_joined_by_the_attention_itself(architecture: str, export_tiny: Export) -> None:
    graph = onnx.load(
        export_tiny(architecture, "similarity", precision="int7") / "model.onnx", load_external_data=False
    ).graph
    operators = Counter(node.op_type for node in graph.node)
    assert (operators["Attention"], operators["Transpose"], operators["Reshape"]) == (tiny_models.LAYERS, 0, 0)


def test_products_over_tokens_have_integer_weights_and_no_others(export_tiny: Export) -> None:
    graph = onnx.load(export_tiny("bert", "entailment", precision="int7") / "model.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["MatMulIntegerToFloat"] == 6 * tiny_models.LAYERS
    assert operators["MatMul"] == 0
    assert operators["Gemm"] == 2  # the head, once a pair
    integers = [
        onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8
    ]
    assert len(integers) == 6 * tiny_models.LAYERS
    assert max(int(np.abs(weights).max()) for weights in integers) == 63


def test_relative_positions_of_deberta_are_computed_when_it_is_exported(export_tiny: Export) -> None:
    """All that does not depend on the texts is a constant: the only products left are those of tokens."""
    graph = onnx.load(export_tiny("deberta-v2", "entailment", precision="int7") / "model.onnx").graph
    constants = {tensor.name for tensor in graph.initializer}
    assert [node.op_type for node in graph.node if constants.issuperset(node.input)] == []
    assert Counter(node.op_type for node in graph.node)["MatMulIntegerToFloat"] == 6 * tiny_models.LAYERS


def test_half_precision_is_half_as_large_and_passes(
    export_tiny: Export, tiny_model: Callable[[str, Task], Path]
) -> None:
    bundle = export_tiny("bert", "entailment", precision="fp16")
    model = tiny_model("bert", "entailment")
    assert (bundle / "model.onnx.data").stat().st_size < 0.6 * (model / "model.safetensors").stat().st_size
    logits = answers(bundle, FITTING)
    assert logits.dtype == np.float32
    assert np.abs(probabilities(logits) - probabilities(expected_logits(model, FITTING))).max() < 0.02
    report = read_manifest(bundle).parity
    assert report is not None
    assert [stage.stage for stage in report.stages] == ["exported", "optimised", "fp16"]


def test_static_activations_are_measured_on_texts_of_ones_own(
    export_tiny: Export, exact: Exact, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"{text} {number}" for number in range(5) for text in TEXTS), encoding="utf-8")
    bundle = export_tiny("bert", "similarity", activations="static", calibration=texts)
    manifest = verify(bundle)
    assert (manifest.precision, manifest.activations) == ("int7", "static")
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    assert "ReduceMax" not in {node.op_type for node in graph.node}
    together = answers(bundle, list(TEXTS))
    assert (together * answers(exact.bundle, list(TEXTS))).sum(axis=1).min() > 0.98
    alone = np.concatenate([answers(bundle, [text]) for text in TEXTS])
    assert np.abs(together - alone).max() <= 1e-6


def test_the_tokenizer_gives_the_ids_of_the_models_own(
    export_tiny: Export, tiny_model: Callable[[str, Task], Path]
) -> None:
    """Two separators between the texts of a pair for XLM-RoBERTa, and types for BERT."""
    for architecture in ("bert", "xlm-roberta"):
        bundle = export_tiny(architecture, "entailment", precision=PRECISION[architecture, "entailment"])
        own = AutoTokenizer.from_pretrained(tiny_model(architecture, "entailment"))
        written = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        for pair in PAIRS:
            expected = own(*pair, return_token_type_ids=True)
            assert written.encode(*pair).ids == expected["input_ids"]
            assert written.encode(*pair).type_ids == expected["token_type_ids"]
        assert (written.padding or {})["pad_id"] == own.pad_token_id
    separators = Tokenizer.from_file(str(bundle / "tokenizer.json")).encode("a", "b").tokens
    assert separators.count("</s>") == 3


def test_a_model_goes_through_the_workers_own_command(exact: Exact) -> None:
    assert exact.command.exit_code == 0
    assert exact.command.stdout.splitlines() == [str(exact.bundle)]
    assert "comparing what is optimised" in exact.command.stderr
    manifest = verify(exact.bundle)
    assert (manifest.precision, manifest.prefix, manifest.temperature) == ("fp32", "query: ", 0.05)
    lines = CliRunner().invoke(app, ["show", "--path", str(exact.bundle)]).stdout.splitlines()
    assert any(line.startswith("parity, exported: worst ") and "limit 1e-07" in line for line in lines)
    assert "fused attention: 2 operators" in lines


@pytest.mark.parametrize("architecture", ["xlm-roberta", "modernbert"])
def test_a_bundle_scores_labels_as_transformers_zero_shot_pipeline_does(
    architecture: str, export_tiny: Export, tiny_model: Callable[[str, Task], Path]
) -> None:
    """Given texts that need not be cut, then single and multi scores are the pipeline's."""
    names = ("delivery", "refund", "my account")
    classify = pipeline("zero-shot-classification", model=str(tiny_model(architecture, "entailment")))
    scorer = open_scorer(export_tiny(architecture, "entailment", precision=PRECISION[architecture, "entailment"]))
    texts = [text for text in TEXTS if len(text) < 26]
    for mode in ("single", "multi"):
        [found] = scorer.score([Asked(LabelSet.adhoc(names, mode=mode), texts)], Measures())
        for text, scores in zip(texts, found.scores, strict=True):
            expected: Any = classify(text, list(names), multi_label=mode == "multi")
            by_label = dict(zip(expected["labels"], expected["scores"], strict=True))
            assert np.abs(scores - [by_label[name] for name in names]).max() < 1e-4


@NLI
def test_a_worker_labels_a_stream_with_a_bundle(
    architecture: str, export_tiny: Export, bootstrap_servers: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    bundle = export_tiny(architecture, "entailment", precision=PRECISION[architecture, "entailment"])
    stream = Stream(bootstrap_servers, make_topic, tmp_path, bundle)
    stream.publish(*(orjson.dumps({"text": text}) for text in TEXTS))
    stream.run(len(TEXTS))
    assert stream.dead_letters == []
    results = [orjson.loads(record.value or b"")["classification"] for record in stream.labelled]
    assert len(results) == len(TEXTS)
    assert {result["model"] for result in results} == {read_manifest(bundle).identity}
    for result in results:
        assert sum(found["score"] for found in result["labels"]) == pytest.approx(1, abs=1e-3)


# What does not come out -----------------------------------------------------------------------------------------------


def test_nothing_is_written_when_a_stage_is_over_the_limit(
    tiny_model: Callable[[str, Task], Path], tmp_path: Path
) -> None:
    request = Request(source=str(tiny_model("bert", "entailment")), out=tmp_path / "out", task="entailment", limit=1e-5)
    with pytest.raises(
        ExportError, match=r"^the int7 model is too far from the one it was made from \(a probability's"
    ):
        export(request, progress=lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def gate(exact: Exact) -> parity.Gate:
    """A gate for the exact embeddings of a tiny BERT."""
    run = session(exact.bundle)

    def reference(probe: Any) -> NDArray[np.float32]:
        [output] = run.run(None, {"input_ids": probe.ids, "attention_mask": probe.mask})
        return np.asarray(output)

    tokenizer = Tokenizer.from_file(str(exact.bundle / "tokenizer.json"))
    inputs = ("input_ids", "attention_mask")
    return parity.Gate(
        "similarity", probes(tokenizer, longest=64, pairs=False), reference, inputs, "itself", limit=None
    )


def copied(bundle: Path, directory: Path) -> Path:
    shutil.copytree(bundle, directory)
    return directory / "model.onnx"


def test_the_gate_lets_the_model_itself_pass(gate: parity.Gate, exact: Exact) -> None:
    path = exact.bundle / "model.onnx"
    assert gate.check("same", path, "fp32").worst == 0
    assert gate.report().agreement == 1


def test_the_gate_finds_a_weight_that_was_changed(gate: parity.Gate, exact: Exact, tmp_path: Path) -> None:
    path = copied(exact.bundle, tmp_path / "changed")
    weights = path.with_name("model.onnx.data")
    numbers = np.fromfile(weights, np.float32)
    numbers[len(numbers) // 2 :][:32] += 0.5
    numbers.tofile(weights)
    with pytest.raises(ExportError, match="the changed model is too far"):
        gate.check("changed", path, "fp32")


def test_the_gate_finds_that_a_text_depends_on_its_batch(gate: parity.Gate, exact: Exact, tmp_path: Path) -> None:
    """ONNX Runtime's own dynamic quantisation is near enough, and is refused all the same."""
    path = tmp_path / "model.onnx"
    quantize_dynamic(exact.bundle / "model.onnx", path, op_types_to_quantize=["MatMul"])
    with pytest.raises(ExportError, match="what the dynamic model makes of a text depends on the batch"):
        gate.check("dynamic", path, "int7")


def test_the_gate_finds_what_is_no_number(gate: parity.Gate, exact: Exact, tmp_path: Path) -> None:
    path = copied(exact.bundle, tmp_path / "broken")
    weights = path.with_name("model.onnx.data")
    np.full(weights.stat().st_size // 4, np.nan, np.float32).tofile(weights)
    with pytest.raises(ExportError, match="gives numbers that are not finite"):
        gate.check("broken", path, "fp32")


def test_the_limits_in_the_documentation_are_the_gates() -> None:
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(fp32|fp16|int7)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    shown = {precision: tuple(map(float, limits)) for precision, *limits in rows}
    batch = {precision: limits.batch for (_, precision), limits in parity._LIMITS.items()}
    assert shown == {
        precision: (*(parity._LIMITS[task, precision].worst for task in ("similarity", "entailment")), batch[precision])
        for precision in ("fp32", "fp16", "int7")
    }


def test_a_graph_with_too_few_fused_attentions_is_refused(tmp_path: Path) -> None:
    """RoFormer's attention is made of single operations, and nobody has said that it has to be."""
    model = tiny_models.roformer(tmp_path / "roformer", task="entailment")
    request = Request(source=str(model), out=tmp_path / "bundles" / "out", task="entailment")
    with pytest.raises(ExportError, match="the graph has 0 fused attentions and the model 2 layers"):
        export(request, progress=lambda _: None)
    assert list((tmp_path / "bundles").iterdir()) == []


def test_the_parity_report_changes_no_identity(export_tiny: Export) -> None:
    manifest = read_manifest(export_tiny("bert", "similarity", precision="int7"))
    other = Manifest.model_validate(manifest.model_dump() | {"parity": None, "fused_attention": None, "opset": None})
    assert other.hash == manifest.hash
