"""Matrix products with integers, in which no text depends on its neighbours.

The usual dynamic quantisation measures one range over all activations of a batch. Here either every token's activations
are scaled by that token's own maximum, or all by a range that was measured once, on texts, when the bundle was made.
Weights have 7 bits, a scale for each output channel: two products of 8 bits and 7 still fit into 16, where processors
without 8-bit dot products add them with saturation. It is the recipe of the built-in model (model/default/graph.py).

Some channels of the activations are many times as large as the others and would leave few steps to these. They are
divided first, and the weights that they meet multiplied, which changes nothing but the rounding; it took a third off
the distance of all-MiniLM-L6-v2's embeddings to the exact ones.

Only products with constant matrices over every token are quantised. A head of classification works once a text, so it
stays exact, and so do the layer normalisations. The table of words, which is only looked up, is kept in float16.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stream_classifier_export.request import Activations
from stream_classifier_export.rewriting import tidy

MICROSOFT: Final = "com.microsoft"

_ACTIVATION_STEPS: Final = 127  # on each side of zero
_WEIGHT_STEPS: Final = 63
_LEAST: Final = 1e-20
"""A token of nothing but zeros, such as padding that DeBERTa blanks, is not divided by zero."""

_USUAL_SHARE: Final = 0.98
"""Channels whose maximum is above that of so many others are divided down to it: a few are ten times as large as all
others, and would take the steps away from these."""


class Range(NamedTuple):
    """What the activations of one product were measured to be.

    Attributes:
        least: The least value of each channel, float32 [channels].
        most: The greatest.
    """

    least: NDArray[np.float32]
    most: NDArray[np.float32]


def products(model: ir.Model) -> list[ir.Node]:
    """The matrix products that are quantised: of tokens with a constant matrix."""
    return [node for node in model.graph if node.op_type == "MatMul" and _weights(node) is not None]


def quantise(model: ir.Model, ranges: Mapping[str, Range], activations: Activations) -> ir.Model:
    """Replaces the products by integer ones.

    Args:
        model: Is changed.
        ranges: Of each product's activations, by their name. Where each token is scaled by itself they say only which
            channels are large, and a few texts are enough; static scales are made of them.
        activations: How they become integers.
    """
    constants = _Constants(model.graph)
    made: dict[str, _Quantised] = {}
    for node in products(model):
        x, weights = node.inputs[0], _weights(node)
        assert x is not None  # noqa: S101 - products() has only such
        assert x.name is not None  # noqa: S101 - an IR that was exported names all its values
        assert weights is not None  # noqa: S101 - likewise, products() has only such
        if x.name not in made:
            quantised = _quantised(constants, x, ranges[x.name], activations)
            _insert(model.graph, node, quantised.nodes)
            made[x.name] = quantised
        _replace(model.graph, constants, node, made[x.name], weights)
    _halve_table(model.graph, constants)
    model.graph.opset_imports[MICROSOFT] = 1
    return tidy(model)


class _Quantised(NamedTuple):
    """Activations as integers, and what undoes it."""

    nodes: list[ir.Node]
    integers: ir.Value
    step: ir.Value
    zero: ir.Value
    by_token: ir.Value | None
    by_channel: NDArray[np.float32] | None


class _Constants:
    """Constants that are added to a graph, each once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def __call__(self, name: str, value: NDArray[np.generic] | np.generic) -> ir.Value:
        if name in self._graph.initializers:
            return self._graph.initializers[name]
        array = np.ascontiguousarray(value).reshape(value.shape)
        constant = ir.val(name, const_value=ir.tensor(array, name=name))
        self._graph.register_initializer(constant)
        return constant


def _quantised(constants: _Constants, x: ir.Value, measured: Range, activations: Activations) -> _Quantised:
    largest = np.maximum(np.abs(measured.least), np.abs(measured.most))
    usual = max(float(np.quantile(largest, _USUAL_SHARE)), _LEAST)
    divisors = np.maximum(largest / usual, 1).astype(np.float32)
    if (divisors == 1).all():
        return _by_token(constants, x) if activations == "per_token" else _by_range(constants, x, measured)
    divide = ir.node("Mul", [x, constants(f"{x.name}.divisors", 1 / divisors)])
    divided = divide.outputs[0]
    divided.name = f"{x.name}.divided"
    if activations == "per_token":
        quantised = _by_token(constants, divided)
    else:
        quantised = _by_range(constants, divided, Range(measured.least / divisors, measured.most / divisors))
    return quantised._replace(nodes=[divide, *quantised.nodes], by_channel=divisors)


def _by_token(constants: _Constants, x: ir.Value) -> _Quantised:
    """Each token divided by its own maximum, which is multiplied back later."""
    step = constants("quantised.step", np.float32(1 / _ACTIVATION_STEPS))
    zero = constants("quantised.zero", np.uint8(128))
    size = ir.node("Abs", [x])
    largest = ir.node("ReduceMax", [size.outputs[0], constants("quantised.last", np.array([-1]))], {"keepdims": 1})
    most = ir.node("Max", [largest.outputs[0], constants("quantised.least", np.float32(_LEAST))])
    unit = ir.node("Div", [x, most.outputs[0]])
    integers = ir.node("QuantizeLinear", [unit.outputs[0], step, zero], domain=MICROSOFT)
    return _Quantised([size, largest, most, unit, integers], integers.outputs[0], step, zero, most.outputs[0], None)


def _by_range(constants: _Constants, x: ir.Value, measured: Range) -> _Quantised:
    """All tokens by one range."""
    least, most = min(float(measured.least.min()), 0), max(float(measured.most.max()), 0)
    scale = np.float32(max(most - least, _LEAST) / 255)
    step = constants(f"{x.name}.step", scale)
    zero = constants(f"{x.name}.zero", np.uint8(np.clip(np.rint(-least / scale), 0, 255)))
    integers = ir.node("QuantizeLinear", [x, step, zero], domain=MICROSOFT)
    return _Quantised([integers], integers.outputs[0], step, zero, None, None)


def _replace(
    graph: ir.Graph, constants: _Constants, node: ir.Node, x: _Quantised, weights: NDArray[np.float32]
) -> None:
    """Gives x @ weights, of integers. With static activations the bias behind it is added in the same operator."""
    if x.by_channel is not None:
        weights = weights * x.by_channel[:, None]
    scales = np.maximum(np.abs(weights).max(axis=0), np.float32(_LEAST)) / np.float32(_WEIGHT_STEPS)
    name = f"{node.name}.weights"
    inputs: list[ir.Value | None] = [
        x.integers,
        constants(f"{name}.int7", np.rint(weights / scales).astype(np.int8)),
        x.step,
        constants(f"{name}.scales", scales),
        x.zero,
    ]
    output, nodes = node.outputs[0], []
    if x.by_token is None:
        bias, biased = _bias(output)
        product = ir.node("MatMulIntegerToFloat", [*inputs, None, bias] if bias else inputs, domain=MICROSOFT)
        nodes, output = [product], biased if biased is not None else output
    else:
        product = ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
        nodes = [product, ir.node("Mul", [product.outputs[0], x.by_token])]
    result = nodes[-1].outputs[0]
    result.type, result.shape = output.type, output.shape
    _insert(graph, node, nodes)
    ir.convenience.replace_all_uses_with(output, result)


def _bias(product: ir.Value) -> tuple[ir.Value | None, ir.Value | None]:
    """The constant vector that is added to a product by the only node that uses it, and what comes out of that."""
    consumers = list(product.consumers())
    if len(consumers) != 1 or consumers[0].op_type != "Add":
        return None, None
    [other] = [value for value in consumers[0].inputs if value is not product] or [None]
    if other is None or other.const_value is None or other.shape is None or len(other.shape) != 1:
        return None, None
    return other, consumers[0].outputs[0]


def _insert(graph: ir.Graph, before: ir.Node, nodes: Sequence[ir.Node]) -> None:
    for number, node in enumerate(nodes):
        node.name = node.name or f"{before.name}.{node.op_type}.{number}"
    graph.insert_before(before, list(nodes))


def _weights(node: ir.Node) -> NDArray[np.float32] | None:
    """The constant matrix [inputs, outputs] of a product over tokens."""
    x, weights = node.inputs
    if x is None or weights is None or weights.const_value is None or x.shape is None:
        return None
    match list(x.shape), list(weights.const_value.shape):
        case [ir.SymbolicDim(), _, _], [_, _] if weights.const_value.dtype == ir.DataType.FLOAT:
            return weights.const_value.numpy()
    return None


def _halve_table(graph: ir.Graph, constants: _Constants) -> None:
    """The table of words in float16: it is most of a small model, and only looked up."""
    ids = graph.inputs[0]
    for node in list(ids.consumers()):
        table = node.inputs[0]
        if node.op_type != "Gather" or table is None or table.const_value is None:
            continue
        half = constants(f"{table.name}.half", table.const_value.numpy().astype(np.float16))
        found = ir.node("Gather", [half, ids], {"axis": 0})
        whole = ir.node("Cast", [found.outputs[0]], {"to": ir.DataType.FLOAT.value})
        whole.outputs[0].type, whole.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
        _insert(graph, node, [found, whole])
        ir.convenience.replace_all_uses_with(node.outputs[0], whole.outputs[0])
