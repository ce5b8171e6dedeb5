"""Real model bundles, small enough to be made in a test: a real tokenizer, a real graph, run by ONNX Runtime.

An embedding is the mean of word vectors, made unit length. The words of a topic (in English and Chinese) share an axis,
so "where is my parcel" is nearest to the label "delivery". "boom" has an id beyond the table: ONNX Runtime itself fails
on every batch that holds it.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from stream_classifier.model.bundle import Manifest, sha256_of, write_manifest

TOPICS = (
    ("delivery", "parcel", "courier", "shipping", "late", "快递", "包裹", "外卖", "配送"),
    ("refund", "money", "payment", "invoice", "退款", "退货", "钱"),
    ("account", "password", "login", "email", "密码", "登录", "账号"),
)
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
PAD_ID = SPECIAL.index("<pad>")
WORDS = (*SPECIAL, *(word for topic in TOPICS for word in topic))
BOOM = "boom"
MAX_LENGTH = 64

IDS, MASK, EMBEDDING = "input_ids", "attention_mask", "embedding"
Nodes = list[onnx.NodeProto]
Constants = dict[str, np.ndarray]


def build(directory: Path, *, name: str = "tiny", dimensions: int = 8, seed: int = 0) -> Path:
    """A bundle that works. The same arguments give the same bytes."""
    return _write(directory, name, dimensions, *_graph(dimensions, seed))


def build_broken(directory: Path, *, name: str = "tiny-broken", dimensions: int = 8) -> Path:
    """A bundle that loads, and then fails on every text, as on a broken device."""
    nodes, constants = _graph(dimensions, 0)
    # The shift is no constant for ONNX Runtime to fold away: it is computed from the input, whatever that is.
    nodes[0].input[1] = "far"
    nodes.insert(0, helper.make_node("Add", [IDS, "beyond"], ["far"]))
    return _write(directory, name, dimensions, nodes, constants | {"beyond": np.array(10**6)})


def build_hungry(directory: Path, *, max_tokens: int, name: str = "tiny-hungry", dimensions: int = 8) -> Path:
    """A bundle for which every batch of more than `max_tokens` padded tokens is too large for the memory.

    ONNX Runtime is made to ask for 2^50 floats, which no machine has: the refusal is real and costs nothing.
    """
    nodes, constants = _graph(dimensions, 0)
    extra = [
        helper.make_node("Size", [IDS], ["tokens"]),
        helper.make_node("Greater", ["tokens", "limit"], ["too_many"]),
        helper.make_node("Where", ["too_many", "huge", "one"], ["claim"]),
        helper.make_node("ConstantOfShape", ["claim"], ["claimed"]),
        helper.make_node("ReduceMax", ["claimed"], ["zero"], keepdims=0),
        helper.make_node("Add", ["unclaimed", "zero"], [EMBEDDING]),
    ]
    nodes[-1].output[0] = "unclaimed"
    limits = {"limit": np.array(max_tokens), "huge": np.array([2**50]), "one": np.array([1])}
    return _write(directory, name, dimensions, nodes + extra, constants | limits)


def _graph(dimensions: int, seed: int) -> tuple[Nodes, Constants]:
    """Gather, masked sum, unit length. The divisor of the mean cancels in the last step."""
    vectors = np.random.default_rng(seed).normal(0, 0.05, (len(WORDS), dimensions)).astype(np.float32)
    vectors[: len(SPECIAL)] = 0
    vectors[: len(SPECIAL), -1] = 0.1  # never a sum of zero, and no topic
    for axis, topic in enumerate(TOPICS):
        for word in topic:
            vectors[WORDS.index(word), axis] += 1
    nodes = [
        helper.make_node("Gather", ["words", IDS], ["vectors"]),
        helper.make_node("Cast", [MASK], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask_column"]),
        helper.make_node("Mul", ["vectors", "mask_column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum", "last"], ["length"], keepdims=1),
        helper.make_node("Div", ["sum", "length"], [EMBEDDING]),
    ]
    return nodes, {"words": vectors, "last": np.array([-1]), "middle": np.array([1])}


def _tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate((*WORDS, BOOM))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a token, not a password
    chinese = "|".join(word for word in WORDS if not word.isascii())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(chinese), "isolated"), pre_tokenizers.Whitespace()]
    )
    specials = [(token, vocabulary[token]) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=specials)
    tokenizer.enable_padding(pad_id=PAD_ID, pad_token="<pad>")  # noqa: S106 - a token, not a password
    return tokenizer


def _write(directory: Path, name: str, dimensions: int, nodes: Nodes, constants: Constants) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(put, TensorProto.INT64, ["texts", "tokens"]) for put in (IDS, MASK)],
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["texts", dimensions])],
        [numpy_helper.from_array(value, put) for put, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    (directory / "model.onnx.data").unlink(missing_ok=True)  # onnx would append to it
    onnx.save_model(
        model,
        directory / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=64,
    )
    _tokenizer().save(str(directory / "tokenizer.json"))
    files = ("model.onnx", "model.onnx.data", "tokenizer.json")
    manifest = Manifest(
        name=name,
        precision="fp32",
        activations="none",
        dimensions=dimensions,
        prefix="",
        temperature=0.1,
        max_length=MAX_LENGTH,
        licence="Apache-2.0",
        source="made by the tests",
        builder="tests/tiny_bundle.py",
        files={file: sha256_of(directory / file) for file in files},
    )
    write_manifest(directory, manifest)
    return directory
