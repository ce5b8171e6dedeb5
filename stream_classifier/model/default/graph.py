"""The built-in model's graph, written operator by operator.

Token ids and their mask go in, one vector of unit length a text comes out.

**A text's numbers do not depend on its batch.** The usual dynamic quantisation measures one range over all activations
of a batch, so a text's embedding, and now and then its label, changes with its neighbours. Here every token's
activations are scaled by that token's own maximum, and integer products are exact, so no neighbour reaches a text.
Nor does padding: a masked token's weight in attention is too small to change the sum it is added to, and all sums over
tokens are of a kind in which trailing zeros change nothing. tests/test_default_model.py compares bit for bit, and so
shows it for the processor that it runs on.

**Weights have 7 bits.** Each output channel is scaled to -63..63 and the activations to 1..255 (zero at 128).
Processors without dedicated 8-bit dot products add two such products in 16 bits, with saturation: 2 * 255 * 63 still
fits, where the full 8 bits would not. So the integer products are the same everywhere.

**The embedding table keeps its 4 bits**, since it is most of the model and only looked up, and those are the bits that
the weights came with.

Operators were chosen by measurement: the opset-23 Attention, and Add followed by LayerNormalization, are faster on a
CPU than the fused ones of `com.microsoft`. ONNX Runtime has had the former since 1.23.
"""

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stream_classifier.model.bundle import DefaultPrecision
from stream_classifier.model.default.e5_file import BLOCK, E5File

OPSET: Final = 23
IR_VERSION: Final = 11
MICROSOFT: Final = "com.microsoft"
HIDDEN: Final = "hidden"
"""Name of the last layer's output, float32 [texts, tokens, hidden], inside the graph."""

_ACTIVATION_STEPS: Final = 127  # on each side of zero
_WEIGHT_STEPS: Final = 63


class _Graph:
    """Nodes and constants so far; each call names its result, so that failures and profiles can be read."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        """The constant of this name, added if it is the first to ask for it."""
        if name not in self.constants:
            # (ascontiguousarray makes vectors of scalars)
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: float) -> str:
        node = helper.make_node(operator, inputs, [output], output, domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output


def build_graph(file: E5File, precision: DefaultPrecision) -> onnx.ModelProto:
    """Writes the graph with the file's weights.

    Args:
        file: The weights.
        precision: "int7", or "fp32" for the same graph without quantised matrix products.

    Returns:
        A model from `input_ids` and `attention_mask`, int64 [texts, tokens], to `embedding`, float32 [texts, hidden].
    """
    graph = _Graph()
    mask = _attention_mask(graph)
    x = _embeddings(graph, file)
    for layer in range(file.layers):
        x = _layer(graph, file, layer, x, mask, precision, HIDDEN if layer == file.layers - 1 else f"l{layer}.out")
    _pool(graph, x)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["texts", file.hidden])
    whole = helper.make_graph(graph.nodes, "e5-small", inputs, [output], list(graph.constants.values()))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(whole, ir_version=IR_VERSION, producer_name="stream-classifier", opset_imports=opsets)


def _attention_mask(graph: _Graph) -> str:
    """0 where a token may be seen, -1e30 where it is padding: [texts, 1, tokens, tokens], as Attention wants it."""
    graph.node("Shape", ["input_ids"], "texts", start=0, end=1)
    graph.node("Shape", ["input_ids"], "tokens", start=1, end=2)
    graph.node("Cast", ["attention_mask"], "mask.bool", to=TensorProto.BOOL)
    graph.node("Unsqueeze", ["mask.bool", graph.constant("axes12", np.array([1, 2]))], "mask.b11s")
    choices = [graph.constant("mask.seen", np.float32(0)), graph.constant("mask.hidden", np.float32(-1e30))]
    graph.node("Where", ["mask.b11s", *choices], "mask.float")
    graph.node("Concat", ["texts", graph.constant("one", np.array([1])), "tokens", "tokens"], "mask.shape", axis=0)
    return graph.node("Expand", ["mask.float", "mask.shape"], "mask.b1ss")


def _embeddings(graph: _Graph, file: E5File) -> str:
    """Words and positions, normalised. All tokens are of type 0, so its vector is added to the positions."""
    weights, scales = file.blocks("emb.word", len(file.pieces), file.hidden)
    # This operator wants neighbours in one byte, the even one in the low half, and takes 8 for zero by itself.
    packed = weights[:, 0::2] | (weights[:, 1::2] << 4)
    words = [graph.constant("words.q", packed), "input_ids", graph.constant("words.scales", scales)]
    layout = {"bits": 4, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
    graph.node("GatherBlockQuantized", words, "words.half", MICROSOFT, **layout)
    graph.node("Cast", ["words.half"], "words", to=TensorProto.FLOAT)
    positions = file.table("emb.pos", file.longest, file.hidden) + file.vector("emb.type", file.hidden)
    first = graph.constant("first", np.array([0]))
    graph.node("Slice", [graph.constant("positions.all", positions), first, "tokens"], "positions")
    return _add_and_normalise(graph, file, "words", "positions", "emb.ln", "embedded")


def _layer(graph: _Graph, file: E5File, layer: int, x: str, mask: str, precision: DefaultPrecision, out: str) -> str:
    """Attention and feed-forward, each added to its input and normalised."""
    at = f"l{layer}."
    linear = _linear_fp32 if precision == "fp32" else _linear_int7
    attended = graph.node(
        "Attention",
        [*linear(graph, file, x, [at + "q", at + "k", at + "v"], file.hidden, file.hidden), mask],
        at + "attention",
        q_num_heads=file.heads,
        kv_num_heads=file.heads,
    )
    [projected] = linear(graph, file, attended, [at + "ao"], file.hidden, file.hidden)
    middle = _add_and_normalise(graph, file, projected, x, at + "aln", at + "middle")
    [widened] = linear(graph, file, middle, [at + "fi"], file.inner, file.hidden)
    bent = graph.node("Gelu", [widened], at + "gelu", MICROSOFT)  # the exact one, by erf
    [narrowed] = linear(graph, file, bent, [at + "fo"], file.hidden, file.inner)
    return _add_and_normalise(graph, file, narrowed, middle, at + "oln", out)


def _linear_fp32(graph: _Graph, file: E5File, x: str, names: list[str], rows: int, columns: int) -> list[str]:
    """Gives x @ w.T + b for each of the named weights [rows, columns]."""
    outputs = []
    for name in names:
        weights = graph.constant(name + ".w", file.matrix(name + ".w", rows, columns).T)
        graph.node("MatMul", [x, weights], name + ".product")
        bias = graph.constant(name + ".b", file.vector(name + ".b", rows))
        outputs.append(graph.node("Add", [name + ".product", bias], name))
    return outputs


def _linear_int7(graph: _Graph, file: E5File, x: str, names: list[str], rows: int, columns: int) -> list[str]:
    """The same with integers. x is quantised once, each token divided by its own maximum, which is multiplied back."""
    step = graph.constant("step", np.float32(1 / _ACTIVATION_STEPS))
    zero = graph.constant("zero_point", np.uint8(128))
    graph.node("Abs", [x], x + ".abs")
    graph.node("ReduceMax", [x + ".abs", graph.constant("last", np.array([-1]))], x + ".max", keepdims=1)
    graph.node("Div", [x, x + ".max"], x + ".unit")
    # From com.microsoft: ONNX Runtime 1.23 has no QuantizeLinear of opset 23.
    graph.node("QuantizeLinear", [x + ".unit", step, zero], x + ".q", MICROSOFT)
    outputs = []
    for name in names:
        weights = file.matrix(name + ".w", rows, columns)
        scales = np.abs(weights).max(axis=1) / np.float32(_WEIGHT_STEPS)
        integers = np.rint(weights / scales[:, None]).astype(np.int8).T
        constants = [graph.constant(name + ".w", integers), step, graph.constant(name + ".scales", scales), zero]
        graph.node("MatMulIntegerToFloat", [x + ".q", *constants], name + ".unit", MICROSOFT)
        graph.node("Mul", [name + ".unit", x + ".max"], name + ".product")
        bias = graph.constant(name + ".b", file.vector(name + ".b", rows))
        outputs.append(graph.node("Add", [name + ".product", bias], name))
    return outputs


def _add_and_normalise(graph: _Graph, file: E5File, x: str, y: str, name: str, out: str) -> str:
    graph.node("Add", [x, y], out + ".sum")
    gain = graph.constant(name + ".w", file.vector(name + ".w", file.hidden))
    shift = graph.constant(name + ".b", file.vector(name + ".b", file.hidden))
    return graph.node("LayerNormalization", [out + ".sum", gain, shift], out, axis=-1, epsilon=file.epsilon)


def _pool(graph: _Graph, x: str) -> None:
    """Mean over the real tokens, made unit length; the mean's divisor cancels, so a sum does.

    The sum is a product with the mask, as a matrix of two equal rows: for a single row ONNX Runtime has a kernel of its
    own, which adds up in an order that depends on the padding.
    """
    one, last = graph.constant("one", np.array([1])), graph.constant("last", np.array([-1]))
    graph.node("Cast", ["attention_mask"], "weights.flat", to=TensorProto.FLOAT)
    graph.node("Unsqueeze", ["weights.flat", one], "weights")
    graph.node("Concat", ["weights", "weights"], "weights.twice", axis=1)
    graph.node("MatMul", ["weights.twice", x], "sum.twice")
    graph.node("Gather", ["sum.twice", graph.constant("row", np.array(0))], "sum", axis=1)
    graph.node("ReduceL2", ["sum", last], "length", keepdims=1)  # ONNX Runtime 1.23 lacks LpNormalization-22
    graph.node("Div", ["sum", "length"], "embedding")
