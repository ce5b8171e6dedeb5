"""A graph made faster without changing what it computes: it is optimised here, once, and run as it is."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript import optimizer

from stream_classifier_export.graph import quietly

_ANY_SIZE: Final = 2**62
"""Constants are folded however large they are: DeBERTa's projections of relative positions, say, which would otherwise
be computed anew for each batch."""


def optimise(model: ir.Model) -> ir.Model:
    """Folds constants, removes what is computed twice or for nothing, and joins heads with their attention."""
    with quietly():
        optimizer.optimize_ir(model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
        if _fold_normalisations(model.graph):
            optimizer.optimize_ir(model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
    for attention in fused_attention(model):
        _join_heads(model.graph, attention)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.DeduplicateInitializersPass()(model)
    passes.ClearMetadataAndDocStringPass()(model)
    return tidy(model)


def tidy(model: ir.Model) -> ir.Model:
    """Removes what nothing uses any more, and names what has no name."""
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
    return model


def fused_attention(model: ir.Model) -> list[ir.Node]:
    """The nodes that are a layer's whole attention."""
    return [node for node in model.graph if node.op_type == "Attention"]


def _fold_normalisations(graph: ir.Graph) -> bool:
    """Computes layer normalisations of constants, which onnxscript leaves: DeBERTa's relative positions.

    Returns:
        Whether there were any.
    """
    folded = False
    for node in graph:
        given = [value.const_value for value in node.inputs if value is not None]
        if node.op_type != "LayerNormalization" or any(value is None for value in given):
            continue
        x, gain, *shift = (np.asarray(value.numpy(), np.float64) for value in given if value is not None)
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        deviation = x - x.mean(axis=-1, keepdims=True)
        scaled = deviation / np.sqrt(np.square(deviation).mean(axis=-1, keepdims=True) + epsilon) * gain
        # That inputs are there, and typed, was looked at above, which mypy does not see.
        value = np.asarray(scaled + shift[0] if shift else scaled, node.inputs[0].dtype.numpy())  # type: ignore[union-attr]
        constant = ir.val(f"{node.outputs[0].name}_folded", const_value=ir.tensor(value))
        graph.register_initializer(constant)
        ir.convenience.replace_all_uses_with(node.outputs[0], constant)
        folded = True
    return folded


def _join_heads(graph: ir.Graph, attention: ir.Node) -> None:
    """Lets Attention split vectors into heads, and join them, where the graph did it around it.

    Reshape and Transpose before each input, and Transpose and Reshape behind the output, copy all they are given;
    Attention takes [texts, tokens, heads * width] as it is when it is told the number of heads.
    """
    sources = [_before_heads(value) for value in attention.inputs[:3]]
    joined = _after_heads(attention.outputs[0])
    if joined is None or any(source is None for source in sources):
        return
    match [value.shape[1] for value in attention.inputs[:2] if value is not None and value.shape is not None]:
        case [int(asking), int(asked)]:
            heads = {"q_num_heads": asking, "kv_num_heads": asked}
        case _:
            return
    settings = {name: attribute for name, attribute in attention.attributes.items() if name in {"scale", "softcap"}}
    node = ir.node(
        "Attention",
        [*sources, *attention.inputs[3:]],
        heads,
        outputs=[ir.Value(name=f"{joined.name}_joined", type=joined.type, shape=joined.shape)],
        name=attention.name,
    )
    for attribute in settings.values():
        node.attributes.add(attribute)
    graph.insert_before(attention, node)
    ir.convenience.replace_all_uses_with(joined, node.outputs[0])


def _before_heads(value: ir.Value | None) -> ir.Value | None:
    """What is split into heads: x of Transpose(Reshape(x))."""
    transpose = _made_by(value, "Transpose", [0, 2, 1, 3])
    reshape = _made_by(transpose.inputs[0], "Reshape") if transpose is not None else None
    source = reshape.inputs[0] if reshape is not None else None
    return source if _has_tokens(source) else None


def _after_heads(value: ir.Value) -> ir.Value | None:
    """What heads are joined to: the output of Reshape(Transpose(value)), if nothing else uses value."""
    transpose = _only(value.consumers(), "Transpose", [0, 2, 1, 3])
    reshape = _only(transpose.outputs[0].consumers(), "Reshape") if transpose is not None else None
    joined = reshape.outputs[0] if reshape is not None else None
    return joined if _has_tokens(joined) else None


def _has_tokens(value: ir.Value | None) -> bool:
    """Whether it is [texts, tokens, channels]."""
    return value is not None and value.shape is not None and len(value.shape) == len(("texts", "tokens", "channels"))


def _made_by(value: ir.Value | None, operator: str, perm: list[int] | None = None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return _only([node], operator, perm) if node is not None else None


def _only(nodes: Iterable[ir.Node], operator: str, perm: list[int] | None = None) -> ir.Node | None:
    found = list(nodes)
    if len(found) != 1 or found[0].op_type != operator:
        return None
    if perm is not None and list(found[0].attributes["perm"].as_ints()) != perm:
        return None
    return found[0]
