"""Real bundles of entailment, small enough to be made in a test: a real tokenizer, a real graph, run by ONNX Runtime.

Premise and hypothesis are sums of word vectors, made unit length; the words of a topic (see `tiny_bundle`) share an
axis. Their product is high when they share topics: then the logit of "entailed" is, too. "boom" makes ONNX Runtime
itself fail wherever it is read, and "clash" where it is read twice: in a text and in a label, say.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import BOOM, PAD_ID, SPECIAL, TOPICS
from tiny_bundle import WORDS as TOPIC_WORDS
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from stream_classifier.model.bundle import Entailment, Manifest, read_manifest, sha256_of, write_manifest
from stream_classifier.model.pair_layout import Truncation

CLASH = "clash"
WORDS = (*TOPIC_WORDS, CLASH)
MAX_LENGTH = 48
CLASSES = ("entailment", "neutral", "contradiction")
SLOPES = {"entailment": 8.0, "neutral": 0.0, "contradiction": -8.0}
INTERCEPTS = {"entailment": -2.0, "neutral": 0.5, "contradiction": 2.0}
DIMENSIONS = 8
IDS, MASK, TYPES, LOGITS = "input_ids", "attention_mask", "token_type_ids", "logits"
TEMPLATE = "this is about {} ."

Nodes = list[onnx.NodeProto]
Constants = dict[str, np.ndarray]
Pairs = Literal["bert", "roberta"]
"""How pairs are joined, and whether the graph takes token types: it does with bert."""

_LAYOUTS: dict[Pairs, str] = {"bert": "<s> $A </s> $B:1 </s>:1", "roberta": "<s> $A </s> </s> $B </s>"}


def build(
    directory: Path,
    *,
    name: str = "tiny-entailment",
    pairs: Pairs = "bert",
    classes: tuple[str, ...] = CLASSES,
    template: str = TEMPLATE,
    truncation: Truncation = "only_first",
    temperature: float = 1.0,
    max_tokens: int | None = None,
    broken: bool = False,
) -> Path:
    """A bundle. The same arguments give the same bytes.

    Args:
        directory: Where to.
        name: Of the model.
        pairs: How pairs are joined.
        classes: What each logit stands for.
        template: Of the manifest.
        truncation: Of the manifest.
        temperature: Of the manifest.
        max_tokens: Every batch of more padded tokens than this is too large for the memory.
        broken: It loads, and then fails on every pair, as on a broken device.
    """
    nodes, constants = _graph(pairs, classes)
    if broken:  # the shift is no constant for ONNX Runtime to fold away
        nodes[0].input[1] = "far"
        nodes.insert(0, helper.make_node("Add", [IDS, "beyond"], ["far"]))
        constants["beyond"] = np.array(10**6)
    if max_tokens is not None:  # see tiny_bundle.build_hungry
        nodes[-1].output[0] = "unclaimed"
        nodes += [
            helper.make_node("Size", [IDS], ["tokens"]),
            helper.make_node("Greater", ["tokens", "limit"], ["too_many"]),
            helper.make_node("Where", ["too_many", "huge", "none"], ["claim"]),
            helper.make_node("ConstantOfShape", ["claim"], ["claimed"]),
            helper.make_node("ReduceMax", ["claimed"], ["zero"], keepdims=0),
            helper.make_node("Add", ["unclaimed", "zero"], [LOGITS]),
        ]
        constants |= {"limit": np.array(max_tokens), "huge": np.array([2**50]), "none": np.array([1])}
    directory.mkdir(parents=True, exist_ok=True)
    _save(directory, nodes, constants, pairs, len(classes))
    tokenizer(pairs).save(str(directory / "tokenizer.json"))
    files = ("model.onnx", "model.onnx.data", "tokenizer.json")
    contradiction = "contradiction" if "contradiction" in classes else "neutral"
    manifest = Manifest(
        name=name,
        task="entailment",
        precision="fp32",
        activations="none",
        dimensions=len(classes),
        prefix="",
        temperature=temperature,
        max_length=MAX_LENGTH,
        entailment=Entailment(
            entailment_id=classes.index("entailment"),
            contradiction_id=classes.index(contradiction),
            template=template,
            truncation=truncation,
        ),
        licence="Apache-2.0",
        source="made by the tests",
        builder="tests/tiny_entailment.py",
        files={file: sha256_of(directory / file) for file in files},
    )
    write_manifest(directory, manifest)
    return directory


def sign(directory: Path, **fields: object) -> Path:
    """Gives a bundle whose files were changed a manifest that they agree with, and other fields."""
    manifest = read_manifest(directory)
    files = {name: sha256_of(directory / name) for name in manifest.files}
    write_manifest(directory, manifest.model_copy(update={"files": files} | fields))
    return directory


def tokenizer(pairs: Pairs = "bert") -> Tokenizer:
    """Words of the topics, in English and Chinese."""
    vocabulary = {word: number for number, word in enumerate((*WORDS, BOOM))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a token, not a password
    chinese = "|".join(word for word in WORDS if not word.isascii())
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(chinese), "isolated"), pre_tokenizers.Whitespace()]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair=_LAYOUTS[pairs],
        special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")],
    )
    made.enable_padding(pad_id=PAD_ID, pad_token="<pad>")  # noqa: S106 - a token, not a password
    return made


def _graph(pairs: Pairs, classes: tuple[str, ...]) -> tuple[Nodes, Constants]:
    vectors = np.random.default_rng(0).normal(0, 0.05, (len(WORDS), DIMENSIONS)).astype(np.float32)
    vectors[: len(SPECIAL)] = 0
    for axis, topic in enumerate(TOPICS):
        for word in topic:
            vectors[WORDS.index(word), axis] += 1
    node = helper.make_node
    if pairs == "bert":
        is_of_hypothesis = [node("Cast", [TYPES], ["of_hypothesis"], to=TensorProto.FLOAT)]
    else:  # what comes after the first separator
        is_of_hypothesis = [
            node("Equal", [IDS, "separator"], ["is_separator"]),
            node("Cast", ["is_separator"], ["separators"], to=TensorProto.FLOAT),
            node("CumSum", ["separators", "second_axis"], ["passed"]),
            node("Clip", ["passed", "zero_separators", "one_separator"], ["of_hypothesis"]),
        ]
    nodes = [
        node("Gather", ["words", IDS], ["vectors"]),
        node("Cast", [MASK], ["mask"], to=TensorProto.FLOAT),
        *is_of_hypothesis,
        node("Mul", ["mask", "of_hypothesis"], ["hypothesis_mask"]),
        node("Sub", ["mask", "hypothesis_mask"], ["premise_mask"]),
    ]
    for part in ("premise", "hypothesis"):
        nodes += [
            node("Unsqueeze", [f"{part}_mask", "last"], [f"{part}_column"]),
            node("Mul", ["vectors", f"{part}_column"], [f"{part}_vectors"]),
            node("ReduceSum", [f"{part}_vectors", "middle"], [f"{part}_sum"], keepdims=0),
            node("ReduceL2", [f"{part}_sum", "last"], [f"{part}_length"], keepdims=1),
            node("Add", [f"{part}_length", "little"], [f"{part}_divisor"]),
            node("Div", [f"{part}_sum", f"{part}_divisor"], [part]),
        ]
    nodes += [
        node("Mul", ["premise", "hypothesis"], ["products"]),
        node("ReduceSum", ["products", "last"], ["agreement"], keepdims=1),
        node("Equal", [IDS, "clash"], ["is_clash"]),
        node("Cast", ["is_clash"], ["clashes"], to=TensorProto.INT64),
        node("ReduceSum", ["clashes", "middle"], ["clashes_of_pair"], keepdims=1),
        node("Gather", ["one_is_fine", "clashes_of_pair"], ["nothing"]),
        node("Mul", ["agreement", "slopes"], ["steep"]),
        node("Add", ["steep", "intercepts"], ["shifted"]),
        node("Add", ["shifted", "nothing"], [LOGITS]),
    ]
    constants = {
        "words": vectors,
        "last": np.array([-1]),
        "middle": np.array([1]),
        "little": np.array(1e-6, np.float32),
        "clash": np.array(WORDS.index(CLASH)),
        "one_is_fine": np.zeros(2, np.float32),
        "slopes": np.array([[SLOPES[each] for each in classes]], np.float32),
        "intercepts": np.array([[INTERCEPTS[each] for each in classes]], np.float32),
    }
    if pairs == "roberta":
        constants |= {
            "separator": np.array(SPECIAL.index("</s>")),
            "second_axis": np.array(1),
            "zero_separators": np.array(0, np.float32),
            "one_separator": np.array(1, np.float32),
        }
    return nodes, constants


def _save(directory: Path, nodes: Nodes, constants: Constants, pairs: Pairs, classes: int) -> None:
    inputs = (IDS, MASK, TYPES) if pairs == "bert" else (IDS, MASK)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(put, TensorProto.INT64, ["pairs", "tokens"]) for put in inputs],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["pairs", classes])],
        [numpy_helper.from_array(value, put) for put, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    (directory / "model.onnx.data").unlink(missing_ok=True)  # onnx would append to it
    onnx.save_model(
        model, directory / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=64
    )
